//! Channels with a bound, and those without any room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::mpsc::{
    RecvError, RecvTimeoutError, SendError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use super::thread;
use super::unbounded::Counted;
use crate::common::deadline;

const SHORT: Duration = Duration::from_millis(10);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn send_waits_when_and_only_when_there_is_no_room() {
    deadline(20, || {
        let (sender, receiver) = sync_channel(3);
        (0..3).for_each(|n| sender.send(n).unwrap());
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        let sent = Arc::new(AtomicBool::new(false));
        let sending = thread::spawn({
            let sent = sent.clone();
            move || {
                sender.send(3).unwrap();
                sent.store(true, Ordering::SeqCst);
                sender
            }
        });
        thread::sleep(SHORT);
        assert!(!sent.load(Ordering::SeqCst));
        assert_eq!(receiver.recv(), Ok(0));
        let sender = sending.join().unwrap();
        assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)));
        drop(sender);
        assert!(receiver.iter().eq(1..4));
    });
}

#[test]
fn without_room_the_two_sides_meet() {
    deadline(20, || {
        let (sender, receiver) = sync_channel(0);
        assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        let received = Arc::new(AtomicUsize::new(0));
        let sending = thread::spawn({
            let received = received.clone();
            move || {
                for n in 1..=5 {
                    sender.send(n).unwrap();
                    // Not before the receiver has come for it.
                    assert!(received.load(Ordering::SeqCst) + 1 >= n);
                }
            }
        });
        for n in 1..=5 {
            thread::sleep(Duration::from_millis(2));
            received.store(n, Ordering::SeqCst);
            assert_eq!(receiver.recv(), Ok(n));
        }
        sending.join().unwrap();
        assert_eq!(receiver.recv(), Err(RecvError));
    });
}

#[test]
fn without_room_try_send_serves_who_waits() {
    deadline(20, || {
        let (sender, receiver) = sync_channel(0);
        let receiving = thread::spawn(move || (receiver.recv(), receiver.recv_timeout(LONG)));
        for mut n in [1, 2] {
            while let Err(error) = sender.try_send(n) {
                let TrySendError::Full(back) = error else { panic!("the receiver is there") };
                n = back;
                thread::yield_now();
            }
        }
        assert_eq!(receiving.join().unwrap(), (Ok(1), Ok(2)));
        assert_eq!(sender.try_send(3), Err(TrySendError::Disconnected(3)));
    });
}

#[test]
fn without_room_try_recv_takes_from_who_waits() {
    deadline(20, || {
        let (sender, receiver) = sync_channel(0);
        let sending = thread::spawn(move || sender.send("offered").unwrap());
        let got = loop {
            match receiver.try_recv() {
                Err(TryRecvError::Empty) => thread::yield_now(),
                got => break got,
            }
        };
        assert_eq!(got, Ok("offered"));
        sending.join().unwrap();
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    });
}

#[test]
fn a_receiver_that_goes_gives_senders_their_messages_back() {
    for bound in [0, 1, 4] {
        deadline(20, move || {
            let (sender, receiver) = sync_channel(bound);
            (0..bound).for_each(|n| sender.send(n).unwrap());
            let sending: Vec<_> = (100..105)
                .map(|n| {
                    let sender: SyncSender<usize> = sender.clone();
                    thread::spawn(move || assert_eq!(sender.send(n), Err(SendError(n))))
                })
                .collect();
            thread::sleep(SHORT);
            drop(receiver);
            sending.into_iter().for_each(|sending| sending.join().unwrap());
            assert_eq!(sender.send(1), Err(SendError(1)));
            assert_eq!(sender.try_send(2), Err(TrySendError::Disconnected(2)));
        });
    }
}

#[test]
fn a_receiver_that_goes_drops_what_is_left() {
    deadline(20, || {
        let alive = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = sync_channel(4);
        for _ in 0..4 {
            sender.send(Counted::new(&alive)).unwrap();
        }
        assert!(sender.try_send(Counted::new(&alive)).is_err());
        assert_eq!(alive.load(Ordering::SeqCst), 4);
        drop(receiver);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn the_end_of_the_senders_leaves_what_they_sent() {
    deadline(20, || {
        let (sender, receiver) = sync_channel(5);
        let second = sender.clone();
        (0..4).for_each(|n| sender.send(n).unwrap());
        drop(sender);
        second.send(4).unwrap();
        drop(second);
        assert!(receiver.try_iter().eq(0..5));
        assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Disconnected));
        assert_eq!(receiver.into_iter().next(), None);
    });
}

#[test]
fn the_end_of_the_senders_ends_a_wait() {
    for bound in [0, 1] {
        deadline(20, move || {
            let (sender, receiver) = sync_channel::<u8>(bound);
            let waiting = thread::spawn(move || (receiver.recv(), receiver.recv_timeout(LONG)));
            thread::sleep(SHORT);
            drop(sender);
            let ended = (Err(RecvError), Err(RecvTimeoutError::Disconnected));
            assert_eq!(waiting.join().unwrap(), ended);
        });
    }
}

#[test]
fn a_wait_for_a_message_has_an_end_in_time() {
    for bound in [0, 1] {
        deadline(20, move || {
            let (sender, receiver) = sync_channel::<u8>(bound);
            let began = Instant::now();
            assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
            assert!(began.elapsed() >= SHORT);
            // Nobody waits any more: there is nobody to hand this to.
            assert_eq!(sender.try_send(1).is_ok(), bound > 0);
        });
    }
}

#[test]
fn many_senders_lose_nothing_and_each_keeps_its_order() {
    for bound in [0, 1, 7, 1000] {
        deadline(60, move || {
            const SENDERS: usize = 6;
            const EACH: usize = 200;
            let (sender, receiver) = sync_channel(bound);
            let senders: Vec<_> = (0..SENDERS)
                .map(|who| {
                    let sender = sender.clone();
                    thread::spawn(move || {
                        (0..EACH).for_each(|n| sender.send((who, n)).unwrap());
                    })
                })
                .collect();
            drop(sender);
            let mut next = [0; SENDERS];
            for (who, n) in receiver {
                assert_eq!(n, next[who]);
                next[who] += 1;
            }
            assert_eq!(next, [EACH; SENDERS]);
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        });
    }
}

#[test]
fn threads_of_the_system_may_send() {
    for bound in [0, 3] {
        deadline(60, move || {
            let (sender, receiver) = sync_channel(bound);
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let sender = sender.clone();
                    std::thread::spawn(move || (0..300).for_each(|n| sender.send(n).unwrap()))
                })
                .collect();
            drop(sender);
            assert_eq!(receiver.iter().sum::<u64>(), 3 * 44_850);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}

#[test]
fn one_shots_of_every_order() {
    deadline(60, || {
        for round in 0..300 {
            let (sender, receiver) = sync_channel(round % 2);
            let sending = thread::spawn(move || sender.send(Box::new(round)));
            match round % 5 {
                0 => drop(receiver),
                1 => assert_eq!(receiver.recv(), Ok(Box::new(round))),
                2 => assert_eq!(receiver.recv_timeout(LONG), Ok(Box::new(round))),
                3 => assert_eq!(receiver.into_iter().next(), Some(Box::new(round))),
                _ => {
                    let receiving = thread::spawn(move || receiver.recv());
                    assert_eq!(receiving.join().unwrap(), Ok(Box::new(round)));
                }
            }
            let sent = sending.join().unwrap();
            assert!(sent.is_ok() || round % 5 == 0);
        }
    });
}

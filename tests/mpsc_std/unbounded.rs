//! Channels without a bound, iterators, and what the ends do to each other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::mpsc::{
    Receiver, RecvError, RecvTimeoutError, SendError, Sender, TryRecvError, channel,
};
use super::thread;
use crate::common::deadline;

const SHORT: Duration = Duration::from_millis(10);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A message that counts how many of its kind are alive.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(super) fn new(alive: &Arc<AtomicUsize>) -> Counted {
        alive.fetch_add(1, Ordering::SeqCst);
        Counted(alive.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn what_is_sent_is_received_in_order() {
    deadline(20, || {
        let (sender, receiver) = channel();
        for n in 0..10_000 {
            sender.send(n).unwrap();
        }
        for n in 0..10_000 {
            assert_eq!(receiver.recv(), Ok(n));
        }
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn boxes_and_closures_and_nothing_can_be_messages() {
    deadline(20, || {
        let (sender, receiver) = channel::<Box<dyn FnOnce() -> u8 + Send>>();
        let seven = Box::new(7);
        sender.send(Box::new(move || *seven)).unwrap();
        assert_eq!(receiver.recv().unwrap()(), 7);

        let (sender, receiver) = channel();
        (0..1000).for_each(|_| sender.send(()).unwrap());
        drop(sender);
        assert_eq!(receiver.iter().count(), 1000);

        let (sender, receiver) = channel();
        (0..100u8).for_each(|n| sender.send([n; 5000]).unwrap());
        drop(sender);
        assert!(receiver.iter().zip(0..).all(|(message, n)| message == [n; 5000]));
    });
}

#[test]
fn recv_waits_for_a_message_that_comes_later() {
    deadline(20, || {
        let (sender, receiver) = channel();
        let other = thread::spawn(move || {
            thread::sleep(SHORT);
            sender.send("late").unwrap();
        });
        assert_eq!(receiver.recv(), Ok("late"));
        other.join().unwrap();
    });
}

#[test]
fn messages_go_there_and_back() {
    deadline(60, || {
        let (there, at_the_other) = channel::<u32>();
        let (back, at_the_one) = channel();
        let other = thread::spawn(move || {
            while let Ok(n) = at_the_other.recv() {
                back.send(n + 1).unwrap();
            }
        });
        let mut n = 0;
        while n < 2000 {
            there.send(n).unwrap();
            n = at_the_one.recv().unwrap();
        }
        drop(there);
        other.join().unwrap();
        assert_eq!(at_the_one.recv(), Err(RecvError));
    });
}

#[test]
fn what_was_sent_before_the_last_sender_went_can_still_be_received() {
    deadline(20, || {
        let (sender, receiver) = channel();
        let second = sender.clone();
        sender.send(1).unwrap();
        drop(sender);
        second.send(2).unwrap();
        drop(second);
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.try_recv(), Ok(2));
        assert_eq!(receiver.recv(), Err(RecvError));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(receiver.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    });
}

#[test]
fn one_sender_is_enough_to_keep_the_channel_open() {
    deadline(20, || {
        let (sender, receiver) = channel::<u8>();
        let clones: Vec<Sender<u8>> = (0..10).map(|_| sender.clone()).collect();
        drop(sender);
        let last = clones.into_iter().next_back().unwrap();
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        last.send(1).unwrap();
        assert_eq!(receiver.recv(), Ok(1));
        drop(last);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    });
}

#[test]
fn the_end_of_the_last_sender_ends_a_wait() {
    deadline(20, || {
        let (sender, receiver) = channel::<u8>();
        let waiting = thread::spawn(move || {
            (receiver.recv(), receiver.recv_timeout(LONG), receiver.iter().count())
        });
        thread::sleep(SHORT);
        drop(sender);
        let ended = (Err(RecvError), Err(RecvTimeoutError::Disconnected), 0);
        assert_eq!(waiting.join().unwrap(), ended);
    });
}

#[test]
fn a_sender_that_goes_with_its_thread_counts() {
    deadline(20, || {
        let (sender, receiver) = channel::<u8>();
        let broken = thread::spawn(move || -> () {
            let _sender = sender;
            std::panic::resume_unwind(Box::new("it ends by a panic"))
        });
        assert_eq!(receiver.recv(), Err(RecvError));
        broken.join().unwrap_err();
    });
}

#[test]
fn without_a_receiver_the_message_comes_back() {
    deadline(20, || {
        let (sender, receiver) = channel();
        drop(receiver);
        let SendError(message) = sender.send(String::from("mine")).unwrap_err();
        assert_eq!(message, "mine");
        sender.clone().send(message).unwrap_err();
    });
}

#[test]
fn a_receiver_that_goes_drops_what_is_left() {
    deadline(20, || {
        let alive = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = channel();
        for _ in 0..100 {
            sender.send(Counted::new(&alive)).unwrap();
        }
        for n in 0..10 {
            drop(receiver.recv().unwrap());
            assert_eq!(alive.load(Ordering::SeqCst), 99 - n);
        }
        drop(receiver); // the sender is still there
        assert_eq!(alive.load(Ordering::SeqCst), 0);
        drop(sender.send(Counted::new(&alive)));
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn what_is_left_is_dropped_in_the_order_in_which_it_was_sent() {
    struct Tells(u32, Sender<u32>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.1.send(self.0).unwrap();
        }
    }
    deadline(20, || {
        let (told, order) = channel();
        let (sender, receiver) = channel();
        (0..20).for_each(|n| sender.send(Tells(n, told.clone())).unwrap());
        drop(receiver.recv());
        (20..40).for_each(|n| sender.send(Tells(n, told.clone())).unwrap());
        drop(receiver);
        assert!(order.try_iter().eq(0..40));
    });
}

#[test]
fn a_message_may_hold_the_ends_of_its_own_channel() {
    enum Message {
        Sender(Sender<Message>),
        Text(&'static str),
    }
    deadline(20, || {
        // Dropping what is left drops the last sender, and a destructor sends into what is closed.
        let (sender, receiver) = channel();
        sender.send(Message::Sender(sender.clone())).unwrap();
        let Ok(Message::Sender(again)) = receiver.recv() else { panic!("it was sent") };
        again.send(Message::Text("by itself")).unwrap();
        assert!(matches!(receiver.recv(), Ok(Message::Text("by itself"))));
        again.send(Message::Sender(sender)).unwrap();
        drop(receiver);
        again.send(Message::Text("too late")).unwrap_err();
    });
}

#[test]
fn a_destructor_may_use_the_channel_that_drops_it() {
    struct Sends(Option<Sender<Sends>>, Arc<AtomicUsize>);
    impl Drop for Sends {
        fn drop(&mut self) {
            if let Some(sender) = self.0.take() {
                let refused = sender.send(Sends(None, self.1.clone())).is_err();
                self.1.fetch_add(usize::from(refused), Ordering::SeqCst);
            }
        }
    }
    deadline(20, || {
        let refused = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = channel();
        for _ in 0..5 {
            sender.send(Sends(Some(sender.clone()), refused.clone())).unwrap();
        }
        drop(receiver);
        assert_eq!(refused.load(Ordering::SeqCst), 5);
    });
}

#[test]
fn channels_go_through_channels() {
    deadline(20, || {
        let (requests, served) = channel::<(u32, Sender<u32>)>();
        let server = thread::spawn(move || {
            for (n, reply) in served {
                reply.send(n * n).unwrap();
            }
        });
        let clients: Vec<_> = (0..20)
            .map(|n| {
                let requests = requests.clone();
                thread::spawn(move || {
                    let (reply, answer) = channel();
                    requests.send((n, reply)).unwrap();
                    assert_eq!(answer.recv(), Ok(n * n));
                    assert_eq!(answer.recv(), Err(RecvError));
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        drop(requests);
        server.join().unwrap();

        let (sender, receiver) = channel::<Receiver<&str>>();
        let (inner, inner_receiver) = channel();
        inner.send("in a receiver in a message").unwrap();
        sender.send(inner_receiver).unwrap();
        assert_eq!(receiver.recv().unwrap().recv(), Ok("in a receiver in a message"));
    });
}

#[test]
fn one_shots_of_every_order() {
    deadline(60, || {
        for round in 0..300 {
            let (sender, receiver) = channel();
            let sending = thread::spawn(move || {
                if round % 3 == 0 {
                    thread::yield_now();
                }
                sender.send(Box::new(round))
            });
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
            // With the receiver gone it may be an error, and else it is not.
            let sent = sending.join().unwrap();
            assert!(sent.is_ok() || round % 5 == 0);
        }
    });
}

#[test]
fn many_senders_lose_nothing_and_each_keeps_its_order() {
    deadline(60, || {
        const SENDERS: usize = 8;
        const EACH: usize = 500;
        let (sender, receiver) = channel();
        let senders: Vec<_> = (0..SENDERS)
            .map(|who| {
                let sender = sender.clone();
                thread::spawn(move || {
                    for n in 0..EACH {
                        sender.send((who, n)).unwrap();
                        if n % 50 == who {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        drop(sender);
        let mut next = [0; SENDERS];
        for (who, n) in &receiver {
            assert_eq!(n, next[who]);
            next[who] += 1;
        }
        assert_eq!(next, [EACH; SENDERS]);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn a_sender_may_be_shared_by_reference() {
    deadline(20, || {
        let (sender, receiver) = channel();
        let sender = Arc::new(sender);
        let handles: Vec<_> = (0..10)
            .map(|n| {
                let sender = sender.clone();
                thread::spawn(move || sender.send(n).unwrap())
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        drop(sender);
        assert_eq!(receiver.iter().collect::<BTreeSet<_>>(), (0..10).collect());
    });
}

#[test]
fn threads_of_the_system_may_send() {
    deadline(20, || {
        let (sender, receiver) = channel();
        let threads: Vec<_> = (0..4u64)
            .map(|who| {
                let sender = sender.clone();
                std::thread::spawn(move || (0..1000).for_each(|n| sender.send(who * n).unwrap()))
            })
            .collect();
        drop(sender);
        assert_eq!(receiver.iter().sum::<u64>(), (0..4).map(|who| who * 499_500).sum());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_receiver_may_move_between_two_messages() {
    deadline(20, || {
        let (sender, mut receiver) = channel();
        for n in 0..20 {
            sender.send(n).unwrap();
            sender.send(n + 100).unwrap();
            receiver = std::thread::spawn(move || {
                assert_eq!(receiver.recv(), Ok(n));
                receiver
            })
            .join()
            .unwrap();
            assert_eq!(receiver.recv(), Ok(n + 100));
        }
    });
}

#[test]
fn iter_ends_with_the_senders_and_try_iter_with_the_messages() {
    deadline(20, || {
        let (sender, receiver) = channel();
        (0..3).for_each(|n| sender.send(n).unwrap());
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(receiver.try_iter().next(), None);
        let other = thread::spawn(move || {
            for n in 3..6 {
                thread::sleep(Duration::from_millis(1));
                sender.send(n).unwrap();
            }
        });
        let mut seen = Vec::new();
        for n in &receiver {
            seen.push(n);
        }
        assert_eq!(seen, [3, 4, 5]);
        assert_eq!((receiver.iter().next(), receiver.try_iter().next()), (None, None));
        other.join().unwrap();
    });
}

#[test]
fn an_iterator_may_be_left_and_resumed_and_nested() {
    deadline(20, || {
        let (sender, receiver) = channel();
        (0..10).for_each(|n| sender.send(n).unwrap());
        drop(sender);
        assert_eq!(receiver.iter().take(3).collect::<Vec<_>>(), [0, 1, 2]);
        let mut pairs = Vec::new();
        for n in receiver.iter() {
            if let Some(m) = receiver.iter().next() {
                pairs.push((n, m));
            } else {
                pairs.push((n, 0));
            }
        }
        assert_eq!(pairs, [(3, 4), (5, 6), (7, 8), (9, 0)]);

        let (sender, receiver) = channel();
        let mut iter = receiver.into_iter();
        sender.send(1).unwrap();
        assert_eq!(iter.next(), Some(1));
        drop(sender);
        assert_eq!((iter.next(), iter.next()), (None, None));
    });
}

#[test]
fn dropping_an_owning_iterator_drops_the_receiver() {
    deadline(20, || {
        let (sender, receiver) = channel();
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        let mut iter = receiver.into_iter();
        assert_eq!(iter.next(), Some(1));
        drop(iter);
        assert_eq!(sender.send(3), Err(SendError(3)));
    });
}

#[test]
fn a_timeout_is_waited_for_and_not_much_longer() {
    deadline(20, || {
        let (sender, receiver) = channel::<u8>();
        let began = Instant::now();
        assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert!(began.elapsed() >= SHORT);
        for _ in 0..3 {
            assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        }
        assert!(began.elapsed() < LONG);
        // What is there counts, even if there is no time.
        sender.send(1).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(1));
        sender.send(2).unwrap();
        assert_eq!(receiver.recv_timeout(LONG), Ok(2));
    });
}

#[test]
fn a_message_ends_a_long_wait() {
    deadline(20, || {
        let (sender, receiver) = channel();
        let other = thread::spawn(move || {
            for timeout in [LONG, Duration::from_secs(u64::MAX), Duration::MAX] {
                assert_eq!(receiver.recv_timeout(timeout), Ok(timeout));
            }
        });
        for timeout in [LONG, Duration::from_secs(u64::MAX), Duration::MAX] {
            thread::sleep(Duration::from_millis(2));
            sender.send(timeout).unwrap();
        }
        other.join().unwrap();
    });
}

#[test]
fn messages_and_timeouts_may_take_turns() {
    deadline(60, || {
        let (sender, receiver) = channel();
        let other = thread::spawn(move || {
            for n in 0..100 {
                if n % 10 == 0 {
                    thread::sleep(Duration::from_millis(3));
                }
                sender.send(n).unwrap();
            }
        });
        let (mut got, mut timeouts) = (Vec::new(), 0);
        loop {
            match receiver.recv_timeout(Duration::from_millis(1)) {
                Ok(n) => got.push(n),
                Err(RecvTimeoutError::Timeout) => timeouts += 1,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        assert!(got.into_iter().eq(0..100));
        assert!(timeouts > 0);
        other.join().unwrap();
    });
}

#[test]
fn a_clone_that_sends_while_it_is_waited_for_makes_no_difference() {
    deadline(60, || {
        let (sender, receiver) = channel();
        let parents: Vec<_> = (0..5)
            .map(|_| {
                let sender = sender.clone();
                thread::spawn(move || {
                    for _ in 0..20 {
                        let sender = sender.clone();
                        drop(thread::spawn(move || sender.send(1).unwrap()));
                    }
                })
            })
            .collect();
        drop(sender);
        assert_eq!(receiver.iter().sum::<u32>(), 100);
        parents.into_iter().for_each(|parent| parent.join().unwrap());
    });
}

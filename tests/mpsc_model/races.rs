//! A kill or a time limit against the very wake that it competes with, over and over. The message must be in
//! exactly one place afterwards, and nobody may be left waiting.

use std::hint::spin_loop;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use greenling::event::Event;
use greenling::select::Select;
use greenling::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use greenling::{JoinHandle, hub, sleep, spawn, timeout, yield_now};

use super::{from_environment, with_seeds};
use crate::common::deadline;

/// How many races there are at least in each test.
fn races() -> u32 {
    from_environment("MPSC_RACES").unwrap_or(if cfg!(debug_assertions) { 20_000 } else { 200_000 })
}

/// The races need both processors for themselves: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spins for a moment: the two sides are to meet at every possible distance.
fn dawdle(rng: &mut Rng) {
    (0..rng.u32(..200)).for_each(|_| spin_loop());
}

/// A thread that sends the numbers of the rounds, each when it is asked to.
struct OtherThread {
    round: Arc<AtomicU32>,
    thread: Option<std::thread::JoinHandle<()>>,
}

const END: u32 = u32::MAX;

impl OtherThread {
    /// Calls `act` with the number of each round.
    fn new(mut rng: Rng, mut act: impl FnMut(u32) + Send + 'static) -> OtherThread {
        let round = Arc::new(AtomicU32::new(0));
        let thread = std::thread::spawn({
            let round = round.clone();
            move || {
                let mut last = 0;
                loop {
                    match round.load(Ordering::Acquire) {
                        END => return,
                        now if now == last => spin_loop(),
                        now => {
                            last = now;
                            dawdle(&mut rng);
                            act(now);
                        }
                    }
                }
            }
        });
        OtherThread { round, thread: Some(thread) }
    }

    fn begin(&self, round: u32) {
        self.round.store(round, Ordering::Release);
    }
}

impl Drop for OtherThread {
    fn drop(&mut self) {
        self.round.store(END, Ordering::Release);
        if self.thread.take().unwrap().join().is_err() && !std::thread::panicking() {
            panic!("the other thread has panicked");
        }
    }
}

/// Runs races in which the other thread sends the number of the round; `receive` says whether it got it.
fn against_a_sender(
    receive: impl Fn(&Rc<Receiver<u32>>, u32, &mut Rng) -> bool + Send + Copy + 'static,
) {
    let _alone = alone();
    deadline(300, move || {
        with_seeds(1, |mut rng| {
            let (sender, receiver) = channel();
            let receiver = Rc::new(receiver);
            let other = OtherThread::new(rng.fork(), move |round| sender.send(round).unwrap());
            let mut got = [0, 0];
            let mut round = 0;
            while round < races() || got.contains(&0) {
                round += 1;
                other.begin(round);
                let was_received = receive(&receiver, round, &mut rng);
                if !was_received {
                    // It comes yet, or is there: not lost, and not twice.
                    assert_eq!(receiver.recv(), Ok(round));
                }
                assert!(receiver.try_recv().is_err());
                got[usize::from(was_received)] += 1;
            }
        });
    });
}

#[test]
fn a_kill_races_with_the_message_that_is_waited_for() {
    against_a_sender(|receiver, round, rng| {
        let waiting = spawn({
            let receiver = receiver.clone();
            move || receiver.recv()
        });
        yield_now(); // it waits, or has got the message
        dawdle(rng);
        waiting.kill();
        match waiting.join() {
            Ok(got) => {
                assert_eq!(got, Ok(round));
                true
            }
            Err(_) => false,
        }
    });
}

#[test]
fn a_kill_races_with_the_message_of_a_select() {
    against_a_sender(|receiver, round, rng| {
        let waiting = spawn({
            let receiver = receiver.clone();
            move || {
                let event = Event::new();
                let select = Select::new().on(&event, |()| None);
                select.on(&*receiver, |message| message.ok()).wait()
            }
        });
        yield_now();
        dawdle(rng);
        waiting.kill();
        match waiting.join() {
            Ok(got) => {
                assert_eq!(got, Some(round));
                true
            }
            Err(_) => false,
        }
    });
}

#[test]
fn a_timeout_races_with_the_message_that_is_waited_for() {
    against_a_sender(|receiver, round, rng| {
        match receiver.recv_timeout(Duration::from_nanos(rng.u64(..30_000))) {
            Ok(message) => {
                assert_eq!(message, round);
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => panic!("the sender is there"),
        }
    });
}

#[test]
fn a_time_limit_races_with_the_message_that_is_waited_for() {
    against_a_sender(|receiver, round, rng| {
        let limit = Duration::from_nanos(rng.u64(..30_000));
        let inner = rng.bool().then(|| Duration::from_nanos(rng.u64(..30_000)));
        let receive = || match inner {
            Some(inner) => timeout(inner, || receiver.recv()).ok(),
            None => Some(receiver.recv()),
        };
        match timeout(limit, receive) {
            Ok(Some(got)) => {
                assert_eq!(got, Ok(round));
                true
            }
            Ok(None) | Err(_) => false,
        }
    });
}

#[test]
fn a_kill_races_with_the_receiver_that_a_rendezvous_waits_for() {
    let _alone = alone();
    deadline(300, || {
        with_seeds(1, |mut rng| {
            let (sender, receiver) = sync_channel(0);
            let (report, received) = std::sync::mpsc::channel();
            let other = OtherThread::new(rng.fork(), move |_| {
                report.send(receiver.recv_timeout(Duration::from_micros(20))).unwrap();
            });
            let mut got = [0, 0];
            let mut round = 0;
            while round < races() / 4 || got.contains(&0) {
                round += 1;
                let sending = spawn({
                    let sender = sender.clone();
                    move || sender.send(round).unwrap()
                });
                yield_now(); // it waits
                other.begin(round);
                dawdle(&mut rng);
                sending.kill();
                let was_sent = sending.join().is_ok();
                match received.recv().unwrap() {
                    Ok(message) => assert_eq!((message, was_sent), (round, true)),
                    Err(error) => assert_eq!((error, was_sent), (RecvTimeoutError::Timeout, false)),
                }
                got[usize::from(was_sent)] += 1;
            }
        });
    });
}

#[test]
fn a_kill_from_another_thread_races_with_a_message_of_this_one() {
    let _alone = alone();
    deadline(300, || {
        with_seeds(1, |mut rng| {
            let victim: Arc<Mutex<Option<JoinHandle<Option<u32>>>>> = Arc::default();
            let (report, killed) = std::sync::mpsc::channel();
            let other = OtherThread::new(rng.fork(), {
                let victim = victim.clone();
                move |_| {
                    let handle = victim.lock().unwrap().take().expect("it was put there");
                    handle.kill_timeout(Duration::ZERO);
                    report.send(handle).unwrap();
                }
            });
            let (sender, receiver): (Sender<u32>, _) = channel();
            let receiver = Rc::new(receiver);
            let mut got = [0, 0];
            let mut round = 0;
            while round < races() / 4 || got.contains(&0) {
                round += 1;
                let waiting = spawn({
                    let receiver = receiver.clone();
                    move || receiver.recv().ok()
                });
                yield_now(); // it waits
                *victim.lock().unwrap() = Some(waiting);
                other.begin(round);
                dawdle(&mut rng);
                // The kill reaches the coroutine when its hub looks after messages of other threads, which it
                // does for certain when nobody can run.
                sleep(Duration::from_nanos(rng.u64(1..5_000)));
                sender.send(round).unwrap();
                let was_received = match killed.recv().unwrap().join() {
                    Ok(got) => {
                        assert_eq!(got, Some(round));
                        true
                    }
                    Err(_) => {
                        assert_eq!(receiver.try_recv(), Ok(round));
                        false
                    }
                };
                got[usize::from(was_received)] += 1;
            }
        });
    });
}

#[test]
fn a_kill_races_with_the_end_that_a_join_waits_for() {
    let _alone = alone();
    deadline(300, || {
        with_seeds(1, |mut rng| {
            // Here a coroutine waits for the end of one on the other thread, which ends about now.
            let (hubs, hub) = std::sync::mpsc::channel();
            let (stop, stopped) = channel::<()>();
            let thread = std::thread::spawn(move || {
                hubs.send(hub::handle()).unwrap();
                stopped.recv().unwrap_err();
            });
            let there = hub.recv().unwrap();
            let mut got = [0, 0];
            let mut round = 0;
            while round < races() / 50 || got.contains(&0) {
                round += 1;
                let spins = rng.u32(..200);
                let ending = there
                    .spawn(move || {
                        (0..spins).for_each(|_| spin_loop());
                        round
                    })
                    .unwrap();
                let joining = spawn(move || ending.join().unwrap());
                yield_now(); // it waits
                dawdle(&mut rng);
                joining.kill();
                match joining.join() {
                    Ok(value) => {
                        assert_eq!(value, round);
                        got[1] += 1;
                    }
                    Err(_) => got[0] += 1,
                }
            }
            drop(stop);
            thread.join().unwrap();
        });
    });
}

//! A kill or a time limit against the very hand-over that it competes with, many thousands of times. The
//! item must be in exactly one place afterwards.

use std::hint::spin_loop;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use greenling::queue::{PutTimeoutError, Queue};
use greenling::{JoinHandle, sleep, spawn, spawn_later, timeout, yield_now};

use super::with_seeds;
use crate::common::deadline;

/// How many races there are in a round.
const BATCH: usize = 32;

/// Whether to go on, after the races have ended so often one way and so often the other: for 500 rounds, or
/// as many as `QUEUE_ROUNDS` says, and then until both have happened.
fn go_on(races: &[usize; 2]) -> bool {
    let rounds: usize =
        std::env::var("QUEUE_ROUNDS").map_or(500, |rounds| rounds.parse().expect("a number"));
    let run = races.iter().sum::<usize>() / BATCH;
    run < rounds || races.contains(&0)
}

/// The races need both processors for themselves: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spin(rng: &mut Rng, limit: u32) {
    for _ in 0..rng.u32(..=limit) {
        spin_loop();
    }
}

/// How much a thread dawdles in this round.
fn pace(rng: &mut Rng) -> u32 {
    rng.choice([0, 10, 100, 400]).unwrap()
}

/// How a waiting coroutine is disturbed.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Kill,
    Timeout,
    /// A time limit around the wait, instead of the wait's own.
    Limit,
}

/// A second thread that does `work` once a round, at the same time as we do ours.
struct Rival {
    round: Arc<AtomicUsize>,
    /// The round for which the rival stands ready, and the one that it may begin.
    ready: Arc<AtomicUsize>,
    go: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Rival {
    fn new(mut work: impl FnMut() + Send + 'static) -> Rival {
        let [round, ready, go, done] = [(); 4].map(|()| Arc::new(AtomicUsize::new(0)));
        let thread = std::thread::spawn({
            let (round, ready) = (round.clone(), ready.clone());
            let (go, done) = (go.clone(), done.clone());
            move || {
                for next in 1.. {
                    while round.load(Ordering::Acquire) < next {
                        std::thread::yield_now();
                    }
                    if round.load(Ordering::Acquire) == usize::MAX {
                        return;
                    }
                    ready.store(next, Ordering::Release);
                    for spins in 0.. {
                        if go.load(Ordering::Acquire) >= next {
                            break;
                        }
                        // Hot, so that both begin at once; but the other may have lost its processor.
                        if spins < 20_000 { spin_loop() } else { std::thread::yield_now() }
                    }
                    work();
                    done.store(next, Ordering::Release);
                }
            }
        });
        Rival { round, ready, go, done, thread: Some(thread) }
    }

    /// Returns in the moment in which it begins.
    fn start(&self) {
        let round = self.round.fetch_add(1, Ordering::Release) + 1;
        while self.ready.load(Ordering::Acquire) < round {
            std::thread::yield_now();
        }
        self.go.store(round, Ordering::Release);
    }

    fn wait(&self) {
        while self.done.load(Ordering::Acquire) < self.round.load(Ordering::Relaxed) {
            yield_now();
            std::thread::yield_now();
        }
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.round.store(usize::MAX, Ordering::Release);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Kills all of them, in random moments, and returns what they came to.
fn kill_all<T>(handles: Vec<JoinHandle<T>>, by: By, rng: &mut Rng) -> Vec<T> {
    if by == By::Kill {
        let pace = pace(rng);
        for handle in &handles {
            match rng.u8(..4) {
                0 => yield_now(),
                _ => spin(rng, pace),
            }
            handle.kill_timeout(Duration::ZERO);
        }
    }
    handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
}

fn getters_against_a_putting_thread(by: By) {
    let _alone = alone();
    with_seeds(1, |seed, mut rng| {
        let queue = Arc::new(Queue::new());
        let rival = Rival::new({
            let (queue, mut rng) = (queue.clone(), Rng::with_seed(!seed));
            move || {
                let pace = pace(&mut rng);
                for item in 0..BATCH {
                    spin(&mut rng, pace);
                    queue.put(item).unwrap();
                }
            }
        });
        let mut races = [0, 0];
        while go_on(&races) {
            let handles = (0..BATCH).map(|_| {
                let (queue, limit) = (queue.clone(), Duration::from_micros(rng.u64(..60)));
                spawn(move || match by {
                    By::Kill => queue.get().ok(),
                    By::Timeout => queue.get_timeout(limit).ok(),
                    By::Limit => timeout(limit, || queue.get().unwrap()).ok(),
                })
            });
            let handles: Vec<_> = handles.collect();
            yield_now();
            rival.start();
            let got = kill_all(handles, by, &mut rng);
            rival.wait();
            let mut items: Vec<usize> = got.into_iter().flatten().collect();
            races[0] += items.len();
            races[1] += BATCH - items.len();
            items.extend(queue.drain());
            items.sort_unstable();
            assert!(items.into_iter().eq(0..BATCH), "an item is lost or doubled");
        }
    });
}

fn putters_against_a_getting_thread(by: By, capacity: usize) {
    let _alone = alone();
    with_seeds(1, |seed, mut rng| {
        let queue = Arc::new(Queue::bounded(capacity));
        let taken = Arc::new(Queue::new());
        let rival = Rival::new({
            let (queue, taken) = (queue.clone(), taken.clone());
            let mut rng = Rng::with_seed(!seed);
            move || {
                let pace = pace(&mut rng);
                for _ in 0..BATCH {
                    spin(&mut rng, pace);
                    if let Ok(item) = queue.try_get() {
                        taken.put(item).unwrap();
                    }
                }
            }
        });
        let mut races = [0, 0];
        while go_on(&races) {
            let handles = (0..BATCH).map(|number| {
                let (queue, limit) = (queue.clone(), Duration::from_micros(rng.u64(..60)));
                let item = Rc::new(number);
                let own = number;
                // The item is in the queue, or it came back, or it went with the coroutine.
                spawn(move || match by {
                    By::Kill => queue.put(own).is_ok().then_some(*item),
                    By::Timeout => match queue.put_timeout(own, limit) {
                        Ok(()) => Some(*item),
                        Err(PutTimeoutError::Timeout(back)) => {
                            assert_eq!(back, *item);
                            None
                        }
                        Err(PutTimeoutError::Closed(_)) => unreachable!(),
                    },
                    By::Limit => timeout(limit, || queue.put(own).unwrap()).ok().map(|()| *item),
                })
            });
            let handles: Vec<_> = handles.collect();
            yield_now();
            rival.start();
            let mut put: Vec<usize> =
                kill_all(handles, by, &mut rng).into_iter().flatten().collect();
            rival.wait();
            let mut found = taken.drain();
            found.extend(queue.drain());
            races[0] += put.len();
            races[1] += BATCH - put.len();
            put.sort_unstable();
            found.sort_unstable();
            assert_eq!(put, found, "what was put is not what was taken");
        }
    });
}

#[test]
fn a_kill_races_with_the_put_that_a_getter_waits_for() {
    deadline(120, || getters_against_a_putting_thread(By::Kill));
}

#[test]
fn a_timeout_races_with_the_put_that_a_getter_waits_for() {
    deadline(120, || getters_against_a_putting_thread(By::Timeout));
}

#[test]
fn a_time_limit_races_with_the_put_that_a_getter_waits_for() {
    deadline(120, || getters_against_a_putting_thread(By::Limit));
}

#[test]
fn a_kill_races_with_the_get_that_a_putter_waits_for() {
    deadline(120, || putters_against_a_getting_thread(By::Kill, 1));
    deadline(120, || putters_against_a_getting_thread(By::Kill, 0));
}

#[test]
fn a_timeout_races_with_the_get_that_a_putter_waits_for() {
    deadline(120, || putters_against_a_getting_thread(By::Timeout, 1));
    deadline(120, || putters_against_a_getting_thread(By::Timeout, 0));
}

#[test]
fn a_time_limit_races_with_the_get_that_a_putter_waits_for() {
    deadline(120, || putters_against_a_getting_thread(By::Limit, 0));
}

#[test]
fn on_one_hub_the_grant_counts_whichever_way_round() {
    deadline(120, || {
        with_seeds(1, |_, mut rng| {
            let queue = Rc::new(Queue::new());
            for number in 0..100_000 {
                let getter = spawn({
                    let queue = queue.clone();
                    move || queue.get().unwrap()
                });
                if rng.bool() {
                    yield_now(); // it waits; else it never starts
                }
                let starts_first = rng.bool();
                if starts_first {
                    queue.put(number).unwrap();
                    getter.kill_timeout(Duration::ZERO);
                } else {
                    getter.kill_timeout(Duration::ZERO);
                    queue.put(number).unwrap();
                }
                match getter.join() {
                    Ok(item) => assert_eq!(item, number),
                    Err(_) => assert_eq!(queue.try_get(), Ok(number)),
                }
                assert!(queue.is_empty());
            }
        });
    });
}

#[test]
fn a_timer_races_with_a_timer_that_puts() {
    deadline(120, || {
        with_seeds(1, |_, mut rng| {
            let queue = Rc::new(Queue::bounded(0));
            let (mut met, mut missed) = (0, 0);
            for number in 0..3_000 {
                let wait = Duration::from_micros(rng.u64(1..100));
                let putter = spawn_later(wait, {
                    let queue = queue.clone();
                    move || queue.put_timeout(number, Duration::ZERO).is_ok()
                });
                let got = queue.get_timeout(wait);
                let put = putter.join().unwrap();
                assert_eq!(got.is_ok(), put, "one side thinks that they have met");
                if put {
                    assert_eq!(got, Ok(number));
                    met += 1;
                } else {
                    missed += 1;
                }
            }
            // How many of them miss each other is the machine's affair.
            assert_eq!(met + missed, 3_000);
            sleep(Duration::ZERO);
        });
    });
}

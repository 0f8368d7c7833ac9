//! Locks, meeting points and channels that have to be waited for: eight at them, all coroutines of one thread, beside
//! eight threads with std's.
//!
//! Run with: `cargo bench -p greenling-micro-benches --bench waiting`
//!
//! Each program is written once, for both. An operation is one that one of the eight does. Where std has nothing of
//! the kind, the reference is std's nearest, which the name says.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenling_micro_benches::{Comparison, Timed, criterion};

/// How many are at it.
const CREW: u64 = 8;

/// What each of them does in one iteration.
const EACH: u64 = 100;

/// How often, in so many, a holder lets others run.
const WAITS: u64 = 16;

fn main() {
    let mut criterion = criterion();
    let mut compare = |name, (ours, stds): (Timed, Timed)| {
        Comparison::new(name, ("greenling", ours), ("std, 8 threads", stds))
            .operations(CREW * EACH)
            .run(&mut criterion);
    };
    compare("rwlock, 8, one in 8 writes", both(ours::rwlock, stds::rwlock));
    compare("rwlock, 8 readers", both(ours::readers, stds::readers));
    compare("condvar, 8, notify_one in a ring", both(ours::ring, stds::ring));
    compare("condvar, 8, notify_all", both(ours::notify_all, stds::notify_all));
    compare("barrier, 8", both(ours::barrier, stds::barrier));
    compare("once, 8 come first", both(ours::once, stds::once));
    compare("lazylock, 8 come first", both(ours::lazy, stds::lazy));
    compare("channel, 7 senders, 1 receiver", both(ours::channel, stds::channel));
    compare("sync_channel(8), 7 senders, 1 receiver", both(ours::bounded, stds::bounded));
    compare("reentrant mutex, 8; std: Mutex", both(only_ours::reentrant, stds::mutex));
    compare("semaphore, 8, 3 at a time; std: Mutex", both(only_ours::semaphore, stds::mutex));
    compare("event, set for 7; std: notify_all", both(only_ours::event, stds::notify_all));
    compare("queue, 4 put, 4 get; std: sync_channel", both(only_ours::queue, stds::bounded));
    compare("select, 2 channels; std: 1 channel", both(only_ours::select, stds::channel));
    criterion.final_summary();
}

/// Programs that do so many operations each, and say how long that took, without the time to start eight threads.
fn both(ours: fn(u64) -> Duration, stds: fn(u64) -> Duration) -> (Timed, Timed) {
    let timed =
        |program: fn(u64) -> Duration| -> Timed { Box::new(move |times| program(times * EACH)) };
    (timed(ours), timed(stds))
}

/// The same programs for `$sync`, where each of the eight runs by `$spawn` and may let others run by `$yield`.
macro_rules! programs {
    ($name:ident, $sync:path, $spawn:path, $yield:path) => {
        mod $name {
            use super::*;
            use $spawn as spawn;
            use $sync as sync;
            use $yield as yield_now;

            /// Has eight do `work`, each with its number.
            fn crew(work: impl Fn(u64) + Send + Sync + 'static) -> Duration {
                let shared = Arc::new((sync::Barrier::new(CREW as usize + 1), work));
                let all: Vec<_> = (0..CREW)
                    .map(|n| {
                        let shared = shared.clone();
                        spawn(move || {
                            shared.0.wait();
                            shared.1(n);
                        })
                    })
                    .collect();
                shared.0.wait();
                let begin = Instant::now();
                all.into_iter().for_each(|one| one.join().expect("it does not panic"));
                begin.elapsed()
            }

            #[allow(dead_code, reason = "a reference only")]
            pub(crate) fn mutex(each: u64) -> Duration {
                let mutex = sync::Mutex::new(0_u64);
                crew(move |_| {
                    for n in 0..each {
                        let mut guard = mutex.lock().unwrap();
                        *guard += 1;
                        if n % WAITS == 0 {
                            yield_now();
                        }
                    }
                })
            }

            pub(crate) fn rwlock(each: u64) -> Duration {
                let lock = sync::RwLock::new(0_u64);
                crew(move |me| {
                    for n in 0..each {
                        if (n + me) % 8 == 0 {
                            *lock.write().unwrap() += 1;
                            continue;
                        }
                        let guard = lock.read().unwrap();
                        black_box(*guard);
                        if n % WAITS == 1 {
                            yield_now();
                        }
                    }
                })
            }

            pub(crate) fn readers(each: u64) -> Duration {
                let lock = sync::RwLock::new(0_u64);
                crew(move |_| {
                    for n in 0..each {
                        let guard = lock.read().unwrap();
                        black_box(*guard);
                        if n % WAITS == 0 {
                            yield_now();
                        }
                    }
                })
            }

            /// Each waits for its turn and wakes the next.
            pub(crate) fn ring(each: u64) -> Duration {
                let turn = sync::Mutex::new(0);
                let places: Vec<_> = (0..CREW).map(|_| sync::Condvar::new()).collect();
                crew(move |me| {
                    for _ in 0..each {
                        let place = &places[me as usize];
                        let guard = turn.lock().unwrap();
                        let mut turn = place.wait_while(guard, |turn| *turn != me).unwrap();
                        *turn = (me + 1) % CREW;
                        places[*turn as usize].notify_one();
                    }
                })
            }

            /// One after the other is the one that the others wait for.
            pub(crate) fn notify_all(each: u64) -> Duration {
                let (round, changed) = (sync::Mutex::new(0), sync::Condvar::new());
                crew(move |me| {
                    for n in 0..each {
                        let mut guard = round.lock().unwrap();
                        if n % CREW == me {
                            while *guard != n {
                                guard = changed.wait(guard).unwrap();
                            }
                            *guard += 1;
                            changed.notify_all();
                        } else {
                            drop(changed.wait_while(guard, |round| *round <= n).unwrap());
                        }
                    }
                })
            }

            pub(crate) fn barrier(each: u64) -> Duration {
                let barrier = sync::Barrier::new(CREW as usize);
                crew(move |_| {
                    for _ in 0..each {
                        black_box(barrier.wait().is_leader());
                    }
                })
            }

            pub(crate) fn once(each: u64) -> Duration {
                let all: Vec<_> = (0..each).map(|_| sync::Once::new()).collect();
                crew(move |_| all.iter().for_each(|once| once.call_once(|| yield_now())))
            }

            pub(crate) fn lazy(each: u64) -> Duration {
                let make = || {
                    yield_now();
                    1_u64
                };
                let all: Vec<_> = (0..each).map(|_| sync::LazyLock::new(make)).collect();
                crew(move |_| {
                    for lazy in &all {
                        black_box(**lazy);
                    }
                })
            }

            pub(crate) fn channel(each: u64) -> Duration {
                let (sender, receiver) = sync::mpsc::channel();
                let receiver = sync::Mutex::new(Some(receiver));
                crew(move |me| match me {
                    0 => {
                        let receiver = receiver.lock().unwrap().take().unwrap();
                        assert_eq!(
                            receiver.iter().take((each * (CREW - 1)) as usize).count() as u64,
                            each * (CREW - 1)
                        );
                    }
                    _ => (0..each).for_each(|_| sender.send(me).unwrap()),
                })
            }

            pub(crate) fn bounded(each: u64) -> Duration {
                let (sender, receiver) = sync::mpsc::sync_channel(8);
                let receiver = sync::Mutex::new(Some(receiver));
                crew(move |me| match me {
                    0 => {
                        let receiver = receiver.lock().unwrap().take().unwrap();
                        assert_eq!(
                            receiver.iter().take((each * (CREW - 1)) as usize).count() as u64,
                            each * (CREW - 1)
                        );
                    }
                    _ => (0..each).for_each(|_| sender.send(me).unwrap()),
                })
            }
        }
    };
}

programs!(ours, greenling::sync, greenling::spawn, greenling::yield_now);
programs!(stds, std::sync, std::thread::spawn, std::thread::yield_now);

mod only_ours {
    use super::*;
    use greenling::event::Event;
    use greenling::queue::Queue;
    use greenling::select::Select;
    use greenling::sync::{ReentrantMutex, Semaphore, mpsc};
    use greenling::{join_all, spawn, yield_now};
    use std::cell::Cell;
    use std::rc::Rc;

    fn crew(work: impl Fn(u64) + 'static) -> Duration {
        let work = Rc::new(work);
        let all: Vec<_> = (0..CREW)
            .map(|n| {
                let work = work.clone();
                spawn(move || work(n))
            })
            .collect();
        let begin = Instant::now();
        join_all(all).into_iter().for_each(|one| one.expect("it does not panic"));
        begin.elapsed()
    }

    pub(crate) fn reentrant(each: u64) -> Duration {
        let mutex = ReentrantMutex::new(Cell::new(0_u64));
        crew(move |_| {
            for n in 0..each {
                let (guard, again) = (mutex.lock(), mutex.lock());
                guard.set(again.get() + 1);
                if n % WAITS == 0 {
                    yield_now();
                }
            }
        })
    }

    pub(crate) fn semaphore(each: u64) -> Duration {
        let semaphore = Semaphore::new(3);
        crew(move |_| {
            for n in 0..each {
                let _permit = semaphore.acquire();
                if n % WAITS == 0 {
                    yield_now();
                }
            }
        })
    }

    /// One sets, seven wait; for each round there is an event.
    pub(crate) fn event(each: u64) -> Duration {
        let events: Vec<_> = (0..each).map(|_| Event::new()).collect();
        crew(move |me| {
            for event in &events {
                if me == CREW - 1 {
                    event.set();
                    yield_now();
                } else {
                    event.wait();
                }
            }
        })
    }

    pub(crate) fn queue(each: u64) -> Duration {
        let queue = Queue::bounded(8);
        crew(move |me| {
            for n in 0..each {
                if me % 2 == 0 {
                    queue.put(n).unwrap();
                } else {
                    black_box(queue.get().unwrap());
                }
            }
        })
    }

    pub(crate) fn select(each: u64) -> Duration {
        let channels = [(); 2].map(|()| mpsc::channel());
        let (senders, receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
        let all: Vec<_> = (1..CREW)
            .map(|n| {
                let sender = senders[n as usize % 2].clone();
                spawn(move || {
                    for n in 0..each {
                        sender.send(n).unwrap();
                        if n % WAITS == 0 {
                            yield_now();
                        }
                    }
                })
            })
            .collect();
        let begin = Instant::now();
        for _ in 0..each * (CREW - 1) {
            let next = Select::new()
                .on(&receivers[0], |message| message.unwrap())
                .on(&receivers[1], |message| message.unwrap());
            black_box(next.wait());
        }
        let time = begin.elapsed();
        join_all(all);
        time
    }
}

//! Locks, each beside std's.
//!
//! Run with: `cargo bench -p greenling-micro-benches --bench locks`
//!
//! Uncontended ones are measured on one thread, beside parking_lot's as well. In the contended ones 1,000 coroutines
//! take the same lock, all on one thread or 250 on each of four, beside 1,000 threads with std's lock. Each adds to a counter, and now and then waits while it holds the lock
//! (by `yield_now`), so that there is something to wait for.

use std::hint::black_box;
use std::sync;
use std::thread;
use std::time::{Duration, Instant};

use greenling::sync as ours;
use greenling_micro_benches::{Comparison, Timed, criterion};

fn main() {
    let mut criterion = criterion();
    let mutex = ours::Mutex::new(0_u64);
    let std_mutex = sync::Mutex::new(0_u64);
    let subject = each(move || *mutex.lock().unwrap() += 1);
    Comparison::new(
        "mutex, uncontended",
        ("greenling", subject),
        ("std", each(move || *std_mutex.lock().unwrap() += 1)),
    )
    .ratio_at_most(1.0)
    .run(&mut criterion);

    let (mutex, other) = (ours::Mutex::new(0_u64), parking_lot::Mutex::new(0_u64));
    Comparison::new(
        "mutex beside parking_lot, uncontended",
        ("greenling", each(move || *mutex.lock().unwrap() += 1)),
        ("parking_lot", each(move || *other.lock() += 1)),
    )
    .run(&mut criterion);

    let mutex = ours::ReentrantMutex::new(std::cell::Cell::new(0_u64));
    let std_mutex = sync::Mutex::new(0_u64);
    Comparison::new(
        "reentrant mutex, uncontended",
        ("greenling", each(move || mutex.lock().set(1))),
        ("std Mutex", each(move || *std_mutex.lock().unwrap() += 1)),
    )
    .run(&mut criterion);

    let (lock, std_lock) = (ours::RwLock::new(0_u64), sync::RwLock::new(0_u64));
    Comparison::new(
        "rwlock, read, uncontended",
        ("greenling", each(move || *lock.read().unwrap())),
        ("std", each(move || *std_lock.read().unwrap())),
    )
    .ratio_at_most(1.0)
    .run(&mut criterion);

    let (lock, std_lock) = (ours::RwLock::new(0_u64), sync::RwLock::new(0_u64));
    Comparison::new(
        "rwlock, write, uncontended",
        ("greenling", each(move || *lock.write().unwrap() += 1)),
        ("std", each(move || *std_lock.write().unwrap() += 1)),
    )
    .ratio_at_most(1.0)
    .run(&mut criterion);

    let (semaphore, std_mutex) = (ours::Semaphore::new(5), sync::Mutex::new(0_u64));
    Comparison::new(
        "semaphore, uncontended",
        ("greenling", each(move || semaphore.acquire().permits())),
        ("std Mutex", each(move || *std_mutex.lock().unwrap() += 1)),
    )
    .run(&mut criterion);

    let once: ours::OnceLock<u64> = ours::OnceLock::new();
    let std_once: sync::OnceLock<u64> = sync::OnceLock::new();
    Comparison::new(
        "oncelock, get_or_init",
        ("greenling", each(move || *once.get_or_init(|| 1))),
        ("std", each(move || *std_once.get_or_init(|| 1))),
    )
    .ratio_at_most(1.0)
    .run(&mut criterion);

    contended(&mut criterion);
    waiting(&mut criterion);
    criterion.final_summary();
}

fn each<R>(mut operation: impl FnMut() -> R + 'static) -> Timed {
    Box::new(move |times| {
        let begin = Instant::now();
        for _ in 0..times {
            black_box(operation());
        }
        begin.elapsed()
    })
}

/// How often in so many a holder waits.
const WAITS: u64 = 16;

fn contended(criterion: &mut criterion::Criterion) {
    let one_thread: Timed = Box::new(|times| {
        let mutex = sync::Arc::new(ours::Mutex::new(0));
        timed(|| of_coroutines(1000, times.div_ceil(1000), &mutex))
    });
    let threads: Timed = Box::new(|times| of_threads(1000, times, &sync::Mutex::new(0)));
    Comparison::new(
        "mutex, 1000 coroutines of one thread",
        ("greenling", one_thread),
        ("std, 1000 threads", threads),
    )
    .run(criterion);

    let four_hubs: Timed = Box::new(|times| {
        let mutex = sync::Arc::new(ours::Mutex::new(0));
        timed(|| {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| of_coroutines(250, times.div_ceil(1000), &mutex));
                }
            });
        })
    });
    let threads: Timed = Box::new(|times| of_threads(1000, times, &sync::Mutex::new(0)));
    Comparison::new(
        "mutex, 4 threads of 250 coroutines",
        ("greenling", four_hubs),
        ("std, 1000 threads", threads),
    )
    .run(criterion);

    let ours_on_threads: Timed = Box::new(|times| {
        let mutex = ours::Mutex::new(0);
        timed(|| {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for n in 0..times.div_ceil(4) {
                            *mutex.lock().unwrap() += n;
                        }
                    });
                }
            });
        })
    });
    let stds_on_threads: Timed = Box::new(|times| {
        let mutex = sync::Mutex::new(0);
        timed(|| {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for n in 0..times.div_ceil(4) {
                            *mutex.lock().unwrap() += n;
                        }
                    });
                }
            });
        })
    });
    Comparison::new(
        "mutex, 4 plain threads",
        ("greenling", ours_on_threads),
        ("std", stds_on_threads),
    )
    .run(criterion);
}

fn timed(f: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    f();
    begin.elapsed()
}

fn of_coroutines(count: u64, each: u64, mutex: &sync::Arc<ours::Mutex<u64>>) {
    let coroutines: Vec<_> = (0..count)
        .map(|_| {
            let mutex = mutex.clone();
            greenling::spawn(move || {
                for n in 0..each {
                    let mut guard = mutex.lock().unwrap();
                    *guard += 1;
                    if n % WAITS == 0 {
                        greenling::yield_now();
                    }
                }
            })
        })
        .collect();
    for coroutine in coroutines {
        coroutine.join().unwrap();
    }
}

fn of_threads(count: u64, times: u64, mutex: &sync::Mutex<u64>) -> Duration {
    // Without the time to make the threads.
    let barrier = sync::Barrier::new(count as usize + 1);
    let begin = thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                barrier.wait();
                for n in 0..times.div_ceil(count) {
                    let mut guard = mutex.lock().unwrap();
                    *guard += 1;
                    if n % WAITS == 0 {
                        thread::yield_now();
                    }
                }
            });
        }
        barrier.wait();
        Instant::now()
    });
    begin.elapsed()
}

fn waiting(criterion: &mut criterion::Criterion) {
    let subject: Timed = Box::new(|times| {
        let semaphore = sync::Arc::new(ours::Semaphore::new(5));
        timed(|| {
            let coroutines: Vec<_> = (0..50)
                .map(|_| {
                    let semaphore = semaphore.clone();
                    greenling::spawn(move || {
                        for _ in 0..times.div_ceil(50) {
                            let _permit = semaphore.acquire();
                            greenling::yield_now();
                        }
                    })
                })
                .collect();
            greenling::join_all(coroutines);
        })
    });
    let reference: Timed = Box::new(|times| {
        timed(|| {
            let coroutines: Vec<_> = (0..50)
                .map(|_| {
                    greenling::spawn(move || {
                        for _ in 0..times.div_ceil(50) {
                            greenling::yield_now();
                        }
                    })
                })
                .collect();
            greenling::join_all(coroutines);
        })
    });
    Comparison::new(
        "semaphore, 50 coroutines, 5 at a time",
        ("greenling", subject),
        ("yield_now", reference),
    )
    .run(criterion);

    let subject: Timed = Box::new(|times| {
        let turn = sync::Arc::new((ours::Mutex::new(0), ours::Condvar::new()));
        let other = turn.clone();
        timed(|| {
            let partner = greenling::spawn(move || ping(&other, 1, times));
            ping(&turn, 0, times);
            partner.join().unwrap();
        })
    });
    let reference: Timed = Box::new(|times| {
        let turn = (sync::Mutex::new(0), sync::Condvar::new());
        let ping = |me| {
            for _ in 0..times {
                let guard = turn.0.lock().unwrap();
                let mut guard = turn.1.wait_while(guard, |turn| *turn != me).unwrap();
                *guard = 1 - me;
                turn.1.notify_one();
            }
        };
        timed(|| {
            thread::scope(|scope| {
                scope.spawn(|| ping(1));
                ping(0);
            });
        })
    });
    Comparison::new(
        "condvar, there and back",
        ("greenling", subject),
        ("std, 2 threads", reference),
    )
    .run(criterion);
}

fn ping(turn: &(ours::Mutex<u8>, ours::Condvar), me: u8, times: u64) {
    for _ in 0..times {
        let guard = turn.0.lock().unwrap();
        let mut guard = turn.1.wait_while(guard, |turn| *turn != me).unwrap();
        *guard = 1 - me;
        turn.1.notify_one();
    }
}

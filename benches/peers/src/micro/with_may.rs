//! may, with as many workers as there are threads, and its pool of stacks enlarged: as shipped, it keeps 100 and maps
//! the others anew each time.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use may::coroutine::{JoinHandle, park, sleep, yield_now};
use may::go;
use may::sync::{Mutex, mpsc};

use super::{MANY, Op, SHORT, SLEEPERS, SPAWNED, Span, Timed, WAITS, timed};

/// As many as fit.
const SLEEP_AT_ONCE: u64 = 25_000;

pub(super) fn find(op: Op) -> Option<Timed> {
    may::config().set_workers(op.threads());
    // The pool is filled when it is first needed: memory that would be missing from what an idle one has.
    if op != Op::Idle {
        let most = if op == Op::Sleep { SLEEP_AT_ONCE } else { SPAWNED };
        may::config().set_pool_capacity(most as usize);
    }
    let operation: fn(u64) -> Duration = match op {
        Op::Yield => |count| in_turn(2, count),
        Op::Yield1000 => |count| in_turn(MANY, count),
        Op::Spawn => |count| {
            timed(|| {
                for _ in 0..count {
                    black_box(go!(|| black_box(1)).join().expect("it does not panic"));
                }
            })
        },
        Op::Spawn10000 => |count| {
            timed(|| {
                for _ in 0..count / SPAWNED {
                    join((0..SPAWNED).map(|n| go!(move || _ = black_box(n))).collect());
                }
            })
        },
        Op::Channel => round_trips,
        Op::Mutex => |count| {
            let mutex = Mutex::new(0_u64);
            timed(|| {
                for _ in 0..count {
                    *black_box(&mutex).lock().expect("nobody panics") += 1;
                }
            })
        },
        Op::Mutex1000 | Op::Mutex4x250 => contended,
        // With guard pages, no more than 32,743 find a place.
        Op::Sleep => |count| {
            let of_some = |_| {
                let span = Span::new(SLEEP_AT_ONCE);
                let one = |_| {
                    let span = Arc::clone(&span);
                    go!(move || {
                        span.begin();
                        while !span.all_have_begun() {
                            sleep(SHORT);
                        }
                        (0..count / SLEEPERS).for_each(|_| sleep(SHORT));
                        span.end();
                    })
                };
                join((0..SLEEP_AT_ONCE).map(one).collect());
                span.length()
            };
            (0..SLEEPERS / SLEEP_AT_ONCE).map(of_some).sum()
        },
        Op::Idle => |count| {
            timed(|| {
                let begun = Arc::new(AtomicU64::new(0));
                for _ in 0..count {
                    let begun = Arc::clone(&begun);
                    go!(move || {
                        begun.fetch_add(1, Ordering::Relaxed);
                        park();
                    });
                }
                // Its `yield_now` may let the same coroutine go on for ever.
                while begun.load(Ordering::Relaxed) < count {
                    sleep(Duration::from_millis(1));
                }
            })
        },
        Op::Switch | Op::Next | Op::Chain | Op::Timer | Op::Timer1m => return None,
    };
    Some(Box::new(move |count| go!(move || operation(count)).join().expect("it does not panic")))
}

fn join(all: Vec<JoinHandle<()>>) {
    all.into_iter().for_each(|one| one.join().expect("it does not panic"));
}

fn in_turn(among: u64, count: u64) -> Duration {
    let each = count.div_ceil(among);
    timed(|| join((0..among).map(|_| go!(move || (0..each).for_each(|_| yield_now()))).collect()))
}

fn round_trips(count: u64) -> Duration {
    let (there, at_the_other) = mpsc::channel();
    let (back, at_the_one) = mpsc::channel();
    let other = go!(move || at_the_other.iter().for_each(|n: u64| back.send(n).expect("it waits")));
    let time = timed(|| {
        for n in 0..count {
            there.send(n).expect("it waits");
            assert_eq!(at_the_one.recv(), Ok(n));
        }
    });
    drop(there);
    other.join().expect("it does not panic");
    time
}

fn contended(count: u64) -> Duration {
    let mutex = Arc::new(Mutex::new(0_u64));
    let one = |_| {
        let mutex = Arc::clone(&mutex);
        go!(move || {
            for n in 0..count / MANY {
                let mut guard = mutex.lock().expect("nobody panics");
                *guard += 1;
                if n % WAITS == 0 {
                    yield_now();
                }
            }
        })
    };
    timed(|| join((0..MANY).map(one).collect()))
}

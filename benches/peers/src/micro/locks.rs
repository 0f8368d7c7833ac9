//! std's and parking_lot's locks, with threads.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::{MANY, Op, Start, Timed, WAITS, each};

/// parking_lot's.
pub(super) fn find(op: Op) -> Option<Timed> {
    Some(match op {
        Op::Mutex => {
            let mutex = parking_lot::Mutex::new(0_u64);
            each(move || *black_box(&mutex).lock() += 1)
        }
        Op::Mutex1000 | Op::Mutex4x250 => Box::new(|count| {
            let mutex = parking_lot::Mutex::new(0_u64);
            by_threads(count, |waits| {
                let mut guard = mutex.lock();
                *guard += 1;
                if waits {
                    thread::yield_now();
                }
            })
        }),
        _ => return None,
    })
}

/// std's.
pub(super) fn of_std(op: Op) -> Timed {
    if op == Op::Mutex {
        let mutex = std::sync::Mutex::new(0_u64);
        return each(move || *black_box(&mutex).lock().expect("nobody panics") += 1);
    }
    Box::new(|count| {
        let mutex = std::sync::Mutex::new(0_u64);
        by_threads(count, |waits| {
            let mut guard = mutex.lock().expect("nobody panics");
            *guard += 1;
            if waits {
                thread::yield_now();
            }
        })
    })
}

/// A thousand threads; without the time to make them.
fn by_threads(count: u64, once: impl Fn(bool) + Sync) -> Duration {
    let barrier = Barrier::new(MANY as usize + 1);
    let begin = thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| {
                barrier.wait();
                (0..count / MANY).for_each(|n| once(n % WAITS == 0));
            });
        }
        // Before it is passed: the last of them may run to its end before this thread goes on.
        let begin = Start::now();
        barrier.wait();
        begin
    });
    begin.elapsed()
}

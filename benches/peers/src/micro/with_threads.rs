//! std: threads.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread::{self, yield_now};
use std::time::Duration;

use super::{Op, Timed, each, locks, timed};

pub(super) fn find(op: Op) -> Option<Timed> {
    Some(match op {
        Op::Yield => Box::new(in_turn),
        Op::Spawn => each(|| thread::spawn(|| black_box(1)).join().expect("it does not panic")),
        Op::Channel => Box::new(round_trips),
        Op::Mutex | Op::Mutex1000 | Op::Mutex4x250 => locks::of_std(op),
        Op::Idle => Box::new(|count| {
            timed(|| {
                (0..count).for_each(|_| drop(thread::spawn(thread::park)));
                yield_now();
            })
        }),
        // 1,000 and 10,000 threads are measured by the locks, the idle ones and the echo.
        _ => return None,
    })
}

fn in_turn(count: u64) -> Duration {
    let each = count.div_ceil(2);
    timed(|| {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..each).for_each(|_| yield_now()));
            }
        });
    })
}

fn round_trips(count: u64) -> Duration {
    let (there, at_the_other) = mpsc::channel();
    let (back, at_the_one) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || at_the_other.iter().for_each(|n: u64| back.send(n).expect("it waits")));
        let time = timed(|| {
            for n in 0..count {
                there.send(n).expect("it waits");
                assert_eq!(at_the_one.recv(), Ok(n));
            }
        });
        drop(there);
        time
    })
}

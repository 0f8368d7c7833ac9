//! The explicit switch: there and back, between two greenlets and between the base and a greenlet.
//!
//! Run with: `cargo bench -p greenling-micro-benches --bench switch`
//!
//! The reference is corosensei's resume and suspend in a bare loop. A switch from one greenlet to
//! another is such a pair, so there and back between two greenlets is two pairs; from the base to a greenlet and back
//! it is one.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corosensei::{Coroutine, CoroutineResult};
use greenling::greenlet::Greenlet;
use greenling_micro_benches::{Comparison, Timed, criterion};

fn main() {
    let mut criterion = criterion();
    Comparison::new(
        "switch between two greenlets, there and back",
        ("greenling", Box::new(between_two)),
        ("corosensei, two pairs", bare(2)),
    )
    .ratio_at_most(2.5)
    .run(&mut criterion);
    Comparison::new(
        "switch between base and greenlet, there and back",
        ("greenling", from_base()),
        ("corosensei, one pair", bare(1)),
    )
    .run(&mut criterion);
    criterion.final_summary();
}

/// Two greenlets switch to each other, so many times in all there and back.
fn between_two(times: u64) -> Duration {
    let partner = Rc::new(Cell::new(None));
    let begin = {
        let partner = Rc::clone(&partner);
        Greenlet::new(move |times: u64| {
            let partner: Greenlet<u64> = partner.take().expect("it is set below");
            let begin = Instant::now();
            for n in 0..times {
                black_box(partner.switch(n).expect("it waits"));
            }
            begin.elapsed().as_nanos() as u64
        })
    };
    let first = begin.clone();
    partner.set(Some(Greenlet::new(move |mut n| {
        loop {
            n = first.switch(n).expect("it waits");
        }
    })));
    Duration::from_nanos(begin.switch(times).expect("it is new").max(1))
}

fn from_base() -> Timed {
    let echo = Greenlet::new(|mut n: u64| {
        loop {
            n = Greenlet::base().switch(n).expect("the base waits");
        }
    });
    timed(move |n| {
        black_box(echo.switch(n).expect("it waits"));
    })
}

/// Resumes `count` coroutines, one after the other.
fn bare(count: usize) -> Timed {
    let mut coroutines: Vec<_> = (0..count)
        .map(|_| {
            Coroutine::new(|yielder, mut n: u64| {
                while n != u64::MAX {
                    n = yielder.suspend(n);
                }
            })
        })
        .collect();
    timed(move |n| {
        for coroutine in &mut coroutines {
            let CoroutineResult::Yield(n) = coroutine.resume(n) else { unreachable!("endless") };
            black_box(n);
        }
    })
}

/// Times so many calls of `once`.
fn timed(mut once: impl FnMut(u64) + 'static) -> Timed {
    Box::new(move |times| {
        let begin = Instant::now();
        for n in 0..times {
            once(n);
        }
        begin.elapsed().max(Duration::from_nanos(1))
    })
}

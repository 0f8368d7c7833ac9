//! `yield_now`: a switch to the next coroutine that can run.
//!
//! Run with: `cargo bench -p greenling-micro-benches --bench yield_now`
//!
//! The reference is what the machine needs at the least: corosensei's resume and suspend in a bare
//! loop, without a run queue or anything else to look after.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corosensei::{Coroutine, CoroutineResult};
use greenling::{spawn, yield_now};
use greenling_micro_benches::{Comparison, criterion};

fn main() {
    let mut criterion = criterion();
    let of = |count| {
        (
            ("greenling", Box::new(move |yields| yields_of(count, yields)) as _),
            ("corosensei", bare_switches_of(count) as _),
        )
    };
    let (subject, reference) = of(2);
    Comparison::new("yield_now, 2 coroutines", subject, reference)
        .ratio_at_most(2.5)
        .run(&mut criterion);
    // corosensei's own stacks all begin at the same offset of a page: see `rt/stack.rs`.
    let (subject, reference) = of(1000);
    Comparison::new("yield_now, 1000 coroutines", subject, reference)
        .ratio_at_most(1.0)
        .run(&mut criterion);
    criterion.final_summary();
}

/// Has `count` coroutines yield so many times in all.
fn yields_of(count: u64, yields: u64) -> Duration {
    let (begin, end) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(None)));
    let each = yields.div_ceil(count);
    let coroutines: Vec<_> = (0..count)
        .map(|_| {
            let (begin, end) = (Rc::clone(&begin), Rc::clone(&end));
            spawn(move || {
                // When the first comes back from this, all have begun.
                yield_now();
                begin.set(begin.get().or_else(|| Some(Instant::now())));
                for _ in 0..each {
                    yield_now();
                }
                end.set(Some(Instant::now()));
            })
        })
        .collect();
    for coroutine in coroutines {
        coroutine.join().expect("it does not panic");
    }
    let (begin, end) = (begin.get().expect("it began"), end.get().expect("it ended"));
    (end - begin).mul_f64(yields as f64 / (each * count) as f64)
}

/// Resumes `count` coroutines in turn, so many times in all.
fn bare_switches_of(count: u64) -> Box<dyn FnMut(u64) -> Duration> {
    let mut coroutines: Vec<_> = (0..count)
        .map(|_| {
            Coroutine::new(|yielder, mut go_on: bool| {
                while go_on {
                    go_on = yielder.suspend(())
                }
            })
        })
        .collect();
    Box::new(move |switches| {
        let rounds = switches.div_ceil(count);
        let begin = Instant::now();
        for _ in 0..rounds {
            for coroutine in &mut coroutines {
                assert!(matches!(coroutine.resume(true), CoroutineResult::Yield(())));
            }
        }
        begin.elapsed().mul_f64(switches as f64 / (rounds * count) as f64)
    })
}

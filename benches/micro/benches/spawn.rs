//! `spawn` and `join`: a coroutine's whole life.
//!
//! Run with: `cargo bench -p greenling-micro-benches --bench spawn`
//!
//! The reference is a bare corosensei coroutine on a stack that is used again and again: no result
//! slot, no name, no one to wait for it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use corosensei::Coroutine;
use corosensei::stack::DefaultStack;
use greenling::spawn;
use greenling_micro_benches::{Comparison, criterion};

/// How many live at once in the second measurement.
const MANY: u64 = 10_000;

fn main() {
    let mut criterion = criterion();
    Comparison::new(
        "spawn and join, one at a time",
        ("greenling", Box::new(one_at_a_time)),
        ("corosensei", bare_one_at_a_time()),
    )
    .at_most(Duration::from_nanos(70))
    .run(&mut criterion);
    Comparison::new(
        "spawn 10000, then join all",
        ("greenling", Box::new(many_at_once)),
        ("corosensei", bare_many_at_once()),
    )
    .operations(MANY)
    .at_most(Duration::from_nanos(200))
    .run(&mut criterion);
    criterion.final_summary();
}

fn one_at_a_time(times: u64) -> Duration {
    let begin = Instant::now();
    for number in 0..times {
        let result = spawn(move || black_box(number)).join();
        assert_eq!(result.expect("it does not panic"), number);
    }
    begin.elapsed()
}

fn bare_one_at_a_time() -> Box<dyn FnMut(u64) -> Duration> {
    let mut stack = Some(DefaultStack::default());
    Box::new(move |times| {
        let begin = Instant::now();
        for number in 0..times {
            let on = stack.take().expect("the last one gave it back");
            let mut coroutine =
                Coroutine::<(), (), u64, _>::with_stack(on, move |_, ()| black_box(number));
            assert_eq!(coroutine.resume(()).as_return(), Some(number));
            stack = Some(coroutine.into_stack());
        }
        begin.elapsed()
    })
}

fn many_at_once(times: u64) -> Duration {
    let begin = Instant::now();
    for _ in 0..times {
        let coroutines: Vec<_> = (0..MANY).map(|number| spawn(move || black_box(number))).collect();
        for (number, coroutine) in coroutines.into_iter().enumerate() {
            assert_eq!(coroutine.join().expect("it does not panic"), number as u64);
        }
    }
    begin.elapsed()
}

fn bare_many_at_once() -> Box<dyn FnMut(u64) -> Duration> {
    // Less than the default size, and two maps each: well within the default `vm.max_map_count`.
    let mut stacks: Vec<_> =
        (0..MANY).map(|_| DefaultStack::new(64 * 1024).expect("there is address space")).collect();
    Box::new(move |times| {
        let begin = Instant::now();
        for _ in 0..times {
            let coroutines: Vec<_> = (0..)
                .zip(stacks.drain(..))
                .map(|(number, on)| {
                    Coroutine::<(), (), u64, _>::with_stack(on, move |_, ()| black_box(number))
                })
                .collect();
            for (number, mut coroutine) in coroutines.into_iter().enumerate() {
                assert_eq!(coroutine.resume(()).as_return(), Some(number as u64));
                stacks.push(coroutine.into_stack());
            }
        }
        begin.elapsed()
    })
}

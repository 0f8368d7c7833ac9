//! Generators: the next value, and the life of a short one.
//!
//! Run with: `cargo bench -p greenling-micro-benches --bench generator`
//!
//! The reference is corosensei's resume and suspend in a bare loop, and a coroutine of it on a stack
//! that is used again.

use std::hint::black_box;
use std::time::{Duration, Instant};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use greenling::generator::Generator;
use greenling_micro_benches::{Comparison, Timed, criterion};

fn main() {
    let mut criterion = criterion();
    Comparison::new("generator, next", ("greenling", next_values()), ("corosensei", bare_values()))
        .ratio_at_most(2.5)
        .run(&mut criterion);
    Comparison::new(
        "generator, make, 3 values, end",
        ("greenling", lives()),
        ("corosensei", bare_lives()),
    )
    .run(&mut criterion);
    criterion.final_summary();
}

fn next_values() -> Timed {
    let mut generator = Generator::new(|out, ()| {
        for n in 0_u64.. {
            out.yield_(n);
        }
    });
    timed(move || {
        black_box(generator.next());
    })
}

fn bare_values() -> Timed {
    let mut coroutine = Coroutine::new(|yielder, (): ()| {
        for n in 0_u64.. {
            yielder.suspend(n);
        }
    });
    timed(move || {
        let CoroutineResult::Yield(value) = coroutine.resume(()) else { unreachable!("endless") };
        black_box(Some(value));
    })
}

fn lives() -> Timed {
    timed(|| {
        let generator = Generator::new(|out, ()| (0..3_u64).for_each(|n| out.yield_(n)));
        black_box(generator.sum::<u64>());
    })
}

fn bare_lives() -> Timed {
    let mut stack = Some(DefaultStack::default());
    timed(move || {
        let own = stack.take().expect("given back below");
        let mut coroutine =
            Coroutine::with_stack(own, |out, ()| (0..3_u64).for_each(|n| out.suspend(n)));
        let mut sum = 0;
        while let CoroutineResult::Yield(n) = coroutine.resume(()) {
            sum += n;
        }
        black_box(sum);
        stack = Some(coroutine.into_stack());
    })
}

/// Times so many calls of `once`.
fn timed(mut once: impl FnMut() + 'static) -> Timed {
    Box::new(move |times| {
        let begin = Instant::now();
        for _ in 0..times {
            once();
        }
        begin.elapsed().max(Duration::from_nanos(1))
    })
}

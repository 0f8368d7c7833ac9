//! The benchmark that greenlet brings along: a chain of greenlets, each of which adds one to what it gets and
//! passes it on.
//!
//! Run with: `cargo bench -p greenling-micro-benches --bench chain`
//!
//! The figures are for one link: to make it and let it start, to pass the number through it, and to unwind it.
//! The reference makes coroutines of corosensei, on stacks of its own that are used again, and passes the number
//! through them from a loop.

use std::hint::black_box;
use std::time::Instant;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use greenling::greenlet::Greenlet;
use greenling_micro_benches::{Comparison, Timed, criterion};

const LINKS: u64 = 1000;
const MANY_LINKS: u64 = 20_000;

fn main() {
    let mut criterion = criterion();
    for (name, links) in [("chain of 1000", LINKS), ("chain of 20000", MANY_LINKS)] {
        Comparison::new(name, ("greenling", greenlets(links)), ("corosensei", bare(links)))
            .operations(links)
            .run(&mut criterion);
    }
    criterion.final_summary();
}

enum Message {
    Next(Greenlet<Message>),
    Number(u64),
}

use Message::{Next, Number};

fn link(first: Message) -> Message {
    let Next(next) = first else { unreachable!("a link is told first who comes next") };
    let Ok(Number(n)) = Greenlet::base().switch(Number(0)) else { unreachable!("then a number") };
    next.switch(Number(n + 1)).expect("the next one waits")
}

fn greenlets(links: u64) -> Timed {
    Box::new(move |times| {
        let begin = Instant::now();
        for _ in 0..times {
            let mut head = Greenlet::base();
            for _ in 0..links {
                let before = Greenlet::new(link);
                before.switch(Next(head)).expect("it is new");
                head = before;
            }
            let Ok(Number(sum)) = head.switch(Number(0)) else { unreachable!("a number") };
            assert_eq!(black_box(sum), links);
        }
        begin.elapsed()
    })
}

fn bare(links: u64) -> Timed {
    let mut stacks = Vec::new();
    Box::new(move |times| {
        let begin = Instant::now();
        for _ in 0..times {
            let mut coroutines: Vec<_> = (0..links)
                .map(|_| {
                    let stack = stacks.pop().unwrap_or_else(DefaultStack::default);
                    let mut coroutine = Coroutine::with_stack(stack, |yielder, _: u64| {
                        let n = yielder.suspend(0);
                        yielder.suspend(n + 1);
                    });
                    coroutine.resume(0);
                    coroutine
                })
                .collect();
            let mut sum = 0;
            for coroutine in &mut coroutines {
                let CoroutineResult::Yield(n) = coroutine.resume(sum) else { unreachable!() };
                sum = n;
            }
            assert_eq!(black_box(sum), links);
            // Unwound, as the greenlets are.
            for mut coroutine in coroutines {
                coroutine.force_unwind();
                stacks.push(coroutine.into_stack());
            }
        }
        begin.elapsed()
    })
}

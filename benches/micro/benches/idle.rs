//! Coroutines that do nothing: what one costs to make, and the memory it holds.
//!
//! Run with: `cargo bench -p greenling-micro-benches --bench idle [-- COUNT]`
//!
//! The reference is the page fault that none can do without: memory touched once every 256 KiB, as
//! the stacks of new coroutines are.

use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::time::Instant;

use greenling::thread::{Builder, park};
use greenling::yield_now;
use greenling_micro_benches::system::{Untouched, resident};

const COUNT: usize = 100_000;
/// So many of each side take turns.
const TURN: usize = 5_000;
/// Address space between two stacks.
const STRIDE: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    // Under `cargo test` a few show that it works.
    let bench = std::env::args().any(|argument| argument == "--bench");
    let number = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let count = number.map_or(Ok(if bench { COUNT } else { TURN }), |number| number.parse())?;

    let begun = Rc::new(Cell::new(0));
    let mut idle = Vec::with_capacity(count);
    let (mut pages, mut creates, mut bytes) = (Vec::new(), Vec::new(), 0);
    while idle.len() < count {
        let turn = TURN.min(count - idle.len());

        let mut untouched = Untouched::new(turn * STRIDE)?;
        let begin = Instant::now();
        (0..turn).for_each(|number| untouched.touch(number * STRIDE));
        pages.push(begin.elapsed().as_nanos() as f64 / turn as f64);
        drop(untouched);

        let before = resident();
        let begin = Instant::now();
        for _ in 0..turn {
            let begun = Rc::clone(&begun);
            idle.push(Builder::new().spawn(move || {
                begun.set(begun.get() + 1);
                park();
            })?);
        }
        while begun.get() < idle.len() {
            yield_now();
        }
        creates.push(begin.elapsed().as_nanos() as f64 / turn as f64);
        bytes += resident() - before;
    }
    let mut ratios: Vec<_> =
        creates.iter().zip(&pages).map(|(create, page)| create / page).collect();
    println!(
        "idle coroutine, {count} of them: {:.0} ns to make, page fault {:.0} ns, ratio {:.2}, to reach: 3500 ns",
        median(&mut creates),
        median(&mut pages),
        median(&mut ratios),
    );
    println!("resident: {} bytes each, to reach: 4500", bytes / count as u64);

    let begin = Instant::now();
    for coroutine in &idle {
        coroutine.thread().unpark();
    }
    for coroutine in idle {
        coroutine.join().map_err(|_| "a coroutine panicked")?;
    }
    println!("woken and ended: {:.0} ns each", begin.elapsed().as_nanos() as f64 / count as f64);
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

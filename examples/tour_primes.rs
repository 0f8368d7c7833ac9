//! Work for the processor, the primes below 100,000, on 1, 4 and 10 threads of a pool, while the thread's coroutines
//! go on.
//!
//! Run with: cargo run --release --example tour_primes
//!
//! More threads than processors do not make it faster.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::threadpool::ThreadPool;
use greenling::{sleep, spawn};

const LIMIT: u32 = 100_000;
const PIECES: u32 = 100;

fn is_prime(n: u32) -> bool {
    n > 1 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0)
}

fn main() {
    let turns = Rc::new(Cell::new(0));
    spawn({
        let turns = turns.clone();
        move || {
            loop {
                sleep(Duration::from_millis(1));
                turns.set(turns.get() + 1);
            }
        }
    });
    let processors = greenling::thread::available_parallelism().map_or(1, usize::from);
    println!("processors: {processors}");
    for threads in [1, 4, 10] {
        let pool = ThreadPool::new(threads);
        let begun = Instant::now();
        let size = LIMIT / PIECES;
        let counts = pool.map(0..PIECES, move |piece| {
            (piece * size..(piece + 1) * size).filter(|&n| is_prime(n)).count()
        });
        let total: usize = counts.into_iter().map(|count| count.expect("it does not panic")).sum();
        println!(
            "{threads} workers: {total} primes in {:.1} ms",
            begun.elapsed().as_secs_f64() * 1e3
        );
    }
    println!("meanwhile a coroutine had {}", if turns.get() > 0 { "its turns" } else { "no turn" });
}

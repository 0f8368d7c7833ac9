//! Queues against a model of what they promise: random programs step by step, random programs on several
//! threads at once, and kills and time limits raced against the very hand-over that they compete with.
//!
//! Every failure tells the seed that it came from; `QUEUE_SEED=n` runs that one alone.

mod common;

#[path = "queue_model/order.rs"]
mod order;
#[path = "queue_model/program.rs"]
mod program;
#[path = "queue_model/races.rs"]
mod races;
#[path = "queue_model/threads.rs"]
mod threads;

use fastrand::Rng;

/// Runs `test` with so many seeds, or with the one that the environment asks for.
fn with_seeds(count: u64, test: impl Fn(u64, Rng)) {
    struct Tell(u64);
    impl Drop for Tell {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the failure came from QUEUE_SEED={}", self.0);
            }
        }
    }
    let run = |seed: u64| {
        let _tell = Tell(seed);
        test(seed, Rng::with_seed(seed));
    };
    match std::env::var("QUEUE_SEED") {
        Ok(seed) => run(seed.parse().expect("a seed is a number")),
        Err(_) => (0..count).for_each(|_| run(fastrand::u64(..))),
    }
}

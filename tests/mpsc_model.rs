//! Channels against a model of what they promise: random programs step by step, random programs on several
//! threads at once, and kills and time limits raced against the very hand-over that they compete with.
//!
//! Every failure tells the seed that it came from; `MPSC_SEED=n` runs that one alone. `MPSC_RACES=n` says how
//! many races there are, `MPSC_SECONDS=n` how long the soak lasts.

mod common;

#[path = "mpsc_model/program.rs"]
mod program;
#[path = "mpsc_model/races.rs"]
mod races;
#[path = "mpsc_model/threads.rs"]
mod threads;

use std::str::FromStr;

use fastrand::Rng;

/// What the environment says, if it says something.
fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is to be a number")))
}

/// Runs `test` with a seed, and tells it if that fails.
fn with_seed(seed: u64, test: impl FnOnce(Rng)) {
    struct Tell(u64);
    impl Drop for Tell {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the failure came from MPSC_SEED={}", self.0);
            }
        }
    }
    let _tell = Tell(seed);
    test(Rng::with_seed(seed));
}

/// Runs `test` with so many seeds, or with the one that the environment asks for.
fn with_seeds(count: u64, test: impl Fn(Rng)) {
    match from_environment("MPSC_SEED") {
        Some(seed) => with_seed(seed, test),
        None => (0..count).for_each(|_| with_seed(fastrand::u64(..), &test)),
    }
}

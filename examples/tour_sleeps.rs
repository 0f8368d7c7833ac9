//! Three sleepers that share one thread: together they take as long as the longest.
//!
//! Run with: cargo run --release --example tour_sleeps

use std::time::{Duration, Instant};

use greenling::{join_all, sleep, spawn};

/// One second of the story.
const SECOND: Duration = Duration::from_millis(100);

fn main() {
    let start = Instant::now();
    let sleepers = [3, 2, 4].map(|seconds| {
        spawn(move || {
            sleep(SECOND * seconds);
            println!("slept {seconds} s");
            start.elapsed()
        })
    });
    let woken: Vec<Duration> = join_all(sleepers).into_iter().map(Result::unwrap).collect();
    let total = start.elapsed();

    assert!(woken[1] < woken[0] && woken[0] < woken[2], "the shortest sleep ends first");
    assert!(total >= 4 * SECOND, "nobody wakes early");
    assert!(total < 9 * SECOND, "one after the other would take 9 s");
    println!("all three slept within {:.1} s", total.as_secs_f64() / SECOND.as_secs_f64());
}

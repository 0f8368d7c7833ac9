//! The smallest greenling program, and one with two coroutines that take turns.
//!
//! Run with: cargo run --release --example hello

use std::time::Duration;

fn main() {
    // There is nothing to set up: the first call makes this thread's hub, and the thread itself
    // is its main coroutine.
    let hello = greenling::spawn(|| println!("hello from a coroutine"));
    hello.join().unwrap();

    // Both sleepers share this one thread. While one sleeps, the other runs, so together they
    // take as long as the longer one.
    let tick = greenling::spawn(|| repeat("tick", Duration::from_millis(100)));
    let tock = greenling::spawn(|| repeat("    tock", Duration::from_millis(150)));

    // `join` hands over what the coroutine returned, or the payload of its panic, as in std.
    let lines = tick.join().unwrap() + tock.join().unwrap();
    println!("{lines} lines, from two coroutines on one thread");
}

fn repeat(word: &str, pause: Duration) -> usize {
    for n in 1..=3 {
        greenling::sleep(pause);
        println!("{word} {n}");
    }
    3
}

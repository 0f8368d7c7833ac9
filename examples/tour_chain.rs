//! A chain of 100,000 greenlets: each waits for a number, adds one, and passes it on to the next.
//!
//! Run with: cargo run --release --example tour_chain [-- LINKS]
//!
//! At the end all links are alive and suspended. Then the first is dropped, which has the only handle to the
//! second, and so on: all of them unwind.

use std::time::Instant;

use greenling::greenlet::Greenlet;

enum Message {
    /// The link that comes after this one.
    Next(Greenlet<Message>),
    Number(u64),
}

use Message::{Next, Number};

fn link(first: Message) -> Message {
    let Next(next) = first else { unreachable!("a link is told first who comes next") };
    let Ok(Number(n)) = Greenlet::base().switch(Number(0)) else { unreachable!("then a number") };
    next.switch(Number(n + 1)).expect("the next one waits")
}

fn main() {
    let links = std::env::args().nth(1).map_or(100_000, |n| n.parse().expect("a number of links"));

    let start = Instant::now();
    // The last link passes its number to the base: to us.
    let mut head = Greenlet::base();
    for _ in 0..links {
        let before = Greenlet::new(link);
        before.switch(Next(head)).expect("it is new");
        head = before;
    }
    let made = start.elapsed();

    let start = Instant::now();
    let Ok(Number(sum)) = head.switch(Number(0)) else { unreachable!("the links pass numbers on") };
    let passed = start.elapsed();

    let start = Instant::now();
    drop(head);
    let dropped = start.elapsed();

    println!("{sum} links");
    assert_eq!(sum, links);
    // Times are no part of what is promised.
    eprintln!("made in {made:.1?}, passed through in {passed:.1?}, dropped in {dropped:.1?}");
}

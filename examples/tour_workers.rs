//! Ten workers with names, and a count of those that are still at work.
//!
//! Run with: cargo run --release --example tour_workers

use std::time::Duration;

use greenling::pool::Group;
use greenling::sleep;
use greenling::thread::{self, Builder};

fn main() {
    let crew = Group::new();
    let workers: Vec<_> = (1..=10)
        .map(|number| {
            let work = move || {
                let me = thread::current();
                let name = me.name().expect("it was given one").to_owned();
                sleep(Duration::from_millis(5 * (11 - number))); // the last comes first
                println!("{name} is done");
                name
            };
            crew.spawn_with(Builder::new().name(format!("worker {number}")), work).unwrap()
        })
        .collect();

    let mut counts = vec![crew.len()];
    while !crew.is_empty() {
        sleep(Duration::from_millis(4));
        counts.push(crew.len());
        println!("{} at work", crew.len());
    }
    assert_eq!(counts.first(), Some(&10));
    assert_eq!(counts.last(), Some(&0));
    assert!(counts.is_sorted_by(|earlier, later| earlier >= later));

    let names: Vec<String> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    assert!(names.into_iter().eq((1..=10).map(|number| format!("worker {number}"))));
    println!("all ten have gone home");
}

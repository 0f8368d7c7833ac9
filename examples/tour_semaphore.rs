//! Twenty guests and five tables: a semaphore lets five in at a time, in the order in which they came.
//!
//! Run with: cargo run --release --example tour_semaphore

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use greenling::sync::Semaphore;
use greenling::{join_all, sleep, spawn};

fn main() {
    let tables = Rc::new(Semaphore::new(5));
    let at_table = Rc::new(Cell::new(0));
    let most = Rc::new(Cell::new(0));
    let order = Rc::new(RefCell::new(Vec::new()));

    let guests: Vec<_> = (1..=20)
        .map(|guest| {
            let (tables, at_table) = (tables.clone(), at_table.clone());
            let (most, order) = (most.clone(), order.clone());
            spawn(move || {
                let _table = tables.acquire();
                at_table.set(at_table.get() + 1);
                most.set(most.get().max(at_table.get()));
                order.borrow_mut().push(guest);
                println!("guest {guest} sits down: {} at table", at_table.get());
                sleep(Duration::from_millis(20 + guest % 3));
                at_table.set(at_table.get() - 1);
            })
        })
        .collect();

    // One who does not want to wait long goes home without a table.
    greenling::yield_now();
    assert!(tables.acquire_timeout(Duration::from_millis(5)).is_none());
    println!("an impatient guest goes home");

    join_all(guests);
    assert_eq!(most.get(), 5, "never more than five, but five");
    assert!(order.borrow().iter().copied().eq(1..=20), "in the order in which they came");
    assert_eq!(tables.available_permits(), 5);
    println!("all twenty have eaten, five at a time");
}

//! Ten runners wait for one starting shot.
//!
//! Run with: cargo run --release --example tour_event

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use greenling::event::Event;
use greenling::{join_all, sleep, spawn};

fn main() {
    let shot = Rc::new(Event::new());
    let (at_line, off) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));

    let runners: Vec<_> = (1..=10)
        .map(|number| {
            let (shot, at_line, off) = (shot.clone(), at_line.clone(), off.clone());
            spawn(move || {
                at_line.set(at_line.get() + 1);
                // Impatient ones look at their watch first.
                assert!(!shot.wait_timeout(Duration::from_millis(number)), "a false start");
                shot.wait();
                println!("runner {number} is off");
                off.borrow_mut().push(number);
            })
        })
        .collect();

    sleep(Duration::from_millis(50));
    assert_eq!((at_line.get(), off.borrow().len()), (10, 0), "all wait");
    println!("bang!");
    shot.set();
    join_all(runners).into_iter().for_each(Result::unwrap);

    // They went in the order in which they had come to the line.
    assert!(off.borrow().iter().copied().eq(1..=10));
    assert!(shot.is_set(), "who comes now need not wait");
    shot.wait();
    println!("all ten are off");
}

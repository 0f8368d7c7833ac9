//! A traffic light and cars that heed it: nobody drives while it is red.
//!
//! Run with: cargo run --release --example tour_traffic_light

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use greenling::event::Event;
use greenling::pool::Group;
use greenling::{sleep, spawn};

const PHASE: Duration = Duration::from_millis(10);
const CARS: u64 = 12;

fn main() {
    let green = Rc::new(Event::new());
    let changes = Rc::new(Cell::new(0));

    let light = spawn({
        let (green, changes) = (green.clone(), changes.clone());
        move || loop {
            println!("red");
            sleep(PHASE);
            println!("green");
            green.set();
            sleep(PHASE);
            green.clear();
            changes.set(changes.get() + 1);
        }
    });

    let (traffic, waited, passed) = (Group::new(), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for number in 1..=CARS {
        let (green, waited, passed) = (green.clone(), waited.clone(), passed.clone());
        traffic.spawn(move || {
            sleep(Duration::from_millis(4 * number)); // the way to the crossing
            // Whoever waited is let through by the light; but it may be red again by the time that the
            // driver has looked up.
            while !green.is_set() {
                waited.set(waited.get() + 1);
                green.wait();
            }
            assert!(green.is_set(), "never over a red light");
            println!("car {number} drives");
            passed.set(passed.get() + 1);
        });
    }
    traffic.join();
    light.kill();

    assert_eq!(passed.get(), CARS);
    assert!(waited.get() > 0, "some had to wait");
    assert!(changes.get() > 0 && changes.get() < 1_000);
    println!("{} cars have passed, {} had to wait", passed.get(), waited.get());
}

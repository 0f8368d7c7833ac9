//! Starting after a delay, and changing one's mind.
//!
//! Run with: cargo run --release --example tour_start_later

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::{Killed, join_all, spawn, spawn_later};

const TICK: Duration = Duration::from_millis(10);

fn main() {
    let start = Instant::now();
    let said = Rc::new(RefCell::new(Vec::new()));
    let say = |what: &'static str, earliest: Duration| {
        let said = said.clone();
        move || {
            assert!(start.elapsed() >= earliest, "too early");
            println!("{:>3} ms: {what}", start.elapsed().as_millis());
            said.borrow_mut().push(what);
        }
    };
    let later = |ticks: u32, what| spawn_later(TICK * ticks, say(what, TICK * ticks));

    let handles =
        [later(5, "five"), later(1, "one"), later(3, "three"), spawn(say("now", Duration::ZERO))];
    let never = later(2, "two");

    // A timer that has not begun can be cancelled: it never runs.
    never.kill();
    assert!(never.join().unwrap_err().is::<Killed>());

    join_all(handles).into_iter().for_each(Result::unwrap);
    assert_eq!(*said.borrow(), ["now", "one", "three", "five"]);
    assert!(start.elapsed() >= 5 * TICK);
}

//! A value of its own for every coroutine: functions deep inside see their caller's, without its being
//! handed down.
//!
//! Run with: cargo run --release --example tour_local

use std::cell::{Cell, RefCell};
use std::time::Duration;

use greenling::{join_all, sleep, spawn};

greenling::local! {
    /// Who is being served.
    static USER: RefCell<String> = RefCell::new("nobody".to_owned());

    /// How many steps that has taken so far.
    static STEPS: Cell<u32> = Cell::new(0);
}

fn step(pause: u64) {
    STEPS.set(STEPS.get() + 1);
    sleep(Duration::from_millis(pause)); // meanwhile others set their own
}

fn serve(user: &str) -> String {
    USER.set(user.to_owned());
    for pause in 0..user.len() {
        step(pause as u64);
    }
    USER.with_borrow(|user| format!("{user}: {} steps", STEPS.get()))
}

fn main() {
    let requests = ["Ada", "Grace", "Barbara"].map(|user| spawn(move || serve(user)));
    let answers: Vec<String> = join_all(requests).into_iter().map(Result::unwrap).collect();
    for answer in &answers {
        println!("{answer}");
    }
    assert_eq!(answers, ["Ada: 3 steps", "Grace: 5 steps", "Barbara: 7 steps"]);

    // The main coroutine has its own, too, and nobody has touched it.
    assert_eq!(USER.with_borrow(String::clone), "nobody");
    assert_eq!(STEPS.get(), 0);
    println!("main serves {}", USER.with_borrow(String::clone));
}

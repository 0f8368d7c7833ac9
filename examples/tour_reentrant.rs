//! A recursive lock: who holds it may lock it again, and it is free when all of that is undone.
//!
//! Run with: cargo run --release --example tour_reentrant

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use greenling::sync::ReentrantMutex;
use greenling::{join_all, sleep, spawn};

type Log = ReentrantMutex<RefCell<Vec<String>>>;

/// Writes a line; whoever calls this may hold the log already.
fn write(log: &Log, line: String) {
    println!("{line}");
    log.lock().borrow_mut().push(line);
}

/// Writes several lines that belong together.
fn report(log: &Log, name: &str, depth: u32) {
    let _together = log.lock();
    write(log, format!("{name} begins {depth}"));
    sleep(Duration::from_millis(2)); // the others would come in between here
    if depth > 1 {
        report(log, name, depth - 1);
    }
    write(log, format!("{name} ends {depth}"));
}

fn main() {
    let log = Rc::new(Log::default());
    let workers = ["Ada", "Grace", "Barbara"].map(|name| {
        let log = log.clone();
        spawn(move || report(&log, name, 3))
    });
    greenling::yield_now();
    assert!(log.try_lock().is_none(), "Ada has it");
    join_all(workers);

    let log = log.lock();
    let lines = log.borrow();
    let names: Vec<_> = lines.iter().map(|line| line.split(' ').next().expect("a name")).collect();
    let expected = ["Ada", "Grace", "Barbara"].map(|name| [name; 6]).concat();
    assert_eq!(names, expected, "six lines of each, and nobody in between");
    println!("nobody has come in between");
}

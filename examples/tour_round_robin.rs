//! A round-robin scheduler, written by hand. This is what a hub does, but for timers, I/O and waiting.
//!
//! Run with: cargo run --example tour_round_robin

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use greenling::greenlet::Greenlet;

#[derive(Clone, Default)]
struct Scheduler {
    ready: Rc<RefCell<VecDeque<Greenlet<()>>>>,
}

impl Scheduler {
    fn spawn(&self, task: impl FnOnce() + 'static) {
        self.ready.borrow_mut().push_back(Greenlet::new(|()| task()));
    }

    /// To be called by a task: lets all the others have a turn.
    fn yield_now(&self) {
        self.ready.borrow_mut().push_back(Greenlet::current());
        Greenlet::base().switch(()).expect("the scheduler waits");
    }

    /// Runs all tasks to their ends.
    fn run(&self) {
        loop {
            // Not in the condition of a `while let`: that would hold the borrow over the switch.
            let next = self.ready.borrow_mut().pop_front();
            let Some(task) = next else { return };
            task.switch(()).expect("what is ready waits");
        }
    }
}

fn main() {
    let scheduler = Scheduler::default();
    let log = Rc::new(RefCell::new(String::new()));
    for (name, turns) in [("a", 3), ("b", 1), ("c", 2)] {
        let (own, log) = (scheduler.clone(), log.clone());
        scheduler.spawn(move || {
            for turn in 1..=turns {
                println!("{name} has turn {turn} of {turns}");
                log.borrow_mut().push_str(name);
                own.yield_now();
            }
        });
    }
    scheduler.run();
    assert_eq!(*log.borrow(), "abcaca");
}

//! Greenlets switch, pass messages, have parents, and live beside the hub, as documented. What the
//! semantics do not say is as in Python's greenlet.

mod common;

#[path = "greenlet/beside_the_hub.rs"]
mod beside_the_hub;
#[path = "greenlet/parents.rs"]
mod parents;
#[path = "greenlet/random.rs"]
mod random;
#[path = "greenlet/switching.rs"]
mod switching;
#[path = "greenlet/throwing.rs"]
mod throwing;
#[path = "greenlet/tracing.rs"]
mod tracing;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// What has happened, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    /// What has happened since the last call.
    fn take(&self) -> Vec<String> {
        self.0.take()
    }

    /// Notes its own drop.
    fn guard(&self, name: &str) -> Guard {
        Guard(self.clone(), name.to_owned())
    }
}

struct Guard(Log, String);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.add(format!("drop {}", self.1));
    }
}

/// The text of the panic that `f` ends with.
#[track_caller]
fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("it has not panicked") };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}

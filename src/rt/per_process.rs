//! State that a forked child must not share with its parent's threads.

#![forbid(unsafe_code)]

use std::sync::OnceLock;

use super::life;

/// A value for this process. A child of a fork gets a new one: the parent's may have been half changed
/// by a thread that the child does not have, and is never touched or dropped there.
pub(crate) struct PerProcess<T> {
    /// After how many forks the value was made, and the value.
    value: OnceLock<(u64, T)>,
    /// Of the child.
    next: OnceLock<Box<PerProcess<T>>>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        PerProcess { value: OnceLock::new(), next: OnceLock::new() }
    }

    /// The value for this process, which `make` makes at first. It should do no more than that: a
    /// fork on another thread in the midst of it would leave the child waiting.
    pub(crate) fn get(&self, make: impl Fn() -> T) -> &T {
        let now = life::forks();
        let mut era = self;
        loop {
            let (forks, value) = era.value.get_or_init(|| (now, make()));
            if *forks == now {
                return value;
            }
            era = era.next.get_or_init(|| Box::new(PerProcess::new()));
        }
    }
}

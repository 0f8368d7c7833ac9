//! Who waits for what, where, since when; and what to do when nothing can ever run again.

use std::fmt::{self, Write};
use std::panic::Location;
use std::sync::atomic::Ordering;

use super::helpers::{self, Others};
use super::hub::Hub;
use super::sys;
use super::task::lock_word::{Holder, holder, matches};
use super::task::{Reason, State, Task, Woken};

/// What a coroutine is doing.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) id: u64,
    pub(crate) name: Option<String>,
    /// `None` while it runs or could run.
    pub(crate) wait: Option<Wait>,
}

/// What a coroutine waits for.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    /// In words: "sleep", "read from fd 7".
    pub(crate) what: String,
    pub(crate) location: &'static Location<'static>,
    /// In nanoseconds, to a few milliseconds.
    pub(crate) since: u64,
}

/// After how much silence to find out whether anybody is left who could end it. Not at once: to ask costs
/// more than most waits for another thread last.
const FIRST_LOOK: u64 = 50_000_000;

/// After how much silence to say who waits for what, if another thread might still end it.
const SILENCE: u64 = 10_000_000_000;

/// How often to look after that.
const LATER_LOOKS: u64 = 60_000_000_000;

impl Hub {
    /// All coroutines of this hub, main first.
    pub(super) fn statuses(&self) -> Vec<Status> {
        let mut statuses = vec![self.status(&self.main)];
        for (_, task) in self.tasks.borrow().iter() {
            // SAFETY: the hub owns the tasks in its table.
            statuses.push(self.status(unsafe { task.get() }));
        }
        statuses
    }

    fn status(&self, task: &Task) -> Status {
        // SAFETY: this is its hub's thread.
        let local = unsafe { task.local() };
        let parked = local.state.get() == State::Parked;
        Status {
            id: task.id(),
            name: task.name().map(str::to_owned),
            wait: parked.then(|| Wait {
                what: self.describe(local.reason.get()),
                location: local.location.get(),
                since: sys::coarse_now().saturating_sub(local.since.get()),
            }),
        }
    }

    fn describe(&self, reason: Reason) -> String {
        match reason {
            Reason::Park => "unpark".to_owned(),
            Reason::Idle => "something to do".to_owned(),
            Reason::Sleep => "the end of its sleep".to_owned(),
            Reason::Join(id) => format!("the end of {}", self.name_of(id)),
            Reason::Read(fd) => format!("input on descriptor {fd}"),
            Reason::Write(fd) => format!("room to write on descriptor {fd}"),
            Reason::Shutdown => "the end of all others".to_owned(),
            Reason::Wait(what) => what.to_owned(),
            Reason::Lock(what, word) => {
                // SAFETY: the waiter borrows the lock, and it is parked, as the caller has seen.
                let word = unsafe { (*word).load(Ordering::Relaxed) };
                match holder(word) {
                    Holder::Nobody => what.to_owned(),
                    Holder::One(id) => format!("{what}, held by {}", self.name_of(id)),
                    Holder::Sharers(1) => format!("{what}, held by one reader"),
                    Holder::Sharers(n) => format!("{what}, held by {n} readers"),
                }
            }
        }
    }

    fn name_of(&self, id: u64) -> String {
        let named = |task: &Task| match task.name() {
            Some(name) => format!("'{name}' (#{id})"),
            None => format!("#{id}"),
        };
        if matches(self.main.id(), id) {
            return named(&self.main);
        }
        for (_, task) in self.tasks.borrow().iter() {
            // SAFETY: the hub owns the tasks in its table.
            let task = unsafe { task.get() };
            if matches(task.id(), id) {
                return named(task);
            }
        }
        format!("#{id}, of another thread or ended")
    }

    /// Called when the hub is about to sleep with no timer set and no descriptor waited for. If nobody can
    /// wake it any more, main is told so. Returns how long to sleep.
    #[cold]
    pub(super) fn before_endless_sleep(&self) -> Option<u64> {
        let switches = self.counters.switches.get();
        let (at, began) = self.silence.get();
        if at != switches || began == 0 {
            self.silence.set((switches, sys::now()));
            return Some(FIRST_LOOK);
        }
        let silent = sys::now().saturating_sub(began);
        if silent < FIRST_LOOK {
            return Some(FIRST_LOOK - silent);
        }
        match helpers::others() {
            // What had been sent before the sender ended is here by now.
            Others::Nobody if !self.remote().inbox().is_empty() || self.tell_main() => {
                return Some(0);
            }
            Others::Nobody | Others::Threads => {}
            Others::Unsure => return Some(FIRST_LOOK),
            Others::AtWork => return Some(SILENCE),
        }
        if silent < SILENCE {
            return Some(SILENCE - silent);
        }
        // It is not worth a word if only main waits: that is how workers wait for work.
        if !self.warned.get() && !self.tasks.borrow().is_empty() {
            self.warned.set(true);
            log::warn!(
                "nothing has run for 10 s, and only another thread could change that:\n{}",
                Report(&self.statuses())
            );
        }
        Some(LATER_LOOKS)
    }

    /// Wakes main to panic over the deadlock. False if it cannot.
    fn tell_main(&self) -> bool {
        // SAFETY: this is its hub's thread.
        let local = unsafe { self.main.local() };
        let idle = local.reason.get() == Reason::Idle;
        let can = local.state.get() == State::Parked && !idle && !std::thread::panicking();
        if can {
            // Now, before unwinding changes the picture.
            *self.deadlock.borrow_mut() = Report(&self.statuses()).to_string();
            self.wake(self.main.as_ref(), Woken::Deadlocked);
        }
        can
    }
}

/// A list of coroutines, one on each line.
pub(crate) struct Report<'a>(pub(crate) &'a [Status]);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, status) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_char('\n')?;
            }
            write!(f, "  #{}", status.id)?;
            if let Some(name) = &status.name {
                write!(f, " '{name}'")?;
            }
            match &status.wait {
                None => f.write_str(" is running or runnable")?,
                Some(Wait { what, location, since }) => {
                    let seconds = *since as f64 / 1e9;
                    write!(f, " waits for {what}, at {location}, since {seconds:.1} s")?;
                }
            }
        }
        Ok(())
    }
}

//! A look inside: which coroutines there are, what each waits for, where, and since when.

#![forbid(unsafe_code)]

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::rt::{self, Report, Status};

/// What the coroutines of the calling thread are doing. Printing it gives a line for each.
///
/// # Examples
/// ```
/// use greenling::{debug, sleep, thread, yield_now};
/// use std::time::Duration;
///
/// let sleeper = thread::Builder::new()
///     .name("sleeper".into())
///     .spawn(|| sleep(Duration::from_secs(60)))?;
/// yield_now();
/// let dump = debug::dump();
/// let seen = dump.coroutines().find(|c| c.name() == Some("sleeper")).unwrap();
/// assert!(seen.waits_for().unwrap().contains("sleep"));
/// println!("{dump}");
/// # sleeper.kill();
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn dump() -> Dump {
    Dump { statuses: rt::statuses() }
}

/// See [`dump`].
#[derive(Clone, Debug)]
pub struct Dump {
    statuses: Vec<Status>,
}

impl Dump {
    /// All coroutines of the thread, the main coroutine first.
    pub fn coroutines(&self) -> impl Iterator<Item = Coroutine<'_>> {
        self.statuses.iter().map(|status| Coroutine { status })
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Report(&self.statuses).fmt(f)
    }
}

/// One line of a [`Dump`].
#[derive(Clone, Copy, Debug)]
pub struct Coroutine<'a> {
    status: &'a Status,
}

impl<'a> Coroutine<'a> {
    /// The number in its [`ThreadId`](crate::thread::ThreadId).
    pub fn id(&self) -> u64 {
        self.status.id
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<&'a str> {
        self.status.name.as_deref()
    }

    /// What it waits for, in words; `None` while it runs or could run.
    pub fn waits_for(&self) -> Option<&'a str> {
        self.status.wait.as_ref().map(|wait| wait.what.as_str())
    }

    /// Where in the program it waits.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.status.wait.as_ref().map(|wait| wait.location)
    }

    /// For how long it has waited, to a few milliseconds.
    pub fn waiting_since(&self) -> Option<Duration> {
        self.status.wait.as_ref().map(|wait| Duration::from_nanos(wait.since))
    }
}

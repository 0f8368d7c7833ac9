//! The crate's own sources of what coroutines and threads wait with, above a kernel that loom can follow.
//!
//! `build.rs` takes the sources as they are; only their atomics are loom's. In place of the hub there is here what
//! they need of it: a task that parks, is woken, and is interrupted. The models are in the tests of this package.
//!
//! Run with: `cargo test --release -p greenling-loom`
//!
//! `LOOM_MAX_PREEMPTIONS=n` says how far the search goes: how often a thread may be interrupted where it need not
//! wait. (2, if it is not set: nearly all known faults of this kind show by then.)

#![allow(
    dead_code,
    deprecated,
    unused_imports,
    unexpected_cfgs,
    unfulfilled_lint_expectations,
    clippy::all
)]

macro_rules! source {
    ($file:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $file));
    };
}

pub(crate) mod error {
    #[derive(Debug, PartialEq, Eq)]
    pub struct TooManyPermits;
    #[derive(Debug, PartialEq, Eq)]
    pub enum TryGetError {
        Empty,
        Closed,
    }
    #[derive(Debug, PartialEq, Eq)]
    pub enum GetTimeoutError {
        Timeout,
        Closed,
    }
    #[derive(Debug, PartialEq, Eq)]
    pub enum TryPutError<T> {
        Full(T),
        Closed(T),
    }
    #[derive(Debug, PartialEq, Eq)]
    pub enum PutTimeoutError<T> {
        Timeout(T),
        Closed(T),
    }
}

pub(crate) mod thread {
    pub struct JoinHandle<T>(T);

    pub fn spawn<T>(_: impl FnOnce() -> T) -> JoinHandle<T> {
        unreachable!("no model links")
    }
}

pub(crate) mod rt {
    use std::time::Duration;

    pub(crate) mod hub;
    pub(crate) mod lock;
    /// The real one, which has a model of its own: it spins, and the orders of that are too many for the others.
    pub(crate) mod spin_lock {
        source!("rt_lock.rs");
    }
    pub(crate) mod task {
        pub(crate) use super::hub::{Reason, TaskRef, Woken};
    }
    pub(crate) mod wait {
        source!("rt_wait.rs");
    }
    pub(crate) mod lock_word {
        source!("rt_task_lock_word.rs");
    }

    pub(crate) use hub::{Unparker, coarse_now, my_lock_word};
    pub(crate) use task::{Reason, Woken};
    pub(crate) use wait::{Locked, Node, Place, Selection, WaitQueue, Waited};

    #[derive(Clone, Copy)]
    pub(crate) struct Deadline(pub(crate) u64);

    impl Deadline {
        pub(crate) fn after(_: Duration) -> Option<Deadline> {
            Some(Deadline(1))
        }
    }

    /// The payload of an unwinding.
    pub(crate) struct Interrupted;

    pub(crate) fn unwind(_: Woken) -> ! {
        std::panic::resume_unwind(Box::new(Interrupted))
    }

    pub(crate) fn charge() {}

    pub(crate) fn charge_look() {}

    pub(crate) fn identity() -> ((), u64) {
        ((), 1)
    }
}

pub(crate) mod sync {
    pub(crate) mod raw_mutex {
        source!("sync_raw_mutex.rs");
    }
    pub(crate) mod raw_rwlock {
        source!("sync_raw_rwlock.rs");
    }
    pub(crate) mod semaphore {
        source!("sync_semaphore.rs");
    }
    pub(crate) mod once {
        source!("sync_once.rs");
    }
    pub(crate) mod barrier {
        source!("sync_barrier.rs");
    }

    #[cfg(test)]
    mod models;
}

pub(crate) mod queue {
    pub(crate) mod store {
        source!("queue_store.rs");
    }
    pub(crate) mod common {
        source!("queue_common.rs");
    }

    #[cfg(test)]
    mod models;
}

pub(crate) mod event {
    source!("event.rs");
}

#[cfg(test)]
mod models;

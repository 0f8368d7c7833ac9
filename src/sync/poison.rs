//! Whether somebody has unwound while he held a lock.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};

use crate::rt;

/// Part of a lock.
pub(super) struct Flag(AtomicBool);

/// Part of a guard that may poison.
#[derive(Clone, Copy)]
pub(super) struct Watch {
    /// A lock that a destructor takes during unwinding and gives back is not poisoned by that.
    unwinding: bool,
}

impl Watch {
    #[inline(always)]
    pub(super) fn begin() -> Watch {
        Watch { unwinding: rt::is_unwinding() }
    }
}

impl Flag {
    pub(super) const fn new() -> Flag {
        Flag(AtomicBool::new(false))
    }

    // The lock orders the accesses.
    #[inline(always)]
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// To be called before the lock is released.
    #[inline(always)]
    pub(super) fn end(&self, watch: Watch) {
        if !watch.unwinding && rt::is_unwinding() {
            self.set();
        }
    }

    /// `value` as it comes out of a lock with this flag.
    #[inline(always)]
    pub(super) fn result<T>(&self, value: T) -> LockResult<T> {
        if self.get() { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

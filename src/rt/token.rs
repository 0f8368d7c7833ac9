//! The one word by which std's `thread::park` waits on a thread, while coroutines wait by it (feature `patch`).
//!
//! std marks the word as parked while somebody waits, and `unpark` wakes only by that mark. But a second
//! coroutine of the thread that finds the mark would ask for the word again and again without a system call,
//! and hold the thread for ever. So the mark is there only while the hub sleeps:
//!
//! ```text
//!   coroutines run       empty; unpark leaves its notice in the word     → the hub sees it before it sleeps
//!   the hub sleeps       parked; unpark leaves its notice and wakes      → through futex, on whatever thread
//! ```

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::hub::Hub;

/// What std puts into the word.
pub(crate) const EMPTY: u32 = 0;
pub(crate) const NOTIFIED: u32 = 1;
pub(crate) const PARKED: u32 = u32::MAX;

/// For how long the word is taken to be shared after that was seen last. Somebody who takes a notice unseen has
/// waited for one of his own not long before.
pub(crate) const SHARED: Duration = Duration::from_secs(10);

/// How a wait for the word begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sharing {
    /// Nobody else has waited lately.
    Alone,
    /// The first one beside another.
    Begins,
    Still,
    /// It goes on waiting after its last look: the others are gone, or wait as long as itself.
    Over,
}

/// A hub's view of its thread's word.
pub(super) struct ThreadToken {
    word: Cell<*const AtomicU32>,
    waiters: Cell<usize>,
    /// Until when several coroutines are taken to use it, in nanoseconds of the hub's clock.
    shared_until: Cell<u64>,
    /// The task that has come back last in order to look whether it was meant; 0 is none.
    looks: Cell<u64>,
    /// Wakes all who wait for the word.
    wake: Cell<fn(usize)>,
}

impl ThreadToken {
    pub(super) fn new() -> ThreadToken {
        ThreadToken {
            word: Cell::new(ptr::null()),
            waiters: Cell::new(0),
            shared_until: Cell::new(0),
            looks: Cell::new(0),
            wake: Cell::new(|_| {}),
        }
    }

    /// To be called when a task begins to wait; `others` says that some wait already. What shows that the word is
    /// shared is that somebody new comes: not that those who wait come back from a look.
    pub(super) fn share(&self, task: u64, others: bool, now: u64) -> Sharing {
        let was_shared = now < self.shared_until.get();
        if self.looks.replace(0) == task {
            return if was_shared { Sharing::Still } else { Sharing::Over };
        }
        if others {
            self.shared_until.set(now.saturating_add(SHARED.as_nanos() as u64));
        }
        match (was_shared, others) {
            (true, _) => Sharing::Still,
            (false, true) => Sharing::Begins,
            (false, false) => Sharing::Alone,
        }
    }

    /// The task, whose wait is over, only looks whether it was meant.
    pub(super) fn looks(&self, task: u64) {
        self.looks.set(task);
    }

    fn word(&self) -> Option<&AtomicU32> {
        // SAFETY: somebody waits for it, and who does keeps it alive (`await_token`).
        (self.waiters.get() > 0).then(|| unsafe { &*self.word.get() })
    }
}

impl Hub {
    /// Has the hub look after the word.
    ///
    /// # Safety
    /// The word must stay valid until [`leave_token`](Self::leave_token), and be the same one each time.
    pub(super) unsafe fn await_token(&self, word: *const AtomicU32, wake: fn(usize)) {
        self.token.word.set(word);
        self.token.wake.set(wake);
        self.token.waiters.set(self.token.waiters.get() + 1);
    }

    pub(super) fn leave_token(&self) {
        self.token.waiters.set(self.token.waiters.get() - 1);
    }

    /// Wakes those for whom there is a notice.
    #[inline]
    pub(super) fn look_at_token(&self) {
        if let Some(word) = self.token.word() {
            if word.load(Ordering::SeqCst) == NOTIFIED {
                self.token.wake.get()(self.token.word.get().addr());
            }
        }
    }

    /// To be called before the hub sleeps. False if there is a notice, so that it must not.
    #[inline]
    pub(super) fn mark_token(&self) -> bool {
        let Some(word) = self.token.word() else { return true };
        let marked = word.compare_exchange(EMPTY, PARKED, Ordering::SeqCst, Ordering::SeqCst);
        marked != Err(NOTIFIED)
    }

    /// To be called after that.
    #[inline]
    pub(super) fn unmark_token(&self) {
        if let Some(word) = self.token.word() {
            // A notice stays.
            let _ = word.compare_exchange(PARKED, EMPTY, Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

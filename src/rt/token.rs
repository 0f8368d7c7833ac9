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

use super::hub::Hub;

/// What std puts into the word.
pub(crate) const EMPTY: u32 = 0;
pub(crate) const NOTIFIED: u32 = 1;
pub(crate) const PARKED: u32 = u32::MAX;

/// A hub's view of its thread's word.
pub(super) struct ThreadToken {
    word: Cell<*const AtomicU32>,
    waiters: Cell<usize>,
    /// Whether several coroutines have ever waited for it at once.
    shared: Cell<bool>,
    /// Wakes all who wait for the word.
    wake: Cell<fn(usize)>,
}

impl ThreadToken {
    pub(super) fn new() -> ThreadToken {
        ThreadToken {
            word: Cell::new(ptr::null()),
            waiters: Cell::new(0),
            shared: Cell::new(false),
            wake: Cell::new(|_| {}),
        }
    }

    /// Says that several wait; whether that was so before.
    pub(super) fn share(&self) -> bool {
        self.shared.replace(true)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared.get()
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

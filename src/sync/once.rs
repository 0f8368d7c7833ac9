//! [`Once`].

#![forbid(unsafe_code)]

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::rt::{self, Reason, WaitQueue};

/// Something that is done once: `std::sync::Once`, for coroutines and threads.
///
/// Those who come while it is being done wait for that, and let the other coroutines of their threads run. If it
/// ends by unwinding (by a panic, a kill, or because time was up), the `Once` is poisoned, as in std.
///
/// To call it from inside of itself is a deadlock, which the deadlock report shows.
///
/// # Examples
/// ```
/// use greenling::sync::Once;
///
/// static GREETING: Once = Once::new();
///
/// for _ in 0..3 {
///     GREETING.call_once(|| println!("hello"));
/// }
/// assert!(GREETING.is_completed());
/// ```
pub struct Once {
    /// A copy of what the queue guards, for those who only look.
    state: AtomicU8,
    /// Who does it, as the word of a lock.
    doer: AtomicU64,
    waiters: WaitQueue<()>,
}

impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

/// What the function of [`Once::call_once_force`] is told.
pub struct OnceState {
    poisoned: bool,
}

/// A `Once` that has not been done. Use [`Once::new`].
#[deprecated(note = "the `Once::new()` function is now preferred")]
#[expect(clippy::declare_interior_mutable_const, reason = "std's name, for initial values")]
pub const ONCE_INIT: Once = Once::new();

const INCOMPLETE: u8 = 0;
const POISONED: u8 = 1;
const RUNNING: u8 = 2;
const COMPLETE: u8 = 3;

impl Once {
    /// One that has not been done.
    #[inline]
    #[must_use]
    #[allow(clippy::new_without_default, reason = "std has none")]
    pub const fn new() -> Once {
        Once {
            state: AtomicU8::new(INCOMPLETE),
            doer: AtomicU64::new(0),
            waiters: WaitQueue::new(()),
        }
    }

    /// Calls `f` if nobody has, and waits if somebody is doing so. When this returns, it has been done.
    ///
    /// # Panics
    /// If an earlier call has unwound.
    #[inline]
    #[track_caller]
    pub fn call_once<F>(&self, f: F)
    where
        F: FnOnce(),
    {
        if !self.is_complete() {
            let mut f = Some(f);
            self.call(false, &mut |_| f.take().expect("called once")());
        }
    }

    /// As [`call_once`](Self::call_once), also if an earlier call has unwound.
    #[inline]
    #[track_caller]
    pub fn call_once_force<F>(&self, f: F)
    where
        F: FnOnce(&OnceState),
    {
        if !self.is_complete() {
            let mut f = Some(f);
            self.call(true, &mut |state| f.take().expect("called once")(state));
        }
    }

    /// Whether it has been done.
    #[inline]
    pub fn is_completed(&self) -> bool {
        let completed = self.is_complete();
        if !completed {
            rt::charge_look();
        }
        completed
    }

    #[inline]
    pub(super) fn is_complete(&self) -> bool {
        self.state.load(Ordering::Acquire) == COMPLETE
    }

    /// Waits until it has been done. (In std since Rust 1.86.)
    ///
    /// # Panics
    /// If a call has unwound.
    #[track_caller]
    pub fn wait(&self) {
        if !self.is_complete() {
            self.wait_for(false);
        }
    }

    /// Waits until it has been done, however many calls unwind before that.
    #[track_caller]
    pub fn wait_force(&self) {
        if !self.is_complete() {
            self.wait_for(true);
        }
    }

    #[cold]
    #[track_caller]
    fn wait_for(&self, ignore_poison: bool) {
        let state = self.until(|state| match state {
            COMPLETE => Some(state),
            POISONED if !ignore_poison => Some(state),
            _ => None,
        });
        if state == POISONED {
            panic!("Once instance has previously been poisoned");
        }
    }

    /// Waits until `decide`, which is called under the lock, says something.
    #[track_caller]
    fn until(&self, mut decide: impl FnMut(u8) -> Option<u8>) -> u8 {
        let reason = Reason::Lock("a Once", &self.doer);
        match self.waiters.wait_until(reason, None, |()| {
            // Acquire: what was done, for those who find it complete.
            decide(self.state.load(Ordering::Acquire))
        }) {
            Ok(state) => state,
            Err(interrupted) => rt::unwind(interrupted),
        }
    }

    #[cold]
    #[track_caller]
    fn call(&self, ignore_poison: bool, f: &mut dyn FnMut(&OnceState)) {
        let found = self.until(|state| match state {
            RUNNING => None,
            COMPLETE => Some(COMPLETE),
            POISONED if !ignore_poison => Some(POISONED),
            _ => {
                self.state.store(RUNNING, Ordering::Relaxed);
                Some(state)
            }
        });
        match found {
            COMPLETE => return,
            POISONED if !ignore_poison => panic!("Once instance has previously been poisoned"),
            _ => {}
        }
        self.doer.store(rt::my_lock_word(), Ordering::Relaxed);
        // Poisoned, unless `f` returns.
        let mut running = Running { once: self, leave: POISONED };
        f(&OnceState { poisoned: found == POISONED });
        running.leave = COMPLETE;
    }
}

/// Ends a call, however it ends.
struct Running<'a> {
    once: &'a Once,
    leave: u8,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.once.doer.store(0, Ordering::Relaxed);
        // Release: what was done, for those who only look.
        self.once
            .waiters
            .update_and_wake_all(|()| self.once.state.store(self.leave, Ordering::Release));
    }
}

impl OnceState {
    /// Whether an earlier call has unwound.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl fmt::Debug for OnceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceState").field("poisoned", &self.is_poisoned()).finish()
    }
}

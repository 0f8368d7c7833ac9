//! [`LazyLock`].

use std::cell::UnsafeCell;
use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::once::Once;
use crate::rt;

/// A value that is made when it is first used: `std::sync::LazyLock`, for coroutines and threads.
///
/// If the function that makes it unwinds, the lock is poisoned for good, as in std. A kill and the end of a
/// [`timeout`](crate::timeout) unwind, too, wherever they meet the coroutine that happens to be the first.
///
/// # Examples
/// ```
/// use greenling::sync::LazyLock;
///
/// static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| "made once, when needed".split(' ').collect());
///
/// assert_eq!(WORDS.len(), 4);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    once: Once,
    /// Changed while `once` runs, and `Made` when it is complete.
    state: UnsafeCell<State<T, F>>,
}

enum State<T, F> {
    Unmade(F),
    Made(T),
    /// Being made, or never.
    Empty,
}

// SAFETY: a shared lock gives shared access to the value, which may have been made on another thread, by a function
// that was made on a third. The function itself is never shared.
unsafe impl<T: Sync + Send, F: Send> Sync for LazyLock<T, F> {}

// What unwinding leaves half done is marked as poisoned.
impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}

#[cold]
#[track_caller]
fn poisoned() -> ! {
    panic!("LazyLock instance has previously been poisoned")
}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// One whose value `f` will make.
    #[inline]
    pub const fn new(f: F) -> LazyLock<T, F> {
        LazyLock { once: Once::new(), state: UnsafeCell::new(State::Unmade(f)) }
    }

    /// The value, which is made if that has not been done. What dereferencing does, in plain sight.
    ///
    /// # Panics
    /// If making it has unwound.
    #[inline]
    #[track_caller]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        match this.made() {
            Some(value) => value,
            None => this.make(),
        }
    }

    #[cold]
    #[track_caller]
    fn make(&self) -> &T {
        self.once.call_once_force(|once| {
            if once.is_poisoned() {
                poisoned();
            }
            // SAFETY: nobody else touches the state before `once` is complete, and it runs once at a time.
            let state = unsafe { &mut *self.state.get() };
            let State::Unmade(f) = mem::replace(state, State::Empty) else { poisoned() };
            let value = f();
            // SAFETY: as above; the first reference is not used any more.
            unsafe { *self.state.get() = State::Made(value) };
        });
        self.made().expect("complete")
    }

    /// The value, to change, which is made if that has not been done. (In std since Rust 1.94.)
    ///
    /// # Panics
    /// If making it has unwound.
    #[track_caller]
    pub fn force_mut(this: &mut LazyLock<T, F>) -> &mut T {
        LazyLock::force(this);
        LazyLock::get_mut(this).expect("made")
    }
}

impl<T, F> LazyLock<T, F> {
    #[inline]
    fn made(&self) -> Option<&T> {
        if !self.once.is_complete() {
            return None;
        }
        // SAFETY: it was written before `once` was complete, and is not written again while the lock is borrowed.
        match unsafe { &*self.state.get() } {
            State::Made(value) => Some(value),
            // SAFETY: `once` is complete only after a function that has put a value there.
            _ => unsafe { std::hint::unreachable_unchecked() },
        }
    }

    /// The value, if it has been made. (In std since Rust 1.94.)
    #[inline]
    pub fn get(this: &LazyLock<T, F>) -> Option<&T> {
        let made = this.made();
        if made.is_none() {
            rt::charge_look();
        }
        made
    }

    /// The value, to change, if it has been made. (In std since Rust 1.94.)
    #[inline]
    pub fn get_mut(this: &mut LazyLock<T, F>) -> Option<&mut T> {
        match this.state.get_mut() {
            State::Made(value) => Some(value),
            _ => None,
        }
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T, F: FnOnce() -> T> DerefMut for LazyLock<T, F> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        LazyLock::force_mut(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_tuple("LazyLock");
        match self.made() {
            Some(value) => out.field(value),
            None => out.field(&format_args!("<uninit>")),
        };
        out.finish()
    }
}

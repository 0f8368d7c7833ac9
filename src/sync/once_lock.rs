//! [`OnceLock`].

use std::cell::UnsafeCell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::once::Once;
use crate::rt;

/// A value that is set once: `std::sync::OnceLock`, for coroutines and threads.
///
/// # Examples
/// ```
/// use greenling::sync::OnceLock;
///
/// static CONFIG: OnceLock<String> = OnceLock::new();
///
/// assert_eq!(CONFIG.get(), None);
/// assert_eq!(CONFIG.get_or_init(|| "default".to_owned()), "default");
/// assert!(CONFIG.set("too late".to_owned()).is_err());
/// ```
pub struct OnceLock<T> {
    once: Once,
    /// Written while `once` runs, and `Some` when it is complete.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: a lock that moves takes its value along.
unsafe impl<T: Send> Send for OnceLock<T> {}
// SAFETY: a shared lock gives shared access to the value, which `Sync` allows, and lets one thread put it in for
// another to take out, which `Send` allows.
unsafe impl<T: Sync + Send> Sync for OnceLock<T> {}

// Nothing can be half done: the value is there or not.
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// One without a value.
    #[inline]
    #[must_use]
    pub const fn new() -> OnceLock<T> {
        OnceLock { once: Once::new(), value: UnsafeCell::new(None) }
    }

    /// The value, if it has been set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        let value = self.value();
        if value.is_none() {
            rt::charge_look();
        }
        value
    }

    #[inline]
    fn value(&self) -> Option<&T> {
        if !self.once.is_complete() {
            return None;
        }
        // SAFETY: it was written before `once` was complete, and is not written again while the lock is borrowed.
        let value = unsafe { &*self.value.get() }.as_ref();
        // SAFETY: `once` is complete only after a function that has put a value there.
        Some(unsafe { value.unwrap_unchecked() })
    }

    /// The value, to change, if it has been set.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// Waits until it has been set. (In std since Rust 1.86.)
    #[inline]
    #[track_caller]
    pub fn wait(&self) -> &T {
        self.once.wait_force();
        self.value().expect("complete")
    }

    /// Sets the value if there is none. Waits if somebody is setting it.
    ///
    /// # Errors
    /// If there is one already; gives `value` back.
    #[inline]
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("called once"));
        value.map_or(Ok(()), Err)
    }

    /// The value, which `f` makes if there is none. If several call this at the same time, one of their
    /// functions is called, and the others wait. If that unwinds, the lock has no value, and the next is called.
    ///
    /// `f` may wait. To use the lock in `f` is a deadlock.
    #[inline]
    #[track_caller]
    pub fn get_or_init<F>(&self, f: F) -> &T
    where
        F: FnOnce() -> T,
    {
        if let Some(value) = self.value() {
            return value;
        }
        self.initialize(f);
        self.value().expect("initialized")
    }

    #[cold]
    #[track_caller]
    fn initialize<F: FnOnce() -> T>(&self, f: F) {
        self.once.call_once_force(|_| {
            let value = f();
            // SAFETY: nobody reads before `once` is complete, and it runs once at a time.
            unsafe { *self.value.get() = Some(value) };
        });
    }

    /// Takes the value out.
    #[inline]
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Takes the value out, and leaves the lock without one.
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }
}

impl<T> Default for OnceLock<T> {
    #[inline]
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_tuple("OnceLock");
        match self.value() {
            Some(value) => out.field(value),
            None => out.field(&format_args!("<uninit>")),
        };
        out.finish()
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> OnceLock<T> {
        self.value().map_or_else(OnceLock::new, |value| OnceLock::from(value.clone()))
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        let lock = OnceLock::new();
        lock.once.call_once_force(|_| {
            // SAFETY: nobody else has the lock.
            unsafe { *lock.value.get() = Some(value) };
        });
        lock
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.value() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

//! [`Mutex`].

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, TryLockError, TryLockResult};

use super::poison::{Flag, Watch};
use super::raw_mutex::{Held, RawMutex};
use crate::rt::{self, Woken};

/// Mutual exclusion: `std::sync::Mutex`, for coroutines and threads.
///
/// Whoever waits for it lets the other coroutines of its thread run. For who is next, and for when it is
/// poisoned, see [the module](super).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::sync::{Arc, Mutex};
///
/// let log = Arc::new(Mutex::new(Vec::new()));
/// let writers: Vec<_> = (0..10)
///     .map(|n| {
///         let log = log.clone();
///         greenling::spawn(move || {
///             let mut log = log.lock().unwrap();
///             log.push(n);
///             greenling::sleep(Duration::from_millis(1)); // the others wait, and main goes on
///             log.push(n);
///         })
///     })
///     .collect();
/// greenling::join_all(writers);
/// let log = log.lock().unwrap();
/// assert!(log.chunks(2).all(|pair| pair[0] == pair[1]), "nobody came in between");
/// ```
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    poison: Flag,
    data: UnsafeCell<T>,
}

// SAFETY: a mutex that moves takes its data along; `RawMutex` and `Flag` are Send.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: the data is reached by one guard at a time, on the thread of whoever has it. So it is as if it moved
// from thread to thread, which `Send` allows.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

// What a panic leaves half done is marked as poisoned.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

/// Access to the data of a locked [`Mutex`], which is unlocked when this is dropped.
///
/// It cannot leave its thread, as std's cannot; and since a coroutine never does, it may be kept over any wait.
#[must_use = "if unused the Mutex will immediately unlock"]
#[clippy::has_significant_drop]
pub struct MutexGuard<'a, T: ?Sized + 'a> {
    lock: &'a Mutex<T>,
    held: Held,
    watch: Watch,
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the data, and that is all it gives.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

const WHAT: &str = "a Mutex";

impl<T> Mutex<T> {
    /// A mutex that nobody holds.
    #[inline]
    pub const fn new(t: T) -> Mutex<T> {
        Mutex { raw: RawMutex::new(), poison: Flag::new(), data: UnsafeCell::new(t) }
    }

    /// Takes the data out. Nobody can hold the mutex.
    ///
    /// # Errors
    /// If it is poisoned; the error has the data.
    pub fn into_inner(self) -> LockResult<T> {
        let Mutex { poison, data, .. } = self;
        poison.result(data.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the mutex, and waits until it can.
    ///
    /// To lock a mutex that the calling coroutine holds already is a deadlock, which the deadlock report
    /// shows; [`ReentrantMutex`](super::ReentrantMutex) allows it.
    ///
    /// Unwinds, without the lock, if the coroutine is killed or runs out of time meanwhile.
    ///
    /// # Errors
    /// If it is poisoned; the error has the guard.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let held = self.raw.lock(WHAT);
        // SAFETY: just taken.
        unsafe { self.guard(held) }
    }

    /// Takes the mutex if nobody holds it.
    ///
    /// # Errors
    /// If somebody does, or if it is poisoned; then the error has the guard.
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        let Some(held) = self.raw.try_lock() else {
            rt::charge_look();
            return Err(TryLockError::WouldBlock);
        };
        // SAFETY: just taken.
        Ok(unsafe { self.guard(held) }?)
    }

    /// # Safety
    /// The calling coroutine must hold the raw lock, and this be its only guard.
    #[inline(always)]
    unsafe fn guard(&self, held: Held) -> LockResult<MutexGuard<'_, T>> {
        let guard = MutexGuard { lock: self, held, watch: Watch::begin(), _not_send: PhantomData };
        self.poison.result(guard)
    }

    /// Whether it is poisoned. Without the lock the answer may be out of date at once.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Takes the poison off, once the data is known to be whole again.
    #[inline]
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The data, without locking: that nobody else has the mutex is known.
    ///
    /// # Errors
    /// If it is poisoned; the error has the reference.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.result(self.data.get_mut())
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// For a wait in which others have the mutex, as they do from [`Paused::unlock`] on.
    #[inline]
    pub(super) fn pause(self) -> Paused<'a, T> {
        Paused(ManuallyDrop::new(self))
    }
}

/// What has been a guard and will be one again. It is the same one that comes back, and with it what it knows of
/// unwinding.
pub(super) struct Paused<'a, T: ?Sized>(ManuallyDrop<MutexGuard<'a, T>>);

impl<'a, T: ?Sized> Paused<'a, T> {
    /// To be called once.
    #[inline]
    pub(super) fn unlock(&self) {
        self.0.lock.raw.unlock(self.0.held);
    }

    /// # Errors
    /// Why it was interrupted. Then the mutex is not locked.
    #[inline]
    #[track_caller]
    pub(super) fn lock(self) -> Result<LockResult<MutexGuard<'a, T>>, Woken> {
        let (lock, watch) = (self.0.lock, self.0.watch);
        let held = lock.raw.lock_or_interrupted(WHAT)?;
        Ok(lock.poison.result(MutexGuard { lock, held, watch, _not_send: PhantomData }))
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: there is one guard at a time, and none of the data's references outlives its borrow.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this is the only borrow of the guard.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.end(self.watch);
        self.lock.raw.unlock(self.held);
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(t: T) -> Self {
        Mutex::new(t)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => out.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => out.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => out.field("data", &"<locked>"),
        };
        out.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

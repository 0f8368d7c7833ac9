//! [`RwLock`].

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::{LockResult, TryLockError, TryLockResult};

use super::poison::{Flag, Watch};
use super::raw_mutex::Held;
use super::raw_rwlock::RawRwLock;
use crate::rt;

/// Many readers or one writer: `std::sync::RwLock`, for coroutines and threads.
///
/// Those who wait go on in the order in which they came, so neither readers nor writers starve. Hence a coroutine
/// that reads, and reads again inside of that, waits for ever if a writer has come in between (std says that
/// this may happen; here it does). For poisoning see [the module](super).
///
/// # Examples
/// ```
/// use greenling::sync::RwLock;
///
/// let settings = RwLock::new(vec!["a"]);
/// {
///     let one = settings.read().unwrap();
///     let other = settings.read().unwrap();
///     assert_eq!(*one, *other);
/// }
/// settings.write().unwrap().push("b");
/// assert_eq!(*settings.read().unwrap(), ["a", "b"]);
/// ```
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    poison: Flag,
    data: UnsafeCell<T>,
}

// SAFETY: a lock that moves takes its data along.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: a writer is alone with the data, as if it had moved to its thread, which `Send` allows; readers share it,
// which `Sync` allows.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

// What a panic leaves half done is marked as poisoned.
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

/// Access to read the data of a [`RwLock`], until this is dropped.
#[must_use = "if unused the RwLock will immediately unlock"]
#[clippy::has_significant_drop]
pub struct RwLockReadGuard<'rwlock, T: ?Sized + 'rwlock> {
    /// A pointer and not the lock, as in std: so it may stand for a guard of a supertype. `NonNull` is not `Send`,
    /// and so is the guard.
    data: NonNull<T>,
    raw: &'rwlock RawRwLock,
}

// SAFETY: a shared guard gives shared access to the data, and that is all it gives.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

/// Access to read and write the data of a [`RwLock`], until this is dropped.
#[must_use = "if unused the RwLock will immediately unlock"]
#[clippy::has_significant_drop]
pub struct RwLockWriteGuard<'rwlock, T: ?Sized + 'rwlock> {
    lock: &'rwlock RwLock<T>,
    held: Held,
    watch: Watch,
    _not_send: PhantomData<*const ()>,
}

// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> RwLock<T> {
    /// A lock that nobody holds.
    #[inline]
    pub const fn new(t: T) -> RwLock<T> {
        RwLock { raw: RawRwLock::new(), poison: Flag::new(), data: UnsafeCell::new(t) }
    }

    /// Takes the data out. Nobody can hold the lock.
    ///
    /// # Errors
    /// If it is poisoned; the error has the data.
    pub fn into_inner(self) -> LockResult<T> {
        let RwLock { poison, data, .. } = self;
        poison.result(data.into_inner())
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Locks to read, and waits until nobody writes and nobody waits who came before.
    ///
    /// Unwinds, without the lock, if the coroutine is killed or runs out of time meanwhile.
    ///
    /// # Errors
    /// If it is poisoned; the error has the guard.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.raw.read();
        // SAFETY: just locked.
        unsafe { self.read_guard() }
    }

    /// Locks to read if that needs no wait.
    ///
    /// # Errors
    /// If it does, or if the lock is poisoned; then the error has the guard.
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if !self.raw.try_read() {
            rt::charge_look();
            return Err(TryLockError::WouldBlock);
        }
        // SAFETY: just locked.
        Ok(unsafe { self.read_guard() }?)
    }

    /// Locks to write, and waits until nobody reads or writes.
    ///
    /// Unwinds, without the lock, if the coroutine is killed or runs out of time meanwhile.
    ///
    /// # Errors
    /// If it is poisoned; the error has the guard.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        let held = self.raw.write();
        // SAFETY: just locked.
        unsafe { self.write_guard(held) }
    }

    /// Locks to write if nobody reads or writes.
    ///
    /// # Errors
    /// If somebody does, or if the lock is poisoned; then the error has the guard.
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        let Some(held) = self.raw.try_write() else {
            rt::charge_look();
            return Err(TryLockError::WouldBlock);
        };
        // SAFETY: just locked.
        Ok(unsafe { self.write_guard(held) }?)
    }

    /// # Safety
    /// The calling coroutine must have locked to read, and not given that to another guard.
    #[inline(always)]
    unsafe fn read_guard(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        // SAFETY: what an `UnsafeCell` points to is not null.
        let data = unsafe { NonNull::new_unchecked(self.data.get()) };
        self.poison.result(RwLockReadGuard { data, raw: &self.raw })
    }

    /// # Safety
    /// The calling coroutine must have locked to write, and not given that to another guard.
    #[inline(always)]
    unsafe fn write_guard(&self, held: Held) -> LockResult<RwLockWriteGuard<'_, T>> {
        let watch = Watch::begin();
        self.poison.result(RwLockWriteGuard { lock: self, held, watch, _not_send: PhantomData })
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

    /// The data, without locking: that nobody else has the lock is known.
    ///
    /// # Errors
    /// If it is poisoned; the error has the reference.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.result(self.data.get_mut())
    }
}

impl<'rwlock, T: ?Sized> RwLockWriteGuard<'rwlock, T> {
    /// From writing to reading, with no other writer in between. Readers that wait are let in, up to the first
    /// writer among them. (In std since Rust 1.92.)
    ///
    /// # Examples
    /// ```
    /// use greenling::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(1);
    /// let mut writer = lock.write().unwrap();
    /// *writer = 2;
    /// let reader = RwLockWriteGuard::downgrade(writer);
    /// assert_eq!((*reader, *lock.read().unwrap()), (2, 2));
    /// ```
    pub fn downgrade(s: Self) -> RwLockReadGuard<'rwlock, T> {
        let writer = ManuallyDrop::new(s);
        let lock = writer.lock;
        // Nothing can be half done: it does not unwind here.
        lock.raw.downgrade();
        // SAFETY: what an `UnsafeCell` points to is not null.
        let data = unsafe { NonNull::new_unchecked(lock.data.get()) };
        RwLockReadGuard { data, raw: &lock.raw }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock's data, which lives as long as the borrow of the lock, and to which nobody writes while
        // it is locked to read.
        unsafe { self.data.as_ref() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: nobody else reads or writes while it is locked to write.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this is the only borrow of the guard.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.raw.unlock_read();
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.end(self.watch);
        self.lock.raw.unlock_write(self.held);
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(t: T) -> Self {
        RwLock::new(t)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => out.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => out.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => out.field("data", &format_args!("<locked>")),
        };
        out.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

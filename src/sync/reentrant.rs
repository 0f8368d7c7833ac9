//! [`ReentrantMutex`].

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};

use super::raw_mutex::{Held, RawMutex};
use crate::rt;

/// A mutex that its holder may lock again: Python's and gevent's `RLock`.
///
/// It is held by a coroutine (a thread's own stack is one, and greenlets and generators belong to the coroutine
/// that they run in), and free when that has dropped all of its guards. Since several guards may be there at once,
/// they give shared access only; put a `Cell` or a `RefCell` inside.
///
/// It is not poisoned by unwinding. Who waits for it is killed as in [`Mutex::lock`](super::Mutex::lock), and who is
/// next is decided as there.
///
/// # Examples
/// ```
/// use std::cell::RefCell;
/// use greenling::sync::ReentrantMutex;
///
/// fn add(log: &ReentrantMutex<RefCell<Vec<u32>>>, n: u32) {
///     let log_of_one = log.lock();
///     log_of_one.borrow_mut().push(n);
///     if n > 0 {
///         add(log, n - 1); // locks again
///     }
/// }
///
/// let log = ReentrantMutex::new(RefCell::new(Vec::new()));
/// add(&log, 3);
/// assert_eq!(*log.lock().borrow(), [3, 2, 1, 0]);
/// ```
pub struct ReentrantMutex<T: ?Sized> {
    raw: RawMutex,
    /// The id of the coroutine that holds it; 0 for none.
    owner: AtomicU64,
    /// How many guards there are. Touched by the owner only.
    count: Cell<u32>,
    /// Touched by the owner only.
    held: Cell<Option<Held>>,
    data: T,
}

// SAFETY: a mutex that moves takes its data along; nobody can hold it meanwhile.
unsafe impl<T: ?Sized + Send> Send for ReentrantMutex<T> {}
// SAFETY: only the owner, which stays on its thread, reaches the data and the count, so it is as if the data moved
// from thread to thread, which `Send` allows.
unsafe impl<T: ?Sized + Send> Sync for ReentrantMutex<T> {}

// There is no poison, so what unwinding may leave half done is what the data says.
impl<T: ?Sized + UnwindSafe> UnwindSafe for ReentrantMutex<T> {}
impl<T: ?Sized + RefUnwindSafe> RefUnwindSafe for ReentrantMutex<T> {}

/// Access to the data of a locked [`ReentrantMutex`], until this and all of its holder's other guards are dropped.
#[must_use = "if unused the ReentrantMutex will immediately unlock"]
#[clippy::has_significant_drop]
pub struct ReentrantMutexGuard<'a, T: ?Sized + 'a> {
    lock: &'a ReentrantMutex<T>,
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the data, and that is all it gives.
unsafe impl<T: ?Sized + Sync> Sync for ReentrantMutexGuard<'_, T> {}

impl<T> ReentrantMutex<T> {
    /// A mutex that nobody holds.
    #[inline]
    pub const fn new(t: T) -> ReentrantMutex<T> {
        ReentrantMutex {
            raw: RawMutex::new(),
            owner: AtomicU64::new(0),
            count: Cell::new(0),
            held: Cell::new(None),
            data: t,
        }
    }

    /// Takes the data out.
    pub fn into_inner(self) -> T {
        self.data
    }
}

impl<T: ?Sized> ReentrantMutex<T> {
    /// Takes the mutex, and waits until it can; at once if the calling coroutine holds it already.
    ///
    /// Unwinds, without a further guard, if the coroutine is killed or runs out of time meanwhile.
    ///
    /// # Panics
    /// If the coroutine has four thousand million guards.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> ReentrantMutexGuard<'_, T> {
        let me = rt::current_id();
        if self.is_owner(me) {
            return self.again();
        }
        let held = self.raw.lock("a ReentrantMutex");
        self.first(me, held)
    }

    /// Takes the mutex if no other coroutine holds it.
    ///
    /// # Panics
    /// As [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> Option<ReentrantMutexGuard<'_, T>> {
        let me = rt::current_id();
        if self.is_owner(me) {
            return Some(self.again());
        }
        self.raw.try_lock().map(|held| self.first(me, held))
    }

    /// Whether the calling coroutine holds it.
    pub fn is_held(&self) -> bool {
        self.is_owner(rt::current_id())
    }

    /// The data, without locking: that nobody has the mutex is known.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.data
    }

    // Relaxed will do: a coroutine finds its own id here only if it has written that itself.
    #[inline(always)]
    fn is_owner(&self, me: u64) -> bool {
        self.owner.load(Ordering::Relaxed) == me
    }

    #[inline(always)]
    fn first(&self, me: u64, held: Held) -> ReentrantMutexGuard<'_, T> {
        self.owner.store(me, Ordering::Relaxed);
        self.count.set(1);
        self.held.set(Some(held));
        ReentrantMutexGuard { lock: self, _not_send: PhantomData }
    }

    #[inline(always)]
    fn again(&self) -> ReentrantMutexGuard<'_, T> {
        let count = self.count.get().checked_add(1).expect("a ReentrantMutex is locked too often");
        self.count.set(count);
        ReentrantMutexGuard { lock: self, _not_send: PhantomData }
    }
}

impl<T: ?Sized> Deref for ReentrantMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.lock.data
    }
}

impl<T: ?Sized> Drop for ReentrantMutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let left = self.lock.count.get() - 1;
        self.lock.count.set(left);
        if left == 0 {
            self.lock.owner.store(0, Ordering::Relaxed);
            let held = self.lock.held.take().expect("it is locked");
            self.lock.raw.unlock(held);
        }
    }
}

impl<T> From<T> for ReentrantMutex<T> {
    fn from(t: T) -> Self {
        ReentrantMutex::new(t)
    }
}

impl<T: Default> Default for ReentrantMutex<T> {
    fn default() -> ReentrantMutex<T> {
        ReentrantMutex::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ReentrantMutex");
        match self.try_lock() {
            Some(guard) => out.field("data", &&*guard),
            None => out.field("data", &format_args!("<locked>")),
        };
        out.finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

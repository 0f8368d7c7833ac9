//! A lock for a few instructions at a time.
//!
//! Everything that threads share in a [`WaitQueue`](super::wait::WaitQueue) is guarded by one of
//! these. It is held over pointer updates only: never over a system call, an allocation, foreign
//! code or a switch. It spins, because its holder is always running or about to run; std's Mutex
//! would do as well, but costs a second atomic operation at every release, and its futex calls are
//! among those that coroutines may one day wait in.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// How often to look at the lock before giving the processor to its holder.
const SPINS: u32 = 64;

pub(crate) struct Lock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out its value to one thread at a time.
unsafe impl<T: Send> Send for Lock<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Lock<T> {}

pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Lock { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        if self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.spin();
        }
        Guard { lock: self }
    }

    /// Releases a lock whose guard was forgotten.
    ///
    /// # Safety
    /// The calling thread must hold the lock (or be the copy, after a fork, of one that did) and have no
    /// guard of it.
    pub(crate) unsafe fn force_unlock(&self) {
        self.held.store(false, Ordering::Release);
    }

    /// If the lock is held, which can only be by a thread that does not exist in this child of a fork, forgets
    /// the value for a new one, and releases the lock.
    pub(crate) fn replace_if_held(&self, value: T) {
        if self.held.load(Ordering::Relaxed) {
            // SAFETY: the child has one thread, and it is here and not inside the lock.
            unsafe { self.value.get().write(value) };
            self.held.store(false, Ordering::Release);
        }
    }

    #[cold]
    fn spin(&self) {
        let mut spins = 0;
        loop {
            while self.held.load(Ordering::Relaxed) {
                if spins < SPINS {
                    spins += 1;
                    std::hint::spin_loop();
                } else {
                    // The holder has lost its processor.
                    std::thread::yield_now();
                }
            }
            if !self.held.swap(true, Ordering::Acquire) {
                return;
            }
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a guard exists only while its thread holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` makes it the only reference.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.held.store(false, Ordering::Release);
    }
}

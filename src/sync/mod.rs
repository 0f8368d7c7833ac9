//! `std::sync`, cooperative: whoever waits for a lock lets the other coroutines of its thread run.
//!
//! Everything that blocks in `std::sync` is here under its own name, with std's signatures, std's poisoning and
//! std's corner cases; what does not block is std's own, re-exported. So a program changes only its `use` lines.
//! Beside them stand [`Semaphore`] and [`ReentrantMutex`].
//!
//! All of it works between the coroutines of one thread, of several threads, and plain threads alike: a thread
//! without coroutines that finds a lock taken sleeps as it would in std.
//!
//! # Poisoning
//!
//! As in std: a [`Mutex`] whose guard is dropped while its coroutine unwinds is poisoned, and so is a [`RwLock`] that
//! was locked to write. A kill and the end of a [`timeout`](crate::timeout) unwind as a panic does, and what they
//! leave behind may be just as half done, so they poison as well. Whoever must not be torn apart there says so by
//! [`time::shield`](crate::time::shield); whoever knows that the data is whole goes on with
//! [`PoisonError::into_inner`] and `clear_poison`.
//!
//! A wait for a lock that is killed ends without the lock, and poisons nothing. So does a killed
//! [`Condvar::wait`]: it had given the lock up, in a state in which others could use it.
//!
//! One difference from std cannot be seen by a thread, only by coroutines: `std::thread::panicking` is counted by
//! thread. While some coroutine waits in the middle of unwinding (in a destructor), it is true for all coroutines
//! of the thread, and says nothing about any of them. Locks that the others drop meanwhile are not poisoned.
//!
//! # Fairness
//!
//! | | who is next |
//! |---|---|
//! | [`Mutex`], [`ReentrantMutex`] | on one thread the longest waiter, always. Between threads a lock may go to whoever is there before a waiter of another thread has woken up, for a few milliseconds at most; then it is handed over |
//! | [`RwLock`] | in order of arrival: readers that come behind a waiting writer wait for it, and are let in together after it |
//! | [`Semaphore`] | strictly in order of arrival, also if a later one asks for less |
//! | [`Condvar`] | `notify_one` wakes the longest waiter |
//!
//! # Costs
//!
//! A lock that nobody else wants takes one atomic operation to lock and one to unlock, as std's. No memory is
//! allocated, ever. A `Mutex<()>` is 48 bytes (std's is 8).

mod barrier;
mod condvar;
mod lazy_lock;
pub mod mpsc;
mod mutex;
mod once;
mod once_lock;
mod poison;
mod raw_mutex;
mod raw_rwlock;
mod reentrant;
mod rwlock;
mod semaphore;

pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak, atomic};

pub use crate::error::TooManyPermits;
pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use lazy_lock::LazyLock;
pub use mutex::{Mutex, MutexGuard};
#[allow(deprecated, reason = "std has it")]
pub use once::ONCE_INIT;
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use reentrant::{ReentrantMutex, ReentrantMutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

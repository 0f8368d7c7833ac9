//! [`Condvar`].

#![forbid(unsafe_code)]

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError};
use std::time::{Duration, Instant};

use super::mutex::MutexGuard;
use crate::rt::{self, Deadline, Place, Reason, WaitQueue, Waited, Woken};

/// Waiting for a condition on data that a [`Mutex`](super::Mutex) guards: `std::sync::Condvar`, for coroutines and
/// threads.
///
/// As with std's, a wait may end without a notification, so that whoever waits looks again: see
/// [`wait_while`](Self::wait_while). Waiters are notified in the order in which they came. Unlike std's, it may
/// be used with several mutexes.
///
/// # Examples
/// ```
/// use greenling::sync::{Arc, Condvar, Mutex};
///
/// let pair = Arc::new((Mutex::new(false), Condvar::new()));
/// let worker = greenling::spawn({
///     let pair = pair.clone();
///     move || {
///         *pair.0.lock().unwrap() = true;
///         pair.1.notify_one();
///     }
/// });
/// let (ready, changed) = &*pair;
/// let ready = changed.wait_while(ready.lock().unwrap(), |ready| !*ready).unwrap();
/// assert!(*ready);
/// # drop(ready);
/// # worker.join().unwrap();
/// ```
pub struct Condvar {
    waiters: WaitQueue<()>,
}

impl UnwindSafe for Condvar {}
impl RefUnwindSafe for Condvar {}

/// Whether a wait with a time limit has ended by that.
#[derive(Debug, PartialEq, Eq, Copy, Clone)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was up.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// One that nobody waits for.
    #[must_use]
    #[inline]
    pub const fn new() -> Condvar {
        Condvar { waiters: WaitQueue::new(()) }
    }

    /// Unlocks the mutex, waits to be notified, and locks it again. Nobody can notify in between without being
    /// heard.
    ///
    /// Unwinds, without the lock, if the coroutine is killed or runs out of time meanwhile; a notification that it
    /// had got goes to the next.
    ///
    /// # Errors
    /// If the mutex is poisoned when it is locked again; the error has the guard.
    #[inline]
    #[track_caller]
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_until(guard, None).0
    }

    /// Waits, again and again, while `condition` holds; not at all if it does not.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
    ) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut *guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Self::wait), for at most `dur`, not counting the time to lock again.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        dur: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (guard, timed_out) = self.wait_until(guard, Deadline::after(dur));
        let result = WaitTimeoutResult(timed_out);
        match guard {
            Ok(guard) => Ok((guard, result)),
            Err(error) => Err(PoisonError::new((error.into_inner(), result))),
        }
    }

    /// As [`wait_timeout`](Self::wait_timeout), in milliseconds; false if the time was up.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[deprecated(note = "replaced by `Condvar::wait_timeout`, as in std")]
    #[track_caller]
    pub fn wait_timeout_ms<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        ms: u32,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        match self.wait_timeout(guard, Duration::from_millis(u64::from(ms))) {
            Ok((guard, result)) => Ok((guard, !result.timed_out())),
            Err(error) => {
                let (guard, result) = error.into_inner();
                Err(PoisonError::new((guard, !result.timed_out())))
            }
        }
    }

    /// As [`wait_while`](Self::wait_while), for at most `dur` in all.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_timeout_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        dur: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        let start = Instant::now();
        loop {
            if !condition(&mut *guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            let Some(left) = dur.checked_sub(start.elapsed()) else {
                return Ok((guard, WaitTimeoutResult(true)));
            };
            guard = self.wait_timeout(guard, left)?.0;
        }
    }

    /// Says besides the guard whether the time was up.
    #[track_caller]
    fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Deadline>,
    ) -> (LockResult<MutexGuard<'a, T>>, bool) {
        let deadline = deadline.map(|deadline| deadline.0);
        let reason = Reason::Wait("a Condvar");
        let paused = guard.pause();
        let unlock = || paused.unlock();
        let waited =
            self.waiters.wait_at(Place::Last, reason, deadline, None, |_, _| None::<()>, unlock);
        let timed_out = match waited {
            Ok(Waited::Attempted(()) | Waited::Granted(_)) => false,
            Err((Woken::TimedOut, _)) => true,
            Err((interrupted, _)) => rt::unwind(interrupted),
        };
        match paused.lock() {
            Ok(guard) => (guard, timed_out),
            Err(interrupted) => {
                if !timed_out {
                    // It was notified, and nobody has acted on that.
                    self.notify_one();
                }
                rt::unwind(interrupted)
            }
        }
    }

    /// Lets the one go on that has waited longest, if any.
    #[inline]
    pub fn notify_one(&self) {
        let granted = self.waiters.lock().grant(());
        if let Ok(waiter) = granted {
            waiter.unpark();
        }
    }

    /// Lets all go on that wait at this moment, in the order in which they came.
    #[inline]
    pub fn notify_all(&self) {
        self.waiters.update_and_wake_all(|()| ());
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

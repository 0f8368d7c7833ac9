//! [`Barrier`].

#![forbid(unsafe_code)]

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::rt::{self, Reason, WaitQueue, Waited};

/// Where several meet before any goes on: `std::sync::Barrier`, for coroutines and threads.
///
/// # Examples
/// ```
/// use greenling::sync::{Arc, Barrier};
///
/// let barrier = Arc::new(Barrier::new(3));
/// let runners: Vec<_> = (0..3)
///     .map(|_| {
///         let barrier = barrier.clone();
///         greenling::spawn(move || barrier.wait().is_leader())
///     })
///     .collect();
/// let leaders = greenling::join_all(runners).into_iter().filter(|is_leader| *is_leader.as_ref().unwrap());
/// assert_eq!(leaders.count(), 1);
/// ```
pub struct Barrier {
    /// Who waits has arrived; nothing else has to be counted.
    waiters: WaitQueue<()>,
    n: usize,
}

impl UnwindSafe for Barrier {}
impl RefUnwindSafe for Barrier {}

/// Whether one of those who met at a [`Barrier`] is the one that came last.
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// True for exactly one of those who go on together.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl Barrier {
    /// A barrier for `n`; for 0 as for 1, nobody waits.
    #[must_use]
    #[inline]
    pub const fn new(n: usize) -> Barrier {
        Barrier { waiters: WaitQueue::new(()), n }
    }

    /// Waits until `n` have called this; then all go on, and the barrier serves the next `n`.
    ///
    /// Unwinds if the coroutine is killed or runs out of time meanwhile. Then it does not count as having come.
    #[track_caller]
    pub fn wait(&self) -> BarrierWaitResult {
        // Room for those whom the last to come wakes, made outside of the lock.
        let others = self.waiters.lock().waiting();
        let room = if others + 1 < self.n { 0 } else { others };
        let mut others = Vec::with_capacity(room);
        let reason = Reason::Wait("a Barrier");
        let waited = self.waiters.wait(reason, None, None, |queue, _| {
            if queue.waiting() + 1 < self.n {
                return None;
            }
            // All under one lock, so that nobody can leave in between.
            while let Ok(waiter) = queue.grant(()) {
                others.push(waiter);
            }
            Some(())
        });
        for waiter in others {
            waiter.unpark();
        }
        match waited {
            Ok(Waited::Attempted(())) => BarrierWaitResult(true),
            Ok(Waited::Granted(_)) => BarrierWaitResult(false),
            Err((interrupted, _)) => rt::unwind(interrupted),
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}

impl fmt::Debug for BarrierWaitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWaitResult").field("is_leader", &self.0).finish()
    }
}

//! [`Semaphore`].
//!
//! # Protocol
//!
//! The word counts the permits that are there, and says by CONTENDED whether somebody waits. Without it, permits are
//! taken and given back by one atomic operation. With it, whoever wants permits goes to the queue, and whoever
//! gives some back hands them to the first in the queue, if they are enough for it ([`Semaphore::admit`]). So does a
//! waiter that leaves without any, since those behind it may be content with less.

#![forbid(unsafe_code)]

use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::TooManyPermits;
use crate::rt::{self, Deadline, Reason, Unparker, WaitQueue, Waited, Woken};

/// A number of permits, for at most so many at a time: gevent's `Semaphore`, for coroutines and threads.
///
/// A permit is given back when it is dropped, also when its coroutine is killed. Permits are handed to those who
/// wait strictly in the order in which they came, and nobody overtakes: one who asks for many is not passed
/// over by those who ask for few.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::sync::{Arc, Semaphore};
///
/// let tables = Arc::new(Semaphore::new(5));
/// let guests: Vec<_> = (0..20)
///     .map(|_| {
///         let tables = tables.clone();
///         greenling::spawn(move || {
///             let _table = tables.acquire();
///             greenling::sleep(Duration::from_millis(1)); // five at a time
///         })
///     })
///     .collect();
/// greenling::join_all(guests);
/// assert_eq!(tables.available_permits(), 5);
/// ```
pub struct Semaphore {
    /// Twice the number of permits that are there, and CONTENDED.
    word: AtomicUsize,
    /// All permits there are: those that are there, and those that are held.
    total: AtomicUsize,
    limit: usize,
    /// Each offers the number that it wants.
    waiters: WaitQueue<(), usize>,
}

impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}

const CONTENDED: usize = 1;
const ONE: usize = 2;

/// How many waiters are woken at a time.
const BATCH: usize = 16;

/// Permits of a [`Semaphore`], which are given back when this is dropped.
#[must_use = "if unused the permits are given back immediately"]
#[clippy::has_significant_drop]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

/// Permits of a [`Semaphore`] that keep it alive: to be given along, to a coroutine or a connection.
#[must_use = "if unused the permits are given back immediately"]
#[clippy::has_significant_drop]
pub struct OwnedSemaphorePermit {
    semaphore: Arc<Semaphore>,
    permits: usize,
}

impl Semaphore {
    /// The most permits that a semaphore can have.
    pub const MAX_PERMITS: usize = usize::MAX >> 2;

    /// A semaphore with so many permits, to which [`add_permits`](Self::add_permits) may add.
    ///
    /// # Panics
    /// If they are more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    #[must_use]
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore::with_limit(permits, Semaphore::MAX_PERMITS)
    }

    /// A semaphore that never has more permits than these: gevent's `BoundedSemaphore`.
    ///
    /// # Panics
    /// If they are more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    #[must_use]
    pub const fn bounded(permits: usize) -> Semaphore {
        Semaphore::with_limit(permits, permits)
    }

    const fn with_limit(permits: usize, limit: usize) -> Semaphore {
        assert!(permits <= Semaphore::MAX_PERMITS, "too many permits");
        Semaphore {
            word: AtomicUsize::new(permits * ONE),
            total: AtomicUsize::new(permits),
            limit,
            waiters: WaitQueue::new(()),
        }
    }

    /// How many permits could be had at this moment.
    #[inline]
    pub fn available_permits(&self) -> usize {
        self.word.load(Ordering::Acquire) / ONE
    }

    /// Adds permits, for those who wait and those who will. One that was [forgotten](SemaphorePermit::forget) is
    /// replaced by this.
    ///
    /// # Errors
    /// If the semaphore would have more than it may: for one that is [`bounded`](Self::bounded), more than it
    /// began with, including those that are held. Then none is added.
    pub fn add_permits(&self, permits: usize) -> Result<(), TooManyPermits> {
        let add = |total: usize| total.checked_add(permits).filter(|&total| total <= self.limit);
        self.total
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .map_err(|_| TooManyPermits)?;
        self.give_back(permits);
        Ok(())
    }

    // ---- the permits themselves -----------------------------------------------------------------------

    #[inline(always)]
    fn try_take(&self, permits: usize) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & CONTENDED == 0 && word / ONE >= permits {
            let next = word - permits * ONE;
            match self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// False if the deadline has passed. Unwinds, without permits, if the coroutine is killed meanwhile.
    #[inline(always)]
    #[track_caller]
    fn take(&self, permits: usize, timeout: Option<Duration>) -> bool {
        // Nobody ever has more, so that there is no overflow.
        permits <= Semaphore::MAX_PERMITS && self.try_take(permits) || self.wait(permits, timeout)
    }

    #[cold]
    #[track_caller]
    fn wait(&self, permits: usize, timeout: Option<Duration>) -> bool {
        assert!(permits <= self.limit, "more permits are asked for than the semaphore may have");
        let deadline = timeout.and_then(Deadline::after).map(|deadline| deadline.0);
        let reason = Reason::Wait("permits of a Semaphore");
        let waited = self.waiters.wait(reason, deadline, Some(permits), |queue, _| {
            self.take_or_mark(permits, queue.waiting() == 0).then_some(())
        });
        match waited {
            Ok(Waited::Attempted(()) | Waited::Granted(_)) => true,
            Err((woken, _)) => {
                self.admit();
                if woken != Woken::TimedOut {
                    rt::unwind(woken);
                }
                false
            }
        }
    }

    /// Under the queue's lock: takes permits, or makes sure that whoever gives some back looks at the queue.
    fn take_or_mark(&self, permits: usize, may: bool) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let takes = may && word / ONE >= permits;
            // If it may take some, then nobody waits.
            let next = if takes { (word & !CONTENDED) - permits * ONE } else { word | CONTENDED };
            match self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return takes,
                Err(now) => word = now,
            }
        }
    }

    #[inline(always)]
    fn give_back(&self, permits: usize) {
        let before = self.word.fetch_add(permits * ONE, Ordering::Release);
        if before & CONTENDED != 0 {
            self.admit();
        }
    }

    /// Hands permits to those at the head of the queue, as far as they go.
    #[cold]
    fn admit(&self) {
        let mut done = false;
        while !done {
            let mut wakes = [const { None }; BATCH];
            {
                let mut queue = self.waiters.lock();
                for slot in &mut wakes {
                    // Acquire: what those did who have given permits back, which is passed on with the grant.
                    let there = self.word.load(Ordering::Acquire) / ONE;
                    let first = queue.first_offer().copied();
                    let Some(wanted) = first.filter(|&wanted| wanted <= there) else {
                        done = true;
                        break;
                    };
                    // While somebody waits, permits are taken under the queue's lock only: they are still there.
                    self.word.fetch_sub(wanted * ONE, Ordering::Relaxed);
                    *slot = queue.grant_with(|_| ()).map(|((), unparker)| unparker);
                }
                if queue.waiting() == 0 {
                    self.word.fetch_and(!CONTENDED, Ordering::Relaxed);
                }
            }
            wakes.into_iter().flatten().for_each(Unparker::unpark);
        }
    }

    fn forget(&self, permits: usize) {
        self.total.fetch_sub(permits, Ordering::Relaxed);
    }

    #[inline(always)]
    fn permit(&self, permits: usize) -> SemaphorePermit<'_> {
        SemaphorePermit { semaphore: self, permits }
    }

    #[inline(always)]
    fn owned(self: &Arc<Self>, permits: usize) -> OwnedSemaphorePermit {
        OwnedSemaphorePermit { semaphore: Arc::clone(self), permits }
    }

    // ---- for a borrower ---------------------------------------------------------------------------------

    /// Takes a permit, and waits for it if there is none, or if others wait.
    ///
    /// Unwinds, without a permit, if the coroutine is killed or runs out of time meanwhile.
    #[inline]
    #[track_caller]
    pub fn acquire(&self) -> SemaphorePermit<'_> {
        self.acquire_many(1)
    }

    /// Takes so many permits, all at once, as [`acquire`](Self::acquire) takes one.
    ///
    /// # Panics
    /// If they are more than the semaphore may ever have, and would be waited for in vain.
    #[inline]
    #[track_caller]
    pub fn acquire_many(&self, permits: usize) -> SemaphorePermit<'_> {
        self.take(permits, None);
        self.permit(permits)
    }

    /// Takes a permit if there is one that nobody waits for.
    #[inline]
    pub fn try_acquire(&self) -> Option<SemaphorePermit<'_>> {
        self.try_acquire_many(1)
    }

    /// Takes so many permits if they are there and nobody waits.
    #[inline]
    pub fn try_acquire_many(&self, permits: usize) -> Option<SemaphorePermit<'_>> {
        (permits <= self.limit && self.try_take(permits)).then(|| self.permit(permits))
    }

    /// As [`acquire`](Self::acquire), for at most `timeout`.
    #[inline]
    #[track_caller]
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<SemaphorePermit<'_>> {
        self.acquire_many_timeout(1, timeout)
    }

    /// As [`acquire_many`](Self::acquire_many), for at most `timeout`.
    ///
    /// # Panics
    /// As `acquire_many`.
    #[inline]
    #[track_caller]
    pub fn acquire_many_timeout(
        &self,
        permits: usize,
        timeout: Duration,
    ) -> Option<SemaphorePermit<'_>> {
        self.take(permits, Some(timeout)).then(|| self.permit(permits))
    }

    // ---- for an owner -----------------------------------------------------------------------------------

    /// As [`acquire`](Self::acquire), for a permit that keeps the semaphore alive.
    ///
    /// # Examples
    /// ```
    /// use greenling::sync::{Arc, Semaphore};
    ///
    /// let slots = Arc::new(Semaphore::new(2));
    /// let jobs: Vec<_> = (0..6)
    ///     .map(|n| {
    ///         let slot = slots.acquire_owned(); // waits here, before there are too many coroutines
    ///         greenling::spawn(move || {
    ///             let _slot = slot;
    ///             n * n
    ///         })
    ///     })
    ///     .collect();
    /// assert_eq!(greenling::join_all(jobs).into_iter().flatten().sum::<i32>(), 55);
    /// ```
    #[inline]
    #[track_caller]
    pub fn acquire_owned(self: &Arc<Self>) -> OwnedSemaphorePermit {
        self.acquire_many_owned(1)
    }

    /// As [`acquire_many`](Self::acquire_many), for permits that keep the semaphore alive.
    ///
    /// # Panics
    /// As `acquire_many`.
    #[inline]
    #[track_caller]
    pub fn acquire_many_owned(self: &Arc<Self>, permits: usize) -> OwnedSemaphorePermit {
        self.take(permits, None);
        self.owned(permits)
    }

    /// As [`try_acquire`](Self::try_acquire), for a permit that keeps the semaphore alive.
    #[inline]
    pub fn try_acquire_owned(self: &Arc<Self>) -> Option<OwnedSemaphorePermit> {
        self.try_acquire_many_owned(1)
    }

    /// As [`try_acquire_many`](Self::try_acquire_many), for permits that keep the semaphore alive.
    #[inline]
    pub fn try_acquire_many_owned(
        self: &Arc<Self>,
        permits: usize,
    ) -> Option<OwnedSemaphorePermit> {
        (permits <= self.limit && self.try_take(permits)).then(|| self.owned(permits))
    }

    /// As [`acquire_timeout`](Self::acquire_timeout), for a permit that keeps the semaphore alive.
    #[inline]
    #[track_caller]
    pub fn acquire_owned_timeout(
        self: &Arc<Self>,
        timeout: Duration,
    ) -> Option<OwnedSemaphorePermit> {
        self.take(1, Some(timeout)).then(|| self.owned(1))
    }
}

/// What both kinds of permits can do.
macro_rules! permit_methods {
    ($type:ty, $other:ident => $semaphore:expr) => {
        impl $type {
            /// How many they are.
            #[inline]
            pub fn permits(&self) -> usize {
                self.permits
            }

            /// Does not give them back: the semaphore has so many less from now on.
            pub fn forget(mut self) {
                let permits = mem::take(&mut self.permits);
                self.semaphore.forget(permits);
            }

            /// Takes `permits` off these, to be given back on their own; `None` if they are not so many.
            pub fn split(&mut self, permits: usize) -> Option<Self> {
                self.permits = self.permits.checked_sub(permits)?;
                let $other = &self.semaphore;
                Some(Self { semaphore: $semaphore, permits })
            }
        }

        impl Drop for $type {
            #[inline]
            fn drop(&mut self) {
                if self.permits > 0 {
                    self.semaphore.give_back(self.permits);
                }
            }
        }
    };
}

permit_methods!(SemaphorePermit<'_>, semaphore => semaphore);
permit_methods!(OwnedSemaphorePermit, semaphore => Arc::clone(semaphore));

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available_permits", &self.available_permits())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SemaphorePermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphorePermit").field("permits", &self.permits).finish_non_exhaustive()
    }
}

impl fmt::Debug for OwnedSemaphorePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedSemaphorePermit")
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}

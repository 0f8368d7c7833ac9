//! What all queues have in common.
//!
//! One [`WaitQueue`] is around the items. It holds those who wait for an item or those who wait for room,
//! never both: a getter waits only while there is no item and no putter, and a putter only while there is
//! no room and no getter. Each gives to the other directly, in the order in which they came:
//!
//! ```text
//!   put   somebody waits for an item? hand it to the first
//!         room? store it
//!         else wait, and offer it
//!   get   an item? take it, and store the offer of the first who waits for room
//!         an offer? take that (a queue without room has nothing else)
//!         else wait
//! ```
//!
//! Since an item changes hands under the lock, it is at every moment in one place: with the putter, in the
//! store, or with the getter. A wait that is interrupted leaves it where it is.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use super::store::Store;
use crate::error::{GetTimeoutError, PutTimeoutError, TryGetError, TryPutError};
use crate::rt::{self, Deadline, Locked, Reason, Unparker, WaitQueue, Waited, Woken};

pub(crate) struct Core<T, S> {
    items: WaitQueue<State<S>, T>,
    /// Those who wait to see an item without taking it. Locked before `items`.
    peekers: WaitQueue<()>,
    /// The coroutine that executes foreign code (a comparison, a clone) under the lock of `items`; 0 for
    /// none.
    foreign: AtomicU64,
}

pub(crate) struct State<S> {
    pub(super) store: S,
    pub(super) capacity: usize,
    closed: bool,
    /// Whether those who wait make offers.
    offers: bool,
    /// Whether somebody waits in `peekers`.
    peeking: bool,
    /// How many items the queue has ever taken from putters.
    accepted: u64,
}

/// Wakes the other party when it is dropped, that is, after the lock and also if foreign code panics.
#[derive(Default)]
pub(crate) struct Wake(Unparker);

impl Wake {
    #[cold]
    fn unpark(&mut self) {
        std::mem::take(&mut self.0).unpark();
    }
}

impl Drop for Wake {
    #[inline(always)]
    fn drop(&mut self) {
        // One of the same thread has been woken by now.
        if self.0.is_pending() {
            self.unpark();
        }
    }
}

impl<T, S> Core<T, S> {
    pub(crate) const fn new(store: S, capacity: usize) -> Self {
        let state =
            State { store, capacity, closed: false, offers: false, peeking: false, accepted: 0 };
        Core {
            items: WaitQueue::new(state),
            peekers: WaitQueue::new(()),
            foreign: AtomicU64::new(0),
        }
    }

    /// Exclusive access, for a moment.
    ///
    /// # Panics
    /// If a comparison or a clone of an item uses the queue, or waits while another coroutine of the
    /// thread uses it: they run under the lock, so that would be the end.
    #[inline]
    pub(super) fn lock(&self) -> Locked<'_, State<S>, T> {
        self.refuse_reentry();
        self.items.lock()
    }

    #[inline]
    fn refuse_reentry(&self) {
        let foreign = self.foreign.load(Ordering::Relaxed);
        if foreign != 0 && foreign == rt::identity().1 {
            panic!(
                "a queue is used while the comparison or clone of one of its items is under way"
            );
        }
    }

    /// Executes foreign code under the lock.
    #[inline]
    fn foreign<R>(&self, is_foreign: bool, code: impl FnOnce() -> R) -> R {
        struct Reset<'a>(&'a AtomicU64);
        impl Drop for Reset<'_> {
            fn drop(&mut self) {
                self.0.store(0, Ordering::Relaxed);
            }
        }
        let _reset = is_foreign.then(|| {
            self.foreign.store(rt::identity().1, Ordering::Relaxed);
            Reset(&self.foreign)
        });
        code()
    }

    /// For `select`.
    ///
    /// # Panics
    /// As `lock`.
    pub(crate) fn items(&self) -> &WaitQueue<State<S>, T> {
        self.refuse_reentry();
        &self.items
    }

    pub(super) fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn close(&self) {
        self.refuse_reentry();
        // Putters get their offers back, getters nothing; nobody waits any more after this.
        self.items.update_and_wake_all(|state| state.closed = true);
        self.peekers.update_and_wake_all(|()| ());
    }
}

impl<T, S: Default> Core<T, S> {
    /// Closes the queue and takes all that is in it.
    pub(crate) fn close_and_clear(&self) -> S {
        self.refuse_reentry();
        let left = self.items.update_and_wake_all(|state| {
            state.closed = true;
            std::mem::take(&mut state.store)
        });
        self.peekers.update_and_wake_all(|()| ());
        left
    }
}

impl<T, S: Store<T>> Core<T, S> {
    // ---- putting ------------------------------------------------------------------------------

    /// Hands the offered item over or stores it, if that needs no wait.
    #[inline]
    fn accept(
        &self,
        locked: &mut Locked<'_, State<S>, T>,
        offer: &mut Option<T>,
        wake: &mut Wake,
    ) -> bool {
        if !locked.offers && locked.waiting() > 0 {
            let item = offer.take().expect("a putter has an item");
            match locked.grant(item) {
                Ok(getter) => {
                    wake.0 = getter;
                    locked.accepted += 1;
                    return true;
                }
                Err(item) => *offer = Some(item),
            }
        }
        if locked.store.len() >= locked.capacity {
            return false;
        }
        locked.accepted += 1;
        let item = offer.take().expect("a putter has an item");
        self.foreign(S::COMPARES, || locked.store.push(item));
        true
    }

    /// To be called after a put.
    #[inline(always)]
    fn wake_peekers(&self, mut locked: Locked<'_, State<S>, T>) {
        if locked.peeking && locked.store.len() > 0 {
            locked.peeking = false;
            drop(locked);
            self.let_peekers_look();
        }
    }

    #[cold]
    fn let_peekers_look(&self) {
        self.peekers.update_and_wake_all(|()| ());
    }

    #[inline]
    pub(crate) fn try_put(&self, item: T) -> Result<(), TryPutError<T>> {
        let mut wake = Wake::default();
        let mut offer = Some(item);
        let mut locked = self.lock();
        let closed = locked.closed;
        if !closed && self.accept(&mut locked, &mut offer, &mut wake) {
            self.wake_peekers(locked);
            return Ok(());
        }
        drop(locked);
        let item = offer.expect("it was not accepted");
        Err(if closed { TryPutError::Closed(item) } else { TryPutError::Full(item) })
    }

    #[inline]
    #[track_caller]
    pub(crate) fn put(
        &self,
        item: T,
        reason: Reason,
        deadline: Option<Deadline>,
    ) -> Result<(), PutTimeoutError<T>> {
        match self.try_put(item) {
            Ok(()) => {
                rt::charge();
                Ok(())
            }
            Err(TryPutError::Closed(item)) => Err(PutTimeoutError::Closed(item)),
            Err(TryPutError::Full(item)) => self.wait_for_room(item, reason, deadline),
        }
    }

    #[cold]
    #[track_caller]
    fn wait_for_room(
        &self,
        item: T,
        reason: Reason,
        deadline: Option<Deadline>,
    ) -> Result<(), PutTimeoutError<T>> {
        self.refuse_reentry();
        let mut wake = Wake::default();
        let deadline = deadline.map(|deadline| deadline.0);
        let waited = self.items.wait(reason, deadline, Some(item), |locked, offer| {
            if locked.closed {
                return Some(offer.take());
            }
            if self.accept(locked, offer, &mut wake) {
                return Some(None);
            }
            locked.offers = true;
            None
        });
        drop(wake);
        match waited {
            Ok(Waited::Attempted(None)) => {
                self.wake_peekers(self.lock());
                Ok(())
            }
            // A getter has taken it, or made room and stored it.
            Ok(Waited::Granted(None)) => Ok(()),
            Ok(Waited::Attempted(Some(item)) | Waited::Granted(Some(item))) => {
                Err(PutTimeoutError::Closed(item))
            }
            Err((Woken::TimedOut, item)) => {
                Err(PutTimeoutError::Timeout(item.expect("nobody has taken it")))
            }
            // The item is dropped as we unwind.
            Err((interrupted, _item)) => rt::unwind(interrupted),
        }
    }

    // ---- getting ------------------------------------------------------------------------------

    /// Takes an item, if there is one, and lets the first who waits for room have its place.
    #[inline]
    pub(crate) fn take(
        &self,
        locked: &mut Locked<'_, State<S>, T>,
        wake: &mut Wake,
    ) -> Result<T, TryGetError> {
        let is_waited_for = locked.offers && locked.waiting() > 0;
        if is_waited_for && locked.store.len() <= locked.capacity {
            if let Some((offer, putter)) = locked.take_offer() {
                wake.0 = putter;
                locked.accepted += 1;
                if locked.store.len() == 0 {
                    return Ok(offer); // a queue without room
                }
                let exchanged = self.foreign(S::COMPARES, || locked.store.exchange(offer));
                return exchanged.ok_or(TryGetError::Empty);
            }
        }
        match self.foreign(S::COMPARES, || locked.store.pop()) {
            Some(item) => Ok(item),
            None if locked.closed => Err(TryGetError::Closed),
            None => Err(TryGetError::Empty),
        }
    }

    /// As `take`, but leaves all that is there in `rest`, which must be empty, if there is no bound: so that
    /// the next ones can be had without the lock. Nobody else must get items from this queue meanwhile.
    #[inline]
    pub(crate) fn take_all(
        &self,
        locked: &mut Locked<'_, State<S>, T>,
        wake: &mut Wake,
        rest: &mut S,
    ) -> Result<T, TryGetError> {
        if locked.capacity == usize::MAX && locked.store.len() > 0 {
            std::mem::swap(&mut locked.store, rest);
            return rest.pop().ok_or(TryGetError::Empty);
        }
        self.take(locked, wake)
    }

    /// Whether a getter need not wait; if it must, its offer is none. For `select`.
    pub(crate) fn is_ready(locked: &mut Locked<'_, State<S>, T>) -> bool {
        let is_offered = locked.offers && locked.waiting() > 0;
        let ready = locked.store.len() > 0 || locked.closed || is_offered;
        locked.offers &= ready;
        ready
    }

    #[inline]
    pub(crate) fn try_get(&self) -> Result<T, TryGetError> {
        self.try_get_by(|locked, wake| self.take(locked, wake))
    }

    /// As `try_get`, with something else than `take`.
    #[inline]
    pub(crate) fn try_get_by(
        &self,
        take: impl FnOnce(&mut Locked<'_, State<S>, T>, &mut Wake) -> Result<T, TryGetError>,
    ) -> Result<T, TryGetError> {
        let mut wake = Wake::default();
        let mut locked = self.lock();
        let taken = take(&mut locked, &mut wake);
        drop(locked);
        taken
    }

    #[inline(always)]
    #[track_caller]
    pub(crate) fn get(
        &self,
        reason: Reason,
        deadline: Option<Deadline>,
    ) -> Result<T, GetTimeoutError> {
        self.get_by(reason, deadline, |locked, wake| self.take(locked, wake))
    }

    /// As `get`, with something else than `take` to take an item if there is one.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn get_by(
        &self,
        reason: Reason,
        deadline: Option<Deadline>,
        take: impl FnOnce(&mut Locked<'_, State<S>, T>, &mut Wake) -> Result<T, TryGetError>,
    ) -> Result<T, GetTimeoutError> {
        self.refuse_reentry();
        let mut wake = Wake::default();
        let deadline = deadline.map(|deadline| deadline.0);
        let waited =
            self.items.wait(reason, deadline, None, |locked, _| match take(locked, &mut wake) {
                Err(TryGetError::Empty) => {
                    locked.offers = false;
                    None
                }
                taken => Some(taken),
            });
        drop(wake);
        match waited {
            Ok(Waited::Attempted(Ok(item))) => {
                rt::charge();
                Ok(item)
            }
            Ok(Waited::Granted(Some(item))) => Ok(item),
            Ok(Waited::Attempted(Err(_)) | Waited::Granted(None)) => Err(GetTimeoutError::Closed),
            Err((Woken::TimedOut, _)) => Err(GetTimeoutError::Timeout),
            Err((interrupted, _)) => rt::unwind(interrupted),
        }
    }

    // ---- looking ------------------------------------------------------------------------------

    pub(super) fn len(&self) -> usize {
        self.lock().store.len()
    }

    pub(super) fn is_full(&self) -> bool {
        let locked = self.lock();
        locked.store.len() >= locked.capacity
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        let capacity = self.lock().capacity;
        (capacity != usize::MAX).then_some(capacity)
    }

    pub(super) fn try_peek(&self) -> Result<T, TryGetError>
    where
        T: Clone,
    {
        let locked = self.lock();
        match locked.store.peek() {
            Some(item) => Ok(self.foreign(true, || item.clone())),
            None if locked.closed => Err(TryGetError::Closed),
            None => Err(TryGetError::Empty),
        }
    }

    #[track_caller]
    pub(super) fn peek(&self, deadline: Option<Deadline>) -> Result<T, GetTimeoutError>
    where
        T: Clone,
    {
        loop {
            match self.try_peek() {
                Ok(item) => return Ok(item),
                Err(TryGetError::Closed) => return Err(GetTimeoutError::Closed),
                Err(TryGetError::Empty) => {}
            }
            let reason = Reason::Wait("an item of a queue");
            let ns = deadline.map(|deadline| deadline.0);
            let waited = self.peekers.wait_until(reason, ns, |()| {
                let mut locked = self.items.lock();
                let seen = locked.store.len() > 0 || locked.closed;
                locked.peeking |= !seen;
                seen.then_some(())
            });
            match waited {
                Ok(()) => {}
                Err(Woken::TimedOut) => return Err(GetTimeoutError::Timeout),
                Err(interrupted) => rt::unwind(interrupted),
            }
        }
    }
}

//! The one place where coroutines and threads wait for each other: a FIFO of waiters around a value.
//!
//! A [`WaitQueue<S, M>`] guards a small state `S` and the queue of those who wait for it to change, by
//! one lock. Waiting is *look, enlist, park, leave*:
//!
//! ```text
//!   waiter                                    granter
//!   lock; state good? done                    lock; change the state
//!         else enlist; unlock                       unlink the first node, put a message
//!   park                                            into it, mark it granted, note who waits
//!   granted? take the message, done                 (or wake it, on its own thread); unlock
//!   else lock; unlink: timed out or killed    unpark
//! ```
//!
//! A grant is a fact once it is made: a waiter that is granted and times out, or is killed, in the same
//! moment has been granted. So no wake-up is lost to a waiter that has given up, and a value that was
//! handed over is never dropped. What a grant means is the user's: a unit of something handed over
//! (`M = ()` for a permit, a value for a channel), or just "look again".
//!
//! A waiter may enlist in several queues at once ([`Selection`]). The first grant *claims* it; a granter
//! that comes second finds the claim taken and goes on to the next waiter. Whoever is in one queue only is
//! claimed by that queue's lock.
//!
//! Nodes live on the waiters' stacks: enlisting allocates nothing. That is sound because a waiter leaves
//! only after its node is unlinked, because parking does not unwind, and because the stack of a coroutine
//! that never runs again is never reused. A waiter's task is not counted either: while a node is linked its
//! waiter has not gone on, so its task has not finished.

use std::cell::{Cell, UnsafeCell};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use super::hub::{self, Unparker};
use super::lock::{Guard, Lock};
use super::task::{Reason, TaskRef, Woken};

/// See the module's documentation.
pub(crate) struct WaitQueue<S, M = ()> {
    lock: Lock<Inner<S, M>>,
}

struct Inner<S, M> {
    state: S,
    head: *const Node<M>,
    tail: *const Node<M>,
    len: usize,
}

// SAFETY: the pointers lead to nodes that are touched only under the lock, whatever the thread, and
// whose messages are `Send`.
unsafe impl<S: Send, M: Send> Send for Inner<S, M> {}

/// One who waits, in one queue or in several.
struct Waiter {
    /// 0, or 1 + the index of the node that was granted. The granter's last access.
    granted: AtomicU32,
    /// Whether it may be in several queues, so that their granters have to compete for it.
    several: bool,
    /// Whom to wake. It does not finish before it has left all queues.
    task: TaskRef,
}

impl Waiter {
    #[inline(always)]
    fn new(task: TaskRef, several: bool) -> Waiter {
        Waiter { granted: AtomicU32::new(0), several, task }
    }

    #[inline]
    fn grant(&self) -> Option<u32> {
        // Acquire: the message that was put into the node.
        self.granted.load(Ordering::Acquire).checked_sub(1)
    }
}

/// A waiter's place in one queue.
///
/// All fields are guarded by the queue's lock while the node is linked; once it is granted they belong to
/// the waiter alone.
pub(crate) struct Node<M> {
    waiter: Cell<*const Waiter>,
    /// 1 + its place among the waiter's nodes.
    index: Cell<u32>,
    linked: Cell<bool>,
    /// What the waiter offers, or what it is granted.
    message: UnsafeCell<Option<M>>,
    prev: Cell<*const Node<M>>,
    next: Cell<*const Node<M>>,
}

impl<M> Node<M> {
    pub(crate) fn new(offer: Option<M>) -> Self {
        Node {
            waiter: Cell::new(ptr::null()),
            index: Cell::new(0),
            linked: Cell::new(false),
            message: UnsafeCell::new(offer),
            prev: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
        }
    }
}

/// Where in the queue to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Last,
    /// For one who was told to look again and looked in vain.
    First,
}

impl<S, M> Inner<S, M> {
    /// # Safety
    /// `node` and `waiter` must stay where they are until the node is unlinked.
    unsafe fn enlist(&mut self, node: &Node<M>, waiter: &Waiter, index: u32) {
        // SAFETY: by contract.
        unsafe { self.enlist_at(Place::Last, node, waiter, index) };
    }

    /// # Safety
    /// As for [`enlist`](Self::enlist).
    #[inline(always)]
    unsafe fn enlist_at(&mut self, place: Place, node: &Node<M>, waiter: &Waiter, index: u32) {
        node.waiter.set(waiter);
        node.index.set(index + 1);
        node.linked.set(true);
        self.len += 1;
        if place == Place::First && !self.head.is_null() {
            node.prev.set(ptr::null());
            node.next.set(self.head);
            // SAFETY: the head is linked and hence alive.
            unsafe { (*self.head).prev.set(node) };
            self.head = node;
            return;
        }
        node.next.set(ptr::null());
        node.prev.set(self.tail);
        // SAFETY: the tail is null or a node that is linked and hence alive.
        match unsafe { self.tail.as_ref() } {
            None => self.head = node,
            Some(tail) => tail.next.set(node),
        }
        self.tail = node;
    }

    /// # Safety
    /// `node` must be linked into this queue.
    unsafe fn unlink(&mut self, node: &Node<M>) {
        let (prev, next) = (node.prev.get(), node.next.get());
        // SAFETY: the neighbours of a linked node are linked, hence alive, or null.
        match unsafe { prev.as_ref() } {
            None => self.head = next,
            Some(prev) => prev.next.set(next),
        }
        // SAFETY: as above.
        match unsafe { next.as_ref() } {
            None => self.tail = prev,
            Some(next) => next.prev.set(prev),
        }
        node.linked.set(false);
        self.len -= 1;
    }

    /// Takes the first waiter off the queue that nobody else has claimed, exchanges messages with it by
    /// `exchange`, and returns its unparker.
    #[inline]
    fn grant_first<R>(
        &mut self,
        exchange: impl FnOnce(&mut Option<M>) -> R,
    ) -> Option<(R, Unparker)> {
        loop {
            let node = NonNull::new(self.head.cast_mut())?;
            // SAFETY: a linked node is alive, and so is its waiter; their fields are ours under the lock.
            let node = unsafe { node.as_ref() };
            // SAFETY: it is the head.
            unsafe { self.unlink(node) };
            // SAFETY: as above. (A waiter that has been claimed elsewhere still has to take this lock, to
            // see that this node is unlinked, before it goes on.)
            let waiter = unsafe { &*node.waiter.get() };
            if waiter.granted.load(Ordering::Relaxed) != 0 {
                continue;
            }
            let index = node.index.get();
            if waiter.several {
                // Somebody else may claim it now.
                let claimed = waiter.granted.compare_exchange(
                    0,
                    CLAIM | index,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if claimed.is_err() {
                    continue;
                }
            }
            // SAFETY: as above; the waiter looks at the message only after the grant.
            let result = exchange(unsafe { &mut *node.message.get() });
            // SAFETY: it does not go on, let alone finish, before the grant, which comes after this.
            let unparker = unsafe { Unparker::wake_or_new(waiter.task) };
            // The last access: from here on the waiter may be gone. Release: the message.
            waiter.granted.store(index, Ordering::Release);
            return Some((result, unparker));
        }
    }
}

/// Set in `granted` while a granter is at work: claimed, but the message is not there yet.
const CLAIM: u32 = 1 << 31;

/// Exclusive access to a queue's state and waiters. Wake the unparkers that it gives only after it is
/// dropped.
pub(crate) struct Locked<'a, S, M> {
    inner: Guard<'a, Inner<S, M>>,
}

impl<S, M> Deref for Locked<'_, S, M> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        &self.inner.state
    }
}

impl<S, M> DerefMut for Locked<'_, S, M> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        &mut self.inner.state
    }
}

impl<S, M> Locked<'_, S, M> {
    /// How many wait. Some of them may have been claimed by another queue.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.inner.len
    }

    /// Hands `message` to the first waiter; gives it back if there is none.
    pub(crate) fn grant(&mut self, message: M) -> Result<Unparker, M> {
        let mut message = Some(message);
        match self.inner.grant_first(|slot| *slot = message.take()) {
            Some(((), unparker)) => Ok(unparker),
            None => Err(message.expect("without a waiter there was no exchange")),
        }
    }

    /// What the first waiter offers. Not for queues that take part in a [`Selection`]: there it may have been
    /// claimed already.
    pub(crate) fn first_offer(&self) -> Option<&M> {
        // SAFETY: a linked node is alive, and its message is ours under the lock.
        let node = unsafe { self.inner.head.as_ref()? };
        // SAFETY: as above.
        unsafe { (*node.message.get()).as_ref() }
    }

    /// Lets the first waiter go on; `exchange` sees its offer, and leaves there what it is granted.
    pub(crate) fn grant_with<R>(
        &mut self,
        exchange: impl FnOnce(&mut Option<M>) -> R,
    ) -> Option<(R, Unparker)> {
        self.inner.grant_first(exchange)
    }

    /// Takes what the first waiter offers, and lets it go on.
    pub(crate) fn take_offer(&mut self) -> Option<(M, Unparker)> {
        let (offer, unparker) = self.inner.grant_first(Option::take)?;
        Some((offer.expect("whoever waits in this queue makes an offer"), unparker))
    }
}

impl<S, M> WaitQueue<S, M> {
    pub(crate) const fn new(state: S) -> Self {
        let inner = Inner { state, head: ptr::null(), tail: ptr::null(), len: 0 };
        WaitQueue { lock: Lock::new(inner) }
    }

    /// Exclusive access, for a few instructions: no foreign code, no allocation of note, no wait.
    #[inline(always)]
    pub(crate) fn lock(&self) -> Locked<'_, S, M> {
        Locked { inner: self.lock.lock() }
    }

    /// In the child of a fork: makes a queue new whose lock was held by a thread that is not here. What it
    /// held may be half changed, so it is forgotten.
    pub(crate) fn renew_if_locked(&self, state: impl FnOnce() -> S) {
        let fresh = Inner { state: state(), head: ptr::null(), tail: ptr::null(), len: 0 };
        self.lock.replace_if_held(fresh);
    }

    /// Waits to be granted something, unless `attempt` finds, under the lock, that there is no need to.
    /// With `offer` the granter finds that in the node.
    ///
    /// It never unwinds.
    ///
    /// # Errors
    /// Why the wait ended without a grant, and the offer.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn wait<R>(
        &self,
        reason: Reason,
        deadline: Option<u64>,
        offer: Option<M>,
        attempt: impl FnOnce(&mut Locked<'_, S, M>, &mut Option<M>) -> Option<R>,
    ) -> Result<Waited<R, M>, (Woken, Option<M>)> {
        self.wait_at(Place::Last, reason, deadline, offer, attempt, || ())
    }

    /// As [`wait`](Self::wait), at a place in the queue, and with something to do between enlisting and
    /// parking, when a granter can already see the waiter. That must neither wait nor unwind.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn wait_at<R>(
        &self,
        place: Place,
        reason: Reason,
        deadline: Option<u64>,
        offer: Option<M>,
        attempt: impl FnOnce(&mut Locked<'_, S, M>, &mut Option<M>) -> Option<R>,
        enlisted: impl FnOnce(),
    ) -> Result<Waited<R, M>, (Woken, Option<M>)> {
        let hub = hub::hub();
        let mut node = Node::new(offer);
        let waiter;
        {
            let mut locked = self.lock();
            if let Some(done) = attempt(&mut locked, node.message.get_mut()) {
                return Ok(Waited::Attempted(done));
            }
            waiter = Waiter::new(hub.current_ref(), false);
            // SAFETY: the node is unlinked below, before this frame ends, unless a grant has unlinked
            // it; nothing in between unwinds.
            unsafe { locked.inner.enlist_at(place, &node, &waiter, 0) };
        }
        enlisted();
        let mut gave_up = None;
        loop {
            if let Some(index) = waiter.grant() {
                if index & CLAIM == 0 {
                    return Ok(Waited::Granted(node.message.into_inner()));
                }
                std::hint::spin_loop(); // the granter is half a dozen instructions from done
                continue;
            }
            if let Some(woken) = gave_up {
                return Err((woken, node.message.into_inner()));
            }
            let woken = hub.park(reason, deadline);
            if woken != Woken::Unparked {
                let mut locked = self.lock();
                if node.linked.get() {
                    // SAFETY: just seen.
                    unsafe { locked.inner.unlink(&node) };
                }
                gave_up = Some(woken);
            }
        }
    }

    /// Waits until `attempt` says that the state is good. It is called under the lock, at first and again
    /// after every grant, which means no more than "look again"; it must be short and must not unwind.
    ///
    /// # Errors
    /// Why the wait ended without that.
    #[track_caller]
    pub(crate) fn wait_until<R>(
        &self,
        reason: Reason,
        deadline: Option<u64>,
        mut attempt: impl FnMut(&mut S) -> Option<R>,
    ) -> Result<R, Woken> {
        loop {
            match self.wait(reason, deadline, None, |state, _| attempt(state)) {
                Ok(Waited::Attempted(done)) => return Ok(done),
                Ok(Waited::Granted(_)) => {}
                Err((woken, _)) => return attempt(&mut self.lock()).ok_or(woken),
            }
        }
    }

    /// Changes the state and lets all who wait at this moment look again, in the order in which they came.
    #[inline]
    pub(crate) fn update_and_wake_all<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        let mut locked = self.lock();
        let result = change(&mut locked);
        // Who enlists anew after being woken is not woken again.
        for _ in 0..locked.waiting() {
            let Some(((), unparker)) = locked.inner.grant_first(|_| ()) else { break };
            drop(locked);
            unparker.unpark();
            locked = self.lock();
        }
        result
    }
}

/// How a wait has ended well.
pub(crate) enum Waited<R, M> {
    /// Nothing had to be waited for.
    Attempted(R),
    /// A granter came. The message, if there was an exchange of messages.
    Granted(Option<M>),
}

/// A wait in several queues at once, for the first that grants.
///
/// Enlist with [`enlist`](Self::enlist), then [`park`](Self::park); then every queue must be left with
/// [`leave`](Self::leave), in any order, before the nodes go.
pub(crate) struct Selection {
    waiter: Waiter,
}

impl Selection {
    pub(crate) fn new() -> Selection {
        Selection { waiter: Waiter::new(hub::hub().current_ref(), true) }
    }

    /// Enlists `node` as the one with this index. If there is no need to wait, because `ready` says so under
    /// the lock, it claims the wait and returns what `take` takes. Nothing happens if a queue that was
    /// enlisted before has granted already.
    ///
    /// # Safety
    /// `self` and `node` must stay where they are until `leave` has been called for the node, also when
    /// the caller unwinds.
    pub(crate) unsafe fn enlist<S, M, R>(
        &self,
        queue: &WaitQueue<S, M>,
        node: &Node<M>,
        index: u32,
        ready: impl FnOnce(&mut Locked<'_, S, M>) -> bool,
        take: impl FnOnce(&mut Locked<'_, S, M>) -> R,
    ) -> Option<R> {
        let mut locked = queue.lock();
        if ready(&mut locked) {
            return self.claim().then(|| take(&mut locked));
        }
        // SAFETY: by contract.
        unsafe { locked.inner.enlist(node, &self.waiter, index) };
        None
    }

    /// Keeps granters away from now on; false if one was quicker.
    fn claim(&self) -> bool {
        let claim = self.waiter.granted.compare_exchange(
            0,
            SELF_CLAIMED,
            Ordering::Acquire,
            Ordering::Acquire,
        );
        claim.is_ok()
    }

    /// The index of the node that was granted, once its message is there.
    pub(crate) fn granted(&self) -> Option<u32> {
        loop {
            let granted = self.waiter.granted.load(Ordering::Acquire);
            if granted == 0 || granted == SELF_CLAIMED {
                return None;
            }
            if granted & CLAIM == 0 {
                return Some(granted - 1);
            }
            std::hint::spin_loop();
        }
    }

    /// Parks until one of the queues grants. It never unwinds.
    #[track_caller]
    pub(crate) fn park(&self, reason: Reason, deadline: Option<u64>) -> Result<u32, Woken> {
        loop {
            if let Some(index) = self.granted() {
                return Ok(index);
            }
            let woken = hub::hub().park(reason, deadline);
            if woken != Woken::Unparked {
                // A grant that comes before the claim counts.
                return if self.claim() { Err(woken) } else { Ok(self.wait_for_grant()) };
            }
        }
    }

    fn wait_for_grant(&self) -> u32 {
        loop {
            if let Some(index) = self.granted() {
                return index;
            }
            std::hint::spin_loop();
        }
    }

    /// Takes the node out of the queue if it is still there, and returns its message.
    pub(crate) fn leave<S, M>(&self, queue: &WaitQueue<S, M>, node: &Node<M>) -> Option<M> {
        let mut locked = queue.lock();
        if node.linked.get() {
            // SAFETY: just seen, and a node is only ever linked into one queue.
            unsafe { locked.inner.unlink(node) };
        }
        drop(locked);
        // SAFETY: unlinked, and if it is the granted one, then `granted` has seen the granter's last
        // access.
        unsafe { (*node.message.get()).take() }
    }
}

/// In `granted`: the waiter itself has decided that it wants no more grants.
const SELF_CLAIMED: u32 = u32::MAX;

#[cfg(test)]
mod tests;

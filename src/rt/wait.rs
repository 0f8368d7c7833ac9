//! The one place where coroutines and threads wait for each other: a FIFO of waiters around a value.
//!
//! A [`WaitQueue<S>`] guards a small state `S` and the queue of those who wait for it to change, by
//! one lock. Waiting is *look, enlist, park, leave*:
//!
//! ```text
//!   waiter                                    waker
//!   lock; state good? done                    lock; change the state
//!         else enlist; unlock                       grant the first waiter (unlink it,
//!   park                                            take its unparker); unlock
//!   lock; granted? done                       unpark
//!         else unlink; timed out or killed
//! ```
//!
//! A grant is a fact once it is made: a waiter that is granted and times out in the same moment has
//! been granted. So no wake-up is lost to a waiter that has given up, and a value that was handed over
//! is never dropped. A node that is not granted is unlinked by its waiter, under the lock, before the
//! waiter goes on or unwinds.
//!
//! Nodes live on the waiters' stacks: enlisting allocates nothing. That is sound because a waiter
//! leaves `wait` only after its node is unlinked, because parking does not unwind, and because the stack
//! of a coroutine that never runs again is never reused.

use std::cell::{Cell, UnsafeCell};
use std::ptr::{self, NonNull};

use super::hub::{self, Unparker};
use super::lock::Lock;
use super::task::{Reason, Woken};

/// See the module's documentation.
pub(crate) struct WaitQueue<S> {
    lock: Lock<Inner<S>>,
}

struct Inner<S> {
    state: S,
    head: *const Node,
    tail: *const Node,
}

// SAFETY: the pointers lead to nodes that are touched only under the lock, whatever the thread.
unsafe impl<S: Send> Send for Inner<S> {}

/// One who waits. Every field is guarded by the queue's lock.
struct Node {
    /// Taken by whoever grants.
    unparker: UnsafeCell<Option<Unparker>>,
    granted: Cell<bool>,
    prev: Cell<*const Node>,
    next: Cell<*const Node>,
}

impl<S> Inner<S> {
    /// # Safety
    /// `node` must stay where it is until it is unlinked.
    unsafe fn enlist(&mut self, node: &Node) {
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
    unsafe fn unlink(&mut self, node: &Node) {
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
    }

    /// Takes the first waiter off the queue; it counts as woken from now on.
    fn grant(&mut self) -> Option<Unparker> {
        let node = NonNull::new(self.head.cast_mut())?;
        // SAFETY: a linked node is alive, and its fields are ours under the lock.
        let node = unsafe { node.as_ref() };
        // SAFETY: it is the head.
        unsafe { self.unlink(node) };
        node.granted.set(true);
        // SAFETY: as above; the waiter itself looks at the unparker only before it enlists.
        unsafe { (*node.unparker.get()).take() }
    }
}

impl<S> WaitQueue<S> {
    pub(crate) const fn new(state: S) -> Self {
        WaitQueue { lock: Lock::new(Inner { state, head: ptr::null(), tail: ptr::null() }) }
    }

    /// Looks at the state, or changes it in a way that nobody waits for.
    #[inline]
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut S) -> R) -> R {
        look(&mut self.lock.lock().state)
    }

    /// Waits until `attempt` says that the state is good. It is called under the lock, at first and
    /// again after every wake-up; it must be short and must not unwind.
    ///
    /// `Err` says why the wait ended without that.
    #[track_caller]
    pub(crate) fn wait<R>(
        &self,
        reason: Reason,
        deadline: Option<u64>,
        mut attempt: impl FnMut(&mut S) -> Option<R>,
    ) -> Result<R, Woken> {
        let hub = hub::hub();
        loop {
            let node = Node {
                unparker: UnsafeCell::new(None),
                granted: Cell::new(false),
                prev: Cell::new(ptr::null()),
                next: Cell::new(ptr::null()),
            };
            {
                let mut inner = self.lock.lock();
                if let Some(done) = attempt(&mut inner.state) {
                    return Ok(done);
                }
                // SAFETY: not enlisted yet, so nobody else knows the node.
                unsafe { *node.unparker.get() = Some(hub.unparker()) };
                // SAFETY: the node is unlinked below, before this frame ends, unless a grant has
                // unlinked it; nothing in between unwinds.
                unsafe { inner.enlist(&node) };
            }
            loop {
                let woken = hub.park(reason, deadline);
                let mut inner = self.lock.lock();
                if node.granted.get() {
                    match attempt(&mut inner.state) {
                        Some(done) => return Ok(done),
                        None => break, // somebody was quicker: to the end of the queue
                    }
                }
                if woken == Woken::Unparked {
                    continue; // by somebody else, for an earlier wait
                }
                // SAFETY: it was enlisted and not granted, so it is linked.
                unsafe { inner.unlink(&node) };
                return attempt(&mut inner.state).ok_or(woken);
            }
        }
    }

    /// Changes the state and wakes everybody who waits, in the order in which they came.
    #[inline]
    pub(crate) fn update_and_wake_all<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        let mut inner = self.lock.lock();
        let result = change(&mut inner.state);
        while let Some(unparker) = inner.grant() {
            drop(inner);
            unparker.unpark();
            inner = self.lock.lock();
        }
        result
    }
}

#[cfg(test)]
mod tests;

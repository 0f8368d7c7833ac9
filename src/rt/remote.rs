//! What other threads may do to a hub: put a message into its inbox and wake it up.
//!
//! [`Inbox`] is a lock-free stack of messages with many producers and one consumer, which takes
//! all of them at once. It is free of locks for the sake of fork(2): a child must be able to use
//! it whatever the parent's other threads were doing.
//!
//! [`Doorbell`] is how a hub that has nothing to do sleeps without missing a message:
//!
//! ```text
//!   hub                                   another thread
//!   1. state = ASLEEP                     1. push the message
//!   2. fence                              2. fence
//!   3. inbox empty? sleep : stay awake    3. state ASLEEP? state = AWAKE, ring : nothing
//! ```
//!
//! By the two fences at least one side sees what the other wrote first: either the hub finds the
//! message and stays awake, or the other thread finds the hub asleep and rings.

use std::ptr;

#[cfg(loom)]
use loom::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};

struct Node<W> {
    message: W,
    next: *mut Node<W>,
}

/// Messages from other threads, delivered in the order in which they were pushed.
pub(crate) struct Inbox<W> {
    /// The newest message, null for none, or [`closed`](Inbox::closed).
    head: AtomicPtr<Node<W>>,
}

// SAFETY: a message moves from the thread that pushes it to the one that takes it (so `W: Send`),
// and no reference to one is ever shared. The raw pointers own their nodes.
unsafe impl<W: Send> Send for Inbox<W> {}
// SAFETY: as above; every access to `head` is atomic.
unsafe impl<W: Send> Sync for Inbox<W> {}

impl<W> Inbox<W> {
    pub(crate) fn new() -> Self {
        Inbox { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The value of `head` once nobody takes messages any more. Never dereferenced: no node can lie
    /// at an address that is not a multiple of its alignment.
    fn closed() -> *mut Node<W> {
        ptr::without_provenance_mut(1)
    }

    /// Adds a message.
    ///
    /// # Errors
    /// Gives the message back if the inbox is closed.
    pub(crate) fn push(&self, message: W) -> Result<(), W> {
        let node = Box::into_raw(Box::new(Node { message, next: ptr::null_mut() }));
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == Self::closed() {
                // SAFETY: the node comes from `Box::into_raw` above and was never published.
                return Err(unsafe { Box::from_raw(node) }.message);
            }
            // SAFETY: as above: until the exchange succeeds the node is ours alone.
            unsafe { (*node).next = head };
            // Release: whoever takes the list sees the node's contents.
            match self.head.compare_exchange_weak(head, node, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(now) => head = now,
            }
        }
    }

    /// Whether there is nothing to take. Messages that are being pushed may be missed.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        head.is_null() || head == Self::closed()
    }

    /// Moves all messages to the end of `out`, oldest first.
    pub(crate) fn take_all(&self, out: &mut Vec<W>) {
        if self.is_empty() {
            return;
        }
        // Acquire: pairs with the push. The list now belongs to us alone, so there is no ABA.
        let head = self.head.swap(ptr::null_mut(), Ordering::Acquire);
        Self::unlink(head, out);
    }

    /// Takes all messages, and refuses every later one.
    pub(crate) fn close(&self, out: &mut Vec<W>) {
        let head = self.head.swap(Self::closed(), Ordering::AcqRel);
        if head != Self::closed() {
            Self::unlink(head, out);
        }
    }

    /// Accepts messages again after [`close`](Self::close).
    pub(crate) fn reopen(&self) {
        // Nothing is on a closed list, and nobody pushes to one.
        self.head.store(ptr::null_mut(), Ordering::Release);
    }

    fn unlink(mut node: *mut Node<W>, out: &mut Vec<W>) {
        let start = out.len();
        while !node.is_null() {
            // SAFETY: every node on the list comes from `Box::into_raw` in `push`, and the list
            // was detached from `head`, so each is reached exactly once.
            let boxed = unsafe { Box::from_raw(node) };
            node = boxed.next;
            out.push(boxed.message);
        }
        out[start..].reverse();
    }
}

impl<W> Drop for Inbox<W> {
    fn drop(&mut self) {
        self.close(&mut Vec::new());
    }
}

/// Whether the hub sleeps, and on what.
pub(crate) struct Doorbell {
    state: AtomicU32,
}

const AWAKE: u32 = 0;
/// Sleeps in epoll_wait: ring by the eventfd.
const IN_EPOLL: u32 = 1;
/// Sleeps on `state` itself: ring by futex.
const ON_FUTEX: u32 = 2;

/// What has to be done to ring; kept apart from the doing so that the protocol can be model-checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    Nothing,
    EventFd,
    Futex,
}

impl Doorbell {
    pub(crate) fn new() -> Self {
        Doorbell { state: AtomicU32::new(AWAKE) }
    }

    /// Hub: announces that it is about to sleep. It must look into its inbox after this, and call
    /// [`wake_up`](Self::wake_up) in any case.
    pub(crate) fn fall_asleep(&self, in_epoll: bool) {
        self.state.store(if in_epoll { IN_EPOLL } else { ON_FUTEX }, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Hub: awake again.
    pub(crate) fn wake_up(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Another thread, after its message is in the inbox: what must be done so that the hub sees it.
    pub(crate) fn ring(&self) -> Ring {
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        if state == AWAKE {
            return Ring::Nothing;
        }
        // Only one of many ringers does the work.
        let ours =
            self.state.compare_exchange(state, AWAKE, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        match state {
            _ if !ours => Ring::Nothing,
            IN_EPOLL => Ring::EventFd,
            _ => Ring::Futex,
        }
    }

    /// The futex word for sleeping without an epoll instance, and the value that means asleep.
    #[cfg(not(loom))]
    pub(crate) fn futex(&self) -> (&AtomicU32, u32) {
        (&self.state, ON_FUTEX)
    }

    /// Loom's atomics are no futex words; its models do not sleep.
    #[cfg(loom)]
    pub(crate) fn futex(&self) -> (&std::sync::atomic::AtomicU32, u32) {
        static NEVER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(AWAKE);
        (&NEVER, ON_FUTEX)
    }
}

#[cfg(test)]
mod tests;

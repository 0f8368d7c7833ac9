//! The end of a greenlet that nobody has a handle of any more.
//!
//! It is unwound right here, on top of whoever drops the last handle, and then freed. What lives on its
//! stack may be the last handles of others, and so on: a chain of a hundred thousand. To unwind them
//! one inside the other would take all of their stacks at once. So a greenlet whose last handle is dropped
//! inside of one that is itself being dropped waits in the queue of that one.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use super::body::{Body, Head, Odd, Parent};
use super::engine;
use super::trace::{self, EventKind};
use super::{Outcome, State};
use crate::rt::{self, Caller};

/// Greenlets that nobody has a handle of and that wait for their end, linked through themselves.
#[derive(Default)]
pub(super) struct Queue {
    first: Cell<Option<NonNull<Head>>>,
}

impl Queue {
    /// Takes it in, unless it is in a queue already.
    ///
    /// # Safety
    /// It is alive. From now on it belongs to the queue.
    unsafe fn push(&self, head: NonNull<Head>) {
        // SAFETY: alive by contract.
        let fields = unsafe { head.as_ref() };
        if !fields.pending.replace(true) {
            fields.next.set(self.first.replace(Some(head)));
        }
    }

    /// Takes the next one out. It stays marked.
    fn pop(&self) -> Option<NonNull<Head>> {
        let head = self.first.get()?;
        // SAFETY: what is in the queue is alive.
        self.first.set(unsafe { head.as_ref() }.next.take());
        Some(head)
    }

    /// Takes in all of another queue.
    fn append(&self, other: &Queue) {
        while let Some(head) = other.pop() {
            // SAFETY: what is in a queue is alive.
            unsafe { head.as_ref() }.next.set(self.first.replace(Some(head)));
        }
    }
}

/// Drops a handle.
///
/// # Safety
/// It is a handle, and is not used again.
#[inline]
pub(super) unsafe fn drop_handle<M: 'static>(body: NonNull<Body<M>>) {
    // SAFETY: alive: there is a handle.
    let fields = unsafe { body.as_ref() };
    let left = fields.handles.get() - 1;
    fields.handles.set(left);
    // One that runs is released when it comes back: see `engine::run`.
    if left == 0 && fields.state() != State::Running {
        // SAFETY: alive, and nobody uses it any more.
        unsafe { release(body.cast()) };
    }
}

/// Drops the reference to a former parent.
pub(super) fn drop_parent<M: 'static>(parent: Parent<M>) {
    let queue = Queue::default();
    leave_parent(parent, &queue);
    release_all(&queue);
}

/// Drops the reference to a former parent, which goes to the queue if that ends it.
fn leave_parent<M: 'static>(parent: Parent<M>, queue: &Queue) {
    let (pointer, ends) = match parent {
        Parent::Base => return,
        Parent::Maker(pointer) => {
            // SAFETY: alive: it has counted this child.
            let body = unsafe { pointer.as_ref() };
            body.children.set(body.children.get() - 1);
            (pointer, body.is_unneeded())
        }
        Parent::Chosen(greenlet) => {
            // Not dropped as handles are, which would recurse along a chain of parents.
            let Some(pointer) = ManuallyDrop::new(greenlet).body else { return };
            // SAFETY: alive: the handle that is being dropped here.
            let body = unsafe { pointer.as_ref() };
            body.handles.set(body.handles.get() - 1);
            (pointer, body.handles.get() == 0 && body.state() != State::Running)
        }
    };
    if ends {
        // SAFETY: alive, and nobody uses it any more.
        unsafe { queue.push(pointer.cast()) };
    }
}

/// Ends and frees a greenlet, now or, inside of one that is being dropped, later.
///
/// # Safety
/// It is alive, has no handles and does not run. Nobody uses it any more.
#[cold]
#[inline(never)]
pub(super) unsafe fn release(head: NonNull<Head>) {
    let queue = Queue::default();
    // SAFETY: by contract.
    unsafe {
        match dropped_around() {
            Some(around) => return around.as_ref().deferred.push(head),
            None => queue.push(head),
        }
    }
    release_all(&queue);
}

fn release_all(queue: &Queue) {
    while let Some(head) = queue.pop() {
        // SAFETY: it belongs to the queue, which gives it up; `release` is the function for its type.
        unsafe { (head.as_ref().release)(head, queue) };
    }
}

/// A greenlet that is being dropped and that the caller runs inside of.
fn dropped_around() -> Option<NonNull<Head>> {
    let heads = Caller::here().levels().filter_map(|level| {
        // SAFETY: the levels of the chain are alive. Only greenlets have an owner, a `Body`, which
        // begins with a `Head`.
        NonNull::new(unsafe { &*level }.owner().cast::<Head>().cast_mut())
    });
    // SAFETY: as above.
    heads.into_iter().find(|head| unsafe { head.as_ref() }.dropped.get())
}

/// Ends and frees a greenlet that was taken out of a queue. Others that lose their last handle by that go to
/// the queue.
///
/// # Safety
/// `head` is the beginning of a `Body<M>`, which is alive.
pub(super) unsafe fn release_one<M: 'static>(head: NonNull<Head>, queue: &Queue) {
    let pointer = head.cast::<Body<M>>();
    // SAFETY: alive by contract.
    let body = unsafe { pointer.as_ref() };
    // A child may have made a handle of its parent while that was in the queue.
    if body.handles.get() == 0 {
        match body.state() {
            State::New => body.retire(),
            State::Suspended => {
                unwind(body);
                queue.append(&body.head.deferred);
            }
            State::Dead | State::Running => {}
        }
    }
    // Until now it could not be freed behind our back, whatever the destructors did.
    body.head.pending.set(false);
    // Perhaps a destructor has made a handle of its own greenlet. That one's drop comes here again. So does
    // the last child's.
    if body.is_unneeded() {
        leave_parent(body.replace_parent(Parent::Base), queue);
        // SAFETY: made by a box, and nobody refers to it any more.
        drop(unsafe { Box::from_raw(pointer.as_ptr()) });
    }
}

/// Unwinds a suspended greenlet on top of the caller. It does not unwind the caller.
fn unwind<M: 'static>(body: &Body<M>) {
    if cfg!(panic = "abort") || body.head.level.is_suspended_unwinding() {
        return body.leave();
    }
    let caller = Caller::here();
    if trace::is_on() {
        trace::left(engine::party_at::<M>(caller));
    }
    body.head.dropped.set(true);
    body.be_patient();
    body.put_mail(Err(Box::new(Odd::Throw(body.unwinding()))));
    body.set_state(State::Running);
    caller.enter(&body.head.level);
    // SAFETY: it was suspended, and is marked.
    let step = unsafe { body.resume() };
    caller.leave(&body.head.level);
    match step {
        rt::Step::Suspended(_) => body.leave(),
        rt::Step::Finished(()) => {
            let end = engine::outcome(body.take_mail());
            let (name, id) = (body.name().unwrap_or("<unnamed>"), body.id());
            if let Outcome::Panicked(_) = &end {
                // The panic has had its message already. To go on with it from a destructor could abort.
                log::error!("greenlet '{name}' (#{id}) panicked while it was dropped");
            }
            // The result and the tracer may panic, too.
            let rest = || {
                drop(end);
                if trace::is_on() {
                    trace::left(body.party());
                    trace::arrived(EventKind::Switch, engine::party_at::<M>(caller));
                }
            };
            if catch_unwind(AssertUnwindSafe(rest)).is_err() {
                log::error!("a panic after greenlet '{name}' (#{id}) was dropped");
            }
            body.retire();
        }
    }
}

//! The waist of the feature `patch`: nothing here unwinds, since C may be on the stack.

use std::io;
use std::sync::atomic::AtomicU32;

use super::{Deadline, Reason, Unparker, Woken, hub, life};

pub(crate) use super::lock::Lock;
pub(crate) use super::readiness::Interest;
pub(crate) use super::sys::now;
pub(crate) use super::task::Refusals;
pub(crate) use super::token::{EMPTY, NOTIFIED, PARKED, SHARED, Sharing};

#[inline(always)]
fn existing() -> Option<&'static hub::Hub> {
    // SAFETY: null or this thread's live hub (see `hub::hub`).
    unsafe { hub::existing().as_ref() }
}

/// Whether the caller is a coroutine that can wait, or main with others beside it.
#[inline(always)]
pub(crate) fn may_wait() -> bool {
    existing().is_some_and(|hub| hub.may_wait_here())
}

/// Whether the caller unwinds, and had better block its thread than switch.
#[inline(always)]
pub(crate) fn is_unwinding() -> bool {
    existing().is_some_and(|hub| hub.is_unwinding())
}

/// Waits until one of the descriptors may be ready. Only if [`may_wait`]. `None` comes back at once if
/// one of them is of a kind that cannot be waited for.
///
/// # Errors
/// What epoll says.
#[track_caller]
pub(crate) fn wait_any(
    interests: &[Interest],
    reason: Reason,
    deadline: Option<Deadline>,
) -> io::Result<Option<Woken>> {
    hub::hub().wait_any(interests, reason, deadline.map(|deadline| deadline.0))
}

/// As [`wait_any`] for one of which the caller believes that it is still what it was.
///
/// # Errors
/// What epoll says.
#[track_caller]
pub(crate) fn wait_trusting(
    interest: Interest,
    reason: Reason,
    deadline: Option<Deadline>,
) -> io::Result<Option<Woken>> {
    hub::hub().wait_trusting(interest, reason, deadline.map(|deadline| deadline.0))
}

/// Parks. Only if [`may_wait`].
#[track_caller]
pub(crate) fn park(reason: Reason, deadline: Option<Deadline>) -> Woken {
    hub::hub().park(reason, deadline.map(|deadline| deadline.0))
}

/// Parks, without regard to kills and time limits. Only if [`may_wait`].
#[track_caller]
pub(crate) fn park_shielded(reason: Reason, deadline: Option<Deadline>) -> Woken {
    hub::hub().park_shielded(reason, deadline.map(|deadline| deadline.0))
}

/// What wakes the caller.
pub(crate) fn unparker() -> Unparker {
    hub::hub().unparker()
}

/// Which coroutine the caller is.
pub(crate) fn task_id() -> u64 {
    hub::hub().current().id()
}

/// Lets others run.
pub(crate) fn give_way() {
    hub::hub().yield_now();
}

/// Counts an operation that did not have to wait.
pub(crate) fn charge() {
    hub::hub().charge();
}

/// The bit by which a source remembers the calling thread's hub.
pub(crate) fn own_bit() -> u64 {
    life::hub_bit(hub::hub().remote().index())
}

/// Which hub the calling thread has; 0 for none.
pub(crate) fn hub_id() -> u64 {
    existing().map_or(0, |hub| hub.identity().1)
}

/// What main is told when nothing can ever run again.
pub(crate) fn deadlock_report() -> String {
    hub::hub().deadlock.take()
}

/// Has the hub look after the word of its thread's `thread::park`, and call `wake` when there is a notice.
///
/// # Safety
/// The word must stay valid until [`leave_token`], and be the same one each time.
pub(crate) unsafe fn await_token(word: *const AtomicU32, wake: fn(usize)) {
    // SAFETY: the caller's promise.
    unsafe { hub::hub().await_token(word, wake) };
}

/// The caller begins to wait for the word; `others` says that coroutines of its thread wait already.
pub(crate) fn share_token(others: bool) -> Sharing {
    hub::hub().token.share(task_id(), others, now())
}

/// The caller comes back from that in order to look whether it was meant.
pub(crate) fn looks_at_token() {
    hub::hub().token.looks(task_id());
}

/// The caller does not wait for it any more.
pub(crate) fn leave_token() {
    hub::hub().leave_token();
}

/// What the caller has been refused.
pub(crate) fn refusals() -> Refusals {
    // SAFETY: the running task, on its hub's thread.
    unsafe { hub::hub().current().local() }.refusals.get()
}

/// Notes that for next time.
pub(crate) fn set_refusals(refusals: Refusals) {
    // SAFETY: as above.
    unsafe { hub::hub().current().local() }.refusals.set(refusals);
}

/// Has what is redefined be the C library's own for the calling coroutine, until that is taken back.
pub(crate) fn unpatch(by: i32) {
    // SAFETY: the running task, on its hub's thread.
    let local = unsafe { hub::hub().current().local() };
    local.unpatched.set(local.unpatched.get().wrapping_add_signed(by));
}

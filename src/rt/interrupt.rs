//! Interruption: kills, time limits, shields, and who is unwinding.
//!
//! A coroutine is interrupted only in a park, where `Hub::park` returns [`Woken::Killed`] or
//! [`Woken::Elapsed`] and the caller unwinds, to the coroutine's root or to the scope of the time limit.
//! Both are sticky: whoever swallows the unwinding meets it again at the next park.
//!
//! A time limit is in force where its scope is on the stack. One that was set inside of a greenlet or a
//! generator rests while that is suspended: unwinding from outside would never come to its scope.
//!
//! # Unwinding and std's panic count
//!
//! std counts panics by thread. If a coroutine switches in the middle of unwinding (it waits for another
//! one in a destructor), then every coroutine of the thread sees `std::thread::panicking()`. So:
//!
//! * What can block the thread instead (I/O, sleep) does so while a coroutine unwinds.
//! * What must switch is counted: while some coroutine is suspended in the middle of unwinding,
//!   `panicking` says nothing about the running one, and it is taken not to unwind. The error is on the
//!   harmless side: it may switch where it had better not.
//! * To start to unwind in a destructor would abort the process. So an interruption is delivered only if
//!   `panicking` was false when the park began: then the coroutine is certainly not unwinding.

use super::hub::{self, Hub};
use super::nesting::Caller;
use super::task::{Limit, Local, Reason, Woken};

/// How many coroutines are suspended in the middle of unwinding, as far as we know.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unwinding {
    pub(super) suspended: u32,
    /// The task that was resumed in the middle of its unwinding and has not been left again; 0 for none. What
    /// the count cannot tell while others are suspended: they may have been taken for unwinding in doubt.
    unwinder: u64,
    /// Grows whenever `panicking` was seen to be false, which proves that the count is zero: whoever
    /// counted itself in before that must not count itself out.
    epoch: u32,
}

impl Hub {
    /// Whether the current task itself is unwinding from a panic or an interruption. It must not switch
    /// then if it can help it.
    #[inline(always)]
    pub(crate) fn is_unwinding(&self) -> bool {
        std::thread::panicking() && self.unwinding.get().suspended == 0
    }

    /// The same for locks, which are to be poisoned then: true also for one that is known to unwind although
    /// others are suspended meanwhile.
    #[cold]
    pub(super) fn is_poisoning(&self) -> bool {
        let Unwinding { suspended, unwinder, .. } = self.unwinding.get();
        std::thread::panicking() && (suspended == 0 || unwinder == self.current().id())
    }

    /// Suspends by `switch` in the middle of a panic: maybe the current task's own.
    #[cold]
    pub(super) fn suspend_unwinding(&self, switch: impl FnOnce()) {
        let is_own = self.is_poisoning();
        let Unwinding { suspended, epoch, .. } = self.unwinding.get();
        self.unwinding.set(Unwinding { suspended: suspended + 1, unwinder: 0, epoch });
        switch();
        let now = self.unwinding.get();
        let unwinder = if is_own { self.current().id() } else { 0 };
        let counted = u32::from(now.epoch == epoch);
        self.unwinding.set(Unwinding { suspended: now.suspended - counted, unwinder, ..now });
    }

    /// Corrects the count if no panic is on its way any more, and wakes those whose interruption had to
    /// wait for that.
    #[cold]
    pub(super) fn recount_unwinding(&self) {
        if std::thread::panicking() {
            return;
        }
        let epoch = self.unwinding.get().epoch.wrapping_add(1);
        self.unwinding.set(Unwinding { suspended: 0, unwinder: 0, epoch });
        let tasks: Vec<_> = self.tasks.borrow().iter().map(|(_, task)| *task).collect();
        for task in tasks {
            // SAFETY: the hub owns the task, and this is its thread.
            let (shared, local) = unsafe { (task.get(), task.get().local()) };
            if shared.kill_requested() || local.limit.get() != u64::MAX {
                self.wake(task, Woken::Unparked);
            }
        }
    }

    /// Tells the current task to unwind.
    #[cold]
    pub(super) fn deliver_kill(&self, local: &Local) -> Woken {
        let delivered = local.kills_delivered.get();
        local.kills_delivered.set(delivered.saturating_add(1));
        if delivered > 0 && !std::thread::panicking() {
            // Somebody has swallowed it. A loop around that must not keep the others from running.
            self.give_way();
        }
        Woken::Killed
    }

    /// Whether the running task has been killed and is to unwind now.
    #[inline(always)]
    pub(super) fn kill_is_due(&self) -> bool {
        self.current().kill_requested() && self.kill_is_deliverable()
    }

    #[cold]
    fn kill_is_deliverable(&self) -> bool {
        // SAFETY: the running task, on its hub's thread.
        let local = unsafe { self.current().local() };
        local.shields.get() == 0
            && !std::thread::panicking()
            && self.deliver_kill(local) == Woken::Killed
    }

    /// Parks the current task without regard to interruptions.
    #[track_caller]
    pub(super) fn park_shielded(&self, reason: Reason, deadline: Option<u64>) -> Woken {
        let _shield = Shield::new();
        self.park(reason, deadline)
    }

    /// The earliest of the running task's time limits that are in force here; `u64::MAX` for none.
    #[inline(always)]
    pub(super) fn limit_in_force(&self, local: &Local) -> u64 {
        let earliest = local.limit.get();
        if earliest == u64::MAX { earliest } else { earliest_in_force(local) }
    }

    /// The id of the time limit to which a task unwinds that was told [`Woken::Elapsed`].
    pub(super) fn elapsed_limit(&self) -> Option<u64> {
        let now = super::sys::now();
        // SAFETY: the running task, on its hub's thread.
        let local = unsafe { self.current().local() };
        let limits = local.limits.take();
        // The outermost one that has passed: what is inside of it is over anyway.
        let found = limits
            .iter()
            .flat_map(|limits| limits.iter())
            .find(|limit| limit.deadline <= now && is_in_force(limit))
            .map(|limit| limit.id);
        local.limits.set(limits);
        found
    }
}

/// Whether the scope of one of the running task's limits is on the stack, or on one from which that was
/// resumed.
fn is_in_force(limit: &Limit) -> bool {
    limit.level == 0 || Caller::here().levels().any(|level| level.addr() == limit.level)
}

#[inline(never)]
fn earliest_in_force(local: &Local) -> u64 {
    let limits = local.limits.take();
    let in_force =
        limits.iter().flat_map(|limits| limits.iter()).filter(|limit| is_in_force(limit));
    let earliest = in_force.map(|limit| limit.deadline).min().unwrap_or(u64::MAX);
    local.limits.set(limits);
    earliest
}

/// Runs `f` under a time limit, whose id `f` gets: it unwinds with that id when time is up. The caller
/// catches that.
pub(super) fn with_limit<T>(deadline: u64, f: impl FnOnce(u64) -> T) -> T {
    /// Takes the limit away again, also when `f` unwinds.
    struct Guard(u64);
    impl Drop for Guard {
        fn drop(&mut self) {
            edit_limits(|limits| limits.retain(|limit| limit.id != self.0));
        }
    }
    let id = hub::hub().next_id();
    let level = Caller::here().levels().next().map_or(0, |level| level.addr());
    edit_limits(|limits| limits.push(Limit { id, deadline, level }));
    let _guard = Guard(id);
    f(id)
}

/// Changes the running task's time limits.
fn edit_limits(change: impl FnOnce(&mut Vec<Limit>)) {
    // SAFETY: the running task, on its hub's thread.
    let local = unsafe { hub::hub().current().local() };
    let mut limits = local.limits.take().unwrap_or_default();
    change(&mut limits);
    let earliest = limits.iter().map(|limit| limit.deadline).min();
    local.limit.set(earliest.unwrap_or(u64::MAX));
    local.limits.set((!limits.is_empty()).then_some(limits));
}

/// While this lives, kills and time limits wait.
#[derive(Debug)]
pub(crate) struct Shield {
    /// Not for another thread: it belongs to the coroutine.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Shield {
    pub(crate) fn new() -> Shield {
        // SAFETY: the running task, on its hub's thread.
        let local = unsafe { hub::hub().current().local() };
        local.shields.set(local.shields.get() + 1);
        Shield { _not_send: std::marker::PhantomData }
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        // SAFETY: as above. Shields are used around a call, so this is the task that made it.
        let local = unsafe { hub::hub().current().local() };
        local.shields.set(local.shields.get() - 1);
    }
}

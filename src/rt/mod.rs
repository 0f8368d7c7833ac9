//! The kernel: the only code that holds scheduler state or switches stacks, and its narrow waist.
//!
//! Everything above stands on the functions of this file. `README.md` beside it tells the protocols
//! and why no wake-up is lost.
//!
//! ```text
//! L3   mod (the waist)
//! L2   hooked  wait  life  spawn  hub  interrupt  readiness  dump  nesting  per_process  token  turn
//! L1   coroutine  task  locals  run_queue  timers  reactor  remote  locals
//! L0   native  real  sys  stack  overflow  exit  lock  helpers  blocks
//! ```

mod blocks;
mod coroutine;
mod dump;
mod exit;
mod helpers;
#[cfg(feature = "patch")]
pub(crate) mod hooked;
mod hub;
mod interrupt;
mod life;
mod locals;
mod lock;
pub(crate) mod native;
mod nesting;
mod overflow;
mod per_process;
mod reactor;
mod readiness;
#[cfg(feature = "patch")]
pub(crate) mod real;
mod remote;
mod run_queue;
mod spawn;
mod stack;
mod sys;
mod task;
mod timers;
#[cfg(feature = "patch")]
mod token;
mod turn;
mod wait;

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) use coroutine::{Coroutine, Step, Suspender, bounds};
pub(crate) use dump::{Report, Status};
pub(crate) use helpers::{Errand, Helper};
pub(crate) use hub::Unparker;
pub(crate) use interrupt::Shield;
pub(crate) use life::{Settings, forks, fresh_id, set_settings, settings, shutdown};
pub(crate) use nesting::{Caller, Level, OfGenerators, running_here};
pub(crate) use per_process::PerProcess;
pub(crate) use reactor::{Direction, SourceId};
pub(crate) use spawn::{Joiner, Outcome, kill, spawn_on, with_locals};
pub(crate) use stack::{Stack, force_mprotect_guards, pool_stats, trim as trim_stacks};
pub(crate) use sys::{
    eventfd, eventfd_signal, is_nonblocking, pidfd_open, renew, set_nonblocking, syscall,
    wait_for_exit,
};
pub(crate) use task::{Completions, Reason, Remote, Task, TaskArc, Woken, lock_word};
pub(crate) use wait::{Locked, Node, Place, Selection, WaitQueue, Waited};

use crate::error::Killed;

/// A deadline for [`park`] and [`wait_fd`]: nanoseconds on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(pub(crate) u64);

impl Deadline {
    /// `None` if it is past the end of time.
    #[inline]
    pub(crate) fn after(duration: Duration) -> Option<Deadline> {
        sys::deadline_in(duration).map(Deadline)
    }

    /// The deadline at `instant`; one in the past has been reached already.
    pub(crate) fn at(instant: Instant) -> Option<Deadline> {
        Deadline::after(instant.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn is_past(self) -> bool {
        sys::now() >= self.0
    }
}

/// Unwinds the calling coroutine as a kill, or a time limit, asks for. To be called with what a wait that
/// was interrupted has returned.
///
/// # Panics
/// On main, if nothing can ever run again: the message lists who waits for what.
#[cold]
#[track_caller]
pub(crate) fn unwind(woken: Woken) -> ! {
    match woken {
        Woken::Unparked | Woken::TimedOut => unreachable!("no reason to unwind"),
        Woken::Deadlocked => {
            let report = hub::hub().deadlock.take();
            panic!("deadlock: nothing can ever run again\n{report}")
        }
        // Not a panic: no hook runs and nothing is printed.
        Woken::Elapsed => {
            let limit = hub::hub().elapsed_limit().unwrap_or(0);
            std::panic::resume_unwind(Box::new(TimeIsUp { limit }))
        }
        Woken::Killed => std::panic::resume_unwind(Box::new(Killed)),
    }
}

/// The payload of the unwinding to a time limit.
struct TimeIsUp {
    limit: u64,
}

/// Calls `f`. When the deadline passes before it has returned, its current or next wait unwinds to here,
/// and the result is `None`. `f` may swallow that, as any unwinding; then the next wait unwinds again.
pub(crate) fn with_limit<T>(deadline: Option<Deadline>, f: impl FnOnce() -> T) -> Option<T> {
    let Some(deadline) = deadline else { return Some(f()) };
    interrupt::with_limit(deadline.0, |own| {
        // Unwind safety is the caller's caller's: whatever unwinds out of `f` either goes on, as if we
        // were not here, or becomes an error that says so.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
            Ok(value) => Some(value),
            Err(payload) => match payload.downcast_ref::<TimeIsUp>() {
                Some(TimeIsUp { limit }) if *limit == own => None,
                _ => std::panic::resume_unwind(payload),
            },
        }
    })
}

/// Parks the calling coroutine until it is unparked (true) or the deadline has passed (false).
///
/// It may return true for no reason: look at what you wait for, again. Whoever is to unpark it must
/// have got its [`Unparker`] before this call, and must change what is waited for before it unparks.
///
/// Unwinds if the coroutine has been killed.
#[inline(always)]
#[track_caller]
pub(crate) fn park(reason: Reason, deadline: Option<Deadline>) -> bool {
    match hub::hub().park(reason, deadline.map(|deadline| deadline.0)) {
        Woken::Unparked => true,
        Woken::TimedOut => false,
        interrupted => unwind(interrupted),
    }
}

/// Waits for the end of a coroutine and returns its result.
///
/// Unwinds if the caller has been killed.
#[inline]
#[track_caller]
pub(crate) fn join<T>(joiner: Joiner<T>) -> Outcome<T> {
    match joiner.wait(None) {
        Ok(()) => joiner.take(),
        Err(interrupted) => {
            drop(joiner);
            unwind(interrupted)
        }
    }
}

/// Waits for the end of a coroutine until the deadline; gives the joiner back if that passes.
///
/// Unwinds if the caller has been killed.
#[track_caller]
pub(crate) fn join_until<T>(
    joiner: Joiner<T>,
    deadline: Option<Deadline>,
) -> Result<Outcome<T>, Joiner<T>> {
    match joiner.wait(deadline.map(|deadline| deadline.0)) {
        Ok(()) => Ok(joiner.take()),
        Err(Woken::TimedOut) => Err(joiner),
        Err(interrupted) => {
            drop(joiner);
            unwind(interrupted)
        }
    }
}

/// Waits for the end of a coroutine without its result. False if the deadline passes.
///
/// Unwinds if the caller has been killed.
#[track_caller]
pub(crate) fn wait_exit(task: &Task, deadline: Option<Deadline>) -> bool {
    match task.wait_exit(deadline.map(|deadline| deadline.0)) {
        Ok(()) => true,
        Err(Woken::TimedOut) => false,
        Err(interrupted) => unwind(interrupted),
    }
}

/// Everything that the calling thread's coroutines are doing, main first.
pub(crate) fn statuses() -> Vec<Status> {
    hub::hub().statuses()
}

/// Lets every other runnable coroutine run once. Due timers and I/O get their turn at least every
/// [`Settings::poll_interval`] switches.
///
/// Unwinds if the coroutine has been killed.
#[inline(always)]
pub(crate) fn yield_now() {
    let hub = hub::hub();
    hub.yield_now();
    if hub.kill_is_due() {
        unwind(Woken::Killed);
    }
}

/// Sleeps until the deadline (`None`: for ever).
///
/// Unwinds if the coroutine has been killed.
#[track_caller]
pub(crate) fn sleep(deadline: Option<Deadline>) {
    if hub::hub().is_unwinding() {
        // A destructor during unwinding must not switch: another coroutine would see a panicking
        // thread and poison its locks.
        loop {
            let left = deadline.map_or(u64::MAX, |deadline| deadline.0.saturating_sub(sys::now()));
            if left == 0 {
                return;
            }
            std::thread::sleep(Duration::from_nanos(left));
        }
    }
    while park(Reason::Sleep, deadline) {}
}

/// Spawns a coroutine on the calling thread, to begin at `start` at the earliest.
///
/// # Errors
/// `OutOfMemory` if there is no stack to be had.
#[inline]
#[track_caller]
pub(crate) fn spawn<T: 'static>(
    name: Option<Box<str>>,
    stack_size: Option<usize>,
    start: Option<Deadline>,
    body: impl FnOnce() -> T + 'static,
) -> io::Result<Joiner<T>> {
    spawn::spawn(name, stack_size, start.map(|start| start.0), body)
}

/// As [`spawn`], at once, for a function and a result that borrow.
///
/// # Safety
/// What they borrow must outlive the coroutine: its exit must have been announced, and its result been
/// taken or dropped, before any of the borrows ends.
#[track_caller]
pub(crate) unsafe fn spawn_unchecked<T>(
    name: Option<Box<str>>,
    stack_size: Option<usize>,
    body: impl FnOnce() -> T,
) -> io::Result<Joiner<T>> {
    // SAFETY: the caller's promise.
    unsafe { spawn::spawn_unchecked(name, stack_size, None, body) }
}

/// Whether the calling coroutine unwinds, so that what it waits for should rather block the thread than
/// let others see the thread panicking.
pub(crate) fn had_better_block() -> bool {
    std::thread::panicking() && hub::hub().is_unwinding()
}

/// The calling coroutine.
pub(crate) fn current() -> TaskArc {
    hub::hub().current_arc()
}

/// What a lock that the calling coroutine holds has as its word; see [`lock_word`]. Makes no hub.
#[inline(always)]
pub(crate) fn my_lock_word() -> u64 {
    // SAFETY: null or this thread's live hub (see `hub::hub`).
    match unsafe { hub::existing().as_ref() } {
        Some(hub) => hub.current().lock_word(),
        None => word_before_hub(),
    }
}

#[cold]
fn word_before_hub() -> u64 {
    let (hub_id, main_id) = life::reserved_ids();
    lock_word::of(main_id, hub_id)
}

/// Whether the calling coroutine is unwinding: what `std::thread::panicking` says to a thread. False in
/// doubt, which there is only while another coroutine of the thread waits in the middle of unwinding. For
/// locks, which are poisoned then.
#[inline(always)]
pub(crate) fn is_unwinding() -> bool {
    #[cold]
    fn itself() -> bool {
        // SAFETY: null or this thread's live hub (see `hub::hub`).
        unsafe { hub::existing().as_ref() }.is_none_or(hub::Hub::is_poisoning)
    }
    std::thread::panicking() && itself()
}

/// The monotonic clock, to a few milliseconds, at the price of a few nanoseconds.
pub(crate) fn coarse_now() -> u64 {
    sys::coarse_now()
}

/// The calling coroutine's id, which no other ever has.
#[inline]
pub(crate) fn current_id() -> u64 {
    hub::hub().current().id()
}

/// What wakes the calling coroutine, for any thread.
pub(crate) fn unparker() -> Unparker {
    hub::hub().unparker()
}

/// The calling thread's hub, for other threads: what [`spawn_on`] takes.
pub(crate) fn identity() -> (&'static Remote, u64) {
    hub::hub().identity()
}

/// The size of a stack for which none is asked. Makes no hub.
pub(crate) fn default_stack_size() -> usize {
    // SAFETY: null or this thread's live hub (see `hub::hub`).
    match unsafe { hub::existing().as_ref() } {
        Some(hub) => hub.settings.get().stack_size,
        None => Settings::defaults().stack_size,
    }
}

/// An identity for a new I/O source.
#[inline]
pub(crate) fn source_id() -> SourceId {
    hub::hub().next_id()
}

/// Whether an I/O operation is worth trying. `false` only if it would certainly have to wait.
#[inline(always)]
pub(crate) fn may_be_ready(fd: RawFd, id: SourceId, direction: Direction) -> bool {
    hub::hub().may_be_ready(fd, id, direction)
}

/// To be told after an I/O operation that succeeded, before anything else is done: `short` if a read
/// of a stream gave less than was asked for, which means that nothing is left.
///
/// A coroutine whose I/O is always ready lets others run here, once in a while.
#[inline(always)]
pub(crate) fn io_done(fd: RawFd, id: SourceId, short: bool) {
    let hub = hub::hub();
    if short {
        hub.short_read(fd, id);
    }
    hub.charge();
}

/// To be told when an operation that may wait had no need to. A coroutine that never has to wait lets others
/// run here, once in a while.
#[inline(always)]
pub(crate) fn charge() {
    hub::hub().charge();
}

/// As [`charge`], for what never waits: a look that says "not yet", or a message sent where there is always room.
/// A loop of nothing else would keep from running whom it looks for. Makes no hub: a thread without one has
/// nobody to let run.
#[inline]
pub(crate) fn charge_look() {
    // SAFETY: null or this thread's live hub (see `hub::hub`).
    if let Some(hub) = unsafe { hub::existing().as_ref() } {
        hub.charge();
    }
}

/// Waits until a descriptor may be ready. `Ok(false)` says that the deadline has passed.
///
/// To be called after an operation gave `EAGAIN`, or when [`may_be_ready`] says no. The source
/// remembers in `hubs` where it is registered, for [`forget_source`].
///
/// Unwinds if the coroutine has been killed.
///
/// # Errors
/// What epoll_create1(2) or epoll_ctl(2) says.
#[inline(always)]
#[track_caller]
pub(crate) fn wait_fd(
    fd: RawFd,
    id: SourceId,
    direction: Direction,
    deadline: Option<Deadline>,
    hubs: &AtomicU64,
) -> io::Result<bool> {
    let hub = hub::hub();
    let bit = life::hub_bit(hub.remote().index());
    if hubs.load(Ordering::Relaxed) & bit == 0 {
        hubs.fetch_or(bit, Ordering::Relaxed);
    }
    let woken = hub.wait_fd(fd, id, direction, deadline.map(|deadline| deadline.0))?;
    match woken {
        Woken::Unparked => Ok(true),
        Woken::TimedOut => Ok(false),
        interrupted => unwind(interrupted),
    }
}

/// Notes in `hubs` that the calling thread's hub is to be told when the source is closed, ahead of
/// [`wait_fd`]. Whoever looks after this whether it has been closed, and closes in the opposite order
/// (first the mark, then the look into `hubs`), misses no [`close_source`].
pub(crate) fn announce_source(hubs: &AtomicU64) {
    hubs.fetch_or(life::hub_bit(hub::hub().remote().index()), Ordering::SeqCst);
}

/// Makes sure that the calling thread's hub can wait for descriptors: so that a server finds out when it
/// begins that there are none left, and not when its first client has to wait.
///
/// # Errors
/// What epoll_create1(2) or eventfd(2) says.
pub(crate) fn prepare_io() -> io::Result<()> {
    hub::hub().prepare_io()
}

/// Stops watching the descriptor of a source that is about to close it.
#[inline]
pub(crate) fn forget_source(fd: RawFd, id: SourceId, hubs: u64) {
    if hubs != 0 {
        life::forget_source(fd, id, hubs);
    }
}

/// Wakes everybody who waits for the descriptor, on every hub, and lets the next user of its number
/// start anew.
pub(crate) fn close_source(fd: RawFd, hubs: u64) {
    life::close_source(fd, hubs);
}

/// Whether the descriptor is ready in this moment.
///
/// # Errors
/// What poll(2) says.
pub(crate) fn is_ready(fd: BorrowedFd<'_>, direction: Direction) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let events = match direction {
        Direction::Read => libc::POLLIN,
        Direction::Write => libc::POLLOUT,
    };
    sys::poll_blocking(fd.as_raw_fd(), events, Some(0))
}

/// Counters of the calling thread's hub.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HubStats {
    pub(crate) switches: u64,
    pub(crate) spawned: u64,
    pub(crate) polls: u64,
    pub(crate) events: u64,
    pub(crate) remote_wakes: u64,
    pub(crate) live: usize,
    pub(crate) queued: usize,
    pub(crate) timers: usize,
}

pub(crate) fn hub_stats() -> HubStats {
    hub::hub().stats()
}

#[cfg(test)]
mod tests;

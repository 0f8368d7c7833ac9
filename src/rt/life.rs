//! Beginning and end: how a hub is made, set up, shut down, taken down with its thread, and what
//! becomes of it in the child of a fork.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::helpers;
use super::hub::{self, Hub};
use super::lock::Lock;
use super::overflow;
use super::reactor::SourceId;
use super::spawn;
use super::stack;
use super::sys;
use super::task::{Message, Reason, Remote, State, Task, TaskRef, Woken};

/// What can be chosen about a hub.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) stack_size: usize,
    pub(crate) cached_stacks: usize,
    pub(crate) poll_interval: u32,
    pub(crate) io_budget: u32,
}

static DEFAULT_STACK_SIZE: AtomicUsize = AtomicUsize::new(stack::DEFAULT_SIZE);
static DEFAULT_CACHED: AtomicUsize = AtomicUsize::new(stack::DEFAULT_CACHED);
static DEFAULT_POLL_INTERVAL: AtomicU32 = AtomicU32::new(64);
static DEFAULT_IO_BUDGET: AtomicU32 = AtomicU32::new(64);

impl Settings {
    /// What hubs begin with.
    pub(crate) fn defaults() -> Settings {
        Settings {
            stack_size: DEFAULT_STACK_SIZE.load(Ordering::Relaxed),
            cached_stacks: DEFAULT_CACHED.load(Ordering::Relaxed),
            poll_interval: DEFAULT_POLL_INTERVAL.load(Ordering::Relaxed),
            io_budget: DEFAULT_IO_BUDGET.load(Ordering::Relaxed),
        }
    }

    /// Makes these the settings that later hubs begin with.
    pub(crate) fn make_default(self) {
        DEFAULT_STACK_SIZE.store(self.stack_size, Ordering::Relaxed);
        DEFAULT_CACHED.store(self.cached_stacks, Ordering::Relaxed);
        DEFAULT_POLL_INTERVAL.store(self.poll_interval, Ordering::Relaxed);
        DEFAULT_IO_BUDGET.store(self.io_budget, Ordering::Relaxed);
    }
}

/// The settings of the calling thread's hub.
pub(crate) fn settings() -> Settings {
    hub::hub().settings.get()
}

/// Changes the settings of the calling thread's hub.
pub(crate) fn set_settings(settings: Settings) {
    stack::set_cached(settings.cached_stacks);
    hub::hub().settings.set(settings);
}

// ---- ids ----------------------------------------------------------------------------------------

/// Coroutine ids, and ids of I/O sources, from one counter; 0 is nobody.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Ids that a hub takes at a time, so that hubs do not fight over the counter.
const ID_BLOCK: u64 = 256;

/// An id that nothing else has.
pub(crate) fn fresh_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

thread_local! {
    /// The ids that the thread's next hub and its main coroutine will have; 0 if that is open.
    static RESERVED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// The ids of the thread's hub and its main coroutine, for a thread that has no hub yet: what it locks before it
/// has one is held by main after.
pub(super) fn reserved_ids() -> (u64, u64) {
    let reserved = RESERVED.get();
    if reserved.0 != 0 {
        return reserved;
    }
    let fresh = (fresh_id(), fresh_id());
    RESERVED.set(fresh);
    fresh
}

impl Hub {
    /// An id that nothing else has, from this hub's own supply.
    #[inline]
    pub(crate) fn next_id(&self) -> u64 {
        let (next, end) = self.ids.get();
        if next < end {
            self.ids.set((next + 1, end));
            return next;
        }
        let first = NEXT_ID.fetch_add(ID_BLOCK, Ordering::Relaxed);
        self.ids.set((first + 1, first + ID_BLOCK));
        first
    }
}

// ---- making -------------------------------------------------------------------------------------

/// The remote halves of all hubs, in use or waiting for the next hub. Held across fork, so that the child
/// finds it unlocked.
static REMOTES: Lock<Vec<&'static Remote>> = Lock::new(Vec::new());

fn remote_for(hub_id: u64) -> &'static Remote {
    static NEXT_INDEX: AtomicU32 = AtomicU32::new(0);
    let mut remotes = REMOTES.lock();
    if let Some(idle) = remotes.iter().find(|remote| remote.hub_id() == 0) {
        idle.reuse(hub_id);
        return idle;
    }
    let index = NEXT_INDEX.fetch_add(1, Ordering::Relaxed);
    let remote = Box::leak(Box::new(Remote::new(index, hub_id)));
    remotes.push(remote);
    remote
}

pub(super) fn new_hub() -> Hub {
    prepare_for_forks();
    let (hub_id, main_id) = reserved_ids();
    RESERVED.set((0, 0));
    let identity = (remote_for(hub_id), hub_id);
    let name = std::thread::current().name().map(Box::from);
    let main = Task::new_main(main_id, name, identity);
    let settings = Settings::defaults();
    if settings.cached_stacks != stack::DEFAULT_CACHED {
        stack::set_cached(settings.cached_stacks);
    }
    Hub::new(main, identity, settings)
}

/// The bit by which a source remembers that it is registered with a hub.
pub(crate) fn hub_bit(index: u32) -> u64 {
    1 << (index % 64)
}

/// Calls `act` with each hub but the calling thread's whose bit is set.
fn other_hubs(bits: u64, act: impl FnMut(&'static Remote)) {
    // SAFETY: null or this thread's live hub (see `hub::hub`).
    let own = unsafe { hub::existing().as_ref() }.map(Hub::remote);
    let is_meant = |remote: &&'static Remote| {
        bits & hub_bit(remote.index()) != 0 && !own.is_some_and(|own| std::ptr::eq(own, *remote))
    };
    let others: Vec<&'static Remote> = REMOTES.lock().iter().copied().filter(is_meant).collect();
    others.into_iter().for_each(act);
}

/// Whether hubs other than the calling thread's may be among those in `bits`.
fn is_shared(bits: u64, own: Option<&Hub>) -> bool {
    // Two hubs may have the same bit, but only where there are more of them than bits.
    bits & !own.map_or(0, |own| hub_bit(own.remote().index())) != 0
        || own.is_some_and(|own| own.remote().index() >= 64)
        || REMOTES.lock().len() > 64
}

/// Takes the descriptor of a source that is about to be closed out of the epoll instances of the hubs
/// in `bits`.
pub(crate) fn forget_source(fd: RawFd, id: SourceId, bits: u64) {
    // SAFETY: null or this thread's live hub (see `hub::hub`).
    let own = unsafe { hub::existing().as_ref() };
    if let Some(hub) = own {
        hub.reactor.borrow_mut().forget(fd, id);
    }
    if is_shared(bits, own) {
        other_hubs(bits, |other| {
            if let Some(fds) = other.fds().get() {
                fds.epoll.delete(fd);
            }
        });
    }
}

/// Wakes whoever waits for a descriptor that is being closed, on the hubs in `bits`.
pub(crate) fn close_source(fd: RawFd, bits: u64) {
    // SAFETY: null or this thread's live hub (see `hub::hub`).
    let own = unsafe { hub::existing().as_ref() };
    if let Some(hub) = own {
        hub.close_fd(fd);
    }
    if is_shared(bits, own) {
        // An ended hub has nobody who waits.
        other_hubs(bits, |other| drop(other.send(Message::Close(fd))));
    }
}

// ---- the end ------------------------------------------------------------------------------------

/// Kills every coroutine of the calling thread's hub but the caller, and waits up to `grace` for them to
/// unwind. Returns how many are left.
#[track_caller]
pub(crate) fn shutdown(grace: Duration) -> usize {
    end_all(hub::hub(), sys::deadline_in(grace))
}

#[track_caller]
fn end_all(hub: &Hub, deadline: Option<u64>) -> usize {
    let current = hub.current_ref();
    // Main is not in the table; a coroutine that shuts down its own hub is.
    let enough = usize::from(!hub.on_main());
    loop {
        let tasks: Vec<TaskRef> = hub.tasks.borrow().iter().map(|(_, task)| *task).collect();
        if tasks.len() <= enough {
            return 0;
        }
        for victim in tasks.into_iter().filter(|task| *task != current) {
            // SAFETY: nothing has run since the list was made, so none has finished. (A kill only
            // queues its victim.)
            let task = unsafe { victim.get() };
            // Again in each round: one that was inside a shield may have come out of it.
            task.request_kill();
            hub.wake(victim, Woken::Unparked);
        }
        let now = sys::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            return hub.tasks.borrow().len() - enough;
        }
        hub.awaited_end.set(Some((current, enough)));
        // Not for ever: what is spawned meanwhile, by destructors, has to be killed as well.
        let pause = now + 10_000_000;
        let _ = hub.park_shielded(
            Reason::Shutdown,
            Some(deadline.map_or(pause, |deadline| deadline.min(pause))),
        );
        hub.awaited_end.set(None);
    }
}

/// How long the end of a thread waits for coroutines that do not unwind at once: those that swallow
/// the kill, or are inside a shield.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// Unwinds what is left on the calling thread's hub and frees it.
pub(super) fn end_of_thread() {
    let pointer = hub::existing();
    // SAFETY: null or this thread's live hub.
    let Some(hub) = (unsafe { pointer.as_ref() }) else { return };
    // The end of main is the end of the process: coroutines are abandoned as threads are. The
    // same if a coroutine calls exit(3): we are on its stack, and cannot take it down.
    if sys::is_main_thread() || !hub.on_main() {
        return;
    }
    // std has taken the thread's signal stack down by now, and destructors may overflow like any code.
    overflow::ensure_alt_stack();
    let left = end_all(hub, sys::deadline_in(EXIT_GRACE));
    let mut messages = Vec::new();
    hub.remote().inbox().close(&mut messages);
    for message in messages {
        if let Message::Spawn(task, _) = message {
            spawn::refuse(&task);
        }
    }
    if left > 0 {
        log::warn!("a thread has ended with {left} coroutines that would not; they are abandoned");
        abandon(hub, None);
    }
    hub::detach();
    let remote = hub.remote();
    // SAFETY: made from a box in `hub::make`; the thread-local is null now, and the functions that use
    // the hub have returned (we are on main's stack, which is ending) or will never run again
    // (abandoned coroutines).
    drop(unsafe { Box::from_raw(pointer.cast_mut()) });
    // Only now, since nobody of this hub uses it any more.
    remote.retire();
}

/// Forgets all tasks but `survivor`: they never run again, their stacks are never reused, and whoever
/// joins them learns that they are gone.
fn abandon(hub: &Hub, survivor: Option<TaskRef>) {
    let abandoned: Vec<(usize, TaskRef)> = hub
        .tasks
        .borrow()
        .iter()
        .map(|(key, task)| (key, *task))
        .filter(|(_, task)| Some(*task) != survivor)
        .collect();
    // First all are out of the queue and out of reach of any wake: one may be waiting for another.
    for (_, task) in &abandoned {
        // SAFETY: it has not finished, and this is its hub's thread.
        unsafe { task.get().local() }.state.set(State::Done);
    }
    for (key, task) in abandoned {
        // The hub's ownership of the task is given up with it and never taken back: what is suspended
        // must not be dropped.
        hub.tasks.borrow_mut().remove(key);
        // SAFETY: as above.
        let (task, local) = unsafe { (task.get(), task.get().local()) };
        if let Some((key, _)) = local.timer.take() {
            hub.timers.borrow_mut().cancel(key);
        }
        if let Some(reservation) = local.reservation.take() {
            reservation.cancel();
        }
        spawn::end_without_result(hub, task);
    }
}

// ---- fork ---------------------------------------------------------------------------------------

/// How many forks lie between this process and the one that first asked.
pub(crate) fn forks() -> u64 {
    prepare_for_forks();
    FORKS.load(Ordering::Relaxed)
}

static FORKS: AtomicU64 = AtomicU64::new(0);

/// Makes sure that a child process gets a fresh hub.
fn prepare_for_forks() {
    static ONCE: Once = Once::new();
    // SAFETY: these are functions for the life of the process, and the child's does no more than a child
    // of a threaded process may (glibc keeps its allocator usable there).
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child));
    });
}

extern "C" fn before_fork() {
    std::mem::forget(REMOTES.lock());
}

extern "C" fn in_parent() {
    // SAFETY: locked by `before_fork` on this thread.
    unsafe { REMOTES.force_unlock() };
}

/// Runs in the child, on the only thread that it has.
///
/// The coroutine that has called fork goes on, and so does main, since it may be waiting for that one.
/// All the others stay behind with the parent: two processes must not both run them.
extern "C" fn in_child() {
    // SAFETY: locked by `before_fork` on the thread that this one is the copy of.
    unsafe { REMOTES.force_unlock() };
    FORKS.fetch_add(1, Ordering::Relaxed);
    helpers::forget_all();
    // SAFETY: null or this thread's live hub (see `hub::hub`).
    let hub = unsafe { hub::existing().as_ref() };
    // The hubs of other threads are not here. Their descriptors are the parent's, not to be reused.
    REMOTES.lock().retain(|remote| {
        let own = hub.is_some_and(|hub| std::ptr::eq(hub.remote(), *remote));
        if !own {
            remote.retire();
        }
        own
    });
    if let Some(hub) = hub {
        renew(hub);
    }
}

fn renew(hub: &Hub) {
    hub.forget_queue();
    for (_, task) in hub.tasks.borrow().iter() {
        // SAFETY: the hub owns the tasks in its table.
        unsafe { task.get() }.unlock_after_fork();
    }
    abandon(hub, Some(hub.current_ref()));
    // What the parent's threads had sent is the parent's. It is forgotten, not dropped, but the survivors
    // must get further wakes.
    let mut messages = Vec::new();
    hub.remote().inbox().take_all(&mut messages);
    for message in &messages {
        if let Message::Wake(task) = message {
            task.wake_received();
        }
    }
    std::mem::forget(messages);
    hub.remote().bell().wake_up();
    hub.reactor.borrow_mut().reset();
    if let Some(fds) = hub.remote().fds().get() {
        let renewed = sys::eventfd()
            .and_then(|fresh| sys::renew(&fds.eventfd, fresh))
            .and_then(|()| fds.epoll.renew());
        if let Err(error) = renewed {
            // The parent's epoll instance must not be used: better none at all.
            log::error!(
                "no fresh epoll instance after fork ({error}): the hub cannot wait for I/O"
            );
        }
    }
    if !hub.on_main() {
        // Out of the queue, or waiting for what is gone (a descriptor's registration, a coroutine): let it
        // look again.
        hub.requeue_main();
    }
}

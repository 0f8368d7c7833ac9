//! The scheduler of one thread: run queue, loop, parking and waking.
//!
//! A thread's hub comes into being on first use. The thread's own stack is its *main* coroutine: when
//! that parks, it runs the loop here until somebody wakes it. Every other coroutine parks by suspending
//! to that loop.
//!
//! All state is the thread's own. Other threads send messages (see `remote.rs`).

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr;

use slab::Slab;

use super::blocks::Blocks;
use super::coroutine::Step;
use super::interrupt::Unwinding;
use super::life;
use super::reactor::Reactor;
use super::run_queue::RunQueue;
use super::spawn;
use super::stack::Reservation;
use super::sys;
use super::task::{Message, Reason, Remote, State, Task, TaskArc, TaskRef, Woken};
use super::timers::{Expired, Timers};

/// Counters, for people.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) switches: Cell<u64>,
    pub(super) spawned: Cell<u64>,
    pub(super) polls: Cell<u64>,
    pub(super) events: Cell<u64>,
    pub(super) remote_wakes: Cell<u64>,
}

#[inline]
pub(super) fn bump(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get().wrapping_add(by));
}

pub(crate) struct Hub {
    /// The task that runs now. Stale while the loop itself runs.
    pub(super) current: Cell<TaskRef>,
    pub(super) run: RunQueue,
    /// Switches left before I/O, timers and other threads get a look, however full the run queue.
    pub(super) countdown: Cell<u32>,
    /// How often the countdown went down without a switch.
    pub(super) idle_yields: Cell<u32>,
    /// Whether the loop is at its own work, on main's stack: then `current` is stale.
    #[cfg(feature = "patch")]
    pub(super) in_turn: Cell<bool>,
    #[cfg(feature = "patch")]
    pub(super) token: super::token::ThreadToken,
    /// How many I/O operations a task has done without waiting, and which one.
    pub(super) charged: Cell<(u32, TaskRef)>,
    /// See `interrupt.rs`.
    pub(super) unwinding: Cell<Unwinding>,
    pub(super) main_ref: TaskRef,
    /// Every task that has not finished, but for main.
    ///
    /// A task in the table is owned by the hub (`TaskArc::into_ref`).
    pub(super) tasks: RefCell<Slab<TaskRef>>,
    pub(super) timers: RefCell<Timers<TaskRef>>,
    pub(super) reactor: RefCell<Reactor<TaskRef>>,
    pub(super) remote: &'static Remote,
    id: u64,
    pub(super) settings: Cell<life::Settings>,
    pub(super) counters: Counters,
    /// The time at the last turn of the loop, to a few milliseconds.
    pub(super) coarse_now: Cell<u64>,
    /// When the hub last began to sleep without end, and at which count of switches.
    pub(super) silence: Cell<(u64, u64)>,
    /// Who waited for what when main was told of a deadlock.
    pub(super) deadlock: RefCell<String>,
    /// Whether it has warned of a possible deadlock.
    pub(super) warned: Cell<bool>,
    /// To be woken when a task finishes and this few are left.
    pub(super) awaited_end: Cell<Option<(TaskRef, usize)>>,
    /// Ids that are set aside for this hub.
    pub(super) ids: Cell<(u64, u64)>,
    pub(super) main: TaskArc,
    /// Memory of tasks that are gone.
    pub(super) blocks: Blocks,
    /// Scratch space of `turn`, kept to save allocations.
    pub(super) ready: RefCell<Vec<TaskRef>>,
    pub(super) due: RefCell<Vec<Expired<TaskRef>>>,
    pub(super) messages: RefCell<Vec<Message>>,
    /// Tasks from other threads that could not be taken in, until main refuses them.
    pub(super) orphans: RefCell<Vec<TaskArc>>,
}

thread_local! {
    /// Null before first use and after the thread's end. Without a destructor, so that it can be
    /// asked at any time; the hub is taken down by `rt::exit`.
    static HUB: Cell<*const Hub> = const { Cell::new(ptr::null()) };
}

/// The thread's hub, which is made if there is none.
///
/// A hub is freed at its thread's end, from a destructor that runs when no other function of the crate
/// is left on the thread's stack. So the reference may be used freely inside the crate's functions, but
/// never be stored. (`Hub` is not `Sync`: it cannot leave the thread.)
#[inline(always)]
pub(crate) fn hub() -> &'static Hub {
    let hub = HUB.get();
    // SAFETY: null or made by `make`, and not yet freed: see above.
    match unsafe { hub.as_ref() } {
        Some(hub) => hub,
        // SAFETY: as above.
        None => unsafe { &*make() },
    }
}

#[cold]
fn make() -> *const Hub {
    let hub = Box::into_raw(Box::new(life::new_hub()));
    HUB.set(hub);
    super::exit::at_thread_exit(super::exit::Phase::Hub, life::end_of_thread);
    hub
}

/// The thread's hub, if it has one.
#[inline(always)]
pub(super) fn existing() -> *const Hub {
    HUB.get()
}

/// Forgets the thread's hub; the next use makes a new one.
pub(super) fn detach() {
    HUB.set(ptr::null());
}

impl Hub {
    pub(super) fn new(
        main: TaskArc,
        (remote, id): (&'static Remote, u64),
        settings: life::Settings,
    ) -> Hub {
        let main_ref = main.as_ref();
        Hub {
            current: Cell::new(main_ref),
            run: RunQueue::new(main_ref),
            countdown: Cell::new(settings.poll_interval),
            idle_yields: Cell::new(0),
            #[cfg(feature = "patch")]
            in_turn: Cell::new(false),
            #[cfg(feature = "patch")]
            token: super::token::ThreadToken::new(),
            charged: Cell::new((0, main_ref)),
            unwinding: Cell::new(Unwinding::default()),
            main_ref,
            tasks: RefCell::new(Slab::new()),
            timers: RefCell::new(Timers::new()),
            reactor: RefCell::new(Reactor::new()),
            remote,
            id,
            settings: Cell::new(settings),
            counters: Counters::default(),
            coarse_now: Cell::new(sys::coarse_now()),
            silence: Cell::new((0, 0)),
            deadlock: RefCell::new(String::new()),
            warned: Cell::new(false),
            awaited_end: Cell::new(None),
            ids: Cell::new((0, 0)),
            main,
            blocks: Blocks::new(),
            ready: RefCell::new(Vec::new()),
            due: RefCell::new(Vec::new()),
            messages: RefCell::new(Vec::new()),
            orphans: RefCell::new(Vec::new()),
        }
    }

    /// The running task.
    #[inline]
    pub(crate) fn current(&self) -> &Task {
        // SAFETY: the running task has not finished.
        unsafe { self.current.get().get() }
    }

    pub(crate) fn current_arc(&self) -> TaskArc {
        // SAFETY: the running task has not finished.
        unsafe { self.current.get().to_arc() }
    }

    #[inline]
    pub(super) fn current_ref(&self) -> TaskRef {
        self.current.get()
    }

    #[inline]
    pub(crate) fn on_main(&self) -> bool {
        self.current.get() == self.main_ref
    }

    #[inline]
    pub(super) fn owns(&self, task: &Task) -> bool {
        task.belongs_to(self.id)
    }

    // ---- parking ------------------------------------------------------------------------------

    /// Parks the current task until it is woken, killed or past its deadline or time limit.
    ///
    /// Wakes are not remembered: whoever parks has enlisted itself somewhere before, and checks
    /// after every return (and before every park) whether what it waits for has come. It never unwinds.
    #[inline(always)]
    #[track_caller]
    pub(super) fn park(&self, reason: Reason, deadline: Option<u64>) -> Woken {
        let current = self.current.get();
        // SAFETY: the running task is alive and this is its hub's thread.
        let (task, local) = unsafe { (current.get(), current.get().local()) };
        let interruptible = local.shields.get() == 0 && !std::thread::panicking();
        if interruptible && task.kill_requested() {
            return self.deliver_kill(local);
        }
        local.reason.set(reason);
        local.location.set(Location::caller());
        local.since.set(self.coarse_now.get());
        let deadline = deadline.unwrap_or(u64::MAX);
        let limit = if interruptible { self.limit_in_force(local) } else { u64::MAX };
        if deadline.min(limit) != u64::MAX {
            local.deadline.set(deadline);
            local.limit_now.set(limit);
            self.set_timer(current, deadline.min(limit));
        }
        local.state.set(State::Parked);
        self.suspend(current);
        local.deadline.set(u64::MAX);
        local.limit_now.set(u64::MAX);
        self.charged.set((0, current));
        let woken = local.woken.get();
        if task.kill_requested() && woken == Woken::Unparked && interruptible {
            // If it was not calm when the wait began, it may be in the middle of unwinding.
            return self.deliver_kill(local);
        }
        woken
    }

    /// Leaves the current task until the loop comes back to it. Its state says when that will be.
    #[inline(always)]
    fn suspend(&self, current: TaskRef) {
        if std::thread::panicking() {
            return self.suspend_unwinding(|| self.switch_away(current));
        }
        self.switch_away(current);
    }

    #[inline(always)]
    fn switch_away(&self, current: TaskRef) {
        // SAFETY: the running task is alive and this is its hub's thread.
        let local = unsafe { current.get().local() };
        local.stack_top.set(stack_top());
        // What other coroutines leave there must not be taken for the outcome of this one's last call.
        #[cfg(feature = "patch")]
        let errno = super::real::errno();
        match local.suspender.get() {
            // SAFETY: the current coroutine has not finished, and we run on its stack or on one nested
            // in it: only the loop changes `current`, and it does so as it resumes.
            Some(suspender) => unsafe { suspender.suspend(()) },
            None => self.drive(), // main
        }
        #[cfg(feature = "patch")]
        super::real::set_errno(errno);
    }

    /// Lets every other runnable task run before the current one goes on.
    #[inline(always)]
    pub(crate) fn yield_now(&self) {
        if std::thread::panicking() && self.is_unwinding() {
            return;
        }
        if self.run.is_empty() {
            // Nobody else; but I/O and timers want a look now and then.
            let left = self.countdown.get();
            if left > 0 {
                self.countdown.set(left - 1);
                self.idle_yields.set(self.idle_yields.get() + 1);
                return;
            }
        }
        self.give_way();
    }

    /// Goes to the end of the run queue. Only for a task that is not unwinding.
    #[inline(always)]
    pub(super) fn give_way(&self) {
        let current = self.current.get();
        self.run.push(current);
        self.switch_away(current);
    }

    /// Makes sure that a timer looks after the task at `time` or before.
    pub(super) fn set_timer(&self, task: TaskRef, time: u64) {
        // SAFETY: a parked or running task is alive, and this is its hub's thread.
        let local = unsafe { task.get().local() };
        match local.timer.get() {
            // Fires early, finds the later deadline and is set again then.
            Some((_, fires)) if fires <= time => {}
            Some((key, _)) => {
                self.timers.borrow_mut().rearm(key, time);
                local.timer.set(Some((key, time)));
            }
            None => {
                let key = self.timers.borrow_mut().insert(time, task);
                local.timer.set(Some((key, time)));
            }
        }
    }

    /// Waits for the end of a task of this hub. What `Task::exit` does between threads, without its
    /// lock.
    #[inline]
    #[track_caller]
    pub(super) fn join(
        &self,
        task: &Task,
        reason: Reason,
        deadline: Option<u64>,
    ) -> Result<(), Woken> {
        // SAFETY: this is the task's hub's thread.
        let local = unsafe { task.local() };
        loop {
            if task.has_exited() {
                return Ok(());
            }
            local.joiner.set(Some(self.current.get()));
            let woken = self.park(reason, deadline);
            local.joiner.set(None);
            if woken != Woken::Unparked && !task.has_exited() {
                return Err(woken);
            }
        }
    }

    // ---- waking -------------------------------------------------------------------------------

    /// Makes a parked task runnable. One that is not parked needs no wake.
    #[inline]
    pub(super) fn wake(&self, task: TaskRef, woken: Woken) {
        // SAFETY: callers hold the task alive, and this is its hub's thread.
        let local = unsafe { task.get().local() };
        if local.state.get() == State::Parked {
            local.state.set(State::Active);
            local.woken.set(woken);
            self.run.push(task);
        }
    }

    // ---- the loop -----------------------------------------------------------------------------

    /// Runs other tasks until main is woken. Only main calls this, on its own stack.
    fn drive(&self) {
        loop {
            if self.countdown.get() == 0 {
                self.turn(false);
            }
            match self.run.pop() {
                Some(task) => {
                    self.countdown.set(self.countdown.get() - 1);
                    self.current.set(task);
                    if !self.resume(task) {
                        return self.refuse_orphans();
                    }
                }
                None => self.turn(true),
            }
        }
    }

    /// Runs a coroutine until it suspends itself or ends. False if the task is main, which has none.
    #[inline(always)]
    fn resume(&self, task: TaskRef) -> bool {
        // SAFETY: a queued task has not finished, and this is its hub's thread.
        let local = unsafe { task.get().local() };
        // SAFETY: nobody else touches the coroutine: it is reached only here and in `finish`, both
        // from the loop, which does not run inside itself.
        let Some(coroutine) = (unsafe { &mut *local.coroutine.get() }) else {
            return self.first_run(task);
        };
        if let Step::Finished(()) = coroutine.resume(()) {
            self.finish(task);
        }
        true
    }

    /// Runs a coroutine for the first time. False if the task is main, which never has one.
    #[inline(never)]
    fn first_run(&self, task: TaskRef) -> bool {
        if task == self.main_ref {
            return false;
        }
        // SAFETY: the hub owns the task until it has finished; the borrowed owner is not dropped.
        let owner = ManuallyDrop::new(unsafe { task.into_arc() });
        match spawn::start(&owner) {
            Ok(coroutine) => {
                // SAFETY: as in `resume`.
                let place = unsafe { &mut *owner.local().coroutine.get() };
                if let Step::Finished(()) = place.insert(coroutine).resume(()) {
                    self.finish(task);
                }
            }
            Err(error) => {
                log::error!("a coroutine finds no stack at the end of its thread: {error}");
                spawn::refuse(&owner);
                self.finish(task);
            }
        }
        true
    }

    /// Takes down a task whose function has returned.
    fn finish(&self, task: TaskRef) {
        // SAFETY: the table still holds the task, and this is its hub's thread.
        let local = unsafe { task.get().local() };
        local.state.set(State::Done);
        if let Some((key, _)) = local.timer.take() {
            self.timers.borrow_mut().cancel(key);
        }
        let left = {
            let mut tasks = self.tasks.borrow_mut();
            tasks.remove(local.key.get());
            tasks.len()
        };
        if let Some((waiter, enough)) = self.awaited_end.get() {
            if left <= enough {
                self.awaited_end.set(None);
                self.wake(waiter, Woken::Unparked);
            }
        }
        // Late, when the processor has got done with what the coroutine wrote last: to move it right
        // after would stall.
        // SAFETY: as in `resume`.
        let coroutine = unsafe { &mut *local.coroutine.get() }.take();
        drop(coroutine.map(|coroutine| coroutine.into_stack()));
        // SAFETY: the ownership that `admit` gave up.
        drop(unsafe { task.into_arc() });
    }

    /// Puts a new task into the table and the run queue.
    #[inline]
    pub(super) fn admit(&self, task: TaskArc, reservation: Reservation) {
        let task = self.register(task, reservation);
        self.run.push(task);
    }

    /// Puts a new task into the table; it runs when `start` has come. (It waits like any other, except that
    /// it has no stack yet.)
    pub(super) fn admit_later(&self, task: TaskArc, reservation: Reservation, start: u64) {
        let task = self.register(task, reservation);
        // SAFETY: the hub owns the task, and this is its hub's thread.
        let local = unsafe { task.get().local() };
        local.reason.set(Reason::Sleep);
        local.since.set(self.coarse_now.get());
        local.deadline.set(start);
        local.state.set(State::Parked);
        self.set_timer(task, start);
    }

    #[inline]
    fn register(&self, task: TaskArc, reservation: Reservation) -> TaskRef {
        let task = task.into_ref();
        let key = self.tasks.borrow_mut().insert(task);
        // SAFETY: the hub owns the task, and this is its hub's thread.
        let local = unsafe { task.get().local() };
        local.key.set(key);
        local.reservation.set(Some(reservation));
        bump(&self.counters.spawned, 1);
        task
    }

    // ---- for the feature `patch` ---------------------------------------------------------------------

    /// Whether the caller is the program's own code on a coroutine, or on main while there are others, so
    /// that it may wait as coroutines do. Not so in the hub's own work, nor where it must not switch, nor
    /// where its state is borrowed (an allocator of the program's may get there).
    #[cfg(feature = "patch")]
    #[inline]
    pub(super) fn may_wait_here(&self) -> bool {
        if self.in_turn.get() {
            return false;
        }
        let Ok(tasks) = self.tasks.try_borrow_mut() else { return false };
        let current = self.current.get();
        // SAFETY: outside of `turn`, the task that runs, or one that has just ended and is still owned.
        let local = unsafe { current.get().local() };
        let runs = match current == self.main_ref {
            true => !tasks.is_empty(),
            false => local.suspender.get().is_some() && local.state.get() == State::Active,
        };
        runs && local.unpatched.get() == 0
            && self.reactor.try_borrow_mut().is_ok()
            && self.timers.try_borrow_mut().is_ok()
    }

    // ---- for the rest of rt --------------------------------------------------------------------------

    pub(super) fn remote(&self) -> &'static Remote {
        self.remote
    }

    /// What a new task of this hub has to know.
    #[inline]
    pub(super) fn identity(&self) -> (&'static Remote, u64) {
        (self.remote, self.id)
    }

    /// The unparker of the current task.
    #[inline]
    pub(super) fn unparker(&self) -> Unparker {
        Unparker::new(self.current_arc())
    }

    pub(super) fn stats(&self) -> super::HubStats {
        self.count_switches();
        super::HubStats {
            switches: self.counters.switches.get(),
            spawned: self.counters.spawned.get(),
            polls: self.counters.polls.get(),
            events: self.counters.events.get(),
            remote_wakes: self.counters.remote_wakes.get(),
            live: self.tasks.borrow().len(),
            queued: self.run.len(),
            timers: self.timers.borrow().len(),
        }
    }

    /// Empties the run queue; in the child of a fork.
    pub(super) fn forget_queue(&self) {
        self.run.clear();
    }

    /// Puts main, which does not run, into the empty run queue.
    pub(super) fn requeue_main(&self) {
        // SAFETY: main is alive, and this is its hub's thread.
        let local = unsafe { self.main_ref.get().local() };
        if local.state.get() == State::Active {
            self.run.push(self.main_ref); // it was in the queue
        } else {
            self.wake(self.main_ref, Woken::Unparked);
        }
    }
}

/// The calling function's stack pointer; only a hint.
#[inline(always)]
fn stack_top() -> *const i8 {
    #[cfg(target_arch = "x86_64")]
    {
        let top;
        // SAFETY: copies a register.
        unsafe {
            std::arch::asm!("mov {}, rsp", out(reg) top, options(nomem, nostack, pure, preserves_flags))
        };
        top
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::ptr::null()
}

// ---- the functions that the rest of the crate uses ---------------------------------------------

/// Whatever wakes one certain coroutine, from any thread.
#[derive(Clone, Default)]
pub(crate) struct Unparker(Option<TaskArc>);

impl Unparker {
    pub(crate) fn new(task: TaskArc) -> Self {
        Unparker(Some(task))
    }

    /// Wakes the task at once if it is one of the calling thread's; that is a few writes to what is the
    /// thread's own. Otherwise the unparker that is to do it, when the caller has let go of its locks. (So
    /// the count of the task's owners changes only between threads.)
    ///
    /// # Safety
    /// The task must not have finished.
    #[inline(always)]
    pub(super) unsafe fn wake_or_new(task: TaskRef) -> Self {
        // SAFETY: see `hub`; and the task is alive by contract.
        match unsafe { (HUB.get().as_ref(), task.get()) } {
            (Some(hub), shared) if hub.owns(shared) => {
                hub.wake(task, Woken::Unparked);
                Unparker(None)
            }
            // SAFETY: by contract.
            _ => Unparker::new(unsafe { task.to_arc() }),
        }
    }

    /// Whether there is somebody still to be woken.
    #[inline(always)]
    pub(crate) fn is_pending(&self) -> bool {
        self.0.is_some()
    }

    /// Ends the coroutine's park, if it is parked. A coroutine that has finished is not disturbed.
    #[inline]
    pub(crate) fn unpark(self) {
        let Some(task) = self.0 else { return };
        // SAFETY: see `hub`.
        match unsafe { HUB.get().as_ref() } {
            Some(hub) if hub.owns(&task) => hub.wake(task.as_ref(), Woken::Unparked),
            _ => Task::wake_remotely(task),
        }
    }
}

//! The scheduler of one thread: run queue, loop, parking and waking.
//!
//! A thread's hub comes into being on first use. The thread's own stack is its *main* coroutine: when
//! that parks, it runs the loop here until somebody wakes it. Every other coroutine parks by suspending
//! to that loop.
//!
//! All state is the thread's own. Other threads send messages (see `remote.rs`).

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::Location;
use std::ptr;
use std::sync::Arc;

use slab::Slab;

use super::coroutine::Step;
use super::life;
use super::reactor::{Direction, Enlisted, Reactor, SourceId};
use super::spawn;
use super::stack::Reservation;
use super::sys::{self, Epoll};
use super::task::{Message, Reason, Remote, State, Task, TaskArc, TaskRef, WakeFds, Woken};
use super::timers::{Expired, Timers};

/// Runnable tasks, first in first out: a list that is linked through the tasks themselves.
///
/// It never allocates, and an element costs a few instructions, which is what a switch is made of.
/// The tasks at both ends are in the cache anyway: one is about to run, one has just run or been woken.
struct RunQueue {
    head: Cell<Option<TaskRef>>,
    /// Meaningless while `head` is `None`.
    tail: Cell<TaskRef>,
}

impl RunQueue {
    #[inline(always)]
    fn push(&self, task: TaskRef) {
        // SAFETY: what is in the queue or being pushed has not finished, and this is its hub's thread.
        let (next, last) = unsafe { (&task.get().local().next, &self.tail.get().get().local().next) };
        next.set(None);
        match self.head.get() {
            None => self.head.set(Some(task)),
            Some(_) => last.set(Some(task)),
        }
        self.tail.set(task);
    }

    #[inline(always)]
    fn pop(&self) -> Option<TaskRef> {
        let task = self.head.get()?;
        // SAFETY: as in `push`.
        let next = unsafe { task.get().local() }.next.get();
        if let Some(next) = next {
            next.prefetch();
        }
        self.head.set(next);
        Some(task)
    }

    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    fn len(&self) -> usize {
        // SAFETY: as in `push`.
        let next = |task: &TaskRef| unsafe { task.get().local() }.next.get();
        std::iter::successors(self.head.get(), next).count()
    }

    fn clear(&self) {
        self.head.set(None);
    }
}

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
    current: Cell<TaskRef>,
    run: RunQueue,
    /// Switches left before I/O, timers and other threads get a look, however full the run queue.
    countdown: Cell<u32>,
    /// How many I/O operations a task has done without waiting, and which one.
    charged: Cell<(u32, TaskRef)>,
    /// Tasks that are suspended in the middle of unwinding. std counts panics by thread, so while
    /// this is above zero `std::thread::panicking` says nothing about the current task.
    unwinding: Cell<u32>,
    main_ref: TaskRef,
    /// Every task that has not finished, but for main.
    ///
    /// A task in the table is owned by the hub (`TaskArc::into_ref`).
    pub(super) tasks: RefCell<Slab<TaskRef>>,
    pub(super) timers: RefCell<Timers<TaskRef>>,
    pub(super) reactor: RefCell<Reactor<TaskRef>>,
    remote: &'static Remote,
    id: u64,
    pub(super) settings: Cell<life::Settings>,
    pub(super) counters: Counters,
    /// To be woken when a task finishes and this few are left.
    pub(super) awaited_end: Cell<Option<(TaskRef, usize)>>,
    /// Ids that are set aside for this hub.
    pub(super) ids: Cell<(u64, u64)>,
    pub(super) main: TaskArc,
    /// Scratch space of `turn`, kept to save allocations.
    ready: RefCell<Vec<TaskRef>>,
    due: RefCell<Vec<Expired<TaskRef>>>,
    messages: RefCell<Vec<Message>>,
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
            run: RunQueue { head: Cell::new(None), tail: Cell::new(main_ref) },
            countdown: Cell::new(settings.poll_interval),
            charged: Cell::new((0, main_ref)),
            unwinding: Cell::new(0),
            main_ref,
            tasks: RefCell::new(Slab::new()),
            timers: RefCell::new(Timers::new()),
            reactor: RefCell::new(Reactor::new()),
            remote,
            id,
            settings: Cell::new(settings),
            counters: Counters::default(),
            awaited_end: Cell::new(None),
            ids: Cell::new((0, 0)),
            main,
            ready: RefCell::new(Vec::new()),
            due: RefCell::new(Vec::new()),
            messages: RefCell::new(Vec::new()),
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

    /// Parks the current task until it is woken, killed or past its deadline.
    ///
    /// Wakes are not remembered: whoever parks has enlisted itself somewhere before, and checks
    /// after every return (and before every park) whether what it waits for has come. It never unwinds.
    #[inline]
    #[track_caller]
    pub(super) fn park(&self, reason: Reason, deadline: Option<u64>) -> Woken {
        let current = self.current.get();
        // SAFETY: the running task is alive and this is its hub's thread.
        let (task, local) = unsafe { (current.get(), current.get().local()) };
        if task.kill_requested() && self.deliver_kill(task) {
            return Woken::Killed;
        }
        local.reason.set(reason);
        local.location.set(Location::caller());
        if let Some(deadline) = deadline {
            self.set_deadline(current, deadline);
        }
        local.state.set(State::Parked);
        self.suspend(current);
        local.deadline.set(u64::MAX);
        self.charged.set((0, current));
        let woken = local.woken.get();
        if task.kill_requested() && woken == Woken::Unparked && self.deliver_kill(task) {
            return Woken::Killed;
        }
        woken
    }

    /// Whether a kill that was asked for is to be delivered now.
    #[cold]
    fn deliver_kill(&self, task: &Task) -> bool {
        // SAFETY: called for the running task, on its hub's thread.
        let local = unsafe { task.local() };
        if local.shields.get() > 0 || self.is_unwinding() {
            return false;
        }
        let delivered = local.kills_delivered.get();
        local.kills_delivered.set(delivered.saturating_add(1));
        if delivered > 0 {
            // Somebody has swallowed it. A loop around that must not keep the others from running.
            self.give_way();
        }
        true
    }

    /// Leaves the current task until the loop comes back to it. Its state says when that will be.
    #[inline(always)]
    fn suspend(&self, current: TaskRef) {
        if std::thread::panicking() {
            return self.suspend_unwinding(current);
        }
        self.switch_away(current);
    }

    /// As `suspend`, where a panic is on its way through this thread: maybe the current task's own.
    #[cold]
    fn suspend_unwinding(&self, current: TaskRef) {
        let own = u32::from(self.is_unwinding());
        self.unwinding.set(self.unwinding.get() + own);
        self.switch_away(current);
        self.unwinding.set(self.unwinding.get() - own);
    }

    #[inline(always)]
    fn switch_away(&self, current: TaskRef) {
        // SAFETY: the running task is alive and this is its hub's thread.
        match unsafe { current.get().local() }.suspender.get() {
            // SAFETY: the current coroutine has not finished, and we run on its stack or on one nested
            // in it: only the loop changes `current`, and it does so as it resumes.
            Some(suspender) => unsafe { suspender.suspend(()) },
            None => self.drive(), // main
        }
    }

    /// Whether the current task itself is unwinding from a panic or a kill. It must not switch then
    /// if it can help it: another coroutine would see `std::thread::panicking()`.
    #[inline(always)]
    pub(crate) fn is_unwinding(&self) -> bool {
        std::thread::panicking() && self.unwinding.get() == 0
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
                return;
            }
        }
        self.give_way();
    }

    /// Goes to the end of the run queue. Only for a task that is not unwinding.
    #[inline(always)]
    fn give_way(&self) {
        let current = self.current.get();
        self.run.push(current);
        self.switch_away(current);
    }

    /// To be called after an I/O operation that did not have to wait: a task whose I/O is always
    /// ready lets the others run once its budget is used up.
    #[inline]
    pub(crate) fn charge(&self) {
        let current = self.current.get();
        let (done, by) = self.charged.get();
        let done = if by == current { done + 1 } else { 1 };
        if done < self.settings.get().io_budget {
            self.charged.set((done, current));
        } else {
            self.charged.set((0, current));
            self.yield_now();
        }
    }

    fn set_deadline(&self, task: TaskRef, deadline: u64) {
        // SAFETY: the running task is alive and this is its hub's thread.
        let local = unsafe { task.get().local() };
        local.deadline.set(deadline);
        match local.timer.get() {
            // Fires early, finds the later deadline and is set again then.
            Some((_, fires)) if fires <= deadline => {}
            Some((key, _)) => {
                self.timers.borrow_mut().rearm(key, deadline);
                local.timer.set(Some((key, deadline)));
            }
            None => {
                let key = self.timers.borrow_mut().insert(deadline, task);
                local.timer.set(Some((key, deadline)));
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
            let left = self.countdown.get();
            if left == 0 {
                self.turn(false);
            } else {
                self.countdown.set(left - 1);
            }
            match self.run.pop() {
                Some(task) => {
                    self.current.set(task);
                    if !self.resume(task) {
                        return;
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
        let task = task.into_ref();
        let key = self.tasks.borrow_mut().insert(task);
        // SAFETY: the hub owns the task, and this is its hub's thread.
        let local = unsafe { task.get().local() };
        local.key.set(key);
        local.reservation.set(Some(reservation));
        bump(&self.counters.spawned, 1);
        self.run.push(task);
    }

    /// Looks after other threads' messages, timers and I/O. With `block` and nothing to run it sleeps
    /// until there is something.
    #[inline(never)]
    fn turn(&self, block: bool) {
        self.count_switches();
        self.receive();
        let now = self.expire_timers();
        let block = block && self.run.is_empty();
        let timeout = match (block, now) {
            (false, _) => Some(0),
            (true, None) => None,
            (true, Some(now)) => {
                self.timers.borrow().next_expiry().map(|next| next.saturating_sub(now))
            }
        };
        if self.reactor.borrow().started() {
            if block || self.reactor.borrow().waiting() > 0 {
                self.poll(timeout);
            }
        } else if block {
            self.sleep_on_futex(timeout);
        }
    }

    /// Adds up the switches since the last time and starts the countdown anew.
    fn count_switches(&self) {
        let (interval, left) = (self.settings.get().poll_interval, self.countdown.get());
        bump(&self.counters.switches, u64::from(interval.saturating_sub(left)));
        self.countdown.set(interval);
    }

    fn poll(&self, timeout: Option<u64>) {
        bump(&self.counters.polls, 1);
        let mut ready = self.ready.take();
        let found = if timeout == Some(0) {
            self.reactor.borrow_mut().poll(timeout, &mut ready)
        } else {
            let bell = self.remote.bell();
            bell.fall_asleep(true);
            // A message that came before the bell was set would not ring it.
            let timeout = if self.remote.inbox().is_empty() { timeout } else { Some(0) };
            let found = self.reactor.borrow_mut().poll(timeout, &mut ready);
            bell.wake_up();
            found
        };
        bump(&self.counters.events, found as u64);
        for task in ready.drain(..) {
            self.wake(task, Woken::Unparked);
        }
        self.ready.replace(ready);
    }

    fn sleep_on_futex(&self, timeout: Option<u64>) {
        let bell = self.remote.bell();
        bell.fall_asleep(false);
        if self.remote.inbox().is_empty() {
            let (word, asleep) = bell.futex();
            sys::futex_wait(word, asleep, timeout);
        }
        bell.wake_up();
    }

    /// Acts on the messages of other threads.
    fn receive(&self) {
        if self.remote.inbox().is_empty() {
            return;
        }
        let mut messages = self.messages.take();
        self.remote.inbox().take_all(&mut messages);
        for message in messages.drain(..) {
            match message {
                Message::Wake(task) => {
                    bump(&self.counters.remote_wakes, 1);
                    task.wake_received();
                    // A late one may be meant for the hub that `remote` served before.
                    if self.owns(&task) {
                        self.wake(task.as_ref(), Woken::Unparked);
                    }
                }
                Message::Spawn(task, stack_size) => spawn::adopt(self, task, stack_size),
                Message::Close(fd) => self.close_fd(fd),
            }
        }
        self.messages.replace(messages);
    }

    /// Wakes those whose deadline has passed. Returns the time, if it had to be asked for.
    fn expire_timers(&self) -> Option<u64> {
        if self.timers.borrow().is_empty() {
            return None;
        }
        let now = sys::now();
        let mut due = self.due.take();
        self.timers.borrow_mut().expire(now, &mut due);
        for Expired { waker: task, .. } in due.drain(..) {
            // SAFETY: a task cancels its timer as it finishes, so this one has not finished.
            let local = unsafe { task.get().local() };
            local.timer.set(None);
            let deadline = local.deadline.get();
            if local.state.get() != State::Parked || deadline == u64::MAX {
                // Left over from an earlier wait.
            } else if deadline <= now {
                self.wake(task, Woken::TimedOut);
            } else {
                self.set_deadline(task, deadline);
            }
        }
        self.due.replace(due);
        Some(now)
    }

    // ---- I/O ----------------------------------------------------------------------------------

    /// Whether an operation on the descriptor is worth trying (see `reactor.rs`).
    #[inline]
    pub(crate) fn may_be_ready(&self, fd: RawFd, id: SourceId, direction: Direction) -> bool {
        self.reactor.borrow_mut().may_be_ready(fd, id, direction)
    }

    #[inline]
    pub(crate) fn short_read(&self, fd: RawFd, id: SourceId) {
        self.reactor.borrow_mut().short_read(fd, id);
    }

    /// Parks the current task until the descriptor may be ready again.
    ///
    /// # Errors
    /// What epoll_create1(2), eventfd(2) or epoll_ctl(2) says; it has not waited then.
    #[track_caller]
    pub(crate) fn wait_fd(
        &self,
        fd: RawFd,
        id: SourceId,
        direction: Direction,
        deadline: Option<u64>,
    ) -> io::Result<Woken> {
        if self.is_unwinding() {
            let events = match direction {
                Direction::Read => libc::POLLIN,
                Direction::Write => libc::POLLOUT,
            };
            let ready = sys::poll_blocking(fd, events, deadline)?;
            return Ok(if ready { Woken::Unparked } else { Woken::TimedOut });
        }
        if !self.reactor.borrow().started() {
            self.start_reactor()?;
        }
        let current = self.current.get();
        match self.reactor.borrow_mut().wait(fd, id, direction, current)? {
            Enlisted::AlwaysReady => return Ok(Woken::Unparked),
            Enlisted::Waiting => {}
        }
        let reason = match direction {
            Direction::Read => Reason::Read(fd),
            Direction::Write => Reason::Write(fd),
        };
        let woken = self.park(reason, deadline);
        // Poll has taken it off the list, unless something else has ended the wait.
        self.reactor.borrow_mut().cancel(fd, direction, current);
        Ok(woken)
    }

    #[cold]
    fn start_reactor(&self) -> io::Result<()> {
        let fds = match self.remote.fds().get() {
            Some(fds) => fds,
            None => {
                let fds = WakeFds { epoll: Arc::new(Epoll::new()?), eventfd: sys::eventfd()? };
                self.remote.fds().get_or_init(|| fds)
            }
        };
        self.reactor.borrow_mut().start(fds.epoll.clone(), fds.eventfd.as_raw_fd())
    }

    // ---- for the rest of rt --------------------------------------------------------------------------

    /// Parks the current task without regard to kills; for the hub's own purposes.
    pub(super) fn park_uninterrupted(&self, reason: Reason, deadline: Option<u64>) -> Woken {
        let current = self.current.get();
        // SAFETY: the running task is alive and this is its hub's thread.
        let local = unsafe { current.get().local() };
        local.shields.set(local.shields.get() + 1);
        let woken = self.park(reason, deadline);
        local.shields.set(local.shields.get() - 1);
        woken
    }

    /// Whether the running task has been killed and is to unwind now.
    #[inline]
    pub(super) fn kill_is_due(&self) -> bool {
        let task = self.current();
        task.kill_requested() && self.deliver_kill(task)
    }

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
        Unparker(self.current_arc())
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

    /// Wakes all who wait for a descriptor that is being closed.
    pub(super) fn close_fd(&self, fd: RawFd) {
        let mut ready = Vec::new();
        self.reactor.borrow_mut().close(fd, &mut ready);
        for task in ready {
            self.wake(task, Woken::Unparked);
        }
    }

    /// Empties the run queue; in the child of a fork.
    pub(super) fn forget_queue(&self) {
        self.run.clear();
    }

    /// Puts main back into the run queue, which has lost it.
    pub(super) fn requeue_main(&self) {
        self.run.push(self.main_ref);
    }
}

// ---- the functions that the rest of the crate uses ---------------------------------------------

/// Whatever wakes one certain coroutine, from any thread.
#[derive(Clone)]
pub(crate) struct Unparker(TaskArc);

impl Unparker {
    pub(crate) fn new(task: TaskArc) -> Self {
        Unparker(task)
    }

    /// Ends the coroutine's park, if it is parked. A coroutine that has finished is not disturbed.
    #[inline]
    pub(crate) fn unpark(self) {
        let hub = HUB.get();
        // SAFETY: see `hub`.
        match unsafe { hub.as_ref() } {
            Some(hub) if hub.owns(&self.0) => hub.wake(self.0.as_ref(), Woken::Unparked),
            _ => Task::wake_remotely(self.0),
        }
    }
}

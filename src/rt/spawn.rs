//! The birth of a coroutine, on its own hub or from another thread, and the delivery of its result.

use std::alloc::Layout;
use std::any::Any;
use std::cell::UnsafeCell;
use std::io;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use super::blocks::Class;
use super::coroutine::Coroutine;
use super::hub::{self, Hub};
use super::interrupt::Shield;
use super::life;
use super::locals::Locals;
use super::stack::{self, Reservation};
use super::task::{Kind, Message, Reason, Remote, Task, TaskArc, Woken};
use crate::error::Killed;

/// What a coroutine ends with.
pub(crate) type Outcome<T> = Result<T, Box<dyn Any + Send + 'static>>;

/// A task and, behind it, its result: as much of a [`Packet`] as its joiner knows.
#[repr(C)]
struct Head<T> {
    task: Task,
    /// Written by the coroutine before its exit is `Done`, taken by the handle after that.
    outcome: UnsafeCell<Option<Outcome<T>>>,
}

/// All that a coroutine needs apart from its stack, in one allocation.
#[repr(C)]
struct Packet<T, F> {
    head: Head<T>,
    /// Moved out when the coroutine starts.
    body: UnsafeCell<MaybeUninit<F>>,
}

impl<T, F: FnOnce() -> T> Packet<T, F> {
    const KIND: &'static Kind = &Kind { run: Self::run, free: Self::free };

    /// Two owners of a new task: the handle's and the hub's.
    #[inline]
    #[track_caller]
    fn allocate(
        id: u64,
        name: Option<Box<str>>,
        hub: (&'static Remote, u64),
        body: F,
    ) -> (Joiner<T>, TaskArc) {
        // Written in place: a packet is a few hundred bytes, too many to build first and copy then.
        let memory = Self::memory();
        let place = memory.as_ptr();
        // SAFETY: the fields lie in the allocation, and each is written once before it is read.
        unsafe {
            (&raw mut (*place).head.task).write(Task::new(2, Self::KIND, id, name, hub));
            (&raw mut (*place).head.outcome).write(UnsafeCell::new(None));
            (&raw mut (*place).body).write(UnsafeCell::new(MaybeUninit::new(body)));
        }
        let task = memory.cast::<Task>();
        // SAFETY: the task is at the head of the allocation, `free` fits, and it counts two owners.
        let (handle, own) = unsafe { (TaskArc::from_new(task), TaskArc::from_new(task)) };
        (Joiner { task: handle, result: PhantomData }, own)
    }

    /// See [`Kind::free`].
    unsafe fn free(task: NonNull<Task>) {
        // SAFETY: allocated by `allocate`, from `memory`. The outcome is gone by now (see `Joiner`), and so is
        // the body: `run` is called before the hub gives up its ownership. So it does not matter on which thread
        // this happens, even if neither is Send. The hub is null or this thread's live one.
        unsafe {
            let packet = task.cast::<Self>();
            packet.drop_in_place();
            match hub::existing().as_ref() {
                Some(hub) => hub.blocks.give(Self::CLASS, packet.cast()),
                None => Self::CLASS.free(packet.cast()),
            }
        }
    }

    const CLASS: Class = Class::of(Layout::new::<Self>());

    /// Room for one, of any content. (It is freed by whoever is the last owner, on whatever thread.)
    #[inline]
    fn memory() -> NonNull<Self> {
        // SAFETY: null or this thread's live hub.
        match unsafe { hub::existing().as_ref() } {
            Some(hub) => hub.blocks.take(Self::CLASS).cast(),
            None => Self::CLASS.allocate().cast(),
        }
    }

    /// See [`Kind::run`].
    unsafe fn run(task: NonNull<Task>) {
        let packet = task.cast::<Self>().as_ptr();
        // SAFETY: alive by contract; the fields beside the task are reached by their cells only.
        let (task, outcome_cell) = unsafe { (&(*packet).head.task, &(*packet).head.outcome) };
        // SAFETY: `allocate` wrote it, and this is the only call.
        let body = unsafe { (*(*packet).body.get()).assume_init_read() };
        let outcome = if task.kill_requested() {
            // Killed before its first run. What the closure has captured may have destructors: they may
            // panic, and they may wait, which the kill must not interrupt.
            let _shield = Shield::new();
            catch_unwind(AssertUnwindSafe(|| drop(body))).and(Err(Box::new(Killed) as _))
        } else {
            catch_unwind(AssertUnwindSafe(body))
        };
        let mut outcome = Some(outcome);
        let discard_if_detached = |outcome: &mut Option<Outcome<T>>| {
            if task.is_detached() {
                // Dropped here, on the coroutine's own stack and thread, and before the end is announced:
                // who waits for the end may rely on it that none of the coroutine's code runs any more.
                let outcome = outcome.take();
                contain("result of a detached coroutine", || {
                    if let Some(outcome) = outcome {
                        discard(task, outcome);
                    }
                });
            }
        };
        discard_if_detached(&mut outcome);
        // SAFETY: this is its hub's thread, or nobody else knows the task.
        if let Some(locals) = unsafe { task.local() }.locals.get() {
            end_locals(locals);
            discard_if_detached(&mut outcome); // the handle may have gone meanwhile
        }
        announce(hub::hub(), task, || {
            // SAFETY: the exit is not done yet, so the joiner does not look.
            unsafe { *outcome_cell.get() = outcome.take() };
        });
        // The handle went in this very moment, on another thread.
        if let Some(outcome) = outcome {
            contain("result of a detached coroutine", || discard(task, outcome));
        }
    }
}

/// A handle's end of a coroutine: the right to its result. There is one for each coroutine.
///
/// The result is always taken out before the last owner of the task goes: by the joiner, or by
/// the coroutine itself if the joiner has gone before. So it is dropped on the coroutine's thread or,
/// if it is `Send`, on the joiner's.
pub(crate) struct Joiner<T> {
    pub(crate) task: TaskArc,
    result: PhantomData<T>,
}

// SAFETY: the result moves from the coroutine's thread to the handle's only where `T: Send`, after
// both have been under the lock of `exit`.
unsafe impl<T: Send> Send for Joiner<T> {}
// SAFETY: a shared joiner gives no access to the result.
unsafe impl<T: Send> Sync for Joiner<T> {}

impl<T> Joiner<T> {
    #[inline]
    fn outcome(&self) -> *mut Option<Outcome<T>> {
        let head: *const Head<T> = self.task.as_ptr().cast();
        // SAFETY: `allocate` made the task as the head of a `Packet<T, _>`, which begins with a `Head<T>`.
        unsafe { UnsafeCell::raw_get(&raw const (*head).outcome) }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.task.has_exited()
    }

    /// Waits for the end. `Err` says that the caller was killed or that time ran out.
    #[inline]
    #[track_caller]
    pub(crate) fn wait(&self, deadline: Option<u64>) -> Result<(), Woken> {
        let hub = hub::hub();
        if hub.owns(&self.task) {
            return hub.join(&self.task, Reason::Join(self.task.id()), deadline);
        }
        self.task.wait_exit(deadline)
    }

    /// The result of a coroutine that has ended (`wait` has returned `Ok`). One that ended without having
    /// come to a result, because its thread ended first, counts as killed.
    #[inline]
    pub(crate) fn take(self) -> Outcome<T> {
        debug_assert!(self.is_finished());
        let this = ManuallyDrop::new(self);
        // SAFETY: the exit is done, so the coroutine does not touch the outcome any more, and there is no
        // other joiner.
        let outcome = unsafe { (*this.outcome()).take() };
        // SAFETY: `this` is not used again; its destructor, which would look for the outcome, is not run.
        drop(unsafe { ptr::read(&this.task) });
        outcome.unwrap_or_else(|| Err(Box::new(Killed)))
    }
}

impl<T> Drop for Joiner<T> {
    fn drop(&mut self) {
        if !self.task.detach() {
            // SAFETY: as in `take`.
            let outcome = unsafe { (*self.outcome()).take() };
            if let Some(outcome) = outcome {
                discard(&self.task, outcome);
            }
        }
    }
}

/// Calls a user's destructor where a panic of it must not get through.
fn contain(whose: &str, destructor: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(destructor)) {
        log::error!("the {whose} panicked when it was dropped");
        // Its own destructor might panic again, and there is nobody left to catch that.
        std::mem::forget(payload);
    }
}

/// Drops a result that nobody wants, and reports it if it is a panic.
fn discard<T>(task: &Task, outcome: Outcome<T>) {
    if let Err(payload) = &outcome {
        if !payload.is::<Killed>() {
            let (name, id) = (task.name().unwrap_or("<unnamed>"), task.id());
            let message = panic_message(&**payload);
            log::error!("coroutine '{name}' (#{id}) panicked and nobody joined it: {message}");
        }
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "(a payload that is no text)"
    }
}

/// Tells everybody who joins that the task has ended.
#[inline]
fn announce(hub: &Hub, task: &Task, deliver: impl FnOnce()) {
    // SAFETY: `hub` is the task's: callers are its coroutine, or the hub's own code.
    let (joiner, waker) = unsafe { task.announce_exit(deliver) };
    if let Some(joiner) = joiner {
        hub.wake(joiner, Woken::Unparked);
    }
    if let Some(waker) = waker {
        contain("waker of a future", || waker.wake());
    }
}

/// Drops all of a coroutine's own values, last first. Neither a kill nor a time limit interrupts that.
#[cold]
fn end_locals(locals: &Locals) {
    let _shield = Shield::new();
    while let Some(value) = locals.take_last() {
        contain("coroutine-local value", || drop(value));
    }
}

/// Calls `f` with the running coroutine's own values; `None` if it has ended.
pub(crate) fn with_locals<R>(f: impl FnOnce(&Locals) -> R) -> Option<R> {
    thread_local! {
        /// Those of main. Without a destructor, so that destructors can use them.
        static MAIN: ManuallyDrop<Locals> = ManuallyDrop::new(Locals::default());
        static MAIN_END: MainEnd = const { MainEnd };
    }
    /// Drops main's values at the end of the thread.
    struct MainEnd;
    impl Drop for MainEnd {
        fn drop(&mut self) {
            MAIN.with(|locals| end_locals(locals));
        }
    }
    let hub = hub::hub();
    if hub.on_main() {
        // Has it dropped one day. If that is an error, it has happened, or is happening.
        let _ = MAIN_END.try_with(|_| ());
        return Some(MAIN.with(|locals| f(locals)));
    }
    let task = hub.current();
    // SAFETY: the running task, on its hub's thread.
    let local = unsafe { task.local() };
    (!task.has_exited()).then(|| f(local.locals.get_or_init(Box::default)))
}

/// Gives a task that is about to run for the first time its stack.
///
/// # Errors
/// Only in the ruins of a thread: see [`Reservation::take`].
#[inline]
pub(super) fn start(task: &TaskArc) -> io::Result<Coroutine<(), (), ()>> {
    // SAFETY: called by the task's hub.
    let local = unsafe { task.local() };
    let reservation = local.reservation.take().expect("a task that has not started has a stack");
    let stack = reservation.take()?;
    // SAFETY: the name belongs to the task, which lives until its coroutine has finished and given the
    // stack back.
    unsafe { stack.set_label("coroutine", task.id(), task.name()) };
    let task = Running(task.as_ptr());
    Ok(Coroutine::new(stack, move |suspender, ()| {
        let task = task;
        // SAFETY: the hub owns the task until this coroutine has finished, and this is its thread.
        unsafe {
            (*task.0).local().suspender.set(Some(suspender));
            ((*task.0).kind().run)(NonNull::new_unchecked(task.0));
        }
    }))
}

/// A task's address in its own coroutine.
struct Running(*mut Task);

/// Spawns a coroutine on the calling thread's hub. With `start` it begins at that time at the earliest.
///
/// # Errors
/// `OutOfMemory` if there is no stack to be had.
#[inline]
#[track_caller]
pub(crate) fn spawn<T: 'static>(
    name: Option<Box<str>>,
    stack_size: Option<usize>,
    start: Option<u64>,
    body: impl FnOnce() -> T + 'static,
) -> io::Result<Joiner<T>> {
    // SAFETY: nothing is borrowed.
    unsafe { spawn_unchecked(name, stack_size, start, body) }
}

/// As [`spawn`], for a function and a result that borrow.
///
/// # Safety
/// What they borrow must outlive the coroutine: its exit must have been announced, and its result been
/// taken or dropped, before any of the borrows ends.
#[inline]
#[track_caller]
pub(crate) unsafe fn spawn_unchecked<T>(
    name: Option<Box<str>>,
    stack_size: Option<usize>,
    start: Option<u64>,
    body: impl FnOnce() -> T,
) -> io::Result<Joiner<T>> {
    let hub = hub::hub();
    let reservation = Reservation::new(stack_size.unwrap_or(hub.settings.get().stack_size))?;
    let (joiner, task) = Packet::allocate(hub.next_id(), name, hub.identity(), body);
    match start {
        None => hub.admit(task, reservation),
        Some(start) => hub.admit_later(task, reservation, start),
    }
    Ok(joiner)
}

/// Spawns a coroutine on another thread's hub.
///
/// # Errors
/// `NotConnected` if that thread has ended. If there is no stack to be had there, the coroutine ends
/// at once without a result.
#[track_caller]
pub(crate) fn spawn_on<T: Send + 'static>(
    (remote, hub_id): (&'static Remote, u64),
    name: Option<Box<str>>,
    stack_size: Option<usize>,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Joiner<T>> {
    let (joiner, task) = Packet::allocate(life::fresh_id(), name, (remote, hub_id), body);
    // 0 stands for that hub's own default.
    let message = Message::Spawn(task, stack_size.unwrap_or(0));
    let refused = if remote.hub_id() == hub_id { remote.send(message) } else { Err(message) };
    match refused {
        Ok(()) => Ok(joiner),
        Err(Message::Spawn(task, _)) => {
            // Nobody but us knows the task, and the closure is `Send`: it is dropped here.
            refuse(&task);
            Err(io::Error::new(io::ErrorKind::NotConnected, "the hub's thread has ended"))
        }
        Err(_) => unreachable!("the message comes back as it was"),
    }
}

/// Takes in a coroutine that another thread has sent. Gives it back if it cannot run, to be refused
/// where a user's destructor may run.
pub(super) fn adopt(hub: &Hub, task: TaskArc, size: usize) -> Result<(), TaskArc> {
    if !hub.owns(&task) {
        return Err(task); // sent to the hub that had this inbox before
    }
    let size = if size == 0 { hub.settings.get().stack_size } else { size };
    let reservation = Reservation::new(size).or_else(|error| {
        log::error!("a coroutine sent from another thread finds no stack: {error}");
        // It will not run, but its closure has to be dropped, which wants a stack as well.
        task.request_kill();
        Reservation::new(stack::MIN_SIZE)
    });
    match reservation {
        Ok(reservation) => {
            hub.admit(task, reservation);
            Ok(())
        }
        Err(_) => Err(task),
    }
}

/// Ends a coroutine that will never run, on whatever stack this is.
pub(super) fn refuse(task: &TaskArc) {
    task.request_kill();
    // SAFETY: killed, so it only drops the function. It has not been called, and nobody else will call
    // it: the task is not in any hub's table, or is being taken out of it.
    unsafe { (task.kind().run)(NonNull::new_unchecked(task.as_ptr())) };
}

/// Lets those who join go on, though the coroutine never came to a result.
pub(super) fn end_without_result(hub: &Hub, task: &Task) {
    announce(hub, task, || ());
}

/// Asks a coroutine to unwind at its next park. One that has not run yet never will.
pub(crate) fn kill(task: &TaskArc) {
    task.request_kill();
    hub::Unparker::new(task.clone()).unpark();
}

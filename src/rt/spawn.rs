//! The birth of a coroutine, on its own hub or from another thread, and the delivery of its result.

use std::any::Any;
use std::cell::UnsafeCell;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use super::coroutine::Coroutine;
use super::hub::{self, Hub};
use super::life;
use super::stack::Stack;
use super::task::{Exit, Message, Reason, Remote, Task, TaskArc, Woken};
use crate::error::Killed;

/// What a coroutine ends with.
pub(crate) type Outcome<T> = Result<T, Box<dyn Any + Send + 'static>>;

/// A task and, behind it, its result.
#[repr(C)]
struct Packet<T> {
    task: Task,
    /// Written by the coroutine before its exit is `Done`, taken by the handle after that.
    outcome: UnsafeCell<Option<Outcome<T>>>,
}

impl<T> Packet<T> {
    /// Two owners of a new task: the handle's and the coroutine's.
    #[inline]
    #[track_caller]
    fn allocate(
        id: u64,
        name: Option<Box<str>>,
        hub: (&'static Remote, u64),
    ) -> (Joiner<T>, TaskArc, NonNull<Packet<T>>) {
        let packet = Box::new(Packet {
            task: Task::new(2, Packet::<T>::free, id, name, hub),
            outcome: UnsafeCell::new(None),
        });
        let packet = NonNull::from(Box::leak(packet));
        let task = packet.cast::<Task>();
        // SAFETY: the task is the first field of the allocation, `free` fits, and it counts two owners.
        let (handle, own) = unsafe { (TaskArc::from_new(task), TaskArc::from_new(task)) };
        (Joiner { task: handle, result: PhantomData }, own, packet)
    }

    unsafe fn free(task: NonNull<Task>) {
        // SAFETY: allocated by `allocate`; the outcome is gone by now (see `Joiner`), so that it does
        // not matter on which thread this runs, even if `T` is not Send.
        drop(unsafe { Box::from_raw(task.cast::<Packet<T>>().as_ptr()) });
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
        let packet: *const Packet<T> = self.task.as_ptr().cast();
        // SAFETY: `allocate` made the task as the head of a `Packet<T>`.
        unsafe { UnsafeCell::raw_get(&raw const (*packet).outcome) }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.task.has_exited()
    }

    /// Waits for the end. `Err` says that the caller was killed or that time ran out.
    #[inline]
    #[track_caller]
    pub(crate) fn wait(&self, deadline: Option<u64>) -> Result<(), Woken> {
        let reason = Reason::Join(self.task.id());
        let hub = hub::hub();
        if hub.owns(&self.task) {
            return hub.join(&self.task, reason, deadline);
        }
        self.task.exit.wait(reason, deadline, |exit| (*exit == Exit::Done).then_some(()))
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
        let done = self.task.exit.with(|exit| match exit {
            Exit::Done => true,
            Exit::Running | Exit::Detached => {
                *exit = Exit::Detached;
                false
            }
        });
        if done {
            // SAFETY: as in `take`.
            let outcome = unsafe { (*self.outcome()).take() };
            if let Some(outcome) = outcome {
                discard(&self.task, outcome);
            }
        }
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

/// Runs the function of a coroutine and delivers what becomes of it.
///
/// # Safety
/// The packet must stay alive: the hub owns its task until the coroutine has finished.
#[inline]
unsafe fn run<T>(packet: NonNull<Packet<T>>, body: impl FnOnce() -> T) {
    // SAFETY: alive by contract. The outcome is reached by its cell only.
    let packet = unsafe { packet.as_ref() };
    let task = &packet.task;
    let outcome = if task.kill_requested() {
        // Killed before its first run. The closure may still have destructors, which may panic.
        catch_unwind(AssertUnwindSafe(|| drop(body))).and(Err(Box::new(Killed) as _))
    } else {
        catch_unwind(AssertUnwindSafe(body))
    };
    let mut outcome = Some(outcome);
    announce(hub::hub(), task, |wanted| {
        if wanted {
            // SAFETY: the exit is not done yet, so the joiner does not look.
            unsafe { *packet.outcome.get() = outcome.take() };
        }
    });
    // Detached: dropped here, on the coroutine's own stack and thread.
    if let Some(outcome) = outcome {
        if catch_unwind(AssertUnwindSafe(|| discard(task, outcome))).is_err() {
            log::error!("the result of a detached coroutine panicked when it was dropped");
        }
    }
}

/// Tells everybody who joins that the task has ended.
#[inline]
fn announce(hub: &Hub, task: &Task, deliver: impl FnOnce(bool)) {
    // SAFETY: `hub` is the task's: callers are its coroutine, or the hub's own code.
    if let Some(joiner) = unsafe { task.announce_exit(deliver) } {
        hub.wake(joiner, Woken::Unparked);
    }
}

/// A closure's life on a stack: tells the hub how to suspend it, and runs it.
fn coroutine(stack: Stack, body: impl FnOnce() + 'static) -> Coroutine<(), (), ()> {
    Coroutine::new(stack, move |suspender, ()| {
        // SAFETY: the running task is alive and this is its hub's thread.
        unsafe { hub::hub().current().local() }.suspender.set(Some(suspender));
        body();
    })
}

/// Gives `task` a coroutine and makes it runnable.
#[inline]
fn start(hub: &Hub, task: TaskArc, stack: Stack, body: impl FnOnce() + 'static) {
    // SAFETY: the name belongs to the task, which lives until its coroutine has finished and given the
    // stack back.
    unsafe { stack.set_label("coroutine", task.id(), task.name()) };
    // SAFETY: this is the task's hub's thread, and nobody uses the field before it is admitted.
    unsafe { *task.local().coroutine.get() = Some(coroutine(stack, body)) };
    hub.admit(task);
}

/// Spawns a coroutine on the calling thread's hub.
///
/// # Errors
/// `OutOfMemory` if there is no stack to be had.
#[inline]
#[track_caller]
pub(crate) fn spawn<T: 'static>(
    name: Option<Box<str>>,
    stack_size: Option<usize>,
    body: impl FnOnce() -> T + 'static,
) -> io::Result<Joiner<T>> {
    let hub = hub::hub();
    let stack = Stack::new(stack_size.unwrap_or(hub.settings.get().stack_size))?;
    let (joiner, task, packet) = Packet::allocate(hub.next_id(), name, hub.identity());
    // SAFETY: the closure runs as the coroutine of the task, which the hub owns meanwhile.
    start(hub, task, stack, move || unsafe { run(packet, body) });
    Ok(joiner)
}

/// A packet's address on its way to another thread.
struct Carried<T>(NonNull<Packet<T>>);

// SAFETY: `run` uses the packet on the thread of the task's hub, where the result moves to; `T: Send`.
unsafe impl<T: Send> Send for Carried<T> {}

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
    let ended = || io::Error::new(io::ErrorKind::NotConnected, "the hub's thread has ended");
    if remote.hub_id() != hub_id {
        return Err(ended());
    }
    let (joiner, task, packet) = Packet::allocate(life::fresh_id(), name, (remote, hub_id));
    let carried = Carried(packet);
    let body = Box::new(move || {
        let carried = carried;
        // SAFETY: the closure runs as the coroutine of the task, which the hub owns meanwhile.
        unsafe { run(carried.0, body) }
    });
    // 0 stands for that hub's own default.
    match remote.send(Message::Spawn(task, body, stack_size.unwrap_or(0))) {
        Ok(()) => Ok(joiner),
        Err(_) => Err(ended()),
    }
}

/// Takes in a coroutine that another thread has sent.
pub(super) fn adopt(hub: &Hub, task: TaskArc, body: Box<dyn FnOnce() + Send>, size: usize) {
    if !hub.owns(&task) {
        // Sent to the hub that had this inbox before.
        return refuse(hub, &task, body);
    }
    let size = if size == 0 { hub.settings.get().stack_size } else { size };
    match Stack::new(size) {
        Ok(stack) => start(hub, task, stack, body),
        Err(error) => {
            log::error!("a coroutine sent from another thread finds no stack: {error}");
            refuse(hub, &task, body);
        }
    }
}

/// Ends a coroutine that will never run.
pub(super) fn refuse(hub: &Hub, task: &Task, body: Box<dyn FnOnce() + Send>) {
    if catch_unwind(AssertUnwindSafe(|| drop(body))).is_err() {
        log::error!("the closure of a coroutine that never ran panicked when it was dropped");
    }
    end_without_result(hub, task);
}

/// Lets those who join go on, though the coroutine never came to a result.
pub(super) fn end_without_result(hub: &Hub, task: &Task) {
    announce(hub, task, |_| ());
}

/// Asks a coroutine to unwind at its next park. One that has not run yet never will.
pub(crate) fn kill(task: &TaskArc) {
    task.request_kill();
    hub::Unparker::new(task.clone()).unpark();
}

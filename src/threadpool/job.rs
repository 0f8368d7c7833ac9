//! [`Job`]: one function on its way through a pool, and the handle of those who want its result.

#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::mem;
use std::panic::{self, AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::crew::Crew;
use crate::error::Killed;
use crate::rt::{self, Deadline, Reason, WaitQueue, Woken};
use crate::thread;

/// What a crew works on, whatever its type.
pub(super) trait Work: Send + Sync {
    /// Runs it, if nobody has yet.
    fn run(&self);

    /// Ends it without having run, if nobody has begun.
    fn refuse(&self, payload: Box<dyn Any + Send>);
}

type Function<T> = Box<dyn FnOnce() -> T + Send>;

enum Stage<T> {
    Queued(Function<T>),
    Running,
    Done(thread::Result<T>),
    /// The result has been taken, or will never be.
    Gone,
}

/// What the handle and the pool share.
pub(super) struct Shared<T> {
    stage: WaitQueue<Stage<T>>,
    /// Set when the queue's lock is not needed any more: a forked child must not touch it before.
    done: AtomicBool,
}

impl<T> Shared<T> {
    fn begin(&self) -> Option<Function<T>> {
        let mut stage = self.stage.lock();
        match mem::replace(&mut *stage, Stage::Running) {
            Stage::Queued(function) => Some(function),
            other => {
                *stage = other;
                None
            }
        }
    }

    fn finish(&self, result: thread::Result<T>) {
        self.stage.update_and_wake_all(|stage| *stage = Stage::Done(result));
        self.done.store(true, Ordering::Release);
    }

    /// Waits for the end. It never unwinds.
    #[track_caller]
    fn wait(&self, deadline: Option<Deadline>) -> Result<(), Woken> {
        let deadline = deadline.map(|deadline| deadline.0);
        let ended = |stage: &mut Stage<T>| matches!(stage, Stage::Done(_)).then_some(());
        self.stage.wait_until(Reason::Wait("a job of a thread pool"), deadline, ended)
    }

    fn take(&self) -> thread::Result<T> {
        match mem::replace(&mut *self.stage.lock(), Stage::Gone) {
            Stage::Done(result) => result,
            _ => unreachable!("it has ended, and only its handle takes the result"),
        }
    }
}

impl<T: Send> Work for Shared<T> {
    fn run(&self) {
        if let Some(function) = self.begin() {
            // The function is gone when it has unwound, and what it shares with others is `Send`, hence
            // made to survive the panic of another thread: as for `std::thread::spawn`.
            self.finish(panic::catch_unwind(AssertUnwindSafe(function)));
        }
    }

    fn refuse(&self, payload: Box<dyn Any + Send>) {
        if let Some(function) = self.begin() {
            drop(function);
            self.finish(Err(payload));
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Stage::Done(Err(_)) = &*self.stage.lock() {
            log::error!("a job of a thread pool has panicked, and nobody has asked for its result");
        }
    }
}

/// A function that runs on a thread of a [`ThreadPool`](super::ThreadPool), or waits for one: what
/// [`spawn`](super::ThreadPool::spawn) returns.
///
/// Any coroutine of any thread may join it. Dropping it leaves the job alone: it runs all the same.
pub struct Job<T> {
    shared: Arc<Shared<T>>,
    crew: Arc<Crew>,
}

impl<T: Send + 'static> Job<T> {
    pub(super) fn new(crew: &Arc<Crew>, function: Function<T>) -> Job<T> {
        let stage = WaitQueue::new(Stage::Queued(function));
        let shared = Arc::new(Shared { stage, done: AtomicBool::new(false) });
        Job { shared, crew: crew.clone() }
    }

    pub(super) fn work(&self) -> Arc<dyn Work> {
        self.shared.clone()
    }

    /// Waits for the job to end and returns its result; other coroutines run meanwhile.
    ///
    /// If the caller is killed, or a time limit around it passes, the job goes on without it.
    ///
    /// On a thread of the pool itself, a job that has not begun is run by the caller. So jobs may wait for
    /// jobs of their own pool, however small that is.
    ///
    /// # Errors
    /// The payload of its panic; or [`Killed`] in the child of a fork, where the thread that worked on
    /// the job is not.
    ///
    /// # Examples
    /// ```
    /// use greenling::threadpool::ThreadPool;
    ///
    /// let pool = ThreadPool::new(2);
    /// let broken = pool.spawn(|| -> u32 { std::panic::resume_unwind(Box::new("oh")) });
    /// assert_eq!(*broken.join().unwrap_err().downcast::<&str>().unwrap(), "oh");
    /// ```
    #[track_caller]
    pub fn join(self) -> thread::Result<T> {
        match self.wait(None) {
            Ok(result) => result,
            Err((_, interrupted)) => rt::unwind(interrupted),
        }
    }

    /// As [`join`](Self::join), but waits for at most `timeout`.
    ///
    /// # Errors
    /// The job, if it has not ended by then.
    #[track_caller]
    pub fn join_timeout(self, timeout: Duration) -> Result<thread::Result<T>, Job<T>> {
        match self.wait(Deadline::after(timeout)) {
            Ok(result) => Ok(result),
            Err((job, Woken::TimedOut)) => Err(job),
            Err((_, interrupted)) => rt::unwind(interrupted),
        }
    }

    /// What the two above have in common. It never unwinds.
    #[track_caller]
    pub(crate) fn wait(
        self,
        deadline: Option<Deadline>,
    ) -> Result<thread::Result<T>, (Job<T>, Woken)> {
        if !self.shared.done.load(Ordering::Acquire) {
            if self.crew.is_of_another_process() {
                return Ok(Err(Box::new(Killed)));
            }
            if deadline.is_none() && self.crew.is_caller_one_of_us() {
                self.shared.run();
            }
            if let Err(woken) = self.shared.wait(deadline) {
                return Err((self, woken));
            }
        }
        Ok(self.shared.take())
    }

    /// Takes the job back if it has not begun: its function is dropped. Says whether that was so.
    pub fn cancel(self) -> bool {
        if self.crew.is_of_another_process() {
            return false;
        }
        let function = self.shared.begin();
        let was_waiting = function.is_some();
        if was_waiting {
            *self.shared.stage.lock() = Stage::Gone;
        }
        was_waiting
    }

    /// Whether it has ended, so that [`join`](Self::join) would not wait.
    pub fn is_finished(&self) -> bool {
        self.shared.done.load(Ordering::Acquire)
    }
}

impl<T> UnwindSafe for Job<T> {}
impl<T> RefUnwindSafe for Job<T> {}

impl<T> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finished = self.shared.done.load(Ordering::Acquire);
        f.debug_struct("Job").field("finished", &finished).finish_non_exhaustive()
    }
}

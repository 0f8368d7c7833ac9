//! Coroutines in the shape of `std::thread`.
//!
//! [`spawn`] starts a coroutine on the calling thread; [`JoinHandle::join`] waits for it. Whatever
//! blocks in this crate lets the thread's other coroutines run meanwhile. A coroutine stays on its
//! thread for life, so what it captures need not be [`Send`], and `Rc`, `RefCell` and thread-locals
//! stay valid across every wait.
//!
//! ```
//! use std::cell::Cell;
//! use std::rc::Rc;
//! use std::time::Duration;
//! use greenling::thread;
//!
//! let total = Rc::new(Cell::new(0)); // not Send, and need not be
//! let workers: Vec<_> = (1..=10)
//!     .map(|n| {
//!         let total = total.clone();
//!         thread::spawn(move || {
//!             thread::sleep(Duration::from_millis(10)); // all ten at once
//!             total.set(total.get() + n);
//!         })
//!     })
//!     .collect();
//! for worker in workers {
//!     worker.join().unwrap();
//! }
//! assert_eq!(total.get(), 55);
//! ```
//!
//! # Differences from threads
//! * A coroutine runs until it waits. One that computes for long should call [`yield_now`] at times.
//! * The end of `main` ends the process, as with threads. The end of another thread unwinds the
//!   coroutines that are left on it.
//! * A coroutine can be killed ([`JoinHandle::kill`]).

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::rt::{self, Deadline, Joiner, Reason, TaskArc};

mod join;
mod scope;

pub use join::{Completed, join_all, join_any, join_each};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use std::thread::{AccessError, LocalKey, Result, available_parallelism, panicking};

/// Spawns a coroutine on the calling thread and returns its handle.
///
/// It begins to run when the caller next waits or yields; coroutines start in the order in which they
/// were spawned. Unlike `std::thread::spawn` this asks for no `Send`. Dropping the handle detaches
/// the coroutine.
///
/// # Panics
/// If there is no memory for a stack, as in std; [`Builder::spawn`] returns the error.
///
/// # Examples
/// ```
/// let answer = greenling::thread::spawn(|| 6 * 7);
/// assert_eq!(answer.join().unwrap(), 42);
/// ```
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    match rt::spawn(None, None, None, f) {
        Ok(joiner) => JoinHandle::new(joiner),
        Err(error) => panic!("failed to spawn a coroutine: {error}"),
    }
}

/// Spawns a coroutine that begins after `delay`. Until then it takes neither time nor a stack.
///
/// Kill it to cancel it: what has not begun never will, and its closure is dropped. A delay of zero means
/// after what has been spawned already. (gevent's `spawn_later`.)
///
/// # Panics
/// If there is no memory for a stack.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let later = greenling::spawn_later(Duration::from_millis(20), move || start.elapsed());
/// assert!(later.join().unwrap() >= Duration::from_millis(20));
/// ```
#[track_caller]
pub fn spawn_later<F, T>(delay: Duration, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    // A delay past the end of time: as far away as possible.
    let start = Deadline::after(delay).unwrap_or(Deadline(u64::MAX - 1));
    match rt::spawn(None, None, (!delay.is_zero()).then_some(start), f) {
        Ok(joiner) => JoinHandle::new(joiner),
        Err(error) => panic!("failed to spawn a coroutine: {error}"),
    }
}

/// Settings of a coroutine that is about to be spawned: its name and the size of its stack.
///
/// # Examples
/// ```
/// use greenling::thread::{self, Builder};
///
/// let child = Builder::new()
///     .name("deep".into())
///     .stack_size(8 * 1024 * 1024)
///     .spawn(|| thread::current().name().map(str::to_owned))?;
/// assert_eq!(child.join().unwrap().as_deref(), Some("deep"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
}

impl Builder {
    /// A builder with no name and the hub's default stack size.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the coroutine, for [`Thread::name`], log messages and the overflow report.
    pub fn name(mut self, name: String) -> Builder {
        self.name = Some(name);
        self
    }

    /// Sets the size of the stack in bytes, rounded up to a power of two (at least 16 KiB).
    ///
    /// Only what the coroutine touches costs memory, so a generous size is nearly free. The default is
    /// 256 KiB unless [`hub::Config`](crate::hub::Config) says otherwise.
    pub fn stack_size(mut self, size: usize) -> Builder {
        self.stack_size = Some(size);
        self
    }

    /// Spawns the coroutine on the calling thread.
    ///
    /// # Errors
    /// `OutOfMemory` when there is no address space or no map left for a stack, `InvalidInput` for a
    /// stack beyond 1 TiB. The closure is dropped then, and nothing leaks.
    ///
    /// # Panics
    /// If the name contains a null byte, as in std.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let (name, stack_size) = self.into_parts();
        rt::spawn(name, stack_size, None, f).map(JoinHandle::new)
    }

    /// As [`spawn`](Self::spawn), for a function and a result that borrow.
    ///
    /// [`scope`] is the safe way.
    ///
    /// # Safety
    /// What they borrow must be there until the coroutine has ended and its result has been dropped: it has to be
    /// joined before any of the borrows ends. Mind that the caller may be killed, and unwinds then.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn).
    ///
    /// # Examples
    /// ```
    /// use greenling::thread::Builder;
    ///
    /// let number = 1;
    /// // SAFETY: it is joined while `number` is there; nobody kills this coroutine.
    /// let child = unsafe { Builder::new().spawn_unchecked(|| &number)? };
    /// assert_eq!(child.join().unwrap(), &1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub unsafe fn spawn_unchecked<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T,
    {
        let (name, stack_size) = self.into_parts();
        // SAFETY: the caller's promise.
        unsafe { rt::spawn_unchecked(name, stack_size, f) }.map(JoinHandle::new)
    }

    /// What a hub's handle needs to spawn from another thread.
    pub(crate) fn into_parts(self) -> (Option<Box<str>>, Option<usize>) {
        let name = self.name.map(String::into_boxed_str);
        if name.as_ref().is_some_and(|name| name.contains('\0')) {
            panic!("thread name may not contain interior null bytes");
        }
        (name, self.stack_size)
    }
}

/// Owns the permission to join a coroutine, that is, to wait for its end and take its result.
///
/// It is `Send` where the result is, and may be joined on any thread. Dropping it detaches the
/// coroutine.
pub struct JoinHandle<T> {
    joiner: Joiner<T>,
    /// Made when it is asked for.
    thread: OnceLock<Thread>,
}

impl<T> JoinHandle<T> {
    pub(crate) fn new(joiner: Joiner<T>) -> Self {
        JoinHandle { joiner, thread: OnceLock::new() }
    }

    /// The coroutine's [`Thread`], by which it can be unparked.
    pub fn thread(&self) -> &Thread {
        self.thread.get_or_init(|| Thread { task: self.joiner.task.clone() })
    }

    /// Waits for the coroutine to end and returns its result.
    ///
    /// # Errors
    /// The payload of its panic, or [`Killed`](crate::error::Killed) if it was killed or its thread
    /// has ended.
    ///
    /// # Examples
    /// ```
    /// let broken = greenling::spawn(|| -> u32 { std::panic::resume_unwind(Box::new("oh")) });
    /// let payload = broken.join().unwrap_err();
    /// assert_eq!(*payload.downcast::<&str>().unwrap(), "oh");
    /// ```
    #[track_caller]
    pub fn join(self) -> Result<T> {
        rt::join(self.joiner)
    }

    /// Whether the coroutine has ended, so that [`join`](Self::join) would not wait.
    pub fn is_finished(&self) -> bool {
        let finished = self.joiner.is_finished();
        if !finished {
            rt::charge_look();
        }
        finished
    }

    /// Waits for the coroutine to end for at most `timeout`, and returns its result.
    ///
    /// # Errors
    /// The handle, if the time has passed first.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let slow = greenling::spawn(|| greenling::sleep(Duration::from_millis(20)));
    /// let slow = slow.join_timeout(Duration::from_millis(1)).unwrap_err();
    /// slow.join_timeout(Duration::from_secs(10)).unwrap().unwrap();
    /// ```
    #[track_caller]
    pub fn join_timeout(self, timeout: Duration) -> std::result::Result<Result<T>, JoinHandle<T>> {
        rt::join_until(self.joiner, Deadline::after(timeout)).map_err(JoinHandle::new)
    }

    /// Ends the coroutine by unwinding, and waits until it has ended.
    ///
    /// It unwinds at its next wait, or in the one it is in; its destructors run, and its result is
    /// [`Killed`](crate::error::Killed). One that has not started never will. To kill what has ended, or
    /// to kill twice, changes nothing. A coroutine that catches the kill meets it again at its next wait.
    /// A coroutine that kills itself unwinds at once. (gevent's `kill`.)
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let sleeper = greenling::spawn(|| greenling::sleep(Duration::from_secs(3600)));
    /// sleeper.kill();
    /// assert!(sleeper.is_finished());
    /// ```
    #[track_caller]
    pub fn kill(&self) {
        rt::kill(&self.joiner.task);
        rt::wait_exit(&self.joiner.task, None);
    }

    /// As [`kill`](Self::kill), but waits for at most `timeout`; zero does not wait at all. Says whether the
    /// coroutine has ended. If it has not, it will at its next wait.
    #[track_caller]
    pub fn kill_timeout(&self, timeout: Duration) -> bool {
        rt::kill(&self.joiner.task);
        if timeout.is_zero() {
            return self.is_finished();
        }
        rt::wait_exit(&self.joiner.task, Deadline::after(timeout))
    }

    /// Calls `f` when the coroutine has ended, in a coroutine of the caller's thread. At once if it has
    /// ended already.
    ///
    /// Functions run in the order in which they were given, each exactly once. One that panics does not
    /// keep the next from running. (gevent's `link`.)
    ///
    /// # Panics
    /// If there is no memory for a coroutine.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    ///
    /// let ended = Rc::new(Cell::new(false));
    /// let worker = greenling::spawn(|| 1);
    /// let flag = ended.clone();
    /// worker.on_exit(move |_| flag.set(true));
    /// worker.join().unwrap();
    /// greenling::yield_now();
    /// assert!(ended.get());
    /// ```
    #[track_caller]
    pub fn on_exit(&self, f: impl FnOnce(Thread) + 'static) {
        let thread = self.thread().clone();
        // The wait is queued before the coroutine's end can be announced, and in order, since coroutines
        // start in the order in which they were spawned.
        let link = move || {
            rt::wait_exit(&thread.task, None);
            f(thread);
        };
        drop(spawn(link));
    }

    /// Gives up the handle's own part.
    pub(crate) fn into_joiner(self) -> Joiner<T> {
        self.joiner
    }

    /// The task, for those who watch many.
    pub(crate) fn task(&self) -> &TaskArc {
        &self.joiner.task
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("thread", self.thread()).finish_non_exhaustive()
    }
}

/// A handle to a coroutine: its id, its name, and [`unpark`](Thread::unpark). Any thread may hold it.
#[derive(Clone)]
pub struct Thread {
    task: TaskArc,
}

impl Thread {
    /// The coroutine's id, unique in the process.
    pub fn id(&self) -> ThreadId {
        ThreadId(NonZeroU64::new(self.task.id()).expect("ids begin at 1"))
    }

    /// The name that [`Builder::name`] gave it; the OS thread's name for a main coroutine.
    pub fn name(&self) -> Option<&str> {
        self.task.name()
    }

    /// Makes the coroutine's token available, and thereby ends its [`park`], or the next one.
    ///
    /// Works from any thread, and on the main coroutine of any thread.
    pub fn unpark(&self) {
        self.task.set_token();
        rt::Unparker::new(self.task.clone()).unpark();
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// A coroutine's identity. Never used again in the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadId(NonZeroU64);

impl fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadId({})", self.0)
    }
}

/// The handle of the calling coroutine. On a thread's own stack that is its main coroutine.
///
/// # Examples
/// ```
/// use greenling::thread;
///
/// let main = thread::current();
/// greenling::spawn(move || main.unpark());
/// thread::park();
/// ```
pub fn current() -> Thread {
    Thread { task: rt::current() }
}

/// Waits until the calling coroutine's token is available, and uses it up.
///
/// The token comes from [`Thread::unpark`], at any time before or during the wait; there is at most
/// one. As in std, but without spurious returns.
#[track_caller]
pub fn park() {
    let task = rt::current();
    while !task.take_token() {
        rt::park(Reason::Park, None);
    }
}

/// As [`park`], for at most `dur`.
#[track_caller]
pub fn park_timeout(dur: Duration) {
    let task = rt::current();
    let deadline = Deadline::after(dur);
    while !task.take_token() {
        if !rt::park(Reason::Park, deadline) {
            // A token that came in the last moment stays for the next park, as in std.
            return;
        }
    }
}

/// Puts the calling coroutine to sleep for at least `dur`. Others run meanwhile.
///
/// The timer fires within about 20 µs of its time, as far as the other coroutines let it. Zero yields
/// once, so that due timers and I/O get their turn (gevent's `sleep(0)`).
#[track_caller]
pub fn sleep(dur: Duration) {
    if dur.is_zero() {
        yield_now();
    } else {
        rt::sleep(Deadline::after(dur));
    }
}

/// The older form of [`sleep`].
#[deprecated(since = "0.1.0", note = "replaced by `sleep`")]
#[track_caller]
pub fn sleep_ms(ms: u32) {
    sleep(Duration::from_millis(ms.into()));
}

/// The older form of [`park_timeout`].
#[deprecated(since = "0.1.0", note = "replaced by `park_timeout`")]
#[track_caller]
pub fn park_timeout_ms(ms: u32) {
    park_timeout(Duration::from_millis(ms.into()));
}

/// Puts the calling coroutine to sleep until `deadline`; returns at once if that has passed.
#[track_caller]
pub fn sleep_until(deadline: Instant) {
    let now = Instant::now();
    if let Some(left) = deadline.checked_duration_since(now).filter(|left| !left.is_zero()) {
        rt::sleep(Deadline::after(left));
    }
}

/// Lets every other runnable coroutine of this thread run before the caller goes on.
///
/// Returns at once if there is none. I/O and timers get their turn at least every 64 switches.
#[inline(always)]
pub fn yield_now() {
    rt::yield_now();
}

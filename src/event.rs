//! One-to-many signals: [`Event`] (something has happened) and [`AsyncResult`] (a value is there).
//!
//! Both work between coroutines of one hub, of different hubs, and plain threads. The semantics are those
//! of `gevent.event`.

#![forbid(unsafe_code)]

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::rt::{self, Deadline, Reason, WaitQueue, Waited, Woken};
use crate::thread::{self, JoinHandle};

/// A flag that coroutines wait for.
///
/// [`set`](Event::set) lets all go on that wait, in the order in which they came, and everyone who comes
/// later, until [`clear`](Event::clear). Whoever was waiting when the event was set goes on, even if it is
/// cleared again before its turn comes.
///
/// # Examples
/// ```
/// use std::rc::Rc;
/// use greenling::event::Event;
///
/// let start = Rc::new(Event::new());
/// let runners = [1, 2, 3].map(|n| {
///     let start = start.clone();
///     greenling::spawn(move || { start.wait(); n })
/// });
/// greenling::yield_now(); // all three wait
/// start.set();
/// let n: Vec<i32> = greenling::join_all(runners).into_iter().flatten().collect();
/// assert_eq!(n, [1, 2, 3]);
/// ```
pub struct Event {
    /// Ahead of `State::set` while somebody is setting it; otherwise a copy, for a look without the lock.
    set: AtomicBool,
    waiters: WaitQueue<State>,
}

pub(crate) struct State {
    pub(crate) set: bool,
    /// How often it has been set: tells a waiter whether a grant is its own, or was meant for one who has
    /// given up since.
    pub(crate) times: u64,
}

impl Event {
    /// An event that is not set.
    pub const fn new() -> Event {
        Event {
            set: AtomicBool::new(false),
            waiters: WaitQueue::new(State { set: false, times: 0 }),
        }
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Sets the event and wakes all who wait for it.
    pub fn set(&self) {
        // A swap, so that what was done before this call is visible to whoever sees the event set, even if
        // somebody else has set it.
        if self.set.swap(true, Ordering::AcqRel) {
            return; // whoever did wakes those who wait
        }
        self.waiters.update_and_wake_all(|state| {
            state.set = true;
            state.times += 1;
            self.set.store(true, Ordering::Release);
        });
    }

    /// Takes the signal back: who comes after this waits for the next [`set`](Self::set).
    pub fn clear(&self) {
        let mut state = self.waiters.lock();
        state.set = false;
        self.set.store(false, Ordering::Release);
    }

    /// Waits until the event is set; returns at once if it is.
    #[inline]
    #[track_caller]
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits for at most `timeout`. Says whether the event was set.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use greenling::event::Event;
    ///
    /// let event = Event::new();
    /// assert!(!event.wait_timeout(Duration::from_millis(1)));
    /// event.set();
    /// assert!(event.wait_timeout(Duration::ZERO));
    /// ```
    #[inline]
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_set() || self.wait_until(Deadline::after(timeout))
    }

    #[track_caller]
    fn wait_until(&self, deadline: Option<Deadline>) -> bool {
        if self.is_set() {
            return true;
        }
        let deadline = deadline.map(|deadline| deadline.0);
        loop {
            let mut times = 0;
            let waited = self.waiters.wait(Reason::Wait("an event"), deadline, None, |state, _| {
                times = state.times;
                state.set.then_some(())
            });
            let has_been_set = || self.waiters.lock().times != times;
            match waited {
                Ok(Waited::Attempted(())) => return true,
                Ok(Waited::Granted(_)) if has_been_set() => return true,
                Ok(Waited::Granted(_)) => {}
                // It was set, and the setter has not come to us yet.
                Err((Woken::TimedOut, _)) => return has_been_set(),
                Err((interrupted, _)) => rt::unwind(interrupted),
            }
        }
    }

    /// For `select`.
    pub(crate) fn waiters(&self) -> &WaitQueue<State> {
        &self.waiters
    }
}

impl UnwindSafe for Event {}
impl RefUnwindSafe for Event {}

impl Default for Event {
    fn default() -> Event {
        Event::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).finish_non_exhaustive()
    }
}

/// A value, or an error, that will be there one day, for any number of readers.
///
/// It is set once. Readers get references to it, so that it need not be `Clone`.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use greenling::event::AsyncResult;
///
/// let answer = Arc::new(AsyncResult::<u32, String>::new());
/// let asker = greenling::spawn({
///     let answer = answer.clone();
///     move || answer.get().copied().map_err(String::clone)
/// });
/// answer.set(42).unwrap();
/// assert_eq!(asker.join().unwrap(), Ok(42));
/// assert_eq!(answer.set(43), Err(43)); // too late
/// ```
pub struct AsyncResult<T, E> {
    value: OnceLock<Result<T, E>>,
    waiters: WaitQueue<()>,
}

impl<T, E> AsyncResult<T, E> {
    /// One that is not set yet.
    pub const fn new() -> Self {
        AsyncResult { value: OnceLock::new(), waiters: WaitQueue::new(()) }
    }

    /// Sets the value and wakes all who wait for it.
    ///
    /// # Errors
    /// The value, if this is set already, to a value or an error.
    pub fn set(&self, value: T) -> Result<(), T> {
        self.complete(Ok(value)).map_err(|refused| {
            let Ok(value) = refused else { unreachable!("the same comes back") };
            value
        })
    }

    /// Sets the error that readers get instead of a value.
    ///
    /// # Errors
    /// The error, if this is set already.
    pub fn set_error(&self, error: E) -> Result<(), E> {
        self.complete(Err(error)).map_err(|refused| {
            let Err(error) = refused else { unreachable!("the same comes back") };
            error
        })
    }

    /// Sets what a function or a joined coroutine has come to.
    ///
    /// # Errors
    /// The same, if this is set already.
    pub fn complete(&self, result: Result<T, E>) -> Result<(), Result<T, E>> {
        self.value.set(result)?;
        self.waiters.update_and_wake_all(|()| ());
        Ok(())
    }

    /// Whether it is set, so that [`get`](Self::get) does not wait.
    pub fn is_ready(&self) -> bool {
        self.value.get().is_some()
    }

    /// The value or the error, if one of them is there.
    pub fn try_get(&self) -> Option<Result<&T, &E>> {
        self.value.get().map(Result::as_ref)
    }

    /// Waits for the value.
    ///
    /// # Errors
    /// What [`set_error`](Self::set_error) has set.
    #[track_caller]
    pub fn get(&self) -> Result<&T, &E> {
        self.get_until(None).expect("without a deadline it does not end before")
    }

    /// Waits for the value for at most `timeout`; `None` if it has not come by then.
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Option<Result<&T, &E>> {
        self.try_get().or_else(|| self.get_until(Deadline::after(timeout)))
    }

    #[track_caller]
    fn get_until(&self, deadline: Option<Deadline>) -> Option<Result<&T, &E>> {
        if let Some(result) = self.try_get() {
            return Some(result);
        }
        let deadline = deadline.map(|deadline| deadline.0);
        let reason = Reason::Wait("a result");
        match self.waiters.wait_until(reason, deadline, |()| self.try_get()) {
            Ok(result) => Some(result),
            Err(Woken::TimedOut) => None,
            Err(interrupted) => rt::unwind(interrupted),
        }
    }

    /// The value or the error, for the last owner.
    pub fn into_inner(self) -> Option<Result<T, E>> {
        self.value.into_inner()
    }

    /// For `select`.
    pub(crate) fn waiters(&self) -> &WaitQueue<()> {
        &self.waiters
    }
}

impl<T: 'static, E: 'static> AsyncResult<T, E> {
    /// Calls `f` with the result when it is there, in a coroutine of the caller's thread.
    ///
    /// Functions that are linked on one thread are called in that order, each once; one that panics does
    /// not keep the next from being called. Killing the returned coroutine removes the link.
    ///
    /// # Panics
    /// If there is no memory for a coroutine.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use greenling::event::AsyncResult;
    ///
    /// let result = Arc::new(AsyncResult::<_, String>::new());
    /// let link = result.link(|result| println!("it is {result:?}"));
    /// result.set(1).unwrap();
    /// link.join().unwrap();
    /// ```
    #[track_caller]
    pub fn link(self: &Arc<Self>, f: impl FnOnce(Result<&T, &E>) + 'static) -> JoinHandle<()> {
        let this = self.clone();
        thread::spawn(move || f(this.get()))
    }
}

impl<T: UnwindSafe, E: UnwindSafe> UnwindSafe for AsyncResult<T, E> {}
impl<T: RefUnwindSafe + UnwindSafe, E: RefUnwindSafe + UnwindSafe> RefUnwindSafe
    for AsyncResult<T, E>
{
}

impl<T, E> Default for AsyncResult<T, E> {
    fn default() -> Self {
        AsyncResult::new()
    }
}

impl<T, E> From<Result<T, E>> for AsyncResult<T, E> {
    /// One that is set from the beginning.
    fn from(result: Result<T, E>) -> Self {
        AsyncResult { value: OnceLock::from(result), waiters: WaitQueue::new(()) }
    }
}

impl<T: fmt::Debug, E: fmt::Debug> fmt::Debug for AsyncResult<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncResult").field(&self.value.get()).finish()
    }
}

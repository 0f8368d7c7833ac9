//! Waiting for the first of several things: [`Select`].
//!
//! ```
//! use std::time::Duration;
//! use greenling::event::Event;
//! use greenling::queue::Queue;
//! use greenling::select::Select;
//!
//! enum Next {
//!     Job(&'static str),
//!     NoMoreJobs,
//!     Stop,
//!     Idle,
//! }
//!
//! let (jobs, stop) = (Queue::new(), Event::new());
//! jobs.put("a job").unwrap();
//!
//! let next = Select::new()
//!     .on(&jobs, |job| job.map_or(Next::NoMoreJobs, Next::Job))
//!     .on(&stop, |()| Next::Stop)
//!     .on(Duration::from_secs(10), |()| Next::Idle)
//!     .wait();
//! assert!(matches!(next, Next::Job("a job")));
//! ```
//!
//! Exactly one of the things happens: what a queue or a channel gives to a `Select` is what [`wait`](Select::wait)
//! returns, and nothing is taken from the others. If several are ready, one of them is chosen at random, so
//! that a busy one does not keep the others waiting. (Go's `select`.)

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use crate::rt::{self, Deadline, Reason, Selection, Woken};

mod sources;

use sources::Source;

mod sealed {
    pub trait Sealed {}
}

/// What a [`Select`] can wait for. Implemented by this crate only.
///
/// | what | is ready when | and gives |
/// |---|---|---|
/// | `&Queue<T>`, `&LifoQueue<T>`, `&PriorityQueue<T>`, `&JoinableQueue<T>` | it has an item or is closed | `Result<T, GetError>` |
/// | [`&mpsc::Receiver<T>`](crate::sync::mpsc::Receiver) | it has a message or has no sender | `Result<T, RecvError>` |
/// | [`&Event`](crate::event::Event) | it is set | `()` |
/// | [`&AsyncResult<T, E>`](crate::event::AsyncResult) | it is set | `Result<&T, &E>` |
/// | [`&JoinHandle<T>`](crate::thread::JoinHandle) | the coroutine has ended | `()`; joining it does not wait |
/// | `&mut Option<JoinHandle<T>>` | the coroutine has ended | `thread::Result<T>`, and leaves `None` |
/// | [`Duration`] | it has passed since [`Select::on`] | `()` |
/// | [`Instant`](std::time::Instant) | it has come | `()` |
pub trait Selectable: sealed::Sealed {
    /// What it gives.
    type Output;

    #[doc(hidden)]
    fn add_to<'a, R>(self, select: Adding<'_, 'a, R>, then: impl FnOnce(Self::Output) -> R + 'a)
    where
        Self: 'a;
}

/// A [`Select`] that is being built. Keeps the types of sources out of [`Selectable`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Adding<'s, 'a, R>(&'s mut Select<'a, R>);

impl<'a, R> Adding<'_, 'a, R> {
    fn source<S: Source + 'a>(self, source: S, then: impl FnOnce(S::Output) -> R + 'a) {
        self.0.arms.push(Box::new(Typed { source, output: Cell::new(None), then }));
    }
}

/// A wait for the first of several things. See the [module](self).
#[must_use = "it does nothing until it waits"]
pub struct Select<'a, R> {
    /// Boxed, so that what granters point to stays in its place.
    arms: Vec<Box<dyn Arm<R> + 'a>>,
}

/// A source and what to make of its output, without their types.
///
/// All methods but the last take `&self`: while the source is enlisted, granters have pointers into it.
trait Arm<R> {
    /// Takes the output, if it is there. Says whether.
    fn poll(&self) -> bool;

    /// Waits for the output. True if it is there already, and has been taken.
    ///
    /// # Safety
    /// See [`Selection::enlist`]; `self` has the node.
    unsafe fn enlist(&self, selection: &Selection, index: u32) -> bool;

    /// Waits no longer. True if the arm was granted and has got its output.
    fn leave(&self, selection: &Selection, granted: bool) -> bool;

    fn deadline(&self) -> Option<Deadline>;

    /// Makes the result of what the source has given.
    fn finish(self: Box<Self>) -> R;
}

struct Typed<S: Source, F> {
    source: S,
    output: Cell<Option<S::Output>>,
    then: F,
}

impl<S: Source, F> Typed<S, F> {
    fn hold(&self, output: Option<S::Output>) -> bool {
        let is_there = output.is_some();
        if is_there {
            self.output.set(output);
        }
        is_there
    }
}

impl<R, S: Source, F: FnOnce(S::Output) -> R> Arm<R> for Typed<S, F> {
    fn poll(&self) -> bool {
        self.hold(self.source.poll())
    }

    unsafe fn enlist(&self, selection: &Selection, index: u32) -> bool {
        // SAFETY: the caller's promise.
        self.hold(unsafe { self.source.enlist(selection, index) })
    }

    fn leave(&self, selection: &Selection, granted: bool) -> bool {
        self.hold(self.source.leave(selection, granted))
    }

    fn deadline(&self) -> Option<Deadline> {
        self.source.deadline()
    }

    fn finish(self: Box<Self>) -> R {
        let Typed { output, then, .. } = *self;
        then(output.into_inner().expect("the source has given something"))
    }
}

impl<'a, R> Select<'a, R> {
    /// A wait for nothing yet.
    pub fn new() -> Self {
        Select { arms: Vec::new() }
    }

    /// Adds something to wait for, and what to make of the outcome. Any number of things can be added.
    pub fn on<S: Selectable + 'a>(
        mut self,
        what: S,
        then: impl FnOnce(S::Output) -> R + 'a,
    ) -> Self {
        what.add_to(Adding(&mut self), then);
        self
    }

    /// Waits for the first, and returns what its function makes of it.
    ///
    /// The function is called when the wait is over; the others are dropped.
    #[track_caller]
    pub fn wait(self) -> R {
        self.wait_until(None).expect("without a deadline it does not end before")
    }

    /// Waits for the first for at most `timeout`; `None` if none has come by then.
    #[track_caller]
    pub fn wait_timeout(self, timeout: Duration) -> Option<R> {
        self.wait_until(Deadline::after(timeout))
    }

    /// What is ready at this moment, if anything is. Never waits.
    pub fn try_wait(mut self) -> Option<R> {
        self.shuffle();
        let found = self.poll()?;
        Some(self.finish(found))
    }

    fn finish(mut self, index: usize) -> R {
        self.arms.swap_remove(index).finish()
    }

    #[track_caller]
    fn wait_until(mut self, deadline: Option<Deadline>) -> Option<R> {
        let mut is_over = false;
        self.shuffle();
        loop {
            if let Some(index) = self.poll() {
                // What it has given is safe here: this does not unwind.
                rt::charge();
                return Some(self.finish(index));
            }
            if is_over {
                return None;
            }
            match self.park(deadline) {
                Ok(Some(index)) => return Some(self.finish(index)),
                Ok(None) => {} // the grant has been overtaken: look again
                Err(Woken::TimedOut) => is_over = deadline.is_some_and(Deadline::is_past),
                Err(interrupted) => rt::unwind(interrupted),
            }
        }
    }

    /// Makes it a matter of chance, and of the same chance for all, who is the first of several that are ready.
    fn shuffle(&mut self) {
        for place in 1..self.arms.len() {
            self.arms.swap(place, random_below(place + 1));
        }
    }

    /// Takes the output of one that is ready, and returns its index. Time is looked at last: what is there
    /// counts, even if time is up.
    fn poll(&self) -> Option<usize> {
        let is_timer = |index: &usize| self.arms[*index].deadline().is_some();
        let others = (0..self.arms.len()).filter(|index| !is_timer(index));
        let timers = (0..self.arms.len()).filter(is_timer);
        others.chain(timers).find(|&index| self.arms[index].poll())
    }

    /// Waits in all queues at once. Returns who has an output, if anybody has.
    #[track_caller]
    fn park(&self, deadline: Option<Deadline>) -> Result<Option<usize>, Woken> {
        let selection = Selection::new();
        let enlisted = Enlisted { selection: &selection, select: self, count: Cell::new(0) };
        for index in 0..self.arms.len() {
            enlisted.count.set(index + 1);
            // SAFETY: `selection` and the nodes, which are in the boxes of `self.arms`, stay where they are
            // until `enlisted` has left all queues, in its destructor if not before. Nobody has a mutable
            // reference to them meanwhile.
            let ready = unsafe { self.arms[index].enlist(&selection, index as u32) };
            if ready {
                enlisted.leave(None);
                return Ok(Some(index));
            }
        }
        let deadlines = self.arms.iter().filter_map(|arm| arm.deadline());
        let deadline = deadlines.chain(deadline).min().map(|deadline| deadline.0);
        match selection.park(Reason::Wait("the first of several things"), deadline) {
            Ok(index) => Ok(enlisted.leave(Some(index as usize))),
            Err(woken) => {
                enlisted.leave(None);
                Err(woken)
            }
        }
    }
}

/// A selection that stands in the queues of the first `count` arms.
struct Enlisted<'s, 'a, R> {
    selection: &'s Selection,
    select: &'s Select<'a, R>,
    count: Cell<usize>,
}

impl<R> Enlisted<'_, '_, R> {
    /// Leaves all queues. Returns the arm that was granted, if it has got something.
    fn leave(&self, granted: Option<usize>) -> Option<usize> {
        let mut found = None;
        for index in 0..self.count.take() {
            let is_granted = granted == Some(index);
            if self.select.arms[index].leave(self.selection, is_granted) {
                found = Some(index);
            }
        }
        found
    }
}

impl<R> Drop for Enlisted<'_, '_, R> {
    fn drop(&mut self) {
        self.leave(None);
    }
}

impl<R> Default for Select<'_, R> {
    fn default() -> Self {
        Select::new()
    }
}

impl<R> fmt::Debug for Select<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("arms", &self.arms.len()).finish()
    }
}

/// A random number below `count`, or 0. Good enough to be fair.
fn random_below(count: usize) -> usize {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    if count < 2 {
        return 0;
    }
    let mut state = STATE.get();
    if state == 0 {
        state = rt::identity().1 | 1;
    }
    // xorshift64
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    STATE.set(state);
    ((u128::from(state) * count as u128) >> 64) as usize
}

//! How a [`Select`](super::Select) waits for each kind of thing.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use super::sealed::Sealed;
use super::{Adding, Selectable};
use crate::event::{AsyncResult, Event};
use crate::queue::{
    Core, Fifo, GetError, JoinableQueue, LifoQueue, PriorityQueue, Queue, Store, TryGetError, Wake,
};
use crate::rt::{Deadline, Node, Selection, TaskArc};
use crate::sync::mpsc::{Receiver, RecvError, TryRecvError};
use crate::thread::{self, JoinHandle};

/// Something that gives an output once, and where to wait for it.
///
/// All methods take `&self`: while a source is enlisted, granters have pointers to its node.
pub(super) trait Source {
    type Output;

    /// The output, if it is there.
    fn poll(&self) -> Option<Self::Output>;

    /// Waits for it, by a node in `self`; or the output, if it is there and nothing else was granted before.
    ///
    /// # Safety
    /// See [`Selection::enlist`].
    unsafe fn enlist(&self, selection: &Selection, index: u32) -> Option<Self::Output>;

    /// Waits no longer. If this one was granted: the output, or `None` if it is to look again.
    fn leave(&self, selection: &Selection, granted: bool) -> Option<Self::Output>;

    /// When it will be ready, if it is a matter of time alone.
    fn deadline(&self) -> Option<Deadline> {
        None
    }
}

// ---- queues -----------------------------------------------------------------------------------

struct Getting<'a, T, S> {
    core: &'a Core<T, S>,
    node: Node<T>,
}

impl<T, S: Store<T>> Source for Getting<'_, T, S> {
    type Output = Result<T, GetError>;

    fn poll(&self) -> Option<Self::Output> {
        match self.core.try_get() {
            Ok(item) => Some(Ok(item)),
            Err(TryGetError::Closed) => Some(Err(GetError)),
            Err(TryGetError::Empty) => None,
        }
    }

    unsafe fn enlist(&self, selection: &Selection, index: u32) -> Option<Self::Output> {
        let mut wake = Wake::default();
        // SAFETY: the caller's promise.
        unsafe {
            selection.enlist(self.core.items(), &self.node, index, Core::is_ready, |locked| {
                self.core.take(locked, &mut wake).map_err(|_| GetError)
            })
        }
    }

    fn leave(&self, selection: &Selection, granted: bool) -> Option<Self::Output> {
        let item = selection.leave(self.core.items(), &self.node);
        // Without an item it was the end of the queue.
        granted.then(|| item.ok_or(GetError))
    }
}

macro_rules! selectable_queue {
    ($($Queue:ident $(: $Ord:ident)?),*) => {$(
        impl<T $(: $Ord)?> Sealed for &$Queue<T> {}

        impl<T $(: $Ord)?> Selectable for &$Queue<T> {
            type Output = Result<T, GetError>;

            fn add_to<'a, R>(
                self,
                select: Adding<'_, 'a, R>,
                then: impl FnOnce(Self::Output) -> R + 'a,
            ) where
                Self: 'a,
            {
                select.source(Getting { core: self.core(), node: Node::new(None) }, then);
            }
        }
    )*};
}

selectable_queue!(Queue, LifoQueue, PriorityQueue: Ord, JoinableQueue);

struct Receiving<'a, T> {
    receiver: &'a Receiver<T>,
    getting: Getting<'a, T, Fifo<T>>,
}

impl<T> Source for Receiving<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(&self) -> Option<Self::Output> {
        match self.receiver.try_recv() {
            Ok(message) => Some(Ok(message)),
            Err(TryRecvError::Disconnected) => Some(Err(RecvError)),
            Err(TryRecvError::Empty) => None,
        }
    }

    unsafe fn enlist(&self, selection: &Selection, index: u32) -> Option<Self::Output> {
        // What the receiver had taken was seen by `poll`.
        // SAFETY: the caller's promise.
        let got = unsafe { self.getting.enlist(selection, index) };
        got.map(|got| got.map_err(|GetError| RecvError))
    }

    fn leave(&self, selection: &Selection, granted: bool) -> Option<Self::Output> {
        self.getting.leave(selection, granted).map(|got| got.map_err(|GetError| RecvError))
    }
}

impl<T> Sealed for &Receiver<T> {}

impl<T> Selectable for &Receiver<T> {
    type Output = Result<T, RecvError>;

    fn add_to<'a, R>(self, select: Adding<'_, 'a, R>, then: impl FnOnce(Self::Output) -> R + 'a)
    where
        Self: 'a,
    {
        let getting = Getting { core: self.queue(), node: Node::new(None) };
        select.source(Receiving { receiver: self, getting }, then);
    }
}

// ---- events -----------------------------------------------------------------------------------

struct Waiting<'a> {
    event: &'a Event,
    node: Node<()>,
    /// How often the event had been set when we enlisted.
    times: Cell<u64>,
}

impl Source for Waiting<'_> {
    type Output = ();

    fn poll(&self) -> Option<()> {
        self.event.is_set().then_some(())
    }

    unsafe fn enlist(&self, selection: &Selection, index: u32) -> Option<()> {
        let queue = self.event.waiters();
        // SAFETY: the caller's promise.
        unsafe {
            selection.enlist(
                queue,
                &self.node,
                index,
                |state| {
                    self.times.set(state.times);
                    state.set
                },
                |_| (),
            )
        }
    }

    fn leave(&self, selection: &Selection, granted: bool) -> Option<()> {
        let queue = self.event.waiters();
        selection.leave(queue, &self.node);
        (granted && queue.lock().times != self.times.get()).then_some(())
    }
}

impl Sealed for &Event {}

impl Selectable for &Event {
    type Output = ();

    fn add_to<'a, R>(self, select: Adding<'_, 'a, R>, then: impl FnOnce(Self::Output) -> R + 'a)
    where
        Self: 'a,
    {
        let source = Waiting { event: self, node: Node::new(None), times: Cell::new(0) };
        select.source(source, then);
    }
}

struct Reading<'a, T, E> {
    result: &'a AsyncResult<T, E>,
    node: Node<()>,
}

impl<'a, T, E> Source for Reading<'a, T, E> {
    type Output = Result<&'a T, &'a E>;

    fn poll(&self) -> Option<Self::Output> {
        self.result.try_get()
    }

    unsafe fn enlist(&self, selection: &Selection, index: u32) -> Option<Self::Output> {
        let queue = self.result.waiters();
        // SAFETY: the caller's promise.
        unsafe {
            selection
                .enlist(queue, &self.node, index, |_| self.result.is_ready(), |_| self.poll())
                .flatten()
        }
    }

    fn leave(&self, selection: &Selection, granted: bool) -> Option<Self::Output> {
        selection.leave(self.result.waiters(), &self.node);
        if granted { self.poll() } else { None }
    }
}

impl<T, E> Sealed for &AsyncResult<T, E> {}

impl<'r, T, E> Selectable for &'r AsyncResult<T, E> {
    type Output = Result<&'r T, &'r E>;

    fn add_to<'a, R>(self, select: Adding<'_, 'a, R>, then: impl FnOnce(Self::Output) -> R + 'a)
    where
        Self: 'a,
    {
        select.source(Reading { result: self, node: Node::new(None) }, then);
    }
}

// ---- the end of coroutines ----------------------------------------------------------------------

struct Ending {
    task: TaskArc,
    node: Node<()>,
}

impl Source for Ending {
    type Output = ();

    fn poll(&self) -> Option<()> {
        self.task.has_exited().then_some(())
    }

    unsafe fn enlist(&self, selection: &Selection, index: u32) -> Option<()> {
        let task = &self.task;
        // SAFETY: the caller's promise.
        unsafe { selection.enlist(task.exit(), &self.node, index, |_| task.has_exited(), |_| ()) }
    }

    fn leave(&self, selection: &Selection, granted: bool) -> Option<()> {
        selection.leave(self.task.exit(), &self.node);
        granted.then_some(())
    }
}

impl Ending {
    fn of<T>(handle: &JoinHandle<T>) -> Ending {
        Ending { task: handle.task().clone(), node: Node::new(None) }
    }
}

impl<T> Sealed for &JoinHandle<T> {}

impl<T> Selectable for &JoinHandle<T> {
    type Output = ();

    fn add_to<'a, R>(self, select: Adding<'_, 'a, R>, then: impl FnOnce(Self::Output) -> R + 'a)
    where
        Self: 'a,
    {
        select.source(Ending::of(self), then);
    }
}

struct Joining<'a, T> {
    /// `None` if there was no handle: it never ends.
    ending: Option<Ending>,
    handle: RefCell<&'a mut Option<JoinHandle<T>>>,
}

impl<T> Joining<'_, T> {
    fn take(&self) -> Option<thread::Result<T>> {
        self.handle.borrow_mut().take().map(JoinHandle::join)
    }
}

impl<T> Source for Joining<'_, T> {
    type Output = thread::Result<T>;

    fn poll(&self) -> Option<Self::Output> {
        self.ending.as_ref()?.poll().and_then(|()| self.take())
    }

    unsafe fn enlist(&self, selection: &Selection, index: u32) -> Option<Self::Output> {
        // SAFETY: the caller's promise.
        unsafe { self.ending.as_ref()?.enlist(selection, index) }.and_then(|()| self.take())
    }

    fn leave(&self, selection: &Selection, granted: bool) -> Option<Self::Output> {
        self.ending.as_ref()?.leave(selection, granted).and_then(|()| self.take())
    }
}

impl<T> Sealed for &mut Option<JoinHandle<T>> {}

impl<T> Selectable for &mut Option<JoinHandle<T>> {
    type Output = thread::Result<T>;

    fn add_to<'a, R>(self, select: Adding<'_, 'a, R>, then: impl FnOnce(Self::Output) -> R + 'a)
    where
        Self: 'a,
    {
        let ending = self.as_ref().map(Ending::of);
        select.source(Joining { ending, handle: RefCell::new(self) }, then);
    }
}

// ---- time -------------------------------------------------------------------------------------

struct Timer(Option<Deadline>);

impl Source for Timer {
    type Output = ();

    fn poll(&self) -> Option<()> {
        self.0.is_some_and(Deadline::is_past).then_some(())
    }

    unsafe fn enlist(&self, _: &Selection, _: u32) -> Option<()> {
        None
    }

    fn leave(&self, _: &Selection, _: bool) -> Option<()> {
        None
    }

    fn deadline(&self) -> Option<Deadline> {
        self.0
    }
}

impl Sealed for Duration {}

impl Selectable for Duration {
    type Output = ();

    fn add_to<'a, R>(self, select: Adding<'_, 'a, R>, then: impl FnOnce(Self::Output) -> R + 'a)
    where
        Self: 'a,
    {
        select.source(Timer(Deadline::after(self)), then);
    }
}

impl Sealed for Instant {}

impl Selectable for Instant {
    type Output = ();

    fn add_to<'a, R>(self, select: Adding<'_, 'a, R>, then: impl FnOnce(Self::Output) -> R + 'a)
    where
        Self: 'a,
    {
        select.source(Timer(Deadline::at(self)), then);
    }
}

//! Queues that coroutines wait at: [`Queue`] (first in, first out), [`LifoQueue`], [`PriorityQueue`] and
//! [`JoinableQueue`].
//!
//! A queue may be bounded; then putters wait for room. Both sides may be shared by any number of
//! coroutines, hubs and plain threads. The semantics are those of `gevent.queue`, and errors give back what
//! was not taken.
//!
//! ```
//! use std::rc::Rc;
//! use greenling::queue::Queue;
//!
//! let queue = Rc::new(Queue::bounded(2)); // at most two items wait
//! let producer = greenling::spawn({
//!     let queue = queue.clone();
//!     move || {
//!         for n in 1..=5 {
//!             queue.put(n).unwrap(); // waits while it is full
//!         }
//!         queue.close();
//!     }
//! });
//! let items: Vec<i32> = queue.iter().collect(); // until it is closed and empty
//! assert_eq!(items, [1, 2, 3, 4, 5]);
//! # producer.join().unwrap();
//! ```
//!
//! # Who gets what
//! Those who wait are served in the order in which they came. An item is handed to the first who waits for
//! one, and room to the first who waits for room; who comes later cannot get in between. A wait that ends
//! by a kill or a time limit takes nothing from the queue and puts nothing into it. If the item was handed
//! over in the same moment, the wait has ended well: the kill then comes at the next one.
//!
//! # Closing
//! After `close`, nothing can be put; those who wait with an item get it back. What is in the queue can
//! still be taken. Then getters get an error instead of waiting for ever.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

mod common;
mod iter;
mod store;

pub use crate::error::{
    GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError,
};
pub use iter::{Iter, TryIter};

use crate::rt::{self, Deadline, Reason, WaitQueue, Waited, Woken};
use iter::Source;
use store::{Heap, Lifo};

pub(crate) use common::{Core, Wake};
pub(crate) use store::{Fifo, Store};

const FOR_ITEM: Reason = Reason::Wait("an item of a queue");
const FOR_ROOM: Reason = Reason::Wait("room in a queue");

/// A queue: first in, first out.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::queue::{GetTimeoutError, Queue, TryGetError, TryPutError};
///
/// let queue = Queue::bounded(1);
/// queue.put("first").unwrap();
/// assert_eq!(queue.try_put("second"), Err(TryPutError::Full("second")));
/// assert_eq!(queue.get(), Ok("first"));
/// assert_eq!(queue.try_get(), Err(TryGetError::Empty));
/// assert_eq!(queue.get_timeout(Duration::from_millis(1)), Err(GetTimeoutError::Timeout));
/// ```
///
/// With no room at all the two sides meet: `put` waits until somebody takes the item.
/// ```
/// use std::rc::Rc;
/// use greenling::queue::Queue;
///
/// let meeting = Rc::new(Queue::bounded(0));
/// let giver = greenling::spawn({ let m = meeting.clone(); move || m.put(7) });
/// assert_eq!(meeting.get(), Ok(7));
/// giver.join().unwrap().unwrap();
/// ```
pub struct Queue<T> {
    core: Core<T, Fifo<T>>,
}

/// A queue: last in, first out.
///
/// # Examples
/// ```
/// use greenling::queue::LifoQueue;
///
/// let stack = LifoQueue::new();
/// stack.put(1).unwrap();
/// stack.put(2).unwrap();
/// assert_eq!((stack.get(), stack.get()), (Ok(2), Ok(1)));
/// ```
pub struct LifoQueue<T> {
    core: Core<T, Lifo<T>>,
}

/// A queue: the least item first; among equals, first in, first out.
///
/// Wrap items in [`std::cmp::Reverse`] to get the greatest first.
///
/// Comparisons are made while the queue is locked. They must not wait and must not use the queue; where
/// that can be seen, it is a panic. If a comparison panics, no item is lost, but the order is.
///
/// # Examples
/// ```
/// use greenling::queue::PriorityQueue;
///
/// let queue = PriorityQueue::new();
/// for job in [(2, "second"), (1, "first"), (2, "third")] {
///     queue.put(job).unwrap();
/// }
/// assert_eq!(queue.try_iter().map(|(_, name)| name).collect::<Vec<_>>(), ["first", "second", "third"]);
/// ```
pub struct PriorityQueue<T> {
    core: Core<T, Heap<T>>,
}

/// A queue, first in, first out, that knows when everything that was put into it has been dealt with.
///
/// Who gets an item calls [`task_done`](JoinableQueue::task_done) when it is done with it;
/// [`join`](JoinableQueue::join) waits until that has happened for all.
///
/// # Examples
/// ```
/// use std::rc::Rc;
/// use greenling::queue::JoinableQueue;
///
/// let jobs = Rc::new(JoinableQueue::new());
/// for _ in 0..3 {
///     let jobs = jobs.clone();
///     greenling::spawn(move || for job in jobs.iter() {
///         greenling::sleep(std::time::Duration::from_millis(job));
///         jobs.task_done();
///     });
/// }
/// for job in 1..10 {
///     jobs.put(job).unwrap();
/// }
/// jobs.join();
/// assert_eq!(jobs.unfinished_tasks(), 0);
/// ```
pub struct JoinableQueue<T> {
    core: Core<T, Fifo<T>>,
    done: WaitQueue<Done>,
}

/// What a [`JoinableQueue`] notes of finished tasks.
struct Done {
    tasks: u64,
    /// How often all were finished: tells a waiter whether a grant is its own (as in `Event`).
    times: u64,
}

/// The methods that all queues share. What they do is in `common.rs`.
macro_rules! methods {
    ($Queue:ident, $Store:ident $(, $Ord:ident)?) => {
        impl<T $(: $Ord)?> $Queue<T> {
            /// Puts an item in; waits while the queue is full.
            ///
            /// # Errors
            /// The item, if the queue is closed, also while this waits.
            #[inline]
            #[track_caller]
            pub fn put(&self, item: T) -> Result<(), PutError<T>> {
                self.core.put(item, FOR_ROOM, None).map_err(|error| PutError(error.into_inner()))
            }

            /// Puts an item in if that needs no wait: there is room, or somebody waits for an item.
            ///
            /// # Errors
            /// The item, if the queue is full or closed.
            #[inline]
            pub fn try_put(&self, item: T) -> Result<(), TryPutError<T>> {
                self.core.try_put(item)
            }

            /// As [`put`](Self::put), but waits for at most `timeout`.
            ///
            /// # Errors
            /// The item, if there was no room in time or the queue is closed.
            #[track_caller]
            pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutTimeoutError<T>> {
                self.core.put(item, FOR_ROOM, Deadline::after(timeout))
            }

            /// Takes the next item; waits for one while there is none.
            ///
            /// # Errors
            /// If the queue is closed and empty, also while this waits.
            #[inline]
            #[track_caller]
            pub fn get(&self) -> Result<T, GetError> {
                self.core.get(FOR_ITEM, None).map_err(|_| GetError)
            }

            /// Takes the next item, if there is one.
            ///
            /// # Errors
            /// If there is none, for now or for ever.
            #[inline]
            pub fn try_get(&self) -> Result<T, TryGetError> {
                self.core.try_get()
            }

            /// As [`get`](Self::get), but waits for at most `timeout`.
            ///
            /// # Errors
            /// If none came in time, or none will come any more.
            #[track_caller]
            pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetTimeoutError> {
                self.core.get(FOR_ITEM, Deadline::after(timeout))
            }

            /// A copy of the next item, which stays where it is; waits while there is none.
            ///
            /// An item that is handed to one who waits for it was never in the queue, and is not seen here.
            /// The clone is made while the queue is locked: it must not wait or use the queue.
            ///
            /// # Errors
            /// If the queue is closed and empty, also while this waits.
            #[track_caller]
            pub fn peek(&self) -> Result<T, GetError>
            where
                T: Clone,
            {
                self.core.peek(None).map_err(|_| GetError)
            }

            /// A copy of the next item, if there is one.
            ///
            /// # Errors
            /// If there is none, for now or for ever.
            pub fn try_peek(&self) -> Result<T, TryGetError>
            where
                T: Clone,
            {
                self.core.try_peek()
            }

            /// As [`peek`](Self::peek), but waits for at most `timeout`.
            ///
            /// # Errors
            /// If none came in time, or none will come any more.
            #[track_caller]
            pub fn peek_timeout(&self, timeout: Duration) -> Result<T, GetTimeoutError>
            where
                T: Clone,
            {
                self.core.peek(Deadline::after(timeout))
            }

            /// How many items are in the queue. Those that putters still hold are not.
            pub fn len(&self) -> usize {
                self.core.len()
            }

            /// Whether no item is in the queue.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether there is no room in the queue. (One that waits for an item can still be served.)
            pub fn is_full(&self) -> bool {
                self.core.is_full()
            }

            /// How many items there is room for; `None` if that is not limited.
            pub fn capacity(&self) -> Option<usize> {
                self.core.capacity()
            }

            /// Closes the queue: nothing more can be put in, and those who wait with an item get it back.
            /// What is in the queue can still be taken. Closing twice changes nothing.
            pub fn close(&self) {
                self.core.close();
            }

            /// Whether the queue is closed. It may still hold items.
            pub fn is_closed(&self) -> bool {
                self.core.is_closed()
            }

            /// Takes items, waiting for each, until the queue is closed and empty.
            pub fn iter(&self) -> Iter<'_, T> {
                Iter { source: self }
            }

            /// Takes items until there is none at the moment. Never waits.
            pub fn try_iter(&self) -> TryIter<'_, T> {
                TryIter { source: self }
            }

            /// Takes as many items as are in the queue at this moment. Never waits.
            ///
            /// Who waits for room can put meanwhile; that stays in the queue.
            pub fn drain(&self) -> Vec<T> {
                self.try_iter().take(self.len()).collect()
            }

            /// For `select`.
            pub(crate) fn core(&self) -> &Core<T, $Store<T>> {
                &self.core
            }
        }

        impl<T $(: $Ord)?> Source<T> for $Queue<T> {
            #[track_caller]
            fn next(&self, wait: bool) -> Option<T> {
                if wait { self.core.get(FOR_ITEM, None).ok() } else { self.core.try_get().ok() }
            }
        }

        // Nothing that unwinds leaves it half changed.
        impl<T> UnwindSafe for $Queue<T> {}
        impl<T> RefUnwindSafe for $Queue<T> {}

        impl<'a, T $(: $Ord)?> IntoIterator for &'a $Queue<T> {
            type Item = T;
            type IntoIter = Iter<'a, T>;

            fn into_iter(self) -> Iter<'a, T> {
                self.iter()
            }
        }

        impl<T $(: $Ord)?> FromIterator<T> for $Queue<T> {
            /// An unbounded queue with these items in it.
            fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
                let queue = $Queue::new();
                items.into_iter().for_each(|item| drop(queue.try_put(item)));
                queue
            }
        }

        impl<T $(: $Ord)?> Default for $Queue<T> {
            fn default() -> Self {
                $Queue::new()
            }
        }

        impl<T $(: $Ord)?> fmt::Debug for $Queue<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($Queue))
                    .field("len", &self.len())
                    .field("capacity", &self.capacity())
                    .field("closed", &self.is_closed())
                    .finish_non_exhaustive()
            }
        }
    };
}

methods!(Queue, Fifo);
methods!(LifoQueue, Lifo);
methods!(PriorityQueue, Heap, Ord);
methods!(JoinableQueue, Fifo);

impl<T> Queue<T> {
    /// A queue with room for any number of items.
    pub const fn new() -> Self {
        Queue { core: Core::new(VecDeque::new(), usize::MAX) }
    }

    /// A queue with room for `capacity` items. With none, [`put`](Self::put) waits until the item is taken.
    pub const fn bounded(capacity: usize) -> Self {
        Queue { core: Core::new(VecDeque::new(), capacity) }
    }
}

impl<T> LifoQueue<T> {
    /// A queue with room for any number of items.
    pub const fn new() -> Self {
        LifoQueue { core: Core::new(Vec::new(), usize::MAX) }
    }

    /// A queue with room for `capacity` items. With none, [`put`](Self::put) waits until the item is taken.
    pub const fn bounded(capacity: usize) -> Self {
        LifoQueue { core: Core::new(Vec::new(), capacity) }
    }
}

impl<T> PriorityQueue<T> {
    /// A queue with room for any number of items.
    pub const fn new() -> Self {
        PriorityQueue { core: Core::new(Heap::new(), usize::MAX) }
    }

    /// A queue with room for `capacity` items. With none, [`put`](Self::put) waits until the item is taken.
    pub const fn bounded(capacity: usize) -> Self {
        PriorityQueue { core: Core::new(Heap::new(), capacity) }
    }
}

impl<T> JoinableQueue<T> {
    /// A queue with room for any number of items.
    pub const fn new() -> Self {
        JoinableQueue::bounded(usize::MAX)
    }

    /// A queue with room for `capacity` items. With none, [`put`](Self::put) waits until the item is taken.
    pub const fn bounded(capacity: usize) -> Self {
        let done = WaitQueue::new(Done { tasks: 0, times: 0 });
        JoinableQueue { core: Core::new(VecDeque::new(), capacity), done }
    }

    /// Says that an item that was taken has been dealt with.
    ///
    /// # Panics
    /// If it is called more often than there were items.
    #[track_caller]
    pub fn task_done(&self) {
        let mut done = self.done.lock();
        let left = self.core.accepted() - done.tasks;
        if left == 0 {
            drop(done);
            panic!("task_done was called more often than items were put into the queue");
        }
        done.tasks += 1;
        if left == 1 {
            done.times += 1;
            drop(done);
            self.done.update_and_wake_all(|_| ());
        }
    }

    /// How many items were put in for which [`task_done`](Self::task_done) has not been called.
    pub fn unfinished_tasks(&self) -> usize {
        let done = self.done.lock();
        usize::try_from(self.core.accepted() - done.tasks).unwrap_or(usize::MAX)
    }

    /// Waits until no task is unfinished. Returns at once if none is.
    ///
    /// If all are finished while this waits, it returns, even if more have been put before its turn comes.
    #[track_caller]
    pub fn join(&self) {
        self.join_until(None);
    }

    /// As [`join`](Self::join), but waits for at most `timeout`. Says whether all tasks were finished.
    #[track_caller]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.join_until(Deadline::after(timeout))
    }

    #[track_caller]
    fn join_until(&self, deadline: Option<Deadline>) -> bool {
        let deadline = deadline.map(|deadline| deadline.0);
        let reason = Reason::Wait("the tasks of a queue");
        loop {
            let mut times = 0;
            let waited = self.done.wait(reason, deadline, None, |done, _| {
                times = done.times;
                (done.tasks == self.core.accepted()).then_some(())
            });
            let were_finished = || self.done.lock().times != times;
            match waited {
                Ok(Waited::Attempted(())) => return true,
                Ok(Waited::Granted(_)) if were_finished() => return true,
                Ok(Waited::Granted(_)) => {}
                Err((Woken::TimedOut, _)) => return were_finished(),
                Err((interrupted, _)) => rt::unwind(interrupted),
            }
        }
    }
}

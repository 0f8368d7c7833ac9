//! Many coroutines under one roof: [`Group`], and [`Pool`] with a limit to how many run at once.
//!
//! ```
//! use std::time::Duration;
//! use greenling::pool::Pool;
//!
//! let pool = Pool::new(10); // ten at a time
//! let results = pool.map(1..=100, |n| {
//!     greenling::sleep(Duration::from_millis(1));
//!     n * n
//! });
//! let sum: u32 = results.into_iter().map(Result::unwrap).sum();
//! assert_eq!(sum, 338_350);
//! ```
//!
//! A coroutine that panics ends alone: its item of a `map` is an `Err` with the payload, and the others go
//! on. The coroutines run on the thread that spawns them; but a pool can be shared by threads, and then
//! limits how many of all their coroutines run at once.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

mod crew;
mod map;

pub use crate::error::PoolFull;
pub use map::{Imap, ImapUnordered};

use crate::rt::Deadline;
use crate::thread::{self, Builder, JoinHandle};
use crew::Crew;
// For servers, which limit what they accept rather than what they spawn.
pub(crate) use crew::{Slot, Slots};

/// Coroutines that are waited for, or killed, together.
///
/// A clone is another handle to the same group. Dropping all handles leaves the coroutines alone.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::pool::Group;
///
/// let group = Group::new();
/// for n in 1..=3 {
///     group.spawn(move || greenling::sleep(Duration::from_millis(n)));
/// }
/// assert_eq!(group.len(), 3);
/// group.join();
/// assert!(group.is_empty());
/// ```
#[derive(Clone)]
pub struct Group {
    crew: Arc<Crew>,
}

/// A group of which at most so many coroutines run at once.
///
/// Whoever spawns when all slots are taken waits for one; slots are given away in the order in which they
/// were asked for. A clone is another handle to the same pool.
///
/// A coroutine of the pool that waits for another one of the same pool keeps its slot: if all do so,
/// nothing can go on, as the deadlock report will tell.
///
/// # Examples
/// ```
/// use greenling::pool::Pool;
///
/// let pool = Pool::new(2);
/// let double = pool.spawn(|| 2 * 21);
/// assert_eq!(double.join().unwrap(), 42);
/// ```
#[derive(Clone)]
pub struct Pool {
    crew: Arc<Crew>,
}

/// What groups and pools have in common. What it does is in `crew.rs` and `map.rs`.
macro_rules! methods {
    ($Group:ident, $spawns:literal) => {
        impl $Group {
            #[doc = concat!("Calls `f` for every item, each in a coroutine of its own, ", $spawns)]
            /// Returns the results in the order of the items. (gevent's `map`.)
            ///
            /// An item whose coroutine panics or is killed gives an `Err`; the others go on. If the caller
            /// itself is killed, or the iterator panics, what is under way is killed.
            #[track_caller]
            pub fn map<I, R>(
                &self,
                items: I,
                f: impl Fn(I::Item) -> R + 'static,
            ) -> Vec<thread::Result<R>>
            where
                I: IntoIterator<Item: 'static>,
                R: 'static,
            {
                map::map(&self.crew, items, f)
            }

            #[doc = concat!("As [`map`](Self::map), ", $spawns)]
            /// Returns the results one by one, as soon as they are there, still in the order of the items.
            /// (gevent's `imap`.)
            ///
            /// A coroutine walks through the items while you do other things; if the iterator over them
            /// panics, so does `next`, after the results before. Dropping it kills what is under way.
            pub fn imap<I, R>(&self, items: I, f: impl Fn(I::Item) -> R + 'static) -> Imap<R>
            where
                I: IntoIterator<Item: 'static, IntoIter: 'static>,
                R: 'static,
            {
                map::imap(&self.crew, items.into_iter(), f)
            }

            /// As [`imap`](Self::imap), but returns the results in the order in which they come, each with
            /// the number of its item. (gevent's `imap_unordered`.)
            pub fn imap_unordered<I, R>(
                &self,
                items: I,
                f: impl Fn(I::Item) -> R + 'static,
            ) -> ImapUnordered<R>
            where
                I: IntoIterator<Item: 'static, IntoIter: 'static>,
                R: 'static,
            {
                map::imap_unordered(&self.crew, items.into_iter(), f)
            }

            /// How many coroutines have not ended.
            pub fn len(&self) -> usize {
                self.crew.len()
            }

            /// Whether none is left.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Waits until all have ended, including those that are spawned meanwhile.
            #[track_caller]
            pub fn join(&self) {
                self.crew.join(None);
            }

            /// As [`join`](Self::join), but waits for at most `timeout`. Says whether all have ended.
            #[track_caller]
            pub fn join_timeout(&self, timeout: Duration) -> bool {
                self.crew.join(Deadline::after(timeout))
            }

            /// Kills all and waits until they have ended, including those that are spawned meanwhile.
            ///
            /// If the caller is one of them, it unwinds too.
            #[track_caller]
            pub fn kill(&self) {
                self.crew.kill(None);
            }

            /// As [`kill`](Self::kill), but waits for at most `timeout`; zero does not wait at all. Says
            /// whether all have ended.
            #[track_caller]
            pub fn kill_timeout(&self, timeout: Duration) -> bool {
                self.crew.kill(Some(timeout))
            }
        }
    };
}

methods!(Group, "all at once.");
methods!(Pool, "as many at once as there are slots.");

impl Group {
    /// A group of none.
    pub fn new() -> Group {
        Group { crew: Arc::new(Crew::new(None)) }
    }

    /// Spawns a coroutine of the group on the calling thread. The handle may be dropped.
    ///
    /// # Panics
    /// If there is no memory for a stack.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let handle = thread::spawn(f);
        self.add(&handle);
        handle
    }

    /// As [`spawn`](Self::spawn), with a name and a stack size.
    ///
    /// # Errors
    /// As for [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_with<F, T>(&self, builder: Builder, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let handle = builder.spawn(f)?;
        self.add(&handle);
        Ok(handle)
    }

    /// Adds a coroutine that is there already, of whatever thread. To add it twice changes nothing.
    pub fn add<T>(&self, handle: &JoinHandle<T>) {
        self.crew.add(handle.task());
    }
}

impl Pool {
    /// A pool with so many slots.
    ///
    /// # Panics
    /// If `size` is 0: nothing could ever run.
    pub fn new(size: usize) -> Pool {
        assert!(size > 0, "a pool needs at least one slot");
        Pool { crew: Arc::new(Crew::new(Some(size))) }
    }

    /// Waits for a slot and spawns a coroutine on the calling thread. The handle may be dropped.
    ///
    /// # Panics
    /// If there is no memory for a stack.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.crew.spawn(f)
    }

    /// Spawns a coroutine if a slot is free.
    ///
    /// # Errors
    /// The function, if there is none.
    ///
    /// # Panics
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn try_spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, PoolFull<F>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.crew.try_spawn(f)
    }

    /// As [`spawn`](Self::spawn), but waits for at most `timeout`.
    ///
    /// # Errors
    /// The function, if no slot has become free by then.
    ///
    /// # Panics
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_timeout<F, T>(&self, f: F, timeout: Duration) -> Result<JoinHandle<T>, PoolFull<F>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.crew.spawn_timeout(f, Deadline::after(timeout))
    }

    /// How many slots there are.
    pub fn size(&self) -> usize {
        self.crew.size().expect("a pool has slots")
    }

    /// How many slots are free.
    pub fn free_slots(&self) -> usize {
        self.crew.free_slots()
    }

    /// Whether all slots are taken, so that [`spawn`](Self::spawn) would wait.
    pub fn is_full(&self) -> bool {
        self.free_slots() == 0
    }
}

impl UnwindSafe for Group {}
impl RefUnwindSafe for Group {}
impl UnwindSafe for Pool {}
impl RefUnwindSafe for Pool {}

impl Default for Group {
    fn default() -> Group {
        Group::new()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("size", &self.size())
            .field("free_slots", &self.free_slots())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

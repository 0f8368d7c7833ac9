//! The queue of runnable tasks.

use std::cell::Cell;

use super::task::TaskRef;

/// Runnable tasks, first in first out: a list that is linked through the tasks themselves.
///
/// It never allocates, and an element costs a few instructions, which is what a switch is made of.
/// The tasks at both ends are in the cache anyway: one is about to run, one has just run or been woken.
pub(super) struct RunQueue {
    head: Cell<Option<TaskRef>>,
    /// Meaningless while `head` is `None`.
    tail: Cell<TaskRef>,
    /// The stacks of so many at the head have been called into the cache.
    fetched: Cell<u32>,
}

/// So many stacks are called into the cache together. Each lies on a page of its own, and where there are many, what
/// takes the time is to find out where that page is, which the processor does for a few at once if it is told of
/// them at once.
const BATCH: u32 = 4;

impl RunQueue {
    /// An empty queue; `any` is some task that stays alive.
    pub(super) fn new(any: TaskRef) -> RunQueue {
        RunQueue { head: Cell::new(None), tail: Cell::new(any), fetched: Cell::new(0) }
    }

    #[inline(always)]
    pub(super) fn push(&self, task: TaskRef) {
        // SAFETY: what is in the queue or being pushed has not finished, and this is its hub's thread.
        let (next, last) =
            unsafe { (&task.get().local().next, &self.tail.get().get().local().next) };
        next.set(None);
        match self.head.get() {
            None => self.head.set(Some(task)),
            Some(_) => last.set(Some(task)),
        }
        self.tail.set(task);
    }

    #[inline(always)]
    pub(super) fn pop(&self) -> Option<TaskRef> {
        let task = self.head.get()?;
        // SAFETY: as in `push`.
        let next = unsafe { task.get().local() }.next.get();
        self.head.set(next);
        match self.fetched.get() {
            0 => self.fetch(next),
            fetched => self.fetched.set(fetched - 1),
        }
        Some(task)
    }

    /// Calls the stacks of the next few into the cache.
    #[inline(always)]
    fn fetch(&self, first: Option<TaskRef>) {
        let (mut next, mut fetched) = (first, 0);
        while let Some(task) = next {
            // SAFETY: as in `push`.
            unsafe { task.prefetch() };
            fetched += 1;
            if fetched == BATCH {
                break;
            }
            // SAFETY: as in `push`.
            next = unsafe { task.get().local() }.next.get();
        }
        self.fetched.set(fetched);
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    pub(super) fn len(&self) -> usize {
        // SAFETY: as in `push`.
        let next = |task: &TaskRef| unsafe { task.get().local() }.next.get();
        std::iter::successors(self.head.get(), next).count()
    }

    pub(super) fn clear(&self) {
        self.head.set(None);
        self.fetched.set(0);
    }
}

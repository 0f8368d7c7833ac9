//! Who refers to a task: by address, or as one of its owners.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::Task;

/// A task by address, without ownership. Valid until the task has finished, and for ever if it is
/// abandoned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TaskRef(NonNull<Task>);

impl TaskRef {
    /// # Safety
    /// The task must not have finished (or somebody else must keep it alive for `'a`).
    #[inline]
    pub(crate) unsafe fn get<'a>(self) -> &'a Task {
        // SAFETY: alive by contract.
        unsafe { self.0.as_ref() }
    }

    /// # Safety
    /// As for [`get`](Self::get).
    #[inline]
    pub(crate) unsafe fn to_arc(self) -> TaskArc {
        // SAFETY: alive by contract.
        unsafe { self.0.as_ref() }.refs.fetch_add(1, Ordering::Relaxed);
        TaskArc(self.0)
    }

    /// Brings what a switch to the task will need into the cache.
    ///
    /// # Safety
    /// As for [`get`](Self::get), on the thread of the task's hub.
    #[inline(always)]
    pub(in crate::rt) unsafe fn prefetch(self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: alive by contract. A prefetch accesses nothing, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // What suspending pushes lies just below.
            let top = self.get().local.stack_top.get().wrapping_sub(24);
            _mm_prefetch::<_MM_HINT_T0>(top);
            _mm_prefetch::<_MM_HINT_T0>(top.wrapping_add(64));
            _mm_prefetch::<_MM_HINT_T0>(top.wrapping_add(128));
        }
    }

    /// Takes over the reference that [`TaskArc::into_ref`] gave up.
    ///
    /// # Safety
    /// To be called once for each `into_ref`.
    #[inline]
    pub(in crate::rt) unsafe fn into_arc(self) -> TaskArc {
        TaskArc(self.0)
    }
}

/// Shared ownership of a task, as `Arc` has it. It is hand-made for three things that `Arc` cannot do:
/// the result of any type lies in the same allocation, a task begins with two owners at no cost, and
/// the last owner needs no atomic write to find out that it is the last.
pub(crate) struct TaskArc(NonNull<Task>);

// SAFETY: a `Task` is Send and Sync, and its count is atomic. What lies behind it, the result, is
// removed before the last owner goes (see `spawn.rs`).
unsafe impl Send for TaskArc {}
// SAFETY: as above.
unsafe impl Sync for TaskArc {}

// What a panic may leave half done in a task is only ever seen by the hub, which takes care of it.
impl UnwindSafe for TaskArc {}
impl RefUnwindSafe for TaskArc {}

impl TaskArc {
    /// Owns a new allocation that begins with `task`, whose count must include this owner.
    ///
    /// # Safety
    /// `task` must be the first field of a `repr(C)` struct that its kind's `free` deallocates.
    pub(in crate::rt) unsafe fn from_new(task: NonNull<Task>) -> TaskArc {
        TaskArc(task)
    }

    #[inline]
    pub(crate) fn as_ref(&self) -> TaskRef {
        TaskRef(self.0)
    }

    /// The address of the allocation, good for all of it and not only for the task.
    #[inline]
    pub(in crate::rt) fn as_ptr(&self) -> *mut Task {
        self.0.as_ptr()
    }

    /// Gives the reference up without counting down; [`TaskRef::into_arc`] takes it back.
    pub(in crate::rt) fn into_ref(self) -> TaskRef {
        TaskRef(ManuallyDrop::new(self).0)
    }
}

impl Deref for TaskArc {
    type Target = Task;

    #[inline]
    fn deref(&self) -> &Task {
        // SAFETY: alive as long as one owner is.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for TaskArc {
    #[inline]
    fn clone(&self) -> TaskArc {
        // SAFETY: `self` is an owner.
        unsafe { self.as_ref().to_arc() }
    }
}

impl Drop for TaskArc {
    #[inline]
    fn drop(&mut self) {
        // Acquire: what the other owners did comes before the deallocation. A count of one cannot
        // grow, since only an owner can clone.
        if self.refs.load(Ordering::Acquire) == 1 || self.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            let free = self.kind.free;
            // SAFETY: we were the last owner, and `free` fits the allocation (see `from_new`).
            unsafe { free(self.0) };
        }
    }
}

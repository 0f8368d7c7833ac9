//! Who else in the process might wake a hub that sleeps: other threads, except for helpers that have
//! nothing to do.
//!
//! A *helper* is a thread of the crate's own that acts on request only, such as a thread of a pool. An
//! *errand* is such a request, from before it is made until whoever waits for it has been told. Helpers
//! without an errand wake nobody, so they do not stand in the way of the deadlock report; and while an
//! errand is under way, silence is no reason for a warning.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};

use super::sys;

static THREADS: AtomicUsize = AtomicUsize::new(0);
static ERRANDS: AtomicUsize = AtomicUsize::new(0);
/// Counts the changes of both, so that a look at them can tell whether they held still.
static CHANGES: AtomicUsize = AtomicUsize::new(0);

fn add(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::SeqCst);
    CHANGES.fetch_add(1, Ordering::SeqCst);
}

fn subtract(counter: &AtomicUsize) {
    // It may be zero already: in the child of a fork, which begins without helpers.
    let less = |count: usize| count.checked_sub(1);
    let _ = counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    CHANGES.fetch_add(1, Ordering::SeqCst);
}

/// Marks the calling thread as a helper until it is dropped.
#[derive(Debug)]
pub(crate) struct Helper(());

impl Helper {
    pub(crate) fn begin() -> Helper {
        add(&THREADS);
        Helper(())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        subtract(&THREADS);
    }
}

/// Something that is done for others, who are to be told before it is dropped.
#[derive(Debug)]
pub(crate) struct Errand(());

impl Errand {
    pub(crate) fn begin() -> Errand {
        add(&ERRANDS);
        Errand(())
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        subtract(&ERRANDS);
    }
}

/// In the child of a fork.
pub(super) fn forget_all() {
    THREADS.store(0, Ordering::SeqCst);
    ERRANDS.store(0, Ordering::SeqCst);
}

/// Who there is besides the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// Nobody who could do anything.
    Nobody,
    /// Threads that may do anything.
    Threads,
    /// A helper on an errand, and maybe others.
    AtWork,
    /// It changed during the look.
    Unsure,
}

pub(super) fn others() -> Others {
    let changes = CHANGES.load(Ordering::SeqCst);
    let (helpers, errands) = (THREADS.load(Ordering::SeqCst), ERRANDS.load(Ordering::SeqCst));
    if errands > 0 {
        return Others::AtWork;
    }
    let Some(threads) = sys::thread_count() else { return Others::Threads };
    // A helper is counted by itself: after it has begun, before it ends. So the kernel may know of more
    // helpers than we do, but not of fewer, unless something has changed.
    let others = threads.saturating_sub(1 + helpers as u64);
    if CHANGES.load(Ordering::SeqCst) != changes {
        Others::Unsure
    } else if others == 0 {
        Others::Nobody
    } else {
        Others::Threads
    }
}

//! Iterators over what comes out of a queue.

#![forbid(unsafe_code)]

use std::fmt;

/// What iterators need of a queue.
pub(super) trait Source<T> {
    /// The next item; waits if `wait` and there is none. `None` at the end.
    fn next(&self, wait: bool) -> Option<T>;
}

/// Takes items out of a queue, waiting for each, until the queue is closed and empty.
pub struct Iter<'a, T> {
    pub(super) source: &'a dyn Source<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.source.next(true)
    }
}

/// Takes items out of a queue until there is none, without waiting.
pub struct TryIter<'a, T> {
    pub(super) source: &'a dyn Source<T>,
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.source.next(false)
    }
}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for TryIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryIter").finish_non_exhaustive()
    }
}

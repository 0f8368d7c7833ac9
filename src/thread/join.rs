//! Waiting for many coroutines.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::{JoinHandle, Result};
use crate::rt::{self, Completions, Reason, WaitQueue};

/// Waits for all coroutines and returns their results in the order of the handles. (gevent's `joinall`.)
///
/// # Examples
/// ```
/// let handles = (1..=3).map(|n| greenling::spawn(move || n * n));
/// let squares: Vec<i32> = greenling::join_all(handles).into_iter().map(Result::unwrap).collect();
/// assert_eq!(squares, [1, 4, 9]);
/// ```
#[track_caller]
pub fn join_all<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<Result<T>> {
    // All are there before the first wait: an iterator that spawns has spawned them all.
    let handles: Vec<_> = handles.into_iter().collect();
    // A loop, since in a closure the caller's place, which reports name, would be lost.
    let mut results = Vec::with_capacity(handles.len());
    for handle in handles {
        results.push(handle.join());
    }
    results
}

/// Waits for the first of the coroutines that ends. Returns its place among the handles, its result, and
/// the other handles in their order; `None` if there were no handles. (gevent's `wait(count=1)`.)
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let racers = [30, 1, 20].map(|ms| {
///     greenling::spawn(move || greenling::sleep(Duration::from_millis(ms)))
/// });
/// let (winner, result, others) = greenling::join_any(racers).unwrap();
/// assert_eq!(winner, 1);
/// result.unwrap();
/// assert_eq!(others.len(), 2);
/// ```
#[track_caller]
pub fn join_any<T>(
    handles: impl IntoIterator<Item = JoinHandle<T>>,
) -> Option<(usize, Result<T>, Vec<JoinHandle<T>>)> {
    let mut completed = join_each(handles);
    let (place, result) = completed.next()?;
    Some((place, result, completed.into_remaining()))
}

/// Iterates over the results of coroutines in the order in which they end, each with its place among the
/// handles. (gevent's `iwait`.)
///
/// The caller may wait for other things between two items: nothing is lost.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let handles = [20, 1, 10].map(|ms| {
///     greenling::spawn(move || { greenling::sleep(Duration::from_millis(ms)); ms })
/// });
/// let order: Vec<u64> = greenling::thread::join_each(handles).map(|(_, ms)| ms.unwrap()).collect();
/// assert_eq!(order, [1, 10, 20]);
/// ```
pub fn join_each<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Completed<T> {
    let completions = Arc::new(WaitQueue::new(Default::default()));
    let handles: Vec<_> = handles.into_iter().map(Some).collect();
    for (place, handle) in handles.iter().enumerate() {
        if let Some(handle) = handle {
            handle.task().watch(&completions, place);
        }
    }
    let remaining = handles.len();
    Completed { handles, remaining, completions }
}

/// The iterator that [`join_each`] returns. Dropping it detaches the coroutines that are left.
pub struct Completed<T> {
    handles: Vec<Option<JoinHandle<T>>>,
    remaining: usize,
    completions: Arc<Completions>,
}

impl<T> Completed<T> {
    /// The handles of those that have not been returned, in their order.
    pub fn into_remaining(self) -> Vec<JoinHandle<T>> {
        self.handles.into_iter().flatten().collect()
    }
}

impl<T> Iterator for Completed<T> {
    type Item = (usize, Result<T>);

    #[track_caller]
    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        let reason = Reason::Wait("the first of several coroutines to end");
        match self.completions.wait_until(reason, None, |ended| ended.pop_front()) {
            Ok(place) => {
                self.remaining -= 1;
                let handle = self.handles[place].take().expect("a coroutine ends once");
                Some((place, handle.join()))
            }
            Err(interrupted) => rt::unwind(interrupted),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<T> ExactSizeIterator for Completed<T> {}

impl<T> fmt::Debug for Completed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completed").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

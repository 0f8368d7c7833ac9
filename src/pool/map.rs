//! One function over many items.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::iter::FusedIterator;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::crew::{Crew, Slot, Slots};
use crate::error::Killed;
use crate::queue::Queue;
use crate::rt::{self, Completions, Reason, WaitQueue};
use crate::thread::{self, JoinHandle};

/// A handle that kills its coroutine when it is dropped.
struct Worker<R>(Option<JoinHandle<R>>);

impl<R> Worker<R> {
    /// Waits for the end. If that unwinds, the worker goes on.
    #[track_caller]
    fn wait(&self) {
        rt::wait_exit(self.0.as_ref().expect("only join takes it").task(), None);
    }

    #[track_caller]
    fn join(mut self) -> thread::Result<R> {
        self.wait(); // may unwind, and kills it then
        self.0.take().expect("taken only here").join()
    }
}

impl<R> Drop for Worker<R> {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.kill_timeout(Duration::ZERO);
        }
    }
}

#[track_caller]
fn spawn<T: 'static, R: 'static>(
    crew: &Crew,
    f: &Rc<impl Fn(T) -> R + 'static>,
    item: T,
) -> Worker<R> {
    let f = f.clone();
    Worker(Some(crew.spawn(move || f(item))))
}

#[track_caller]
pub(super) fn map<I, R>(
    crew: &Crew,
    items: I,
    f: impl Fn(I::Item) -> R + 'static,
) -> Vec<thread::Result<R>>
where
    I: IntoIterator<Item: 'static>,
    R: 'static,
{
    let f = Rc::new(f);
    // Loops, since in closures the caller's place, which reports name, would be lost.
    let (mut workers, mut results) = (Vec::new(), Vec::new());
    for item in items {
        workers.push(spawn(crew, &f, item));
    }
    for worker in workers {
        results.push(worker.join());
    }
    results
}

/// How many results may lie unread before no more is started: enough to keep all slots busy.
fn window(crew: &Crew) -> usize {
    crew.size().unwrap_or(usize::MAX)
}

/// Goes on with the panic of the iterator over the items, if that is how the feeder has ended.
#[track_caller]
fn end_of_feed(feeder: &mut Option<JoinHandle<()>>) {
    match feeder.take().map(JoinHandle::join) {
        Some(Err(payload)) if !payload.is::<Killed>() => resume_unwind(payload),
        _ => {}
    }
}

// ---- in the order of the items --------------------------------------------------------------------

/// The results of [`Pool::imap`](super::Pool::imap), in the order of the items.
///
/// Dropping it kills what is under way.
pub struct Imap<R> {
    workers: Rc<Queue<Worker<R>>>,
    /// The one whose turn it is. It stays here if the wait for it is ended, by a time limit for example.
    next: Option<Worker<R>>,
    feeder: Option<JoinHandle<()>>,
}

pub(super) fn imap<T, R>(
    crew: &Arc<Crew>,
    items: impl Iterator<Item = T> + 'static,
    f: impl Fn(T) -> R + 'static,
) -> Imap<R>
where
    T: 'static,
    R: 'static,
{
    /// Says that there are no more, also if the items' iterator panics.
    struct Close<R>(Rc<Queue<Worker<R>>>);
    impl<R> Drop for Close<R> {
        fn drop(&mut self) {
            self.0.close();
        }
    }
    let workers = Rc::new(Queue::bounded(window(crew)));
    let (crew, f, sink) = (crew.clone(), Rc::new(f), Close(workers.clone()));
    let feeder = thread::spawn(move || {
        for item in items {
            let worker = spawn(&crew, &f, item);
            if sink.0.put(worker).is_err() {
                break; // nobody wants them any more
            }
            thread::yield_now(); // there may be no end of items
        }
    });
    Imap { workers, next: None, feeder: Some(feeder) }
}

impl<R> Iterator for Imap<R> {
    type Item = thread::Result<R>;

    #[track_caller]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next.is_none() {
            self.next = self.workers.get().ok();
        }
        match &self.next {
            Some(worker) => worker.wait(),
            None => end_of_feed(&mut self.feeder),
        }
        Some(self.next.take()?.join())
    }
}

impl<R> Drop for Imap<R> {
    fn drop(&mut self) {
        self.workers.close();
        if let Some(feeder) = &self.feeder {
            feeder.kill_timeout(Duration::ZERO);
        }
        drop(self.workers.drain());
    }
}

// ---- in the order of completion ----------------------------------------------------------------------

/// The results of [`Pool::imap_unordered`](super::Pool::imap_unordered), in the order in which they come,
/// each with the number of its item.
///
/// Dropping it kills what is under way.
pub struct ImapUnordered<R> {
    workers: Rc<Unread<R>>,
    /// The numbers of those that have ended, [`FEEDER`] among them.
    ended: Arc<Completions>,
    feeder: Option<JoinHandle<()>>,
    /// Whether the feeder has ended.
    is_fed: bool,
}

/// Workers by number, each with its share of the limit to unread results.
type Unread<R> = RefCell<HashMap<usize, (Worker<R>, Slot)>>;

const FEEDER: usize = usize::MAX;

pub(super) fn imap_unordered<T, R>(
    crew: &Arc<Crew>,
    items: impl Iterator<Item = T> + 'static,
    f: impl Fn(T) -> R + 'static,
) -> ImapUnordered<R>
where
    T: 'static,
    R: 'static,
{
    let ended: Arc<Completions> = Arc::new(WaitQueue::new(Default::default()));
    let workers: Rc<Unread<R>> = Rc::default();
    // As many unread results as with `imap`, beside those that are at work.
    let unread = Arc::new(Slots::new(window(crew).saturating_mul(2)));
    let feeder = thread::spawn({
        let (crew, f, ended, workers) = (crew.clone(), Rc::new(f), ended.clone(), workers.clone());
        move || {
            for (number, item) in items.enumerate() {
                let place = Slots::acquire(&unread, None).expect("there is no deadline");
                let worker = spawn(&crew, &f, item);
                if let Some(handle) = &worker.0 {
                    handle.task().watch(&ended, number);
                }
                workers.borrow_mut().insert(number, (worker, place));
                thread::yield_now(); // there may be no end of items
            }
        }
    });
    feeder.task().watch(&ended, FEEDER);
    ImapUnordered { workers, ended, feeder: Some(feeder), is_fed: false }
}

impl<R> Iterator for ImapUnordered<R> {
    type Item = (usize, thread::Result<R>);

    #[track_caller]
    fn next(&mut self) -> Option<Self::Item> {
        let reason = Reason::Wait("the first of several coroutines to end");
        loop {
            if self.is_fed && self.workers.borrow().is_empty() {
                end_of_feed(&mut self.feeder);
                return None;
            }
            match self.ended.wait_until(reason, None, |ended| ended.pop_front()) {
                Ok(FEEDER) => self.is_fed = true,
                Ok(number) => {
                    let worker = self.workers.borrow_mut().remove(&number);
                    let (worker, place) = worker.expect("a coroutine ends once");
                    drop(place);
                    return Some((number, worker.join()));
                }
                Err(interrupted) => rt::unwind(interrupted),
            }
        }
    }
}

impl<R> Drop for ImapUnordered<R> {
    fn drop(&mut self) {
        if let Some(feeder) = &self.feeder {
            feeder.kill_timeout(Duration::ZERO);
        }
        // Not while it is borrowed: results have destructors.
        let workers = self.workers.take();
        drop(workers);
    }
}

impl<R> FusedIterator for Imap<R> {}
impl<R> FusedIterator for ImapUnordered<R> {}

impl<R> fmt::Debug for Imap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for ImapUnordered<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImapUnordered").finish_non_exhaustive()
    }
}

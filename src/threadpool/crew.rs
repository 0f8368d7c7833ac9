//! The threads of a pool, and the jobs that wait for them.
//!
//! A thread that has nothing to do waits in a queue, and who has a job hands it to the first of them. If
//! there is none a new one is started, up to the limit; beyond that jobs wait. A thread leaves when it has
//! waited for too long. All of that is decided under one lock, so that no job waits while a thread does.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use super::job::Work;
use crate::rt::{self, Deadline, Errand, Helper, Reason, WaitQueue, Waited, Woken};

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_threads: usize,
    pub(super) idle_timeout: Duration,
    pub(super) name: String,
    pub(super) stack_size: Option<usize>,
}

/// A job on its way to a thread. While there is one, somebody may be woken by it.
struct Entry {
    work: Arc<dyn Work>,
    _errand: Errand,
}

impl Entry {
    fn new(work: Arc<dyn Work>) -> Entry {
        Entry { work, _errand: Errand::begin() }
    }
}

#[derive(Default)]
struct State {
    /// Jobs that found every thread at work.
    backlog: VecDeque<Entry>,
    /// How many threads there are, or are about to be.
    threads: usize,
    /// Nobody will have another job.
    closed: bool,
}

pub(super) struct Crew {
    settings: Settings,
    /// The waiters are threads with nothing to do. They are granted a job, or are told to leave.
    state: WaitQueue<State, Option<Entry>>,
    /// How many jobs have not ended; who waits for the end of all.
    unfinished: WaitQueue<usize>,
    /// See `rt::forks`.
    process: u64,
}

thread_local! {
    /// The address of the crew that the thread belongs to.
    static CREW: Cell<usize> = const { Cell::new(0) };
}

impl Crew {
    pub(super) fn new(settings: Settings) -> Arc<Crew> {
        Arc::new(Crew {
            settings,
            state: WaitQueue::new(State::default()),
            unfinished: WaitQueue::new(0),
            process: rt::forks(),
        })
    }

    pub(super) fn is_of_another_process(&self) -> bool {
        self.process != rt::forks()
    }

    pub(super) fn is_caller_one_of_us(&self) -> bool {
        CREW.get() == std::ptr::from_ref(self).addr()
    }

    /// Has a job done.
    ///
    /// # Errors
    /// There is no thread, and none can be started.
    pub(super) fn submit(self: &Arc<Crew>, work: Arc<dyn Work>) -> io::Result<()> {
        *self.unfinished.lock() += 1;
        let mut state = self.state.lock();
        let entry = match state.grant(Some(Entry::new(work))) {
            Ok(idle) => {
                drop(state);
                idle.unpark();
                return Ok(());
            }
            Err(entry) => entry.expect("the same comes back"),
        };
        if state.threads >= self.settings.max_threads {
            state.backlog.push_back(entry);
            return Ok(());
        }
        state.threads += 1;
        drop(state);
        let Err(error) = self.start_thread(entry.work.clone()) else { return Ok(()) };
        let mut state = self.state.lock();
        state.threads -= 1;
        if state.threads > 0 {
            // It takes longer, but will be done.
            state.backlog.push_back(entry);
            return Ok(());
        }
        // Somebody else may have relied on the thread.
        let refused = mem::take(&mut state.backlog);
        drop(state);
        for Entry { work, .. } in refused {
            work.refuse(Box::new(io::Error::from(error.kind())));
            self.one_has_ended();
        }
        self.one_has_ended();
        Err(error)
    }

    fn start_thread(self: &Arc<Crew>, first: Arc<dyn Work>) -> io::Result<()> {
        let mut builder = Builder::new().name(self.settings.name.clone());
        if let Some(size) = self.settings.stack_size {
            builder = builder.stack_size(size);
        }
        let (crew, entry) = (self.clone(), Entry::new(first));
        builder.spawn(move || crew.work(entry)).map(drop)
    }

    /// What a thread does from beginning to end.
    fn work(self: Arc<Crew>, first: Entry) {
        let _helper = Helper::begin();
        CREW.set(Arc::as_ptr(&self).addr());
        let mut next = Some(first);
        while let Some(Entry { work, _errand }) = next {
            // The job catches its own panic, but a result that nobody wants may panic as it is dropped.
            let ended = catch_unwind(AssertUnwindSafe(|| {
                work.run();
                drop(work);
            }));
            if let Err(payload) = ended {
                mem::forget(payload); // and so may this
            }
            self.one_has_ended();
            drop(_errand);
            next = self.next();
        }
    }

    /// Waits for a job; `None` when it is time to leave.
    fn next(&self) -> Option<Entry> {
        let deadline = Deadline::after(self.settings.idle_timeout).map(|deadline| deadline.0);
        let waited = self.state.wait(Reason::Idle, deadline, None, |state, _| {
            match state.backlog.pop_front() {
                Some(entry) => Some(Some(entry)),
                None if state.closed => Some(None),
                None => None,
            }
        });
        let entry = match waited {
            Ok(Waited::Attempted(entry)) => entry,
            Ok(Waited::Granted(message)) => message.flatten(),
            Err((Woken::Deadlocked, _)) => unreachable!("it is not told of deadlocks"),
            Err(_) => None,
        };
        entry.or_else(|| {
            // Whoever came since found a thread, this one, and counts on it.
            let mut state = self.state.lock();
            let entry = state.backlog.pop_front();
            state.threads -= usize::from(entry.is_none());
            entry
        })
    }

    fn one_has_ended(&self) {
        let mut unfinished = self.unfinished.lock();
        *unfinished -= 1;
        if *unfinished == 0 {
            drop(unfinished);
            self.unfinished.update_and_wake_all(|_| ());
        }
    }

    /// Waits until no job is left, or until the deadline.
    #[track_caller]
    pub(super) fn join(&self, deadline: Option<Deadline>) -> bool {
        let deadline = deadline.map(|deadline| deadline.0);
        let reason = Reason::Wait("the jobs of a thread pool");
        let waited =
            self.unfinished.wait_until(reason, deadline, |left| (*left == 0).then_some(()));
        match waited {
            Ok(()) => true,
            Err(Woken::TimedOut) => false,
            Err(interrupted) => rt::unwind(interrupted),
        }
    }

    /// Lets the threads end when the jobs that there are have been done.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        while let Ok(idle) = state.grant(None) {
            drop(state);
            idle.unpark();
            state = self.state.lock();
        }
    }

    pub(super) fn unfinished(&self) -> usize {
        *self.unfinished.lock()
    }

    pub(super) fn threads(&self) -> usize {
        self.state.lock().threads
    }
}

//! The kernel as the models see it: tasks, each a thread of loom's, that park and are woken.
//!
//! As in the real one, a wake is not lost if it comes before the park (the inbox keeps it), a park may end for no
//! reason, and an interruption is what a park returns.

use std::cell::Cell;
use std::sync::Mutex as Plain;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use loom::sync::{Condvar, Mutex};

use super::lock_word;

pub(crate) struct Task {
    state: Mutex<State>,
    changed: Condvar,
    word: u64,
}

#[derive(Default)]
struct State {
    woken: bool,
    interrupted: Option<Woken>,
    finished: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct TaskRef(&'static Task);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    Unparked,
    TimedOut,
    Killed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Reason {
    Wait(&'static str),
    Lock(&'static str, *const loom::sync::atomic::AtomicU64),
}

loom::thread_local! {
    static CURRENT: Cell<Option<TaskRef>> = Cell::new(None);
}

/// Whether the clock runs fast, so that everybody has lost patience.
static HURRY: AtomicBool = AtomicBool::new(false);
static CLOCK: AtomicU64 = AtomicU64::new(0);
/// One model at a time, since these are for all.
static MODELS: Plain<()> = Plain::new(());

/// Runs a model through all orders of its steps. With `hurry`, whoever waits is out of patience at once.
pub(crate) fn model(hurry: bool, model: impl Fn() + Send + Sync + 'static) {
    let _alone = MODELS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    HURRY.store(hurry, Ordering::Relaxed);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(move || {
        CLOCK.store(0, Ordering::Relaxed);
        model();
    });
}

/// A task with this id, on the hub with that one.
pub(crate) fn task(id: u64, hub: u64) -> TaskRef {
    // Leaked: few bytes, in each of some ten thousand runs.
    TaskRef(Box::leak(Box::new(Task {
        state: Mutex::new(State::default()),
        changed: Condvar::new(),
        word: lock_word::of(id, hub),
    })))
}

impl TaskRef {
    /// Runs `f` as this task.
    pub(crate) fn run<T>(self, f: impl FnOnce() -> T) -> T {
        CURRENT.with(|current| current.set(Some(self)));
        self.0.state.lock().unwrap().finished = false;
        let result = f();
        self.0.state.lock().unwrap().finished = true;
        result
    }

    /// Runs `f` as this task on a thread of its own.
    pub(crate) fn spawn<T: 'static>(
        self,
        f: impl FnOnce() -> T + 'static,
    ) -> loom::thread::JoinHandle<T> {
        loom::thread::spawn(move || self.run(f))
    }

    /// As `spawn`, for what may be interrupted: `None` if it was.
    pub(crate) fn spawn_mortal<T: 'static>(
        self,
        f: impl FnOnce() -> T + 'static,
    ) -> loom::thread::JoinHandle<Option<T>> {
        self.spawn(|| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            result.map_err(|payload| assert!(payload.is::<super::Interrupted>())).ok()
        })
    }

    /// Has the task's next park, or the one that it is in, end so; and all that come after that.
    pub(crate) fn interrupt(self, woken: Woken) {
        self.0.state.lock().unwrap().interrupted = Some(woken);
        self.0.changed.notify_one();
    }
}

pub(crate) struct Hub(TaskRef);

pub(crate) fn hub() -> Hub {
    Hub(CURRENT.with(Cell::get).expect("waits are for tasks"))
}

impl Hub {
    pub(crate) fn current_ref(&self) -> TaskRef {
        self.0
    }

    pub(crate) fn park(&self, _: Reason, _: Option<u64>) -> Woken {
        let task = self.0.0;
        let mut state = task.state.lock().unwrap();
        loop {
            if let Some(woken) = state.interrupted {
                return woken;
            }
            if std::mem::take(&mut state.woken) {
                return Woken::Unparked;
            }
            state = task.changed.wait(state).unwrap();
        }
    }
}

#[derive(Default)]
pub(crate) struct Unparker(Option<TaskRef>);

impl Unparker {
    /// # Safety
    /// The task must not have finished.
    pub(crate) unsafe fn wake_or_new(task: TaskRef) -> Self {
        assert!(!task.0.state.lock().unwrap().finished, "one that has finished is woken");
        Unparker(Some(task))
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn unpark(self) {
        let Some(task) = self.0 else { return };
        task.0.state.lock().unwrap().woken = true;
        task.0.changed.notify_one();
    }
}

pub(crate) fn my_lock_word() -> u64 {
    hub().0.0.word
}

pub(crate) fn coarse_now() -> u64 {
    let step = if HURRY.load(Ordering::Relaxed) { 1 << 40 } else { 0 };
    CLOCK.fetch_add(step, Ordering::Relaxed)
}

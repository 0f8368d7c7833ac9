//! The members of a group, and the slots of a pool.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::PoolFull;
use crate::rt::{self, Completions, Deadline, Reason, TaskArc, WaitQueue, Waited, Woken};
use crate::thread::{self, JoinHandle};

pub(super) struct Crew {
    /// By id. Those that have ended stay in it until somebody looks.
    members: WaitQueue<HashMap<usize, TaskArc>>,
    /// The ids of those that have ended. Locked before `members`.
    ended: Arc<Completions>,
    slots: Option<Arc<Slots>>,
}

impl Crew {
    pub(super) fn new(size: Option<usize>) -> Crew {
        Crew {
            members: WaitQueue::new(HashMap::new()),
            ended: Arc::new(WaitQueue::new(Default::default())),
            slots: size.map(|size| Arc::new(Slots::new(size))),
        }
    }

    // ---- members ------------------------------------------------------------------------------

    pub(super) fn add(&self, task: &TaskArc) {
        let id = task.id() as usize;
        if self.members.lock().insert(id, task.clone()).is_none() {
            task.watch(&self.ended, id);
        }
        // Lest those that have ended pile up where nobody looks.
        self.len();
    }

    pub(super) fn len(&self) -> usize {
        let mut ended = self.ended.lock();
        self.count(&mut ended)
    }

    /// Forgets who has ended, and counts the others. To be called under the lock of `ended`.
    fn count(&self, ended: &mut std::collections::VecDeque<usize>) -> usize {
        let mut members = self.members.lock();
        for id in ended.drain(..) {
            members.remove(&id);
        }
        members.len()
    }

    /// False if the deadline has passed.
    #[track_caller]
    pub(super) fn join(&self, deadline: Option<Deadline>) -> bool {
        let reason = Reason::Wait("the end of a group");
        let deadline = deadline.map(|deadline| deadline.0);
        let joined =
            self.ended.wait_until(reason, deadline, |ended| (self.count(ended) == 0).then_some(()));
        match joined {
            Ok(()) => true,
            Err(Woken::TimedOut) => false,
            Err(interrupted) => rt::unwind(interrupted),
        }
    }

    /// False if not all have ended in time.
    #[track_caller]
    pub(super) fn kill(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(Deadline::after);
        loop {
            let members: Vec<TaskArc> = self.members.lock().values().cloned().collect();
            members.iter().for_each(rt::kill);
            if timeout == Some(Duration::ZERO) {
                return self.len() == 0;
            }
            if !members.iter().all(|member| rt::wait_exit(member, deadline)) {
                return false;
            }
            // They may have spawned others in their destructors.
            if self.len() == 0 {
                return true;
            }
        }
    }

    // ---- spawning -----------------------------------------------------------------------------

    /// Spawns a member when there is a slot for it.
    #[track_caller]
    pub(super) fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        match self.spawn_timeout(f, None) {
            Ok(handle) => handle,
            Err(_) => unreachable!("without a deadline it does not end before"),
        }
    }

    #[track_caller]
    pub(super) fn spawn_timeout<F, T>(
        &self,
        f: F,
        deadline: Option<Deadline>,
    ) -> Result<JoinHandle<T>, PoolFull<F>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        match &self.slots {
            None => Ok(self.spawn_in(None, f)),
            Some(slots) => match Slots::acquire(slots, deadline) {
                Some(slot) => Ok(self.spawn_in(Some(slot), f)),
                None => Err(PoolFull(f)),
            },
        }
    }

    #[track_caller]
    pub(super) fn try_spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, PoolFull<F>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        match &self.slots {
            None => Ok(self.spawn_in(None, f)),
            Some(slots) => match Slots::try_acquire(slots) {
                Some(slot) => Ok(self.spawn_in(Some(slot), f)),
                None => Err(PoolFull(f)),
            },
        }
    }

    #[track_caller]
    fn spawn_in<F, T>(&self, slot: Option<Slot>, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        // Dropped with the function, on whichever of its ways it ends.
        let handle = thread::spawn(move || {
            let _slot = slot;
            f()
        });
        self.add(handle.task());
        handle
    }

    pub(super) fn size(&self) -> Option<usize> {
        self.slots.as_ref().map(|slots| slots.size)
    }

    pub(super) fn free_slots(&self) -> usize {
        self.slots.as_ref().map_or(usize::MAX, |slots| *slots.free.lock())
    }
}

/// A number of permits, handed on in the order in which they were asked for.
pub(crate) struct Slots {
    size: usize,
    /// How many nobody has. Zero while somebody waits.
    free: WaitQueue<usize>,
}

/// The right to be one of so many. Given back when it is dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
}

impl Slots {
    pub(crate) fn new(size: usize) -> Slots {
        Slots { size, free: WaitQueue::new(size) }
    }

    fn take(free: &mut usize) -> Option<()> {
        *free = free.checked_sub(1)?;
        Some(())
    }

    fn try_acquire(this: &Arc<Slots>) -> Option<Slot> {
        let taken = Slots::take(&mut this.free.lock());
        taken.map(|()| Slot { slots: this.clone() })
    }

    /// `None` if the deadline has passed.
    #[track_caller]
    pub(crate) fn acquire(this: &Arc<Slots>, deadline: Option<Deadline>) -> Option<Slot> {
        let reason = Reason::Wait("a slot of a pool");
        let deadline = deadline.map(|deadline| deadline.0);
        match this.free.wait(reason, deadline, None, |free, _| Slots::take(free)) {
            Ok(Waited::Attempted(()) | Waited::Granted(_)) => Some(Slot { slots: this.clone() }),
            Err((Woken::TimedOut, _)) => None,
            Err((interrupted, _)) => rt::unwind(interrupted),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut free = self.slots.free.lock();
        match free.grant(()) {
            Ok(next) => {
                drop(free);
                next.unpark();
            }
            Err(()) => *free += 1,
        }
    }
}

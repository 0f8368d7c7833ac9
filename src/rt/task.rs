//! What the hub knows of one coroutine, and how any thread may wake it.
//!
//! A [`Task`] has a shared half, which any thread may use, and a local half, which belongs to the
//! hub's thread alone. Every state of the scheduler is in the local half: it has no atomics, no locks
//! and no races. Other threads reach it only by a message to the hub's inbox.

use std::cell::{Cell, OnceCell, UnsafeCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use super::coroutine::{Coroutine, Suspender};
use super::locals::Locals;
use super::remote::{Doorbell, Inbox, Ring};
use super::stack::Reservation;
use super::sys::{self, Epoll};
use super::timers::TimerKey;
use super::wait::WaitQueue;

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
    pub(super) unsafe fn prefetch(self) {
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
    pub(super) unsafe fn into_arc(self) -> TaskArc {
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
    pub(super) unsafe fn from_new(task: NonNull<Task>) -> TaskArc {
        TaskArc(task)
    }

    #[inline]
    pub(crate) fn as_ref(&self) -> TaskRef {
        TaskRef(self.0)
    }

    /// The address of the allocation, good for all of it and not only for the task.
    #[inline]
    pub(super) fn as_ptr(&self) -> *mut Task {
        self.0.as_ptr()
    }

    /// Gives the reference up without counting down; [`TaskRef::into_arc`] takes it back.
    pub(super) fn into_ref(self) -> TaskRef {
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

/// Where a task is in its life.
///
/// ```text
///           spawn               return
///   (New) ---------> Active ------------> Done
///                    |    ^
///               park |    | wake
///                    v    |
///                    Parked
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// The hub's current task, or in the run queue: one of the two, and there once.
    Active,
    /// Not in the run queue; a wake will put it there.
    Parked,
    /// Finished. Nothing refers to it but handles.
    Done,
}

/// Why a park has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Woken {
    /// Somebody woke it; maybe for a reason that no longer holds. Look again.
    Unparked,
    /// The deadline has passed.
    TimedOut,
    /// It has been killed and is to unwind.
    Killed,
    /// A time limit around it has passed, and it is to unwind to that.
    Elapsed,
    /// For main only: nothing can ever run again.
    Deadlocked,
}

/// A time limit over a piece of code that the coroutine is executing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(super) id: u64,
    pub(super) deadline: u64,
}

/// What a parked coroutine waits for, for people to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    Park,
    /// A helper's, between two errands.
    Idle,
    Sleep,
    Join(u64),
    Read(i32),
    Write(i32),
    Shutdown,
    /// Something of `sync` and its like, by its name.
    Wait(&'static str),
    /// A lock, by its name and its word, which says who holds it (see [`lock_word`]). The word lives as
    /// long as the wait: the waiter borrows the lock.
    Lock(&'static str, *const AtomicU64),
}

/// How locks say in one word who holds them, so that a fast path needs a single atomic operation, and the
/// dump can name the holder.
///
/// ```text
///   63  CONTENDED  whoever releases has to look at the waiters (the lock's own business)
///   62  EXCLUSIVE  held by one, and the rest of the word says by whom; else the rest counts those who share it
///   48  14 bits    which hub the holder is on, roughly: equal for the same hub, hardly ever for others
///    0  48 bits    the holder's id
/// ```
///
/// Ids are cut to 48 bits, which serves to spawn a million coroutines a second for nine years.
pub(crate) mod lock_word {
    pub(crate) const CONTENDED: u64 = 1 << 63;
    pub(crate) const EXCLUSIVE: u64 = 1 << 62;
    const HUB: u64 = 0x3fff << 48;
    const ID: u64 = (1 << 48) - 1;

    pub(crate) const fn of(id: u64, hub_id: u64) -> u64 {
        EXCLUSIVE | (hub_id << 48 & HUB) | (id & ID)
    }

    /// Whether two holders are on one hub; in rare cases it says so of two that are not.
    pub(crate) const fn same_hub(one: u64, other: u64) -> bool {
        (one ^ other) & HUB == 0
    }

    /// Who holds a lock with this word.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Holder {
        Nobody,
        /// One whose id ends in these 48 bits.
        One(u64),
        Sharers(u64),
    }

    pub(crate) const fn holder(word: u64) -> Holder {
        match word & !CONTENDED {
            0 => Holder::Nobody,
            word if word & EXCLUSIVE == 0 => Holder::Sharers(word),
            word => Holder::One(word & ID),
        }
    }

    /// Whether a task with this id may be meant by [`Holder::One`].
    pub(crate) const fn matches(id: u64, one: u64) -> bool {
        id & ID == one
    }
}

/// The hub's own notes on a task. Only the hub's thread touches them.
///
/// What a switch needs comes first, to lie in one or two cache lines.
#[repr(C)]
pub(crate) struct Local {
    /// `None` for main, which has a thread's own stack.
    pub(super) suspender: Cell<Option<Suspender<(), ()>>>,
    pub(super) coroutine: UnsafeCell<Option<Coroutine<(), (), ()>>>,
    /// The one behind it in the run queue.
    pub(super) next: Cell<Option<TaskRef>>,
    /// About where its stack ended when it was last suspended: a hint for the cache.
    pub(super) stack_top: Cell<*const i8>,
    pub(super) state: Cell<State>,
    pub(super) woken: Cell<Woken>,
    /// When the current park ends by itself; `u64::MAX` for never.
    pub(super) deadline: Cell<u64>,
    /// The time limits around what it executes, outermost first, and the earliest of them (`u64::MAX` for
    /// none).
    #[expect(clippy::box_collection, reason = "8 bytes in each task instead of 24")]
    pub(super) limits: Cell<Option<Box<Vec<Limit>>>>,
    pub(super) limit: Cell<u64>,
    /// The same, if it may interrupt the current park.
    pub(super) limit_now: Cell<u64>,
    /// The task's one entry among the timers, and when it fires: at the deadline or earlier. It stays
    /// there after a wake, since most deadlines are set again before they are reached.
    pub(super) timer: Cell<Option<(TimerKey, u64)>>,
    pub(super) reason: Cell<Reason>,
    pub(super) location: Cell<&'static Location<'static>>,
    /// When the current wait began, in coarse time.
    pub(super) since: Cell<u64>,
    /// The stack that it will run on, until it starts.
    pub(super) reservation: Cell<Option<Reservation>>,
    /// Place in the hub's table.
    pub(super) key: Cell<usize>,
    /// A coroutine of the same hub that joins this one.
    pub(super) joiner: Cell<Option<TaskRef>>,
    /// While above zero, kills and time limits wait.
    pub(super) shields: Cell<u32>,
    /// While above zero, what the feature `patch` redefines is the C library's own for it.
    #[cfg(feature = "patch")]
    pub(super) unpatched: Cell<u32>,
    /// How often it has been told to unwind by a kill.
    pub(super) kills_delivered: Cell<u32>,
    /// What `local!` keeps for it. Emptied before its end is announced.
    pub(super) locals: OnceCell<Box<Locals>>,
}

/// The end of a task, as others see it.
pub(crate) struct Exit {
    pub(super) phase: Phase,
    /// Boxed, since hardly any task is watched.
    pub(super) watchers: Option<Box<Watchers>>,
}

/// Who is to be told of the end of a task, besides those who wait for it.
#[derive(Default)]
pub(super) struct Watchers {
    /// By which number.
    numbered: Vec<(Arc<Completions>, usize)>,
    /// Of the future that joins.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Running,
    /// Still running, and nobody will ask for the result.
    Detached,
    /// It has ended; its result, if it came to one, has been delivered.
    Done,
}

/// The numbers of the tasks that have ended, in that order, for one who watches many.
pub(crate) type Completions = WaitQueue<VecDeque<usize>>;

/// What there is to know of the allocation that a task is the head of, for those who do not know its type.
pub(super) struct Kind {
    /// Runs the task's function and announces its exit; drops the function instead if the task has been
    /// killed. To be called once, on the thread of the task's hub, while the task is owned.
    pub(super) run: unsafe fn(NonNull<Task>),
    /// Deallocates.
    pub(super) free: unsafe fn(NonNull<Task>),
}

#[repr(C)]
pub(crate) struct Task {
    kill: AtomicBool,
    /// thread::park's token.
    token: AtomicBool,
    /// A wake for this task is in the hub's inbox: no second one is needed.
    wake_sent: AtomicBool,
    /// `exit` is `Done`, for those who only look.
    exited: AtomicBool,
    /// `exit` is or was `Detached`, for those who only look.
    detached: AtomicBool,
    // Beside what is above, so that a switch touches as few cache lines as possible.
    local: Local,
    refs: AtomicUsize,
    kind: &'static Kind,
    id: u64,
    /// What a lock that it holds has as its word.
    lock_word: u64,
    name: Option<Box<str>>,
    remote: &'static Remote,
    /// The hub that `remote` belonged to when the task was made.
    hub_id: u64,
    pub(super) exit: WaitQueue<Exit>,
}

// SAFETY: `local` is the only part that is not Sync. It is reached by `Task::local`, whose contract
// is to be on the hub's thread, and by nothing else. It has no destructor that matters to a thread:
// when the last owner goes, on whatever thread, `coroutine` is empty (the hub takes it out when the
// task finishes, and keeps its ownership for ever if the task is abandoned).
unsafe impl Sync for Task {}
// SAFETY: as above.
unsafe impl Send for Task {}

impl Task {
    /// A task with `owners` owners, to be put at the head of an allocation of this kind.
    #[inline(always)]
    #[track_caller]
    pub(super) fn new(
        owners: usize,
        kind: &'static Kind,
        id: u64,
        name: Option<Box<str>>,
        (remote, hub_id): (&'static Remote, u64),
    ) -> Task {
        Task {
            refs: AtomicUsize::new(owners),
            kind,
            id,
            lock_word: lock_word::of(id, hub_id),
            name,
            remote,
            hub_id,
            token: AtomicBool::new(false),
            wake_sent: AtomicBool::new(false),
            kill: AtomicBool::new(false),
            exit: WaitQueue::new(Exit { phase: Phase::Running, watchers: None }),
            exited: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            local: Local {
                suspender: Cell::new(None),
                coroutine: UnsafeCell::new(None),
                next: Cell::new(None),
                stack_top: Cell::new(std::ptr::null()),
                state: Cell::new(State::Active),
                woken: Cell::new(Woken::Unparked),
                deadline: Cell::new(u64::MAX),
                limits: Cell::new(None),
                limit: Cell::new(u64::MAX),
                limit_now: Cell::new(u64::MAX),
                timer: Cell::new(None),
                reason: Cell::new(Reason::Park),
                location: Cell::new(Location::caller()),
                since: Cell::new(0),
                reservation: Cell::new(None),
                key: Cell::new(usize::MAX),
                joiner: Cell::new(None),
                shields: Cell::new(0),
                #[cfg(feature = "patch")]
                unpatched: Cell::new(0),
                kills_delivered: Cell::new(0),
                locals: OnceCell::new(),
            },
        }
    }

    /// A task without a coroutine, for a thread's own stack.
    pub(super) fn new_main(
        id: u64,
        name: Option<Box<str>>,
        hub: (&'static Remote, u64),
    ) -> TaskArc {
        unsafe fn free(task: NonNull<Task>) {
            // SAFETY: allocated as a `Box<Task>` below.
            drop(unsafe { Box::from_raw(task.as_ptr()) });
        }
        unsafe fn run(_: NonNull<Task>) {}
        static KIND: Kind = Kind { run, free };
        let task = Box::new(Task::new(1, &KIND, id, name, hub));
        // SAFETY: `free` fits the allocation, and the count of one is this owner.
        unsafe { TaskArc::from_new(NonNull::from(Box::leak(task))) }
    }

    #[inline]
    pub(super) fn kind(&self) -> &'static Kind {
        self.kind
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What a lock that it holds has as its word; see [`lock_word`].
    #[inline(always)]
    pub(crate) fn lock_word(&self) -> u64 {
        self.lock_word
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the task belongs to the hub with this id.
    #[inline]
    pub(super) fn belongs_to(&self, hub_id: u64) -> bool {
        self.hub_id == hub_id
    }

    /// # Safety
    /// The caller must be on the thread of the task's hub.
    #[inline]
    pub(super) unsafe fn local(&self) -> &Local {
        &self.local
    }

    #[inline]
    pub(super) fn kill_requested(&self) -> bool {
        self.kill.load(Ordering::Relaxed)
    }

    /// Marks the task as killed. It must be woken after that.
    pub(super) fn request_kill(&self) {
        self.kill.store(true, Ordering::Release);
    }

    /// Makes the token of `thread::park` available.
    pub(crate) fn set_token(&self) {
        self.token.store(true, Ordering::Release);
    }

    /// Uses up the token of `thread::park`, if there is one.
    pub(crate) fn take_token(&self) -> bool {
        self.token.load(Ordering::Relaxed) && self.token.swap(false, Ordering::Acquire)
    }

    /// Whether the task has ended and its result, if any, been delivered.
    #[inline]
    pub(crate) fn has_exited(&self) -> bool {
        self.exited.load(Ordering::Acquire)
    }

    /// Where to wait for the end.
    pub(crate) fn exit(&self) -> &WaitQueue<Exit> {
        &self.exit
    }

    /// Whether nobody will ask for the result. Once true it stays so.
    pub(super) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }

    /// Says that nobody will ask for the result. False if the task has ended: the result, if there is one,
    /// is still there.
    pub(super) fn detach(&self) -> bool {
        let mut exit = self.exit.lock();
        if exit.phase == Phase::Running {
            exit.phase = Phase::Detached;
            self.detached.store(true, Ordering::Release);
        }
        exit.phase != Phase::Done
    }

    /// Announces the end to everybody who joins or watches. `deliver` is called under the lock if somebody
    /// may ask for the result. Returns who joins on the task's own hub, and the waker of a future that does.
    ///
    /// # Safety
    /// The caller must be on the thread of the task's hub.
    #[inline]
    pub(super) unsafe fn announce_exit(
        &self,
        deliver: impl FnOnce(),
    ) -> (Option<TaskRef>, Option<Waker>) {
        let watchers = self.exit.update_and_wake_all(|exit| {
            if exit.phase == Phase::Running {
                deliver();
            }
            exit.phase = Phase::Done;
            self.exited.store(true, Ordering::Release);
            exit.watchers.take()
        });
        let waker = watchers.and_then(|watchers| {
            for (completions, number) in watchers.numbered {
                completions.update_and_wake_all(|ended| ended.push_back(number));
            }
            watchers.waker
        });
        (self.local.joiner.take(), waker)
    }

    /// In the child of a fork, for a task that is abandoned: frees the lock of `exit`, if a thread that does
    /// not exist here holds it.
    pub(super) fn unlock_after_fork(&self) {
        self.exit.renew_if_locked(|| Exit { phase: Phase::Running, watchers: None });
    }

    /// Has `completions` told of the end, by `number`; at once if the task has ended already.
    pub(crate) fn watch(&self, completions: &Arc<Completions>, number: usize) {
        let mut exit = self.exit.lock();
        if exit.phase == Phase::Done {
            drop(exit);
            completions.update_and_wake_all(|ended| ended.push_back(number));
        } else {
            exit.watchers.get_or_insert_default().numbered.push((completions.clone(), number));
        }
    }

    /// Has `waker` called at the end, instead of the one before. False if the task has ended already.
    pub(crate) fn set_waker(&self, waker: &Waker) -> bool {
        // Cloned and dropped outside of the lock: that is foreign code.
        let mut waker = Some(waker.clone());
        let mut exit = self.exit.lock();
        if exit.phase == Phase::Done {
            drop(exit);
            return false;
        }
        std::mem::swap(&mut exit.watchers.get_or_insert_default().waker, &mut waker);
        drop(exit);
        true
    }

    /// Waits for the end without asking for the result. Several may. It never unwinds.
    ///
    /// # Errors
    /// Why the wait has ended before the task.
    #[track_caller]
    pub(crate) fn wait_exit(&self, deadline: Option<u64>) -> Result<(), Woken> {
        let reason = Reason::Join(self.id);
        self.exit.wait_until(reason, deadline, |exit| (exit.phase == Phase::Done).then_some(()))
    }

    /// Asks the task's hub to wake it. For threads other than the hub's.
    pub(super) fn wake_remotely(task: TaskArc) {
        // Acquire and release, here and in `wake_received`: whatever was written before a wake that is
        // coalesced into an earlier one is visible to the task that the earlier one wakes.
        if !task.wake_sent.swap(true, Ordering::AcqRel) {
            let remote = task.remote;
            // An ended hub has no use for it.
            let _ = remote.send(Message::Wake(task));
        }
    }

    /// The hub has taken the wake out of its inbox and is about to act on it.
    pub(super) fn wake_received(&self) {
        // A swap and not a store: it must come after the swap of whoever saw `true`.
        self.wake_sent.swap(false, Ordering::AcqRel);
    }
}

/// What other threads ask of a hub.
pub(crate) enum Message {
    Wake(TaskArc),
    /// A new task and the size of its stack (0: the hub's default).
    Spawn(TaskArc, usize),
    /// The descriptor is being closed: wake those who wait for it.
    Close(RawFd),
}

/// The half of a hub that other threads may use.
///
/// It is never freed: when its hub ends it serves the next one. So a task needs no counted reference to
/// it, and no thread ever signals a descriptor that means something else by then. A process has as
/// many as it ever had hubs at the same time.
pub(crate) struct Remote {
    inbox: Inbox<Message>,
    bell: Doorbell,
    /// The hub's epoll instance and the eventfd that interrupts it, once a hub has needed them.
    fds: OnceLock<WakeFds>,
    /// The id of the hub that it serves; 0 for none.
    hub_id: AtomicU64,
    /// Its number among all.
    index: u32,
}

pub(super) struct WakeFds {
    pub(super) epoll: Arc<Epoll>,
    pub(super) eventfd: OwnedFd,
}

impl Remote {
    pub(super) fn new(index: u32, hub_id: u64) -> Remote {
        Remote {
            inbox: Inbox::new(),
            bell: Doorbell::new(),
            fds: OnceLock::new(),
            hub_id: AtomicU64::new(hub_id),
            index,
        }
    }

    /// The id of the hub that it serves; 0 for none.
    pub(crate) fn hub_id(&self) -> u64 {
        self.hub_id.load(Ordering::Acquire)
    }

    /// Lets the next hub have it. The inbox must be closed, and nobody of the old hub may use it any more.
    pub(super) fn retire(&self) {
        self.hub_id.store(0, Ordering::Release);
    }

    /// Serves another hub. Only for one that has retired.
    pub(super) fn reuse(&self, hub_id: u64) {
        self.hub_id.store(hub_id, Ordering::Release);
        self.bell.wake_up();
        self.inbox.reopen();
    }

    /// Puts a message into the inbox and wakes the hub if it sleeps.
    ///
    /// # Errors
    /// Gives the message back if the hub's thread has ended.
    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
        self.inbox.push(message)?;
        match self.bell.ring() {
            Ring::Nothing => {}
            Ring::Futex => sys::futex_wake(self.bell.futex().0),
            Ring::EventFd => {
                if let Some(fds) = self.fds.get() {
                    sys::eventfd_signal(fds.eventfd.as_raw_fd());
                }
            }
        }
        Ok(())
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn inbox(&self) -> &Inbox<Message> {
        &self.inbox
    }

    pub(super) fn bell(&self) -> &Doorbell {
        &self.bell
    }

    pub(super) fn fds(&self) -> &OnceLock<WakeFds> {
        &self.fds
    }
}

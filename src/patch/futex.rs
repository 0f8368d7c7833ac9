//! futex(2), as std's Mutex, RwLock, Condvar, Once, Barrier and thread::park call it, through `syscall`.
//!
//! A coroutine that waits for a word is parked, in a table by the word's address. Whoever wakes the word's
//! waiters, on whatever thread, wakes those in the table as well as the kernel's:
//!
//! ```text
//!   waiter                                    waker
//!   count itself; lock the bucket             change the word
//!   word as expected? enlist : EAGAIN         fence; nobody counted? leave the table alone
//!   unlock; park                              lock the bucket; unlink; unlock; unpark
//! ```
//!
//! By the lock the waiter sees the changed word or the waker sees the waiter. By the fence and the count (both
//! sequentially consistent) the same holds where the waker does not lock.
//!
//! Kills and time limits do not end waits for a lock: std calls again at once, and would spin. They take effect
//! when the lock is there. Waits with an end of their own (`Condvar::wait_timeout`) end early.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_long};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};
use std::time::Duration;

use libc::timespec;

use super::policy::{LOCKS, cooperative_even_unwinding};
use super::time::{duration, now_by};
use super::{fail, insist, notice, offload, per_thread, settled};
use crate::rt::hooked::{self, EMPTY, Lock, NOTIFIED, PARKED, SHARED, Sharing};
use crate::rt::real::{self, errno};
use crate::rt::{Deadline, Reason, Unparker, Woken};

/// How long a caller that unwinds blocks its thread, in the hope for another thread, before it lets other
/// coroutines run.
const GRACE: Duration = Duration::from_millis(10);

struct Node {
    address: usize,
    bitset: u32,
    /// Whose coroutine it is.
    hub: u64,
    unparker: UnsafeCell<Option<Unparker>>,
    linked: Cell<bool>,
    prev: Cell<*const Node>,
    next: Cell<*const Node>,
}

/// Waiters in the order in which they came. The nodes are on their stacks, and are touched under the lock.
struct List {
    head: *const Node,
    tail: *const Node,
}

// SAFETY: the nodes are touched only under the list's lock, on whatever thread; an unparker is `Send`.
unsafe impl Send for List {}

impl List {
    /// # Safety
    /// The node must stay where it is until it is unlinked.
    unsafe fn push(&mut self, node: &Node) {
        node.linked.set(true);
        node.prev.set(self.tail);
        // SAFETY: linked nodes are alive.
        match unsafe { self.tail.as_ref() } {
            None => self.head = node,
            Some(tail) => tail.next.set(node),
        }
        self.tail = node;
    }

    /// # Safety
    /// The node must be linked into this list.
    unsafe fn unlink(&mut self, node: &Node) {
        let (prev, next) = (node.prev.get(), node.next.get());
        // SAFETY: neighbours of a linked node are linked, hence alive, or null.
        match unsafe { prev.as_ref() } {
            None => self.head = next,
            Some(prev) => prev.next.set(next),
        }
        // SAFETY: as above.
        match unsafe { next.as_ref() } {
            None => self.tail = prev,
            Some(next) => next.prev.set(prev),
        }
        node.linked.set(false);
    }

    fn find(&self, matches: impl Fn(&Node) -> bool) -> Option<&Node> {
        let mut at = self.head;
        // SAFETY: linked nodes are alive.
        while let Some(node) = unsafe { at.as_ref() } {
            if matches(node) {
                return Some(node);
            }
            at = node.next.get();
        }
        None
    }
}

struct Bucket {
    list: Lock<List>,
    /// Who was woken first last time: the kernel's waiters and ours take turns.
    ours_first: AtomicBool,
}

const BUCKETS: usize = 256;

static TABLE: [Bucket; BUCKETS] = [const {
    Bucket {
        list: Lock::new(List { head: ptr::null(), tail: ptr::null() }),
        ours_first: AtomicBool::new(true),
    }
}; BUCKETS];

/// How many coroutines wait, or are about to.
static WAITING: AtomicUsize = AtomicUsize::new(0);

fn bucket(address: usize) -> &'static Bucket {
    &TABLE[(address >> 2).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> 56]
}

// ---- waiting --------------------------------------------------------------------------------------

/// Parks the calling coroutine while the word is as expected; `is_plain` says that it is FUTEX_WAIT, and not
/// std's FUTEX_WAIT_BITSET.
///
/// # Safety
/// `word` must be valid.
#[track_caller]
unsafe fn wait(
    word: *mut u32,
    expected: u32,
    bitset: u32,
    deadline: Option<Deadline>,
    is_plain: bool,
) -> Ended {
    let address = word as usize;
    // SAFETY: the caller's promise; whoever else uses it does so atomically.
    let value = unsafe { AtomicU32::from_ptr(word) };
    let bucket = bucket(address);
    let node = Node {
        address,
        bitset,
        hub: hooked::hub_id(),
        unparker: UnsafeCell::new(Some(hooked::unparker())),
        linked: Cell::new(false),
        prev: Cell::new(ptr::null()),
        next: Cell::new(ptr::null()),
    };
    WAITING.fetch_add(1, Ordering::SeqCst);
    let is_parker = expected == PARKED && per_thread::parker() == Some(address);
    let (as_expected, shared) = {
        let mut list = bucket.list.lock();
        // The mark of thread::park is for while the hub sleeps (`rt::token`).
        let now = match is_parker {
            true => value
                .compare_exchange(expected, EMPTY, Ordering::SeqCst, Ordering::SeqCst)
                .unwrap_or_else(|now| now),
            false => value.load(Ordering::SeqCst),
        };
        let is_ours = |other: &Node| other.address == address && other.hub == node.hub;
        let shared = now == expected && list.find(is_ours).is_some();
        if now == expected {
            // SAFETY: the node is unlinked before this function returns, and parking does not unwind.
            unsafe { list.push(&node) };
        }
        (now == expected, shared)
    };
    if !as_expected {
        WAITING.fetch_sub(1, Ordering::SeqCst);
        insist::note(address);
        return Ended { result: Err(libc::EAGAIN), is_parker };
    }
    insist::forget();
    if shared && is_plain && expected == 1 && per_thread::is_in_own_storage(address) {
        per_thread::refuse();
    }
    let outcome = if is_parker {
        // SAFETY: valid by the caller's promise, for as long as it waits; the thread has one such word.
        unsafe { hooked::await_token(word.cast(), wake_everybody) };
        let sharing = hooked::share_token(shared);
        if sharing == Sharing::Begins {
            per_thread::complain();
            // So that those before this one come back, and look again, too.
            wake_everybody(address);
        }
        if (sharing, deadline) == (Sharing::Over, None) {
            per_thread::tell_of_long_wait(SHARED);
        }
        let patience = Patience::for_token(deadline, sharing);
        let outcome = park(bucket, &node, TOKEN, deadline, patience);
        hooked::leave_token();
        outcome
    } else {
        park(bucket, &node, LOCK, deadline, Patience::Calm)
    };
    WAITING.fetch_sub(1, Ordering::SeqCst);
    let result = match outcome {
        Ok(()) => Ok(()),
        Err(Woken::Deadlocked) => deadlocked(),
        // Waking for no reason is allowed, but std's channels would take it for a wake-up of theirs: so a wait
        // that a kill or a time limit ends early is one whose time is over.
        Err(_) => Err(libc::ETIMEDOUT),
    };
    Ended { result, is_parker }
}

const LOCK: Reason = Reason::Wait("a lock of std's (futex)");
/// std's and crossbeam's channels wait by it as well, and are not woken by their own thread.
const TOKEN: Reason =
    Reason::Wait("std::thread::park, or a channel that is not greenling::sync::mpsc");

/// Parks until the node, which is in the bucket's list, is out of it.
///
/// # Errors
/// What has ended the wait otherwise.
#[track_caller]
fn park(
    bucket: &Bucket,
    node: &Node,
    reason: Reason,
    deadline: Option<Deadline>,
    mut patience: Patience,
) -> Result<(), Woken> {
    loop {
        let woken = match patience {
            Patience::Sharing(look_again) => hooked::park(reason, Some(look_again)),
            Patience::Doubtful => hooked::park(reason, Deadline::after(LONG)),
            Patience::Calm => hooked::park(reason, deadline),
            Patience::Insisting => hooked::park_shielded(reason, deadline),
            Patience::Doomed => hooked::park_shielded(reason, Deadline::after(LONG)),
        };
        let mut list = bucket.list.lock();
        if !node.linked.get() {
            return Ok(());
        }
        match (woken, patience) {
            (Woken::Unparked, _) => {}
            (Woken::TimedOut, Patience::Doubtful) => {
                drop(list);
                patience = Patience::Calm;
                per_thread::tell_of_long_wait(LONG);
            }
            (Woken::TimedOut, Patience::Doomed) => {
                drop(list);
                patience = Patience::Insisting;
                tell_of_long_wait();
            }
            (Woken::Killed | Woken::Elapsed, _) if deadline.is_none() => {
                patience = Patience::Doomed;
            }
            (Woken::Killed | Woken::Elapsed, _) if !insist::may_end_early(node.address) => {
                patience = Patience::Insisting;
            }
            _ => {
                // SAFETY: just seen.
                unsafe { list.unlink(node) };
                let looks = woken == Woken::TimedOut && matches!(patience, Patience::Sharing(_));
                if !looks {
                    return Err(woken);
                }
                hooked::looks_at_token();
                return Ok(());
            }
        }
    }
}

/// How a wait has ended.
struct Ended {
    result: Result<(), c_int>,
    /// Whether it was for the thread's token.
    is_parker: bool,
}

/// After which time a coroutine that shares the thread's token with others looks whether it has been meant
/// before, since another one may have taken the notice unseen.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a coroutine that was killed, or is over its time limit, waits for a lock before that is logged.
const LONG: Duration = Duration::from_secs(10);

/// What a kill or a time limit means to a wait.
#[derive(Clone, Copy)]
enum Patience {
    /// It looks again then.
    Sharing(Deadline),
    /// As the next one; a wait by thread::park, which may be for what never comes (`per_thread`).
    Doubtful,
    /// A first wait with an end of its own (`Condvar::wait_timeout`) ends. Others go on.
    Calm,
    /// Nothing any more.
    Insisting,
    /// It has come, in a wait without end.
    Doomed,
}

impl Patience {
    /// For a wait by thread::park.
    fn for_token(deadline: Option<Deadline>, sharing: Sharing) -> Patience {
        let look_again = Deadline::after(LOOK_AGAIN);
        match (sharing, deadline, look_again) {
            (Sharing::Alone, None, _) => Patience::Doubtful,
            (Sharing::Begins | Sharing::Still, None, Some(look)) => Patience::Sharing(look),
            (Sharing::Begins | Sharing::Still, Some(end), Some(look)) if look.0 < end.0 => {
                Patience::Sharing(look)
            }
            _ => Patience::Calm,
        }
    }
}

#[cold]
fn tell_of_long_wait() {
    let text = format_args!(
        "was killed, or is over its time limit, and has been waiting for a lock of std's (futex) for {LONG:?} since: \
         it ends only when it gets that"
    );
    notice::tell(log::Level::Warn, text);
}

/// std would call again for ever, and nothing may unwind through it: so this ends the process, as the panic of
/// a function that must not unwind.
#[cold]
fn deadlocked() -> ! {
    panic!("deadlock: nothing can ever run again\n{}", hooked::deadlock_report())
}

/// When a wait ends.
///
/// # Errors
/// `EINVAL` for a time that is none.
fn deadline(time: &timespec, is_absolute: bool, is_real: bool) -> Result<Option<Deadline>, c_int> {
    let time = duration(time)?;
    if !is_absolute {
        return Ok(Deadline::after(time));
    }
    let clock = if is_real { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC };
    Ok(Deadline::after(time.saturating_sub(now_by(clock))))
}

// ---- waking ---------------------------------------------------------------------------------------

/// Wakes up to `limit` coroutines that wait for the word; says how many.
fn wake(address: usize, limit: usize, bitset: u32) -> usize {
    fence(Ordering::SeqCst);
    if WAITING.load(Ordering::SeqCst) == 0 {
        return 0;
    }
    let bucket = bucket(address);
    let mut woken = 0;
    while woken < limit {
        // Collected first, woken after the lock.
        let mut batch = [const { None::<Unparker> }; 16];
        let mut count = 0;
        {
            let mut list = bucket.list.lock();
            while count < batch.len().min(limit - woken) {
                let is_meant = |node: &Node| node.address == address && node.bitset & bitset != 0;
                let Some(node) = list.find(is_meant).map(ptr::from_ref) else { break };
                // SAFETY: linked, hence alive and in this list; its unparker is ours under the lock. From
                // the unlock on it may be gone.
                unsafe {
                    list.unlink(&*node);
                    batch[count] = (*(*node).unparker.get()).take();
                }
                count += 1;
            }
        }
        batch.into_iter().flatten().for_each(Unparker::unpark);
        woken += count;
        if count == 0 {
            break;
        }
    }
    woken
}

/// Wakes all coroutines that wait for the word.
fn wake_everybody(address: usize) {
    wake(address, usize::MAX, u32::MAX);
}

/// FUTEX_WAKE and FUTEX_WAKE_BITSET: the kernel's waiters and ours, up to a common limit.
///
/// # Safety
/// As for futex(2).
unsafe fn wake_all_kinds(a: [usize; 6], bitset: u32) -> c_long {
    let address = a[0];
    let limit = (a[2] as c_int).max(1) as usize;
    let ask_kernel = |limit: usize| {
        let mut args = a;
        args[2] = limit;
        // SAFETY: the caller's promise.
        unsafe { real::raw(libc::SYS_futex, args) }
    };
    fence(Ordering::SeqCst);
    if WAITING.load(Ordering::SeqCst) == 0 {
        return ask_kernel(a[2]) as c_long;
    }
    if per_thread::is_parker_of_any(address) {
        // Nobody can tell which of the thread's coroutines is meant.
        let ours = wake(address, usize::MAX, bitset);
        return (ours as c_long).max(ask_kernel(a[2]) as c_long);
    }
    if bucket(address).ours_first.fetch_xor(true, Ordering::Relaxed) {
        let ours = wake(address, limit, bitset);
        let theirs = if ours < limit { ask_kernel(limit - ours) } else { 0 };
        return (ours as isize + theirs.max(0)) as c_long;
    }
    let theirs = ask_kernel(a[2]);
    if theirs < 0 {
        return theirs as c_long;
    }
    let left = limit.saturating_sub(theirs as usize);
    (theirs + wake(address, left, bitset) as isize) as c_long
}

// ---- the call -------------------------------------------------------------------------------------

/// futex(2). Everything that is not about waiting and waking is the kernel's.
///
/// # Safety
/// As for futex(2).
#[track_caller]
unsafe fn futex(a: [usize; 6]) -> c_long {
    let [address, op, value, time, second, bitset] = a;
    let op = op as c_int;
    let is_private = op & libc::FUTEX_PRIVATE_FLAG != 0;
    let command = op & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
    // SAFETY: the caller's promise.
    let kernel = || unsafe { real::raw(libc::SYS_futex, a) as c_long };
    let bits = if matches!(command, libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAKE_BITSET) {
        bitset as u32
    } else {
        u32::MAX
    };
    match command {
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET => {
            if per_thread::is_probing(address) {
                return -1;
            }
            let is_sound = address != 0 && address % 4 == 0 && bits != 0;
            if !is_sound || !cooperative_even_unwinding(LOCKS) {
                return kernel();
            }
            // SAFETY: null or valid by the caller's promise.
            let time = unsafe { (time as *const timespec).as_ref() };
            let is_real = op & libc::FUTEX_CLOCK_REALTIME != 0;
            let absolute = command == libc::FUTEX_WAIT_BITSET;
            let deadline = match time.map(|time| deadline(time, absolute, is_real)) {
                Some(Err(_)) => return kernel(),
                Some(Ok(deadline)) => deadline,
                None => None,
            };
            if !is_private {
                // Another process may be the one that wakes it, which only the kernel hears of.
                // SAFETY: the memory outlives the wait.
                return unsafe { offload::call_borrowing(move || raw_futex(a)) };
            }
            // SAFETY: the caller's promise.
            unsafe { wait_here(a, value as u32, bits, deadline) }
        }
        // SAFETY: the caller's promise.
        libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => unsafe { wake_all_kinds(a, bits) },
        // Those who would be moved to another word, or woken on a condition, look again.
        libc::FUTEX_REQUEUE | libc::FUTEX_CMP_REQUEUE => {
            let result = kernel();
            if result >= 0 {
                wake(address, usize::MAX, u32::MAX);
            }
            result
        }
        libc::FUTEX_WAKE_OP => {
            let result = kernel();
            if result >= 0 {
                wake(address, usize::MAX, u32::MAX);
                wake(second, usize::MAX, u32::MAX);
            }
            result
        }
        _ => kernel(),
    }
}

fn raw_futex(a: [usize; 6]) -> c_long {
    // SAFETY: by `futex`'s caller's promise.
    unsafe { real::raw(libc::SYS_futex, a) as c_long }
}

/// # Safety
/// The word must be valid.
#[track_caller]
unsafe fn wait_here(
    a: [usize; 6],
    expected: u32,
    bitset: u32,
    deadline: Option<Deadline>,
) -> c_long {
    let saved = errno();
    if hooked::is_unwinding() {
        let grace = timespec { tv_sec: 0, tv_nsec: GRACE.as_nanos() as c_long };
        let mut args = a;
        args[1] = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
        args[3] = &raw const grace as usize;
        // SAFETY: the caller's promise.
        let result = unsafe { real::raw(libc::SYS_futex, args) };
        if result == 0 || errno() != libc::ETIMEDOUT {
            return result as c_long;
        }
    }
    let is_plain = a[1] as c_int & !libc::FUTEX_PRIVATE_FLAG == libc::FUTEX_WAIT;
    // SAFETY: the caller's promise.
    let ended = unsafe { wait(a[0] as *mut u32, expected, bitset, deadline, is_plain) };
    let result = match ended.result {
        Ok(()) => settled(saved, 0),
        Err(error) => fail(error) as c_long,
    };
    if ended.is_parker {
        // thread::park comes back only by a notice: else it would ask for ever, without a call. The last thing
        // that is done, since another coroutine would take it. All who share the token get one, since nobody
        // can tell whom it was meant for; waking for no reason is allowed.
        // SAFETY: the caller's promise; whoever else uses it does so atomically.
        unsafe { AtomicU32::from_ptr(a[0] as *mut u32) }.store(NOTIFIED, Ordering::SeqCst);
    }
    result
}

/// syscall(2): futex goes the way above, every other number straight to the kernel. (It is variadic in C;
/// integers are passed alike.)
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let args = [a, b, c, d, e, f];
    if number == libc::SYS_futex {
        // SAFETY: the caller's promise.
        return unsafe { futex(args) };
    }
    // SAFETY: the caller's promise.
    unsafe { real::raw(number, args) as c_long }
}

// ---- fork -----------------------------------------------------------------------------------------

/// To be called when the functions are turned on.
pub(super) fn prepare() {
    per_thread::prepare();
    prepare_for_forks();
}

/// To be called once: no bucket may be locked, by a thread that is not there, in the child of a fork.
fn prepare_for_forks() {
    extern "C" fn before() {
        for bucket in &TABLE {
            std::mem::forget(bucket.list.lock());
        }
    }
    extern "C" fn in_parent() {
        for bucket in &TABLE {
            // SAFETY: locked by `before` on this thread.
            unsafe { bucket.list.force_unlock() };
        }
    }
    extern "C" fn in_child() {
        in_parent();
        super::sources::set_process();
        let own = hooked::hub_id();
        for bucket in &TABLE {
            let mut list = bucket.list.lock();
            let (mut at, mut kept) = (list.head, List { head: ptr::null(), tail: ptr::null() });
            // SAFETY: nodes of this thread's coroutines are where they were: their stacks are never
            // reused. Those of other threads are only read, and nobody has run yet who could reuse theirs.
            while let Some(node) = unsafe { at.as_ref() } {
                at = node.next.get();
                if node.hub == own {
                    node.next.set(ptr::null());
                    // SAFETY: as above.
                    unsafe { kept.push(node) };
                }
            }
            *list = kept;
        }
    }
    static ONCE: Once = Once::new();
    // SAFETY: functions for the life of the process, which take locks for a moment only.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child));
    });
}

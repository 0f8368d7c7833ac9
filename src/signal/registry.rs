//! The handler, and the listeners that it tells.
//!
//! A *post* is what the handler sees of a listener: which signals it is for, how many of each have come, and an eventfd
//! to wake it with. Posts are in a list that only grows; they, and their eventfds, are used again and never
//! freed, since a handler may be looking at them at any time, on any thread.
//!
//! Everything that the handler does is async-signal-safe: atomics, write(2), and the handler that was there before.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Signal;
use crate::rt::{self, PerProcess, syscall};

/// Signals are numbered from 1 to 64.
const COUNT: usize = 64;

pub(super) struct Post {
    /// Bit `n - 1` for the signal `n`; 0 while nobody uses the post.
    wanted: AtomicU64,
    came: [AtomicU32; COUNT],
    eventfd: OwnedFd,
    in_use: AtomicBool,
    next: *const Post,
}

// SAFETY: `next` is set before the post is published, and leads to a post that is never freed.
unsafe impl Sync for Post {}
// SAFETY: as above.
unsafe impl Send for Post {}

/// The newest post.
static POSTS: AtomicPtr<Post> = AtomicPtr::new(ptr::null_mut());

/// The handlers that were there before ours: leaked, and null where ours has never been.
static EARLIER: [AtomicPtr<libc::sigaction>; COUNT] =
    [const { AtomicPtr::new(ptr::null_mut()) }; COUNT];

/// Held while a listener comes or goes. The child of a fork gets a free one.
static CHANGES: PerProcess<Mutex<()>> = PerProcess::new();

thread_local! {
    /// The signals whose handler runs on this thread, as bits. (Without a destructor it is as good as a static.)
    static HANDLING: Cell<u64> = const { Cell::new(0) };
}

fn lock() -> MutexGuard<'static, ()> {
    CHANGES.get(|| Mutex::new(())).lock().unwrap_or_else(PoisonError::into_inner)
}

/// The signal's bit in [`Post::wanted`].
fn bit(signal: i32) -> u64 {
    1 << index(signal)
}

fn posts() -> impl Iterator<Item = &'static Post> {
    // Acquire: what the post was made with.
    let mut next = POSTS.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: null or a post, which is never freed.
        let post = unsafe { next.as_ref() }?;
        next = post.next;
        Some(post)
    })
}

fn index(signal: i32) -> usize {
    signal as usize - 1
}

impl Post {
    /// Makes a listener known for these signals, and sets the handler for those that have none.
    ///
    /// # Errors
    /// `InvalidInput` for a signal that cannot be waited for; what eventfd(2) or sigaction(2) says.
    pub(super) fn open(signals: &[Signal]) -> io::Result<&'static Post> {
        signals.iter().try_for_each(|&signal| check(signal))?;
        let _changing = lock();
        reset_in_children();
        let post = match posts().find(|post| !post.in_use.load(Ordering::Relaxed)) {
            Some(post) => post,
            None => Post::publish(rt::eventfd()?),
        };
        post.in_use.store(true, Ordering::Relaxed);
        post.take_note();
        post.came.iter().for_each(|came| came.store(0, Ordering::Relaxed));
        for &signal in signals {
            let is_first = !is_wanted(signal.0);
            // Before the handler is there, so that it finds somebody to tell.
            post.wanted.fetch_or(bit(signal.0), Ordering::Release);
            if is_first {
                if let Err(error) = install(signal.0) {
                    post.vacate();
                    return Err(error);
                }
            }
        }
        Ok(post)
    }

    /// To be called with the registry locked.
    fn publish(eventfd: OwnedFd) -> &'static Post {
        let post = Box::leak(Box::new(Post {
            wanted: AtomicU64::new(0),
            came: [const { AtomicU32::new(0) }; COUNT],
            eventfd,
            in_use: AtomicBool::new(false),
            next: POSTS.load(Ordering::Relaxed),
        }));
        POSTS.store(post, Ordering::Release);
        post
    }

    /// The listener is gone. The last one for a signal brings its earlier action back.
    pub(super) fn close(&self) {
        let _changing = lock();
        self.vacate();
    }

    /// To be called with the registry locked.
    fn vacate(&self) {
        let wanted = self.wanted.swap(0, Ordering::AcqRel);
        let unwanted = |signal: &i32| wanted & bit(*signal) != 0 && !is_wanted(*signal);
        (1..=COUNT as i32).filter(unwanted).for_each(restore);
        self.in_use.store(false, Ordering::Relaxed);
    }

    /// What it is for.
    pub(super) fn signals(&self) -> Vec<Signal> {
        let wanted = self.wanted.load(Ordering::Relaxed);
        (1..=COUNT as i32).filter(|&signal| wanted & bit(signal) != 0).map(Signal).collect()
    }

    /// Takes one of the signals that have come.
    pub(super) fn take(&self) -> Option<Signal> {
        let mut left = self.wanted.load(Ordering::Acquire);
        while left != 0 {
            let at = left.trailing_zeros();
            left &= left - 1;
            let less_one = |count: u32| count.checked_sub(1);
            let came = &self.came[at as usize];
            if came.fetch_update(Ordering::AcqRel, Ordering::Acquire, less_one).is_ok() {
                return Some(Signal(at as i32 + 1));
            }
        }
        None
    }

    /// Readable when something has come since the last [`take_note`](Self::take_note).
    pub(super) fn note(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// To be called before [`take`](Self::take), so that what comes in between is noted anew.
    pub(super) fn take_note(&self) {
        let mut count = 0u64;
        let count = (&raw mut count).cast();
        // It fails if there is none, and that is no harm.
        // SAFETY: the kernel writes eight bytes.
        let _ = syscall!(read(self.eventfd.as_raw_fd(), count, 8));
    }

    /// Called by the handler.
    fn tell(&self, signal: i32) {
        if self.wanted.load(Ordering::Acquire) & bit(signal) != 0 {
            self.came[index(signal)].fetch_add(1, Ordering::Release);
            rt::eventfd_signal(self.eventfd.as_raw_fd());
        }
    }
}

/// Whether there is a listener for it.
fn is_wanted(signal: i32) -> bool {
    posts().any(|post| post.wanted.load(Ordering::Relaxed) & bit(signal) != 0)
}

fn check(signal: Signal) -> io::Result<()> {
    let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGSYS];
    let why = if matches!(signal.0, libc::SIGKILL | libc::SIGSTOP) {
        "cannot be caught"
    } else if faults.contains(&signal.0) {
        "is raised by a fault of the program, which cannot go on and handle it"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{signal} {why}")))
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: it always leads to the thread's own `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above. The code that was interrupted may be about to look at it.
    let before = unsafe { *errno };
    // An earlier handler may in turn call the one that it has found, which may be ours.
    let handling = HANDLING.get();
    if handling & bit(signal) == 0 {
        HANDLING.set(handling | bit(signal));
        // First, so that whoever is woken finds its work done.
        call_earlier(signal, info, context);
        posts().for_each(|post| post.tell(signal));
        HANDLING.set(handling);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Calls the handler that was there before ours, if it was one.
fn call_earlier(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: null, or leaked.
    let earlier = unsafe { EARLIER[index(signal)].load(Ordering::Acquire).as_ref() };
    let Some(earlier) = earlier else { return };
    match earlier.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {}
        handler if earlier.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: sigaction(2) gave it as a handler with three arguments.
            let handler = unsafe {
                std::mem::transmute::<
                    usize,
                    extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void),
                >(handler)
            };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: sigaction(2) gave it as a handler with one argument.
            let handler =
                unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(handler) };
            handler(signal);
        }
    }
}

fn current_action(signal: i32) -> io::Result<libc::sigaction> {
    // SAFETY: all of its fields may be zero.
    let mut action = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes a whole `sigaction`.
    syscall!(sigaction(signal, ptr::null(), &mut action))?;
    Ok(action)
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == handle as *const () as usize
}

/// To be called with the registry locked, as everything below.
fn install(signal: i32) -> io::Result<()> {
    let earlier = current_action(signal)?;
    if is_ours(&earlier) {
        return Ok(()); // another handler came over ours, and went
    }
    keep_earlier(signal, earlier);
    // SAFETY: all of its fields may be zero.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as usize;
    // The alternate stack, if the thread has one: a coroutine's may be short.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    if signal == libc::SIGCHLD {
        // Nobody who waits for the end of a child expects to hear of its stops.
        action.sa_flags |= earlier.sa_flags & (libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT);
    }
    // SAFETY: `handle` has the signature that SA_SIGINFO asks for, and does what a handler may do.
    syscall!(sigaction(signal, &action, ptr::null_mut())).map(drop)
}

/// Known before our handler is, which may be called at once.
fn keep_earlier(signal: i32, action: libc::sigaction) {
    let slot = &EARLIER[index(signal)];
    // SAFETY: null, or leaked.
    let kept = unsafe { slot.load(Ordering::Relaxed).as_ref() };
    let is_same = |kept: &libc::sigaction| {
        (kept.sa_sigaction, kept.sa_flags) == (action.sa_sigaction, action.sa_flags)
    };
    if !kept.is_some_and(is_same) {
        // Leaked, since a handler may be using the old one; it happens when somebody else changes the action.
        slot.store(Box::leak(Box::new(action)), Ordering::Release);
    }
}

/// Brings the earlier action back, unless somebody has put another one in the place of ours.
fn restore(signal: i32) {
    let earlier = EARLIER[index(signal)].load(Ordering::Relaxed);
    if !earlier.is_null() && current_action(signal).is_ok_and(|action| is_ours(&action)) {
        // SAFETY: it is what sigaction(2) has given.
        let _ = syscall!(sigaction(signal, earlier, ptr::null_mut()));
    }
}

/// Sees to it that the child of a fork has eventfds of its own: those of its parent are shared with it, and one would
/// take the other's notes.
fn reset_in_children() {
    static ONCE: std::sync::Once = std::sync::Once::new();

    extern "C" fn in_child() {
        for post in posts() {
            if let Ok(fresh) = rt::eventfd() {
                let _ = rt::renew(&post.eventfd, fresh);
            }
            post.came.iter().for_each(|came| came.store(0, Ordering::Relaxed));
        }
    }

    // SAFETY: a plain function, for ever; what it does is allowed in the child of a fork.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(in_child));
    });
}

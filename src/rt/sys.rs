//! The system calls that the kernel of the runtime makes, each behind a safe function.
//!
//! Everything here is thin: an `OwnedFd` where the kernel hands out a descriptor, an `io::Error`
//! where it refuses, and no policy at all.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Calls a libc function that reports failure by −1 and `errno`, and turns that into a `Result`.
///
/// `EINTR` is returned like any other error: whether to try again is the caller's decision.
macro_rules! syscall {
    ($name:ident ( $($arg:expr),* $(,)? )) => {{
        // SAFETY: the caller's SAFETY comment answers for the arguments.
        let result = unsafe { libc::$name($($arg),*) };
        if result == -1 { Err(::std::io::Error::last_os_error()) } else { Ok(result) }
    }};
}
pub(crate) use syscall;

/// Nanoseconds on the monotonic clock: the unit of every deadline inside `rt`.
///
/// `u64` nanoseconds last for 584 years of uptime.
#[inline]
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the write. CLOCK_MONOTONIC always exists, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// As [`now`], to a few milliseconds, at a quarter of the cost.
#[inline]
pub(crate) fn coarse_now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the write. The clock always exists, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How many threads the process has; `None` if that cannot be found out (no /proc).
pub(crate) fn thread_count() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    // A directory's link count is 2 + the number of its subdirectories, here one for each thread.
    std::fs::metadata("/proc/self/task").ok()?.nlink().checked_sub(2)
}

/// The deadline `duration` from now, or `None` when that is past the end of the clock.
#[inline]
pub(crate) fn deadline_in(duration: Duration) -> Option<u64> {
    let nanos = u64::try_from(duration.as_nanos()).ok()?;
    now().checked_add(nanos)
}

fn timespec(nanos: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (nanos / 1_000_000_000) as libc::time_t,
        tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
    }
}

/// One epoll instance.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
}

/// Space for the events of one [`Epoll::wait`].
pub(crate) type Events = Vec<libc::epoll_event>;

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        let fd = syscall!(epoll_create1(libc::EPOLL_CLOEXEC))?;
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        Ok(Epoll { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Makes the descriptor stand for a new, empty instance (after a fork; see [`renew`]).
    pub(crate) fn renew(&self) -> io::Result<()> {
        renew(&self.fd, Epoll::new()?.fd)
    }

    /// Watches `fd` for the events in `interest`; `token` comes back with each.
    ///
    /// # Errors
    /// `AlreadyExists` when `fd` is watched already, `PermissionDenied` when a file of its kind
    /// cannot be waited for (a regular file), and what epoll_ctl(2) says else.
    pub(crate) fn add(&self, fd: RawFd, interest: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest, token)
    }

    /// Changes the token (and re-arms the edge) of a descriptor that is watched already.
    pub(crate) fn modify(&self, fd: RawFd, interest: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, token)
    }

    /// Stops watching `fd`. A descriptor that is not watched is no error.
    pub(crate) fn delete(&self, fd: RawFd) {
        // Every cause of a failure (closed, never added) means that the goal is reached.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    fn control(&self, op: i32, fd: RawFd, interest: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest as u32, u64: token };
        syscall!(epoll_ctl(self.fd.as_raw_fd(), op, fd, &mut event)).map(drop)
    }

    /// Fills `events` with what is ready, waiting up to `timeout` nanoseconds (`None`: for ever).
    ///
    /// An interrupted wait returns no events.
    pub(crate) fn wait(&self, events: &mut Events, timeout: Option<u64>) -> io::Result<()> {
        events.clear();
        let room = i32::try_from(events.capacity()).unwrap_or(i32::MAX);
        let found = match wait_once(self.fd.as_raw_fd(), events.as_mut_ptr(), room, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        // SAFETY: the kernel has filled the first `found` elements, and `found <= capacity`.
        unsafe { events.set_len(found) };
        Ok(())
    }
}

/// Set once the kernel has said that it lacks epoll_pwait2 (Linux before 5.11, or a seccomp filter).
static NO_PWAIT2: AtomicBool = AtomicBool::new(false);

fn wait_once(
    epoll: RawFd,
    events: *mut libc::epoll_event,
    room: i32,
    timeout: Option<u64>,
) -> io::Result<usize> {
    // Plain epoll_wait serves where no fraction of a millisecond is asked for; it is also what
    // every tool and seccomp profile knows.
    let millis = match timeout {
        None => -1,
        Some(0) => 0,
        Some(nanos) if NO_PWAIT2.load(Ordering::Relaxed) => {
            // Rounded up: a wait that ends early would find nothing due and spin.
            i32::try_from(nanos.div_ceil(1_000_000)).unwrap_or(i32::MAX)
        }
        Some(nanos) => {
            let spec = timespec(nanos);
            // SAFETY: `events` has room for `room` events, `spec` lives through the call, and a
            // null mask leaves the signal mask alone.
            let found = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    epoll,
                    events,
                    room,
                    &raw const spec,
                    std::ptr::null::<libc::sigset_t>(),
                    8usize,
                )
            };
            if found >= 0 {
                return Ok(found as usize);
            }
            let error = io::Error::last_os_error();
            if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
                return Err(error);
            }
            NO_PWAIT2.store(true, Ordering::Relaxed);
            return wait_once(epoll, events, room, timeout);
        }
    };
    syscall!(epoll_wait(epoll, events, room, millis)).map(|found| found as usize)
}

/// A non-blocking eventfd: a counter that makes an epoll instance wake up.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    let fd = syscall!(eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor for a child that has not been waited for; readable once it has ended.
///
/// # Errors
/// What pidfd_open(2) says: `ENOSYS` before Linux 5.3.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Blocks the thread until a child has ended, and leaves its status to be waited for. Returns also if there is no such
/// child.
pub(crate) fn wait_for_exit(pid: u32) {
    let flags = libc::WEXITED | libc::WNOWAIT;
    loop {
        // SAFETY: a null pointer says that no details are wanted.
        match syscall!(waitid(libc::P_PID, pid, std::ptr::null_mut(), flags)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

/// Makes the descriptor number of `old` stand for what `new` is, and closes what it was.
pub(crate) fn renew(old: &OwnedFd, new: OwnedFd) -> io::Result<()> {
    syscall!(dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC)).map(drop)
}

/// Adds one to an eventfd's counter.
///
/// A full counter (EAGAIN) means that its reader has more than enough to wake up for.
pub(crate) fn eventfd_signal(fd: RawFd) {
    let one = 1u64;
    let _ = syscall!(write(fd, (&raw const one).cast(), 8));
}

/// Sleeps while `*word == expected`, until woken or until `timeout` nanoseconds have passed.
///
/// Returns for no reason at times, as futex(2) does.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<u64>) {
    let spec = timeout.map(timespec);
    let spec = spec.as_ref().map_or(std::ptr::null(), |spec| spec as *const libc::timespec);
    // SAFETY: `word` and `spec` outlive the call; FUTEX_WAIT reads the word atomically.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            spec,
        )
    };
}

/// Wakes one thread that sleeps in [`futex_wait`] on `word`.
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE only uses the address.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1,
        )
    };
}

/// Blocks the whole thread until one of `events` is ready on `fd` or the deadline has passed.
/// Returns false for the latter.
///
/// Only for the places where switching is forbidden (see `rt::Switching`).
pub(crate) fn poll_blocking(fd: RawFd, events: i16, deadline: Option<u64>) -> io::Result<bool> {
    loop {
        let millis = match deadline {
            None => -1,
            Some(deadline) => {
                let left = deadline.saturating_sub(now());
                i32::try_from(left.div_ceil(1_000_000)).unwrap_or(i32::MAX)
            }
        };
        let mut poll = libc::pollfd { fd, events, revents: 0 };
        match syscall!(poll(&mut poll, 1, millis)) {
            Ok(0) if deadline.is_some_and(|deadline| now() >= deadline) => return Ok(false),
            Ok(0) => {}
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether O_NONBLOCK is set on the open file behind `fd`.
pub(crate) fn is_nonblocking(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let flags = syscall!(fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
    Ok(flags & libc::O_NONBLOCK != 0)
}

/// Sets or clears O_NONBLOCK on the open file behind `fd`; says how it was before.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> io::Result<bool> {
    let flags = syscall!(fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
    let was = flags & libc::O_NONBLOCK != 0;
    if was != on {
        syscall!(fcntl(fd.as_raw_fd(), libc::F_SETFL, flags ^ libc::O_NONBLOCK))?;
    }
    Ok(was)
}

/// Whether the calling thread is the one that `main` runs on.
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: both calls take nothing and cannot fail.
    unsafe { libc::getpid() == libc::gettid() }
}

//! Waiting for many descriptors at once: [`poll`].

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use super::wait_readable;
use crate::rt::syscall;

/// One descriptor of those that [`poll`] waits for: what for, and what has come of it.
///
/// Errors and hang-ups are always waited for; they make a descriptor both readable and writable, since an
/// operation would not wait but fail or find the end.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PollFd<'fd> {
    inner: libc::pollfd,
    fd: PhantomData<BorrowedFd<'fd>>,
}

impl<'fd> PollFd<'fd> {
    fn new(fd: &'fd (impl AsFd + ?Sized), events: i16) -> PollFd<'fd> {
        let fd = fd.as_fd().as_raw_fd();
        PollFd { inner: libc::pollfd { fd, events, revents: 0 }, fd: PhantomData }
    }

    /// Waits until something can be read.
    pub fn readable(fd: &'fd (impl AsFd + ?Sized)) -> PollFd<'fd> {
        PollFd::new(fd, libc::POLLIN)
    }

    /// Waits until something can be written.
    pub fn writable(fd: &'fd (impl AsFd + ?Sized)) -> PollFd<'fd> {
        PollFd::new(fd, libc::POLLOUT)
    }

    /// Waits until something can be read or written.
    pub fn either(fd: &'fd (impl AsFd + ?Sized)) -> PollFd<'fd> {
        PollFd::new(fd, libc::POLLIN | libc::POLLOUT)
    }

    /// Waits for urgent data too (`POLLPRI`).
    #[must_use = "it returns what it changes"]
    pub fn or_priority(mut self) -> PollFd<'fd> {
        self.inner.events |= libc::POLLPRI;
        self
    }

    fn has(&self, events: i16) -> bool {
        self.inner.revents & events != 0
    }

    /// Whether [`poll`] has found anything: one of what follows.
    pub fn is_ready(&self) -> bool {
        self.inner.revents != 0
    }

    /// Whether a read would not wait: there is data, the end, or an error. False if that was not asked for.
    pub fn is_readable(&self) -> bool {
        let ended = self.has(libc::POLLHUP | libc::POLLERR);
        self.inner.events & libc::POLLIN != 0 && (self.has(libc::POLLIN) || ended)
    }

    /// Whether a write would not wait: there is room, or an error. False if that was not asked for.
    pub fn is_writable(&self) -> bool {
        let ended = self.has(libc::POLLHUP | libc::POLLERR);
        self.inner.events & libc::POLLOUT != 0 && (self.has(libc::POLLOUT) || ended)
    }

    /// Whether there is urgent data.
    pub fn is_priority(&self) -> bool {
        self.has(libc::POLLPRI)
    }

    /// Whether there is an error to fetch; for the writing end of a pipe, whether its readers are gone.
    pub fn is_error(&self) -> bool {
        self.has(libc::POLLERR)
    }

    /// Whether the other end is closed. There may be something left to read.
    pub fn is_hung_up(&self) -> bool {
        self.has(libc::POLLHUP)
    }
}

impl AsRawFd for PollFd<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.fd
    }
}

impl fmt::Debug for PollFd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollFd")
            .field("fd", &self.inner.fd)
            .field("events", &self.inner.events)
            .field("found", &self.inner.revents)
            .finish()
    }
}

/// Waits until at least one of the descriptors is ready, for at most `timeout`; says how many are. Other
/// coroutines run meanwhile. (poll(2), gevent's `select.poll`.)
///
/// Regular files are always ready. Without descriptors it sleeps. A wait opens a descriptor of its own; for a
/// few descriptors that are used often, a coroutine for each is cheaper.
///
/// # Errors
/// What poll(2), epoll_create1(2) or epoll_ctl(2) says: `EMFILE` when there are too many descriptors.
///
/// # Examples
/// ```
/// use std::io::Write;
/// use std::time::Duration;
/// use greenling::io::{PollFd, pipe, poll};
///
/// let (first, _first_writer) = pipe()?;
/// let (second, mut writer) = pipe()?;
/// greenling::spawn(move || writer.write_all(b"x").map(|()| writer));
///
/// let mut fds = [PollFd::readable(&first), PollFd::readable(&second)];
/// assert_eq!(poll(&mut fds, Some(Duration::from_secs(10)))?, 1);
/// assert!(!fds[0].is_readable() && fds[1].is_readable());
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut set = None;
    loop {
        let ready = look(fds)?;
        if ready > 0 || timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Ok(ready);
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(0);
        }
        let set = match &mut set {
            Some(set) => set,
            none => none.insert(watch(fds)?),
        };
        wait_readable(set, left)?;
    }
}

/// What is ready at this moment.
fn look(fds: &mut [PollFd<'_>]) -> io::Result<usize> {
    loop {
        // `PollFd` is a `pollfd` and nothing else.
        // SAFETY: hence the pointer and the length are those of a slice of them, which is ours alone.
        match syscall!(poll(fds.as_mut_ptr().cast(), fds.len() as libc::nfds_t, 0)) {
            Ok(ready) => return Ok(ready as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// An epoll instance that is readable while one of the descriptors is ready.
fn watch(fds: &[PollFd<'_>]) -> io::Result<OwnedFd> {
    let set = syscall!(epoll_create1(libc::EPOLL_CLOEXEC))?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    let set = unsafe { OwnedFd::from_raw_fd(set) };
    let mut wanted: Vec<(RawFd, i16)> =
        fds.iter().map(|fd| (fd.inner.fd, fd.inner.events)).collect();
    wanted.sort_unstable();
    // Once for each descriptor, however often it is in the list.
    wanted.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 |= next.1;
        }
        same
    });
    for (fd, events) in wanted {
        // poll's bits are epoll's.
        let mut event = libc::epoll_event { events: events as u32, u64: 0 };
        syscall!(epoll_ctl(set.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event))?;
    }
    Ok(set)
}

//! One generic adapter from descriptors to coroutines.

#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::rt::{self, Deadline, Direction, SourceId};

/// The identity of a descriptor towards the hubs. Dropping it ends their interest.
struct Source {
    fd: RawFd,
    id: SourceId,
    /// On which hubs it may be registered, as a set of bits.
    hubs: AtomicU64,
}

impl Source {
    fn new(fd: BorrowedFd<'_>) -> Source {
        Source { fd: fd.as_raw_fd(), id: rt::source_id(), hubs: AtomicU64::new(0) }
    }

    #[inline(always)]
    #[track_caller]
    fn wait(&self, direction: Direction, deadline: Option<Deadline>) -> io::Result<()> {
        match rt::wait_fd(self.fd, self.id, direction, deadline, &self.hubs)? {
            true => Ok(()),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Waits until the descriptor is ready, which it may be already.
    #[track_caller]
    fn wait_ready(
        &self,
        fd: BorrowedFd<'_>,
        direction: Direction,
        deadline: Option<Deadline>,
    ) -> io::Result<()> {
        // The hub knows of changes only, and somebody else may have used up the last one.
        while !rt::is_ready(fd, direction)? {
            self.wait(direction, deadline)?;
        }
        Ok(())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        rt::forget_source(self.fd, self.id, self.hubs.load(Ordering::Relaxed));
    }
}

/// Makes operations on a descriptor wait without blocking the thread.
///
/// It tries an operation first; only when that says `WouldBlock` does the coroutine park, until epoll
/// reports that it is worth another try. A descriptor that never has to wait is never registered.
/// Registration is edge-triggered and happens once for each hub that waits.
///
/// It may be used by several coroutines at once, on several threads if `T` is `Sync`: all who wait for
/// one direction are woken, and those who come too late wait again.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use greenling::io::Adapter;
///
/// let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
/// let mut reader = Adapter::new(reader)?;
/// let mut writer = Adapter::new(writer)?;
/// let consumer = greenling::spawn(move || {
///     let mut text = String::new();
///     reader.read_to_string(&mut text).map(|_| text) // waits, others run
/// });
/// writer.write_all(b"hello")?;
/// drop(writer);
/// assert_eq!(consumer.join().unwrap()?, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Adapter<T: AsFd> {
    // Before `io`, so that the hubs forget the descriptor before it is closed.
    source: Source,
    io: T,
    /// Whether `into_inner` has to clear O_NONBLOCK.
    restore_blocking: bool,
}

impl<T: AsFd> Adapter<T> {
    /// Wraps `io` and sets `O_NONBLOCK` on its open file; [`into_inner`](Self::into_inner) sets it back.
    ///
    /// `io` must refer to the same descriptor for as long as it is wrapped.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn new(io: T) -> io::Result<Adapter<T>> {
        let was_nonblocking = rt::set_nonblocking(io.as_fd(), true)?;
        let mut adapter = Adapter::from_nonblocking(io);
        adapter.restore_blocking = !was_nonblocking;
        Ok(adapter)
    }

    /// Wraps `io` without touching its flags: for descriptors with `O_NONBLOCK`, and for operations that
    /// do not block by themselves (`MSG_DONTWAIT`).
    ///
    /// An operation that blocks nevertheless blocks the whole thread.
    pub fn from_nonblocking(io: T) -> Adapter<T> {
        Adapter { source: Source::new(io.as_fd()), io, restore_blocking: false }
    }

    /// The wrapped object.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// Unwraps the object, in the mode in which it came.
    ///
    /// # Errors
    /// What fcntl(2) says; the object is dropped then.
    pub fn into_inner(self) -> io::Result<T> {
        let Adapter { source, io, restore_blocking } = self;
        drop(source);
        if restore_blocking {
            rt::set_nonblocking(io.as_fd(), false)?;
        }
        Ok(io)
    }

    /// Waits until there is something to read, the end of the stream, or an error to fetch.
    ///
    /// # Errors
    /// What epoll_create1(2), epoll_ctl(2) or poll(2) says.
    #[track_caller]
    pub fn readable(&self) -> io::Result<()> {
        self.source.wait_ready(self.io.as_fd(), Direction::Read, None)
    }

    /// Waits until something can be written, or there is an error to fetch.
    ///
    /// # Errors
    /// As for [`readable`](Self::readable).
    #[track_caller]
    pub fn writable(&self) -> io::Result<()> {
        self.source.wait_ready(self.io.as_fd(), Direction::Write, None)
    }

    /// Calls `op` until it returns something else than `WouldBlock`, waiting for readability in between.
    /// `EINTR` means another try at once.
    ///
    /// # Errors
    /// What `op` returns, or what epoll says when the descriptor cannot be registered.
    #[track_caller]
    pub fn read_with<R>(&self, op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.run(Direction::Read, || None, op, |_| false)
    }

    /// As [`read_with`](Self::read_with), for writing.
    ///
    /// # Errors
    /// As for `read_with`.
    #[track_caller]
    pub fn write_with<R>(&self, op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.run(Direction::Write, || None, op, |_| false)
    }

    /// As [`read_with`](Self::read_with), until `deadline` at most. The operation is tried at least
    /// once, even if the deadline has passed.
    ///
    /// # Errors
    /// `TimedOut` when the deadline passes, else as for `read_with`.
    #[track_caller]
    pub fn read_with_deadline<R>(
        &self,
        deadline: Instant,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.run(Direction::Read, || Deadline::at(deadline), op, |_| false)
    }

    /// As [`read_with_deadline`](Self::read_with_deadline), for writing.
    ///
    /// # Errors
    /// As for `read_with_deadline`.
    #[track_caller]
    pub fn write_with_deadline<R>(
        &self,
        deadline: Instant,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.run(Direction::Write, || Deadline::at(deadline), op, |_| false)
    }

    /// The operations of the crate's own sockets: with a time limit that costs nothing until it is
    /// needed, and, for reads of a stream, with `short`, which tells from the result that nothing is
    /// left in the socket.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn run<R>(
        &self,
        direction: Direction,
        deadline: impl FnOnce() -> Option<Deadline>,
        mut op: impl FnMut(&T) -> io::Result<R>,
        short: impl FnOnce(&R) -> bool,
    ) -> io::Result<R> {
        let Source { fd, id, .. } = self.source;
        let mut deadline = Err(deadline);
        let mut expired = false;
        loop {
            if expired || rt::may_be_ready(fd, id, direction) {
                match op(&self.io) {
                    Ok(result) => {
                        rt::io_done(fd, id, short(&result));
                        return Ok(result);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if expired {
                            return Err(io::ErrorKind::TimedOut.into());
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        // A loop that tries again and again must not keep the others from running.
                        rt::io_done(fd, id, false);
                        return Err(error);
                    }
                }
            }
            let limit = match deadline {
                Ok(limit) => limit,
                Err(compute) => compute(),
            };
            deadline = Ok(limit);
            match self.source.wait(direction, limit) {
                // The hub may have been busy past the deadline, and the descriptor ready before it.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => expired = true,
                waited => waited?,
            }
        }
    }

    /// Tries an operation once, without waiting, whatever is known of the descriptor's readiness.
    #[inline]
    pub(crate) fn attempt<R>(&self, mut op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        loop {
            match op(&self.io) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    rt::io_done(self.source.fd, self.source.id, false);
                    return result;
                }
            }
        }
    }

    /// Has [`wake_all`](Self::wake_all) reach the caller in the wait that it is about to begin.
    pub(crate) fn announce(&self) {
        rt::announce_source(&self.source.hubs);
    }

    /// Wakes everybody who waits for the descriptor, on every hub; their operations are tried again.
    pub(crate) fn wake_all(&self) {
        rt::close_source(self.source.fd, self.source.hubs.load(Ordering::SeqCst));
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Adapter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Adapter").field(&self.io).finish()
    }
}

impl<T: AsFd> AsFd for Adapter<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<T: AsFd> AsRawFd for Adapter<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.source.fd
    }
}

impl<T: AsFd> Read for &Adapter<T>
where
    for<'a> &'a T: Read,
{
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_with(|mut io| io.read(buf))
    }

    #[track_caller]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_with(|mut io| io.read_vectored(bufs))
    }
}

impl<T: AsFd> Write for &Adapter<T>
where
    for<'a> &'a T: Write,
{
    #[track_caller]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_with(|mut io| io.write(buf))
    }

    #[track_caller]
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(|mut io| io.write_vectored(bufs))
    }

    #[track_caller]
    fn flush(&mut self) -> io::Result<()> {
        self.write_with(|mut io| io.flush())
    }
}

impl<T: AsFd> Read for Adapter<T>
where
    for<'a> &'a T: Read,
{
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    #[track_caller]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl<T: AsFd> Write for Adapter<T>
where
    for<'a> &'a T: Write,
{
    #[track_caller]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    #[track_caller]
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    #[track_caller]
    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

/// Waits until there is something to read on any descriptor, for at most `timeout`. Says whether there
/// is.
///
/// Registers and deregisters at every call; what is used more than once is better wrapped in an
/// [`Adapter`]. A regular file is always ready.
///
/// # Errors
/// What epoll_create1(2), epoll_ctl(2) or poll(2) says.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let (reader, _writer) = std::os::unix::net::UnixStream::pair()?;
/// assert!(!greenling::io::wait_readable(&reader, Some(Duration::from_millis(5)))?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn wait_readable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    wait_once(fd.as_fd(), Direction::Read, timeout)
}

/// Waits until something can be written to any descriptor, for at most `timeout`. Says whether it can.
///
/// See [`wait_readable`].
///
/// # Errors
/// As for [`wait_readable`].
#[track_caller]
pub fn wait_writable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    wait_once(fd.as_fd(), Direction::Write, timeout)
}

#[track_caller]
fn wait_once(
    fd: BorrowedFd<'_>,
    direction: Direction,
    timeout: Option<Duration>,
) -> io::Result<bool> {
    let deadline = timeout.and_then(Deadline::after);
    match Source::new(fd).wait_ready(fd, direction, deadline) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
        Err(error) => Err(error),
    }
}

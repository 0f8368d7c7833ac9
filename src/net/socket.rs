//! What all sockets have in common: how an operation waits, for how long, and until when.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use super::sys;
use crate::io::Adapter;
use crate::rt::{self, Deadline, Direction};

/// What the kernel keeps in the open file rather than in the descriptor, so that `try_clone` shares it.
///
/// The kernel's own copies say the same, but to ask for them would cost a system call at every wait.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Whether the *user* has asked for `O_NONBLOCK`.
    nonblocking: AtomicBool,
    /// Nanoseconds; 0 is for ever.
    read_timeout: AtomicU64,
    write_timeout: AtomicU64,
    /// The error of a write that had already sent something and thus could not report it; 0 is none.
    /// The kernel's blocking send leaves it in the socket for the next operation.
    pending_error: AtomicI32,
    /// Whether a Unix datagram socket has been shut down for reading: the kernel tells it to those only who
    /// wait inside of it.
    pub(super) read_ended: AtomicBool,
    /// Whether a clone of this listener was given away, in the mode of its user. From then on nobody
    /// can be sure that the open file has `O_NONBLOCK`.
    pub(super) given_away: AtomicBool,
}

impl Shared {
    /// What the kernel knows of a descriptor that comes from outside.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Shared {
        // What fails here fails again, visibly, at the first operation.
        let limit = |option| sys::timeout(fd, option).unwrap_or_default();
        Shared {
            nonblocking: AtomicBool::new(rt::is_nonblocking(fd).unwrap_or(false)),
            read_timeout: AtomicU64::new(nanos(limit(libc::SO_RCVTIMEO))),
            write_timeout: AtomicU64::new(nanos(limit(libc::SO_SNDTIMEO))),
            ..Shared::default()
        }
    }

    /// For a socket that a listener has accepted: the kernel hands the time limits down.
    pub(super) fn inherited(&self) -> Shared {
        Shared {
            read_timeout: AtomicU64::new(self.read_timeout.load(Ordering::Relaxed)),
            write_timeout: AtomicU64::new(self.write_timeout.load(Ordering::Relaxed)),
            ..Shared::default()
        }
    }

    pub(super) fn is_nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }

    pub(super) fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }

    fn timeout(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Read => &self.read_timeout,
            Direction::Write => &self.write_timeout,
        }
    }

    /// `None` is for ever.
    pub(super) fn set_timeout(&self, direction: Direction, limit: Option<Duration>) {
        self.timeout(direction).store(limit.map_or(0, nanos), Ordering::Relaxed);
    }

    fn deadline(&self, direction: Direction) -> Option<Deadline> {
        match self.timeout(direction).load(Ordering::Relaxed) {
            0 => None,
            nanos => Deadline::after(Duration::from_nanos(nanos)),
        }
    }

    pub(super) fn set_pending_error(&self, code: i32) {
        self.pending_error.store(code, Ordering::Relaxed);
    }

    pub(super) fn take_pending_error(&self) -> Option<io::Error> {
        match self.pending_error.swap(0, Ordering::Relaxed) {
            0 => None,
            code => Some(io::Error::from_raw_os_error(code)),
        }
    }
}

/// A time limit in nanoseconds; what does not fit into 584 years is for ever, which is 0.
fn nanos(limit: Duration) -> u64 {
    u64::try_from(limit.as_nanos()).unwrap_or(0)
}

/// A deadline that begins to run when an operation has to wait for the first time.
#[derive(Default)]
pub(super) struct LazyDeadline(Option<Option<Deadline>>);

impl LazyDeadline {
    fn get(&mut self, shared: &Shared, direction: Direction) -> Option<Deadline> {
        *self.0.get_or_insert_with(|| shared.deadline(direction))
    }
}

/// For what the kernel has no event for: a Unix listener whose queue is full, and the full queue of another
/// datagram socket. The pauses double, from a quarter of a millisecond to 32 ms.
#[derive(Default)]
pub(super) struct BackOff {
    pauses: u32,
}

impl BackOff {
    /// Lets the others run for a while. False if the deadline has passed already.
    #[track_caller]
    pub(super) fn pause(&mut self, limit: Option<Deadline>) -> bool {
        if limit.is_some_and(Deadline::is_past) {
            return false;
        }
        let pause = Deadline::after(Duration::from_micros(250 << self.pauses));
        self.pauses = (self.pauses + 1).min(7);
        rt::sleep(match (pause, limit) {
            (Some(pause), Some(limit)) => Some(pause.min(limit)),
            (pause, limit) => pause.or(limit),
        });
        true
    }
}

/// A socket of std's, and how to wait for it.
pub(super) struct Socket<T: AsFd> {
    adapter: Adapter<T>,
    shared: Arc<Shared>,
    /// By `close`. It concerns this socket only, not its clones.
    closed: AtomicBool,
}

impl<T: AsFd> Socket<T> {
    /// `io` is to be used by operations that do not block.
    pub(super) fn new(io: T, shared: Arc<Shared>) -> Socket<T> {
        Socket::from_adapter(Adapter::from_nonblocking(io), shared)
    }

    pub(super) fn from_adapter(adapter: Adapter<T>, shared: Arc<Shared>) -> Socket<T> {
        Socket { adapter, shared, closed: AtomicBool::new(false) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// std's socket, closed or not.
    pub(super) fn get_ref(&self) -> &T {
        self.adapter.get_ref()
    }

    /// std's socket.
    ///
    /// # Errors
    /// `EBADF` after `close`.
    #[inline]
    pub(super) fn open(&self) -> io::Result<&T> {
        self.check_open()?;
        Ok(self.adapter.get_ref())
    }

    #[inline]
    fn check_open(&self) -> io::Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(())
    }

    pub(super) fn into_parts(self) -> (T, Arc<Shared>) {
        let io = self.adapter.into_inner();
        (io.expect("wrapped with its flags as they were, so none is to be set back"), self.shared)
    }

    /// Ends the use of the socket: see `TcpStream::close`.
    pub(super) fn close(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        // Whoever is between its last look at `closed` and its wait is not on any list yet, and is
        // woken by the event that this raises. A socket that is not connected needs no waking.
        let _ = sys::shutdown(self.adapter.as_fd());
        self.adapter.wake_all();
    }

    /// As [`close`](Self::close), without a shutdown(2): for sockets that are operated by
    /// [`run_datagram`](Self::run_datagram).
    pub(super) fn close_datagram(&self) {
        if !self.closed.swap(true, Ordering::SeqCst) {
            self.adapter.wake_all();
        }
    }

    /// As [`run_until`](Self::run_until), for sockets that are not shut down when they are closed.
    ///
    /// A socket that only receives cannot be: its clones would receive no more, and after a shutdown(2) the
    /// kernel tells whoever does not wait inside of it to try again, for ever.
    #[track_caller]
    pub(super) fn run_datagram<R>(
        &self,
        direction: Direction,
        deadline: &mut LazyDeadline,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let op = |io: &T| {
            let result = op(io);
            if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                // No event will tell of `close`. Either it sees our hub in the list, or we see it.
                self.adapter.announce();
                self.check_open()?;
            }
            result
        };
        self.run_until(direction, deadline, op, |_| false)
    }

    /// Pauses before another try of what the kernel has no event for, within the socket's time limit.
    ///
    /// # Errors
    /// `WouldBlock` when the time is up, or at once if the user has asked for that.
    #[track_caller]
    pub(super) fn back_off(
        &self,
        back_off: &mut BackOff,
        deadline: &mut LazyDeadline,
    ) -> io::Result<()> {
        let may_wait = !self.shared.is_nonblocking()
            && back_off.pause(deadline.get(&self.shared, Direction::Write));
        if may_wait { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EAGAIN)) }
    }

    /// Performs an operation as a blocking socket would, within the socket's time limit.
    ///
    /// `short` says of a result that it has emptied the socket's buffer.
    ///
    /// # Errors
    /// `WouldBlock` when the time is up, or at once if the user has asked for that; `EBADF` after
    /// `close`; else what `op` returns or epoll says.
    #[inline(always)]
    #[track_caller]
    pub(super) fn run<R>(
        &self,
        direction: Direction,
        op: impl FnMut(&T) -> io::Result<R>,
        short: impl FnOnce(&R) -> bool,
    ) -> io::Result<R> {
        self.run_until(direction, &mut LazyDeadline::default(), op, short)
    }

    /// As [`run`](Self::run), with a deadline that it may share with further calls.
    #[inline(always)]
    #[track_caller]
    pub(super) fn run_until<R>(
        &self,
        direction: Direction,
        deadline: &mut LazyDeadline,
        mut op: impl FnMut(&T) -> io::Result<R>,
        short: impl FnOnce(&R) -> bool,
    ) -> io::Result<R> {
        let op = |io: &T| {
            self.check_open()?;
            op(io)
        };
        if self.shared.is_nonblocking() {
            return self.adapter.attempt(op).map_err(|error| self.explain(error));
        }
        let deadline = || deadline.get(&self.shared, direction);
        match self.adapter.run(direction, deadline, op, short) {
            Ok(result) => Ok(result),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// What the user is told for an error of an operation.
    #[cold]
    fn explain(&self, error: io::Error) -> io::Error {
        // It may have been tried just after the shutdown of `close`.
        if let Err(closed) = self.check_open() {
            return closed;
        }
        match error.kind() {
            // What the kernel says when SO_RCVTIMEO has passed. (A TimedOut of its own has a code.)
            io::ErrorKind::TimedOut if error.raw_os_error().is_none() => {
                io::Error::from_raw_os_error(libc::EAGAIN)
            }
            _ => error,
        }
    }
}

impl<T: AsFd> AsFd for Socket<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.adapter.as_fd()
    }
}

impl<T: AsFd> AsRawFd for Socket<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.adapter.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_close_between_the_look_and_the_wait_is_seen() {
        let io = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = Socket::new(io, Arc::default());
        // No event tells of it, and nobody waits whom it could wake.
        let tried = |_: &UdpSocket| -> io::Result<()> {
            std::thread::scope(|scope| drop(scope.spawn(|| socket.close_datagram())));
            Err(io::ErrorKind::WouldBlock.into())
        };
        let error = socket.run_datagram(Direction::Read, &mut LazyDeadline::default(), tried);
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn pauses_grow_and_keep_to_the_deadline() {
        let mut back_off = BackOff::default();
        let start = std::time::Instant::now();
        for _ in 0..4 {
            assert!(back_off.pause(None));
        }
        assert!(start.elapsed() >= Duration::from_micros(250 + 500 + 1000 + 2000));
        assert!(!back_off.pause(Deadline::after(Duration::ZERO)));
    }
}

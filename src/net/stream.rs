//! [`TcpStream`].

#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::socket::{LazyDeadline, Shared, Socket};
use super::sys;
use crate::io::Adapter;
use crate::rt::{Deadline, Direction};

/// A TCP connection: `std::net::TcpStream`, but waiting lets other coroutines run.
///
/// It is made by [`connect`](Self::connect) or by [`TcpListener::accept`](super::TcpListener::accept), and
/// closed when it is dropped. `&TcpStream` implements [`Read`] and [`Write`] too, so that one coroutine
/// can read while another writes.
///
/// The operations behave as those of a blocking socket of Linux, as std's do: a read returns what there
/// is, a write returns when all of its data is with the kernel (or as much as fitted before an error or
/// the time limit), and `SIGPIPE` is never raised.
///
/// # Examples
/// ```no_run
/// use std::io::{Read, Write};
/// use greenling::net::TcpStream;
///
/// let mut stream = TcpStream::connect("127.0.0.1:7")?;
/// stream.write_all(b"hello")?;
/// stream.read_exact(&mut [0; 5])?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TcpStream {
    pub(super) socket: Socket<net::TcpStream>,
}

impl TcpStream {
    /// Opens a connection to the first of the addresses that accepts it.
    ///
    /// A name is resolved by std's [`ToSocketAddrs`], which blocks the thread while it asks.
    ///
    /// # Errors
    /// The error of the last address that was tried; `InvalidInput` if there is none; what
    /// the resolution says.
    ///
    /// # Examples
    /// ```
    /// use greenling::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        let mut last = None;
        for addr in addr.to_socket_addrs()? {
            match Self::connect_until(&addr, None) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        let none = "could not resolve to any addresses";
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, none)))
    }

    /// Opens a connection, for which it waits no longer than `timeout`.
    ///
    /// # Errors
    /// `TimedOut` when the time is up; `InvalidInput` if `timeout` is zero; what connect(2) says.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use greenling::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(5))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            let zero = "cannot set a 0 duration timeout";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, zero));
        }
        Self::connect_until(addr, Deadline::after(timeout)).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut if error.raw_os_error().is_none() => {
                io::Error::new(io::ErrorKind::TimedOut, "connection timed out")
            }
            _ => error,
        })
    }

    #[track_caller]
    fn connect_until(addr: &SocketAddr, deadline: Option<Deadline>) -> io::Result<TcpStream> {
        let io = net::TcpStream::from(sys::stream_socket(addr)?);
        let adapter = Adapter::from_nonblocking(io);
        let mut begun = false;
        let connect = |io: &net::TcpStream| {
            loop {
                let error = match sys::connect(io.as_fd(), addr) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                };
                match error.raw_os_error() {
                    Some(libc::EISCONN) if begun => return Ok(()),
                    // To call it again is how Linux is asked what became of it. The loopback
                    // interface knows at once.
                    Some(libc::EINPROGRESS) if !begun => begun = true,
                    Some(libc::EINPROGRESS | libc::EALREADY) => {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    // Out of local ports, not in progress: an error here, and to be told apart
                    // from what `run` waits for.
                    Some(libc::EAGAIN) => {
                        return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
                    }
                    _ => return Err(error),
                }
            }
        };
        adapter.run(Direction::Write, || deadline, connect, |()| false)?;
        adapter.get_ref().set_nonblocking(false)?;
        Ok(TcpStream { socket: Socket::from_adapter(adapter, Arc::default()) })
    }

    pub(super) fn accepted(io: net::TcpStream, shared: Shared) -> TcpStream {
        TcpStream { socket: Socket::new(io, Arc::new(shared)) }
    }

    pub(super) fn from_std(io: net::TcpStream) -> TcpStream {
        let shared = Arc::new(Shared::of(io.as_fd()));
        TcpStream { socket: Socket::new(io, shared) }
    }

    /// Receiving and sending never change O_NONBLOCK, so the socket is in its user's mode.
    pub(super) fn into_std(self) -> net::TcpStream {
        self.socket.into_parts().0
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// What getpeername(2) says: `NotConnected` if there is no other end any more.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.open()?.peer_addr()
    }

    /// The address of this end.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.open()?.local_addr()
    }

    /// Shuts down reading, writing, or both, for every clone of the stream. Whoever waits for that half
    /// goes on: a read returns 0, a write fails with `BrokenPipe`.
    ///
    /// # Errors
    /// What shutdown(2) says: `NotConnected`, for example.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::Shutdown;
    /// use greenling::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// let (mut server, _) = listener.accept()?;
    /// client.write_all(b"all of it")?;
    /// client.shutdown(Shutdown::Write)?;
    /// let mut text = String::new();
    /// server.read_to_string(&mut text)?; // ends at the shutdown
    /// assert_eq!(text, "all of it");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.open()?.shutdown(how)
    }

    /// Ends the connection now, in both directions, and wakes whoever waits for this stream: their
    /// operations, and all later ones, fail with an error of the code `EBADF`.
    ///
    /// This is gevent's `socket.close`; std has no such thing, since nothing can end a blocking read there
    /// but [`shutdown`](Self::shutdown). The descriptor itself is closed when the stream is dropped. Clones
    /// of the stream see the shutdown: their reads return 0, their writes fail with `BrokenPipe`.
    ///
    /// # Examples
    /// ```
    /// use std::io::Read;
    /// use std::rc::Rc;
    /// use greenling::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = Rc::new(TcpStream::connect(listener.local_addr()?)?);
    /// let reader = greenling::spawn({
    ///     let stream = stream.clone();
    ///     move || (&*stream).read(&mut [0; 64])
    /// });
    /// greenling::yield_now(); // the reader waits now
    /// stream.close();
    /// assert!(reader.join().unwrap().is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close(&self) {
        self.socket.close();
    }

    /// Another handle of the same connection, with a descriptor of its own (dup(2)). Options, among
    /// them time limits and the non-blocking mode, are common to both.
    ///
    /// # Errors
    /// What fcntl(2) says: `EMFILE` when there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        let io = self.socket.open()?.try_clone()?;
        Ok(TcpStream { socket: Socket::new(io, self.socket.shared().clone()) })
    }

    /// How long a read may wait: for ever by default. When the time is up, it fails with
    /// `WouldBlock`, as std's does on Linux.
    ///
    /// It costs nothing as long as reads do not have to wait, and no system call then. A wait that
    /// has begun keeps the limit with which it began.
    ///
    /// # Errors
    /// `InvalidInput` for zero.
    ///
    /// # Examples
    /// ```
    /// use std::io::{ErrorKind, Read};
    /// use std::time::Duration;
    /// use greenling::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_read_timeout(Some(Duration::from_millis(10)))?;
    /// let error = stream.read(&mut [0; 16]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_timeout(&self, dur: Option<Duration>) -> io::Result<()> {
        self.socket.open()?.set_read_timeout(dur)?;
        self.socket.shared().set_timeout(Direction::Read, dur);
        Ok(())
    }

    /// How long a write may wait. If some of the data has been sent when the time is up, it returns how
    /// much; else it fails with `WouldBlock`.
    ///
    /// # Errors
    /// `InvalidInput` for zero.
    pub fn set_write_timeout(&self, dur: Option<Duration>) -> io::Result<()> {
        self.socket.open()?.set_write_timeout(dur)?;
        self.socket.shared().set_timeout(Direction::Write, dur);
        Ok(())
    }

    /// The limit of reads, as the kernel has rounded it.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        self.socket.open()?.read_timeout()
    }

    /// The limit of writes, as the kernel has rounded it.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        self.socket.open()?.write_timeout()
    }

    /// Reads without taking the data out of the socket. Waits if there is none.
    ///
    /// # Errors
    /// As for a read.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    /// use greenling::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// let (mut server, _) = listener.accept()?;
    /// client.write_all(b"GET /")?;
    /// let mut method = [0; 3];
    /// assert_eq!(server.peek(&mut method)?, 3);
    /// let mut line = [0; 5];
    /// server.read_exact(&mut line)?; // all of it is still there
    /// assert_eq!((&method, &line), (b"GET", b"GET /"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let asked = buf.len();
        let peek = |io: &net::TcpStream| sys::recv(io.as_fd(), buf, libc::MSG_PEEK);
        // However short, it leaves everything in the socket.
        let peeked = self.socket.run(Direction::Read, peek, |_| false);
        self.check_end(peeked, asked)
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`) rather than collected (Nagle's algorithm).
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket.open()?.set_nodelay(nodelay)
    }

    /// The value of `TCP_NODELAY`.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket.open()?.nodelay()
    }

    /// How many hops packets may take (`IP_TTL`).
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.socket.open()?.set_ttl(ttl)
    }

    /// The value of `IP_TTL`.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn ttl(&self) -> io::Result<u32> {
        self.socket.open()?.ttl()
    }

    /// Takes the error that is pending on the socket (`SO_ERROR`).
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let kernels = self.socket.open()?.take_error()?;
        Ok(kernels.or_else(|| self.socket.shared().take_pending_error()))
    }

    /// With `true`, operations that would wait return `WouldBlock` instead, on all clones of the stream.
    ///
    /// The flag is the user's alone: this crate never needs it to be set, and never sets it by itself.
    /// `O_NONBLOCK` of the descriptor is always what was asked for here.
    ///
    /// # Errors
    /// What ioctl(2) says.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.open()?.set_nonblocking(nonblocking)?;
        self.socket.shared().set_nonblocking(nonblocking);
        Ok(())
    }

    /// Sends until all `total` bytes are with the kernel, as a blocking send(2) does. `send` is told how
    /// many have been sent.
    #[inline]
    #[track_caller]
    fn send_all(
        &self,
        total: usize,
        mut send: impl FnMut(&net::TcpStream, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut deadline = LazyDeadline::default();
        let mut sent = 0;
        loop {
            let op = |io: &net::TcpStream| send(io, sent);
            match self.socket.run_until(Direction::Write, &mut deadline, op, |_| false) {
                Ok(count) => sent += count,
                Err(error) if sent > 0 => {
                    self.keep_for_later(&error);
                    return Ok(sent);
                }
                Err(error) => return Err(self.cause_of(error)),
            }
            if sent >= total || self.socket.shared().is_nonblocking() {
                return Ok(sent);
            }
        }
    }

    /// An error that ended a write which had sent something. The kernel would have left it in the socket,
    /// for whatever operation comes next; but the attempt to send the rest has taken it out.
    #[cold]
    fn keep_for_later(&self, error: &io::Error) {
        let of_the_connection = [
            libc::ECONNRESET,
            libc::ECONNABORTED,
            libc::ETIMEDOUT,
            libc::EHOSTUNREACH,
            libc::ENETUNREACH,
            libc::EHOSTDOWN,
            libc::ENETDOWN,
        ];
        if let Some(code) = error.raw_os_error().filter(|code| of_the_connection.contains(code)) {
            self.socket.shared().set_pending_error(code);
        }
    }

    /// The error that broke the pipe, if that has not been reported.
    #[cold]
    fn cause_of(&self, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::BrokenPipe {
            return error;
        }
        self.socket.shared().take_pending_error().unwrap_or(error)
    }

    /// Looks for what is behind the end of the stream: `close`, or an error that has not been reported.
    #[inline]
    fn check_end(&self, read: io::Result<usize>, asked: usize) -> io::Result<usize> {
        match read {
            Ok(0) if asked > 0 => self.end(),
            read => read,
        }
    }

    #[cold]
    fn end(&self) -> io::Result<usize> {
        self.socket.open()?;
        match self.socket.shared().take_pending_error() {
            Some(error) => Err(error),
            None => Ok(0),
        }
    }
}

/// Whether a read that was asked for so many bytes has emptied the socket's buffer. The end of the
/// stream does not count: it is there for the next read as well, which has to find it.
#[inline]
fn is_short(count: usize, asked: usize) -> bool {
    0 < count && count < asked
}

impl Read for &TcpStream {
    #[inline]
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let asked = buf.len();
        let recv = |io: &net::TcpStream| sys::recv(io.as_fd(), buf, 0);
        let read = self.socket.run(Direction::Read, recv, |count| is_short(*count, asked));
        self.check_end(read, asked)
    }

    #[track_caller]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let asked = sys::usable(bufs).iter().map(|buf| buf.len()).sum();
        if asked == 0 {
            // readv(2) does not even look at the socket then.
            return self.socket.open().map(|_| 0);
        }
        let recv = |io: &net::TcpStream| sys::recv_vectored(io.as_fd(), bufs);
        let read = self.socket.run(Direction::Read, recv, |count| is_short(*count, asked));
        self.check_end(read, asked)
    }
}

impl Write for &TcpStream {
    #[inline]
    #[track_caller]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.send_all(buf.len(), |io, sent| sys::send(io.as_fd(), &buf[sent..]))
    }

    #[track_caller]
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = sys::usable(bufs);
        let total = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            // As for readv(2).
            return self.socket.open().map(|_| 0);
        }
        self.send_all(total, |io, sent| match position(bufs, sent) {
            (index, 0) => sys::send_vectored(io.as_fd(), &bufs[index..]),
            (index, offset) => sys::send(io.as_fd(), &bufs[index][offset..]),
        })
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// In which buffer, and where in it, the byte is before which there are `sent` others.
fn position(bufs: &[IoSlice<'_>], mut sent: usize) -> (usize, usize) {
    for (index, buf) in bufs.iter().enumerate() {
        if sent < buf.len() {
            return (index, sent);
        }
        sent -= buf.len();
    }
    (bufs.len(), 0)
}

impl Read for TcpStream {
    #[inline]
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    #[track_caller]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Write for TcpStream {
    #[inline]
    #[track_caller]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    #[track_caller]
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.get_ref().fmt(f)
    }
}

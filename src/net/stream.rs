//! [`TcpStream`].

#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::name::Name;
use super::options::common_options;
use super::resolve::{ToSocketAddrs, each_addr};
use super::socket::{Shared, Socket};
use super::streaming::read_and_write;
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
    /// While a name is looked up, other coroutines run: see [`ToSocketAddrs`].
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
        each_addr(addr, |addr| Self::connect_until(&addr, None))
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
        let name = Name::inet(addr);
        let io = net::TcpStream::from(sys::stream_socket(name.family())?);
        let adapter = Adapter::from_nonblocking(io);
        let mut begun = false;
        let connect = |io: &net::TcpStream| {
            loop {
                let error = match sys::connect(io.as_fd(), &name) {
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

    common_options!();

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
        self.socket.peek(buf)
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
}

read_and_write!(TcpStream);

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.get_ref().fmt(f)
    }
}

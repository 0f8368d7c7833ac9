//! [`TcpListener`].

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::net::{self, SocketAddr};

use super::TcpStream;
use super::acceptor::Acceptor;
use super::resolve::{ToSocketAddrs, each_addr};
use crate::rt;

/// A TCP server socket: `std::net::TcpListener`, but waiting for a connection lets other coroutines run.
///
/// It is closed when it is dropped. Several coroutines, on several threads, may accept from one listener
/// or from clones of it.
///
/// # Examples
/// ```no_run
/// use greenling::net::{TcpListener, TcpStream};
///
/// fn handle(mut stream: TcpStream) -> std::io::Result<()> {
///     std::io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
/// }
///
/// let listener = TcpListener::bind("127.0.0.1:7777")?;
/// for stream in listener.incoming() {
///     let stream = stream?;
///     greenling::spawn(move || handle(stream));
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # The non-blocking flag
/// accept(2) knows no `MSG_DONTWAIT`, so the open file has `O_NONBLOCK` while it belongs to this type,
/// whatever [`set_nonblocking`](Self::set_nonblocking) says; who borrows the descriptor sees that. Conversions into
/// std's listener or a descriptor set the flag to what the user has asked for.
///
/// The kernel keeps one flag for all clones. A clone of std's that was made before the conversion *from*
/// std becomes non-blocking with it. When a clone is converted *into* std's, the others go on working, at
/// the cost of one more system call for each `accept`; but if a thread that uses the converted one snatches away
/// the connection that they saw, they block their thread until the next connection.
pub struct TcpListener {
    pub(super) socket: Acceptor<net::TcpListener>,
}

impl TcpListener {
    /// Binds a socket to the first of the addresses for which that succeeds, and listens, exactly as std
    /// does (with `SO_REUSEADDR`, and std's backlog).
    ///
    /// Port 0 lets the system choose; [`local_addr`](Self::local_addr) tells.
    ///
    /// # Errors
    /// The error of the last address that was tried; `InvalidInput` if there is none; what
    /// the resolution says; what epoll_create1(2) says.
    ///
    /// # Examples
    /// ```
    /// let listener = greenling::net::TcpListener::bind("127.0.0.1:0")?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        // Its clients will make it wait: a lack of descriptors for that is to be found out here.
        rt::prepare_io()?;
        let io = each_addr(addr, net::TcpListener::bind)?;
        Ok(TcpListener { socket: Acceptor::bound(io)? })
    }

    pub(super) fn from_std(io: net::TcpListener) -> TcpListener {
        TcpListener { socket: Acceptor::from_std(io) }
    }

    pub(super) fn into_std(self) -> net::TcpListener {
        self.socket.into_std()
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.open()?.local_addr()
    }

    /// Another handle of the same listening socket, with a descriptor of its own (dup(2)). Each connection
    /// goes to one of those who accept.
    ///
    /// # Errors
    /// What fcntl(2) says: `EMFILE` when there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        let io = self.socket.open()?.try_clone()?;
        Ok(TcpListener { socket: self.socket.cloned(io) })
    }

    /// Waits for a connection, and returns it with the address of the other end.
    ///
    /// # Errors
    /// What accept4(2) says. A failure for want of descriptors (`EMFILE`, `ENFILE`) or memory comes at once,
    /// and leaves connections in the queue; the next call then first lets other coroutines run for 5 ms, so
    /// that a loop that just tries again leaves them the time to close something. `WouldBlock` if the
    /// user has asked for that.
    ///
    /// # Examples
    /// ```
    /// use greenling::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let (_stream, addr) = listener.accept()?;
    /// assert_eq!(addr, client.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, name) = self.socket.accept()?;
        let addr = name.to_inet()?;
        Ok((TcpStream::accepted(fd.into(), self.socket.shared().inherited()), addr))
    }

    /// An iterator over connections: `accept` without end.
    ///
    /// # Examples
    /// ```
    /// use greenling::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// for stream in listener.incoming().take(1) {
    ///     assert_eq!(stream?.peer_addr()?, client.local_addr()?);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Stops listening now and wakes whoever waits in [`accept`](Self::accept): those calls, and all later ones, fail with
    /// an error of the code `EBADF`.
    ///
    /// This is gevent's `socket.close`; std has no such thing. The socket is shut down, so that clones
    /// do not accept any more either (`InvalidInput`), new connections are refused, and those that nobody
    /// has accepted are reset. The descriptor itself is closed when the listener is dropped.
    ///
    /// # Examples
    /// ```
    /// use std::rc::Rc;
    /// use greenling::net::TcpListener;
    ///
    /// let listener = Rc::new(TcpListener::bind("127.0.0.1:0")?);
    /// let server = greenling::spawn({
    ///     let listener = listener.clone();
    ///     move || listener.incoming().map_while(Result::ok).count()
    /// });
    /// greenling::yield_now(); // the server waits now
    /// listener.close();
    /// assert_eq!(server.join().unwrap(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close(&self) {
        self.socket.close();
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

    /// Sets `IPV6_V6ONLY`, which always fails on a bound socket.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    #[deprecated(note = "this option can only be set before the socket is bound")]
    #[allow(deprecated)]
    pub fn set_only_v6(&self, only_v6: bool) -> io::Result<()> {
        self.socket.open()?.set_only_v6(only_v6)
    }

    /// The value of `IPV6_V6ONLY`.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    #[deprecated(note = "this option can only be set before the socket is bound")]
    #[allow(deprecated)]
    pub fn only_v6(&self) -> io::Result<bool> {
        self.socket.open()?.only_v6()
    }

    /// Takes the error that is pending on the socket (`SO_ERROR`).
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.open()?.take_error()
    }

    /// With `true`, `accept` returns `WouldBlock` instead of waiting, on all clones of the listener.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.get_ref().fmt(f)
    }
}

/// The connections of a [`TcpListener`], without end: see [`TcpListener::incoming`].
#[must_use = "iterators are lazy and do nothing unless consumed"]
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    #[track_caller]
    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for Incoming<'_> {}

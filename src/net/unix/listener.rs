//! [`UnixListener`].

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::UnixStream;
use crate::net::acceptor::Acceptor;
use crate::rt;

/// A server socket for processes of one machine: `std::os::unix::net::UnixListener`, but waiting for a
/// connection lets other coroutines run.
///
/// It is closed when it is dropped; the file at its path stays. All that is said of
/// [`TcpListener`](crate::net::TcpListener) holds for it too, also about the non-blocking flag.
///
/// # Examples
/// ```no_run
/// use greenling::os::unix::net::{UnixListener, UnixStream};
///
/// fn handle(mut stream: UnixStream) -> std::io::Result<()> {
///     std::io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
/// }
///
/// let listener = UnixListener::bind("/run/user/1000/echo")?;
/// for stream in &listener {
///     let stream = stream?;
///     greenling::spawn(move || handle(stream));
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixListener {
    pub(in crate::net) socket: Acceptor<net::UnixListener>,
}

impl UnixListener {
    /// Makes a socket at `path`, where nothing may be yet, and listens with std's backlog.
    ///
    /// # Errors
    /// `InvalidInput` if the path is too long or has a null byte in it; what bind(2) says: `AddrInUse` if
    /// there is something; what epoll_create1(2) says.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        UnixListener::bound(|| net::UnixListener::bind(path))
    }

    /// As [`bind`](Self::bind), for an address of a path or an abstract name.
    ///
    /// # Errors
    /// As for `bind`.
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<UnixListener> {
        UnixListener::bound(|| net::UnixListener::bind_addr(socket_addr))
    }

    fn bound(bind: impl FnOnce() -> io::Result<net::UnixListener>) -> io::Result<UnixListener> {
        // Its clients will make it wait: a lack of descriptors for that is to be found out here.
        rt::prepare_io()?;
        Ok(UnixListener { socket: Acceptor::bound(bind()?)? })
    }

    pub(in crate::net) fn from_std(io: net::UnixListener) -> UnixListener {
        UnixListener { socket: Acceptor::from_std(io) }
    }

    pub(in crate::net) fn into_std(self) -> net::UnixListener {
        self.socket.into_std()
    }

    /// Waits for a connection, and returns it with the address of the other end, which mostly has none.
    ///
    /// # Errors
    /// As for [`TcpListener::accept`](crate::net::TcpListener::accept).
    #[track_caller]
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (fd, name) = self.socket.accept()?;
        let addr = name.to_unix()?;
        Ok((UnixStream::with_shared(fd.into(), Arc::default()), addr))
    }

    /// Another handle of the same listening socket, with a descriptor of its own (dup(2)). Each connection
    /// goes to one of those who accept.
    ///
    /// # Errors
    /// What fcntl(2) says: `EMFILE` when there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<UnixListener> {
        let io = self.socket.open()?.try_clone()?;
        Ok(UnixListener { socket: self.socket.cloned(io) })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.open()?.local_addr()
    }

    /// With `true`, `accept` returns `WouldBlock` instead of waiting, on all clones of the listener.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    /// Takes the error that is pending on the socket (`SO_ERROR`).
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.open()?.take_error()
    }

    /// An iterator over connections: `accept` without end.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Stops listening now and wakes whoever waits in [`accept`](Self::accept): those calls, and all later
    /// ones, fail with an error of the code `EBADF`.
    ///
    /// See [`TcpListener::close`](crate::net::TcpListener::close).
    pub fn close(&self) {
        self.socket.close();
    }
}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.get_ref().fmt(f)
    }
}

impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = Incoming<'a>;

    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}

/// The connections of a [`UnixListener`], without end: see [`UnixListener::incoming`].
#[must_use = "iterators are lazy and do nothing unless consumed"]
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<UnixStream>;

    #[track_caller]
    fn next(&mut self) -> Option<io::Result<UnixStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

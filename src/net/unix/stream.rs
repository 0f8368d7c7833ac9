//! [`UnixStream`].

#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::net::name::Name;
use crate::net::options::common_options;
use crate::net::socket::{BackOff, Shared, Socket};
use crate::net::streaming::read_and_write;
use crate::net::sys;
use crate::rt::Direction;

/// A connection between processes of one machine: `std::os::unix::net::UnixStream`, but waiting lets other
/// coroutines run.
///
/// It is closed when it is dropped. All that is said of [`TcpStream`](crate::net::TcpStream) holds for it too.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use greenling::os::unix::net::UnixStream;
///
/// let (mut here, mut there) = UnixStream::pair()?;
/// let reader = greenling::spawn(move || {
///     let mut text = String::new();
///     there.read_to_string(&mut text).map(|_| text) // waits, others run
/// });
/// here.write_all(b"hello")?;
/// drop(here);
/// assert_eq!(reader.join().unwrap()?, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixStream {
    pub(in crate::net) socket: Socket<net::UnixStream>,
}

impl UnixStream {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// `InvalidInput` if the path is too long or has a null byte in it; what connect(2) says.
    #[track_caller]
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Connects to the socket of an address, of a path or an abstract name.
    ///
    /// While the listener's queue is full it tries again and again, in pauses of up to 32 ms: Linux has no
    /// event for that.
    ///
    /// # Errors
    /// What connect(2) says.
    ///
    /// # Examples
    /// ```
    /// use greenling::os::linux::net::SocketAddrExt;
    /// use greenling::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    ///
    /// let name = format!("greenling-doc-{}", std::process::id());
    /// let addr = SocketAddr::from_abstract_name(name)?;
    /// let _listener = UnixListener::bind_addr(&addr)?;
    /// let _stream = UnixStream::connect_addr(&addr)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn connect_addr(socket_addr: &SocketAddr) -> io::Result<UnixStream> {
        let name = Name::unix(socket_addr);
        let fd = sys::stream_socket(libc::AF_UNIX)?;
        let mut back_off = BackOff::default();
        while let Err(error) = sys::connect(fd.as_fd(), &name) {
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => _ = back_off.pause(None),
                _ => return Err(error),
            }
        }
        let io = net::UnixStream::from(fd);
        io.set_nonblocking(false)?;
        Ok(UnixStream::with_shared(io, Arc::default()))
    }

    /// Two streams that are connected to each other.
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (a, b) = net::UnixStream::pair()?;
        let new = |io| UnixStream::with_shared(io, Arc::default());
        Ok((new(a), new(b)))
    }

    pub(super) fn with_shared(io: net::UnixStream, shared: Arc<Shared>) -> UnixStream {
        UnixStream { socket: Socket::new(io, shared) }
    }

    pub(in crate::net) fn from_std(io: net::UnixStream) -> UnixStream {
        let shared = Arc::new(Shared::of(io.as_fd()));
        UnixStream::with_shared(io, shared)
    }

    pub(in crate::net) fn into_std(self) -> net::UnixStream {
        self.socket.into_parts().0
    }

    /// Another handle of the same connection, with a descriptor of its own (dup(2)). Options, among
    /// them time limits and the non-blocking mode, are common to both.
    ///
    /// # Errors
    /// What fcntl(2) says: `EMFILE` when there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<UnixStream> {
        let io = self.socket.open()?.try_clone()?;
        Ok(UnixStream::with_shared(io, self.socket.shared().clone()))
    }

    /// The address of this end.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.open()?.local_addr()
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// What getpeername(2) says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.open()?.peer_addr()
    }

    common_options!();

    /// Shuts down reading, writing, or both, for every clone of the stream. Whoever waits for that half
    /// goes on: a read returns 0, a write fails with `BrokenPipe`.
    ///
    /// # Errors
    /// What shutdown(2) says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.open()?.shutdown(how)
    }

    /// Ends the connection now, in both directions, and wakes whoever waits for this stream: their
    /// operations, and all later ones, fail with an error of the code `EBADF`.
    ///
    /// See [`TcpStream::close`](crate::net::TcpStream::close).
    pub fn close(&self) {
        self.socket.close();
    }
}

read_and_write!(UnixStream);

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.get_ref().fmt(f)
    }
}

//! [`UnixDatagram`].

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::net::name::Name;
use crate::net::options::common_options;
use crate::net::socket::{Shared, Socket};
use crate::rt::Direction;

/// A socket for datagrams between processes of one machine: `std::os::unix::net::UnixDatagram`, but waiting
/// lets other coroutines run.
///
/// It is closed when it is dropped; the file at its path stays. Nothing is lost: who sends waits while the
/// receiver's queue is full.
///
/// # Examples
/// ```
/// use greenling::os::unix::net::UnixDatagram;
///
/// let (here, there) = UnixDatagram::pair()?;
/// let reader = greenling::spawn(move || {
///     let mut datagram = [0; 64];
///     there.recv(&mut datagram).map(|len| datagram[..len].to_vec()) // waits, others run
/// });
/// here.send(b"hello")?;
/// assert_eq!(reader.join().unwrap()?, b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixDatagram {
    pub(in crate::net) socket: Socket<net::UnixDatagram>,
}

impl UnixDatagram {
    /// A socket at `path`, where nothing may be yet.
    ///
    /// # Errors
    /// `InvalidInput` if the path is too long or has a null byte in it; what bind(2) says.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        net::UnixDatagram::bind(path).map(UnixDatagram::new)
    }

    /// A socket that is bound to an address, of a path or an abstract name.
    ///
    /// # Errors
    /// What bind(2) says.
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<UnixDatagram> {
        net::UnixDatagram::bind_addr(socket_addr).map(UnixDatagram::new)
    }

    /// A socket without an address.
    ///
    /// # Errors
    /// What socket(2) says.
    pub fn unbound() -> io::Result<UnixDatagram> {
        net::UnixDatagram::unbound().map(UnixDatagram::new)
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (a, b) = net::UnixDatagram::pair()?;
        Ok((UnixDatagram::new(a), UnixDatagram::new(b)))
    }

    fn new(io: net::UnixDatagram) -> UnixDatagram {
        UnixDatagram { socket: Socket::new(io, Arc::default()) }
    }

    pub(in crate::net) fn from_std(io: net::UnixDatagram) -> UnixDatagram {
        let shared = Arc::new(Shared::of(io.as_fd()));
        UnixDatagram { socket: Socket::new(io, shared) }
    }

    pub(in crate::net) fn into_std(self) -> net::UnixDatagram {
        self.socket.into_parts().0
    }

    /// Makes the socket at `path` the one for [`send`](Self::send), and the only one to receive from.
    ///
    /// # Errors
    /// `InvalidInput` if the path is too long or has a null byte in it; what connect(2) says.
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.socket.open()?.connect(path)
    }

    /// As [`connect`](Self::connect), to an address.
    ///
    /// # Errors
    /// What connect(2) says.
    pub fn connect_addr(&self, socket_addr: &SocketAddr) -> io::Result<()> {
        self.socket.open()?.connect_addr(socket_addr)
    }

    /// Another handle of the same socket, with a descriptor of its own (dup(2)). Options, among them
    /// time limits and the non-blocking mode, are common to both.
    ///
    /// # Errors
    /// What fcntl(2) says: `EMFILE` when there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<UnixDatagram> {
        let io = self.socket.open()?.try_clone()?;
        Ok(UnixDatagram { socket: Socket::new(io, self.socket.shared().clone()) })
    }

    /// The address of this socket.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.open()?.local_addr()
    }

    /// The address that the socket is connected to.
    ///
    /// # Errors
    /// What getpeername(2) says: `NotConnected` if it is not.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.open()?.peer_addr()
    }

    /// Waits for a datagram and returns its length, and where it came from. What `buf` has no room for is
    /// lost.
    ///
    /// # Errors
    /// What recvfrom(2) says; `WouldBlock` when the time limit has passed.
    #[track_caller]
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, name) = self.socket.receive_from(buf, 0)?;
        Ok((len, name.to_unix()?))
    }

    /// Waits for a datagram and returns its length. What `buf` has no room for is lost.
    ///
    /// # Errors
    /// What recv(2) says; `WouldBlock` when the time limit has passed.
    #[track_caller]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.receive(buf, 0)
    }

    /// Sends a datagram to the socket at `path`. It waits while that one's queue is full.
    ///
    /// # Errors
    /// `InvalidInput` if the path is too long or has a null byte in it; what sendto(2) says.
    #[track_caller]
    pub fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        self.send_to_addr(buf, &SocketAddr::from_pathname(path)?)
    }

    /// As [`send_to`](Self::send_to), to an address.
    ///
    /// While the receiver's queue is full it tries again and again, in pauses of up to 32 ms: Linux has an
    /// event for that on sockets that are connected only.
    ///
    /// # Errors
    /// What sendto(2) says.
    #[track_caller]
    pub fn send_to_addr(&self, buf: &[u8], socket_addr: &SocketAddr) -> io::Result<usize> {
        self.socket.send_datagram_to(buf, &Name::unix(socket_addr))
    }

    /// Sends a datagram to the address that the socket is connected to. It waits while that one's queue is
    /// full.
    ///
    /// # Errors
    /// What send(2) says.
    #[track_caller]
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket.send_datagram(buf)
    }

    common_options!();

    /// Shuts down receiving, sending, or both, for every clone of the socket. Whoever waits to receive gets
    /// what has come, and then 0; sending fails with `BrokenPipe`.
    ///
    /// # Errors
    /// What shutdown(2) says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let io = self.socket.open()?;
        if how != Shutdown::Write {
            // Before the event, so that whoever is woken by it sees this.
            self.socket.shared().read_ended.store(true, Ordering::SeqCst);
        }
        io.shutdown(how)
    }

    /// Ends the use of this handle now and wakes whoever waits for it: their operations, and all later
    /// ones, fail with an error of the code `EBADF`.
    ///
    /// See [`UdpSocket::close`](crate::net::UdpSocket::close).
    pub fn close(&self) {
        self.socket.close_datagram();
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.get_ref().fmt(f)
    }
}

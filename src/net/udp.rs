//! [`UdpSocket`].

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::name::Name;
use super::options::common_options;
use super::resolve::{ToSocketAddrs, each_addr};
use super::socket::{Shared, Socket};
use crate::rt::{self, Direction};

/// A UDP socket: `std::net::UdpSocket`, but waiting lets other coroutines run.
///
/// It is closed when it is dropped. Several coroutines, on several threads, may use one socket or clones of
/// it; each datagram goes to one of those who receive.
///
/// # Examples
/// ```
/// use greenling::net::UdpSocket;
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let addr = server.local_addr()?;
/// let echo = greenling::spawn(move || -> std::io::Result<()> {
///     let mut datagram = [0; 1500];
///     let (len, peer) = server.recv_from(&mut datagram)?; // waits, others run
///     server.send_to(&datagram[..len], peer).map(drop)
/// });
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.connect(addr)?;
/// client.send(b"hello")?;
/// let mut answer = [0; 16];
/// assert_eq!(client.recv(&mut answer)?, 5);
/// # echo.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UdpSocket {
    pub(super) socket: Socket<net::UdpSocket>,
}

impl UdpSocket {
    /// A socket that is bound to the first of the addresses for which that succeeds.
    ///
    /// Port 0 lets the system choose; [`local_addr`](Self::local_addr) tells.
    ///
    /// # Errors
    /// The error of the last address that was tried; `InvalidInput` if there is none; what
    /// the resolution says; what epoll_create1(2) says.
    #[track_caller]
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        // It will have to wait: a lack of descriptors for that is to be found out here.
        rt::prepare_io()?;
        let io = each_addr(addr, net::UdpSocket::bind)?;
        Ok(UdpSocket { socket: Socket::new(io, Arc::default()) })
    }

    pub(super) fn from_std(io: net::UdpSocket) -> UdpSocket {
        let shared = Arc::new(Shared::of(io.as_fd()));
        UdpSocket { socket: Socket::new(io, shared) }
    }

    pub(super) fn into_std(self) -> net::UdpSocket {
        self.socket.into_parts().0
    }

    /// Waits for a datagram and returns its length, and where it came from. What `buf` has no room for is
    /// lost.
    ///
    /// # Errors
    /// What recvfrom(2) says; `WouldBlock` when the time limit has passed.
    #[track_caller]
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, name) = self.socket.receive_from(buf, 0)?;
        Ok((len, name.to_inet()?))
    }

    /// As [`recv_from`](Self::recv_from), but leaves the datagram in the socket.
    ///
    /// # Errors
    /// As for `recv_from`.
    #[track_caller]
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, name) = self.socket.receive_from(buf, libc::MSG_PEEK)?;
        Ok((len, name.to_inet()?))
    }

    /// Sends a datagram to the first of the addresses. It waits while the socket's own buffer is full.
    ///
    /// # Errors
    /// What sendto(2) says: `EMSGSIZE` if the datagram is too long; `InvalidInput` if there is no address;
    /// what the resolution says.
    #[track_caller]
    pub fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        match addr.to_socket_addrs()?.next() {
            Some(addr) => self.socket.send_datagram_to(buf, &Name::inet(&addr)),
            None => {
                let none = "no addresses to send data to";
                Err(io::Error::new(io::ErrorKind::InvalidInput, none))
            }
        }
    }

    /// The address that the socket is connected to.
    ///
    /// # Errors
    /// What getpeername(2) says: `NotConnected` if it is not.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.open()?.peer_addr()
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.open()?.local_addr()
    }

    /// Another handle of the same socket, with a descriptor of its own (dup(2)). Options, among them
    /// time limits and the non-blocking mode, are common to both.
    ///
    /// # Errors
    /// What fcntl(2) says: `EMFILE` when there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<UdpSocket> {
        let io = self.socket.open()?.try_clone()?;
        Ok(UdpSocket { socket: Socket::new(io, self.socket.shared().clone()) })
    }

    /// Makes an address the one for [`send`](Self::send), and the only one to receive from. Of several it
    /// is the first that can be reached.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind), with connect(2).
    #[track_caller]
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        let io = self.socket.open()?;
        each_addr(addr, |addr| io.connect(addr))
    }

    /// Sends a datagram to the address that the socket is connected to.
    ///
    /// # Errors
    /// What send(2) says: `EDESTADDRREQ` if it is not connected; `ConnectionRefused` if an earlier datagram
    /// found nobody.
    #[track_caller]
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket.send_datagram(buf)
    }

    /// Waits for a datagram and returns its length. What `buf` has no room for is lost.
    ///
    /// # Errors
    /// What recv(2) says: `ConnectionRefused` if an earlier datagram found nobody; `WouldBlock` when the
    /// time limit has passed.
    #[track_caller]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.receive(buf, 0)
    }

    /// As [`recv`](Self::recv), but leaves the datagram in the socket.
    ///
    /// # Errors
    /// As for `recv`.
    #[track_caller]
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.receive(buf, libc::MSG_PEEK)
    }

    /// Ends the use of this handle now and wakes whoever waits for it: their operations, and all later
    /// ones, fail with an error of the code `EBADF`.
    ///
    /// This is gevent's `socket.close`; std has no such thing. Clones are not concerned. The descriptor
    /// itself is closed when the socket is dropped.
    pub fn close(&self) {
        self.socket.close_datagram();
    }

    common_options!();

    /// Whether datagrams may be sent to broadcast addresses (`SO_BROADCAST`).
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.socket.open()?.set_broadcast(on)
    }

    /// The value of `SO_BROADCAST`.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.socket.open()?.broadcast()
    }

    /// Whether what is sent to a multicast group comes back to this host (`IP_MULTICAST_LOOP`).
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_multicast_loop_v4(&self, multicast_loop_v4: bool) -> io::Result<()> {
        self.socket.open()?.set_multicast_loop_v4(multicast_loop_v4)
    }

    /// The value of `IP_MULTICAST_LOOP`.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.socket.open()?.multicast_loop_v4()
    }

    /// How many hops datagrams to multicast groups may take (`IP_MULTICAST_TTL`).
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_multicast_ttl_v4(&self, multicast_ttl_v4: u32) -> io::Result<()> {
        self.socket.open()?.set_multicast_ttl_v4(multicast_ttl_v4)
    }

    /// The value of `IP_MULTICAST_TTL`.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.socket.open()?.multicast_ttl_v4()
    }

    /// Whether what is sent to a multicast group comes back to this host (`IPV6_MULTICAST_LOOP`).
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_multicast_loop_v6(&self, multicast_loop_v6: bool) -> io::Result<()> {
        self.socket.open()?.set_multicast_loop_v6(multicast_loop_v6)
    }

    /// The value of `IPV6_MULTICAST_LOOP`.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.socket.open()?.multicast_loop_v6()
    }

    /// How many hops datagrams may take (`IP_TTL`).
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

    /// Joins a multicast group on the interface with the given address (`IP_ADD_MEMBERSHIP`); with the
    /// unspecified address the system chooses.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn join_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.open()?.join_multicast_v4(multiaddr, interface)
    }

    /// Joins a multicast group on the interface with the given index (`IPV6_ADD_MEMBERSHIP`); 0 is any.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.open()?.join_multicast_v6(multiaddr, interface)
    }

    /// Leaves a group that was joined by [`join_multicast_v4`](Self::join_multicast_v4).
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn leave_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.open()?.leave_multicast_v4(multiaddr, interface)
    }

    /// Leaves a group that was joined by [`join_multicast_v6`](Self::join_multicast_v6).
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.open()?.leave_multicast_v6(multiaddr, interface)
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.get_ref().fmt(f)
    }
}

//! Sockets that are not TCP as sources of a server: this crate's, and std's own, made cooperative by
//! [`Adapter`].

#![forbid(unsafe_code)]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::{self as unix, UnixDatagram, UnixListener, UnixStream};

use super::{DatagramSocket, Listener};
use crate::io::Adapter;
use crate::net;
use crate::os::unix::net as own;

/// Unix sockets: `StreamServer::new(Adapter::new(UnixListener::bind(path)?)?, handler)`. The file is the
/// caller's to remove.
impl Listener for Adapter<UnixListener> {
    type Stream = Adapter<UnixStream>;
    type Addr = unix::SocketAddr;

    #[track_caller]
    fn accept(&self) -> io::Result<(Adapter<UnixStream>, unix::SocketAddr)> {
        let (stream, peer) = self.read_with(UnixListener::accept)?;
        Ok((Adapter::new(stream)?, peer))
    }

    fn local_addr(&self) -> io::Result<unix::SocketAddr> {
        self.get_ref().local_addr()
    }
}

impl DatagramSocket for Adapter<UdpSocket> {
    type Addr = SocketAddr;

    #[track_caller]
    fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.read_with(|socket| socket.recv_from(buf))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }
}

impl DatagramSocket for Adapter<UnixDatagram> {
    type Addr = unix::SocketAddr;

    #[track_caller]
    fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, unix::SocketAddr)> {
        self.read_with(|socket| socket.recv_from(buf))
    }

    fn local_addr(&self) -> io::Result<unix::SocketAddr> {
        self.get_ref().local_addr()
    }
}

/// The file at the listener's path is the caller's to remove.
impl Listener for own::UnixListener {
    type Stream = own::UnixStream;
    type Addr = unix::SocketAddr;

    #[track_caller]
    fn accept(&self) -> io::Result<(Self::Stream, unix::SocketAddr)> {
        self.accept()
    }

    fn local_addr(&self) -> io::Result<unix::SocketAddr> {
        self.local_addr()
    }
}

impl DatagramSocket for net::UdpSocket {
    type Addr = SocketAddr;

    #[track_caller]
    fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(buf)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl DatagramSocket for own::UnixDatagram {
    type Addr = unix::SocketAddr;

    #[track_caller]
    fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, unix::SocketAddr)> {
        self.recv_from(buf)
    }

    fn local_addr(&self) -> io::Result<unix::SocketAddr> {
        self.local_addr()
    }
}

//! Conversions between the sockets, std's and descriptors: the same for every kind of socket.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use super::unix::{UnixDatagram, UnixListener, UnixStream};
use super::{TcpListener, TcpStream, UdpSocket};

/// Builds the conversions that std has on those to and from std's own type.
macro_rules! conversions {
    ($($std:ident)::+, $socket:ident) => {
        /// Takes the socket over in the mode that it is in: `O_NONBLOCK` and its time limits.
        impl From<$($std)::+::$socket> for $socket {
            fn from(socket: $($std)::+::$socket) -> $socket {
                $socket::from_std(socket)
            }
        }

        /// Gives the socket away in the mode that its user has asked for. It is not shut down, even after
        /// `close`.
        impl From<$socket> for $($std)::+::$socket {
            fn from(socket: $socket) -> $($std)::+::$socket {
                socket.into_std()
            }
        }

        impl From<OwnedFd> for $socket {
            fn from(fd: OwnedFd) -> $socket {
                $socket::from_std(fd.into())
            }
        }

        impl From<$socket> for OwnedFd {
            fn from(socket: $socket) -> OwnedFd {
                socket.into_std().into()
            }
        }

        impl AsFd for $socket {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.socket.as_fd()
            }
        }

        impl AsRawFd for $socket {
            fn as_raw_fd(&self) -> RawFd {
                self.socket.as_raw_fd()
            }
        }

        impl FromRawFd for $socket {
            unsafe fn from_raw_fd(fd: RawFd) -> $socket {
                // SAFETY: the caller gives up an open descriptor that nobody else owns.
                unsafe { OwnedFd::from_raw_fd(fd) }.into()
            }
        }

        impl IntoRawFd for $socket {
            fn into_raw_fd(self) -> RawFd {
                self.into_std().into_raw_fd()
            }
        }
    };
}

conversions!(std::net, TcpListener);
conversions!(std::net, TcpStream);
conversions!(std::net, UdpSocket);
conversions!(std::os::unix::net, UnixDatagram);
conversions!(std::os::unix::net, UnixListener);
conversions!(std::os::unix::net, UnixStream);

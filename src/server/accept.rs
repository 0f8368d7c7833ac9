//! What a server accepts from, and what it does about errors.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::net::{TcpListener, TcpStream};

/// Where a [`StreamServer`](super::StreamServer) gets its connections from.
///
/// It is implemented for this crate's listeners, TCP and Unix, and for std's over Unix sockets in an
/// [`Adapter`](crate::io::Adapter). For another source implement it so that `accept` waits by
/// this crate's means, so that a server that stops can end the wait.
///
/// # Examples
/// A listener that speaks to one network only:
/// ```
/// use std::io;
/// use std::net::SocketAddr;
/// use greenling::net::{TcpListener, TcpStream};
/// use greenling::server::{Listener, StreamServer};
///
/// struct LoopbackOnly(TcpListener);
///
/// impl Listener for LoopbackOnly {
///     type Stream = TcpStream;
///     type Addr = SocketAddr;
///
///     fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
///         loop {
///             let (stream, peer) = self.0.accept()?;
///             if peer.ip().is_loopback() {
///                 return Ok((stream, peer));
///             }
///         }
///     }
///
///     fn local_addr(&self) -> io::Result<SocketAddr> {
///         self.0.local_addr()
///     }
/// }
///
/// let listener = LoopbackOnly(TcpListener::bind("127.0.0.1:0")?);
/// let server = StreamServer::new(listener, |_stream, _peer| Ok(()));
/// # Ok::<(), io::Error>(())
/// ```
pub trait Listener {
    /// A connection. It is closed when it is dropped.
    type Stream: 'static;
    /// The address of either end.
    type Addr: Clone + fmt::Debug + 'static;

    /// Waits for a connection, and returns it with the address of the other end.
    ///
    /// # Errors
    /// What accept4(2) says. The server goes by the code of the error: see the [module](super).
    fn accept(&self) -> io::Result<(Self::Stream, Self::Addr)>;

    /// The address that it listens on.
    ///
    /// # Errors
    /// What getsockname(2) says.
    fn local_addr(&self) -> io::Result<Self::Addr>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Addr = SocketAddr;

    #[track_caller]
    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        TcpListener::accept(self)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

/// What an error of `accept` or `recvfrom` means for those who come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// It was this one client's; the next may be fine.
    Passing,
    /// Something has run out, or is not understood. To try at once would only spin.
    Exhausted,
    /// The socket is useless.
    Fatal,
}

impl Severity {
    pub(super) fn of(error: &io::Error) -> Severity {
        match error.raw_os_error() {
            // accept(2): errors that are pending on the new connection come out of accept, "and should
            // be treated like EAGAIN by retrying". EPERM is the firewall's. A datagram socket reports
            // here that an earlier answer did not arrive.
            Some(
                libc::ECONNABORTED
                | libc::ECONNREFUSED
                | libc::ECONNRESET
                | libc::EINTR
                | libc::EPERM
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
                | libc::ETIMEDOUT,
            ) => Severity::Passing,
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT) => {
                Severity::Fatal
            }
            _ => Severity::Exhausted,
        }
    }
}

/// Ever longer pauses: 10 ms, doubling up to 1 s.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);

    pub(super) fn next(&mut self) -> Duration {
        let next = self.last.map_or(Backoff::FIRST, |last| (last * 2).min(Backoff::LONGEST));
        self.last = Some(next);
        next
    }

    pub(super) fn reset(&mut self) {
        self.last = None;
    }

    /// Whether the last attempt went well.
    pub(super) fn is_fresh(&self) -> bool {
        self.last.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_begin_anew() {
        let mut backoff = Backoff::default();
        let millis: Vec<_> = (0..9).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(millis, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.reset();
        assert!(backoff.is_fresh());
        assert_eq!(backoff.next().as_millis(), 10);
    }

    #[test]
    fn errors_are_told_apart_by_what_helps() {
        let severity = |code| Severity::of(&io::Error::from_raw_os_error(code));
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EAGAIN] {
            assert_eq!(severity(code), Severity::Exhausted);
        }
        for code in [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::EPERM] {
            assert_eq!(severity(code), Severity::Passing);
        }
        for code in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
            assert_eq!(severity(code), Severity::Fatal);
        }
        assert_eq!(Severity::of(&io::Error::other("who knows")), Severity::Exhausted);
    }
}

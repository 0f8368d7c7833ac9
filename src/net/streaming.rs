//! Reading from and writing to connections: the same for TCP and for Unix sockets.

#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd;

use super::socket::{LazyDeadline, Socket};
use super::sys;
use crate::rt::Direction;

/// What differs between the kinds of connections.
pub(super) trait Connection: AsFd {
    /// Whether a read that gives less than was asked for has emptied the socket.
    const SHORT_IS_EMPTY: bool;
    /// Whether the kernel keeps the error that ends a write which has sent something.
    const KEEPS_ERRORS: bool;
}

impl Connection for std::net::TcpStream {
    const SHORT_IS_EMPTY: bool = true;
    const KEEPS_ERRORS: bool = true;
}

impl Connection for std::os::unix::net::UnixStream {
    /// A read ends where the sender has passed descriptors.
    const SHORT_IS_EMPTY: bool = false;
    const KEEPS_ERRORS: bool = false;
}

impl<T: Connection> Socket<T> {
    #[inline]
    #[track_caller]
    pub(super) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let asked = buf.len();
        let recv = |io: &T| sys::recv(io.as_fd(), buf, 0);
        let read = self.run(Direction::Read, recv, |count| is_empty_after::<T>(*count, asked));
        self.check_end(read, asked)
    }

    #[track_caller]
    pub(super) fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let asked = sys::usable(bufs).iter().map(|buf| buf.len()).sum();
        if asked == 0 {
            // readv(2) does not even look at the socket then.
            return self.open().map(|_| 0);
        }
        let recv = |io: &T| sys::recv_vectored(io.as_fd(), bufs);
        let read = self.run(Direction::Read, recv, |count| is_empty_after::<T>(*count, asked));
        self.check_end(read, asked)
    }

    #[track_caller]
    pub(super) fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let asked = buf.len();
        let peek = |io: &T| sys::recv(io.as_fd(), buf, libc::MSG_PEEK);
        // However short, it leaves everything in the socket.
        let peeked = self.run(Direction::Read, peek, |_| false);
        self.check_end(peeked, asked)
    }

    #[inline]
    #[track_caller]
    pub(super) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.send_all(buf.len(), |io, sent| sys::send(io.as_fd(), &buf[sent..]))
    }

    #[track_caller]
    pub(super) fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = sys::usable(bufs);
        let total = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            // As for readv(2).
            return self.open().map(|_| 0);
        }
        self.send_all(total, |io, sent| match position(bufs, sent) {
            (index, 0) => sys::send_vectored(io.as_fd(), &bufs[index..]),
            (index, offset) => sys::send(io.as_fd(), &bufs[index][offset..]),
        })
    }

    /// Sends until all `total` bytes are with the kernel, as a blocking send(2) does. `send` is told how
    /// many have been sent.
    #[inline]
    #[track_caller]
    fn send_all(
        &self,
        total: usize,
        mut send: impl FnMut(&T, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut deadline = LazyDeadline::default();
        let mut sent = 0;
        loop {
            let op = |io: &T| send(io, sent);
            match self.run_until(Direction::Write, &mut deadline, op, |_| false) {
                Ok(count) => sent += count,
                Err(error) if sent > 0 => {
                    if T::KEEPS_ERRORS {
                        self.keep_for_later(&error);
                    }
                    return Ok(sent);
                }
                Err(error) => return Err(self.cause_of(error)),
            }
            if sent >= total || self.shared().is_nonblocking() {
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
            self.shared().set_pending_error(code);
        }
    }

    /// The error that broke the pipe, if that has not been reported.
    #[cold]
    fn cause_of(&self, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::BrokenPipe {
            return error;
        }
        self.shared().take_pending_error().unwrap_or(error)
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
        self.open()?;
        match self.shared().take_pending_error() {
            Some(error) => Err(error),
            None => Ok(0),
        }
    }
}

/// Whether a read that was asked for so many bytes has emptied the socket's buffer. The end of the
/// stream does not count: it is there for the next read as well, which has to find it.
#[inline]
fn is_empty_after<T: Connection>(count: usize, asked: usize) -> bool {
    T::SHORT_IS_EMPTY && 0 < count && count < asked
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

/// `Read` and `Write` of a connection, by value and by reference, as std has them.
macro_rules! read_and_write {
    ($stream:ident) => {
        impl Read for &$stream {
            #[inline]
            #[track_caller]
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.socket.read(buf)
            }

            #[track_caller]
            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.socket.read_vectored(bufs)
            }
        }

        impl Write for &$stream {
            #[inline]
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.socket.write(buf)
            }

            #[track_caller]
            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.socket.write_vectored(bufs)
            }

            #[inline]
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl Read for $stream {
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

        impl Write for $stream {
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
    };
}
pub(super) use read_and_write;

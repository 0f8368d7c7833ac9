//! What Linux has beyond the others, for `os::linux::net`.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use super::{TcpStream, sys};

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::TcpStream {}
}

/// What a [`TcpStream`] can do on Linux only: `std::os::linux::net::TcpStreamExt`, which std has from Rust 1.89
/// on, and which nobody else may implement. (std's own is the one for std's streams.)
pub trait TcpStreamExt: sealed::Sealed {
    /// Whether to acknowledge at once what comes (`TCP_QUICKACK`), instead of waiting for something to send
    /// along. The kernel takes it back by itself as it sees fit.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    ///
    /// # Examples
    /// ```
    /// use greenling::net::{TcpListener, TcpStream};
    /// use greenling::os::linux::net::TcpStreamExt;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_quickack(true)?;
    /// assert!(stream.quickack()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn set_quickack(&self, quickack: bool) -> io::Result<()>;

    /// The value of `TCP_QUICKACK`.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    fn quickack(&self) -> io::Result<bool>;
}

impl TcpStreamExt for TcpStream {
    fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        sys::set_quickack(self.socket.open()?.as_fd(), quickack)
    }

    fn quickack(&self) -> io::Result<bool> {
        sys::quickack(self.socket.open()?.as_fd())
    }
}

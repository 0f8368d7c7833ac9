//! The options that all connections and datagram sockets have, with std's methods.

#![forbid(unsafe_code)]

/// Defines the methods for the time limits, the pending error and the non-blocking mode of a type whose
/// `socket` is a [`Socket`](super::socket::Socket).
macro_rules! common_options {
    () => {
        /// How long receiving may wait: for ever by default. When the time is up, it fails with
        /// `WouldBlock`, as std's does on Linux.
        ///
        /// It costs nothing as long as nothing has to wait, and no system call then. A wait that has begun
        /// keeps the limit with which it began.
        ///
        /// # Errors
        /// `InvalidInput` for zero.
        ///
        /// # Examples
        /// ```
        /// use std::io::{ErrorKind, Read};
        /// use std::time::Duration;
        /// use greenling::net::{TcpListener, TcpStream};
        ///
        /// let listener = TcpListener::bind("127.0.0.1:0")?;
        /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
        /// stream.set_read_timeout(Some(Duration::from_millis(10)))?;
        /// let error = stream.read(&mut [0; 16]).unwrap_err();
        /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
        /// # Ok::<(), std::io::Error>(())
        /// ```
        pub fn set_read_timeout(&self, dur: Option<Duration>) -> io::Result<()> {
            self.socket.open()?.set_read_timeout(dur)?;
            self.socket.shared().set_timeout(Direction::Read, dur);
            Ok(())
        }

        /// How long sending may wait. If some of the data has been sent when the time is up, it returns
        /// how much; else it fails with `WouldBlock`.
        ///
        /// # Errors
        /// `InvalidInput` for zero.
        pub fn set_write_timeout(&self, dur: Option<Duration>) -> io::Result<()> {
            self.socket.open()?.set_write_timeout(dur)?;
            self.socket.shared().set_timeout(Direction::Write, dur);
            Ok(())
        }

        /// The limit of receiving, as the kernel has rounded it.
        ///
        /// # Errors
        /// What getsockopt(2) says.
        pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
            self.socket.open()?.read_timeout()
        }

        /// The limit of sending, as the kernel has rounded it.
        ///
        /// # Errors
        /// What getsockopt(2) says.
        pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
            self.socket.open()?.write_timeout()
        }

        /// Takes the error that is pending on the socket (`SO_ERROR`).
        ///
        /// # Errors
        /// What getsockopt(2) says.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> {
            let kernels = self.socket.open()?.take_error()?;
            Ok(kernels.or_else(|| self.socket.shared().take_pending_error()))
        }

        /// With `true`, operations that would wait return `WouldBlock` instead, on all clones.
        ///
        /// The flag is the user's alone: this crate never needs it to be set, and never sets it by itself.
        /// `O_NONBLOCK` of the descriptor is always what was asked for here.
        ///
        /// # Errors
        /// What ioctl(2) says.
        pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
            self.socket.open()?.set_nonblocking(nonblocking)?;
            self.socket.shared().set_nonblocking(nonblocking);
            Ok(())
        }
    };
}
pub(super) use common_options;

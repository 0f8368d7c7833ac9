//! Datagrams: the same for UDP and for Unix sockets.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use super::name::Name;
use super::socket::{BackOff, LazyDeadline, Socket};
use super::sys;
use crate::rt::{self, Direction};

impl<T: AsFd> Socket<T> {
    /// Receives a datagram, or with `MSG_PEEK` looks at it.
    #[track_caller]
    pub(super) fn receive(&self, buf: &mut [u8], flags: i32) -> io::Result<usize> {
        self.receive_with(0, |io| sys::recv(io.as_fd(), buf, flags))
    }

    /// As [`receive`](Self::receive), and who has sent it.
    #[track_caller]
    pub(super) fn receive_from(&self, buf: &mut [u8], flags: i32) -> io::Result<(usize, Name)> {
        self.receive_with((0, Name::none()), |io| sys::recv_from(io.as_fd(), buf, flags))
    }

    /// `end` is what a socket gives that has been shut down for reading.
    #[track_caller]
    fn receive_with<R>(
        &self,
        end: R,
        mut receive: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let receive = |io: &T| match receive(io) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.has_ended() => Ok(None),
            received => received.map(Some),
        };
        let received = self.run_datagram(Direction::Read, &mut LazyDeadline::default(), receive)?;
        Ok(received.unwrap_or(end))
    }

    /// Whether a socket in blocking mode does not wait for more. (In the other one it says `WouldBlock` all
    /// the same.)
    fn has_ended(&self) -> bool {
        self.shared().read_ended.load(Ordering::SeqCst) && !self.shared().is_nonblocking()
    }

    /// Sends a datagram to whom the socket is connected to.
    #[track_caller]
    pub(super) fn send_datagram(&self, buf: &[u8]) -> io::Result<usize> {
        self.send_with(|io| sys::send(io.as_fd(), buf))
    }

    #[track_caller]
    pub(super) fn send_datagram_to(&self, buf: &[u8], to: &Name) -> io::Result<usize> {
        self.send_with(|io| sys::send_to(io.as_fd(), buf, to))
    }

    #[track_caller]
    fn send_with(&self, mut send: impl FnMut(&T) -> io::Result<usize>) -> io::Result<usize> {
        let mut deadline = LazyDeadline::default();
        let mut back_off = BackOff::default();
        // What makes the socket writable is no news while it is: then it is the receiver whose queue is full.
        let mut send = |io: &T| match send(io) {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    && rt::is_ready(io.as_fd(), Direction::Write)? =>
            {
                Ok(None)
            }
            sent => sent.map(Some),
        };
        loop {
            match self.run_datagram(Direction::Write, &mut deadline, &mut send)? {
                Some(sent) => return Ok(sent),
                None => self.back_off(&mut back_off, &mut deadline)?,
            }
        }
    }
}

//! Accepting connections: the same for TCP and for Unix sockets.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::name::Name;
use super::socket::{Shared, Socket};
use super::sys;
use crate::rt::{self, Deadline, Direction};

/// How long `accept` lets the others run when descriptors or memory were exhausted at the last call.
const BREATHER: Duration = Duration::from_millis(5);

/// A listener of std's that has `O_NONBLOCK` as long as it is here.
pub(super) struct Acceptor<T: AsFd> {
    socket: Socket<T>,
    /// Whether the last `accept` failed for want of descriptors or memory.
    exhausted: AtomicBool,
}

impl<T: AsFd> Acceptor<T> {
    /// For a socket that has just been bound.
    pub(super) fn bound(io: T) -> io::Result<Acceptor<T>> {
        rt::set_nonblocking(io.as_fd(), true)?;
        Ok(Acceptor::with_shared(io, Arc::default()))
    }

    /// `io` has O_NONBLOCK.
    fn with_shared(io: T, shared: Arc<Shared>) -> Acceptor<T> {
        Acceptor { socket: Socket::new(io, shared), exhausted: AtomicBool::new(false) }
    }

    /// `io` is a duplicate of this one's.
    pub(super) fn cloned(&self, io: T) -> Acceptor<T> {
        Acceptor::with_shared(io, self.shared().clone())
    }

    pub(super) fn from_std(io: T) -> Acceptor<T> {
        let shared = Arc::new(Shared::of(io.as_fd()));
        if rt::set_nonblocking(io.as_fd(), true).is_err() {
            // Not a descriptor at all; but if it were, accept must find out before it blocks.
            shared.given_away.store(true, Ordering::Relaxed);
        }
        Acceptor::with_shared(io, shared)
    }

    pub(super) fn into_std(self) -> T {
        let (io, shared) = self.socket.into_parts();
        if Arc::strong_count(&shared) > 1 {
            shared.given_away.store(true, Ordering::SeqCst);
        }
        if !shared.is_nonblocking() {
            // It fails for what is no descriptor only, and std's listener will say that.
            let _ = rt::set_nonblocking(io.as_fd(), false);
        }
        io
    }

    #[track_caller]
    pub(super) fn accept(&self) -> io::Result<(OwnedFd, Name)> {
        let shared = self.shared();
        if self.exhausted.load(Ordering::Relaxed) && !shared.is_nonblocking() {
            rt::sleep(Deadline::after(BREATHER));
        }
        let accept = |io: &T| {
            let fd = io.as_fd();
            if shared.given_away.load(Ordering::SeqCst) && !rt::is_ready(fd, Direction::Read)? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            sys::accept(fd)
        };
        let accepted = self.run(Direction::Read, accept, |_| false);
        let exhausted = accepted.as_ref().is_err_and(is_exhaustion);
        if exhausted != self.exhausted.load(Ordering::Relaxed) {
            self.exhausted.store(exhausted, Ordering::Relaxed);
        }
        accepted
    }

    pub(super) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        let io = self.open()?;
        if self.shared().given_away.load(Ordering::SeqCst) {
            rt::set_nonblocking(io.as_fd(), nonblocking)?;
        }
        self.shared().set_nonblocking(nonblocking);
        Ok(())
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

impl<T: AsFd> Deref for Acceptor<T> {
    type Target = Socket<T>;

    fn deref(&self) -> &Socket<T> {
        &self.socket
    }
}

impl<T: AsFd> AsFd for Acceptor<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<T: AsFd> AsRawFd for Acceptor<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

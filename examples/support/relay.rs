//! Two connections made one: what comes from either goes to the other.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use greenling::event::Event;
use greenling::net::TcpStream;
use greenling::scope;

/// What is read at once, and thereby all that is held back when the other side is slow: the coroutine
/// reads no more until it is sent, and the kernel's flow control does the rest.
const BUFFER: usize = 32 * 1024;

/// How many bytes went each way.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) there: Cell<u64>,
    pub(crate) back: Cell<u64>,
}

/// What both directions of a connection know.
struct Shared {
    idle: Option<Duration>,
    /// When something last went either way.
    last: Cell<Instant>,
    /// How many directions are still open.
    open: Cell<u32>,
    failure: Cell<Option<io::Error>>,
    over: Event,
}

/// Carries bytes both ways until both sides have sent their end, or one fails, or nothing has moved for
/// `idle`.
///
/// An end is passed on as an end of that direction only, for the other may go on. A failure is passed on
/// as a reset, so that nobody takes half an answer for a whole one.
pub(crate) fn relay(
    near: &TcpStream,
    far: &TcpStream,
    idle: Option<Duration>,
    counts: &Counts,
) -> io::Result<()> {
    for stream in [near, far] {
        stream.set_read_timeout(idle)?;
        stream.set_write_timeout(idle)?;
        // It is no business of a relay to hold back what was sent.
        stream.set_nodelay(true)?;
    }
    let shared = Shared {
        idle,
        last: Cell::new(Instant::now()),
        open: Cell::new(2),
        failure: Cell::new(None),
        over: Event::new(),
    };
    scope(|scope| {
        let there = scope.spawn(|| shared.run(near, far, &counts.there));
        let back = scope.spawn(|| shared.run(far, near, &counts.back));
        shared.over.wait();
        there.kill();
        back.kill();
    });
    match shared.failure.take() {
        None => Ok(()),
        Some(error) => {
            if error.kind() != ErrorKind::TimedOut {
                reset_on_close(near)?;
                reset_on_close(far)?;
            }
            Err(error)
        }
    }
}

impl Shared {
    /// One direction, and what its end means for the other.
    fn run(&self, from: &TcpStream, to: &TcpStream, count: &Cell<u64>) {
        if self.copy(from, to, count) {
            self.open.set(self.open.get() - 1);
            if self.open.get() == 0 {
                self.over.set();
            }
        }
    }

    /// Whether it came to its end. If not, everything ends.
    fn copy(&self, from: &TcpStream, to: &TcpStream, count: &Cell<u64>) -> bool {
        match self.copy_all(from, to, count) {
            Ok(()) => true,
            Err(error) => {
                self.failure.set(Some(error));
                self.over.set();
                false
            }
        }
    }

    fn copy_all(
        &self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        count: &Cell<u64>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) => {
                    from.set_read_timeout(Some(self.time_left(error)?))?;
                    continue;
                }
            };
            self.last.set(Instant::now());
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                match to.write(rest) {
                    Ok(written) => {
                        self.last.set(Instant::now());
                        count.set(count.get() + written as u64);
                        rest = &rest[written..];
                    }
                    Err(error) => to.set_write_timeout(Some(self.time_left(error)?))?,
                }
            }
        }
        match to.shutdown(Shutdown::Write) {
            // Whoever is gone already does not miss it; the other direction will tell.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            ended => ended,
        }
    }

    /// A wait has timed out: how long it may go on because the other direction was not idle.
    fn time_left(&self, error: io::Error) -> io::Result<Duration> {
        match self.idle {
            Some(idle) if error.kind() == ErrorKind::WouldBlock => idle
                .checked_sub(self.last.get().elapsed())
                .filter(|left| !left.is_zero())
                .ok_or_else(|| ErrorKind::TimedOut.into()),
            _ => Err(error),
        }
    }
}

/// Makes the end of the connection an abortion, which its other end cannot take for a regular one.
pub(crate) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    let option = (&raw const linger).cast();
    // SAFETY: the kernel reads a valid `linger` of the size that it is told.
    let set = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, option, size)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

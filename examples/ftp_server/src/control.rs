//! The control connection: lines in, replies out.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use greenling::net::TcpStream;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::line::{Line, LineReader};

/// How long a client may leave a reply unread once its socket buffers are full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Control {
    stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    input: RefCell<LineReader>,
    /// The server ends: `hang_up` was called, and the end of input is not the client's doing.
    hung_up: Cell<bool>,
}

/// What came of waiting for a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Line(Line),
    /// The client has closed the connection, or it broke.
    End,
    /// Nothing has come in time.
    TimedOut,
    /// The server ends.
    HungUp,
}

impl Control {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Control> {
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        // Clients send the last byte of ABOR as urgent data, which would be taken out of the line.
        rustix::net::sockopt::set_socket_oobinline(&stream, true)?;
        let (input, hung_up) = (RefCell::default(), Cell::new(false));
        Ok(Control { stream, peer, local, input, hung_up })
    }

    /// The client's address; the only one that may open or receive data connections.
    pub(crate) fn peer_ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// Waits for a line. `limit` is for all of it, so that a byte now and then does not keep a
    /// connection open.
    pub(crate) fn read_line(&self, limit: Option<Duration>) -> Input {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            if self.hung_up.get() {
                return Input::HungUp;
            }
            if let Some(line) = self.input.borrow_mut().next() {
                return Input::Line(line);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Input::TimedOut;
            }
            let mut bytes = [0; 1024];
            let read = self.stream.set_read_timeout(left).and_then(|()| {
                let mut stream = &self.stream;
                stream.read(&mut bytes)
            });
            match read {
                Ok(0) if self.hung_up.get() => return Input::HungUp,
                Ok(0) => return Input::End,
                Ok(n) => self.input.borrow_mut().push(&bytes[..n]),
                Err(error) if is_timeout(&error) => return Input::TimedOut,
                Err(_) => return Input::End,
            }
        }
    }

    /// Makes `read_line` say `HungUp`, now and from now on. What is running goes on and can reply.
    pub(crate) fn hang_up(&self) {
        self.hung_up.set(true);
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Whether the client has closed the connection, as far as is known without waiting.
    pub(crate) fn has_ended(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(&self.stream, &mut [0; 1][..], flags);
        let waits = [Err(Errno::AGAIN), Err(Errno::INTR)];
        let peeked = peeked.map(|(n, _)| n);
        !self.hung_up.get() && !waits.contains(&peeked) && !matches!(peeked, Ok(1..))
    }

    /// Sends a reply of one line.
    pub(crate) fn reply(&self, code: u16, text: impl AsRef<[u8]>) -> io::Result<()> {
        let line = [code.to_string().as_bytes(), b" ", text.as_ref(), b"\r\n"].concat();
        (&self.stream).write_all(&line)
    }

    /// Sends a reply of several lines. Those in the middle are indented, so that none is taken for
    /// the last.
    pub(crate) fn reply_lines<L: AsRef<[u8]>>(
        &self,
        code: u16,
        first: &str,
        lines: impl IntoIterator<Item = L>,
        last: &str,
    ) -> io::Result<()> {
        let mut reply = format!("{code}-{first}\r\n").into_bytes();
        for line in lines {
            reply.push(b' ');
            reply.extend_from_slice(line.as_ref());
            reply.extend_from_slice(b"\r\n");
        }
        reply.extend_from_slice(format!("{code} {last}\r\n").as_bytes());
        (&self.stream).write_all(&reply)
    }
}

/// std's sockets say `WouldBlock` when a time limit passes, and so do greenling's.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

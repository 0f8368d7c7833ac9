//! The limit: two system calls for an echo, and one `epoll_wait` for all that are ready at once.
//!
//! Registered once, edge-triggered. After a short read the socket is known to be empty, and the next
//! edge will say when it no longer is, so there is no third call that only fetches EAGAIN. But when
//! the peer has hung up there may be no further edge: that is remembered for good, and such a socket
//! is read to its end.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::sys::{Epoll, HANG_UP, READABLE, WRITABLE, event_buffer};

/// What the listener is registered as.
const LISTENER: u64 = u64::MAX;
/// With `corrupt`, every how many-th answer is wrong.
const CORRUPT_EVERY: u64 = 1000;

struct Connection {
    stream: TcpStream,
    /// Sticky: EPOLLRDHUP, EPOLLHUP or EPOLLERR was seen.
    hung_up: bool,
    /// Read, but not written yet: the peer does not take it. Nothing is read until it is gone.
    pending: Vec<u8>,
}

struct Server {
    listener: TcpListener,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    corrupt: bool,
    answers: u64,
}

pub(super) fn serve(listener: TcpListener, corrupt: bool) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER)?;
    let (connections, free) = (Vec::new(), Vec::new());
    let mut server = Server { listener, epoll, connections, free, corrupt, answers: 0 };
    let mut buffer = event_buffer();
    loop {
        for event in server.epoll.wait(&mut buffer, None)? {
            let (happened, data) = (event.events, event.u64);
            match data {
                LISTENER => server.accept()?,
                _ => server.ready(data as usize, happened),
            }
        }
    }
}

impl Server {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll.add(&stream, index as u64)?;
            let connection = Connection { stream, hung_up: false, pending: Vec::new() };
            self.connections[index] = Some(connection);
        }
    }

    fn ready(&mut self, index: usize, happened: u32) {
        // Gone already, if it was closed earlier in this batch.
        let Some(connection) = &mut self.connections[index] else { return };
        connection.hung_up |= happened & HANG_UP != 0;
        let wanted = if connection.pending.is_empty() { READABLE } else { WRITABLE | HANG_UP };
        if happened & wanted == 0 {
            return;
        }
        let corrupt = self.corrupt.then_some(&mut self.answers);
        match connection.echo(corrupt) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // At the end of input, or broken.
            Ok(()) | Err(_) => {
                self.connections[index] = None;
                self.free.push(index);
            }
        }
    }
}

impl Connection {
    /// Echoes until the socket has no more (`WouldBlock`) or has ended (`Ok`).
    fn echo(&mut self, mut corrupt: Option<&mut u64>) -> io::Result<()> {
        self.flush()?;
        let mut buffer = [0; 4096];
        loop {
            let length = self.stream.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            if let Some(answers) = &mut corrupt {
                **answers += 1;
                if **answers % CORRUPT_EVERY == 0 {
                    buffer[length - 1] ^= 1;
                }
            }
            let written = match self.stream.write(&buffer[..length]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                result => result?,
            };
            if written < length {
                self.pending.extend(&buffer[written..length]);
                self.flush()?;
            }
            if length < buffer.len() && !self.hung_up {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let written = self.stream.write(&self.pending)?;
            self.pending.drain(..written);
        }
        Ok(())
    }
}

//! The limit: two system calls for a request, and one `epoll_wait` for all that are ready at once.
//!
//! Registered once, edge-triggered. After a short read the socket is known to be empty, and the next edge will
//! say when it no longer is. When the peer has hung up there may be no further edge: that is remembered
//! for good, and such a socket is read to its end.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::hello;
use crate::sys::{Epoll, HANG_UP, READABLE, WRITABLE, event_buffer};

/// What the listener is registered as.
const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// Sticky: EPOLLRDHUP, EPOLLHUP or EPOLLERR was seen.
    hung_up: bool,
    /// The beginning of a request.
    partial: Vec<u8>,
    /// Answers that the peer does not take yet. Nothing is read until they are gone.
    pending: Vec<u8>,
}

struct Server {
    listener: TcpListener,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    output: Vec<u8>,
}

pub(super) fn serve(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER)?;
    let (connections, free, output) = (Vec::new(), Vec::new(), Vec::new());
    let mut server = Server { listener, epoll, connections, free, output };
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
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll.add(&stream, index as u64)?;
            let (partial, pending) = (Vec::new(), Vec::new());
            self.connections[index] = Some(Connection { stream, hung_up: false, partial, pending });
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
        match connection.serve(&mut self.output) {
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
    /// Answers until the socket has no more (`WouldBlock`) or has ended (`Ok`).
    fn serve(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        self.flush()?;
        let mut buffer = [0; 2048];
        loop {
            let length = self.stream.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            output.clear();
            if self.partial.is_empty() {
                let used = hello::answer_all(&buffer[..length], output)?;
                self.partial.extend_from_slice(&buffer[used..length]);
            } else {
                self.partial.extend_from_slice(&buffer[..length]);
                let used = hello::answer_all(&self.partial, output)?;
                self.partial.drain(..used);
            }
            if !output.is_empty() {
                let written = match self.stream.write(output) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    result => result?,
                };
                self.pending.extend_from_slice(&output[written..]);
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

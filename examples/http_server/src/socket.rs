//! A connection, with or without TLS, with time limits.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenling::io::Adapter;
use greenling::threadpool::unblock;
use rustls::{ServerConnection, StreamOwned};

use crate::cached::is_cached;
use crate::sys;

/// How much of a file is sent at a time.
const PIECE: usize = 512 * 1024;
/// How much of it is read at a time where it has to be.
const BUFFER: usize = 128 * 1024;

/// The socket itself. It is in non-blocking mode, for sendfile(2) has no flag to ask for that; and it waits
/// by greenling's adapter.
pub(crate) struct Socket {
    io: Adapter<TcpStream>,
    /// By when what is read has to come.
    read_by: Cell<Option<Instant>>,
    /// How long the client may take to make room for more.
    patience: Duration,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, patience: Duration) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        Ok(Socket { io: Adapter::new(stream)?, read_by: Cell::new(None), patience })
    }

    pub(crate) fn read_by(&self, deadline: Instant) {
        self.read_by.set(Some(deadline));
    }

    /// What is read from now on comes to an end, also for somebody who is waiting for it.
    pub(crate) fn stop_reading(&self) {
        // It fails if the client has gone, which is the same.
        let _ = self.io.get_ref().shutdown(Shutdown::Read);
    }

    fn stop_writing(&self) {
        let _ = self.io.get_ref().shutdown(Shutdown::Write);
    }

    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self.read_by.get() {
            Some(deadline) => self.io.read_with_deadline(deadline, |mut io| io.read(buf)),
            None => self.io.read_with(|mut io| io.read(buf)),
        }
    }

    fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let deadline = Instant::now() + self.patience;
        self.io.write_with_deadline(deadline, |io| sys::send(io, bytes, more))
    }

    fn send_file(&self, file: &File, start: u64, length: usize) -> io::Result<usize> {
        let deadline = Instant::now() + self.patience;
        self.io.write_with_deadline(deadline, |io| sys::send_file(io, file, start, length))
    }
}

/// Whether to read there might wait for the disk, and with the thread all clients.
fn would_wait(file: &File, at: u64, length: usize) -> bool {
    is_cached(file, at, length as u64) == Some(false)
}

/// Reads a file piece by piece, and waits for the disk on another thread.
struct Reader<'a> {
    file: &'a File,
    /// For that thread.
    copy: Option<Arc<File>>,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    /// At most `length` bytes from there.
    fn read(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let mut buffer = mem::take(&mut self.buffer);
        buffer.resize(length, 0);
        let count = if would_wait(self.file, at, length) {
            let copy = match &self.copy {
                Some(copy) => copy,
                None => self.copy.insert(Arc::new(self.file.try_clone()?)),
            };
            let copy = Arc::clone(copy);
            let count;
            (count, buffer) = unblock(move || (copy.read_at(&mut buffer, at), buffer));
            count?
        } else {
            self.file.read_at(&mut buffer, at)?
        };
        buffer.truncate(count);
        self.buffer = buffer;
        Ok(&self.buffer)
    }
}

/// What rustls reads and writes.
pub(crate) struct Shared(Rc<Socket>);

impl Read for Shared {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.receive(buf)
    }
}

impl Write for Shared {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.send(buf, false)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection.
pub(crate) enum Stream {
    Plain(Rc<Socket>),
    Tls(Rc<Socket>, Box<StreamOwned<ServerConnection, Shared>>),
}

impl Stream {
    pub(crate) fn plain(socket: Socket) -> Stream {
        Stream::Plain(Rc::new(socket))
    }

    /// Shakes hands.
    pub(crate) fn tls(socket: Socket, connection: ServerConnection) -> io::Result<Stream> {
        let socket = Rc::new(socket);
        let mut stream = StreamOwned::new(connection, Shared(socket.clone()));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Stream::Tls(socket, Box::new(stream)))
    }

    pub(crate) fn socket(&self) -> &Rc<Socket> {
        match self {
            Stream::Plain(socket) | Stream::Tls(socket, _) => socket,
        }
    }

    pub(crate) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.receive(buf),
            Stream::Tls(_, tls) => match tls.read(buf) {
                // Who ends the connection without saying so can cut nothing short here: a request has an end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                result => result,
            },
        }
    }

    /// Sends everything; with `more`, the kernel may wait for what follows.
    pub(crate) fn send(&mut self, mut bytes: &[u8], more: bool) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => {
                while !bytes.is_empty() {
                    let sent = socket.send(bytes, more)?;
                    bytes = &bytes[sent..];
                }
                Ok(())
            }
            Stream::Tls(_, tls) => {
                tls.write_all(bytes)?;
                if more { Ok(()) } else { tls.flush() }
            }
        }
    }

    /// Sends a part of a file, and counts what was sent in `sent`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file has become shorter; what the socket or the file says.
    pub(crate) fn send_file(
        &mut self,
        file: &File,
        start: u64,
        length: u64,
        sent: &mut u64,
    ) -> io::Result<()> {
        let mut reader = Reader { file, copy: None, buffer: Vec::new() };
        let (mut at, end) = (start, start + length);
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let count = match self {
                Stream::Plain(socket) if !would_wait(file, at, left.min(PIECE)) => {
                    socket.send_file(file, at, left.min(PIECE))?
                }
                _ => {
                    let piece = reader.read(at, left.min(BUFFER))?;
                    // Nothing follows the last one, for which the kernel would wait in vain.
                    self.send(piece, piece.len() < left)?;
                    piece.len()
                }
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += count as u64;
            *sent += count as u64;
        }
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(_, tls) => tls.flush(),
        }
    }

    /// Says goodbye.
    pub(crate) fn finish(&mut self) {
        if let Stream::Tls(_, tls) = self {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
    }

    /// Says goodbye to somebody who is still sending. To close at once would reset the connection, and a
    /// client that is reset may never see the answer that was sent before (RFC 9112, 9.6).
    pub(crate) fn finish_slowly(&mut self, limit: Duration) {
        self.finish();
        let socket = self.socket();
        socket.stop_writing();
        socket.read_by(Instant::now() + limit);
        let mut sink = [0; 4096];
        let mut left: usize = 1 << 20;
        while let Ok(count @ 1..) = socket.receive(&mut sink) {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    }
}

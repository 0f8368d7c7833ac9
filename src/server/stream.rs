//! [`StreamServer`].

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::accept::Listener;
use super::core::{Core, Handle, has_stopped};
use super::stats::Stats;
use crate::net::{TcpListener, ToSocketAddrs};
use crate::time;

/// How long wrapping a connection may take, unless the server was told otherwise.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A server that gives each connection a coroutine, which calls the handler. (`gevent.server.StreamServer`.)
///
/// The handler gets the connection and the address of the client, and owns the connection: it is closed
/// when the handler returns, fails or panics, unless the handler has given it to somebody else.
///
/// The server belongs to the thread that starts it, and so the handler need not be `Send`: what
/// connections share can be an `Rc<RefCell<…>>`. Whoever is elsewhere uses its [`Handle`]. When the
/// server is dropped, it stops with its own [`grace`](Self::grace), without being waited for.
///
/// # Examples
/// ```no_run
/// use std::io::{BufRead, BufReader, Write};
/// use std::time::Duration;
/// use greenling::server::StreamServer;
///
/// StreamServer::bind("127.0.0.1:7000", |mut stream, peer| {
///     stream.set_read_timeout(Some(Duration::from_secs(60)))?; // of silence
///     let mut lines = BufReader::new(stream.try_clone()?).lines();
///     while let Some(line) = lines.next().transpose()? {
///         writeln!(stream, "{peer} said {line}")?;
///     }
///     Ok(())
/// })?
/// .max_clients(1000)
/// .deadline(Duration::from_secs(3600))
/// .serve_forever()
/// # ?; Ok::<(), std::io::Error>(())
/// ```
pub struct StreamServer<L: Listener> {
    core: Rc<Core>,
    shared: Rc<Shared<L>>,
}

type Handler<L> = dyn Fn(<L as Listener>::Stream, <L as Listener>::Addr) -> io::Result<()>;

struct Shared<L: Listener> {
    /// Gone when the server has stopped.
    listener: RefCell<Option<Rc<L>>>,
    handler: Rc<Handler<L>>,
    handshake: Rc<Cell<Duration>>,
}

impl StreamServer<TcpListener> {
    /// A server over TCP, on the first of the addresses that can be bound. Clients can connect from now on;
    /// they are served when it is [started](Self::start).
    ///
    /// # Errors
    /// As for [`TcpListener::bind`].
    ///
    /// # Examples
    /// ```
    /// use greenling::server::StreamServer;
    ///
    /// let server = StreamServer::bind("127.0.0.1:0", |_stream, _peer| Ok(()))?;
    /// assert_ne!(server.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind(
        addr: impl ToSocketAddrs,
        handler: impl Fn(crate::net::TcpStream, std::net::SocketAddr) -> io::Result<()> + 'static,
    ) -> io::Result<StreamServer<TcpListener>> {
        Ok(StreamServer::new(TcpListener::bind(addr)?, handler))
    }
}

impl<L: Listener + 'static> StreamServer<L> {
    /// A server over a listener that was made elsewhere, of any kind.
    pub fn new(
        listener: L,
        handler: impl Fn(L::Stream, L::Addr) -> io::Result<()> + 'static,
    ) -> StreamServer<L> {
        StreamServer::with_handler(listener, Rc::new(handler), Rc::new(Cell::new(HANDSHAKE)))
    }

    /// A server whose connections are wrapped before the handler gets them: in TLS, for example.
    ///
    /// `wrap` runs in the connection's coroutine, so that a handshake makes nobody else wait; it has to
    /// end within the [`handshake_timeout`](Self::handshake_timeout). A connection whose wrapping fails is
    /// closed and counted in [`Stats::failed`].
    ///
    /// # Examples
    /// ```
    /// use std::io::{self, BufReader, Read, Write};
    /// use greenling::net::{TcpListener, TcpStream};
    /// use greenling::server::StreamServer;
    ///
    /// // Lets in those only who know the word.
    /// fn wrap(mut stream: TcpStream) -> io::Result<BufReader<TcpStream>> {
    ///     let mut word = [0; 6];
    ///     stream.read_exact(&mut word)?;
    ///     match &word {
    ///         b"sesame" => Ok(BufReader::new(stream)),
    ///         _ => Err(io::ErrorKind::PermissionDenied.into()),
    ///     }
    /// }
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let server = StreamServer::wrapping(listener, wrap, |stream, _peer| {
    ///     stream.get_ref().write_all(b"welcome")
    /// });
    /// server.start()?;
    /// let mut client = TcpStream::connect(server.local_addr()?)?;
    /// client.write_all(b"sesame")?;
    /// let mut answer = String::new();
    /// client.read_to_string(&mut answer)?;
    /// assert_eq!(answer, "welcome");
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn wrapping<T>(
        listener: L,
        wrap: impl Fn(L::Stream) -> io::Result<T> + 'static,
        handler: impl Fn(T, L::Addr) -> io::Result<()> + 'static,
    ) -> StreamServer<L> {
        let handshake = Rc::new(Cell::new(HANDSHAKE));
        let limit = handshake.clone();
        let both = move |stream, peer| {
            let wrapped = time::timeout(limit.get(), || wrap(stream)).map_err(|_| {
                io::Error::new(io::ErrorKind::TimedOut, "the handshake took longer than it may")
            })?;
            handler(wrapped?, peer)
        };
        StreamServer::with_handler(listener, Rc::new(both), handshake)
    }

    fn with_handler(
        listener: L,
        handler: Rc<Handler<L>>,
        handshake: Rc<Cell<Duration>>,
    ) -> StreamServer<L> {
        let listener = RefCell::new(Some(Rc::new(listener)));
        let shared = Rc::new(Shared { listener, handler, handshake });
        StreamServer { core: Core::new("stream server"), shared }
    }

    /// How many connections are served at a time; as many as there are by default. While there are so many,
    /// nothing is accepted: further clients wait in the listener's backlog.
    ///
    /// # Panics
    /// If `count` is 0.
    #[must_use]
    #[track_caller]
    pub fn max_clients(self, count: usize) -> StreamServer<L> {
        self.core.settings.borrow_mut().limit(count);
        self
    }

    /// How long a connection may take in all; as long as it wants by default. When the time is up, the
    /// handler is ended as by [`timeout`](crate::timeout), by unwinding in the wait that it is in.
    ///
    /// This is the last resort. Against clients that fall silent set the time limits of the stream.
    #[must_use]
    pub fn deadline(self, limit: Duration) -> StreamServer<L> {
        self.core.settings.borrow_mut().deadline = Some(limit);
        self
    }

    /// How long [wrapping](Self::wrapping) a connection may take: 10 s by default.
    #[must_use]
    pub fn handshake_timeout(self, limit: Duration) -> StreamServer<L> {
        self.shared.handshake.set(limit);
        self
    }

    /// The size in bytes of the stacks on which handlers run, as in
    /// [`Builder::stack_size`](crate::thread::Builder::stack_size).
    #[must_use]
    pub fn stack_size(self, bytes: usize) -> StreamServer<L> {
        self.core.settings.borrow_mut().stack_size = Some(bytes);
        self
    }

    /// How long handlers may go on when the server stops without being told how: since its listener has
    /// failed, or it was dropped. 10 s by default.
    #[must_use]
    pub fn grace(self, grace: Duration) -> StreamServer<L> {
        self.core.settings.borrow_mut().grace = grace;
        self
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What getsockname(2) says; `NotConnected` if the server has stopped.
    pub fn local_addr(&self) -> io::Result<L::Addr> {
        match &*self.shared.listener.borrow() {
            Some(listener) => listener.local_addr(),
            None => Err(has_stopped()),
        }
    }

    /// Begins to accept, in a coroutine of the calling thread, and returns.
    ///
    /// A server is started once. To serve again after a stop, make another one on the same address, which
    /// is free as soon as [`stop`](Self::stop) returns.
    ///
    /// # Errors
    /// `AlreadyExists` if it was started before; `NotConnected` if it has been stopped; `OutOfMemory` if there
    /// is no stack to be had.
    #[track_caller]
    pub fn start(&self) -> io::Result<()> {
        if self.shared.listener.borrow().is_none() {
            return Err(has_stopped());
        }
        let accepting = self.shared.clone();
        let closing = self.shared.clone();
        let accept = move |core: &Rc<Core>| accepting.accept_all(core);
        self.core.start(accept, move || drop(closing.listener.take()))
    }

    /// Starts the server, if that has not been done, and waits until it has stopped: by its
    /// [`Handle`], or by an error that no patience helps against.
    ///
    /// # Errors
    /// That error; or as for [`start`](Self::start).
    #[track_caller]
    pub fn serve_forever(&self) -> io::Result<()> {
        if !self.core.is_started() {
            self.start()?;
        }
        self.core.wait()
    }

    /// Stops accepting and closes the listener, lets the handlers go on for `grace`, kills those that are
    /// left, and waits until they have unwound. Says how many had to be killed.
    ///
    /// New clients are refused at once, and so are those that nobody has accepted yet; unless somebody else has
    /// the same socket open, a clone or another process, who goes on accepting. A handler that does not
    /// end within 5 s of its kill, because it is shielded, is logged and left alone.
    ///
    /// A handler that wants its own server to stop uses [`Handle::stop`], which does not wait.
    #[track_caller]
    pub fn stop(&self, grace: Duration) -> usize {
        let killed = self.core.stop(grace);
        // If it was never started there is nobody else to close it.
        self.shared.listener.take();
        killed
    }

    /// A handle for whoever is to stop or watch the server, on any thread.
    pub fn handle(&self) -> Handle {
        self.core.handle()
    }

    /// What the server has counted so far.
    pub fn stats(&self) -> Stats {
        self.core.handle().stats()
    }
}

impl<L: Listener + 'static> Shared<L> {
    fn accept_all(&self, core: &Rc<Core>) -> io::Error {
        let Some(listener) = self.listener.borrow().clone() else {
            return io::Error::from_raw_os_error(libc::EBADF);
        };
        core.accept_all(
            || listener.accept(),
            |stream, peer| {
                let handler = self.handler.clone();
                move || handler(stream, peer)
            },
        )
    }
}

impl<L: Listener> Drop for StreamServer<L> {
    fn drop(&mut self) {
        self.core.retire();
    }
}

impl<L: Listener> fmt::Debug for StreamServer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServer").field("handle", &self.core.handle()).finish_non_exhaustive()
    }
}

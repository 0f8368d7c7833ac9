//! [`DatagramServer`].

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::core::{Core, Handle, has_stopped};
use super::stats::Stats;

/// The longest datagram that UDP knows fits.
const MAX_DATAGRAM: usize = 65_536;

/// What a [`DatagramServer`] receives from. Implemented for this crate's datagram
/// sockets, and for std's in an [`Adapter`](crate::io::Adapter).
pub trait DatagramSocket {
    /// The address of either end.
    type Addr: Clone + fmt::Debug + 'static;

    /// Waits for a datagram, and returns its length and where it came from.
    ///
    /// # Errors
    /// What recvfrom(2) says. The server goes by the code of the error: see the [module](super).
    fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, Self::Addr)>;

    /// The address that it is bound to.
    ///
    /// # Errors
    /// What getsockname(2) says.
    fn local_addr(&self) -> io::Result<Self::Addr>;
}

/// A server that gives each datagram a coroutine, which calls the handler. (`gevent.server.DatagramServer`.)
///
/// The handler gets the socket, to answer by, the datagram and its sender. In all else this is a
/// [`StreamServer`](super::StreamServer): the limit, the patience with errors, the end. While as many
/// handlers run as may, nothing is received, and when the socket's buffer is full, the kernel drops what
/// comes.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::net::UdpSocket;
/// use greenling::server::DatagramServer;
///
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let server = DatagramServer::new(socket, |socket: &UdpSocket, mut datagram, peer| {
///     datagram.make_ascii_uppercase();
///     socket.send_to(&datagram, peer).map(drop)
/// });
/// server.start()?;
///
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello", server.local_addr()?)?;
/// let mut answer = [0; 16];
/// let length = client.recv(&mut answer)?;
/// assert_eq!(&answer[..length], b"HELLO");
/// server.stop(Duration::from_secs(1));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct DatagramServer<S: DatagramSocket> {
    core: Rc<Core>,
    shared: Rc<Shared<S>>,
}

type Handler<S> = dyn Fn(&S, Vec<u8>, <S as DatagramSocket>::Addr) -> io::Result<()>;

struct Shared<S: DatagramSocket> {
    /// Gone when the server has stopped.
    socket: RefCell<Option<Rc<S>>>,
    handler: Rc<Handler<S>>,
    max_len: Cell<usize>,
}

impl<S: DatagramSocket + 'static> DatagramServer<S> {
    /// A server over a socket that is bound.
    pub fn new(
        socket: S,
        handler: impl Fn(&S, Vec<u8>, S::Addr) -> io::Result<()> + 'static,
    ) -> DatagramServer<S> {
        let shared = Shared {
            socket: RefCell::new(Some(Rc::new(socket))),
            handler: Rc::new(handler),
            max_len: Cell::new(MAX_DATAGRAM),
        };
        DatagramServer { core: Core::new("datagram server"), shared: Rc::new(shared) }
    }

    /// How many handlers run at a time; as many as there are datagrams by default.
    ///
    /// # Panics
    /// If `count` is 0.
    #[must_use]
    #[track_caller]
    pub fn max_handlers(self, count: usize) -> DatagramServer<S> {
        self.core.settings.borrow_mut().limit(count);
        self
    }

    /// How long a handler may take; as long as it wants by default. See
    /// [`StreamServer::deadline`](super::StreamServer::deadline).
    #[must_use]
    pub fn deadline(self, limit: Duration) -> DatagramServer<S> {
        self.core.settings.borrow_mut().deadline = Some(limit);
        self
    }

    /// The length in bytes of the longest datagram; longer ones are cut. 64 KiB by default, which no
    /// datagram of UDP exceeds.
    #[must_use]
    pub fn max_datagram(self, bytes: usize) -> DatagramServer<S> {
        self.shared.max_len.set(bytes);
        self
    }

    /// The size in bytes of the stacks on which handlers run.
    #[must_use]
    pub fn stack_size(self, bytes: usize) -> DatagramServer<S> {
        self.core.settings.borrow_mut().stack_size = Some(bytes);
        self
    }

    /// How long handlers may go on when the server stops without being told how. 10 s by default.
    #[must_use]
    pub fn grace(self, grace: Duration) -> DatagramServer<S> {
        self.core.settings.borrow_mut().grace = grace;
        self
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// What getsockname(2) says; `NotConnected` if the server has stopped.
    pub fn local_addr(&self) -> io::Result<S::Addr> {
        match &*self.shared.socket.borrow() {
            Some(socket) => socket.local_addr(),
            None => Err(has_stopped()),
        }
    }

    /// Begins to receive, in a coroutine of the calling thread, and returns.
    ///
    /// # Errors
    /// `AlreadyExists` if it was started before; `NotConnected` if it has been stopped; `OutOfMemory` if there
    /// is no stack to be had.
    #[track_caller]
    pub fn start(&self) -> io::Result<()> {
        if self.shared.socket.borrow().is_none() {
            return Err(has_stopped());
        }
        let receiving = self.shared.clone();
        let closing = self.shared.clone();
        let receive = move |core: &Rc<Core>| receiving.receive_all(core);
        self.core.start(receive, move || drop(closing.socket.take()))
    }

    /// Starts the server, if that has not been done, and waits until it has stopped.
    ///
    /// # Errors
    /// Why it stopped, if that was not by request; or as for [`start`](Self::start).
    #[track_caller]
    pub fn serve_forever(&self) -> io::Result<()> {
        if !self.core.is_started() {
            self.start()?;
        }
        self.core.wait()
    }

    /// Receives no more, lets the handlers go on for `grace`, kills those that are left, and waits until they
    /// have unwound. Says how many had to be killed.
    ///
    /// The socket is closed when the last handler that answers by it has ended.
    #[track_caller]
    pub fn stop(&self, grace: Duration) -> usize {
        let killed = self.core.stop(grace);
        self.shared.socket.take();
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

impl<S: DatagramSocket + 'static> Shared<S> {
    fn receive_all(&self, core: &Rc<Core>) -> io::Error {
        let Some(socket) = self.socket.borrow().clone() else {
            return io::Error::from_raw_os_error(libc::EBADF);
        };
        let buffer = RefCell::new(vec![0; self.max_len.get()]);
        core.accept_all(
            || {
                // Nobody else ever borrows it.
                let mut buffer = buffer.borrow_mut();
                let (length, peer) = socket.recv_from(&mut buffer)?;
                Ok((buffer[..length].to_vec(), peer))
            },
            |datagram, peer| {
                let (handler, socket) = (self.handler.clone(), socket.clone());
                move || handler(&socket, datagram, peer)
            },
        )
    }
}

impl<S: DatagramSocket> Drop for DatagramServer<S> {
    fn drop(&mut self) {
        self.core.retire();
    }
}

impl<S: DatagramSocket> fmt::Debug for DatagramServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handle = self.core.handle();
        f.debug_struct("DatagramServer").field("handle", &handle).finish_non_exhaustive()
    }
}

//! Servers that give each connection, or each datagram, a coroutine: [`StreamServer`] and
//! [`DatagramServer`], in the spirit of `gevent.server`.
//!
//! They are what a loop over `accept` becomes when it is to run for months: a limit to how many clients
//! are served at once, patience when descriptors run out, time limits, one client's panic that is nobody
//! else's, and an end that lets clients finish.
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::time::Duration;
//! use greenling::net::TcpStream;
//! use greenling::server::StreamServer;
//!
//! let server = StreamServer::bind("127.0.0.1:0", |mut stream, _peer| {
//!     io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
//! })?
//! .max_clients(10_000);
//! server.start()?;
//!
//! let mut client = TcpStream::connect(server.local_addr()?)?;
//! client.write_all(b"hello")?;
//! client.read_exact(&mut [0; 5])?;
//! drop(client);
//! let killed = server.stop(Duration::from_secs(5)); // they may finish
//! assert_eq!(killed, 0);
//! # Ok::<(), io::Error>(())
//! ```
//!
//! # What goes on when something goes wrong
//! | | |
//! |---|---|
//! | `accept` says `EMFILE`, `ENFILE`, `ENOMEM`, or anything unknown | a pause of 10 ms, doubled each time up to 1 s; the clients wait in the backlog |
//! | `ECONNABORTED` and other errors of the one connection | the next is accepted at once |
//! | `EBADF`, `EINVAL`, `ENOTSOCK`: the listener is useless | the server stops, and [`serve_forever`](StreamServer::serve_forever) returns the error |
//! | a handler panics | its connection is closed, an error is logged; nobody else notices |
//! | a handler returns an error | its connection is closed; logged at level debug, since clients that vanish are normal |
//! | there is no memory for a coroutine | as for `EMFILE`; the connection is closed |
//!
//! # Several cores
//! A server runs on the thread that has started it. Give each of several threads a server of its own, over
//! a clone of one listener (`try_clone`); the kernel distributes the connections.
//!
//! # Sockets that are handed in
//! [`StreamServer::new`] takes any [`Listener`]: one that was bound elsewhere, one over Unix sockets
//! ([`UnixListener`](crate::os::unix::net::UnixListener), or std's in an [`Adapter`](crate::io::Adapter)), or one that
//! systemd has opened ([`activation`]).

mod accept;
mod adapted;
mod core;
mod datagram;
mod stats;
mod stream;

pub mod activation;

pub use accept::Listener;
pub use core::Handle;
pub use datagram::{DatagramServer, DatagramSocket};
pub use stats::Stats;
pub use stream::StreamServer;

//! TCP and UDP in the shape of `std::net`: the same names, the same behaviour, but what would block the thread
//! lets its other coroutines run.
//!
//! [`TcpListener`], [`TcpStream`], [`UdpSocket`] and [`ToSocketAddrs`] are this crate's; everything else is `std::net`'s own, so that
//! `use greenling::net` can replace `use std::net`.
//!
//! ```
//! use std::io::{Read, Write};
//! use greenling::net::{TcpListener, TcpStream};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! let server = greenling::spawn(move || -> std::io::Result<()> {
//!     let (mut stream, _) = listener.accept()?;
//!     let mut line = [0; 5];
//!     stream.read_exact(&mut line)?;
//!     line.make_ascii_uppercase();
//!     stream.write_all(&line)
//! });
//! let mut stream = TcpStream::connect(addr)?;
//! stream.write_all(b"hello")?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer)?;
//! assert_eq!(answer, "HELLO");
//! # server.join().unwrap()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # How it waits
//! An operation is tried first; only if it would block does the coroutine park until epoll reports the
//! socket. Several coroutines may wait for one socket, on several threads. A time limit
//! ([`TcpStream::set_read_timeout`]) costs nothing unless the operation has to wait.
//!
//! # Differences from std
//! * [`TcpStream::close`], [`TcpListener::close`] and [`UdpSocket::close`] exist, which wake whoever waits for the socket.
//! * A [kill](crate::thread::JoinHandle::kill) ends a waiting operation by unwinding.
//! * `O_NONBLOCK` and time limits that are changed behind the socket's back, by system calls on its raw
//!   descriptor, are not seen; those that it has when it is converted are.
//! * [`ToSocketAddrs`] is a trait of its own, so that names are looked up beside other coroutines. A type
//!   for which somebody has implemented std's needs an implementation of this one.

mod acceptor;
mod convert;
mod datagram;
mod listener;
mod name;
mod options;
mod resolve;
mod socket;
mod stream;
mod streaming;
mod sys;
mod udp;
pub(crate) mod unix;

pub use listener::{Incoming, TcpListener};
pub use resolve::ToSocketAddrs;
pub use std::net::*;
pub use stream::TcpStream;
pub use udp::UdpSocket;

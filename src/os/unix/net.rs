//! Unix sockets in the shape of `std::os::unix::net`: the same names, the same behaviour, but what would
//! block the thread lets its other coroutines run.
//!
//! [`UnixListener`], [`UnixStream`] and [`UnixDatagram`] are this crate's; everything else is std's own. Abstract
//! names are made by [`os::linux::net::SocketAddrExt`](crate::os::linux::net::SocketAddrExt).
//!
//! ```
//! use std::io::{Read, Write};
//! use greenling::os::unix::net::{UnixListener, UnixStream};
//!
//! let path = std::env::temp_dir().join(format!("greenling-doc-{}", std::process::id()));
//! let listener = UnixListener::bind(&path)?;
//! let server = greenling::spawn(move || -> std::io::Result<()> {
//!     let (mut stream, _) = listener.accept()?;
//!     stream.write_all(b"hello")
//! });
//! let mut text = String::new();
//! UnixStream::connect(&path)?.read_to_string(&mut text)?;
//! assert_eq!(text, "hello");
//! # server.join().unwrap()?;
//! # std::fs::remove_file(path)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! How it waits, and in what it differs from std, is as in [`net`](crate::net). Besides: where Linux
//! has no event to wait for (a listener whose queue is full, a receiver of datagrams whose queue is full and to whom
//! the sender is not connected) it tries again in pauses that double, up to 32 ms.

#![forbid(unsafe_code)]

pub use crate::net::unix::{Incoming, UnixDatagram, UnixListener, UnixStream};
pub use std::os::unix::net::*;

//! Unix sockets, for `os::unix::net`.

#![forbid(unsafe_code)]

mod datagram;
mod listener;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::{Incoming, UnixListener};
pub use stream::UnixStream;

//! Connections to hosts by name, within a time limit.

use std::io;
use std::time::Duration;

use greenling::net::TcpStream;
use greenling::timeout;

/// Connects to the first address of `target`, a `HOST:PORT`, that answers. The whole of it, looking up the name
/// and trying every address, takes `limit` at most.
pub(crate) fn dial(target: &str, limit: Duration) -> io::Result<TcpStream> {
    timeout(limit, || TcpStream::connect(target))
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

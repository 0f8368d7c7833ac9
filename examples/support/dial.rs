//! Connections to hosts by name, within a time limit.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use greenling::net::TcpStream;
use greenling::threadpool::unblock;
use greenling::timeout;

/// Connects to the first address of `target`, a `HOST:PORT`, that answers. The whole of it takes `limit` at
/// most.
pub(crate) fn dial(target: &str, limit: Duration) -> io::Result<TcpStream> {
    timeout(limit, || {
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in resolve(target)? {
            match TcpStream::connect(address) {
                Ok(stream) => return Ok(stream),
                Err(reason) => error = reason,
            }
        }
        Err(error)
    })
    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The C library's resolver blocks its thread, so it is asked on another one.
fn resolve(target: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = target.parse() {
        return Ok(vec![address]);
    }
    let target = target.to_owned();
    unblock(move || Ok(target.to_socket_addrs()?.collect()))
}

//! What goes wrong with connections, and must neither hang, nor spin, nor harm anybody else.

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/sockets.rs"]
mod sockets;

#[path = "tcp_faults/closing.rs"]
mod closing;
#[path = "tcp_faults/limits.rs"]
mod limits;
#[path = "tcp_faults/peers.rs"]
mod peers;
#[path = "tcp_faults/threads.rs"]
mod threads;

use greenling::net::{TcpListener, TcpStream};

/// Both ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Both ends of a connection of which the first is std's, for a peer that does what it is told.
fn pair_with_peer() -> (std::net::TcpStream, TcpStream) {
    let (peer, stream) = pair();
    (peer.into(), stream)
}

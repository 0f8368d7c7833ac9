//! Servers serve many, survive what goes wrong with some, and end as they are asked to.

#[path = "common/child.rs"]
mod child;
#[path = "common/mod.rs"]
mod common;
#[path = "common/logger.rs"]
mod logger;

#[path = "server/activation.rs"]
mod activation;
#[path = "server/faults.rs"]
mod faults;
#[path = "server/other_sockets.rs"]
mod other_sockets;
#[path = "server/serving.rs"]
mod serving;
#[path = "server/stopping.rs"]
mod stopping;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use greenling::net::TcpStream;
use greenling::sleep;

/// Long enough that only a fault uses it up.
const LONG: Duration = Duration::from_secs(30);

/// What a client can be sure of.
fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, LONG).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn echo(mut stream: TcpStream, _: SocketAddr) -> io::Result<()> {
    let mut buffer = [0; 512];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

fn exchange(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).unwrap();
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, message);
}

/// Lets others run until something has come true.
#[track_caller]
fn until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "it does not come true");
        sleep(Duration::from_millis(1));
    }
}

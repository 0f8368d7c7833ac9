//! What the tests and examples of unmodified libraries share.

#![forbid(unsafe_code)]

mod mail_and_files;
mod measure;
mod redis_server;

pub use mail_and_files::{ftp_server, smtp_sink};
pub use measure::{
    Times, assert_descriptors, deadline, descriptors, on_coroutines, on_threads, overlapping,
};
pub use redis_server::RedisServer;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Serves each connection by `serve`, on a thread of its own with no coroutine in it.
fn serve_on_threads(serve: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn(move || serve(stream))
                .expect("a thread for a connection");
        }
    });
    addr
}

/// A server that takes whatever it is sent and never answers; it closes a connection when its client does.
pub fn silent_server() -> SocketAddr {
    serve_on_threads(|mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    })
}

/// An HTTP server on threads of its own, with no coroutine in it, that takes `delay` for each answer.
pub fn slow_http_server(delay: Duration) -> SocketAddr {
    serve_on_threads(move |stream| {
        let mut reader = BufReader::new(&stream);
        loop {
            let mut length = 0;
            // The request's head, to the empty line.
            while length != 2 {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(count) => length = count,
                }
            }
            thread::sleep(delay);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
            if (&stream).write_all(answer).is_err() {
                return;
            }
        }
    })
}

//! Echo by may.

use std::io::{self, Read, Write};

use may::go;
use may::net::{TcpListener, TcpStream};

pub(super) fn serve() -> io::Result<()> {
    may::config().set_workers(1);
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    super::announce(listener.local_addr()?)?;
    let accepting = go!(move || {
        for stream in listener.incoming() {
            let stream = stream?;
            go!(move || echo(stream));
        }
        io::Result::Ok(())
    });
    accepting.join().map_err(|_| io::Error::other("it panicked"))?
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; super::BUFFER];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
    }
}

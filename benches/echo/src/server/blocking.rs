// Included twice, with the names of std and with those of greenling.

use std::io::{self, Read, Write};
use std::time::Duration;

/// Accepts for ever, and echoes each connection by itself.
pub(super) fn serve(listener: TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        // A connection that breaks ends alone; the load generator notices if it should not have. If there
        // is no more of something (files, threads, address space), those who are served go on, and the
        // next who come may have better luck.
        let served = stream.and_then(|stream| Builder::new().spawn(move || echo(stream)));
        if served.is_err() {
            sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
    }
}

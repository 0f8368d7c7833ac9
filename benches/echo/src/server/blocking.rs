// Included twice, with the names of std and with those of greenling.

use std::io::{self, Read, Write};

/// Accepts for ever, and echoes each connection by itself.
pub(super) fn serve(listener: TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        // A connection that breaks ends alone; the load generator notices if it should not have.
        Builder::new().spawn(move || echo(stream))?;
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

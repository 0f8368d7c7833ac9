//! Echo by tokio.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// On this thread alone, or with so many workers.
pub(super) fn runtime(workers: usize) -> io::Result<Runtime> {
    match workers {
        0 => Builder::new_current_thread().enable_io().build(),
        _ => Builder::new_multi_thread().worker_threads(workers).enable_io().build(),
    }
}

pub(super) fn serve(workers: usize) -> io::Result<()> {
    runtime(workers)?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        super::announce(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(echo(stream));
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; super::BUFFER];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
    }
}

// The echo service of `c10k`, included twice: once where `net` and `thread` are greenling's and
// once where they are std's. Not a line differs.

/// Serves every connection of `listeners`, each on a thread of its own, until the process ends.
pub(crate) fn serve(listeners: Vec<net::TcpListener>, report: &'static Report) {
    let acceptors: Vec<_> = listeners
        .into_iter()
        .map(|listener| thread::spawn(move || accept_all(&listener, report)))
        .collect();
    for acceptor in acceptors {
        acceptor.join().expect("an acceptor does not panic");
    }
}

fn accept_all(listener: &net::TcpListener, report: &'static Report) {
    loop {
        let served = listener.accept().and_then(|(stream, _)| {
            report.admit()?;
            thread::Builder::new().stack_size(STACK_SIZE).spawn(move || {
                // An error here is the client's going away; the client counts it.
                let _ = echo(stream);
            })
        });
        match served {
            Ok(_) => report.served(),
            // A connection that finds no thread was dropped, which its client sees.
            Err(error) => {
                report.refused(&error);
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn echo(mut stream: net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

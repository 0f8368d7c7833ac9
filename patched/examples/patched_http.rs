//! A thousand slow downloads at once with ureq, a plain blocking HTTP client, on one thread; then on a thousand.
//!
//! Run with: cargo run --release -p greenling-patched --example patched_http [DOWNLOADS [PIECES]]
//!
//! The server is a thread of this process, with a coroutine for each connection. It sends a piece of the body
//! every 100 ms, ten of them unless told otherwise. Not a line of ureq knows of coroutines:
//! `greenling::patch::all()` makes its calls wait in the hub.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use greenling::net::{TcpListener, TcpStream};
use greenling::{patch, spawn};

#[path = "../../examples/support/limits.rs"]
mod limits;

const PAUSE: Duration = Duration::from_millis(100);
const PIECE: [u8; 1000] = [b'x'; 1000];

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut args = std::env::args().skip(1);
    let downloads: usize = args.next().map_or(Ok(1000), |arg| arg.parse())?;
    let pieces: usize = args.next().map_or(Ok(10), |arg| arg.parse())?;
    // Both ends of each connection are in this process.
    let needed = downloads as u64 * 2 + 64;
    if limits::raise_open_files(needed)? < needed {
        return Err(format!("{downloads} downloads need a limit of {needed} open files").into());
    }
    patch::all();
    let addr = serve(pieces)?;

    let by_coroutines = measure(|| {
        let all: Vec<_> = (0..downloads).map(|_| spawn(move || download(addr))).collect();
        all.into_iter().map(|one| one.join().unwrap_or(Err("it panicked".into()))).collect()
    })?;
    let by_threads = measure(|| {
        let all: Vec<_> = (0..downloads).map(|_| thread::spawn(move || download(addr))).collect();
        // Main has no coroutines beside it now, so it just blocks.
        all.into_iter().map(|one| one.join().unwrap_or(Err("it panicked".into()))).collect()
    })?;

    let one_by_one = PAUSE * (downloads * pieces) as u32;
    println!("{downloads} downloads of {pieces} pieces, one each {PAUSE:?}:");
    println!("                     time     bytes");
    println!("one by one     {:8.1} s", one_by_one.as_secs_f64());
    for (name, (time, bytes)) in [("one thread", by_coroutines), ("a thread each", by_threads)] {
        println!("{name:14} {:8.2} s {bytes:9}", time.as_secs_f64());
    }
    Ok(())
}

type Outcome = Result<usize, Box<dyn Error + Send + Sync>>;

/// A blocking download, as in any program.
fn download(addr: SocketAddr) -> Outcome {
    let mut answer = ureq::get(format!("http://{addr}/")).call()?;
    Ok(answer.body_mut().read_to_vec()?.len())
}

/// Time and bytes of `run`.
fn measure(
    run: impl FnOnce() -> Vec<Outcome>,
) -> Result<(Duration, usize), Box<dyn Error + Send + Sync>> {
    let start = Instant::now();
    let outcomes = run();
    let time = start.elapsed();
    Ok((time, outcomes.into_iter().sum::<Result<usize, _>>()?))
}

/// Starts the server on a thread of its own.
fn serve(pieces: usize) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is nobody else's concern.
            spawn(move || drop(answer(&stream, pieces)));
        }
    });
    Ok(addr)
}

fn answer(mut stream: &TcpStream, pieces: usize) -> io::Result<()> {
    let mut head = BufReader::new(stream).lines();
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let length = pieces * PIECE.len();
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")?;
    for _ in 0..pieces {
        greenling::sleep(PAUSE);
        stream.write_all(&PIECE)?;
    }
    Ok(())
}

//! Sends back whatever it receives, with the ASCII letters in upper case.
//!
//! Run with: cargo run --release --example echo_server
//!
//! Then, in another terminal, talk to it with `nc 127.0.0.1 7007`, or send it load:
//! `cargo run --release --example load_client`.
//!
//! Each client has a coroutine that reads and writes in plain blocking style. At most
//! `--max-clients` are served at a time; further ones wait in the listener's backlog. SIGINT and
//! SIGTERM end the server cleanly.

#[path = "support/limits.rs"]
mod limits;
#[path = "support/stderr_log.rs"]
mod stderr_log;
#[path = "support/stop.rs"]
mod stop;

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use greenling::net::TcpStream;
use greenling::server::StreamServer;

/// Descriptors that are not connections: standard streams, the listener, epoll, signals.
const SPARE_DESCRIPTORS: u64 = 64;

/// An upper-casing echo server.
#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:7007", value_name = "HOST:PORT")]
    addr: String,
    /// Clients served at a time
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_clients: u64,
    /// Seconds after which a client that neither sends nor reads is dismissed; 0 for never
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    idle_timeout: u64,
    /// Seconds that clients may go on after SIGINT or SIGTERM
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    grace: u64,
}

fn main() -> ExitCode {
    stderr_log::install();
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let limit = limits::raise_open_files(options.max_clients.saturating_add(SPARE_DESCRIPTORS))?;
    let max_clients = options.max_clients.min(limit.saturating_sub(SPARE_DESCRIPTORS)).max(1);
    if max_clients < options.max_clients {
        eprintln!("Only {limit} files may be open here: at most {max_clients} clients at a time.");
    }

    let idle = (options.idle_timeout > 0).then(|| Duration::from_secs(options.idle_timeout));
    // All of the server runs on this thread, so a cell will do.
    let bytes = Rc::new(Cell::new(0));
    let counted = Rc::clone(&bytes);
    let server = StreamServer::bind(&options.addr, move |stream, _| echo(stream, idle, &counted))?
        .max_clients(usize::try_from(max_clients).unwrap_or(usize::MAX));
    stop::stop_on_signal(server.handle(), Duration::from_secs(options.grace))?;
    println!("listening on {}", server.local_addr()?);
    io::stdout().flush()?;

    server.serve_forever()?;
    println!("served {} clients, {} bytes", server.stats().accepted, bytes.get());
    Ok(())
}

fn echo(mut stream: TcpStream, idle: Option<Duration>, bytes: &Cell<u64>) -> io::Result<()> {
    stream.set_read_timeout(idle)?;
    stream.set_write_timeout(idle)?;
    // A message longer than the buffer is answered in pieces; the kernel would hold the last one back until
    // the client has acknowledged those before, which clients put off for 40 ms.
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            // The client has sent all it had; what it is owed is on its way already.
            return Ok(());
        }
        // ASCII letters only: a character of several bytes may be cut anywhere by `read`, and
        // none of its bytes is touched.
        buffer[..n].make_ascii_uppercase();
        stream.write_all(&buffer[..n])?;
        bytes.set(bytes.get() + n as u64);
    }
}

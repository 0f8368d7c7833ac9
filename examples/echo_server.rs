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

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use greenling::net::{TcpListener, TcpStream};
use greenling::thread::{self, Thread};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Descriptors that are not connections: standard streams, the listener, epoll, signals.
const SPARE_DESCRIPTORS: u64 = 64;
/// How long clients that are being served may take to unwind when the server ends.
const GRACE: Duration = Duration::from_secs(5);
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

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
}

fn main() -> ExitCode {
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

    let stopping = unpark_on_signal(thread::current())?;
    let listener = TcpListener::bind(&options.addr)?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;

    let server = Rc::new(Server {
        max_clients,
        idle: (options.idle_timeout > 0).then(|| Duration::from_secs(options.idle_timeout)),
        clients: Cell::new(0),
        served: Cell::new(0),
        bytes: Cell::new(0),
    });
    let acceptor = thread::spawn({
        let server = Rc::clone(&server);
        move || server.accept_all(&listener)
    });

    while !stopping.load(Ordering::Acquire) && !acceptor.is_finished() {
        thread::park_timeout(Duration::from_secs(1));
    }
    if acceptor.is_finished() {
        // Only an error that no patience helps against ends it.
        return acceptor.join().unwrap_or_else(|_| Err(io::Error::other("the acceptor panicked")));
    }
    greenling::hub::shutdown(GRACE).map_err(io::Error::other)?;
    println!("served {} clients, {} bytes", server.served.get(), server.bytes.get());
    Ok(())
}

/// Unparks `coroutine` when a signal asks the process to end; the flag tells it why. Signals
/// arrive on a thread of their own, and unparking is what any thread may do.
fn unpark_on_signal(coroutine: Thread) -> io::Result<Arc<AtomicBool>> {
    let stopping = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn({
        let stopping = Arc::clone(&stopping);
        move || {
            for _ in signals.forever() {
                stopping.store(true, Ordering::Release);
                coroutine.unpark();
            }
        }
    })?;
    Ok(stopping)
}

/// What the server's coroutines share: all run on one thread, so cells will do.
struct Server {
    max_clients: u64,
    idle: Option<Duration>,
    clients: Cell<u64>,
    served: Cell<u64>,
    bytes: Cell<u64>,
}

impl Server {
    /// Serves clients until the listener fails for good, and returns that error.
    fn accept_all(self: &Rc<Server>, listener: &TcpListener) -> io::Result<()> {
        let mut backoff = FIRST_BACKOFF;
        loop {
            while self.clients.get() >= self.max_clients {
                thread::park();
            }
            match listener.accept().and_then(|(stream, _)| self.serve(stream)) {
                Ok(()) => backoff = FIRST_BACKOFF,
                Err(error) if passes_at_once(&error) => {}
                Err(error) if passes_with_time(&error) => {
                    eprintln!("echo_server: {error}; accepting again in {backoff:?}");
                    thread::sleep(backoff);
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the client a coroutine of its own.
    fn serve(self: &Rc<Server>, stream: TcpStream) -> io::Result<()> {
        let seat = Seat::take(self);
        thread::Builder::new().name("client".into()).spawn(move || {
            // A client that resets its connection or falls silent concerns nobody else.
            let _ = seat.server.echo(stream);
        })?;
        Ok(())
    }

    fn echo(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(self.idle)?;
        stream.set_write_timeout(self.idle)?;
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
            self.bytes.set(self.bytes.get() + n as u64);
        }
    }
}

/// One of the `max_clients` places; dropping it, however its coroutine ends, lets the next in.
struct Seat {
    server: Rc<Server>,
    acceptor: Thread,
}

impl Seat {
    /// To be called by the acceptor, which is unparked when the seat is free again.
    fn take(server: &Rc<Server>) -> Seat {
        server.clients.set(server.clients.get() + 1);
        server.served.set(server.served.get() + 1);
        Seat { server: Rc::clone(server), acceptor: thread::current() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.server.clients.set(self.server.clients.get() - 1);
        self.acceptor.unpark();
    }
}

/// The error was the client's, not ours: the next one may be accepted now.
fn passes_at_once(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

/// Descriptors or memory have run out. Trying again at once would only spin, for the connection
/// stays in the backlog.
fn passes_with_time(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN))
}

//! Serves the files below a directory over HTTP/1.1, and over TLS if it is given a certificate.
//!
//! Run with: cargo run --release -p http_server -- --root DIR
//!
//! Try it with: curl -i http://127.0.0.1:8080/
//!
//! Each connection is a coroutine that reads and writes in plain blocking style, all on one thread.
//! `README.md` beside this package tells what it does, and what it refuses.

mod answer;
mod body;
#[path = "../../support/cached.rs"]
mod cached;
mod conditions;
mod files;
#[cfg(test)]
#[path = "../../../tests/common/fuzz.rs"]
mod fuzz;
#[cfg(test)]
#[path = "../../../tests/common/fuzz_http.rs"]
mod fuzz_http;
mod listing;
mod log;
mod parse;
mod range;
mod respond;
mod serve;
mod socket;
mod sys;
mod tls;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use clap::Parser;
use greenling::net::{TcpListener, TcpStream};
use greenling::server::{Handle, StreamServer, activation};
use rustls::ServerConnection;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::files::Root;
use crate::log::AccessLog;
use crate::serve::{Idle, Site};
use crate::socket::{Socket, Stream};

/// Descriptors that are not connections: standard streams, the listener, epoll, the log.
const SPARE_DESCRIPTORS: u64 = 64;
/// How long lines may wait in memory before they are in the access log.
const LOG_DELAY: Duration = Duration::from_secs(1);

/// A server of static files over HTTP/1.1.
#[derive(Parser)]
struct Options {
    /// The directory whose files are served
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Where to listen; port 0 lets the system choose. A socket that systemd passes in comes first
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    addr: String,
    /// Clients served at a time; further ones wait in the listener's backlog
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_clients: u64,
    /// Append a line for each answer to this file, in the Common Log Format; - is standard output
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// Speak TLS, with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Do not show what is in directories without an index.html
    #[arg(long)]
    no_listing: bool,
    /// Seconds that a client has for a request's head, and for its body
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", value_parser = seconds)]
    header_timeout: f64,
    /// Seconds that a connection may wait between requests
    #[arg(long, default_value_t = 15.0, value_name = "SECONDS", value_parser = seconds)]
    idle_timeout: f64,
    /// Seconds in which a client has to take at least something of an answer
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", value_parser = seconds)]
    write_timeout: f64,
    /// Seconds that answers in progress may take after SIGINT or SIGTERM
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", value_parser = seconds)]
    grace: f64,
    /// Requests after which a connection is closed
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_requests: u32,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds between 0.001 and 1000000".to_owned()),
    }
}

fn main() -> ExitCode {
    if ::log::set_logger(&Complaints).is_ok() {
        ::log::set_max_level(::log::LevelFilter::Warn);
    }
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    // A client may cost two: its connection and the file that it gets.
    let wanted = options.max_clients.saturating_mul(2).saturating_add(SPARE_DESCRIPTORS);
    let limit = sys::raise_open_files(wanted)?;
    let max_clients = options.max_clients.min(limit.saturating_sub(SPARE_DESCRIPTORS) / 2).max(1);
    if max_clients < options.max_clients {
        eprintln!("Only {limit} files may be open here: at most {max_clients} clients at a time.");
    }

    let site = Rc::new(Site {
        root: Root::open(&options.root)?,
        log: options.access_log.as_deref().map(AccessLog::open).transpose()?,
        may_list: !options.no_listing,
        header_timeout: Duration::from_secs_f64(options.header_timeout),
        idle_timeout: Duration::from_secs_f64(options.idle_timeout),
        max_requests: options.max_requests,
        idle: Idle::default(),
    });
    let server = server(options, &site)?
        .max_clients(usize::try_from(max_clients).unwrap_or(usize::MAX))
        .handshake_timeout(site.header_timeout);
    stop_on_signal(server.handle(), Duration::from_secs_f64(options.grace))?;
    server.start()?;
    println!("listening on {}", server.local_addr()?);
    io::stdout().flush()?;

    let housekeeping = greenling::spawn({
        let (site, server) = (site.clone(), server.handle());
        move || keep_house(&site, &server)
    });
    server.serve_forever()?;
    housekeeping.kill();
    if let Some(log) = &site.log {
        log.flush();
    }
    Ok(())
}

/// The server, which does not accept yet.
fn server(options: &Options, site: &Rc<Site>) -> io::Result<StreamServer<TcpListener>> {
    let listener = match activation::take()?.into_iter().next() {
        Some(passed) => TcpListener::from(passed.fd),
        None => TcpListener::bind(&options.addr)?,
    };
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(cert), Some(key)) => Some(tls::configure(cert, key)?),
        _ => None,
    };
    let patience = Duration::from_secs_f64(options.write_timeout);
    let header_timeout = site.header_timeout;
    let wrap = move |stream: TcpStream| {
        let socket = Socket::new(stream.into(), patience)?;
        match &tls {
            None => Ok(Stream::plain(socket)),
            Some(config) => {
                socket.read_by(std::time::Instant::now() + header_timeout);
                let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Stream::tls(socket, connection)
            }
        }
    };
    // The handler needs the handle of the server that it is made for.
    let handle = Rc::new(OnceLock::<Handle>::new());
    let serve = {
        let (site, handle) = (site.clone(), handle.clone());
        move |stream: Stream, peer: SocketAddr| {
            let handle = handle.get().expect("it was set before the start");
            serve::serve(&site, handle, stream, peer)
        }
    };
    let server = StreamServer::wrapping(listener, wrap, serve);
    let _ = handle.set(server.handle());
    Ok(server)
}

/// Stops the server when a signal asks the process to end; a second signal leaves no grace. Signals arrive on a thread of their own, and
/// a server's handle is for any thread.
fn stop_on_signal(server: Handle, grace: Duration) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            server.stop(if server.is_stopping() { Duration::ZERO } else { grace });
        }
    })?;
    Ok(())
}

/// Writes the log down once in a while, and ends idle connections when the server stops.
fn keep_house(site: &Rc<Site>, server: &Handle) {
    if site.log.is_some() {
        let site = site.clone();
        greenling::spawn(move || {
            loop {
                greenling::sleep(LOG_DELAY);
                site.log.iter().for_each(AccessLog::flush);
            }
        });
    }
    server.wait_stopping();
    site.idle.dismiss_all();
    server.wait_stopped();
}

/// What the library and this program have to complain about, on standard error.
struct Complaints;

impl ::log::Log for Complaints {
    fn enabled(&self, metadata: &::log::Metadata<'_>) -> bool {
        metadata.level() <= ::log::Level::Warn
    }

    fn log(&self, record: &::log::Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("http_server: {}", record.args());
        }
    }

    fn flush(&self) {}
}

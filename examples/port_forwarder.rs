//! Forwards a TCP port: every connection that it accepts is continued by one to another address.
//!
//! Run with: cargo run --release --example port_forwarder -- --to 127.0.0.1:7007
//!
//! With `echo_server` running at 7007, try it with `nc 127.0.0.1 7010`.
//!
//! Either side may end its direction while the other goes on; a reset is passed on as a reset. No more is
//! read than the other side takes. A connection on which nothing moves for `--idle-timeout` is closed.
//! SIGINT and SIGTERM end the server; connections have `--grace` seconds, unless a second signal comes. Nobody but its ends
//! knows whether a connection is still needed, so one that is open keeps the server for all of them.

#[path = "support/dial.rs"]
mod dial;
#[path = "support/limits.rs"]
mod limits;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/stderr_log.rs"]
mod stderr_log;
#[path = "support/stop.rs"]
mod stop;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use greenling::net::TcpStream;
use greenling::server::StreamServer;
use relay::{Counts, relay};

/// Descriptors that are not connections: standard streams, the listener, epoll, signals.
const SPARE_DESCRIPTORS: u64 = 64;

/// A TCP port forwarder.
#[derive(Clone, Parser)]
struct Options {
    /// Where to; a name is looked up for each connection
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// Where to listen; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:7010", value_name = "HOST:PORT")]
    addr: String,
    /// Connections forwarded at a time
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_clients: u64,
    /// Seconds that the other address has to accept
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    connect_timeout: u64,
    /// Seconds after which a connection on which nothing moves is closed; 0 for never
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    idle_timeout: u64,
    /// Seconds that connections may go on after SIGINT or SIGTERM. A connection takes all of them unless one of its
    /// ends closes it, for an idle one may still be needed
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    grace: u64,
    /// Write a line for each connection to standard error
    #[arg(long)]
    log: bool,
}

fn main() -> ExitCode {
    stderr_log::install();
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("port_forwarder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    // Each connection has two ends here.
    let limit = limits::raise_open_files(2 * options.max_clients + SPARE_DESCRIPTORS)?;
    let most = (limit.saturating_sub(SPARE_DESCRIPTORS) / 2).clamp(1, options.max_clients);
    if most < options.max_clients {
        eprintln!("Only {limit} files may be open here: at most {most} connections at a time.");
    }
    let totals = Rc::new(Counts::default());
    let (settings, counts) = (options.clone(), Rc::clone(&totals));
    let forward = move |client, peer| forward(&settings, client, peer, &counts);
    let server = StreamServer::bind(&options.addr, forward)?.max_clients(most as usize);
    stop::stop_on_signal(server.handle(), Duration::from_secs(options.grace))?;
    println!("listening on {}", server.local_addr()?);
    io::stdout().flush()?;

    server.serve_forever()?;
    let (there, back) = (totals.there.get(), totals.back.get());
    println!(
        "forwarded {} connections, {there} bytes there, {back} bytes back",
        server.stats().accepted
    );
    Ok(())
}

fn forward(
    options: &Options,
    client: TcpStream,
    peer: SocketAddr,
    totals: &Rc<Counts>,
) -> io::Result<()> {
    let start = Instant::now();
    let connection = Connection { totals: Rc::clone(totals), counts: Counts::default() };
    let idle = (options.idle_timeout > 0).then(|| Duration::from_secs(options.idle_timeout));
    let result = match dial::dial(&options.to, Duration::from_secs(options.connect_timeout)) {
        Ok(target) => relay(&client, &target, idle, &connection.counts),
        Err(error) => {
            // The client is to see what it would have seen without us.
            relay::reset_on_close(&client)?;
            Err(io::Error::new(error.kind(), format!("{}: {error}", options.to)))
        }
    };
    if options.log {
        let (there, back) = (connection.counts.there.get(), connection.counts.back.get());
        let end = match &result {
            Ok(()) => "ended".to_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("{peer}: {there} bytes there, {back} back, {:.1?}: {end}", start.elapsed());
    }
    result
}

/// Adds up what went through, however a connection ends.
struct Connection {
    totals: Rc<Counts>,
    counts: Counts,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Connection { totals, counts } = self;
        totals.there.set(totals.there.get() + counts.there.get());
        totals.back.set(totals.back.get() + counts.back.get());
    }
}

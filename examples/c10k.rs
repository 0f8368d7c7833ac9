//! Ten thousand connections, held and served by one thread; and the same by ten thousand threads.
//!
//! Run with: cargo run --release --example c10k
//!
//! An echo server runs in a child process, once over greenling and once over std's threads: the
//! very same source, compiled twice (`support/echo_service.rs`). The load comes from this process:
//! a greenling coroutine per client, all on the main thread, for both servers. Every client
//! connects over real loopback TCP and gets one message echoed; then all connections are held open
//! while the server's memory is read; then every client sends message after message for a few
//! seconds, checks every byte of every echo, and closes.
//!
//! All clients send as fast as their echoes return, so latency is mostly the time spent in line
//! behind the other connections, in the server and in this load generator. It is measured from
//! before the first byte is written until the last byte of the echo is read.

#[path = "support/limits.rs"]
mod limits;
#[path = "support/load.rs"]
mod load;
#[path = "support/proc.rs"]
mod proc;
#[path = "support/progress.rs"]
mod progress;
#[path = "support/server_process.rs"]
mod server_process;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use greenling::thread::{self, JoinHandle};

use load::{CONNECTORS, Client, Failure, MAX_MESSAGE, Tally};
use progress::Progress;
use server_process::{Kind, ServerProcess};

/// Each process needs some descriptors besides its connections: standard streams, epoll, pipes.
const SPARE_DESCRIPTORS: u64 = 64;
/// No wait of a client is longer, so that the run is bounded whatever the server does.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No connection is attempted later than this after the first.
const CONNECT_PHASE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(50);

/// Holds thousands of TCP connections, once with greenling and once with a thread for each.
#[derive(Parser)]
struct Options {
    /// Connections to open
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    connections: u64,
    /// Seconds that all connections are busy, for each server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Bytes in a message
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=MAX_MESSAGE))]
    message_size: u64,
    /// Run one of the two servers only
    #[arg(long)]
    only: Option<Kind>,
    /// Be the server process
    #[arg(long, hide = true)]
    serve: Option<Kind>,
    #[arg(long, hide = true, default_value_t = 1)]
    listeners: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.serve {
        Some(kind) => server_process::serve(kind, options.listeners).map(|()| true),
        None => compare(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("c10k: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the servers one after the other and prints the table. Whether all went well.
fn compare(options: &Options) -> io::Result<bool> {
    let connections = affordable(options.connections)?;
    let kinds = match &options.only {
        Some(kind) => std::slice::from_ref(kind),
        None => &[Kind::Greenling, Kind::Threads],
    };
    let mut rows = Vec::new();
    for &kind in kinds {
        rows.push(measure(kind, connections, options)?);
    }
    print_table(&mut rows, connections, options);
    Ok(rows.iter().all(|row| row.held > 0 && row.tally.mismatches == 0))
}

/// How many of the wanted connections the limit on open files lets a process have. Each connection
/// costs two descriptors, but one of them is in the server's process.
fn affordable(wanted: u64) -> io::Result<u64> {
    let limit = limits::raise_open_files(wanted + SPARE_DESCRIPTORS)?;
    let connections = wanted.min(limit.saturating_sub(SPARE_DESCRIPTORS)).max(1);
    if connections < wanted {
        eprintln!(
            "A process may have {limit} files open here: {connections} connections instead of \
             {wanted}. Raise the hard limit (ulimit -Hn) for more."
        );
    }
    Ok(connections)
}

/// A client's port comes from a range that is shared by all connections to one listener. The
/// kernel finds a free one fast while no more than half of them are taken.
fn connections_per_listener() -> u64 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let ports = range.ok().and_then(|range| {
        let (first, last) = range.trim().split_once('\t')?;
        last.parse::<u64>().ok()?.checked_sub(first.parse().ok()?)
    });
    (ports.unwrap_or(28_000) / 2).max(1)
}

struct Row {
    kind: Kind,
    held: u64,
    requests_per_second: f64,
    memory_per_connection: f64,
    cpu_per_request: Duration,
    tally: Tally,
    /// What kept the server from serving all connections, if anything did.
    report: String,
}

fn measure(kind: Kind, connections: u64, options: &Options) -> io::Result<Row> {
    let server = ServerProcess::start(
        kind,
        connections.div_ceil(connections_per_listener()).try_into().expect("small"),
    )?;
    let resident_before = server.resident()?;
    let load = Rc::new(Load::new(&server.addresses, connections, options));

    load.open_all(&format!("{}: connecting", kind.label()));
    let held = load.held.get();
    let resident = server.resident()?.saturating_sub(resident_before);

    let cpu_before = server.cpu_time()?;
    let (requests, elapsed) =
        load.run_for(Duration::from_secs(options.seconds), &format!("{}: running", kind.label()));
    let cpu = server.cpu_time()?.saturating_sub(cpu_before);

    let tally = load.close_all();
    let report = server.finish().unwrap_or_else(|error| error.to_string());
    Ok(Row {
        kind,
        held,
        requests_per_second: requests as f64 / elapsed.as_secs_f64(),
        memory_per_connection: resident as f64 / held.max(1) as f64,
        cpu_per_request: cpu.div_f64(requests.max(1) as f64),
        tally,
        report,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Hold,
    Run,
    Close,
}

/// The clients of one server. They share it without locks, since all of them are on one thread.
struct Load {
    servers: Vec<SocketAddr>,
    connections: u64,
    message_size: usize,
    phase: Cell<Phase>,
    /// Connections that were attempted, which is also the next one's number.
    attempted: Cell<u64>,
    /// Those of them that have had an echo.
    held: Cell<u64>,
    clients: RefCell<Vec<JoinHandle<()>>>,
    tally: RefCell<Tally>,
}

impl Load {
    fn new(servers: &[SocketAddr], connections: u64, options: &Options) -> Load {
        Load {
            servers: servers.to_vec(),
            connections,
            message_size: options.message_size as usize,
            phase: Cell::new(Phase::Open),
            attempted: Cell::new(0),
            held: Cell::new(0),
            clients: RefCell::default(),
            tally: RefCell::default(),
        }
    }

    /// Opens all connections; returns when each has had its first echo or has failed.
    fn open_all(self: &Rc<Load>, label: &str) {
        let progress = Progress::new(label, self.connections);
        let start = Instant::now();
        let connectors: Vec<_> = (0..CONNECTORS)
            .map(|_| {
                let load = Rc::clone(self);
                thread::spawn(move || load.connect_in_turn())
            })
            .collect();
        while !connectors.iter().all(JoinHandle::is_finished) {
            thread::sleep(TICK);
            progress.update(self.held.get(), "connections");
            if start.elapsed() > CONNECT_PHASE {
                self.phase.set(Phase::Hold);
            }
        }
        self.phase.set(Phase::Hold);
        let took = start.elapsed().as_secs_f64();
        progress.finish(self.held.get(), &format!("connections held after {took:.1} s"));
    }

    /// The body of a connector: opens one connection after the other while there are any to open.
    fn connect_in_turn(self: &Rc<Load>) {
        while self.phase.get() == Phase::Open && self.attempted.get() < self.connections {
            let id = self.attempted.replace(self.attempted.get() + 1);
            if let Err(failure) = self.connect(id) {
                self.tally.borrow_mut().failed(failure);
            }
        }
    }

    /// Connects, has one message echoed, and leaves the connection to a coroutine of its own.
    fn connect(self: &Rc<Load>, id: u64) -> Result<(), Failure> {
        let server = self.servers[id as usize % self.servers.len()];
        let mut client = Client::connect(server, id, self.message_size, TIMEOUT, |_| {})?;
        self.exchange(&mut client)?;
        let load = Rc::clone(self);
        let handle = thread::Builder::new().spawn(move || {
            if let Err(failure) = load.be_client(client) {
                load.tally.borrow_mut().failed(failure);
            }
        })?;
        self.clients.borrow_mut().push(handle);
        self.held.set(self.held.get() + 1);
        Ok(())
    }

    /// The body of a client: keeps its connection open and sends when all do.
    fn be_client(&self, mut client: Client) -> Result<(), Failure> {
        while matches!(self.phase.get(), Phase::Open | Phase::Hold) {
            thread::park();
        }
        while self.phase.get() == Phase::Run {
            self.exchange(&mut client)?;
        }
        Ok(())
    }

    fn exchange(&self, client: &mut Client) -> Result<(), Failure> {
        let latency = client.exchange()?;
        self.tally.borrow_mut().succeeded(latency, self.message_size);
        Ok(())
    }

    /// Has all clients send for `time`. Returns how many requests were answered and how long it
    /// really was.
    fn run_for(&self, time: Duration, label: &str) -> (usize, Duration) {
        let progress = Progress::new(label, time.as_secs());
        // The first echoes were served while others still connected.
        self.tally.borrow_mut().latencies.clear();
        self.phase.set(Phase::Run);
        let start = Instant::now();
        for client in self.clients.borrow().iter() {
            client.thread().unpark();
        }
        while start.elapsed() < time {
            thread::sleep(TICK.min(time - start.elapsed()));
            let rate = self.tally.borrow().latencies.len() as f64 / start.elapsed().as_secs_f64();
            progress.update(start.elapsed().as_secs(), &format!("s, {rate:.0} requests/s"));
        }
        let (requests, elapsed) = (self.tally.borrow().latencies.len(), start.elapsed());
        self.phase.set(Phase::Close);
        progress.finish(elapsed.as_secs(), &format!("s, {requests} requests"));
        (requests, elapsed)
    }

    /// Lets every client finish the exchange it is in and close its connection.
    fn close_all(&self) -> Tally {
        for client in self.clients.take() {
            if client.join().is_err() {
                self.tally.borrow_mut().failed(Failure::Io(io::Error::other("a client panicked")));
            }
        }
        self.tally.take()
    }
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Kind::Greenling => "greenling",
            Kind::Threads => "thread per connection",
        }
    }
}

fn print_table(rows: &mut [Row], connections: u64, options: &Options) {
    println!(
        "\n{connections} connections, messages of {} bytes, {} s for each server\n",
        options.message_size, options.seconds
    );
    println!(
        "{:<21} {:>7} {:>10} {:>9} {:>9} {:>11} {:>11} {:>7} {:>10}",
        "server",
        "held",
        "requests/s",
        "p50",
        "p99",
        "memory/conn",
        "CPU/request",
        "errors",
        "verified"
    );
    for row in rows.iter_mut() {
        let [p50, p99] = row.tally.percentiles([0.50, 0.99]);
        println!(
            "{:<21} {:>7} {:>10.0} {:>9} {:>9} {:>8.1} KB {:>8.2} µs {:>7} {:>7.1} MB",
            row.kind.label(),
            row.held,
            row.requests_per_second,
            milliseconds(p50),
            milliseconds(p99),
            row.memory_per_connection / 1e3,
            row.cpu_per_request.as_secs_f64() * 1e6,
            row.tally.error_count() + row.tally.mismatches,
            row.tally.bytes_verified as f64 / 1e6,
        );
    }
    for row in rows {
        let label = row.kind.label();
        if !row.report.is_empty() {
            println!("\n{label}: the server {}", row.report);
        }
        for (error, times) in &row.tally.errors {
            println!("\n{label}: {times} × {error}");
        }
        if row.tally.mismatches > 0 {
            println!("\n{label}: {} echoes were WRONG", row.tally.mismatches);
        }
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

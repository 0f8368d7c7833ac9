//! Many clients that load `echo_server` and check every byte that comes back.
//!
//! Run with: cargo run --release --example load_client
//!
//! Start `echo_server` first. Each client is a coroutine that sends `--requests` messages of
//! random bytes, one after the other, and compares each reply with what an upper-casing server
//! must answer. The exit status is 0 only if every reply came and was right.

#[path = "support/limits.rs"]
mod limits;
#[path = "support/load.rs"]
mod load;
#[path = "support/progress.rs"]
mod progress;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use greenling::thread::{self, JoinHandle};

use load::{CONNECTORS, Client, Failure, MAX_MESSAGE, Tally};
use progress::Progress;

const SPARE_DESCRIPTORS: u64 = 64;
const TICK: Duration = Duration::from_millis(50);

/// Loads an upper-casing echo server and verifies its replies.
#[derive(Parser)]
struct Options {
    /// The server
    #[arg(long, default_value = "127.0.0.1:7007", value_name = "HOST:PORT")]
    addr: String,
    /// Clients that are connected at the same time
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    clients: u64,
    /// Messages that each client sends
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    requests: u64,
    /// Bytes in a message
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=MAX_MESSAGE))]
    size: u64,
    /// Seconds that a client waits for the server before it gives up
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load_client: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every reply came and was right.
fn run(options: &Options) -> io::Result<bool> {
    let limit = limits::raise_open_files(options.clients + SPARE_DESCRIPTORS)?;
    let clients = options.clients.min(limit.saturating_sub(SPARE_DESCRIPTORS)).max(1);
    if clients < options.clients {
        eprintln!(
            "Only {limit} files may be open here: {clients} clients instead of {}.",
            options.clients
        );
    }
    let server = options.addr.to_socket_addrs()?.next();
    let server = server.ok_or_else(|| io::Error::other("the server's name has no address"))?;
    let load = Rc::new(Load {
        server,
        clients,
        requests: options.requests,
        size: options.size as usize,
        timeout: Duration::from_secs(options.timeout),
        started: Cell::new(0),
        tally: RefCell::default(),
    });
    let start = Instant::now();
    load.run();
    Ok(load.report(start.elapsed()))
}

/// What the clients share.
struct Load {
    server: SocketAddr,
    clients: u64,
    requests: u64,
    size: usize,
    timeout: Duration,
    /// Clients that were begun with, which is also the next one's number.
    started: Cell<u64>,
    tally: RefCell<Tally>,
}

impl Load {
    /// Runs all clients to their end.
    fn run(self: &Rc<Load>) {
        let progress = Progress::new("requests", self.clients * self.requests);
        let connectors: Vec<_> = (0..CONNECTORS)
            .map(|_| {
                let load = Rc::clone(self);
                thread::spawn(move || load.connect_in_turn())
            })
            .collect();
        while !connectors.iter().all(JoinHandle::is_finished) {
            thread::sleep(TICK);
            progress.update(self.answered(), "answered");
        }
        for connector in connectors {
            for client in connector.join().expect("a connector does not panic") {
                while !client.is_finished() {
                    thread::sleep(TICK);
                    progress.update(self.answered(), "answered");
                }
                client.join().expect("a client does not panic");
            }
        }
        progress.finish(self.answered(), "answered");
    }

    fn answered(&self) -> u64 {
        self.tally.borrow().latencies.len() as u64
    }

    /// The body of a connector: starts one client after the other while there are any to start.
    fn connect_in_turn(self: &Rc<Load>) -> Vec<JoinHandle<()>> {
        let mut clients = Vec::new();
        while self.started.get() < self.clients {
            let id = self.started.replace(self.started.get() + 1);
            match self.start(id) {
                Ok(client) => clients.push(client),
                Err(failure) => self.tally.borrow_mut().failed(failure),
            }
        }
        clients
    }

    /// Connects, sends the first message, and leaves the others to a coroutine of the client's own.
    fn start(self: &Rc<Load>, id: u64) -> Result<JoinHandle<()>, Failure> {
        let answer = <[u8]>::make_ascii_uppercase;
        let mut client = Client::connect(self.server, id, self.size, self.timeout, answer)?;
        self.send(&mut client, 1)?;
        let load = Rc::clone(self);
        let coroutine = thread::Builder::new().spawn(move || {
            if let Err(failure) = load.send(&mut client, load.requests - 1) {
                load.tally.borrow_mut().failed(failure);
            }
        })?;
        Ok(coroutine)
    }

    fn send(&self, client: &mut Client, requests: u64) -> Result<(), Failure> {
        for _ in 0..requests {
            let latency = client.exchange()?;
            self.tally.borrow_mut().succeeded(latency, self.size);
        }
        Ok(())
    }

    /// Prints the totals; whether nothing was missing or wrong.
    fn report(&self, took: Duration) -> bool {
        let mut tally = self.tally.borrow_mut();
        let [p50, p99] = tally.percentiles([0.50, 0.99]);
        let (answered, wanted) = (tally.latencies.len() as u64, self.clients * self.requests);
        let seconds = took.as_secs_f64();
        println!("clients            {}", self.clients);
        println!("requests answered  {answered} of {wanted}");
        println!("bytes verified     {}", tally.bytes_verified);
        println!("mismatches         {}", tally.mismatches);
        println!("errors             {}", tally.error_count());
        println!("time               {seconds:.2} s, {:.0} requests/s", answered as f64 / seconds);
        println!("latency            p50 {p50:.1?}, p99 {p99:.1?}");
        for (error, times) in &tally.errors {
            println!("{times} × {error}");
        }
        answered == wanted && tally.mismatches == 0
    }
}

//! The two servers of `c10k`, each in a process of its own, so that the kernel tells its CPU time
//! and memory apart from the load generator's.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::proc::status_bytes;

/// What a connection's thread or coroutine gets; its buffer of 4 KiB is on it.
const STACK_SIZE: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A coroutine per connection, all on one thread
    Greenling,
    /// A thread of the operating system per connection
    Threads,
}

mod over_greenling {
    use super::{Duration, Report, STACK_SIZE};
    use greenling::{net, thread};
    use std::io::{self, Read, Write};

    include!("echo_service.rs");
}

mod over_threads {
    use super::{Duration, Report, STACK_SIZE};
    use std::io::{self, Read, Write};
    use std::{net, thread};

    include!("echo_service.rs");
}

/// The body of the server process: serves on `count` listeners and prints the address of each. It
/// ends when its standard input does, so that it never outlives the process that started it.
pub(crate) fn serve(kind: Kind, count: usize) -> io::Result<()> {
    let report: &'static Report = Box::leak(Box::new(Report::new(capacity(kind))));
    let listeners = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0"))
        .collect::<io::Result<Vec<_>>>()?;
    for listener in &listeners {
        println!("listening on {}", listener.local_addr()?);
    }
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        report.print();
        std::process::exit(0);
    });
    match kind {
        Kind::Greenling => {
            let listeners = listeners.into_iter().map(Into::into).collect();
            over_greenling::serve(listeners, report);
        }
        Kind::Threads => over_threads::serve(listeners, report),
    }
    Ok(())
}

/// How many connections the server tries to serve.
fn capacity(kind: Kind) -> u64 {
    let max_maps = fs::read_to_string("/proc/sys/vm/max_map_count");
    match (kind, max_maps.ok().and_then(|count| count.trim().parse::<u64>().ok())) {
        // A thread of std's takes four memory maps: its stack, the stack of its overflow handler,
        // and a guard for each. When the last two cannot be had, std aborts the process.
        (Kind::Threads, Some(max_maps)) => max_maps.saturating_sub(200) / 4,
        _ => u64::MAX,
    }
}

/// What the server says when it ends: how many connections it could serve and why not more.
pub(crate) struct Report {
    capacity: u64,
    served: AtomicU64,
    refused: AtomicU64,
    reason: OnceLock<String>,
}

impl Report {
    fn new(capacity: u64) -> Report {
        let (served, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Report { capacity, served, refused, reason: OnceLock::new() }
    }

    /// Whether one more connection may be given a thread; if not, the error says why.
    fn admit(&self) -> io::Result<()> {
        match self.served.load(Relaxed) < self.capacity {
            true => Ok(()),
            false => Err(io::Error::other("more threads would exceed vm.max_map_count")),
        }
    }

    fn served(&self) {
        self.served.fetch_add(1, Relaxed);
    }

    fn refused(&self, error: &io::Error) {
        self.refused.fetch_add(1, Relaxed);
        self.reason.get_or_init(|| error.to_string());
    }

    fn print(&self) {
        if let Some(reason) = self.reason.get() {
            let (served, refused) = (self.served.load(Relaxed), self.refused.load(Relaxed));
            println!("served {served} connections and failed to serve {refused}: {reason}");
        }
    }
}

/// A server process, seen from the one that started it.
pub(crate) struct ServerProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl ServerProcess {
    /// Runs this same program again as a server and waits until it listens.
    pub(crate) fn start(kind: Kind, listeners: usize) -> io::Result<ServerProcess> {
        let kind = clap::ValueEnum::to_possible_value(&kind).expect("no kind is skipped");
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--serve", kind.get_name(), "--listeners", &listeners.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut server = ServerProcess { child, stdin, stdout, addresses: Vec::new() };
        for _ in 0..listeners {
            let address = server.read_address()?;
            server.addresses.push(address);
        }
        Ok(server)
    }

    fn read_address(&mut self) -> io::Result<SocketAddr> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        line.strip_prefix("listening on ")
            .and_then(|address| address.trim().parse().ok())
            .ok_or_else(|| io::Error::other(format!("the server does not listen: {line:?}")))
    }

    /// Memory that is resident in the server process. What the kernel keeps for it, such as
    /// sockets and the 16 KiB of kernel stack of each thread, is not in it.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        status_bytes(&self.child.id().to_string(), "VmRSS")
    }

    /// CPU time, user and system, of all threads that the server has or had.
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The command's name, in parentheses, may itself hold spaces and parentheses.
        let (_, fields) = stat.rsplit_once(')').unwrap_or(("", &stat));
        // utime and stime are fields 14 and 15 of the line, the first after the name being 3.
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
        // Linux reports in units of 1/100 s to every program, whatever its own tick.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Tells the server to end. Returns what it had to report, or the error by which it died.
    pub(crate) fn finish(mut self) -> io::Result<String> {
        drop(self.stdin.take());
        let mut report = String::new();
        self.stdout.read_to_string(&mut report)?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(io::Error::other(format!("the server process died: {status}")));
        }
        Ok(report.trim().to_owned())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Harmless after `finish`; on every other way out nothing is to be left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! A run: starts the servers, lets them take turns under wrk, prints the table.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::server::{Kind, Nginx};
use crate::wrk::{self, Report};
use crate::{Options, hello, sys};

pub(crate) fn run(options: &Options) -> io::Result<()> {
    give_up_after(Duration::from_secs(options.limit));
    sys::raise_open_files()?;
    let (server_cpu, load_cpu) = match sys::allowed_cpus()?[..] {
        [server, load, ..] => (Some(server), Some(load)),
        _ => (None, None),
    };
    if server_cpu.is_none() {
        eprintln!("http: only one processor; server and load share it");
    }
    let mut servers = Vec::new();
    for &kind in &options.servers {
        if kind.is_installed() {
            servers.push(Server::start(kind, server_cpu)?);
        } else {
            eprintln!("skipped: {} is not installed", kind.name());
        }
    }
    println!(
        "{:>11}  {:<10} {:>10} {:>8} {:>7} {:>15} {:>9}",
        "connections", "server", "requests/s", "CPU µs", "ratio", "(quartiles)", "p99 µs"
    );
    for &connections in &options.connections {
        for tally in compare(&servers, options, connections, load_cpu)? {
            tally.print(connections);
        }
    }
    Ok(())
}

/// A run that hangs is a run that fails. The children die with this process.
fn give_up_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("http: not done after {} s", limit.as_secs());
        process::exit(1);
    });
}

fn compare(
    servers: &[Server],
    options: &Options,
    connections: usize,
    cpu: Option<usize>,
) -> io::Result<Vec<Tally>> {
    let mut tallies: Vec<_> = servers.iter().map(|server| Tally::new(server.kind)).collect();
    for server in servers {
        wrk::run(server.addr, connections, 1, cpu)?; // warms up
    }
    for _ in 0..options.rounds {
        for (server, tally) in servers.iter().zip(&mut tallies) {
            let before = sys::cpu_time(server.pid())?;
            let report = wrk::run(server.addr, connections, options.slice, cpu)?;
            let used = sys::cpu_time(server.pid())? - before;
            if report.requests == 0 {
                return Err(io::Error::other("no request was answered in a whole turn"));
            }
            tally.reports.push(report);
            tally.cpu.push(used.as_secs_f64() * 1e6 / report.requests as f64);
        }
        let Some(reference) = tallies.first().and_then(|first| first.cpu.last().copied()) else {
            return Ok(tallies);
        };
        for tally in &mut tallies {
            tally.ratios.extend(tally.cpu.last().map(|cpu| cpu / reference));
        }
        eprint!(".");
    }
    eprintln!();
    Ok(tallies)
}

/// What is known of a server at one number of connections.
struct Tally {
    kind: Kind,
    reports: Vec<Report>,
    /// Microseconds for each request.
    cpu: Vec<f64>,
    /// As a multiple of the first server's, in the same round.
    ratios: Vec<f64>,
}

impl Tally {
    fn new(kind: Kind) -> Tally {
        Tally { kind, reports: Vec::new(), cpu: Vec::new(), ratios: Vec::new() }
    }

    fn print(&self, connections: usize) {
        let of = |value: fn(&Report) -> f64| median(self.reports.iter().map(value).collect());
        let quartiles = format!(
            "{:.3}-{:.3}",
            quantile(self.ratios.clone(), 0.25),
            quantile(self.ratios.clone(), 0.75)
        );
        println!(
            "{connections:>11}  {:<10} {:>10.0} {:>8.2} {:>7.3} {quartiles:>15} {:>9.0}",
            self.kind.name(),
            of(|report| report.per_second),
            median(self.cpu.clone()),
            median(self.ratios.clone()),
            of(|report| report.p99.as_secs_f64() * 1e6),
        );
    }
}

fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1)) as f64 * part;
    values.get(at.round() as usize).copied().unwrap_or(f64::NAN)
}

/// A child that does not outlive its handle.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has a command run on one processor, and die with this process.
pub(crate) fn command_on(mut command: Command, cpu: Option<usize>) -> Command {
    // SAFETY: two system calls, which touch nothing but the new process.
    unsafe {
        command.pre_exec(move || {
            sys::die_with_parent()?;
            cpu.map_or(Ok(()), sys::pin_to)
        });
    }
    command
}

struct Server {
    kind: Kind,
    addr: SocketAddr,
    process: Process,
}

enum Process {
    Own(Killed),
    Nginx(Nginx),
}

impl Server {
    fn start(kind: Kind, cpu: Option<usize>) -> io::Result<Server> {
        let server = match kind {
            Kind::Nginx => {
                let nginx = Nginx::start(cpu)?;
                Server { kind, addr: nginx.addr, process: Process::Nginx(nginx) }
            }
            _ => Server::start_own(kind, cpu)?,
        };
        server.check()?;
        Ok(server)
    }

    fn start_own(kind: Kind, cpu: Option<usize>) -> io::Result<Server> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["serve", kind.name()]);
        if let Some(cpu) = cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut child = Killed(child);
        let mut line = String::new();
        let stdout = child.0.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line)?;
        let addr = line
            .strip_prefix("listening on ")
            .and_then(|addr| addr.trim().parse().ok())
            .ok_or_else(|| io::Error::other(format!("not an address: {line:?}")))?;
        Ok(Server { kind, addr, process: Process::Own(child) })
    }

    fn pid(&self) -> u32 {
        match &self.process {
            Process::Own(child) => child.0.id(),
            Process::Nginx(nginx) => nginx.process.0.id(),
        }
    }

    /// wrk looks at the status only; so that the body is right is seen to here.
    fn check(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        // Two at once, and the second in two pieces.
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHo")?;
        thread::sleep(Duration::from_millis(20));
        stream.write_all(b"st: a\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while text.matches(hello::BODY).count() < 2 {
            match stream.read(&mut buffer)? {
                0 => return Err(io::Error::other(format!("{}: {text:?}", self.kind.name()))),
                length => text.push_str(&String::from_utf8_lossy(&buffer[..length])),
            }
        }
        Ok(())
    }
}

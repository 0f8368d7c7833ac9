//! A server beside its load generator, and several such pairs that take turns.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{self, Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::{Protocol, Slice};
use crate::server::Kind;
use crate::stats::{median, micros, spread};
use crate::strace::Strace;
use crate::sys;

/// Files that a server has open beside its connections, generously.
const SPARE_FILES: usize = 64;

/// A server to be measured: a program that serves on a loopback port until it is killed.
#[derive(Clone, Debug)]
pub struct Subject {
    pub name: String,
    pub command: Vec<OsString>,
    /// Where it listens; if that is `None`, it prints `listening on ADDRESS`.
    pub addr: Option<SocketAddr>,
}

impl Subject {
    /// A server of the harness itself.
    ///
    /// # Errors
    /// If this program does not know its own path.
    pub fn built_in(kind: Kind, corrupt: bool) -> io::Result<Subject> {
        let mut command =
            vec![env::current_exe()?.into(), "serve".into(), OsString::from(kind.name())];
        if corrupt {
            command.push("--corrupt".into());
        }
        Ok(Subject { name: kind.name().to_owned(), command, addr: None })
    }
}

/// Which processors the two sides run on; nowhere in particular if there is only one.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    pub server: Option<usize>,
    pub load: Option<usize>,
}

impl Placement {
    /// # Errors
    /// What sched_getaffinity(2) says.
    pub fn choose() -> io::Result<Placement> {
        Ok(match sys::allowed_cpus()?[..] {
            [server, load, ..] => Placement { server: Some(server), load: Some(load) },
            _ => {
                eprintln!("only one processor; server and load share it");
                Placement { server: None, load: None }
            }
        })
    }
}

/// The most connections that a server can have open, by the limit of open files, which is raised.
///
/// # Errors
/// What setrlimit(2) says.
pub fn most_connections() -> io::Result<usize> {
    Ok((sys::raise_open_files()? as usize).saturating_sub(SPARE_FILES))
}

/// A run that hangs is a run that fails. The children die with this process.
pub fn give_up_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("not done after {} s", limit.as_secs());
        process::exit(1);
    });
}

/// The kind of the error that says that a server did not take all connections.
const FELL: io::ErrorKind = io::ErrorKind::ConnectionAborted;

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    pub protocol: Protocol,
    pub connections: usize,
    /// How many of the connections are busy at once, by the name of that; all of them take turns.
    pub modes: Vec<(&'static str, usize)>,
    pub rounds: usize,
    /// Measured time of a turn, in milliseconds, to which a tenth for each busy connection is added.
    pub slice: u64,
    /// Whether to count system calls at the end.
    pub strace: bool,
    /// Have the load generators compare nothing.
    pub blind: bool,
    /// Whether the others go on when a server ends, or refuses a connection, while they are opened: a fact to
    /// report, where it is a limit that is looked for. A wrong answer fails the run in any case.
    pub may_fall: bool,
}

/// All that is known of one server at one number of connections in one mode.
#[derive(Clone, Debug)]
pub struct Report {
    pub name: String,
    pub protocol: Protocol,
    pub connections: usize,
    pub mode: &'static str,
    pub slices: Vec<Slice>,
    /// Processor time per request, as a multiple of the first server's in the same round.
    pub ratios: Vec<f64>,
    /// Bytes for each connection.
    pub resident: f64,
    /// From the first connect to the first answer on the last connection.
    pub opened: Duration,
    /// System calls for each request, in all and by name.
    pub calls: Option<(f64, String)>,
}

impl Report {
    /// Microseconds for each round.
    pub fn cpu_per_request(&self) -> Vec<f64> {
        self.slices.iter().map(|s| micros(s.cpu) / s.requests as f64).collect()
    }

    /// For each round.
    pub fn requests_per_second(&self) -> Vec<f64> {
        self.slices.iter().map(|s| s.requests as f64 / s.elapsed.as_secs_f64()).collect()
    }

    pub fn median_of(&self, value: impl Fn(&Slice) -> f64) -> f64 {
        median(self.slices.iter().map(value).collect())
    }

    /// How much the processor time per request varies over the rounds, in percent.
    pub fn noise(&self) -> f64 {
        spread(self.cpu_per_request())
    }
}

/// A load generator that no longer compares would make every server look right, so each run begins with a
/// server that answers wrongly.
///
/// # Errors
/// If it passes, or if it fails for another reason.
pub fn check_that_errors_are_seen(placement: Placement, blind: bool) -> io::Result<()> {
    let subject = Subject::built_in(Kind::Raw, true)?;
    let mut pair = Pair::start(&subject, Protocol::Echo, 10, placement, blind, Stdio::null)?;
    // It has at most a thousand right answers in it.
    match (0..20).try_for_each(|_| pair.slice(0, 50, 10).map(drop)) {
        Err(_) => Ok(()),
        Ok(()) => Err(io::Error::other("the load generator does not see a wrong answer")),
    }
}

/// Lets all servers take turns, with the same number of connections each. For each mode there is a report of
/// each server.
///
/// # Errors
/// If a server fails, answers wrongly, or does not answer.
pub fn compare(
    subjects: &[Subject],
    plan: &Plan,
    placement: Placement,
) -> io::Result<Vec<Vec<Report>>> {
    let mut pairs = Vec::new();
    let mut standing = Vec::new();
    for subject in subjects {
        let (protocol, connections) = (plan.protocol, plan.connections);
        match Pair::start(subject, protocol, connections, placement, plan.blind, Stdio::inherit) {
            Ok(pair) => {
                pairs.push(pair);
                standing.push(subject);
            }
            Err(error) if plan.may_fall && error.kind() == FELL => {
                eprintln!("{} with {connections} connections: {error}", subject.name);
            }
            Err(error) => return Err(io::Error::other(format!("{}: {error}", subject.name))),
        }
    }
    if standing.is_empty() {
        return Err(io::Error::other("no server is left to measure"));
    }
    let mut reports: Vec<Vec<Report>> = (plan.modes.iter())
        .map(|&(mode, _)| standing.iter().map(|s| Report::new(&s.name, plan, mode)).collect())
        .collect();
    for _ in 0..plan.rounds {
        for (&(_, active), reports) in plan.modes.iter().zip(&mut reports) {
            // Long enough for each connection to have had some turns: with 20,000 of them one takes half a
            // second, and in less time than that one side rests while the other works.
            let (warm, slice) = (50 + active as u64 / 20, plan.slice + active as u64 / 10);
            for (pair, report) in pairs.iter_mut().zip(&mut *reports) {
                let slice = pair.slice(warm, slice, active);
                report.slices.push(
                    slice.map_err(|error| io::Error::other(format!("{}: {error}", report.name)))?,
                );
            }
            let reference = reports[0].cpu_per_request().last().copied().unwrap_or(f64::NAN);
            for report in reports {
                report.ratios.extend(report.cpu_per_request().last().map(|cpu| cpu / reference));
            }
        }
        eprint!(".");
    }
    for (at, pair) in pairs.iter_mut().enumerate() {
        let grown = sys::resident(pair.server.id())?.saturating_sub(pair.resident_before);
        let calls = plan.strace.then(|| pair.count_calls(plan.slice, plan.connections));
        let calls = calls.and_then(|calls| {
            calls.map_err(|error| eprintln!("no system calls counted: {error}")).ok()
        });
        for reports in &mut reports {
            reports[at].resident = grown as f64 / plan.connections as f64;
            reports[at].opened = pair.opened;
            reports[at].calls = calls.clone();
        }
    }
    Ok(reports)
}

impl Report {
    fn new(name: &str, plan: &Plan, mode: &'static str) -> Report {
        Report {
            name: name.to_owned(),
            protocol: plan.protocol,
            connections: plan.connections,
            mode,
            slices: Vec::new(),
            ratios: Vec::new(),
            resident: 0.0,
            opened: Duration::ZERO,
            calls: None,
        }
    }
}

/// What became of a server at one of its limits.
#[derive(Clone, Debug)]
pub struct Limit {
    pub name: String,
    /// How many connections it held when the next one failed.
    pub held: usize,
    /// How many of those it still answered then.
    pub served: usize,
    /// How many it held when all had been closed, and opened again.
    pub again: usize,
    /// How the first connection beyond the limit failed.
    pub failure: String,
}

/// Fills a server up to a limit: of open files, or of address space in bytes. That it ends there is a result.
///
/// # Errors
/// If the server cannot be started.
pub fn reach_limit(
    subject: &Subject,
    most: usize,
    placement: Placement,
    files: Option<u64>,
    address_space: Option<u64>,
) -> io::Result<Limit> {
    let mut server = Server::start(subject, placement.server, files, address_space, Stdio::null)?;
    let arguments = ["limit".into(), server.addr.to_string(), "--most".into(), most.to_string()];
    let mut client = launch(&own(&arguments)?, placement.load, None, None, Stdio::inherit())?;
    let mut from_client = BufReader::new(client.0.stdout.take().expect("it is piped"));
    let line = read_line(&mut from_client, "load generator")?;
    let ended = server.process.0.try_wait()?;
    let words: Vec<_> = line.split_whitespace().collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse().ok());
    match (number(0), number(1), number(2), words.get(3)) {
        (Some(held), Some(served), Some(again), Some(failure)) => {
            let name = subject.name.clone();
            let failure = match ended {
                Some(status) => format!("{failure}; the server ended: {status}"),
                None => (*failure).to_owned(),
            };
            Ok(Limit { name, held, served, again, failure })
        }
        _ => Err(io::Error::other(format!("not a result: {line:?}"))),
    }
}

/// A child that does not outlive its handle.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that listens.
struct Server {
    process: Killed,
    addr: SocketAddr,
}

impl Server {
    fn start(
        subject: &Subject,
        cpu: Option<usize>,
        files: Option<u64>,
        address_space: Option<u64>,
        stderr: fn() -> Stdio,
    ) -> io::Result<Server> {
        let mut process = launch(&subject.command, cpu, files, address_space, stderr())?;
        let mut stdout = BufReader::new(process.0.stdout.take().expect("it is piped"));
        let addr = match subject.addr {
            Some(addr) => {
                wait_until_it_listens(addr)?;
                addr
            }
            None => {
                let line = read_line(&mut stdout, &subject.name)?;
                line.strip_prefix("listening on ")
                    .and_then(|addr| addr.parse().ok())
                    .ok_or_else(|| io::Error::other(format!("not an address: {line:?}")))?
            }
        };
        Ok(Server { process, addr })
    }

    fn id(&self) -> u32 {
        self.process.0.id()
    }
}

fn wait_until_it_listens(addr: SocketAddr) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        match TcpStream::connect(addr) {
            Ok(_) => return Ok(()),
            Err(error) if begin.elapsed() > Duration::from_secs(5) => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A server and its load generator. The load is dropped first.
struct Pair {
    _load: Killed,
    to_load: ChildStdin,
    from_load: BufReader<ChildStdout>,
    server: Server,
    protocol: Protocol,
    resident_before: u64,
    opened: Duration,
}

impl Pair {
    fn start(
        subject: &Subject,
        protocol: Protocol,
        connections: usize,
        placement: Placement,
        blind: bool,
        stderr: fn() -> Stdio,
    ) -> io::Result<Pair> {
        let server = Server::start(subject, placement.server, None, None, stderr)?;
        let resident_before = sys::resident(server.id())?;
        let mut arguments = vec!["load".to_owned(), server.addr.to_string()];
        arguments.extend(["--connections".to_owned(), connections.to_string()]);
        arguments.extend(["--server".to_owned(), server.id().to_string()]);
        arguments.extend(["--protocol".to_owned(), protocol.name().to_owned()]);
        arguments.extend(blind.then(|| "--blind".to_owned()));
        let mut load = launch(&own(&arguments)?, placement.load, None, None, stderr())?;
        let to_load = load.0.stdin.take().expect("it is piped");
        let mut from_load = BufReader::new(load.0.stdout.take().expect("it is piped"));
        let line = read_line(&mut from_load, "load generator")?;
        if let Some(why) = line.strip_prefix("refused ") {
            return Err(io::Error::new(FELL, why.to_owned()));
        }
        let nanos = line.strip_prefix("ready ").and_then(|nanos| nanos.parse().ok());
        let opened = nanos
            .map(Duration::from_nanos)
            .ok_or_else(|| io::Error::other(format!("not ready: {line:?}")))?;
        Ok(Pair { _load: load, to_load, from_load, server, protocol, resident_before, opened })
    }

    /// One turn: times in milliseconds.
    fn slice(&mut self, warm: u64, measure: u64, active: usize) -> io::Result<Slice> {
        writeln!(self.to_load, "{warm} {measure} {active}")?;
        let line = read_line(&mut self.from_load, "load generator")?;
        let slice = Slice::parse(&line, self.protocol)?;
        if slice.requests == 0 {
            return Err(io::Error::other("no request was answered in a whole turn"));
        }
        Ok(slice)
    }

    /// System calls per request, in all and by name.
    fn count_calls(&mut self, measure: u64, active: usize) -> io::Result<(f64, String)> {
        let strace = Strace::attach(self.server.id())?;
        // It says so once for each thread; those of `threads` are all held by now.
        thread::sleep(Duration::from_millis(200));
        let slice = self.slice(0, 2 * measure, active);
        let calls = strace.finish()?;
        let requests = slice?.total;
        Ok((calls.total() as f64 / requests as f64, calls.per_request(requests)))
    }
}

/// A command that runs this program in another role.
fn own(arguments: &[String]) -> io::Result<Vec<OsString>> {
    let program = env::current_exe()?.into_os_string();
    Ok([program].into_iter().chain(arguments.iter().map(OsString::from)).collect())
}

/// Starts a program, by way of this one in the role `launch`.
fn launch(
    command: &[OsString],
    cpu: Option<usize>,
    files: Option<u64>,
    address_space: Option<u64>,
    stderr: Stdio,
) -> io::Result<Killed> {
    let mut launcher = Command::new(env::current_exe()?);
    launcher.arg("launch");
    for (flag, value) in [
        ("--cpu", cpu.map(|cpu| cpu as u64)),
        ("--files", files),
        ("--address-space", address_space),
    ] {
        launcher.args(value.map(|value| format!("{flag}={value}")));
    }
    launcher.arg("--").args(command);
    launcher.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().map(Killed)
}

fn read_line(from: &mut impl BufRead, whom: &str) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::Error::other(format!("{whom}: failed")));
    }
    Ok(line.trim_end().to_owned())
}

//! A run: starts the servers and their load generators, lets them take turns, prints the table.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::SocketAddr;
use std::process::{self, Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::load::Slice;
use crate::server::Kind;
use crate::strace::Strace;
use crate::{Options, sys};

/// Files that a server has open beside its connections, generously.
const SPARE_FILES: usize = 64;

/// Which processors the two sides run on; nowhere in particular if there is only one.
#[derive(Clone, Copy)]
struct Placement {
    server: Option<usize>,
    load: Option<usize>,
}

pub(crate) fn run(options: &Options) -> io::Result<()> {
    give_up_after(Duration::from_secs(options.limit));
    let most = (sys::raise_open_files()? as usize).saturating_sub(SPARE_FILES);
    let placement = match sys::allowed_cpus()?[..] {
        [server, load, ..] => Placement { server: Some(server), load: Some(load) },
        _ => Placement { server: None, load: None },
    };
    if placement.server.is_none() {
        eprintln!("echo: only one processor; server and load share it");
    }
    check_that_errors_are_seen(placement)?;

    let mut csv = options.csv.as_ref().map(File::create).transpose()?.map(BufWriter::new);
    if let Some(csv) = &mut csv {
        writeln!(
            csv,
            "connections,server,round,requests,seconds,cpu_us_per_request,p50_us,p99_us"
        )?;
    }
    let mut reports = Vec::new();
    for (at, &wanted) in options.connections.iter().enumerate() {
        let connections = wanted.min(most);
        if connections < wanted {
            eprintln!("echo: {connections} connections instead of {wanted}: limit of open files");
        }
        eprint!("{connections} connections ");
        let strace = options.strace && at == 0;
        let reported = compare(options, connections, placement, strace)?;
        for report in &reported {
            if let Some(csv) = &mut csv {
                report.write_csv(csv)?;
            }
        }
        eprintln!();
        reports.push(reported);
    }
    if let Some(csv) = &mut csv {
        csv.flush()?;
    }
    print_table(&reports);
    Ok(())
}

/// A run that hangs is a run that fails. The children die with this process.
fn give_up_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("echo: not done after {} s", limit.as_secs());
        process::exit(1);
    });
}

/// A load generator that no longer compares would make every server look right, so each run begins
/// with a server that answers wrongly.
fn check_that_errors_are_seen(placement: Placement) -> io::Result<()> {
    let mut pair = Pair::start(Kind::Raw, 10, placement, true, Stdio::null)?;
    // It has at most a thousand right answers in it.
    match (0..20).try_for_each(|_| pair.slice(0, 50).map(drop)) {
        Err(_) => Ok(()),
        Ok(()) => Err(io::Error::other("the load generator does not see a wrong answer")),
    }
}

/// All that is known of one server at one number of connections.
struct Report {
    kind: Kind,
    connections: usize,
    slices: Vec<Slice>,
    /// Processor time per request, as a multiple of the first server's in the same round.
    ratios: Vec<f64>,
    resident: u64,
    /// System calls for each request, in all and by name.
    calls: Option<(f64, String)>,
}

/// Lets all servers take turns with the same number of connections.
fn compare(
    options: &Options,
    connections: usize,
    placement: Placement,
    strace: bool,
) -> io::Result<Vec<Report>> {
    let mut pairs = Vec::new();
    for (at, &kind) in options.servers.iter().enumerate() {
        let corrupt = options.corrupt && at == 0;
        pairs.push(Pair::start(kind, connections, placement, corrupt, Stdio::inherit)?);
    }
    let mut reports: Vec<_> =
        options.servers.iter().map(|&k| Report::new(k, connections)).collect();
    // Long enough for each connection to have had some turns.
    let warm = 50 + connections as u64 / 80;
    for _ in 0..options.rounds {
        for (pair, report) in pairs.iter_mut().zip(&mut reports) {
            report.slices.push(pair.slice(warm, options.slice)?);
        }
        let reference = reports[0].cpu_per_request().last().copied().unwrap_or(f64::NAN);
        for report in &mut reports {
            report.ratios.extend(report.cpu_per_request().last().map(|cpu| cpu / reference));
        }
        eprint!(".");
    }
    for (pair, report) in pairs.iter_mut().zip(&mut reports) {
        let now = sys::resident(pair.server.id())?;
        report.resident = now.saturating_sub(pair.resident_before) / connections as u64;
        if strace {
            match pair.count_calls(options.slice) {
                Ok(calls) => report.calls = Some(calls),
                Err(error) => eprintln!("echo: no system calls counted: {error}"),
            }
        }
    }
    Ok(reports)
}

impl Report {
    fn new(kind: Kind, connections: usize) -> Report {
        let (slices, ratios) = (Vec::new(), Vec::new());
        Report { kind, connections, slices, ratios, resident: 0, calls: None }
    }

    /// Microseconds for each round.
    fn cpu_per_request(&self) -> Vec<f64> {
        self.slices.iter().map(|s| micros(s.cpu) / s.requests as f64).collect()
    }

    fn median_of(&self, value: impl Fn(&Slice) -> f64) -> f64 {
        median(self.slices.iter().map(value).collect())
    }

    fn write_csv(&self, csv: &mut impl Write) -> io::Result<()> {
        for ((round, slice), cpu) in self.slices.iter().enumerate().zip(self.cpu_per_request()) {
            let (connections, name, requests) =
                (self.connections, self.kind.name(), slice.requests);
            let (seconds, p50, p99) =
                (slice.elapsed.as_secs_f64(), micros(slice.p50), micros(slice.p99));
            writeln!(
                csv,
                "{connections},{name},{round},{requests},{seconds:.4},{cpu:.3},{p50:.1},{p99:.1}"
            )?;
        }
        Ok(())
    }
}

fn print_table(reports: &[Vec<Report>]) {
    println!(
        "{:>11}  {:<10} {:>10} {:>8} {:>7} {:>15} {:>9} {:>9} {:>9} {:>10}",
        "connections",
        "server",
        "requests/s",
        "CPU µs",
        "ratio",
        "(quartiles)",
        "p50 µs",
        "p99 µs",
        "KB/conn",
        "calls/echo"
    );
    for report in reports.iter().flatten() {
        let (low, high) = quartiles(report.ratios.clone());
        println!(
            "{:>11}  {:<10} {:>10.0} {:>8.2} {:>7.3} {:>15} {:>9.0} {:>9.0} {:>9.1} {:>10}",
            report.connections,
            report.kind.name(),
            report.median_of(|slice| slice.requests as f64 / slice.elapsed.as_secs_f64()),
            median(report.cpu_per_request()),
            median(report.ratios.clone()),
            format!("{low:.3}-{high:.3}"),
            report.median_of(|slice| micros(slice.p50)),
            report.median_of(|slice| micros(slice.p99)),
            report.resident as f64 / 1000.0,
            report.calls.as_ref().map_or(String::from("-"), |(calls, _)| format!("{calls:.3}")),
        );
    }
    for report in reports.iter().flatten() {
        if let Some((_, names)) = &report.calls {
            println!("calls per echo, {}: {names}", report.kind.name());
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

fn quartiles(values: Vec<f64>) -> (f64, f64) {
    (quantile(values.clone(), 0.25), quantile(values, 0.75))
}

fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1)) as f64 * part;
    values.get(at.round() as usize).copied().unwrap_or(f64::NAN)
}

/// A child that does not outlive its handle.
struct Killed(Child);

impl Killed {
    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server and its load generator. The load is dropped first.
struct Pair {
    _load: Killed,
    to_load: ChildStdin,
    from_load: BufReader<ChildStdout>,
    server: Killed,
    resident_before: u64,
}

impl Pair {
    fn start(
        kind: Kind,
        connections: usize,
        placement: Placement,
        corrupt: bool,
        stderr: fn() -> Stdio,
    ) -> io::Result<Pair> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["serve", kind.name()]);
        if corrupt {
            command.arg("--corrupt");
        }
        let mut server = start(command, placement.server, stderr())?;
        let mut from_server = BufReader::new(server.0.stdout.take().expect("it is piped"));
        let line = read_line(&mut from_server, kind.name())?;
        let addr: SocketAddr = line
            .strip_prefix("listening on ")
            .and_then(|addr| addr.parse().ok())
            .ok_or_else(|| io::Error::other(format!("not an address: {line:?}")))?;
        let resident_before = sys::resident(server.id())?;

        let mut command = Command::new(env::current_exe()?);
        command.args(["load", &addr.to_string()]);
        command.args(["--connections", &connections.to_string()]);
        command.args(["--server", &server.id().to_string()]);
        let mut load = start(command, placement.load, stderr())?;
        let to_load = load.0.stdin.take().expect("it is piped");
        let mut from_load = BufReader::new(load.0.stdout.take().expect("it is piped"));
        read_line(&mut from_load, "load generator")?;
        Ok(Pair { _load: load, to_load, from_load, server, resident_before })
    }

    /// One turn: times in milliseconds.
    fn slice(&mut self, warm: u64, measure: u64) -> io::Result<Slice> {
        writeln!(self.to_load, "{warm} {measure}")?;
        let slice: Slice = read_line(&mut self.from_load, "load generator")?.parse()?;
        if slice.requests == 0 {
            return Err(io::Error::other("no request was answered in a whole turn"));
        }
        Ok(slice)
    }

    /// System calls per request, in all and by name.
    fn count_calls(&mut self, measure: u64) -> io::Result<(f64, String)> {
        let strace = Strace::attach(self.server.id())?;
        // It says so once for each thread; those of `threads` are all held by now.
        thread::sleep(Duration::from_millis(200));
        let slice = self.slice(0, 2 * measure);
        let calls = strace.finish()?;
        let requests = slice?.total;
        Ok((calls.total() as f64 / requests as f64, calls.per_request(requests)))
    }
}

fn start(mut command: Command, cpu: Option<usize>, stderr: Stdio) -> io::Result<Killed> {
    if let Some(cpu) = cpu {
        command.args(["--cpu", &cpu.to_string()]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().map(Killed)
}

fn read_line(from: &mut impl BufRead, whom: &str) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::Error::other(format!("{whom}: failed")));
    }
    Ok(line.trim_end().to_owned())
}

//! Has all who have an operation do it in turns.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use greenling_echo_bench::chart;
use greenling_echo_bench::measure::Placement;
use greenling_echo_bench::report::Table;
use greenling_echo_bench::stats::{median, quartiles, spread};
use greenling_echo_bench::sys;

use super::{Op, Peer};
use crate::foreign::Foreign;

/// How long a turn lasts at least.
const TURN: Duration = Duration::from_millis(15);
/// So many idle ones are made.
const IDLE: u64 = 5_000;
/// So often each sleeper sleeps in a turn.
const SLEEPS: u64 = 20;

/// One operation of one runtime.
pub(crate) struct Outcome {
    op: Op,
    name: String,
    /// Nanoseconds for one operation, in each round.
    nanos: Vec<f64>,
    /// As a multiple of greenling's in the same round.
    ratios: Vec<f64>,
    /// Resident memory of an idle one, in bytes.
    resident: Option<f64>,
}

/// All operations, by all who have them.
pub(crate) fn measure_all(
    ops: &[Op],
    foreign: &Foreign,
    placement: Placement,
    rounds: usize,
) -> io::Result<Vec<Outcome>> {
    let mut results = Vec::new();
    for &op in ops {
        eprint!("{} ", op.name());
        let commands = commands(op, foreign)?;
        results.extend(match op {
            Op::Idle => idle(&commands, placement, rounds.min(3))?,
            // Seconds each, of which gevent takes twenty.
            Op::Sleep => in_turns(op, &commands, placement, rounds.min(3))?,
            _ => in_turns(op, &commands, placement, rounds)?,
        });
        eprintln!();
    }
    Ok(results)
}

/// Who has this operation, and the command that measures it; greenling is the first.
fn commands(op: Op, foreign: &Foreign) -> io::Result<Vec<(String, Vec<OsString>)>> {
    let own = |peer: Peer| {
        let words = ["micro", peer.name(), op.name()].map(OsString::from);
        io::Result::Ok([env::current_exe()?.into()].into_iter().chain(words).collect())
    };
    let mut all = Vec::new();
    for peer in Peer::ALL {
        if peer_has(peer, op) {
            all.push((peer.name().to_owned(), own(peer)?));
        }
    }
    all.extend(foreign.micro(op));
    Ok(all)
}

/// Without making anything: some runtimes start threads when they are first spoken to.
fn peer_has(peer: Peer, op: Op) -> bool {
    match peer {
        Peer::Greenling => true,
        Peer::Corosensei => {
            matches!(op, Op::Switch | Op::Next | Op::Chain | Op::Yield | Op::Yield1000 | Op::Spawn)
        }
        Peer::Generator => matches!(op, Op::Next | Op::Chain),
        Peer::Tokio => !matches!(op, Op::Switch | Op::Next | Op::Chain | Op::Mutex4x250),
        Peer::Tokio2 => !matches!(op, Op::Switch | Op::Next | Op::Chain | Op::Idle),
        Peer::May => !matches!(op, Op::Switch | Op::Next | Op::Chain | Op::Timer | Op::Timer1m),
        Peer::Std => matches!(
            op,
            Op::Yield
                | Op::Spawn
                | Op::Channel
                | Op::Mutex
                | Op::Mutex1000
                | Op::Mutex4x250
                | Op::Idle
        ),
        Peer::ParkingLot => matches!(op, Op::Mutex | Op::Mutex1000 | Op::Mutex4x250),
    }
}

fn in_turns(
    op: Op,
    commands: &[(String, Vec<OsString>)],
    placement: Placement,
    rounds: usize,
) -> io::Result<Vec<Outcome>> {
    let mut standing = Vec::new();
    for (name, command) in commands {
        let cpu = placement.server.filter(|_| op.threads() == 1 && name != "tokio2");
        let mut child = Obedient::start(name, command, cpu)?;
        let count = child.enough(op)?;
        standing.push((child, count, Outcome::new(op, name)));
    }
    for _ in 0..rounds {
        for (child, count, result) in &mut standing {
            result.nanos.push(child.turn(*count)?.as_nanos() as f64 / *count as f64);
        }
        let reference = standing[0].2.nanos.last().copied().unwrap_or(f64::NAN);
        for (.., result) in &mut standing {
            result.ratios.extend(result.nanos.last().map(|nanos| nanos / reference));
        }
        eprint!(".");
    }
    Ok(standing.into_iter().map(|(.., result)| result).collect())
}

/// Each round has new processes, since what is made there stays.
fn idle(
    commands: &[(String, Vec<OsString>)],
    placement: Placement,
    rounds: usize,
) -> io::Result<Vec<Outcome>> {
    let mut results: Vec<_> =
        commands.iter().map(|(name, _)| Outcome::new(Op::Idle, name)).collect();
    let mut bytes: Vec<Vec<f64>> = vec![Vec::new(); results.len()];
    for _ in 0..rounds {
        for (at, (name, command)) in commands.iter().enumerate() {
            let mut child = Obedient::start(name, command, placement.server)?;
            child.turn(1)?;
            let before = sys::resident(child.process.id())?;
            let time = child.turn(IDLE)?;
            // Threads that were made last may not have begun yet.
            thread::sleep(Duration::from_millis(300));
            let grown = sys::resident(child.process.id())?.saturating_sub(before);
            results[at].nanos.push(time.as_nanos() as f64 / IDLE as f64);
            bytes[at].push(grown as f64 / IDLE as f64);
        }
        let reference = results[0].nanos.last().copied().unwrap_or(f64::NAN);
        for result in &mut results {
            result.ratios.extend(result.nanos.last().map(|nanos| nanos / reference));
        }
        eprint!(".");
    }
    for (result, bytes) in results.iter_mut().zip(bytes) {
        result.resident = Some(median(bytes));
    }
    Ok(results)
}

impl Outcome {
    fn new(op: Op, name: &str) -> Outcome {
        Outcome { op, name: name.to_owned(), nanos: Vec::new(), ratios: Vec::new(), resident: None }
    }
}

/// A child that does as many operations as it is told to.
struct Obedient {
    name: String,
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Obedient {
    fn start(name: &str, command: &[OsString], cpu: Option<usize>) -> io::Result<Obedient> {
        let mut launcher = Command::new(env::current_exe()?);
        launcher.arg("launch").args(cpu.map(|cpu| format!("--cpu={cpu}"))).arg("--").args(command);
        launcher.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = launcher.spawn()?;
        let stdin = process.stdin.take().expect("it is piped");
        let stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        Ok(Obedient { name: name.to_owned(), process, stdin, stdout })
    }

    fn turn(&mut self, count: u64) -> io::Result<Duration> {
        let failed = |error: &str| io::Error::other(format!("{}: {error}", self.name));
        let begin = sys::cpu_time(self.process.id())?;
        writeln!(self.stdin, "{count}").map_err(|error| failed(&error.to_string()))?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.trim() == "-" {
            // It has no clock that is fine enough.
            return Ok(sys::cpu_time(self.process.id())? - begin);
        }
        let nanos = line.trim().parse().map_err(|_| failed(&format!("not a time: {line:?}")))?;
        Ok(Duration::from_nanos(nanos))
    }

    /// So many operations, a multiple of the unit, last for a turn.
    fn enough(&mut self, op: Op) -> io::Result<u64> {
        // The first time it makes what it needs.
        let mut count = op.unit();
        self.turn(count)?;
        if op == Op::Sleep {
            return Ok(count * SLEEPS);
        }
        while self.turn(count)?.min(self.turn(count)?) < TURN {
            count *= 2;
        }
        Ok(count)
    }
}

impl Drop for Obedient {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn table_of(results: &[Outcome]) -> Table {
    let mut table =
        Table::new(["operation", "by", "ns", "÷ greenling", "(quartiles)", "spread %", "KB idle"]);
    for result in results {
        let (low, high) = quartiles(result.ratios.clone());
        table.row([
            result.op.title().to_owned(),
            result.name.clone(),
            format!("{:.1}", median(result.nanos.clone())),
            format!("{:.2}", median(result.ratios.clone())),
            format!("{low:.2}–{high:.2}"),
            format!("{:.0}", spread(result.nanos.clone())),
            result.resident.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes / 1000.0)),
        ]);
    }
    table
}

/// Every turn of every one.
pub(crate) fn csv(path: &Path, results: &[Outcome]) -> io::Result<()> {
    let mut text = String::from("operation,by,round,ns,ratio_to_greenling,resident_bytes\n");
    for result in results {
        let resident = result.resident.map_or(String::new(), |bytes| format!("{bytes:.0}"));
        for (round, (nanos, ratio)) in result.nanos.iter().zip(&result.ratios).enumerate() {
            text += &format!(
                "{},{},{round},{nanos:.2},{ratio:.4},{resident}\n",
                result.op.name(),
                result.name
            );
        }
    }
    fs::write(path, text)
}

/// A chart for each operation; what Markdown shows them with.
pub(crate) fn chart_all(charts: &Path, results: &[Outcome]) -> Result<String, Box<dyn Error>> {
    let mut pictures = String::new();
    for op in Op::ALL {
        let of_op: Vec<_> = results.iter().filter(|result| result.op == op).collect();
        // One that is hundreds of times as long leaves nothing to see of the others.
        let least = of_op.iter().map(|r| median(r.nanos.clone())).fold(f64::MAX, f64::min);
        let shown = |r: &&&Outcome| median(r.nanos.clone()) < 60.0 * least;
        let bars: Vec<_> = (of_op.iter().filter(shown))
            .map(|result| (result.name.clone(), median(result.nanos.clone())))
            .collect();
        if bars.is_empty() {
            continue;
        }
        let (title, left_out) = (op.title(), of_op.len() - bars.len());
        let unit = match left_out {
            0 => "nanoseconds".to_owned(),
            _ => format!("nanoseconds; {left_out} more take over 60 times the shortest"),
        };
        let file = format!("peers_{}.svg", op.name());
        chart::bars(&charts.join(&file), title, &unit, &bars)?;
        pictures += &format!("![{title}](charts/{file})\n");
    }
    Ok(pictures)
}

//! Small operations, each by a process of its own for each runtime.
//!
//! A child obeys its standard input: for each line with a count it does so many operations, and prints how many
//! nanoseconds of processor time that took. So all runtimes, in whatever language, can take turns.

mod bare;
mod drive;
mod locks;
mod ours;
mod with_may;
mod with_threads;
mod with_tokio;

use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use greenling_echo_bench::sys;

pub(crate) use drive::{chart_all, csv, measure_all, table_of};

/// Does so many operations, and says how long they took.
pub(crate) type Timed = Box<dyn FnMut(u64) -> Duration>;

/// How many there are in the operations with many.
pub(crate) const MANY: u64 = 1000;
/// How many are spawned at once.
pub(crate) const SPAWNED: u64 = 10_000;
/// How many sleep at once.
pub(crate) const SLEEPERS: u64 = 100_000;
/// So many timers are live beside the one that is measured.
pub(crate) const LIVE: u64 = 1_000_000;
/// Who holds the contended lock waits once in so many times.
pub(crate) const WAITS: u64 = 16;
/// A timer that does not fire.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
/// How long a sleeper sleeps.
pub(crate) const SHORT: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Op {
    Switch,
    Next,
    Chain,
    Yield,
    Yield1000,
    Spawn,
    Spawn10000,
    Channel,
    Mutex,
    Mutex1000,
    Mutex4x250,
    Timer,
    Timer1m,
    Sleep,
    Idle,
}

impl Op {
    pub(crate) const ALL: [Op; 15] = [
        Op::Switch,
        Op::Next,
        Op::Chain,
        Op::Yield,
        Op::Yield1000,
        Op::Spawn,
        Op::Spawn10000,
        Op::Channel,
        Op::Mutex,
        Op::Mutex1000,
        Op::Mutex4x250,
        Op::Timer,
        Op::Timer1m,
        Op::Sleep,
        Op::Idle,
    ];

    /// As it is called on a command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Op::Switch => "switch",
            Op::Next => "next",
            Op::Chain => "chain",
            Op::Yield => "yield",
            Op::Yield1000 => "yield1000",
            Op::Spawn => "spawn",
            Op::Spawn10000 => "spawn10000",
            Op::Channel => "channel",
            Op::Mutex => "mutex",
            Op::Mutex1000 => "mutex1000",
            Op::Mutex4x250 => "mutex4x250",
            Op::Timer => "timer",
            Op::Timer1m => "timer1m",
            Op::Sleep => "sleep",
            Op::Idle => "idle",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Op::Switch => "explicit switch, there and back",
            Op::Next => "next value of a generator",
            Op::Chain => "a link of a chain of 1,000: made, passed through, ended",
            Op::Yield => "yield, two in turn",
            Op::Yield1000 => "yield, 1,000 in turn",
            Op::Spawn => "spawn and join, one at a time",
            Op::Spawn10000 => "spawn and join, 10,000 at once",
            Op::Channel => "channel, there and back",
            Op::Mutex => "mutex, uncontended",
            Op::Mutex1000 => "mutex, 1,000 contend",
            Op::Mutex4x250 => "mutex, 4 threads × 250 contend",
            Op::Timer => "timer, set and cancel",
            Op::Timer1m => "timer, set and cancel, among a million live ones",
            Op::Sleep => "a sleep of 10 ms, 100,000 at once",
            Op::Idle => "an idle one, made",
        }
    }

    /// Counts are multiples of this.
    pub(crate) fn unit(self) -> u64 {
        match self {
            Op::Chain | Op::Yield1000 => MANY,
            Op::Spawn10000 => SPAWNED,
            Op::Sleep => SLEEPERS,
            Op::Mutex1000 | Op::Mutex4x250 => MANY * WAITS,
            _ => 1,
        }
    }

    /// How many threads work, each wherever it likes; with one, that is kept on one processor.
    pub(crate) fn threads(self) -> usize {
        if self == Op::Mutex4x250 { 4 } else { 1 }
    }
}

/// Who is measured in this program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Peer {
    Greenling,
    Corosensei,
    Generator,
    Tokio,
    Tokio2,
    May,
    Std,
    ParkingLot,
}

impl Peer {
    pub(crate) const ALL: [Peer; 8] = [
        Peer::Greenling,
        Peer::Corosensei,
        Peer::Generator,
        Peer::Tokio,
        Peer::Tokio2,
        Peer::May,
        Peer::Std,
        Peer::ParkingLot,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Greenling => "greenling",
            Peer::Corosensei => "corosensei",
            Peer::Generator => "generator",
            Peer::Tokio => "tokio",
            Peer::Tokio2 => "tokio2",
            Peer::May => "may",
            Peer::Std => "std",
            Peer::ParkingLot => "parking-lot",
        }
    }

    /// Whether all of it stays on one processor.
    pub(crate) fn is_pinned(self, op: Op) -> bool {
        op.threads() == 1 && self != Peer::Tokio2
    }

    /// What does the operation; `None` if this one has no such thing.
    pub(crate) fn find(self, op: Op) -> Option<Timed> {
        match self {
            Peer::Greenling => ours::find(op),
            Peer::Corosensei => bare::of_corosensei(op),
            Peer::Generator => bare::of_generator(op),
            Peer::Tokio => with_tokio::find(op, 0),
            Peer::Tokio2 => with_tokio::find(op, op.threads().max(2)),
            Peer::May => with_may::find(op),
            Peer::Std => with_threads::find(op),
            Peer::ParkingLot => locks::find(op),
        }
    }
}

/// Obeys standard input.
pub(crate) fn obey(peer: Peer, op: Op) -> io::Result<()> {
    let mut timed = peer.find(op).ok_or_else(|| io::Error::other("there is no such thing"))?;
    WALL.store(!peer.is_pinned(op), Ordering::Relaxed);
    for line in io::stdin().lock().lines() {
        let count: u64 = line?.trim().parse().map_err(io::Error::other)?;
        println!("{}", timed(count).as_nanos());
        io::stdout().flush()?;
    }
    Ok(())
}

/// Times so many calls.
pub(crate) fn each<R>(mut once: impl FnMut() -> R + 'static) -> Timed {
    Box::new(move |count| {
        timed(|| {
            for _ in 0..count {
                std::hint::black_box(once());
            }
        })
    })
}

pub(crate) fn timed(f: impl FnOnce()) -> Duration {
    let begin = Start::now();
    f();
    begin.elapsed()
}

/// Whether time is that of the clock on the wall.
static WALL: AtomicBool = AtomicBool::new(false);

/// A moment in this process's processor time, which passes while it runs and not while others do; or, for what has
/// several processors, of the clock on the wall.
#[derive(Clone, Copy)]
pub(crate) struct Start(Instant, Duration);

impl Start {
    pub(crate) fn now() -> Start {
        Start(Instant::now(), cpu_time())
    }

    pub(crate) fn elapsed(self) -> Duration {
        let (wall, cpu) = (self.0.elapsed(), cpu_time() - self.1);
        if WALL.load(Ordering::Relaxed) { wall } else { cpu }
    }
}

/// The time from when all have begun until all have done what they do.
pub(crate) struct Span {
    among: u64,
    begun: AtomicU64,
    ended: AtomicU64,
    first: OnceLock<Start>,
    length: OnceLock<Duration>,
}

impl Span {
    /// To be begun and ended by so many.
    pub(crate) fn new(among: u64) -> Arc<Span> {
        let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Span { among, begun, ended, first: OnceLock::new(), length: OnceLock::new() })
    }

    pub(crate) fn begin(&self) {
        if self.begun.fetch_add(1, Ordering::Relaxed) + 1 == self.among {
            self.first.get_or_init(Start::now);
        }
    }

    /// Until then, whoever has begun waits.
    pub(crate) fn all_have_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed) == self.among
    }

    pub(crate) fn end(&self) {
        if self.ended.fetch_add(1, Ordering::Relaxed) + 1 == self.among {
            self.length.get_or_init(|| self.first.get().map_or(Duration::ZERO, |s| s.elapsed()));
        }
    }

    /// Once all have ended.
    pub(crate) fn length(&self) -> Duration {
        self.length.get().copied().expect("all have ended")
    }
}

fn cpu_time() -> Duration {
    sys::cpu_time(std::process::id()).expect("a process has this clock")
}

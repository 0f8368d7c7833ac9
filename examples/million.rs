//! A million sleeping coroutines on one thread, and what they cost.
//!
//! Run with: cargo run --release --example million
//!
//! Each coroutine has a stack of its own with a guard, runs once, and sleeps with a timer of its
//! own until the main coroutine wakes it. A sleeping one keeps one page of its stack resident,
//! about 4 KB, so a million take about 4.2 GB; give a smaller `--count` where that is too much.

#[path = "support/proc.rs"]
mod proc;
#[path = "support/progress.rs"]
mod progress;

use std::cell::Cell;
use std::fs;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use greenling::thread::{self, JoinHandle};

use proc::status_bytes;
use progress::Progress;

/// How many are created between two updates of the progress.
const BATCH: u64 = 10_000;
/// Longer than this program ever runs.
const SLEEP: Duration = Duration::from_secs(3600);
/// Upper bound of the resident memory of one coroutine, to see beforehand how many fit.
const BYTES_EACH: u64 = 5_000;
/// Address space that is held back while they are created.
const RESERVE: usize = 64 * 1024 * 1024;

/// Creates many sleeping coroutines, says what they cost, and wakes them.
#[derive(Parser)]
struct Options {
    /// Coroutines to create
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    count: u64,
    /// Bytes of stack for each, of which only what is used becomes resident
    #[arg(long, default_value_t = 64 * 1024, value_name = "BYTES")]
    stack_size: usize,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("million: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every coroutine that was created slept and was woken.
fn run(options: &Options) -> io::Result<bool> {
    let before = Memory::now()?;
    let shared = Rc::new(Shared::default());

    let start = Instant::now();
    let sleepers = create(fits_memory(options.count), options.stack_size, &shared);
    let creation = start.elapsed();
    let asleep = Memory::now()?;
    let stats = greenling::hub::stats();

    let start = Instant::now();
    let count = sleepers.len() as u64;
    let panicked = wake(sleepers, &shared);
    let waking = start.elapsed();

    let each = |bytes: u64| bytes as f64 / count.max(1) as f64;
    let time_each = |time: Duration| time.as_secs_f64() * 1e6 / count.max(1) as f64;
    let resident = asleep.resident.saturating_sub(before.resident);
    let page_tables = asleep.page_tables.saturating_sub(before.page_tables);
    println!("\ncoroutines asleep       {count}");
    println!("creation                {creation:.2?}, {:.2} µs each", time_each(creation));
    println!("resident memory         {}, {:.0} bytes each", human(resident), each(resident));
    println!("page tables             {}, {:.0} bytes each", human(page_tables), each(page_tables));
    println!("stacks, address space   {}", human(stats.stack_bytes_reserved as u64));
    println!("memory maps             {} of {} allowed", asleep.maps, max_map_count());
    println!("wake all, join all      {waking:.2?}, {:.2} µs each", time_each(waking));
    println!("resident afterwards     {}", human(Memory::now()?.resident));
    if panicked > 0 {
        println!("PANICKED                {panicked}");
    }
    Ok(count > 0 && panicked == 0 && shared.woken.get() == count)
}

/// As many of `count` as the machine has memory for. Linux hands out address space without
/// counting it, so nothing would fail; the process would be killed when it uses its stacks.
fn fits_memory(count: u64) -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"))
        .and_then(|kibibytes| kibibytes.parse::<u64>().ok())
        .map_or(u64::MAX, |kibibytes| kibibytes * 1024);
    let fitting = (available / 10 * 9 / BYTES_EACH).max(1);
    if fitting < count {
        eprintln!(
            "{} of memory are available: {fitting} coroutines, not {count}.",
            human(available)
        );
    }
    count.min(fitting)
}

/// What the coroutines share with the main one.
#[derive(Default)]
struct Shared {
    asleep: Cell<u64>,
    wake_up: Cell<bool>,
    woken: Cell<u64>,
}

/// The body of each coroutine.
fn sleep_until_woken(shared: &Shared) {
    shared.asleep.set(shared.asleep.get() + 1);
    while !shared.wake_up.get() {
        thread::park_timeout(SLEEP);
    }
    shared.woken.set(shared.woken.get() + 1);
}

/// Creates coroutines and lets each run until it sleeps. Where a limit is hit, says so and goes on
/// with those that there are.
fn create(count: u64, stack_size: usize, shared: &Rc<Shared>) -> Vec<JoinHandle<()>> {
    let progress = Progress::new("creating", count);
    let mut sleepers = Vec::with_capacity(count as usize);
    // Where address space is limited, the stacks may take the last of it; but sleeping and waking
    // need some memory too.
    let mut reserve = Some(std::hint::black_box(Vec::<u8>::with_capacity(RESERVE)));
    let mut limit = None;
    while limit.is_none() && (sleepers.len() as u64) < count {
        for _ in 0..BATCH.min(count - sleepers.len() as u64) {
            let shared = Rc::clone(shared);
            let coroutine = thread::Builder::new().stack_size(stack_size);
            match coroutine.spawn(move || sleep_until_woken(&shared)) {
                Ok(sleeper) => sleepers.push(sleeper),
                Err(error) => {
                    drop(reserve.take());
                    limit = Some(error);
                    break;
                }
            }
        }
        while shared.asleep.get() < sleepers.len() as u64 {
            thread::yield_now();
        }
        progress.update(sleepers.len() as u64, "coroutines asleep");
    }
    progress.finish(sleepers.len() as u64, "coroutines asleep");
    if let Some(error) = limit {
        eprintln!("There is a limit at {} coroutines: {error}", sleepers.len());
    }
    sleepers
}

/// Wakes and joins all; how many had panicked instead.
fn wake(sleepers: Vec<JoinHandle<()>>, shared: &Shared) -> u64 {
    shared.wake_up.set(true);
    for sleeper in &sleepers {
        sleeper.thread().unpark();
    }
    sleepers.into_iter().map(|sleeper| u64::from(sleeper.join().is_err())).sum()
}

/// What the process takes at one moment.
struct Memory {
    resident: u64,
    page_tables: u64,
    maps: usize,
}

impl Memory {
    fn now() -> io::Result<Memory> {
        Ok(Memory {
            resident: status_bytes("self", "VmRSS")?,
            page_tables: status_bytes("self", "VmPTE")?,
            maps: fs::read_to_string("/proc/self/maps")?.lines().count(),
        })
    }
}

fn max_map_count() -> String {
    fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default().trim().to_owned()
}

fn human(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

//! Generated programs of system calls, run twice: by the kernel's own calls on threads, and patched, dozens at a
//! time in coroutines of one thread. Results, `errno`, bytes and the time that a limit takes must agree.
//!
//! `DIFFERENTIAL_SEED` runs one program again, `DIFFERENTIAL_CASES` says how many (a thousand unless told).

#![cfg(feature = "patch")]

#[path = "patch_differential/calls.rs"]
mod calls;
mod common;
#[path = "patch_differential/program.rs"]
mod program;
#[path = "patch_differential/run.rs"]
mod run;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::deadline;
use greenling::{patch, spawn};
use program::{Kind, Program};
use run::{Log, Peers, run};

/// Programs that run at once: few enough for select(2), which knows descriptors below 1024 only.
const THREADS: usize = 16;
const COROUTINES: usize = 48;

type Logs = BTreeMap<u64, Log>;

/// Runs the programs of `seeds` by `workers`, of which `start` starts one and returns what waits for it.
fn by_workers<J>(
    seeds: &[u64],
    workers: usize,
    peers: Peers,
    start: impl Fn(Box<dyn FnOnce() + Send>) -> J,
    join: impl Fn(J),
) -> Logs {
    let left = Arc::new(Mutex::new(seeds.to_vec()));
    let logs = Arc::new(Mutex::new(Logs::new()));
    let started: Vec<J> = (0..workers)
        .map(|_| {
            let (left, logs) = (left.clone(), logs.clone());
            start(Box::new(move || {
                loop {
                    let next = left.lock().unwrap().pop();
                    let Some(seed) = next else { return };
                    let log = finished(seed, peers);
                    logs.lock().unwrap().insert(seed, log);
                }
            }))
        })
        .collect();
    started.into_iter().for_each(join);
    let mut logs = logs.lock().unwrap();
    std::mem::take(&mut *logs)
}

/// Runs one program. One that a coroutine does not come to the end of is said by its seed.
fn finished(seed: u64, peers: Peers) -> Log {
    let program = Program::generate(seed);
    let Peers::Coroutines = peers else { return run(&program, peers) };
    let mut log = Log::new();
    let ended = greenling::timeout(Duration::from_secs(20), || log = run(&program, peers));
    assert!(
        ended.is_ok(),
        "DIFFERENTIAL_SEED={seed} hangs: {:?} {:?}",
        program.kind,
        program.steps
    );
    log
}

fn natively(seeds: Vec<u64>) -> Logs {
    let start = |work: Box<dyn FnOnce() + Send>| thread::spawn(work);
    by_workers(&seeds, THREADS, Peers::Threads, start, |one| one.join().unwrap())
}

fn patched(seeds: Vec<u64>) -> Logs {
    patch::all();
    let start = |work: Box<dyn FnOnce() + Send>| spawn(work);
    by_workers(&seeds, COROUTINES, Peers::Coroutines, start, |one| one.join().unwrap())
}

#[track_caller]
fn compare(seeds: &[u64]) {
    let (for_threads, for_coroutines) = (seeds.to_vec(), seeds.to_vec());
    let native = deadline(120, move || natively(for_threads));
    let patched = deadline(120, move || patched(for_coroutines));
    for seed in seeds {
        if native[seed] == patched[seed] {
            continue;
        }
        let program = Program::generate(*seed);
        println!("DIFFERENTIAL_SEED={seed}: {:?}", program.kind);
        let logs = native[seed].iter().zip(&patched[seed]);
        for (step, (native, patched)) in program.steps.iter().zip(logs) {
            let mark = if native == patched { ' ' } else { '*' };
            println!("{mark} {step:?}\n      native {native:?}\n      patched {patched:?}");
        }
        panic!("DIFFERENTIAL_SEED={seed} shows a difference");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn generated_programs_agree() {
    let seeds: Vec<u64> = match number("DIFFERENTIAL_SEED") {
        Some(seed) => vec![seed],
        None => {
            let mut random = fastrand::Rng::new();
            (0..number("DIFFERENTIAL_CASES").unwrap_or(1000)).map(|_| random.u64(..)).collect()
        }
    };
    compare(&seeds);
}

/// The generator reaches what it is for.
#[test]
fn the_generator_reaches_everything() {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..1000 {
        let program = Program::generate(seed);
        *seen.entry(format!("{:?}", program.kind)).or_default() += 1;
        for step in &program.steps {
            let text = format!("{step:?}");
            let name = text.split([' ', '(']).next().unwrap().to_owned();
            *seen.entry(name).or_default() += 1;
        }
    }
    println!("{seen:?}");
    assert!(Kind::ALL.iter().all(|kind| seen[&format!("{kind:?}")] > 100));
    let steps = [
        "Send",
        "SendMuch",
        "Receive",
        "Poll",
        "NonBlocking",
        "Limit",
        "Dup",
        "Shutdown",
        "PeerSends",
        "PeerShuts",
        "Unread",
        "Wrong",
        "Nap",
        "Accept",
    ];
    for step in steps {
        assert!(seen.get(step).is_some_and(|count| *count > 50), "{step}: {seen:?}");
    }
}

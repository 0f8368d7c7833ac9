//! Generated programs of system calls, run twice: by the kernel's own calls on threads, and patched, dozens at a
//! time in coroutines of one thread. Results, `errno`, bytes and the time that a limit takes must agree.
//!
//! `DIFFERENTIAL_SEED` runs one program again, `DIFFERENTIAL_CASES` says how many (a thousand unless told). A soak
//! of 40000: `cargo test --features patch --test patch_differential -- --ignored`.

#![cfg(feature = "patch")]

#[path = "patch_differential/calls.rs"]
mod calls;
mod common;
#[path = "patch_differential/messages.rs"]
mod messages;
#[path = "patch_differential/objects.rs"]
mod objects;
#[path = "patch_differential/program.rs"]
mod program;
#[path = "patch_differential/run.rs"]
mod run;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use greenling::{patch, spawn};
use program::{Kind, Program};
use run::{Log, Peers, RUNNING, run};

/// Programs that run at once: few enough for select(2), which knows descriptors below 1024 only.
const THREADS: usize = 16;
const COROUTINES: usize = 48;

type Logs = BTreeMap<u64, Log>;

/// Runs the programs of `seeds` by `workers`, of which `start` starts one and returns what waits for it.
fn by_workers<J>(
    seeds: &[u64],
    workers: usize,
    run: impl Fn(u64) -> Log + Clone + Send + 'static,
    start: impl Fn(Box<dyn FnOnce() + Send>) -> J,
    join: impl Fn(J),
) -> Logs {
    let left = Arc::new(Mutex::new(seeds.to_vec()));
    let logs = Arc::new(Mutex::new(Logs::new()));
    let started: Vec<J> = (0..workers)
        .map(|_| {
            let (left, logs, run) = (left.clone(), logs.clone(), run.clone());
            start(Box::new(move || {
                loop {
                    let next = left.lock().unwrap().pop();
                    let Some(seed) = next else { return };
                    let log = run(seed);
                    logs.lock().unwrap().insert(seed, log);
                }
            }))
        })
        .collect();
    started.into_iter().for_each(join);
    let mut logs = logs.lock().unwrap();
    std::mem::take(&mut *logs)
}

fn natively(seeds: Vec<u64>) -> Logs {
    let start = |work: Box<dyn FnOnce() + Send>| thread::spawn(work);
    let work = |seed| run(seed, &Program::generate(seed), Peers::Threads);
    by_workers(&seeds, THREADS, work, start, |one| one.join().unwrap())
}

fn patched(seeds: Vec<u64>) -> Logs {
    patch::all();
    let start = |work: Box<dyn FnOnce() + Send>| spawn(work);
    let work = |seed| run(seed, &Program::generate(seed), Peers::Coroutines);
    by_workers(&seeds, COROUTINES, work, start, |one| one.join().unwrap())
}

/// The same, while signals arrive at the thread all the time. Their handler is not one that restarts calls, but
/// no call of a coroutine ends for it.
fn patched_under_signals(seeds: Vec<u64>) -> Logs {
    extern "C" fn ignore(_: i32) {}
    // SAFETY: a handler that does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(i32) as usize;
        libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut());
    }
    let ended = Arc::new(AtomicU64::new(0));
    // SAFETY: it takes nothing and cannot fail.
    let (target, tell) = (unsafe { libc::pthread_self() }, ended.clone());
    let sender = thread::spawn(move || {
        let mut sent = 0_u64;
        while tell.load(Ordering::Acquire) == 0 {
            // SAFETY: the thread lives until it has told that it has ended.
            unsafe { libc::pthread_kill(target, libc::SIGUSR2) };
            thread::sleep(Duration::from_micros(300));
            sent += 1;
        }
        sent
    });
    let few = seeds.len() < 10;
    let logs = patched(seeds);
    ended.store(1, Ordering::Release);
    let sent = sender.join().unwrap();
    assert!(sent > 10 || few, "{sent} signals");
    logs
}

/// Runs them on a thread of its own. Programs that hang are said by their seeds.
#[track_caller]
fn in_time(seconds: u64, how: fn(Vec<u64>) -> Logs, seeds: &[u64]) -> Logs {
    let (seeds, (done, wait)) = (seeds.to_vec(), mpsc::channel());
    let work = thread::spawn(move || done.send(how(seeds)));
    match wait.recv_timeout(Duration::from_secs(seconds)) {
        Ok(logs) => return logs,
        Err(RecvTimeoutError::Disconnected) => drop(work.join().map_err(resume_unwind)),
        Err(RecvTimeoutError::Timeout) => {
            for (seed, step) in RUNNING.lock().unwrap().iter() {
                let Program { kind, steps } = Program::generate(*seed);
                println!("DIFFERENTIAL_SEED={seed} is at {kind:?} {:?}", &steps[..=*step]);
            }
        }
    }
    panic!("programs hang");
}

#[track_caller]
fn compare(seeds: &[u64], patched: fn(Vec<u64>) -> Logs) {
    let differing = differences(seeds, patched);
    // The kernel itself does not do the same each time where a machine is busy (what a short time limit still meets, what
    // is in a buffer by then). So a difference counts if the program shows one again, by itself.
    for seed in differing {
        for _ in 0..if number("DIFFERENTIAL_SEED").is_some() { 1 } else { 5 } {
            if !differences(&[seed], patched).is_empty() {
                panic!("DIFFERENTIAL_SEED={seed} shows a difference");
            }
        }
    }
}

/// Runs them both ways, prints where they differ, and returns which do.
#[track_caller]
fn differences(seeds: &[u64], patched: fn(Vec<u64>) -> Logs) -> Vec<u64> {
    let seconds = 20 + seeds.len() as u64 / 10;
    let native = in_time(seconds, natively, seeds);
    let patched = in_time(seconds, patched, seeds);
    let differing = seeds.iter().copied().filter(|seed| native[seed] != patched[seed]);
    differing.inspect(|seed| print(*seed, &native[seed], &patched[seed])).collect()
}

fn print(seed: u64, native: &Log, patched: &Log) {
    let program = Program::generate(seed);
    println!("DIFFERENTIAL_SEED={seed}: {:?}", program.kind);
    for (step, (native, patched)) in program.steps.iter().zip(native.iter().zip(patched)) {
        let mark = if native == patched { ' ' } else { '*' };
        // The first byte that differs says more than thousands that do not.
        let same = native.1.iter().zip(&patched.1).take_while(|(a, b)| a == b).count();
        let [native, patched] = [native, patched].map(|(result, bytes, more, timing)| {
            let shown = &bytes[same.saturating_sub(4)..];
            let shown = &shown[..shown.len().min(12)];
            format!(
                "{result}, {} bytes (from {same} - 4: {shown:?}), {more:?}, {timing:?}",
                bytes.len()
            )
        });
        println!("{mark} {step:?}\n      native {native}\n      patched {patched}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// `DIFFERENTIAL_SEED`, or so many new ones.
fn seeds(count: u64) -> Vec<u64> {
    if let Some(seed) = number("DIFFERENTIAL_SEED") {
        return vec![seed];
    }
    let mut random = fastrand::Rng::new();
    (0..number("DIFFERENTIAL_CASES").unwrap_or(count)).map(|_| random.u64(..)).collect()
}

#[test]
fn generated_programs_agree() {
    compare(&seeds(1000), patched);
}

#[test]
fn generated_programs_agree_under_signals() {
    compare(&seeds(200), patched_under_signals);
}

#[test]
#[ignore = "a soak of minutes"]
fn many_generated_programs_agree() {
    for _ in 0..20 {
        compare(&seeds(1000), patched);
        compare(&seeds(1000), patched_under_signals);
    }
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
        "ReceiveMany",
        "SendMany",
        "SendFile",
        "Fill",
        "Pass",
        "Object",
    ];
    for step in steps {
        assert!(seen.get(step).is_some_and(|count| *count > 50), "{step}: {seen:?}");
    }
}

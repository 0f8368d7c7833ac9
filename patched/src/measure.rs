//! The same work on coroutines of one thread and on threads.

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use greenling::{patch, spawn};

/// How long the same work has taken.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// In coroutines of one thread.
    pub patched: Duration,
    /// On as many threads.
    pub threads: Duration,
}

/// Calls `work` with each number below `count`, in as many coroutines of one (new) thread, patched.
#[track_caller]
pub fn on_coroutines<T: Send + 'static>(
    count: usize,
    work: impl Fn(usize) -> T + Send + Sync + 'static,
) -> (Vec<T>, Duration) {
    patch::all();
    let work = Arc::new(work);
    deadline(120, move || {
        let start = Instant::now();
        let coroutines: Vec<_> = (0..count)
            .map(|n| {
                let work = work.clone();
                spawn(move || work(n))
            })
            .collect();
        let results = coroutines.into_iter().map(|one| one.join().unwrap()).collect();
        (results, start.elapsed())
    })
}

/// Calls `work` with each number below `count`, on as many threads.
#[track_caller]
pub fn on_threads<T: Send + 'static>(
    count: usize,
    work: impl Fn(usize) -> T + Send + Sync + 'static,
) -> (Vec<T>, Duration) {
    let work = Arc::new(work);
    deadline(120, move || {
        let start = Instant::now();
        let threads: Vec<_> = (0..count)
            .map(|n| {
                let work = work.clone();
                thread::spawn(move || work(n))
            })
            .collect();
        let results = threads.into_iter().map(|one| one.join().unwrap()).collect();
        (results, start.elapsed())
    })
}

/// Does the same work both ways and prints a line of the table in `docs/patching.md`.
///
/// # Panics
/// When the results differ, or the coroutines took half as long as `serial`, which is what one after the other
/// must take.
#[track_caller]
pub fn overlapping<T: Send + PartialEq + std::fmt::Debug + 'static>(
    what: &str,
    count: usize,
    serial: Duration,
    work: impl Fn(usize) -> T + Send + Sync + Clone + 'static,
) -> (Vec<T>, Times) {
    let (by_threads, threads) = on_threads(count, work.clone());
    let (results, patched) = on_coroutines(count, work);
    println!("| {what} | {count} | {patched:.2?} | {threads:.2?} |");
    assert_eq!(results, by_threads, "{what}: threads are on the right");
    assert!(patched < serial / 2, "{what}: {patched:?}, where one by one takes {serial:?}");
    (results, Times { patched, threads })
}

/// Runs `body` on a thread of its own, and thus on a fresh hub. A hang is a failure.
///
/// # Panics
/// When it has not ended in `secs` seconds, or as `body` does.
#[track_caller]
pub fn deadline<T: Send + 'static>(secs: u64, body: impl FnOnce() -> T + Send + 'static) -> T {
    let test = thread::spawn(body);
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(test.join()));
    match end.recv_timeout(Duration::from_secs(secs)) {
        Ok(Ok(value)) => value,
        Ok(Err(payload)) => resume_unwind(payload),
        Err(RecvTimeoutError::Timeout) => panic!("it hangs: it has not ended in {secs} s"),
        Err(RecvTimeoutError::Disconnected) => unreachable!("the watcher always sends"),
    }
}

/// The descriptors that this process has open, with what they are.
pub fn descriptors() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let link = |entry: DirEntry| {
        let target = std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
        Some((entry.file_name().to_string_lossy().into_owned(), target))
    };
    // Not the directory itself.
    entries.filter_map(link).filter(|(_, target)| !target.starts_with("/proc/")).collect()
}

/// Waits until no others than `known` are open: what the other end closes takes a moment.
///
/// # Panics
/// When that does not come to pass.
#[track_caller]
pub fn assert_descriptors(known: &BTreeMap<String, String>) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let open = descriptors();
        if open.len() <= known.len() {
            return;
        }
        assert!(Instant::now() < end, "{open:?} are open instead of {known:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

//! The same blocking code twice: by the kernel's own calls on a plain thread, and patched in a coroutine.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use greenling::{patch, spawn};

/// Runs `scenario` both ways and returns what each came to. Meanwhile another coroutine of the patched one's
/// thread keeps count of how often it got to run: it must not be kept from that for as long as 100 ms.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) fn both<T: Send + 'static>(scenario: fn() -> T) -> (T, T) {
    let native = thread::spawn(scenario).join().unwrap();
    patch::all();
    let watch = spawn(|| {
        let mut longest = Duration::ZERO;
        let mut last = Instant::now();
        loop {
            greenling::sleep(Duration::from_millis(1));
            longest = longest.max(last.elapsed());
            last = Instant::now();
            LONGEST.set(longest);
        }
    });
    let patched = spawn(scenario).join().unwrap();
    watch.kill();
    let longest = LONGEST.get();
    assert!(longest < BLOCKED, "the thread was blocked for {longest:?}");
    (native, patched)
}

/// The waits of the scenarios are longer than this, so that one that blocks the thread shows.
#[allow(dead_code, reason = "not every test needs it")]
const BLOCKED: Duration = Duration::from_millis(250);
/// How long a scenario waits where it waits.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) const WAIT: Duration = Duration::from_millis(400);

thread_local! {
    static LONGEST: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

/// [`both`], which must come to the same.
#[track_caller]
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) fn same<T: Send + PartialEq + std::fmt::Debug + 'static>(scenario: fn() -> T) -> T {
    let (native, patched) = both(scenario);
    assert_eq!(native, patched, "the kernel's own is on the left");
    native
}

/// A call's result, or `errno` below zero.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) fn outcome(result: impl Into<i64>) -> i64 {
    match result.into() {
        -1 => -i64::from(io::Error::last_os_error().raw_os_error().unwrap()),
        value => value,
    }
}

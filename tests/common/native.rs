//! The same blocking code twice: by the kernel's own calls on a plain thread, and patched in a coroutine.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use greenling::{patch, spawn};

/// Runs `scenario` both ways and returns what each came to. Another coroutine of the patched one's thread must
/// get to run all the while: as judged by what a plain thread gets done meanwhile, since the machine itself may
/// stand still for a while.
#[allow(dead_code, reason = "not every test needs it")]
#[track_caller]
pub(crate) fn both<T: Send + 'static>(scenario: fn() -> T) -> (T, T) {
    let (native, patched, longest) = run(scenario);
    assert!(longest < BLOCKED, "the thread was blocked for {longest} ticks");
    (native, patched)
}

fn run<T: Send + 'static>(scenario: fn() -> T) -> (T, T, u32) {
    let native = thread::spawn(scenario).join().unwrap();
    patch::all();
    let clock = Arc::new((AtomicU32::new(0), AtomicBool::new(false)));
    let ticking = clock.clone();
    let clockwork = thread::spawn(move || {
        while !ticking.1.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
            ticking.0.fetch_add(1, Ordering::Relaxed);
        }
    });
    let now = clock.clone();
    let watch = spawn(move || {
        let mut last = now.0.load(Ordering::Relaxed);
        LONGEST.set(0);
        loop {
            greenling::sleep(Duration::from_millis(1));
            let ticks = now.0.load(Ordering::Relaxed);
            LONGEST.set(LONGEST.get().max(ticks - last));
            last = ticks;
        }
    });
    let patched = spawn(scenario).join().unwrap();
    watch.kill();
    clock.1.store(true, Ordering::Relaxed);
    clockwork.join().unwrap();
    (native, patched, LONGEST.get())
}

/// In ticks of a millisecond. The waits of the scenarios are longer than this, so that one that blocks the
/// thread shows.
#[allow(dead_code, reason = "not every test needs it")]
const BLOCKED: u32 = 200;
/// How long a scenario waits where it waits.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) const WAIT: Duration = Duration::from_millis(400);

thread_local! {
    static LONGEST: Cell<u32> = const { Cell::new(0) };
}

/// [`both`], which must come to the same.
#[track_caller]
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) fn same<T: Send + PartialEq + std::fmt::Debug + 'static>(scenario: fn() -> T) -> T {
    let (native, patched, longest) = run(scenario);
    assert_eq!(native, patched, "the kernel's own is on the left; blocked for {longest} ticks");
    assert!(longest < BLOCKED, "the thread was blocked for {longest} ticks");
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

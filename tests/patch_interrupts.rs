//! Kills and time limits in the middle of std's locks and sleeps: what can end does, what cannot ends when the
//! lock is there, and nothing panics or spins.

#![cfg(feature = "patch")]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/logger.rs"]
mod logger;

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock, mpsc};
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use child::On;
use common::deadline;
use greenling::{JoinHandle, patch, sleep, spawn};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1000);

/// Starts `f`, kills it in the middle, and gives how many of `f`'s steps were done when it ended; it must not
/// take long.
#[track_caller]
fn killed(f: impl FnOnce(&AtomicU32) + Send + 'static) -> u32 {
    patch::all();
    let steps = Arc::new(AtomicU32::new(0));
    let counted = steps.clone();
    let victim = spawn(move || f(&counted));
    sleep(10 * MS);
    let start = Instant::now();
    victim.kill();
    ended_by_kill(victim);
    assert!(start.elapsed() < LONG / 100, "{:?}", start.elapsed());
    steps.load(Ordering::Relaxed)
}

#[track_caller]
fn ended_by_kill<T>(victim: JoinHandle<T>) {
    let Err(payload) = victim.join() else { panic!("it was not killed") };
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    assert_eq!(text, None, "it panicked");
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

#[test]
fn a_kill_ends_every_kind_of_sleep() {
    deadline(60, || {
        let done = |steps: &AtomicU32| steps.fetch_add(1, Ordering::Relaxed);
        let by_std = killed(move |steps| {
            thread::sleep(LONG);
            thread::sleep(LONG);
            done(steps);
            sleep(MS);
            done(steps);
        });
        assert_eq!(by_std, 1);
        // SAFETY: times are valid, here and below.
        let nanosleep = killed(move |steps| unsafe {
            let mut left = timespec(LONG);
            while libc::nanosleep(&left.clone(), &mut left) != 0 {}
            done(steps);
            sleep(MS);
        });
        assert_eq!(nanosleep, 1);
        // SAFETY: as above.
        let until = killed(move |steps| unsafe {
            let mut end: libc::timespec = mem::zeroed();
            libc::clock_gettime(libc::CLOCK_REALTIME, &mut end);
            end.tv_sec += 1000;
            let (clock, flag) = (libc::CLOCK_REALTIME, libc::TIMER_ABSTIME);
            assert_eq!(libc::clock_nanosleep(clock, flag, &end, ptr::null_mut()), 0);
            done(steps);
            sleep(MS);
        });
        assert_eq!(until, 1);
        // SAFETY: no pointers.
        let others = killed(move |steps| unsafe {
            assert_eq!(libc::usleep(1_000_000_000), -1);
            assert_eq!(*libc::__errno_location(), libc::ECANCELED);
            assert!((990..=1000).contains(&libc::sleep(1000)));
            done(steps);
            sleep(MS);
        });
        assert_eq!(others, 1);
    });
}

#[test]
fn a_kill_ends_waits_that_have_an_end() {
    deadline(60, || {
        let condvar = killed(|steps| {
            let (lock, condvar) = (Mutex::new(()), Condvar::new());
            let (guard, result) = condvar.wait_timeout(lock.lock().unwrap(), LONG).unwrap();
            assert!(result.timed_out());
            steps.fetch_add(1, Ordering::Relaxed);
            drop(guard);
            sleep(MS);
        });
        assert_eq!(condvar, 1);
        let park = killed(|steps| {
            thread::park_timeout(LONG);
            steps.fetch_add(1, Ordering::Relaxed);
            sleep(MS);
        });
        assert_eq!(park, 1);
    });
}

#[test]
fn a_time_limit_ends_waits_that_have_an_end() {
    deadline(60, || {
        patch::all();
        let work = spawn(|| {
            let start = Instant::now();
            let limited = greenling::timeout(20 * MS, || {
                let (lock, condvar) = (Mutex::new(()), Condvar::new());
                drop(condvar.wait_timeout(lock.lock().unwrap(), LONG).unwrap());
                sleep(LONG);
            });
            assert!(limited.is_err());
            assert!(start.elapsed() >= 20 * MS && start.elapsed() < LONG / 100);
            // The next limit is a new one.
            let limited = greenling::timeout(20 * MS, || {
                thread::park_timeout(LONG);
                sleep(LONG);
            });
            assert!(limited.is_err());
            assert!(start.elapsed() < LONG / 100);
        });
        work.join().unwrap();
    });
}

/// Who looks at the clock, and waits again until its time has come, waits so long: it neither ends nor spins.
#[test]
fn one_that_insists_on_its_time_does_not_spin() {
    deadline(60, || {
        patch::all();
        let (looks, seen) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (counted, arrived) = (looks.clone(), seen.clone());
        let victim = spawn(move || {
            let (lock, condvar) = (Mutex::new(()), Condvar::new());
            let (guard, result) = condvar
                .wait_timeout_while(lock.lock().unwrap(), 300 * MS, |()| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    true
                })
                .unwrap();
            assert!(result.timed_out());
            drop(guard);
            let (_sender, receiver) = mpsc::channel::<()>();
            assert!(receiver.recv_timeout(100 * MS).is_err());
            arrived.store(1, Ordering::Relaxed);
            sleep(MS);
        });
        sleep(10 * MS);
        let start = Instant::now();
        victim.kill();
        ended_by_kill(victim);
        assert!(start.elapsed() >= 300 * MS, "{:?}", start.elapsed());
        assert_eq!(seen.load(Ordering::Relaxed), 1);
        assert!(looks.load(Ordering::Relaxed) < 20, "{looks:?}");
    });
}

/// Locks without a limit, in a coroutine that is killed or over its time: they are acquired, and then it ends.
#[test]
fn locks_are_acquired_first() {
    deadline(60, || {
        patch::all();
        let lock = Arc::new(RwLock::new(()));
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let writer = lock.write().unwrap();
        let (wanted, waited) = (lock.clone(), pair.clone());
        let reader = spawn(move || {
            let _guard = wanted.read().unwrap();
            sleep(LONG);
        });
        let sleeper = spawn(move || {
            let guard = waited.0.lock().unwrap();
            drop(waited.1.wait_while(guard, |ready| !*ready).unwrap());
            sleep(LONG);
        });
        let limited = spawn({
            let lock = lock.clone();
            move || {
                greenling::timeout(MS, || {
                    let _guard = lock.read().unwrap();
                    sleep(LONG);
                })
                .is_err()
            }
        });
        sleep(10 * MS);
        reader.kill_timeout(Duration::ZERO);
        sleeper.kill_timeout(Duration::ZERO);
        sleep(10 * MS);
        assert!(!reader.is_finished() && !sleeper.is_finished() && !limited.is_finished());
        drop(writer);
        ended_by_kill(reader);
        assert!(limited.join().unwrap());
        *pair.0.lock().unwrap() = true;
        pair.1.notify_all();
        ended_by_kill(sleeper);
        assert!(lock.try_write().is_ok());
    });
}

/// It cannot be ended, but it lets the others run, and is told of.
#[test]
fn one_that_ignores_everything_does_not_hold_the_thread() {
    let ended = child::run(On::OtherThread, 60, || {
        logger::install();
        patch::all();
        let rounds = Arc::new(AtomicU32::new(0));
        let counted = rounds.clone();
        let (a, _b) = UnixStream::pair().unwrap();
        let victim = spawn(move || {
            loop {
                let _ = (&a).read(&mut [0]);
                thread::sleep(LONG);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        sleep(10 * MS);
        victim.kill_timeout(Duration::ZERO);
        for _ in 0..20 {
            sleep(10 * MS); // others run
        }
        let before = rounds.load(Ordering::Relaxed);
        sleep(200 * MS);
        let more = rounds.load(Ordering::Relaxed) - before;
        assert!(more < 200, "{more} rounds in 200 ms");
        assert_eq!(logger::records_with("ECANCELED").len(), 1);
    });
    ended.succeeded();
}

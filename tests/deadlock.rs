//! When nothing can ever run again, the main coroutine is told so, by a panic that says who waits for what, who
//! holds that, where, and since when. Where another thread might still help, there is a warning instead.

#[path = "common/child.rs"]
mod child;
#[path = "common/logger.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod logger;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use child::On;
use greenling::pool::Pool;
use greenling::sync::{Arc, Barrier, Condvar, Mutex, Once, ReentrantMutex, RwLock, Semaphore};
use greenling::thread::{self, Builder, JoinHandle};

fn spawn<T: 'static>(name: &str, f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    Builder::new().name(name.into()).spawn(f).unwrap()
}

/// What the deadlock says that `f` ends in.
fn report(f: impl FnOnce()) -> String {
    std::panic::set_hook(Box::new(|_| ()));
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("a deadlock");
    drop(std::panic::take_hook());
    *payload.downcast::<String>().expect("a message")
}

/// The report's line on a coroutine.
#[track_caller]
fn line<'a>(report: &'a str, name: &str) -> &'a str {
    let quoted = format!("'{name}' waits");
    report.lines().find(|line| line.contains(&quoted)).unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn two_locks_in_opposite_order() {
    child::run(On::MainThread, 20, || {
        let locks = Arc::new((Mutex::new(1), Mutex::new(2)));
        let (one, other) = (locks.clone(), locks);
        let first = spawn("first", move || {
            let _one = one.0.lock().unwrap();
            thread::yield_now();
            let _other = one.1.lock().unwrap();
        });
        let second_line = line!() + 4; // where it waits
        let second = spawn("second", move || {
            let _other = other.1.lock().unwrap();
            thread::yield_now();
            let _one = other.0.lock().unwrap();
        });
        let ids = (first.thread().id(), second.thread().id());
        let report = report(|| {
            let _ = first.join();
        });
        assert!(report.starts_with("deadlock: nothing can ever run again"), "{report}");
        assert!(line(&report, "first").contains("waits for a Mutex, held by 'second' (#"));
        let second_says = line(&report, "second");
        assert!(second_says.contains("waits for a Mutex, held by 'first' (#"), "{report}");
        // Where, to the line, and since when.
        let place = format!("at {}:{second_line}:", file!());
        assert!(second_says.contains(&place), "{report}");
        assert!(second_says.contains(", since 0."), "{report}");
        assert!(report.contains("waits for the end of 'first' (#"), "{report}");
        assert_ne!(ids.0, ids.1);
        // Main is back, and can do something about it.
        second.kill();
        assert!(second.join().is_err());
    })
    .succeeded();
}

#[test]
fn each_kind_of_lock_says_who_holds_it() {
    child::run(On::MainThread, 20, || {
        let hold = Arc::new((
            Mutex::new(()),
            ReentrantMutex::new(()),
            RwLock::new(()),
            RwLock::new(()),
            Once::new(),
            RwLock::new(()),
        ));
        let held = hold.clone();
        spawn("holder", move || {
            let _guards = (held.0.lock(), held.1.lock(), held.2.write(), held.3.read());
            let (_one, _other) = (held.5.read(), held.5.read());
            held.4.call_once(|| thread::park());
        });
        thread::yield_now();
        let waiter = |name: &str, f: fn(&(_, _, _, _, _, _))| {
            let hold = hold.clone();
            drop(spawn(name, move || f(&hold)));
        };
        waiter("mutex", |hold| drop(hold.0.lock()));
        waiter("reentrant", |hold| drop(hold.1.lock()));
        waiter("read", |hold| drop(hold.2.read()));
        waiter("write", |hold| drop(hold.3.write()));
        waiter("once", |hold| hold.4.call_once(|| ()));
        waiter("two", |hold| drop(hold.5.write()));
        let condvar =
            Arc::new((Mutex::new(()), Condvar::new(), Barrier::new(2), Semaphore::new(0)));
        let waiter = |name: &str, f: fn(&(_, _, _, _))| {
            let condvar = condvar.clone();
            drop(spawn(name, move || f(&condvar)));
        };
        waiter("condvar", |all| drop(all.1.wait(all.0.lock().unwrap())));
        waiter("barrier", |all| {
            all.2.wait();
        });
        waiter("semaphore", |all| drop(all.3.acquire()));
        let report = report(|| thread::park());
        let held = |what: &str| format!("waits for {what}, held by 'holder' (#");
        assert!(line(&report, "mutex").contains(&held("a Mutex")), "{report}");
        assert!(line(&report, "reentrant").contains(&held("a ReentrantMutex")), "{report}");
        assert!(line(&report, "read").contains(&held("a RwLock, to read")), "{report}");
        assert!(line(&report, "once").contains(&held("a Once")), "{report}");
        let write = line(&report, "write");
        assert!(write.contains("waits for a RwLock, to write, held by one reader"), "{report}");
        assert!(line(&report, "two").contains("held by 2 readers"), "{report}");
        assert!(line(&report, "condvar").contains("waits for a Condvar, at "), "{report}");
        assert!(line(&report, "barrier").contains("waits for a Barrier, at "), "{report}");
        assert!(
            line(&report, "semaphore").contains("waits for permits of a Semaphore"),
            "{report}"
        );
        assert!(line(&report, "holder").contains("waits for unpark"), "{report}");
        assert!(
            report.lines().all(|line| !line.contains("waits") || line.contains(file!())),
            "{report}"
        );
    })
    .succeeded();
}

/// Since when: for each its own time, and not that of the deadlock.
#[test]
fn each_says_since_when_it_waits() {
    child::run(On::MainThread, 20, || {
        let early = spawn("early", thread::park);
        thread::sleep(Duration::from_millis(400));
        let late = spawn("late", thread::park);
        let report = report(|| drop(late.join()));
        let since = |name| -> f64 {
            let (_, text) = line(&report, name).split_once(", since ").expect("it is said");
            text.strip_suffix(" s").expect("in seconds").parse().expect("a number")
        };
        assert!(since("early") >= 0.4, "{report}");
        assert!(since("early") - since("late") >= 0.3, "{report}");
        drop(early);
    })
    .succeeded();
}

/// Workers of a pool that wait for slots of their own pool: it is not silence, and it can be mended.
#[test]
fn a_pool_that_is_used_by_its_own_workers() {
    child::run(On::MainThread, 20, || {
        let pool = Pool::new(2);
        let (inner, line_of_map) = (pool.clone(), line!() + 2);
        let report = report(|| {
            drop(pool.map(0..2, move |n| inner.map(0..n + 1, |m| m).len()));
        });
        let waits = format!("waits for a slot of a pool, at {}:{line_of_map}:", file!());
        assert_eq!(report.matches(&waits).count(), 2, "{report}");
        let main = format!("at {}:{line_of_map}:", file!());
        let main_waits = |line: &str| line.contains("waits for the end of") && line.contains(&main);
        assert!(report.lines().any(main_waits), "{report}");
        // The panic has ended main's `map`, and that has killed the workers: the slots are back.
        pool.join();
        assert_eq!((pool.len(), pool.free_slots()), (0, 2));
        assert_eq!(pool.spawn(|| 1).join().unwrap(), 1);
    })
    .succeeded();
}

#[test]
fn a_lock_that_is_locked_twice() {
    child::run(On::MainThread, 20, || {
        let mutex = Mutex::new(1);
        let report = report(|| {
            let _guard = mutex.lock().unwrap();
            let _again = mutex.lock().unwrap();
        });
        // The name of the main coroutine is its thread's.
        let name = format!("'{}'", std::thread::current().name().unwrap());
        assert!(report.contains(&format!("{name} waits for a Mutex, held by {name}")), "{report}");
        // The wait has ended without the lock, the guard was dropped: by unwinding.
        assert!(mutex.try_lock().is_err_and(|error| format!("{error}").contains("poisoned")));
    })
    .succeeded();
}

#[test]
fn nobody_who_sleeps_or_reads_is_taken_for_dead() {
    child::run(On::MainThread, 20, || {
        let mutex = Arc::new(Mutex::new(0));
        let other = mutex.clone();
        let sleeper = spawn("sleeper", move || {
            let mut guard = other.lock().unwrap();
            thread::sleep(Duration::from_millis(300)); // longer than the first look takes
            *guard = 1;
        });
        thread::yield_now();
        assert_eq!(*mutex.lock().unwrap(), 1);
        sleeper.join().unwrap();
    })
    .succeeded();
}

#[test]
fn another_thread_may_still_help() {
    child::run(On::MainThread, 20, || {
        let mutex = Arc::new(Mutex::new(0));
        let other = mutex.clone();
        let guard_is_there = Arc::new(Barrier::new(2));
        let barrier = guard_is_there.clone();
        let helper = std::thread::spawn(move || {
            let mut guard = other.lock().unwrap();
            barrier.wait();
            std::thread::sleep(Duration::from_millis(300));
            *guard = 1;
        });
        guard_is_there.wait();
        // A coroutine and main wait for a plain thread.
        let second = mutex.clone();
        let waits = spawn("waits", move || *second.lock().unwrap());
        assert_eq!(*mutex.lock().unwrap(), 1);
        assert_eq!(waits.join().unwrap(), 1);
        helper.join().unwrap();
    })
    .succeeded();
}

#[test]
fn a_deadlock_that_another_thread_might_end_is_a_warning() {
    child::run(On::MainThread, 60, || {
        logger::install();
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let other = mutex.clone();
        let thread = std::thread::spawn(move || {
            let coroutine = spawn("patient", move || *other.lock().unwrap());
            coroutine.join().unwrap()
        });
        let begin = std::time::Instant::now();
        while logger::records_with("nothing has run").is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(40), "no warning");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(begin.elapsed() >= Duration::from_secs(9), "after ten seconds of silence");
        let records = logger::records_with("nothing has run");
        assert!(records[0].starts_with("WARN"), "{records:?}");
        // That thread does not know the names of this one's.
        assert!(
            line(&records[0], "patient").contains("waits for a Mutex, held by "),
            "{records:?}"
        );
        drop(guard);
        assert_eq!(thread.join().unwrap(), 0);
    })
    .succeeded();
}

/// The warning takes ten seconds; this is what it says, without the wait.
#[test]
fn the_dump_names_holders_of_all_threads_by_their_number() {
    child::run(On::MainThread, 20, || {
        let mutex = Arc::new(Mutex::new(0));
        let other = mutex.clone();
        let (says, hears) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            // One thread that has a hub, and then one that has none.
            let coroutine = spawn("far away", move || {
                let _guard = other.lock().unwrap();
                says.send(()).unwrap();
                ended.recv().unwrap();
            });
            coroutine.join().unwrap();
        });
        hears.recv().unwrap();
        let waits = mutex.clone();
        let waiter = spawn("waits", move || drop(waits.lock().unwrap()));
        thread::yield_now();
        let dump = greenling::debug::dump().to_string();
        assert!(dump.contains("waits for a Mutex, held by #"), "{dump}");
        assert!(dump.contains(", of another thread or ended, at "), "{dump}");
        end.send(()).unwrap();
        waiter.join().unwrap();
        holder.join().unwrap();

        let (says, hears) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let other = mutex.clone();
        let holder = std::thread::spawn(move || {
            let _guard = other.lock().unwrap();
            says.send(()).unwrap();
            ended.recv().unwrap();
        });
        hears.recv().unwrap();
        let waits = mutex.clone();
        let waiter = spawn("waits", move || drop(waits.lock().unwrap()));
        thread::yield_now();
        let dump = greenling::debug::dump().to_string();
        assert!(dump.contains("waits for a Mutex, held by #"), "{dump}");
        end.send(()).unwrap();
        waiter.join().unwrap();
        holder.join().unwrap();
    })
    .succeeded();
}

//! When nothing can ever run again, main is told, with a list of who waits for what; and never else.
//!
//! Each in a process of its own, with one thread: where there is another, nobody can be certain.

#[path = "common/child.rs"]
mod child;
mod common;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use child::On;
use common::pipe;
use greenling::io::Adapter;
use greenling::thread::{self, Builder};
use greenling::{debug, hub, sleep, spawn, yield_now};

/// Runs what has to end in the report, and returns that.
fn report(wait: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(wait)).expect_err("there is a deadlock");
    panic.downcast_ref::<String>().expect("the message of a panic").clone()
}

fn named(name: &str) -> Builder {
    Builder::new().name(name.into())
}

#[test]
fn the_report_lists_who_waits_for_what_where_and_since_when() {
    let ended = child::run(On::MainThread, 20, || {
        let parked = named("parked one").spawn(thread::park).unwrap();
        let target = parked.thread().clone();
        let joining = named("joining one").spawn(move || parked.join()).unwrap();
        spawn(|| thread::sleep(Duration::MAX));
        let began = Instant::now();
        let line = line!() + 1;
        let report = report(|| drop(joining.join()));
        assert!(began.elapsed() < Duration::from_secs(5), "soon");
        let lines: Vec<_> = report.lines().collect();
        assert!(lines[0].contains("deadlock"), "{report}");
        let about = |part: &str| {
            let found: Vec<_> = lines[1..].iter().filter(|line| line.contains(part)).collect();
            assert_eq!(found.len(), 1, "{part}: {report}");
            *found[0]
        };
        assert_eq!(lines.len(), 5, "main and three coroutines: {report}");
        assert!(about("'parked one' waits").contains("unpark"), "{report}");
        assert!(about("'joining one' waits").contains("'parked one'"), "{report}");
        let main = lines.iter().find(|line| line.contains("the end of 'joining one'"));
        assert!(main.unwrap().contains(&format!("deadlock.rs:{line}")), "{report}");
        assert!(lines[1..].iter().all(|line| line.contains("deadlock.rs:")), "{report}");
        assert!(lines[1..].iter().all(|line| line.contains("since ")), "{report}");
        // Nothing is broken: main may go on.
        target.unpark();
        while hub::stats().live > 1 {
            yield_now();
        }
        sleep(Duration::from_millis(1));
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
        hub::shutdown(Duration::from_secs(5)).unwrap();
    });
    ended.succeeded();
}

#[test]
fn a_lonely_main_that_parks_is_told() {
    let ended = child::run(On::MainThread, 20, || {
        assert!(report(thread::park).contains("unpark"));
        // Once more: it is not told only the first time.
        assert!(report(thread::park).contains("unpark"));
        thread::current().unpark();
        thread::park();
    });
    ended.succeeded();
}

#[test]
fn a_circle_of_joins_is_told() {
    let ended = child::run(On::MainThread, 20, || {
        use std::cell::RefCell;
        use std::rc::Rc;
        let slot: Rc<RefCell<Option<thread::JoinHandle<()>>>> = Rc::default();
        let own = slot.clone();
        let first = named("first").spawn(move || drop(own.take().unwrap().join())).unwrap();
        let second = named("second").spawn(move || drop(first.join())).unwrap();
        *slot.borrow_mut() = Some(second);
        let report = report(thread::park);
        assert!(report.contains("'first' (#"), "{report}");
        assert!(report.contains("'second' (#"), "{report}");
    });
    ended.succeeded();
}

#[test]
fn an_uncaught_report_ends_the_process_as_any_panic_does() {
    let ended = child::run(On::MainThread, 20, || {
        named("the culprit").spawn(thread::park).unwrap();
        thread::park();
    });
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("deadlock: nothing can ever run again"), "{ended:#?}");
    assert!(ended.stderr.contains("'the culprit' waits for unpark"), "{ended:#?}");
}

#[test]
fn who_waits_for_time_or_io_is_not_deadlocked() {
    let ended = child::run(On::MainThread, 30, || {
        // A timer, however far away, of main or of another.
        thread::park_timeout(Duration::from_millis(200));
        let main = thread::current();
        let sleeper = spawn(move || {
            sleep(Duration::from_millis(200));
            main.unpark();
        });
        thread::park();
        sleeper.join().unwrap();
        // A descriptor: whoever holds its other end may write.
        let (reader, writer) = pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        // SAFETY: the child does nothing but wait and write.
        let writes = unsafe { libc::fork() };
        if writes == 0 {
            use std::os::fd::AsRawFd;
            std::thread::sleep(Duration::from_millis(300));
            // SAFETY: one byte, and the end.
            unsafe {
                libc::write(writer.as_raw_fd(), c"x".as_ptr().cast(), 1);
                libc::_exit(0);
            }
        }
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 1);
        let waits = spawn(move || reader.read(&mut [0; 4]).unwrap());
        drop(writer);
        assert_eq!(waits.join().unwrap(), 0);
    });
    ended.succeeded();
}

#[test]
fn where_another_thread_lives_nobody_is_told() {
    let ended = child::run(On::MainThread, 30, || {
        for wait_in_coroutine in [false, true] {
            let main = thread::current();
            let parked = spawn(thread::park);
            let target = if wait_in_coroutine { parked.thread().clone() } else { main };
            let (go, wait) = mpsc::channel::<()>();
            let other = std::thread::spawn(move || {
                wait.recv().unwrap();
                std::thread::sleep(Duration::from_millis(300));
                target.unpark();
            });
            go.send(()).unwrap();
            if wait_in_coroutine {
                parked.join().unwrap();
            } else {
                thread::park();
                parked.kill();
            }
            other.join().unwrap();
        }
        // It has gone: now it is certain.
        assert!(report(thread::park).contains("deadlock"));
    });
    ended.succeeded();
}

#[test]
fn a_busy_program_is_never_told() {
    let ended = child::run(On::MainThread, 30, || {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(300) {
            // Nothing but wakes from one to the other, without timers.
            let children: Vec<_> = (0..10).map(|_| spawn(thread::park)).collect();
            yield_now();
            children.iter().for_each(|child| child.thread().unpark());
            children.into_iter().for_each(|child| child.join().unwrap());
        }
        // The thread itself sleeps, and the hub does not run.
        std::thread::sleep(Duration::from_millis(200));
        spawn(yield_now).join().unwrap();
    });
    ended.succeeded();
}

#[test]
fn a_dump_says_what_everybody_does() {
    let ended = child::run(On::OtherThread, 20, || {
        let (reader, _writer) = pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        use std::os::fd::AsRawFd;
        let fd = reader.as_raw_fd();
        named("reads").spawn(move || reader.read(&mut [0]).unwrap()).unwrap();
        let sleeps = named("sleeps").spawn(|| sleep(Duration::from_secs(60))).unwrap();
        yield_now();
        named("runnable").spawn(|| ()).unwrap();
        sleep(Duration::from_millis(30));
        named("new").spawn(|| ()).unwrap();
        let dump = debug::dump();
        let find = |name: &str| dump.coroutines().find(|one| one.name() == Some(name));
        let reads = find("reads").unwrap();
        assert!(reads.waits_for().unwrap().contains(&fd.to_string()));
        assert!(reads.location().unwrap().file().ends_with("deadlock.rs"));
        assert!(find("sleeps").unwrap().waits_for().unwrap().contains("sleep"));
        let since = find("sleeps").unwrap().waiting_since().unwrap();
        assert!(since >= Duration::from_millis(20) && since < Duration::from_secs(10));
        assert!(find("runnable").is_none(), "it has ended");
        assert!(find("new").unwrap().waits_for().is_none());
        assert!(dump.coroutines().next().unwrap().waits_for().is_none(), "main asks");
        let text = dump.to_string();
        assert_eq!(text.lines().count(), dump.coroutines().count());
        assert!(text.contains("'sleeps' waits for"), "{text}");
        assert_eq!(dump.coroutines().count(), 4);
        sleeps.kill();
    });
    ended.succeeded();
}

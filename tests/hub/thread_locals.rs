//! Coroutines in the destructors of thread-locals, which run when the thread is all but gone: before the
//! hub is taken down, and after.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use greenling::error::Killed;
use greenling::hub;
use greenling::io::Adapter;
use greenling::thread;
use greenling::{spawn, yield_now};

use crate::child;
use crate::common::deadline;

static DONE: AtomicU32 = AtomicU32::new(0);

/// Uses everything that a hub has when it is dropped.
struct Late {
    leave_one: bool,
}

impl Drop for Late {
    fn drop(&mut self) {
        assert_eq!(spawn(|| 3).join().unwrap(), 3);
        let sleeper = spawn(|| thread::sleep(Duration::from_millis(2)));
        let (reader, mut writer) = crate::common::pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        let receiver = spawn(move || reader.read(&mut [0; 4]).unwrap());
        yield_now();
        writer.write_all(b"x").unwrap();
        sleeper.join().unwrap();
        assert_eq!(receiver.join().unwrap(), 1);
        let broken = spawn(|| std::panic::resume_unwind(Box::new(1)));
        assert!(broken.join().is_err());
        let killed = spawn(thread::park);
        yield_now();
        killed.kill();
        assert!(killed.join().unwrap_err().is::<Killed>());
        assert!(thread::current().id() == thread::current().id());
        if self.leave_one {
            // Unfinished when the thread's last bit goes.
            spawn(|| {
                let _last = Last;
                thread::park();
            });
            yield_now();
        }
        assert_eq!(hub::stats().live, usize::from(self.leave_one));
        DONE.fetch_add(1, Ordering::SeqCst);
    }
}

struct Last;

impl Drop for Last {
    fn drop(&mut self) {
        DONE.fetch_add(100, Ordering::SeqCst);
    }
}

thread_local! {
    static BEFORE: RefCell<Option<Late>> = const { RefCell::new(None) };
    static AFTER: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// Sets up the two thread-locals so that one's destructor runs before the hub's and one's after it:
/// they run in the reverse order of their first use.
fn life(hub_between: bool, leave_one: bool) {
    let late = |leave_one| Some(Late { leave_one });
    AFTER.with(|slot| *slot.borrow_mut() = late(leave_one));
    if hub_between {
        spawn(|| ()).join().unwrap();
    }
    BEFORE.with(|slot| *slot.borrow_mut() = late(false));
}

#[test]
fn destructors_before_and_after_the_hubs_own_end_may_use_it() {
    let ended = child::run(child::On::MainThread, 30, || {
        for hub_between in [true, false] {
            for leave_one in [true, false] {
                DONE.store(0, Ordering::SeqCst);
                std::thread::spawn(move || life(hub_between, leave_one)).join().unwrap();
                let expected = if leave_one { 102 } else { 2 };
                assert_eq!(DONE.load(Ordering::SeqCst), expected, "{hub_between} {leave_one}");
            }
        }
    });
    ended.succeeded();
}

#[test]
fn threads_that_use_a_hub_at_their_very_end_leave_nothing_behind() {
    let ended = child::run(child::On::MainThread, 60, || {
        let resources = || {
            let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
            (fds, maps)
        };
        let run = || std::thread::spawn(|| life(true, true)).join().unwrap();
        (0..5).for_each(|_| run());
        let before = resources();
        (0..60).for_each(|_| run());
        let after = resources();
        assert_eq!(after.0, before.0, "descriptors");
        assert!(after.1 <= before.1 + 12, "maps: {} before, {} after", before.1, after.1);
    });
    ended.succeeded();
}

#[test]
fn a_wake_from_elsewhere_that_comes_after_the_end_is_harmless() {
    deadline(20, || {
        for _ in 0..100 {
            let (sender, receiver) = std::sync::mpsc::channel();
            let ending = std::thread::spawn(move || {
                sender.send(thread::current()).unwrap();
                let child = spawn(thread::park);
                sender.send(child.thread().clone()).unwrap();
                yield_now();
            });
            let threads: Vec<_> = receiver.iter().collect();
            for _ in 0..20 {
                threads.iter().for_each(thread::Thread::unpark);
            }
            ending.join().unwrap();
            threads.iter().for_each(thread::Thread::unpark);
            assert_eq!(spawn(|| 1).join().unwrap(), 1);
        }
    });
}

#[test]
fn the_main_thread_may_use_its_hub_in_a_destructor_too() {
    let ended = child::run(child::On::MainThread, 20, || {
        AFTER.with(|slot| *slot.borrow_mut() = Some(Late { leave_one: false }));
        spawn(|| ()).join().unwrap();
        println!("the child has done its work");
        std::process::exit(0);
    });
    ended.succeeded();
}

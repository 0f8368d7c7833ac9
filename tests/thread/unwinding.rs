//! Waits inside destructors, and who sees `panicking()`.
//!
//! std counts panics by thread, so a coroutine that switches in the middle of unwinding shows its panic to
//! the others. Sleep and I/O block the thread there instead; a join has to switch.

use std::cell::Cell;
use std::io::{Read, Write};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::error::Killed;
use greenling::io::Adapter;
use greenling::thread::{self, JoinHandle};
use greenling::{hub, spawn, yield_now};

use crate::child;
use crate::common::deadline;

/// Does something when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A coroutine that panics, and does something while it unwinds.
fn panics_with(mut cleanup: impl FnMut() + 'static) -> JoinHandle<()> {
    spawn(move || {
        let _guard = OnDrop(move || {
            assert!(thread::panicking());
            cleanup();
            assert!(thread::panicking());
        });
        resume_unwind(Box::new("a panic with cleanup"));
    })
}

/// A coroutine that looks at `panicking()` as often as it can, until it is told to stop. It ends with
/// how often it has looked, and fails if it has seen somebody else's panic.
fn watcher(stop: &Rc<Cell<bool>>) -> JoinHandle<u32> {
    let stop = stop.clone();
    spawn(move || {
        let mut looks = 0;
        while !stop.get() {
            assert!(!thread::panicking(), "another coroutine's panic is seen");
            looks += 1;
            yield_now();
        }
        looks
    })
}

#[test]
fn a_sleep_blocks_the_thread() {
    deadline(20, || {
        let stop = Rc::new(Cell::new(false));
        let watcher = watcher(&stop);
        let began = Instant::now();
        let broken = panics_with(|| {
            thread::sleep(Duration::from_millis(30));
            thread::sleep(Duration::ZERO);
            thread::sleep_until(Instant::now() + Duration::from_millis(1));
            yield_now();
        });
        assert!(broken.join().is_err());
        assert!(began.elapsed() >= Duration::from_millis(31));
        stop.set(true);
        let looks = watcher.join().unwrap();
        assert!(looks <= 3, "the others have run {looks} times during the sleep");
    });
}

#[test]
fn io_blocks_the_thread() {
    deadline(20, || {
        let stop = Rc::new(Cell::new(false));
        let watcher = watcher(&stop);
        let (reader, mut writer) = crate::common::pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        let feeder = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            writer.write_all(b"x").unwrap();
            std::thread::sleep(Duration::from_millis(30));
        });
        let broken = panics_with(move || {
            assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
            // With a deadline, too.
            let soon = Instant::now() + Duration::from_millis(5);
            let read = reader.read_with_deadline(soon, |mut io| io.read(&mut [0]));
            assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
            assert!(Instant::now() >= soon);
        });
        assert!(broken.join().is_err());
        stop.set(true);
        let looks = watcher.join().unwrap();
        assert!(looks <= 3, "the others have run {looks} times during the wait");
        feeder.join().unwrap();
    });
}

#[test]
fn a_join_switches_since_a_deadlock_would_be_worse() {
    deadline(20, || {
        let result = Rc::new(Cell::new(0));
        let inner = result.clone();
        let broken = panics_with(move || {
            let child = spawn(|| {
                thread::sleep(Duration::from_millis(5));
                yield_now();
                5
            });
            inner.set(child.join().unwrap());
        });
        assert!(broken.join().is_err());
        assert_eq!(result.get(), 5);
        assert!(!thread::panicking());
    });
}

#[test]
fn a_park_switches_and_its_token_is_not_lost() {
    deadline(20, || {
        let broken = panics_with(thread::park);
        yield_now();
        assert!(!broken.is_finished());
        broken.thread().unpark();
        assert!(broken.join().is_err());
        assert!(!thread::panicking());
    });
}

#[test]
fn outside_of_unwinding_a_destructor_waits_as_everything_else_does() {
    deadline(20, || {
        let ran = Rc::new(Cell::new(0));
        let flag = ran.clone();
        let child = spawn(move || {
            drop(OnDrop(|| thread::sleep(Duration::from_millis(20))));
            flag.get()
        });
        yield_now();
        // No more than that: how often this one gets its turn within 20 ms is the machine's affair.
        ran.set(ran.get() + 1);
        assert_eq!(child.join().unwrap(), 1, "others run during the destructor");
    });
}

#[test]
fn a_panic_of_one_while_another_unwinds_is_its_own() {
    deadline(20, || {
        let inner_failed = Rc::new(Cell::new(false));
        let flag = inner_failed.clone();
        let outer = panics_with(move || {
            let inner = spawn(|| {
                thread::sleep(Duration::from_millis(1));
                resume_unwind(Box::new("inner"));
            });
            flag.set(inner.join().is_err());
        });
        let payload = outer.join().unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"a panic with cleanup"));
        assert!(inner_failed.get());
        assert!(!thread::panicking());
    });
}

#[test]
fn main_may_wait_while_it_unwinds() {
    deadline(20, || {
        let thread = std::thread::spawn(|| {
            let _guard = OnDrop(|| {
                let child = spawn(|| {
                    yield_now();
                    3
                });
                assert_eq!(child.join().unwrap(), 3);
                thread::sleep(Duration::from_millis(1));
            });
            resume_unwind(Box::new("main"));
        });
        assert_eq!(thread.join().unwrap_err().downcast_ref(), Some(&"main"));
    });
}

/// Two coroutines are in the middle of unwinding, and the one that began first is the first to end.
#[test]
fn the_others_can_wait_while_two_unwind() {
    let ended = child::run(child::On::OtherThread, 20, || {
        let first = panics_with(|| {
            spawn(|| thread::sleep(Duration::from_millis(5))).join().unwrap();
        });
        let second = panics_with(|| {
            spawn(|| thread::sleep(Duration::from_millis(100))).join().unwrap();
        });
        while !first.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        // The second is still suspended in its destructor. Whoever is not unwinding must be able to switch:
        let turns = Rc::new(Cell::new(0));
        let count = turns.clone();
        let innocent = spawn(move || count.set(count.get() + 1));
        while turns.get() == 0 {
            yield_now();
        }
        innocent.join().unwrap();
        let (reader, mut writer) = crate::common::pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        let receiver = spawn(move || reader.read(&mut [0; 8]).unwrap());
        yield_now();
        spawn(move || writer.write_all(b"x").unwrap()).join().unwrap();
        assert_eq!(receiver.join().unwrap(), 1);
        assert!(!second.is_finished());
        assert!(first.join().is_err() && second.join().is_err());
        assert!(!thread::panicking());
    });
    ended.succeeded();
}

/// After all that has unwound, a sleep while unwinding blocks the thread again, and sleep elsewhere does not.
#[test]
fn nothing_remains_of_two_that_have_unwound() {
    let ended = child::run(child::On::OtherThread, 20, || {
        for (first, second) in [(5, 20), (20, 5), (5, 5)] {
            let unwinding = [first, second].map(|millis| {
                panics_with(move || {
                    let wait = move || thread::sleep(Duration::from_millis(millis));
                    spawn(wait).join().unwrap();
                })
            });
            let ended = unwinding.map(|broken| broken.join().is_err());
            assert_eq!(ended, [true, true]);
        }
        let stop = Rc::new(Cell::new(false));
        let watcher = watcher(&stop);
        let broken = panics_with(|| thread::sleep(Duration::from_millis(10)));
        assert!(broken.join().is_err());
        thread::sleep(Duration::from_millis(10));
        stop.set(true);
        assert!(watcher.join().unwrap() > 3);
    });
    ended.succeeded();
}

/// What a program does that shuts down: everything is killed, one's cleanup waits for another, and that one's
/// cleanup sleeps. A kill that is delivered inside a destructor would abort the process.
#[test]
fn a_kill_spares_who_unwinds_while_another_does() {
    let ended = child::run(child::On::OtherThread, 20, || {
        let slept = Rc::new(Cell::new(0));
        let count = slept.clone();
        let worker = spawn(move || {
            let _cleanup = OnDrop(move || {
                thread::sleep(Duration::from_millis(5));
                thread::park_timeout(Duration::from_millis(5));
                count.set(count.get() + 1);
            });
            thread::park();
        });
        let supervisor = spawn(move || {
            let mut worker = Some(worker);
            let _cleanup = OnDrop(move || {
                let end = worker.take().unwrap().join();
                assert!(end.unwrap_err().is::<Killed>());
            });
            thread::park();
        });
        yield_now();
        hub::shutdown(Duration::from_secs(5)).unwrap();
        assert!(supervisor.join().unwrap_err().is::<Killed>());
        assert_eq!(slept.get(), 1);
    });
    ended.succeeded();
}

/// The same, but what the killed one is unwinding from is a panic of its own.
#[test]
fn a_kill_spares_who_panics_while_another_unwinds() {
    let ended = child::run(child::On::OtherThread, 20, || {
        let waiting = panics_with(|| {
            spawn(|| thread::sleep(Duration::from_millis(50))).join().unwrap();
        });
        yield_now();
        let victim = panics_with(|| thread::park_timeout(Duration::from_millis(20)));
        yield_now();
        victim.kill();
        let payload = victim.join().unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"a panic with cleanup"));
        assert!(waiting.join().is_err());
    });
    ended.succeeded();
}

/// While one unwinds and waits for another in its destructor, that other can be killed all the same.
#[test]
fn what_a_destructor_waits_for_can_be_killed() {
    deadline(20, || {
        let waited_for = spawn(thread::park);
        yield_now();
        let thread = waited_for.thread().clone();
        let handle: Rc<Cell<Option<JoinHandle<()>>>> = Rc::new(Cell::new(Some(waited_for)));
        let own = handle.clone();
        let broken = panics_with(move || {
            let waited_for = own.take().unwrap();
            waited_for.kill();
            assert!(waited_for.join().unwrap_err().is::<Killed>());
        });
        assert!(broken.join().is_err());
        thread.unpark();
        assert_eq!(hub::stats().live, 0);
    });
}

//! A panic is its coroutine's own, and what it leaves goes where it should.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenling::thread::{self, Builder};
use greenling::{hub, spawn, yield_now};

use crate::common::deadline;
use crate::{child, logger};

/// The hub is as it should be: it runs coroutines, keeps time and has lost nobody.
fn assert_hub_works() {
    assert!(!thread::panicking());
    assert_eq!(spawn(|| 1).join().unwrap(), 1);
    thread::sleep(Duration::from_millis(1));
    assert_eq!(hub::stats().live, 0);
    assert_eq!(hub::stats().stacks_in_use, 0);
}

#[test]
fn a_panic_ends_its_coroutine_and_nothing_else() {
    deadline(20, || {
        let alive = Rc::new(Cell::new(0));
        let others: Vec<_> = (0..10)
            .map(|_| {
                let alive = alive.clone();
                spawn(move || {
                    for _ in 0..20 {
                        assert!(!thread::panicking());
                        thread::sleep(Duration::from_millis(1));
                    }
                    alive.set(alive.get() + 1);
                })
            })
            .collect();
        for n in 0..50 {
            let broken = spawn(move || {
                yield_now();
                resume_unwind(Box::new(n));
            });
            assert_eq!(*broken.join().unwrap_err().downcast::<i32>().unwrap(), n);
            assert!(!thread::panicking());
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(alive.get(), 10);
        assert_hub_works();
    });
}

#[test]
fn a_panic_reaches_those_who_wait_for_it_one_after_the_other() {
    deadline(20, || {
        let mut chain = spawn(|| {
            thread::sleep(Duration::from_millis(5));
            resume_unwind(Box::new("the end of the chain"))
        });
        for _ in 0..100 {
            chain = spawn(move || match chain.join() {
                Ok(()) => (),
                Err(payload) => resume_unwind(payload),
            });
        }
        let payload = chain.join().unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"the end of the chain"));
        assert_hub_works();
    });
}

#[test]
fn many_that_panic_at_the_same_time_each_have_their_own_payload() {
    deadline(20, || {
        let broken: Vec<_> = (0..1000_u32)
            .map(|n| {
                spawn(move || {
                    thread::sleep(Duration::from_millis(u64::from(n % 7)));
                    resume_unwind(Box::new(n));
                })
            })
            .collect();
        for (n, broken) in (0..).zip(broken) {
            assert_eq!(*broken.join().unwrap_err().downcast::<u32>().unwrap(), n);
        }
        assert_hub_works();
    });
}

#[test]
fn a_panic_that_nobody_joins_is_logged_with_name_and_message() {
    logger::install();
    deadline(20, || {
        let named = |name: &str| Builder::new().name(name.into());
        drop(named("unjoined-str").spawn(|| resume_unwind(Box::new("a text"))).unwrap());
        drop(
            named("unjoined-string")
                .spawn(|| resume_unwind(Box::new(String::from("a formatted text"))))
                .unwrap(),
        );
        drop(named("unjoined-other").spawn(|| resume_unwind(Box::new(5))).unwrap());
        // The handle goes after the end.
        let late = named("unjoined-late").spawn(|| resume_unwind(Box::new("late"))).unwrap();
        while !late.is_finished() {
            yield_now();
        }
        drop(late);
        // Whoever joins has been told, and a kill is no accident.
        let joined = named("unjoined-not").spawn(|| resume_unwind(Box::new("joined"))).unwrap();
        assert!(joined.join().is_err());
        let killed = named("unjoined-killed").spawn(thread::park).unwrap();
        yield_now();
        killed.kill();
        drop(killed);
        for _ in 0..10 {
            yield_now();
        }
        assert_hub_works();
    });
    let one = |text: &str, part: &str| {
        let found = logger::records_with(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with("ERROR greenling") && found[0].contains(part), "{found:?}");
    };
    one("'unjoined-str'", "a text");
    one("'unjoined-string'", "a formatted text");
    one("'unjoined-other'", "panicked");
    one("'unjoined-late'", "late");
    assert_eq!(logger::records_with("'unjoined-not'"), [""; 0]);
    assert_eq!(logger::records_with("'unjoined-killed'"), [""; 0]);
}

#[test]
fn nothing_prints_but_the_panic_hook() {
    let ended = child::run(child::On::MainThread, 20, || {
        let quiet = spawn(|| resume_unwind(Box::new("quiet")));
        assert!(quiet.join().is_err());
        drop(spawn(|| resume_unwind(Box::new("detached"))));
        let killed = spawn(thread::park);
        yield_now();
        killed.kill();
        assert!(killed.join().is_err());
        let unfinished = std::thread::spawn(|| {
            spawn(thread::park);
            yield_now();
        });
        unfinished.join().unwrap();
    });
    ended.succeeded();
    assert_eq!(ended.stderr, "");
}

/// Tells on which thread it is dropped.
struct DropPlace(Arc<Mutex<Vec<std::thread::ThreadId>>>);

impl Drop for DropPlace {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(std::thread::current().id());
    }
}

#[test]
fn a_result_is_dropped_by_whoever_has_it_last() {
    deadline(20, || {
        let here = std::thread::current().id();
        let places = Arc::new(Mutex::new(Vec::new()));

        // The handle goes first, on another thread: the coroutine drops the result itself.
        let result = DropPlace(places.clone());
        let child = spawn(move || {
            thread::sleep(Duration::from_millis(20));
            result
        });
        std::thread::spawn(move || drop(child)).join().unwrap();
        while places.lock().unwrap().is_empty() {
            yield_now();
        }
        assert_eq!(places.lock().unwrap().drain(..).collect::<Vec<_>>(), [here]);

        // The coroutine ends first: whoever drops the handle drops the result.
        let result = DropPlace(places.clone());
        let child = spawn(move || result);
        while !child.is_finished() {
            yield_now();
        }
        let other = std::thread::spawn(move || drop(child));
        let there = other.thread().id();
        other.join().unwrap();
        assert_eq!(places.lock().unwrap().drain(..).collect::<Vec<_>>(), [there]);

        // A panic's payload likewise.
        let payload = DropPlace(places.clone());
        let child = spawn(move || -> () { resume_unwind(Box::new(payload)) });
        while !child.is_finished() {
            yield_now();
        }
        drop(child);
        assert_eq!(places.lock().unwrap().drain(..).collect::<Vec<_>>(), [here]);
    });
}

#[test]
fn a_result_that_is_not_send_stays_though_its_coroutine_is_known_elsewhere() {
    struct NotSend(Rc<()>, std::thread::ThreadId);
    impl Drop for NotSend {
        fn drop(&mut self) {
            assert_eq!(std::thread::current().id(), self.1, "dropped on another thread");
            assert_eq!(Rc::strong_count(&self.0), 2);
        }
    }
    deadline(20, || {
        let probe = Rc::new(());
        let result = NotSend(probe.clone(), std::thread::current().id());
        let child = spawn(move || {
            thread::sleep(Duration::from_millis(5));
            result
        });
        // Another thread owns the coroutine's task longer than this one does.
        let thread = child.thread().clone();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            thread.unpark();
        });
        drop(child);
        thread::sleep(Duration::from_millis(20));
        assert_eq!(Rc::strong_count(&probe), 1, "the result has been dropped");
        other.join().unwrap();
    });
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new("the bomb"));
    }
}

/// A payload that panics when it is dropped, with a payload that does so as well, `.0` times.
struct Chain(u32);

impl Drop for Chain {
    fn drop(&mut self) {
        if self.0 > 0 {
            resume_unwind(Box::new(Chain(self.0 - 1)));
        }
    }
}

#[test]
fn a_destructor_that_panics_harms_only_its_coroutine() {
    deadline(20, || {
        // In the coroutine itself.
        let child = spawn(|| drop(Bomb));
        assert_eq!(child.join().unwrap_err().downcast_ref(), Some(&"the bomb"));
        // In a result that nobody takes.
        drop(spawn(|| Bomb));
        yield_now();
        // In a closure that never runs.
        let bomb = Bomb;
        let child = spawn(move || drop(bomb));
        child.kill();
        assert_eq!(child.join().unwrap_err().downcast_ref(), Some(&"the bomb"));
        // In a payload that nobody takes.
        drop(spawn(|| -> () { resume_unwind(Box::new(Bomb)) }));
        yield_now();
        assert_hub_works();
    });
}

#[test]
fn a_payload_whose_destructor_panics_again_and_again_is_contained() {
    let ended = child::run(child::On::OtherThread, 20, || {
        for n in 0..4 {
            drop(spawn(move || -> () { resume_unwind(Box::new(Chain(n))) }));
            yield_now();
            drop(spawn(move || Chain(n)));
            yield_now();
        }
        assert_hub_works();
    });
    ended.succeeded();
}

#[test]
fn unwrap_of_a_join_goes_on_with_the_panic() {
    deadline(20, || {
        let outer = spawn(|| {
            let inner = spawn(|| resume_unwind(Box::new("inner")));
            let Err(payload) = inner.join();
            resume_unwind(payload);
        });
        assert_eq!(outer.join().unwrap_err().downcast_ref(), Some(&"inner"));
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let inner = spawn(|| resume_unwind(Box::new("unwrapped")));
            inner.join().unwrap();
        }));
        assert!(caught.is_err());
        assert_hub_works();
    });
}

//! `local!`: a value of its own for every coroutine, dropped at its end.

mod common;
#[path = "common/logger.rs"]
mod logger;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use common::deadline;
use greenling::event::Event;
use greenling::{JoinHandle, sleep, spawn, yield_now};

const SHORT: Duration = Duration::from_millis(10);

greenling::local! {
    static NUMBER: Cell<u32> = Cell::new(7);

    /// The last line needs no semicolon.
    pub static NAMES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) }
}

#[test]
fn every_coroutine_has_its_own_value() {
    deadline(20, || {
        NUMBER.set(100);
        let children: Vec<JoinHandle<u32>> = (1..=5)
            .map(|n| {
                spawn(move || {
                    assert_eq!(NUMBER.get(), 7);
                    for _ in 0..3 {
                        NUMBER.set(NUMBER.get() + n);
                        yield_now(); // the others do the same meanwhile
                    }
                    NUMBER.get()
                })
            })
            .collect();
        let values: Vec<u32> = children.into_iter().map(|child| child.join().unwrap()).collect();
        assert_eq!(values, [10, 13, 16, 19, 22]);
        assert_eq!(NUMBER.get(), 100);
        assert_eq!(std::thread::spawn(|| NUMBER.get()).join().unwrap(), 7, "another thread's main");
    });
}

#[test]
fn it_has_the_methods_of_stds() {
    deadline(20, || {
        assert_eq!(NUMBER.replace(1), 7);
        assert_eq!(NUMBER.take(), 1);
        assert_eq!(NUMBER.get(), 0);
        assert_eq!(NUMBER.with(|cell| cell.get()), 0);
        assert_eq!(NUMBER.try_with(|cell| cell.get()), Ok(0));

        NAMES.with_borrow_mut(|names| names.push("a".into()));
        assert_eq!(NAMES.with_borrow(Vec::len), 1);
        assert_eq!(NAMES.replace(vec!["b".into()]), ["a"]);
        assert_eq!(NAMES.take(), ["b"]);
        NAMES.set(vec!["c".into()]);
        assert_eq!(NAMES.take(), ["c"]);
        assert_eq!(format!("{NUMBER:?}"), "LocalKey { .. }");
    });
}

#[test]
fn setting_first_makes_no_initial_value() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    greenling::local! {
        static CELL: Cell<u32> = {
            MADE.fetch_add(1, Ordering::SeqCst);
            Cell::new(1)
        };
    }
    deadline(20, || {
        CELL.set(5);
        assert_eq!((CELL.get(), MADE.load(Ordering::SeqCst)), (5, 0));
        assert_eq!(spawn(|| CELL.get()).join().unwrap(), 1);
        assert_eq!(MADE.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn making_a_value_may_use_the_same_key() {
    greenling::local! {
        static OUTER: Cell<u32> = {
            OUTER.set(3); // so there is one before this has made one
            Cell::new(4)
        };
    }
    deadline(20, || assert_eq!((OUTER.get(), OUTER.get()), (3, 3)));
}

#[test]
fn making_a_value_may_wait() {
    greenling::local! {
        static SLOW: u32 = {
            sleep(SHORT);
            5
        };
    }
    deadline(20, || {
        let both = [spawn(|| SLOW.with(|n| *n)), spawn(|| SLOW.with(|n| *n))];
        assert_eq!(both.map(|child| child.join().unwrap()), [5, 5]);
    });
}

/// Sends its name when it is dropped.
struct Bell(&'static str, mpsc::Sender<&'static str>);

impl Drop for Bell {
    fn drop(&mut self) {
        let _ = self.1.send(self.0);
    }
}

greenling::local! {
    static FIRST: RefCell<Option<Bell>> = RefCell::new(None);
    static SECOND: RefCell<Option<Bell>> = RefCell::new(None);
    static THIRD: RefCell<Option<Bell>> = RefCell::new(None);
}

#[test]
fn values_are_dropped_last_first_before_the_end_is_announced() {
    deadline(20, || {
        let (sender, dropped) = mpsc::channel();
        let child = spawn({
            let sender = sender.clone();
            move || {
                SECOND.set(Some(Bell("second", sender.clone())));
                FIRST.set(Some(Bell("first", sender.clone())));
                THIRD.set(Some(Bell("third", sender)));
            }
        });
        child.join().unwrap();
        assert_eq!(dropped.try_iter().collect::<Vec<_>>(), ["third", "first", "second"]);
    });
}

#[test]
fn values_are_dropped_however_the_coroutine_ends() {
    deadline(20, || {
        let (sender, dropped) = mpsc::channel();
        let ring = || {
            let sender = sender.clone();
            move || FIRST.set(Some(Bell("rung", sender)))
        };
        let ends: [(&str, fn()); 3] = [
            ("return", || ()),
            ("panic", || std::panic::resume_unwind(Box::new("oh"))),
            ("kill", || sleep(Duration::from_secs(60))),
        ];
        for (name, end) in ends {
            let ring = ring();
            let child = spawn(move || {
                ring();
                end();
            });
            yield_now();
            if name == "kill" {
                child.kill();
            }
            let _ = child.join();
            assert_eq!(dropped.try_iter().collect::<Vec<_>>(), ["rung"], "{name}");
        }
        // Detached, and on a thread that ends before it does.
        let ring = ring();
        std::thread::spawn(move || {
            drop(spawn(move || {
                ring();
                sleep(Duration::from_secs(60));
            }));
            yield_now();
        })
        .join()
        .unwrap();
        assert_eq!(dropped.try_iter().collect::<Vec<_>>(), ["rung"]);
    });
}

#[test]
fn mains_values_are_dropped_at_the_end_of_its_thread() {
    deadline(20, || {
        let (sender, dropped) = mpsc::channel();
        std::thread::spawn(move || {
            FIRST.set(Some(Bell("first", sender.clone())));
            SECOND.set(Some(Bell("second", sender)));
        })
        .join()
        .unwrap();
        assert_eq!(dropped.try_iter().collect::<Vec<_>>(), ["second", "first"]);
    });
}

#[test]
fn a_destructor_may_use_what_is_left_and_make_what_is_new_but_not_what_is_gone() {
    thread_local! {
        static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }
    struct Curious(&'static str);
    impl Drop for Curious {
        fn drop(&mut self) {
            let look = |name, key: &'static greenling::local::LocalKey<Curious>| {
                format!("{} sees {name}: {:?}", self.0, key.try_with(|value| value.0).ok())
            };
            let lines = [look("left", &LEFT), look("itself", &ITSELF), look("new", &NEW)];
            SEEN.with_borrow_mut(|seen| seen.extend(lines));
        }
    }
    greenling::local! {
        static LEFT: Curious = Curious("left");
        static ITSELF: Curious = Curious("itself");
        static NEW: Curious = Curious("new");
    }
    deadline(20, || {
        spawn(|| {
            LEFT.with(|_| ());
            ITSELF.with(|_| ());
        })
        .join()
        .unwrap();
        assert_eq!(
            SEEN.take(),
            [
                "itself sees left: Some(\"left\")",
                "itself sees itself: None",
                "itself sees new: Some(\"new\")",
                // It was made last.
                "new sees left: Some(\"left\")",
                "new sees itself: None",
                "new sees new: None",
                "left sees left: None",
                "left sees itself: None",
                "left sees new: None",
            ]
        );
    });
}

#[test]
fn a_destructor_may_wait_even_if_the_coroutine_was_killed() {
    struct Waits(Rc<Event>, Rc<Cell<u32>>);
    impl Drop for Waits {
        fn drop(&mut self) {
            sleep(Duration::from_millis(1));
            self.0.wait();
            self.1.set(self.1.get() + 1);
        }
    }
    greenling::local! {
        static WAITS: RefCell<Option<Waits>> = RefCell::new(None);
    }
    deadline(20, || {
        let (event, dropped) = (Rc::new(Event::new()), Rc::new(Cell::new(0)));
        let child = spawn({
            let (event, dropped) = (event.clone(), dropped.clone());
            move || {
                WAITS.set(Some(Waits(event, dropped)));
                sleep(Duration::from_secs(60));
            }
        });
        yield_now();
        assert!(!child.kill_timeout(SHORT));
        assert_eq!(dropped.get(), 0);
        event.set();
        assert!(child.join().unwrap_err().is::<greenling::Killed>());
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn a_destructor_that_panics_is_reported_and_the_others_run() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("in a destructor"));
        }
    }
    greenling::local! {
        static PANICS: Panics = Panics;
    }
    deadline(20, || {
        logger::install();
        let (sender, dropped) = mpsc::channel();
        let child = spawn(move || {
            FIRST.set(Some(Bell("first", sender)));
            PANICS.with(|_| ());
            5
        });
        assert_eq!(child.join().unwrap(), 5);
        assert_eq!(dropped.try_iter().collect::<Vec<_>>(), ["first"]);
        assert_eq!(logger::records_with("coroutine-local value panicked").len(), 1);
    });
}

#[test]
fn it_is_too_late_after_the_end() {
    greenling::local! {
        static LATE: Cell<u32> = Cell::new(1);
    }
    struct Late(mpsc::Sender<bool>);
    impl Drop for Late {
        fn drop(&mut self) {
            let _ = self.0.send(LATE.try_with(Cell::get).is_ok());
        }
    }
    deadline(20, || {
        let (sender, seen) = mpsc::channel();
        // The result of a detached coroutine is dropped on its stack, while its values are there.
        drop(spawn({
            let sender = sender.clone();
            move || Late(sender)
        }));
        yield_now();
        assert!(seen.try_recv().unwrap());
        // The handle goes while a value is being dropped: the result comes after the values.
        struct Waits;
        impl Drop for Waits {
            fn drop(&mut self) {
                sleep(SHORT);
            }
        }
        greenling::local! {
            static WAITS: Waits = Waits;
        }
        let child = spawn(move || {
            WAITS.with(|_| ());
            Late(sender)
        });
        yield_now();
        drop(child);
        sleep(2 * SHORT);
        assert!(!seen.try_recv().unwrap());
        assert!(seen.try_recv().is_err());
    });
}

#[test]
fn a_value_that_is_in_use_stays_where_it_is() {
    greenling::local! {
        static MANY: [Cell<u32>; 4] = [const { Cell::new(0) }; 4];
        static A: Cell<u32> = Cell::new(0);
        static B: Cell<u32> = Cell::new(0);
        static C: Cell<u32> = Cell::new(0);
    }
    deadline(20, || {
        MANY.with(|many| {
            let at = many.as_ptr();
            // Others are made, and others' values of the same key, while this one is borrowed.
            for key in [&A, &B, &C] {
                key.set(1);
            }
            spawn(|| MANY.with(|many| many[0].set(9))).join().unwrap();
            many[0].set(many[0].get() + 1);
            MANY.with(|again| assert_eq!((again.as_ptr(), again[0].get()), (at, 1)));
        });
    });
}

#[test]
fn keys_are_shared_by_threads_and_values_are_not() {
    deadline(60, || {
        let total = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let total = total.clone();
                std::thread::spawn(move || {
                    let children: Vec<_> = (0..500)
                        .map(|n: u32| {
                            let total = total.clone();
                            spawn(move || {
                                NUMBER.set(n);
                                yield_now();
                                assert_eq!(NUMBER.replace(0), n);
                                total.fetch_add(1, Ordering::Relaxed);
                            })
                        })
                        .collect();
                    children.into_iter().for_each(|child| child.join().unwrap());
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(total.load(Ordering::Relaxed), 2000);
    });
}

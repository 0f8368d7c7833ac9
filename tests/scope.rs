//! Coroutines that borrow: whatever happens, none of their code runs after what it borrows is gone.

#[path = "common/child.rs"]
mod child;
mod common;

use std::cell::{Cell, RefCell};
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::deadline;
use greenling::error::{Elapsed, Killed};
use greenling::thread::{self, Builder};
use greenling::{hub, scope, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(5);

/// What has happened, in order.
#[derive(Default)]
struct Log(RefCell<Vec<&'static str>>);

impl Log {
    fn add(&self, what: &'static str) {
        self.0.borrow_mut().push(what);
    }

    #[track_caller]
    fn assert(&self, expected: &[&str]) {
        assert_eq!(*self.0.borrow(), expected);
    }
}

/// Writes into the log when it is dropped; after a wait, if it is to take its time.
struct Farewell<'a> {
    log: &'a Log,
    what: &'static str,
    slowly: bool,
}

impl<'a> Farewell<'a> {
    fn new(log: &'a Log, what: &'static str) -> Self {
        Farewell { log, what, slowly: false }
    }

    fn slow(log: &'a Log, what: &'static str) -> Self {
        Farewell { log, what, slowly: true }
    }
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        if self.slowly {
            sleep(SHORT);
            // Switches, even while unwinding.
            spawn(|| sleep(SHORT)).join().unwrap();
        }
        self.log.add(self.what);
    }
}

/// What std's scope does too; on both.
macro_rules! cases {
    ($name:ident, $thread:path) => {
        mod $name {
            use $thread as thread;

            use super::*;

            #[test]
            fn it_waits_for_all_and_gives_the_borrows_back() {
                deadline(20, || {
                    let mut numbers = [0; 20];
                    thread::scope(|scope| {
                        for (n, number) in numbers.iter_mut().enumerate() {
                            scope.spawn(move || {
                                thread::sleep(Duration::from_millis(n as u64 % 3));
                                *number = n;
                            });
                        }
                    });
                    assert!(numbers.iter().copied().eq(0..20));
                });
            }

            #[test]
            fn it_returns_what_the_function_returns() {
                deadline(20, || {
                    let text = String::from("to borrow from");
                    let length = thread::scope(|scope| {
                        let length = scope.spawn(|| text.len());
                        let part = scope.spawn(|| &text[3..9]);
                        assert_eq!(part.join().unwrap(), "borrow");
                        length.join().unwrap()
                    });
                    assert_eq!(length, text.len());
                });
            }

            #[test]
            fn children_may_spawn_into_it() {
                deadline(20, || {
                    let count = AtomicU32::new(0);
                    thread::scope(|scope| {
                        for _ in 0..3 {
                            scope.spawn(|| {
                                thread::sleep(Duration::from_millis(1));
                                for _ in 0..3 {
                                    scope.spawn(|| {
                                        thread::sleep(Duration::from_millis(1));
                                        scope.spawn(|| count.fetch_add(1, Ordering::SeqCst));
                                    });
                                }
                            });
                        }
                    });
                    assert_eq!(count.load(Ordering::SeqCst), 9);
                });
            }

            #[test]
            fn a_panic_that_nobody_joined_is_its_own() {
                deadline(20, || {
                    let done = AtomicU32::new(0);
                    let broken = catch_unwind(AssertUnwindSafe(|| {
                        thread::scope(|scope| {
                            scope.spawn(|| resume_unwind(Box::new("a child's")));
                            scope.spawn(|| {
                                thread::sleep(SHORT);
                                done.fetch_add(1, Ordering::SeqCst)
                            });
                        })
                    }));
                    let payload = broken.unwrap_err();
                    assert_eq!(payload.downcast_ref(), Some(&"a scoped thread panicked"));
                    assert_eq!(done.load(Ordering::SeqCst), 1);
                });
            }

            #[test]
            fn a_panic_that_was_joined_is_the_joiners() {
                deadline(20, || {
                    let value = thread::scope(|scope| {
                        let broken = scope.spawn(|| -> u8 { resume_unwind(Box::new("a child's")) });
                        assert_eq!(broken.join().unwrap_err().downcast_ref(), Some(&"a child's"));
                        5
                    });
                    assert_eq!(value, 5);
                });
            }

            #[test]
            fn a_panic_of_the_function_goes_on_after_the_children() {
                deadline(20, || {
                    let ended = AtomicU32::new(0);
                    struct Count<'a>(&'a AtomicU32);
                    impl Drop for Count<'_> {
                        fn drop(&mut self) {
                            self.0.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    let broken = catch_unwind(AssertUnwindSafe(|| {
                        thread::scope(|scope| {
                            for _ in 0..3 {
                                scope.spawn(|| {
                                    let _count = Count(&ended);
                                    thread::sleep(SHORT);
                                });
                            }
                            thread::sleep(Duration::from_millis(1));
                            resume_unwind(Box::new("the function's"))
                        })
                    }));
                    assert_eq!(broken.unwrap_err().downcast_ref(), Some(&"the function's"));
                    assert_eq!(ended.load(Ordering::SeqCst), 3);
                });
            }

            #[test]
            fn names_and_handles_are_as_elsewhere() {
                deadline(20, || {
                    thread::scope(|scope| {
                        let child = thread::Builder::new()
                            .name("scoped".into())
                            .spawn_scoped(scope, thread::park)
                            .unwrap();
                        assert_eq!(child.thread().name(), Some("scoped"));
                        assert!(!child.is_finished());
                        child.thread().unpark();
                        child.join().unwrap();
                    });
                });
            }

            #[test]
            fn an_empty_one_returns_at_once() {
                deadline(20, || assert_eq!(thread::scope(|_| 3), 3));
            }
        }
    };
}

cases!(with_std, std::thread);
cases!(with_greenling, greenling::thread);

#[test]
fn a_killed_parent_unwinds_after_its_children() {
    deadline(20, || {
        let log = Rc::new(Log::default());
        let own = log.clone();
        let parent = spawn(move || {
            let _last = Farewell::new(&own, "parent");
            let local = Log::default();
            scope(|scope| {
                scope.spawn(|| {
                    let _slow = Farewell::slow(&own, "slow child");
                    let _local = Farewell::new(&local, "borrows from the parent's frame");
                    thread::park();
                });
                scope.spawn(|| {
                    let _quick = Farewell::new(&own, "quick child");
                    sleep(Duration::from_secs(3600));
                });
            });
            unreachable!("the children never end by themselves");
        });
        yield_now();
        yield_now();
        parent.kill();
        assert!(parent.join().unwrap_err().is::<Killed>());
        log.assert(&["quick child", "slow child", "parent"]);
        assert_eq!(hub::stats().live, 0);
    });
}

#[test]
fn a_parent_killed_inside_the_function_does_so_too() {
    deadline(20, || {
        let log = Rc::new(Log::default());
        let own = log.clone();
        let parent = spawn(move || {
            let _last = Farewell::new(&own, "parent");
            scope(|scope| {
                let child = scope.spawn(|| {
                    let _slow = Farewell::slow(&own, "child");
                    thread::park();
                });
                let _own = Farewell::new(&own, "function");
                child.join().unwrap();
            });
        });
        yield_now();
        yield_now();
        parent.kill();
        assert!(parent.join().unwrap_err().is::<Killed>());
        log.assert(&["function", "child", "parent"]);
    });
}

#[test]
fn a_time_limit_ends_the_children_first() {
    deadline(20, || {
        let log = Log::default();
        let late = timeout(SHORT, || {
            scope(|scope| {
                scope.spawn(|| {
                    let _slow = Farewell::slow(&log, "child");
                    thread::park();
                });
            });
        });
        log.add("elapsed");
        assert!(matches!(late, Err(Elapsed { .. })));
        log.assert(&["child", "elapsed"]);
    });
}

/// It is not enough that the child was told: its code must have ended.
#[test]
fn a_child_that_swallows_the_kill_is_waited_for() {
    deadline(20, || {
        let log = Rc::new(Log::default());
        let own = log.clone();
        let parent = spawn(move || {
            let turns = Cell::new(0);
            let _last = Farewell::new(&own, "parent");
            scope(|scope| {
                scope.spawn(|| {
                    while turns.get() < 50 {
                        let _ = catch_unwind(AssertUnwindSafe(|| sleep(Duration::from_secs(1))));
                        turns.set(turns.get() + 1);
                    }
                    own.add("child");
                });
            });
        });
        yield_now();
        yield_now();
        parent.kill_timeout(Duration::ZERO);
        assert!(!parent.is_finished());
        parent.kill(); // a second kill does not tear the parent away from its child
        assert!(parent.join().unwrap_err().is::<Killed>());
        log.assert(&["child", "parent"]);
    });
}

#[test]
fn a_result_that_nobody_takes_is_dropped_before_the_end() {
    deadline(20, || {
        let log = Log::default();
        scope(|scope| {
            drop(scope.spawn(|| Farewell::slow(&log, "detached before")));
            let ended = scope.spawn(|| Farewell::new(&log, "detached after"));
            while !ended.is_finished() {
                yield_now();
            }
            drop(ended);
        });
        log.add("scope");
        let log = log.0.into_inner();
        assert_eq!(log.last(), Some(&"scope"));
        assert_eq!(log.len(), 3, "{log:?}");
    });
}

#[test]
fn a_closure_that_never_runs_is_dropped_before_the_end() {
    deadline(20, || {
        let log = Log::default();
        let broken = catch_unwind(AssertUnwindSafe(|| {
            scope(|scope| {
                let captured = Farewell::slow(&log, "captured");
                scope.spawn(move || drop(captured));
                resume_unwind(Box::new("before it could begin"));
            })
        }));
        log.add("scope");
        assert!(broken.is_err());
        log.assert(&["captured", "scope"]);
    });
}

#[test]
fn a_forgotten_handle_leaks_its_result_and_nothing_else() {
    deadline(20, || {
        let log = Log::default();
        let mut threads = Vec::new();
        scope(|scope| {
            let ends = scope.spawn(|| Farewell::new(&log, "never"));
            threads.push(ends.thread().clone());
            while !ends.is_finished() {
                yield_now();
            }
            forget(ends);
            let runs = scope.spawn(|| {
                sleep(SHORT);
                Farewell::new(&log, "never")
            });
            threads.push(runs.thread().clone());
            forget(runs);
        });
        log.add("scope");
        // Others who know the coroutines outlive the scope, and must not drop the results either.
        threads.iter().for_each(thread::Thread::unpark);
        drop(threads);
        log.assert(&["scope"]);
        assert_eq!((hub::stats().live, hub::stats().stacks_in_use), (0, 0));
    });
}

#[test]
fn a_handle_may_move_into_a_sibling() {
    deadline(20, || {
        let text = String::from("borrowed");
        let chained = scope(|scope| {
            let mut last = scope.spawn(|| text.as_str());
            for _ in 0..50 {
                last = scope.spawn(move || last.join().unwrap());
            }
            last.join().unwrap()
        });
        assert_eq!(chained, "borrowed");
        // Even if the sibling that has it is killed.
        let log = Log::default();
        scope(|scope| {
            let child = scope.spawn(|| {
                sleep(SHORT);
                Farewell::new(&log, "result")
            });
            let sibling = scope.spawn(move || drop(child.join()));
            yield_now();
            yield_now();
            sibling.kill();
            assert!(sibling.join().unwrap_err().is::<Killed>());
        });
        log.assert(&["result"]);
    });
}

#[test]
fn a_killed_child_is_no_panic() {
    deadline(20, || {
        let ended = scope(|scope| {
            let child = scope.spawn(thread::park);
            yield_now();
            child.kill();
            assert!(child.is_finished());
            drop(child);
            scope.spawn(thread::park).kill();
            "fine"
        });
        assert_eq!(ended, "fine");
    });
}

#[test]
fn scopes_nest() {
    fn sum(numbers: &[u64]) -> u64 {
        if numbers.len() <= 2 {
            yield_now();
            return numbers.iter().sum();
        }
        let (left, right) = numbers.split_at(numbers.len() / 2);
        scope(|scope| {
            let left = scope.spawn(|| sum(left));
            let right = sum(right);
            left.join().unwrap() + right
        })
    }
    deadline(30, || {
        let numbers: Vec<u64> = (0..500).collect();
        assert_eq!(sum(&numbers), 500 * 499 / 2);
        // A kill unwinds all levels, from the inside out.
        let ends = Rc::new(Cell::new(0));
        fn nest(depth: u32, ends: &Cell<u32>) {
            struct Level<'a>(u32, &'a Cell<u32>);
            impl Drop for Level<'_> {
                fn drop(&mut self) {
                    assert_eq!(self.1.get() + self.0, 20, "out of order");
                    self.1.set(self.1.get() + 1);
                }
            }
            let _level = Level(depth, ends);
            if depth == 20 {
                thread::park();
            }
            scope(|scope| _ = scope.spawn(|| nest(depth + 1, ends)));
        }
        let own = ends.clone();
        let outermost = spawn(move || nest(1, &own));
        while hub::stats().parked < 20 {
            yield_now();
        }
        outermost.kill();
        assert_eq!((ends.get(), hub::stats().live), (20, 0));
    });
}

#[test]
fn a_spawn_that_fails_leaves_the_scope_as_it_was() {
    deadline(20, || {
        let log = Log::default();
        scope(|scope| {
            let captured = Farewell::new(&log, "captured");
            let builder = Builder::new().stack_size(usize::MAX);
            let refused = builder.spawn_scoped(scope, move || drop(captured));
            assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
            scope.spawn(|| log.add("another"));
        });
        log.assert(&["captured", "another"]);
    });
}

#[test]
fn a_long_scope_keeps_only_those_that_run() {
    deadline(60, || {
        let count = Cell::new(0);
        scope(|scope| {
            for _ in 0..20_000 {
                scope.spawn(|| count.set(count.get() + 1));
                yield_now();
            }
            let text = format!("{scope:?}");
            let kept: usize =
                text.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
            assert!(kept < 100, "{text}");
        });
        assert_eq!(count.get(), 20_000);
    });
}

/// The end of a thread unwinds a parent and its children in the right order, whichever is killed first.
#[test]
fn the_end_of_a_thread_respects_scopes() {
    deadline(30, || {
        for _ in 0..20 {
            let order = Arc::new(AtomicU32::new(0));
            let own = order.clone();
            std::thread::spawn(move || {
                spawn(move || {
                    let frame = Cell::new(1_u32);
                    struct Last(Arc<AtomicU32>);
                    impl Drop for Last {
                        fn drop(&mut self) {
                            assert_eq!(self.0.fetch_add(100, Ordering::SeqCst), 3);
                        }
                    }
                    let _last = Last(own.clone());
                    scope(|scope| {
                        for _ in 0..3 {
                            scope.spawn(|| {
                                struct Child<'a>(&'a Cell<u32>, &'a AtomicU32);
                                impl Drop for Child<'_> {
                                    fn drop(&mut self) {
                                        sleep(Duration::from_micros(100));
                                        self.0.set(self.0.get() + 1);
                                        self.1.fetch_add(1, Ordering::SeqCst);
                                    }
                                }
                                let _child = Child(&frame, &own);
                                thread::park();
                            });
                        }
                    });
                });
                yield_now();
                yield_now();
            })
            .join()
            .unwrap();
            assert_eq!(order.load(Ordering::SeqCst), 103);
        }
    });
}

/// A child that never lets itself be killed: the thread's end abandons it together with the parent whose
/// frame it borrows. Neither is ever run or reused.
#[test]
fn a_parent_is_abandoned_with_its_stubborn_child() {
    deadline(30, || {
        let parent_ended = Arc::new(AtomicU32::new(0));
        let own = parent_ended.clone();
        let began = Instant::now();
        std::thread::spawn(move || {
            spawn(move || {
                let frame = Cell::new(7);
                scope(|scope| {
                    scope.spawn(|| {
                        loop {
                            let _ = catch_unwind(AssertUnwindSafe(thread::park));
                            assert_eq!(frame.get(), 7);
                        }
                    });
                });
                own.fetch_add(1, Ordering::SeqCst);
            });
            yield_now();
            yield_now();
        })
        .join()
        .unwrap();
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(parent_ended.load(Ordering::SeqCst), 0);
    });
}

/// Main cannot be told of a deadlock before its children have ended, and then it is.
#[test]
fn a_deadlock_inside_a_scope_ends_the_children_first() {
    let ended = child::run(child::On::MainThread, 20, || {
        let log = Log::default();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            scope(|scope| {
                scope.spawn(|| {
                    let _farewell = Farewell::new(&log, "child");
                    thread::park();
                });
            });
        }));
        log.add("main");
        let payload = panic.unwrap_err();
        assert!(payload.downcast_ref::<String>().unwrap().contains("deadlock"));
        log.assert(&["child", "main"]);
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
    ended.succeeded();
}

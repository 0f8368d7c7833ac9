//! Early ends, panics, and generators that do not want to end.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use greenling::generator::{Generator, Step, Yielder};

use crate::child::{self, On};
use crate::common::deadline;
use crate::{Log, logger, panic_of};

/// Yields once, with a guard on its stack.
fn guarded(log: &Log, name: &'static str) -> Generator<(), &'static str> {
    let log = log.clone();
    Generator::new(move |out, ()| {
        let _guard = log.guard(name);
        out.yield_(name);
        log.add("goes on");
    })
}

#[test]
fn an_early_drop_unwinds() {
    deadline(10, || {
        let log = Log::default();
        let mut generator = guarded(&log, "a");
        assert_eq!(generator.next(), Some("a"));
        drop(generator);
        assert_eq!(log.take(), ["drop a"]);
        // By the end of a loop, as well.
        for (n, value) in guarded(&log, "b").chain(guarded(&log, "never")).enumerate() {
            log.add(value);
            if n == 0 {
                break;
            }
        }
        assert_eq!(log.take(), ["b", "drop b"]);
    });
}

#[test]
fn nothing_is_printed_by_an_early_end() {
    let ended = child::run(On::MainThread, 20, || {
        let mut generator = guarded(&Log::default(), "a");
        generator.next();
        drop(generator);
    });
    ended.succeeded();
    assert_eq!(ended.stderr, "");
}

#[test]
fn one_that_never_ran_only_drops_its_function() {
    deadline(10, || {
        let log = Log::default();
        let guard = log.guard("captured");
        let generator = Generator::new(move |out: &Yielder<(), ()>, ()| {
            let _guard = guard;
            out.yield_(());
            panic!("it must not run");
        });
        drop(generator);
        assert_eq!(log.take(), ["drop captured"]);
    });
}

/// Panics when it is dropped.
struct Bomb(Rc<Cell<u32>>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        panic!("a bomb has gone off");
    }
}

#[test]
fn the_destructor_of_a_function_that_never_ran_may_panic() {
    deadline(10, || {
        logger::install();
        let drops = Rc::new(Cell::new(0));
        let bomb = Bomb(drops.clone());
        let witness = Log::default();
        let guard = witness.guard("the other");
        drop(Generator::new(move |_: &Yielder<(), ()>, ()| {
            let _both = (&bomb, &guard);
        }));
        assert_eq!((drops.get(), witness.take()), (1, vec!["drop the other".to_owned()]));
        assert_eq!(logger::records_with("that never ran panicked in a drop").len(), 1);
    });
}

#[test]
fn close_gives_what_the_function_returned() {
    deadline(10, || {
        let mut generator = Generator::new(|out, ()| {
            let result = catch_unwind(AssertUnwindSafe(|| out.yield_(1)));
            if result.is_err() { "caught" } else { "went on" }
        });
        generator.next();
        assert_eq!(generator.close(), Some("caught"));

        let mut finished = Generator::new(|out, ()| {
            out.yield_(1);
            2
        });
        assert_eq!(finished.by_ref().count(), 1);
        assert_eq!(finished.close(), Some(2));

        let unstarted = Generator::new(|out, ()| out.yield_(1));
        assert_eq!(unstarted.close(), None);
    });
}

#[test]
fn a_panic_reaches_the_consumer() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let mut generator = Generator::new(move |out, ()| {
            let _guard = own.guard("a");
            out.yield_(1);
            panic!("number {}", 2);
        });
        assert_eq!(generator.next(), Some(1));
        assert_eq!(panic_of(|| generator.next()), "number 2");
        assert_eq!(log.take(), ["drop a"]);
        assert!(generator.is_finished());
        assert_eq!(generator.next(), None);
        assert_eq!(generator.take_return(), None::<()>);
    });
}

#[test]
fn a_panic_crosses_three_levels() {
    deadline(10, || {
        let log = Log::default();
        fn level(log: Log, depth: u32) -> Generator<(), u32> {
            Generator::new(move |out, ()| {
                let _guard = log.guard(&depth.to_string());
                out.yield_(depth);
                if depth == 0 {
                    resume_unwind(Box::new("from the bottom"));
                }
                level(log.clone(), depth - 1).for_each(|value| out.yield_(value));
            })
        }
        let mut outer = level(log.clone(), 2);
        assert_eq!(outer.by_ref().take(3).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!(panic_of(|| outer.next()), "from the bottom");
        assert_eq!(log.take(), ["drop 0", "drop 1", "drop 2"]);
    });
}

#[test]
fn the_drop_of_nested_ones_unwinds_from_the_outside() {
    deadline(10, || {
        let log = Log::default();
        fn level(log: Log, depth: u32) -> Generator<(), u32> {
            Generator::new(move |out, ()| {
                let _guard = log.guard(&format!("{depth}'s first"));
                let mut inner = (depth > 0).then(|| level(log.clone(), depth - 1));
                let _guard = log.guard(&format!("{depth}'s last"));
                for value in inner.iter_mut().flatten() {
                    out.yield_(value);
                }
                out.yield_(depth);
            })
        }
        let mut outer = level(log.clone(), 2);
        assert_eq!(outer.next(), Some(0));
        drop(outer);
        let order = ["2's last", "1's last", "0's last", "0's first", "1's first", "2's first"];
        assert_eq!(log.take(), order.map(|name| format!("drop {name}")));
    });
}

#[test]
fn one_can_be_dropped_while_its_owner_unwinds() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let message = panic_of(move || {
            let mut generator = guarded(&own, "a");
            generator.next();
            if generator.is_finished() {
                return;
            }
            panic!("the owner's");
        });
        assert_eq!(message, "the owner's");
        assert_eq!(log.take(), ["drop a"]);
        assert!(!std::thread::panicking());
    });
}

#[test]
fn one_can_be_used_in_a_destructor_while_its_owner_unwinds() {
    struct Uses(Log);
    impl Drop for Uses {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            let log = self.0.clone();
            let mut generator = Generator::new(move |out, ()| {
                let _guard = log.guard("inner");
                for n in 1.. {
                    out.yield_(n);
                }
            });
            let sum: u32 = generator.by_ref().take(4).sum();
            self.0.add(format!("sum {sum}"));
        }
    }
    deadline(10, || {
        let log = Log::default();
        let uses = Uses(log.clone());
        panic_of(move || {
            let _uses = uses;
            panic!("the owner's");
        });
        assert_eq!(log.take(), ["sum 10", "drop inner"]);
    });
}

#[test]
fn a_panic_while_it_is_dropped_stays_inside() {
    deadline(10, || {
        logger::install();
        let mut generator = Generator::new(|out, ()| {
            if catch_unwind(AssertUnwindSafe(|| out.yield_(1))).is_err() {
                panic!("instead of ending");
            }
        });
        generator.next();
        let id = format!("{generator:?}").split_once("id: ").unwrap().1.to_owned();
        let id = id.split_once(',').unwrap().0.to_owned();
        drop(generator);
        let said = logger::records_with(&format!("(#{id}) panicked while it was dropped"));
        assert_eq!(said.len(), 1);
        // Whoever wants to know closes it.
        let mut generator = Generator::new(|out, ()| {
            if catch_unwind(AssertUnwindSafe(|| out.yield_(1))).is_err() {
                panic!("instead of ending");
            }
        });
        generator.next();
        assert_eq!(panic_of(|| generator.close()), "instead of ending");
    });
}

#[test]
fn one_that_catches_its_end_is_told_again() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let mut generator = Generator::new(move |out, ()| {
            for n in 0..3 {
                if catch_unwind(AssertUnwindSafe(|| out.yield_(n))).is_err() {
                    own.add(format!("caught {n}"));
                }
            }
        });
        assert_eq!(generator.next(), Some(0));
        drop(generator);
        assert_eq!(log.take(), ["caught 0", "caught 1", "caught 2"]);
    });
}

#[test]
fn one_that_never_gives_in_is_left_as_it_is() {
    deadline(20, || {
        logger::install();
        let log = Log::default();
        let own = log.clone();
        let before = greenling::hub::stats().stacks_in_use;
        let mut generator = greenling::generator::Builder::new()
            .name("immortal".into())
            .build(move |out: &Yielder<(), ()>, ()| {
                let _guard = own.guard("never");
                loop {
                    let _ = catch_unwind(AssertUnwindSafe(|| out.yield_(())));
                }
            })
            .unwrap();
        generator.next();
        drop(generator);
        assert!(log.take().is_empty());
        assert_eq!(logger::records_with("generator 'immortal'").len(), 1);
        assert!(!std::thread::panicking());
        // Its stack is not for others.
        assert_eq!(greenling::hub::stats().stacks_in_use, before + 1);
        let next = Generator::new(|out, ()| (0..100).for_each(|n| out.yield_(n)));
        assert!(next.eq(0..100));
    });
}

#[test]
fn close_says_that_it_never_gives_in() {
    deadline(20, || {
        let mut generator = Generator::new(|out: &Yielder<(), ()>, ()| {
            loop {
                let _ = catch_unwind(AssertUnwindSafe(|| out.yield_(())));
            }
        });
        generator.next();
        assert_eq!(panic_of(|| generator.close()), "a generator that is being closed has yielded");
    });
}

/// Yields in its destructor.
struct YieldsLate<'a>(&'a Yielder<(), u32>, Log);

impl Drop for YieldsLate<'_> {
    fn drop(&mut self) {
        self.1.add("yields in a destructor");
        self.0.yield_(99);
        self.1.add("went on after that");
    }
}

fn yields_late(log: &Log, panics: bool) -> Generator<(), u32> {
    let log = log.clone();
    Generator::new(move |out, ()| {
        let _outer = log.guard("outer");
        let _late = YieldsLate(out, log.clone());
        out.yield_(1);
        if panics {
            resume_unwind(Box::new("its own"));
        }
    })
}

#[test]
fn a_destructor_may_yield_when_nothing_is_wrong() {
    deadline(10, || {
        let log = Log::default();
        assert_eq!(yields_late(&log, false).collect::<Vec<_>>(), [1, 99]);
        assert_eq!(log.take(), ["yields in a destructor", "went on after that", "drop outer"]);
    });
}

#[test]
fn a_destructor_that_yields_in_a_drop_does_not_abort() {
    deadline(10, || {
        logger::install();
        let log = Log::default();
        let mut generator = yields_late(&log, false);
        assert_eq!(generator.next(), Some(1));
        drop(generator);
        assert_eq!(log.take(), ["yields in a destructor"]);
        assert!(!logger::records_with("yields while it is unwound").is_empty());
        // As documented.
        assert!(std::thread::panicking());
        // The thread works on.
        assert!(Generator::new(|out, ()| (0..9).for_each(|n| out.yield_(n))).eq(0..9));
    });
}

#[test]
fn a_destructor_that_yields_in_a_drop_while_the_owner_unwinds_does_not_abort() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let message = panic_of(move || {
            let mut generator = yields_late(&own, false);
            generator.next();
            if generator.is_finished() {
                return;
            }
            panic!("the owner's");
        });
        assert_eq!(message, "the owner's");
        assert_eq!(log.take(), ["yields in a destructor"]);
    });
}

#[test]
fn one_that_yields_while_it_panics_can_be_resumed() {
    deadline(10, || {
        let log = Log::default();
        let mut generator = yields_late(&log, true);
        assert_eq!((generator.next(), generator.next()), (Some(1), Some(99)));
        assert!(std::thread::panicking());
        assert_eq!(panic_of(|| generator.next()), "its own");
        assert!(!std::thread::panicking());
        assert_eq!(log.take(), ["yields in a destructor", "went on after that", "drop outer"]);
    });
}

#[test]
fn one_that_yields_while_it_panics_can_be_dropped() {
    deadline(10, || {
        let log = Log::default();
        let mut generator = yields_late(&log, true);
        assert_eq!((generator.next(), generator.next()), (Some(1), Some(99)));
        drop(generator);
        assert_eq!(log.take(), ["yields in a destructor"]);
    });
}

#[test]
fn a_yielder_of_another_generator_is_passed_over_at_the_end() {
    // What unwinds the outer one goes through the inner one, which it is not meant for.
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let mut outer = Generator::new(move |out, ()| {
            let _guard = own.guard("outer");
            greenling::generator::scope(
                |_: &Yielder<(), ()>, ()| {
                    let _guard = own.guard("inner");
                    out.yield_("over the head of the inner one");
                },
                |mut inner| {
                    assert_eq!(inner.resume(()), Step::Complete(()));
                },
            );
        });
        assert_eq!(outer.next(), Some("over the head of the inner one"));
        drop(outer);
        assert_eq!(log.take(), ["drop inner", "drop outer"]);
    });
}

#[test]
fn a_generator_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static KEPT: Cell<Option<Generator<(), u32>>> = const { Cell::new(None) };
    }
    struct Tells(std::sync::mpsc::Sender<&'static str>);
    impl Drop for Tells {
        fn drop(&mut self) {
            let _ = self.0.send("unwound");
        }
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    deadline(10, move || {
        let mut generator = Generator::new(move |out, ()| {
            let _tells = Tells(sender);
            out.yield_(1);
        });
        generator.next();
        KEPT.set(Some(generator));
    });
    assert_eq!(receiver.recv(), Ok("unwound"));
}

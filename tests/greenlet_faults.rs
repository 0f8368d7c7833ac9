//! Greenlets that are used wrongly, that do not want to end, or that take the process down: never worse than
//! documented.

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/logger.rs"]
mod logger;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use child::On;
use common::deadline;
use greenling::generator::{self, Generator, Yielder};
use greenling::greenlet::{Builder, Greenlet, KillError, Outcome, State, SwitchError};
use greenling::{sleep, spawn, yield_now};

#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }

    fn guard(&self, name: &str) -> Guard {
        Guard(self.clone(), name.to_owned())
    }
}

struct Guard(Log, String);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.add(format!("drop {}", self.1));
    }
}

/// Waits in a switch to the base, with a guard on its stack.
fn waiting(log: &Log, name: &'static str) -> Greenlet<u32> {
    let log = log.clone();
    let greenlet = Greenlet::new(move |n: u32| {
        let _guard = log.guard(name);
        let got = Greenlet::base().switch(n).unwrap();
        log.add("goes on");
        got
    });
    greenlet.switch(0).unwrap();
    greenlet
}

#[test]
fn the_drop_of_the_last_handle_unwinds() {
    deadline(10, || {
        let log = Log::default();
        let greenlet = waiting(&log, "a");
        let clone = greenlet.clone();
        drop(greenlet);
        assert!(log.take().is_empty());
        drop(clone);
        assert_eq!(log.take(), ["drop a"]);
    });
}

#[test]
fn nothing_is_printed_by_kills_and_drops() {
    let ended = child::run(On::MainThread, 20, || {
        let log = Log::default();
        drop(waiting(&log, "a"));
        assert!(waiting(&log, "b").kill().is_ok());
    });
    ended.succeeded();
    assert_eq!(ended.stderr, "");
}

#[test]
fn one_that_runs_is_dropped_when_it_switches_away() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let only: Rc<Cell<Option<Greenlet<u32>>>> = Rc::default();
        let kept = only.clone();
        let greenlet = Greenlet::new(move |n: u32| {
            let _guard = own.guard("orphan");
            // The last handle, but for the one by which the base has switched here.
            drop(kept.take());
            Greenlet::base().switch(n).unwrap()
        });
        only.set(Some(greenlet.clone()));
        assert_eq!(greenlet.switch(1).unwrap(), 1);
        assert!(log.take().is_empty());
        drop(greenlet);
        assert_eq!(log.take(), ["drop orphan"]);

        // Not even that one: it is on the stack of another greenlet, which the orphan has killed.
        let orphan: Rc<Cell<Option<Greenlet<u32>>>> = Rc::default();
        let starter = {
            let orphan = orphan.clone();
            Greenlet::new(move |n: u32| orphan.take().unwrap().switch(n).unwrap())
        };
        let (own, its_starter) = (log.clone(), starter.clone());
        orphan.set(Some(Greenlet::new(move |n| {
            let _guard = own.guard("orphan");
            assert!(matches!(its_starter.kill(), Ok(Outcome::Killed)));
            own.add("the starter is dead");
            let me = Greenlet::<u32>::current();
            assert_eq!(me.state(), State::Running);
            drop(me);
            Greenlet::base().switch(n + 1).unwrap()
        })));
        assert_eq!(starter.switch(1).unwrap(), 2);
        // As in greenlet: it is unwound before the base goes on.
        assert_eq!(log.take(), ["the starter is dead", "drop orphan"]);
    });
}

#[test]
fn one_that_ends_without_a_handle_is_freed() {
    deadline(10, || {
        let log = Log::default();
        let starter_slot: Rc<Cell<Option<Greenlet<u32>>>> = Rc::default();
        let guard = log.guard("captured");
        let starter = {
            let slot = starter_slot.clone();
            Greenlet::new(move |n: u32| slot.take().unwrap().switch(n).unwrap())
        };
        let its_starter = starter.clone();
        starter_slot.set(Some(Greenlet::new(move |n| {
            let _guard = &guard;
            assert!(its_starter.kill().is_ok());
            n + 1
        })));
        assert_eq!(starter.switch(1).unwrap(), 2);
        assert_eq!(log.take(), ["drop captured"]);
    });
}

#[test]
fn a_destructor_may_keep_its_own_greenlet() {
    deadline(10, || {
        let kept: Rc<Cell<Option<Greenlet<u32>>>> = Rc::default();
        struct Keeps(Rc<Cell<Option<Greenlet<u32>>>>);
        impl Drop for Keeps {
            fn drop(&mut self) {
                self.0.set(Some(Greenlet::current()));
            }
        }
        let own = kept.clone();
        let greenlet = Greenlet::new(move |n: u32| {
            let _keeps = Keeps(own);
            Greenlet::base().switch(n).unwrap()
        });
        greenlet.switch(1).unwrap();
        drop(greenlet);
        let ghost = kept.take().unwrap();
        assert!(ghost.is_dead());
        assert!(matches!(ghost.switch(1), Err(SwitchError::Dead(1))));
    });
}

#[test]
fn a_panic_in_a_drop_stays_inside() {
    deadline(10, || {
        logger::install();
        let greenlet = Builder::new()
            .name("volatile".into())
            .build(|n: u32| {
                let caught = catch_unwind(|| Greenlet::base().switch(n)).map(|_| ());
                assert!(caught.is_err());
                panic!("instead of ending");
            })
            .unwrap();
        greenlet.switch(1).unwrap();
        drop(greenlet);
        assert_eq!(logger::records_with("greenlet 'volatile'").len(), 1);
    });
}

#[test]
fn one_that_catches_its_drop_and_switches_is_told_again() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let other = waiting(&log, "other");
        let target = other.clone();
        let greenlet = Greenlet::new(move |n: u32| {
            for k in 0..3 {
                let to = if k == 1 { target.clone() } else { Greenlet::base() };
                if catch_unwind(AssertUnwindSafe(|| to.switch(n))).is_err() {
                    own.add(format!("caught {k}"));
                }
            }
            n
        });
        greenlet.switch(1).unwrap();
        drop(greenlet);
        assert_eq!(log.take(), ["caught 0", "caught 1", "caught 2"]);
        assert_eq!(other.state(), State::Suspended);
    });
}

#[test]
fn one_that_never_gives_in_is_left_as_it_is() {
    deadline(20, || {
        logger::install();
        let log = Log::default();
        let own = log.clone();
        let before = greenling::hub::stats().stacks_in_use;
        let greenlet = Builder::new()
            .name("immortal".into())
            .build(move |n: u32| {
                let _guard = own.guard("never");
                loop {
                    let _ = catch_unwind(AssertUnwindSafe(|| Greenlet::base().switch(n)));
                }
            })
            .unwrap();
        greenlet.switch(1).unwrap();
        // A kill that it catches is not the end of it.
        for _ in 0..50 {
            assert!(matches!(greenlet.kill(), Err(KillError::Survived(Some(1)))));
        }
        drop(greenlet);
        assert!(log.take().is_empty());
        assert_eq!(logger::records_with("greenlet 'immortal'").len(), 1);
        assert_eq!(greenling::hub::stats().stacks_in_use, before + 1);
        assert!(!std::thread::panicking());
        drop(waiting(&log, "the next"));
        assert_eq!(log.take(), ["drop the next"]);
    });
}

/// Switches to the base in its destructor, and notes what came of it.
struct SwitchesLate(Log);

impl Drop for SwitchesLate {
    fn drop(&mut self) {
        match Greenlet::base().switch(99_u32) {
            Ok(n) => self.0.add(format!("got {n}")),
            Err(error) => self.0.add(format!("{error:?}")),
        }
    }
}

fn switches_late(log: &Log, panics: bool) -> Greenlet<u32> {
    let log = log.clone();
    let greenlet = Greenlet::new(move |n: u32| {
        let _guard = log.guard("outer");
        let _late = SwitchesLate(log.clone());
        let n = Greenlet::base().switch(n).unwrap();
        if panics {
            resume_unwind(Box::new("its own"));
        }
        n
    });
    greenlet.switch(1).unwrap();
    greenlet
}

#[test]
fn a_destructor_cannot_switch_in_a_drop() {
    deadline(10, || {
        let log = Log::default();
        drop(switches_late(&log, false));
        assert_eq!(log.take(), ["Dropped(..)", "drop outer"]);
        assert!(!std::thread::panicking());
    });
}

#[test]
fn a_destructor_cannot_switch_in_a_drop_while_the_owner_unwinds() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let result = catch_unwind(AssertUnwindSafe(move || {
            let _greenlet = switches_late(&own, false);
            panic!("the owner's");
        }));
        assert!(result.is_err());
        assert_eq!(log.take(), ["Dropped(..)", "drop outer"]);
    });
}

#[test]
fn a_destructor_may_switch_in_a_kill_and_be_resumed() {
    deadline(10, || {
        let log = Log::default();
        let greenlet = switches_late(&log, false);
        assert!(matches!(greenlet.kill(), Err(KillError::Survived(Some(99)))));
        assert!(std::thread::panicking());
        // It is in the middle of unwinding: nothing can be thrown into it.
        assert!(matches!(greenlet.kill(), Err(KillError::Unwinding)));
        let thrown = greenlet.throw(Box::new("no"));
        assert!(matches!(thrown, Err(SwitchError::Unwinding(_))));
        // A message lets it go on to its end.
        assert!(matches!(greenlet.switch(7), Err(SwitchError::Killed)));
        assert_eq!(log.take(), ["got 7", "drop outer"]);
        assert!(!std::thread::panicking());
        assert!(greenlet.is_dead());
    });
}

#[test]
fn a_destructor_may_switch_in_a_panic_and_be_resumed() {
    deadline(10, || {
        let log = Log::default();
        let greenlet = switches_late(&log, true);
        assert_eq!(greenlet.switch(2).unwrap(), 99);
        let result = catch_unwind(AssertUnwindSafe(|| greenlet.switch(7).map(|_| ())));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "its own");
        assert_eq!(log.take(), ["got 7", "drop outer"]);
    });
}

#[test]
fn one_that_is_dropped_in_the_middle_of_unwinding_is_left_as_it_is() {
    deadline(10, || {
        logger::install();
        let log = Log::default();
        let greenlet = switches_late(&log, true);
        let id = greenlet.id();
        assert_eq!(greenlet.switch(2).unwrap(), 99);
        drop(greenlet);
        assert!(log.take().is_empty());
        assert_eq!(logger::records_with(&format!("(#{id})")).len(), 1);
        // The thread works on.
        drop(waiting(&log, "another"));
        assert_eq!(log.take(), ["drop another"]);
    });
}

#[test]
fn a_panic_passes_over_a_parent_that_is_unwinding() {
    deadline(10, || {
        let log = Log::default();
        let parent = switches_late(&log, true);
        assert_eq!(parent.switch(2).unwrap(), 99);
        let child = Greenlet::new(|_: u32| resume_unwind(Box::new("the child's")));
        child.set_parent(&parent).unwrap();
        // It would abort the process there.
        let result = catch_unwind(AssertUnwindSafe(|| child.switch(0).map(|_| ())));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "the child's");
        let result = catch_unwind(AssertUnwindSafe(|| parent.switch(3).map(|_| ())));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "its own");
    });
}

#[test]
fn one_suspended_inside_nested_generators_is_dropped() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let greenlet = Greenlet::new(move |n: u32| {
            let _guard = own.guard("greenlet");
            let log = own.clone();
            let mut outer = Generator::new(move |out, n: u32| {
                let _guard = log.guard("outer");
                let log = log.clone();
                let mut inner = Generator::new(move |_: &Yielder<u32, ()>, n: u32| {
                    let _guard = log.guard("inner");
                    Greenlet::base().switch(n).unwrap()
                });
                let _ = inner.send(n);
                out.yield_(n)
            });
            let _ = outer.send(n);
            n
        });
        assert_eq!(greenlet.switch(1).unwrap(), 1);
        drop(greenlet);
        assert_eq!(log.take(), ["drop inner", "drop outer", "drop greenlet"]);
    });
}

#[test]
fn one_suspended_inside_another_family_is_dropped() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let greenlet = Greenlet::new(move |n: u32| {
            let _guard = own.guard("numbers");
            let log = own.clone();
            let words = Greenlet::new(move |word: String| {
                let _guard = log.guard("words");
                Greenlet::<u32>::base().switch(word.len() as u32).unwrap();
                word
            });
            words.switch("word".into()).unwrap();
            n
        });
        assert_eq!(greenlet.switch(1).unwrap(), 4);
        drop(greenlet);
        assert_eq!(log.take(), ["drop words", "drop numbers"]);
    });
}

#[test]
fn a_generator_that_holds_greenlets_holds_nothing_afterwards() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let mut generator = Generator::new(move |out, ()| {
            let _guard = own.guard("generator");
            let a = waiting(&own, "a");
            let b = waiting(&own, "b");
            out.yield_(a.switch(1).unwrap());
            drop(b);
        });
        assert_eq!(generator.next(), Some(1));
        drop(generator);
        assert_eq!(log.take(), ["goes on", "drop a", "drop b", "drop generator"]);
    });
}

#[test]
fn the_drop_waits_if_a_destructor_does() {
    struct Sleeps(Log);
    impl Drop for Sleeps {
        fn drop(&mut self) {
            spawn(yield_now).join().unwrap();
            sleep(Duration::from_millis(2));
            self.0.add("slept");
        }
    }
    for on_main in [true, false] {
        deadline(10, move || {
            let test = || {
                let log = Log::default();
                let own = log.clone();
                let greenlet = Greenlet::new(move |n: u32| {
                    let _sleeps = Sleeps(own);
                    Greenlet::base().switch(n).unwrap()
                });
                greenlet.switch(1).unwrap();
                // Others use greenlets meanwhile, and drop them.
                let theirs = log.clone();
                let other = spawn(move || {
                    drop(waiting(&theirs, "another"));
                    theirs.add("another is done");
                });
                drop(greenlet);
                assert_eq!(log.take(), ["drop another", "another is done", "slept"]);
                other.join().unwrap();
            };
            if on_main { test() } else { spawn(test).join().unwrap() }
        });
    }
}

#[test]
fn an_overflow_names_the_greenlet() {
    #[inline(never)]
    fn deep(levels: u32) -> u32 {
        let frame = std::hint::black_box([levels; 256]);
        if levels == 0 {
            frame[0]
        } else {
            deep(levels - 1) + std::hint::black_box(frame)[255] / levels
        }
    }
    let ended = child::run(On::MainThread, 30, || {
        let greenlet =
            Builder::new().name("bottomless".into()).stack_size(64 * 1024).build(deep).unwrap();
        let _ = greenlet.switch(1_000_000);
    });
    ended.died_of(libc::SIGABRT);
    assert!(ended.stderr.contains("greenlet 'bottomless' has overflowed"), "{ended:?}");
    assert!(ended.stderr.contains("65536 bytes"), "{ended:?}");
}

#[test]
fn another_coroutine_cannot_switch_for_a_greenlet() {
    deadline(10, || {
        // A coroutine of a scope inside of a greenlet has a base of its own.
        let log = Log::default();
        let own = log.clone();
        let greenlet = Greenlet::new(move |n: u32| {
            let me = Greenlet::<u32>::current();
            greenling::scope(|scope| {
                let inside = scope.spawn(|| {
                    assert!(Greenlet::<u32>::current().is_base());
                    assert!(matches!(me.switch(1), Err(SwitchError::Busy(1))));
                    // Its base is itself.
                    assert!(matches!(Greenlet::base().switch(5_u32), Err(SwitchError::AtBase(5))));
                    own.add("inside");
                });
                inside.join().unwrap();
            });
            n
        });
        assert_eq!(greenlet.switch(3).unwrap(), 3);
        assert_eq!(log.take(), ["inside"]);
    });
}

#[test]
fn one_stays_suspended_when_the_coroutine_that_ran_it_ends() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let greenlet = spawn(move || waiting(&own, "left behind")).join().unwrap();
        assert_eq!(greenlet.state(), State::Suspended);
        assert_eq!(greenlet.switch(4).unwrap(), 4);
        assert_eq!(log.take(), ["goes on", "drop left behind"]);
    });
}

#[test]
fn scoped_generators_may_switch_and_end_well() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let greenlet = Greenlet::new(move |n: u32| {
            let text = String::from("borrowed");
            generator::scope(
                |out, ()| {
                    let _guard = own.guard(&text);
                    out.yield_(Greenlet::base().switch(text.len() as u32).unwrap());
                    Greenlet::base().switch(0_u32).unwrap();
                },
                |mut generator| {
                    assert_eq!(generator.next(), Some(20));
                    assert_eq!(generator.next(), None);
                },
            );
            n
        });
        assert_eq!(greenlet.switch(1).unwrap(), 8);
        assert_eq!(greenlet.switch(20).unwrap(), 0);
        // Suspended inside of the scoped one.
        drop(greenlet);
        assert_eq!(log.take(), ["drop borrowed"]);
    });
}

#[test]
fn what_only_a_dropped_one_has_a_handle_of_is_dropped_right_after_it() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let outer = Greenlet::new(move |n: u32| {
            let _guard = own.guard("outer");
            // It switches to the base, and so leaves the outer one here.
            let _inner = waiting(&own, "inner");
            n
        });
        let others = waiting(&log, "others");
        let own = others.clone();
        let second = Greenlet::new(move |n: u32| {
            let _others = own;
            Greenlet::base().switch(n).unwrap()
        });
        second.switch(1).unwrap();
        drop(others);
        outer.switch(1).unwrap();
        drop(outer);
        assert_eq!(log.take(), ["drop outer", "drop inner"]);
        drop(second);
        assert_eq!(log.take(), ["drop others"]);
    });
}

#[test]
fn a_child_outlives_the_one_that_made_it() {
    deadline(10, || {
        let log = Log::default();
        let kept: Rc<Cell<Option<Greenlet<u32>>>> = Rc::default();
        let (own, slot) = (log.clone(), kept.clone());
        let maker = Greenlet::new(move |n: u32| {
            let _guard = own.guard("maker");
            let log = own.clone();
            slot.set(Some(Greenlet::new(move |n| {
                let _guard = log.guard("child");
                Greenlet::base().switch(n).unwrap()
            })));
            Greenlet::base().switch(n).unwrap()
        });
        maker.switch(1).unwrap();
        let child = kept.take().unwrap();
        let id = maker.id();
        drop(maker);
        assert_eq!(log.take(), ["drop maker"]);
        // It is dead, but can still be asked for.
        let parent = child.parent().unwrap();
        assert_eq!((parent.id(), parent.state()), (id, State::Dead));
        drop(parent);
        assert_eq!(child.switch(2).unwrap(), 2);
        assert_eq!(child.switch(3).unwrap(), 3);
        assert_eq!(log.take(), ["drop child"]);
    });
}

#[test]
fn a_parent_that_waits_to_be_dropped_may_be_found_by_its_child() {
    // Its last handle goes in a destructor of another one that is being dropped, which then waits. Meanwhile
    // a coroutine finds it by its child, and uses it.
    struct Waits(Rc<Cell<bool>>);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.set(true);
            // In a destructor only what another coroutine has to do lets others run.
            spawn(|| (0..20).for_each(|_| yield_now())).join().unwrap();
        }
    }
    deadline(10, || {
        let log = Log::default();
        let kept: Rc<Cell<Option<Greenlet<u32>>>> = Rc::default();
        let (own, slot) = (log.clone(), kept.clone());
        let maker = Greenlet::new(move |mut n: u32| {
            let _guard = own.guard("maker");
            slot.set(Some(Greenlet::new(|n| n)));
            loop {
                n = Greenlet::base().switch(n + 1).unwrap();
            }
        });
        maker.switch(1).unwrap();
        let child = kept.take().unwrap();
        let dropping = Rc::new(Cell::new(false));
        let flag = dropping.clone();
        let holder = Greenlet::new(move |n: u32| {
            let _waits = Waits(flag);
            let _maker = maker;
            Greenlet::base().switch(n).unwrap()
        });
        holder.switch(1).unwrap();
        let finder = spawn(move || {
            while !dropping.get() {
                yield_now();
            }
            let parent = child.parent().unwrap();
            let got = parent.switch(5).unwrap();
            (parent, got)
        });
        drop(holder);
        let (parent, got) = finder.join().unwrap();
        assert_eq!((parent.state(), got), (State::Suspended, 6));
        assert!(log.take().is_empty());
        assert_eq!(parent.switch(7).unwrap(), 8);
        drop(parent);
        assert_eq!(log.take(), ["drop maker"]);
    });
}

#[test]
fn foreign_stacks_are_not_trusted() {
    use corosensei::{Coroutine, CoroutineResult};
    fn on_a_foreign_stack(f: impl FnOnce()) {
        let foreign = corosensei::ScopedCoroutine::new(|_: &corosensei::Yielder<(), ()>, ()| f());
        foreign.scope(|mut foreign| assert_eq!(foreign.resume(()), CoroutineResult::Return(())));
    }
    deadline(10, || {
        // To suspend from there would be all right; but who could tell it from a case where it is not?
        let mut generator = Generator::new(|out, ()| {
            let yields = || on_a_foreign_stack(|| out.yield_("from a foreign stack"));
            let payload = catch_unwind(AssertUnwindSafe(yields)).unwrap_err();
            out.yield_(*payload.downcast::<&str>().unwrap());
            // One that is resumed there is on a stack of ours. But who has resumed it?
            let payload = catch_unwind(AssertUnwindSafe(|| {
                on_a_foreign_stack(|| {
                    generator::scope(
                        |_: &Yielder<(), ()>, ()| out.yield_("from inside of that"),
                        |mut inner| {
                            let _ = inner.resume(());
                        },
                    );
                });
            }));
            out.yield_(*payload.unwrap_err().downcast::<&str>().unwrap());
        });
        let message = "a generator's yielder was used outside of the generator";
        assert_eq!((generator.next(), generator.next()), (Some(message), Some(message)));
        assert_eq!(generator.next(), None);

        let greenlet = Greenlet::new(|n: u32| {
            let switches = || on_a_foreign_stack(|| drop(Greenlet::base().switch(n)));
            let payload = catch_unwind(AssertUnwindSafe(switches)).unwrap_err();
            let message = *payload.downcast::<&str>().unwrap();
            assert!(message.contains("on a stack that is not one of greenling's"), "{message}");
            n + 1
        });
        assert_eq!(greenlet.switch(1).unwrap(), 2);

        // Whoever is in no greenlet may be on any stack.
        let mut foreign = Coroutine::new(|yielder, n: u32| {
            let echo = Greenlet::new(|n: u32| Greenlet::base().switch(n + 1).unwrap());
            let n = yielder.suspend(echo.switch(n).unwrap());
            echo.switch(n).unwrap()
        });
        assert_eq!(foreign.resume(1), CoroutineResult::Yield(2));
        assert_eq!(foreign.resume(7), CoroutineResult::Return(7));
    });
}

#[test]
fn a_cycle_of_handles_only_leaks() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let cycle: Rc<Cell<Option<Greenlet<u32>>>> = Rc::default();
        let inside = cycle.clone();
        let greenlet = Greenlet::new(move |n: u32| {
            let _guard = own.guard("never");
            let _me = inside.take();
            Greenlet::base().switch(n).unwrap()
        });
        cycle.set(Some(greenlet.clone()));
        greenlet.switch(1).unwrap();
        drop(greenlet);
        assert!(log.take().is_empty());
    });
}

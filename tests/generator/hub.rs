//! A blocking call in a generator parks the coroutine that runs it.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::generator::{self, Generator, Step, Yielder};
use greenling::{sleep, spawn, yield_now};

use crate::common::deadline;
use crate::{Log, panic_of};

const MOMENT: Duration = Duration::from_millis(5);

/// Yields, and sleeps in between.
fn sleepy(log: &Log, name: &'static str) -> Generator<(), u32> {
    let log = log.clone();
    Generator::new(move |out, ()| {
        let _guard = log.guard(name);
        for n in 0..3 {
            log.add(format!("{name} sleeps"));
            sleep(MOMENT);
            log.add(format!("{name} has slept"));
            out.yield_(n);
        }
    })
}

#[test]
fn a_sleep_inside_lets_others_run() {
    // On main, which runs the hub's loop on the generator's stack then, and in a coroutine.
    for on_main in [true, false] {
        deadline(10, move || {
            let log = Log::default();
            let other = {
                let log = log.clone();
                spawn(move || log.add("another runs"))
            };
            let values = {
                let log = log.clone();
                move || sleepy(&log, "g").collect::<Vec<_>>()
            };
            let values = if on_main { values() } else { spawn(values).join().unwrap() };
            assert_eq!(values, [0, 1, 2]);
            other.join().unwrap();
            let log = log.take();
            let at = |what: &str| log.iter().position(|line| line == what).unwrap();
            assert!(at("another runs") < at("g has slept"), "{log:?}");
        });
    }
}

#[test]
fn a_sleep_in_a_nested_one_keeps_values_drops_and_panics_right() {
    for on_main in [true, false] {
        deadline(20, move || {
            let test = || {
                let log = Log::default();
                let own = log.clone();
                let mut outer = Generator::new(move |out, ()| {
                    let _guard = own.guard("outer");
                    for value in sleepy(&own, "inner") {
                        sleep(MOMENT);
                        out.yield_(10 * value);
                    }
                    sleep(MOMENT);
                    panic!("after a sleep");
                });
                assert_eq!(outer.by_ref().take(3).collect::<Vec<_>>(), [0, 10, 20]);
                assert_eq!(panic_of(|| outer.next()), "after a sleep");
                let ends: Vec<_> =
                    log.take().into_iter().filter(|line| line.starts_with("drop")).collect();
                assert_eq!(ends, ["drop inner", "drop outer"]);

                // Dropped early, with a destructor that sleeps.
                struct Sleeps(Log);
                impl Drop for Sleeps {
                    fn drop(&mut self) {
                        sleep(MOMENT);
                        self.0.add("slept in a destructor");
                    }
                }
                let own = log.clone();
                let mut outer = Generator::new(move |out, ()| {
                    let _sleeps = Sleeps(own.clone());
                    for value in sleepy(&own, "inner") {
                        out.yield_(value);
                    }
                });
                assert_eq!(outer.next(), Some(0));
                log.take();
                drop(outer);
                assert_eq!(log.take(), ["drop inner", "slept in a destructor"]);
            };
            if on_main { test() } else { spawn(test).join().unwrap() }
        });
    }
}

#[test]
fn many_coroutines_sleep_inside_of_their_generators_at_once() {
    deadline(30, || {
        let begin = Instant::now();
        let coroutines: Vec<_> = (0..200_u32)
            .map(|n| {
                spawn(move || {
                    let mut outer = Generator::new(move |out, ()| {
                        generator::scope(
                            |inner_out: &Yielder<(), u32>, ()| {
                                for k in 0..5 {
                                    sleep(Duration::from_millis(u64::from((n * 7 + k) % 5)));
                                    // Over the head of the inner one: it must be known who runs in whom,
                                    // whatever the other coroutines did meanwhile.
                                    out.yield_(1000 * n + k);
                                    yield_now();
                                    inner_out.yield_(k);
                                }
                            },
                            |inner| {
                                for k in inner {
                                    yield_now();
                                    out.yield_(k);
                                }
                            },
                        );
                    });
                    let expected = (0..5).flat_map(|k| [1000 * n + k, k]);
                    assert!(outer.by_ref().eq(expected));
                })
            })
            .collect();
        for coroutine in coroutines {
            coroutine.join().unwrap();
        }
        assert!(begin.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn a_generator_goes_from_coroutine_to_coroutine() {
    deadline(10, || {
        let shared = Rc::new(RefCell::new(sleepy(&Log::default(), "traveller")));
        let coroutines: Vec<_> = (0..3)
            .map(|n| {
                let shared = shared.clone();
                spawn(move || {
                    // One after the other: while one waits inside, the generator is borrowed.
                    sleep(Duration::from_millis(20 * n));
                    shared.borrow_mut().next()
                })
            })
            .collect();
        let values: Vec<_> = coroutines.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(values, [Some(0), Some(1), Some(2)]);
        assert_eq!(shared.borrow_mut().next(), None);
    });
}

#[test]
fn a_generator_in_which_somebody_waits_is_borrowed() {
    deadline(10, || {
        let shared = Rc::new(RefCell::new(sleepy(&Log::default(), "busy")));
        let first = {
            let shared = shared.clone();
            spawn(move || shared.borrow_mut().next())
        };
        yield_now();
        assert!(shared.try_borrow_mut().is_err());
        assert_eq!(first.join().unwrap(), Some(0));
    });
}

#[test]
fn a_kill_unwinds_through_the_generators() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let coroutine = spawn(move || {
            let _guard = own.guard("coroutine");
            let log = own.clone();
            let mut outer = Generator::new(move |out, ()| {
                let _guard = log.guard("outer");
                sleepy(&log, "inner").for_each(|value| out.yield_(value));
            });
            outer.next()
        });
        yield_now();
        assert_eq!(log.take(), ["inner sleeps"]);
        coroutine.kill();
        let payload = coroutine.join().unwrap_err();
        assert!(payload.is::<greenling::Killed>());
        assert_eq!(log.take(), ["drop inner", "drop outer", "drop coroutine"]);
    });
}

#[test]
fn a_kill_that_is_swallowed_inside_comes_again_outside() {
    deadline(10, || {
        let coroutine = spawn(|| {
            let mut generator = Generator::new(|out, ()| {
                let _ = catch_unwind(AssertUnwindSafe(|| sleep(Duration::from_secs(60))));
                out.yield_(1);
            });
            assert_eq!(generator.next(), Some(1));
            sleep(Duration::from_secs(60));
        });
        yield_now();
        coroutine.kill();
        assert!(coroutine.join().unwrap_err().is::<greenling::Killed>());
    });
}

#[test]
fn a_timeout_unwinds_to_its_scope_through_generators() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let result = greenling::timeout(Duration::from_millis(20), move || {
            let mut generator = Generator::new(move |out: &Yielder<(), ()>, ()| {
                let _guard = own.guard("generator");
                sleep(Duration::from_secs(60));
                out.yield_(());
            });
            generator.next();
        });
        assert!(result.is_err());
        assert_eq!(log.take(), ["drop generator"]);
    });
}

#[test]
fn a_coroutine_inside_a_generator_is_the_hubs() {
    deadline(10, || {
        // Spawn, join and a channel of values from inside.
        let generator = Generator::new(|out, ()| {
            for n in 0..4_u32 {
                let doubled = spawn(move || {
                    yield_now();
                    2 * n
                });
                out.yield_(doubled.join().unwrap());
            }
        });
        assert_eq!(generator.collect::<Vec<_>>(), [0, 2, 4, 6]);
    });
}

#[test]
fn the_loop_of_the_hub_may_run_on_a_generators_stack() {
    deadline(20, || {
        // Main waits inside of a generator. The loop resumes coroutines from there, which use generators of
        // their own, and drop them.
        let log = Log::default();
        let mut generator = Generator::new(|out, ()| {
            let others: Vec<_> = (0..20_u32)
                .map(|n| {
                    spawn(move || {
                        let mut inner = Generator::new(move |out, ()| {
                            loop {
                                sleep(Duration::from_millis(1));
                                out.yield_(n);
                            }
                        });
                        inner.by_ref().take(5).sum::<u32>()
                    })
                })
                .collect();
            for (n, other) in (0..).zip(others) {
                let sum: u32 = other.join().unwrap();
                assert_eq!(sum, 5 * n);
                out.yield_(sum);
            }
        });
        assert_eq!(generator.by_ref().count(), 20);
        assert_eq!(generator.take_return(), Some(()));
        let _ = log;
    });
}

#[test]
fn one_that_waits_can_be_resumed_by_its_own_coroutine_only_later() {
    deadline(10, || {
        // The consumer is a coroutine; the producer inside waits for another coroutine, which waits for it.
        let mut generator = Generator::new(|out, first: u32| {
            let mut n = first;
            loop {
                let next = spawn(move || n + 1).join().unwrap();
                n = out.yield_(next);
            }
        });
        let consumer = spawn(move || {
            let mut n = 0;
            for _ in 0..10 {
                let Step::Yielded(next) = generator.resume(n);
                n = next;
            }
            n
        });
        assert_eq!(consumer.join().unwrap(), 10);
    });
}

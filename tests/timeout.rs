//! `timeout` over any code, alone and together with kills, shields, panics and other limits.

mod common;

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{deadline, pipe};
use greenling::error::{Elapsed, Killed};
use greenling::io::Adapter;
use greenling::thread;
use greenling::time::shield;
use greenling::{hub, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

#[track_caller]
fn assert_elapsed<T>(result: Result<T, Elapsed>) {
    assert!(result.is_err(), "the limit has not ended it");
    assert!(!thread::panicking());
}

/// Sets its cell when it is dropped.
struct Probe(Rc<Cell<u32>>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn what_is_done_in_time_counts() {
    deadline(20, || {
        assert_eq!(timeout(LONG, || 1), Ok(1));
        assert_eq!(timeout(Duration::MAX, || 2), Ok(2));
        let slept = timeout(LONG, || {
            sleep(SHORT);
            3
        });
        assert_eq!(slept, Ok(3));
        assert_eq!(timeout(Duration::ZERO, || 4), Ok(4), "it has not waited");
    });
}

#[test]
fn it_ends_every_kind_of_wait() {
    deadline(30, || {
        let (reader, _writer) = pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        let parked = spawn(thread::park);
        let waits: Vec<Box<dyn FnOnce()>> = vec![
            Box::new(|| sleep(LONG)),
            Box::new(|| sleep(Duration::MAX)),
            Box::new(|| thread::sleep_until(Instant::now() + LONG)),
            Box::new(thread::park),
            Box::new(|| thread::park_timeout(LONG)),
            Box::new(move || _ = reader.read(&mut [0])),
            Box::new(|| parked.join().unwrap()),
            Box::new(|| {
                let shielded = spawn(|| shield(|| sleep(SHORT * 10)));
                yield_now();
                shielded.kill();
            }),
            Box::new(|| _ = spawn(|| sleep(SHORT * 10)).join_timeout(LONG)),
        ];
        for wait in waits {
            let drops = Rc::new(Cell::new(0));
            let probe = Probe(drops.clone());
            let began = Instant::now();
            assert_elapsed(timeout(SHORT, move || {
                let _probe = probe;
                wait();
                unreachable!("it has waited");
            }));
            assert!(began.elapsed() >= SHORT, "too early");
            assert!(began.elapsed() < LONG / 2, "too late");
            assert_eq!(drops.get(), 1);
        }
        hub::shutdown(LONG).unwrap();
    });
}

#[test]
fn it_works_in_coroutines_each_with_its_own() {
    deadline(30, || {
        let children: Vec<_> = (0..500_u64)
            .map(|n| {
                spawn(move || {
                    let limit = Duration::from_millis(1 + n % 40);
                    let began = Instant::now();
                    let late = timeout(limit, || {
                        if n % 2 == 0 {
                            thread::park();
                        }
                        n
                    });
                    (late, began.elapsed() >= limit)
                })
            })
            .collect();
        for (n, child) in (0..).zip(children) {
            let (late, waited) = child.join().unwrap();
            match n % 2 {
                0 => assert!(late.is_err() && waited),
                _ => assert_eq!(late, Ok(n)),
            }
        }
        assert_eq!(hub::stats().timers, 0);
    });
}

#[test]
fn without_any_time_the_first_wait_ends_it() {
    deadline(20, || {
        let steps = Cell::new(0);
        assert_elapsed(timeout(Duration::ZERO, || {
            steps.set(1);
            yield_now(); // is no wait
            steps.set(2);
            thread::park_timeout(LONG);
            steps.set(3);
        }));
        assert_eq!(steps.get(), 2);
    });
}

#[test]
fn code_that_does_not_wait_is_not_interrupted_and_its_value_counts() {
    deadline(20, || {
        let late = timeout(Duration::from_millis(1), || {
            std::thread::sleep(SHORT);
            yield_now();
            "late, but here"
        });
        assert_eq!(late, Ok("late, but here"));
        // And nothing of that limit is left.
        sleep(Duration::from_millis(1));
    });
}

#[test]
fn a_limit_ends_with_its_scope() {
    deadline(20, || {
        for _ in 0..50 {
            timeout(Duration::from_millis(1), || ()).unwrap();
            timeout(SHORT, || sleep(Duration::from_micros(10))).unwrap();
        }
        let began = Instant::now();
        sleep(SHORT * 3);
        assert!(began.elapsed() >= SHORT * 3);
        thread::park_timeout(SHORT);
        assert_eq!(timeout(LONG, || 1), Ok(1));
    });
}

#[test]
fn the_waits_own_deadline_comes_first_if_it_is_earlier() {
    deadline(20, || {
        let in_time = timeout(LONG, || {
            thread::park_timeout(SHORT);
            sleep(SHORT);
            "both returned"
        });
        assert_eq!(in_time, Ok("both returned"));
    });
}

#[test]
fn the_inner_one_ends_only_the_inside() {
    deadline(20, || {
        let outer = timeout(LONG, || {
            let inner = timeout(SHORT, thread::park);
            sleep(Duration::from_millis(1)); // not interrupted
            (inner.is_err(), "outside")
        });
        assert_eq!(outer, Ok((true, "outside")));
    });
}

#[test]
fn the_outer_one_goes_through_the_inner_one() {
    deadline(20, || {
        let reached = Cell::new(0);
        let drops = Rc::new(Cell::new(0));
        assert_elapsed(timeout(SHORT, || {
            let _outer = Probe(drops.clone());
            let inner = timeout(LONG, || {
                let _inner = Probe(drops.clone());
                thread::park();
            });
            reached.set(1);
            inner
        }));
        assert_eq!((reached.get(), drops.get()), (0, 2));
    });
}

/// What is inside of a limit that has passed is over, even if the inner one has passed as well.
#[test]
fn of_two_that_have_passed_the_outer_one_counts() {
    deadline(20, || {
        for (outer, inner) in [(SHORT, SHORT), (SHORT, SHORT / 2), (SHORT / 2, SHORT)] {
            let reached = Cell::new(false);
            assert_elapsed(timeout(outer, || {
                let _ = timeout(inner, || {
                    std::thread::sleep(SHORT * 2); // both pass
                    thread::park();
                });
                reached.set(true);
            }));
            assert!(!reached.get());
        }
    });
}

#[test]
fn many_nest_and_each_ends_its_own() {
    fn nest(depth: u32, fires: u32) -> Result<u32, Elapsed> {
        let limit = if depth == fires { SHORT } else { LONG };
        let inside = timeout(limit, || {
            if depth == 20 {
                thread::park();
            }
            nest(depth + 1, fires)
        });
        match inside {
            Ok(result) => result,
            Err(Elapsed { .. }) => Ok(depth),
        }
    }
    deadline(30, || {
        for fires in [1, 2, 10, 19, 20] {
            assert_eq!(nest(1, fires), Ok(fires));
        }
    });
}

#[test]
fn one_that_is_swallowed_comes_again() {
    deadline(20, || {
        let caught = Cell::new(0);
        assert_elapsed(timeout(SHORT, || {
            for _ in 0..3 {
                assert!(catch_unwind(AssertUnwindSafe(thread::park)).is_err());
                caught.set(caught.get() + 1);
            }
            sleep(LONG);
        }));
        assert_eq!(caught.get(), 3);
        // Whoever returns a value after all has one.
        let value = timeout(SHORT, || {
            assert!(catch_unwind(AssertUnwindSafe(thread::park)).is_err());
            "rescued"
        });
        assert_eq!(value, Ok("rescued"));
        sleep(SHORT); // it does not come after its scope
    });
}

#[test]
fn one_that_is_swallowed_for_ever_does_not_starve_the_others() {
    deadline(20, || {
        let stop = Rc::new(Cell::new(false));
        let flag = stop.clone();
        let stubborn = spawn(move || {
            timeout(Duration::from_millis(1), || {
                while !flag.get() {
                    let _ = catch_unwind(AssertUnwindSafe(thread::park));
                }
            })
        });
        sleep(SHORT);
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
        sleep(SHORT);
        stop.set(true);
        assert_eq!(stubborn.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_panic_goes_through() {
    deadline(20, || {
        let panic = catch_unwind(|| timeout(LONG, || -> () { resume_unwind(Box::new("inside")) }));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"inside"));
        sleep(Duration::from_millis(1));
        // With the limit passed as well.
        let panic = catch_unwind(|| {
            timeout(Duration::ZERO, || {
                std::thread::sleep(Duration::from_millis(1));
                resume_unwind(Box::new("late"))
            })
        });
        let payload: Box<dyn std::any::Any + Send> = match panic {
            Err(payload) => payload,
            Ok(Ok(())) | Ok(Err(_)) => panic!("the panic was lost"),
        };
        assert_eq!(payload.downcast_ref(), Some(&"late"));
    });
}

#[test]
fn a_panic_of_a_child_is_not_mistaken_for_it() {
    deadline(20, || {
        // The child dies of its own limit's payload, which somebody has kept and thrown too late.
        let child = spawn(|| {
            let kept = RefCell::new(None);
            let _ = timeout(Duration::from_millis(1), || {
                *kept.borrow_mut() = catch_unwind(thread::park).err();
            });
            resume_unwind(kept.take().unwrap())
        });
        let joined = timeout(LONG, || child.join());
        assert!(joined.unwrap().is_err());
    });
}

// ---- together with kills --------------------------------------------------------------------------

#[test]
fn a_kill_goes_through_any_limit() {
    deadline(20, || {
        let reached = Rc::new(Cell::new(false));
        let flag = reached.clone();
        let child = spawn(move || {
            let _ = timeout(LONG, || timeout(LONG, thread::park));
            flag.set(true);
        });
        yield_now();
        child.kill();
        assert!(child.join().unwrap_err().is::<Killed>());
        assert!(!reached.get());
    });
}

#[test]
fn a_kill_counts_more_than_a_limit_that_has_passed() {
    deadline(20, || {
        let reached = Rc::new(Cell::new(false));
        let flag = reached.clone();
        let child = spawn(move || {
            let _ = timeout(Duration::from_millis(1), || {
                shield(|| sleep(SHORT * 2)); // both come meanwhile
                thread::park();
            });
            // Had it been the limit, the kill would come here.
            flag.set(true);
            sleep(LONG);
        });
        sleep(SHORT);
        child.kill();
        assert!(child.join().unwrap_err().is::<Killed>());
        assert!(!reached.get());
    });
}

#[test]
fn a_limit_on_waiting_for_a_kill_leaves_the_kill_in_force() {
    deadline(20, || {
        let victim = spawn(|| {
            shield(|| sleep(SHORT * 5));
            thread::park();
        });
        yield_now();
        assert_elapsed(timeout(SHORT, || victim.kill()));
        assert!(!victim.is_finished());
        assert!(victim.join().unwrap_err().is::<Killed>());
    });
}

#[test]
fn a_limit_on_a_join_detaches() {
    deadline(20, || {
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        let child = spawn(move || {
            sleep(SHORT * 3);
            flag.set(true);
        });
        assert_elapsed(timeout(SHORT, || child.join()));
        assert!(!done.get());
        sleep(SHORT * 5);
        assert!(done.get());
    });
}

// ---- together with shields ------------------------------------------------------------------------

#[test]
fn a_shield_keeps_it_off_until_the_next_wait() {
    deadline(20, || {
        let steps = Cell::new(0);
        let began = Instant::now();
        assert_elapsed(timeout(Duration::from_millis(1), || {
            shield(|| {
                sleep(SHORT);
                shield(|| sleep(SHORT));
                sleep(SHORT); // the inner shield's end is not the outer one's
                steps.set(1);
            });
            steps.set(2);
            sleep(LONG);
            steps.set(3);
        }));
        assert_eq!(steps.get(), 2);
        assert!(began.elapsed() >= SHORT * 3);
    });
}

#[test]
fn a_shield_keeps_a_kill_off_until_the_next_wait() {
    deadline(20, || {
        let steps = Rc::new(Cell::new(0));
        let own = steps.clone();
        let child = spawn(move || {
            shield(|| {
                thread::park();
                own.set(1);
                sleep(SHORT);
                own.set(2);
            });
            own.set(3);
            yield_now();
            own.set(4);
        });
        yield_now();
        assert!(!child.kill_timeout(SHORT), "it is shielded");
        assert_eq!(steps.get(), 0);
        child.thread().unpark();
        assert!(child.join().unwrap_err().is::<Killed>());
        assert_eq!(steps.get(), 3);
    });
}

#[test]
fn a_shield_goes_with_a_panic() {
    deadline(20, || {
        let child = spawn(|| {
            assert!(catch_unwind(|| shield(|| resume_unwind(Box::new(())))).is_err());
            thread::park();
        });
        yield_now();
        child.kill();
        assert!(child.join().unwrap_err().is::<Killed>());
    });
}

#[test]
fn a_limit_inside_a_shield_waits_for_its_end() {
    deadline(20, || {
        let began = Instant::now();
        let inside = shield(|| {
            timeout(Duration::from_millis(1), || {
                sleep(SHORT);
                "not interrupted"
            })
        });
        assert_eq!(inside, Ok("not interrupted"));
        assert!(began.elapsed() >= SHORT);
    });
}

// ---- together with unwinding ----------------------------------------------------------------------

/// A limit that passes while destructors run for another reason must not unwind out of them.
#[test]
fn it_does_not_interrupt_who_unwinds() {
    struct Cleanup(Rc<Cell<u32>>);
    impl Drop for Cleanup {
        fn drop(&mut self) {
            spawn(|| sleep(SHORT)).join().unwrap(); // switches, past the limit
            thread::park_timeout(SHORT);
            self.0.set(self.0.get() + 1);
        }
    }
    deadline(20, || {
        let done = Rc::new(Cell::new(0));
        let own = done.clone();
        let child = spawn(move || {
            timeout(Duration::from_millis(1), || {
                let _cleanup = Cleanup(own.clone());
                resume_unwind(Box::new("a panic"))
            })
        });
        let payload = child.join().map(|_: Result<(), _>| ()).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"a panic"));
        // And by the limit itself: once is enough.
        let own = done.clone();
        assert_elapsed(timeout(Duration::from_millis(1), || {
            let _cleanup = Cleanup(own);
            thread::park();
        }));
        assert_eq!(done.get(), 2);
    });
}

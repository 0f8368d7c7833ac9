//! Greenlets, generators and the coroutines of the hub on one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use greenling::generator::Generator;
use greenling::greenlet::{Greenlet, KillError, State, SwitchError};
use greenling::{sleep, spawn, yield_now};

use crate::common::deadline;
use crate::{Log, panic_of};

const MOMENT: Duration = Duration::from_millis(5);

#[test]
fn a_sleep_inside_lets_others_run() {
    for on_main in [true, false] {
        deadline(10, move || {
            let log = Log::default();
            let other = {
                let log = log.clone();
                spawn(move || log.add("another runs"))
            };
            let own = log.clone();
            let test = move || {
                let inner = Greenlet::new({
                    let log = own.clone();
                    move |n: u32| {
                        sleep(MOMENT);
                        log.add("slept");
                        let n = Greenlet::base().switch(n + 1).unwrap();
                        sleep(MOMENT);
                        n + 2
                    }
                });
                assert_eq!(inner.switch(1).unwrap(), 2);
                assert_eq!(inner.switch(10).unwrap(), 12);
            };
            if on_main {
                test()
            } else {
                spawn(test).join().unwrap()
            }
            other.join().unwrap();
            assert_eq!(log.take(), ["another runs", "slept"]);
        });
    }
}

#[test]
fn each_coroutine_is_a_base_of_its_own() {
    deadline(20, || {
        let coroutines: Vec<_> = (0..100_u32)
            .map(|n| {
                spawn(move || {
                    assert!(Greenlet::<u32>::current().is_base());
                    let a = Greenlet::new(move |mut k: u32| {
                        loop {
                            sleep(Duration::from_millis(u64::from((n + k) % 3)));
                            k = Greenlet::base().switch(1000 * n + k).unwrap();
                        }
                    });
                    let relay = {
                        let a = a.clone();
                        Greenlet::new(move |mut k| {
                            loop {
                                yield_now();
                                k = a.switch(k).unwrap();
                            }
                        })
                    };
                    for k in 0..10 {
                        let through = if k % 2 == 0 { &a } else { &relay };
                        assert_eq!(through.switch(k).unwrap(), 1000 * n + k);
                        assert!(Greenlet::<u32>::current().is_base());
                    }
                })
            })
            .collect();
        for coroutine in coroutines {
            coroutine.join().unwrap();
        }
    });
}

#[test]
fn a_greenlet_in_which_another_coroutine_waits_is_busy() {
    deadline(10, || {
        let greenlet = Greenlet::new(|n: u32| {
            sleep(4 * MOMENT);
            Greenlet::base().switch(n + 1).unwrap()
        });
        let own = greenlet.clone();
        let other = spawn(move || own.switch(1).unwrap());
        yield_now();
        assert_eq!(greenlet.state(), State::Running);
        assert!(matches!(greenlet.switch(5), Err(SwitchError::Busy(5))));
        assert!(matches!(greenlet.throw(Box::new("x")), Err(SwitchError::Busy(_))));
        assert!(matches!(greenlet.kill(), Err(KillError::Busy)));
        // Not even from another greenlet.
        let own = greenlet.clone();
        let thief = Greenlet::new(move |n| own.switch(n).unwrap_err().into_inner().unwrap());
        assert_eq!(thief.switch(6).unwrap(), 6);
        assert_eq!(other.join().unwrap(), 2);
        // Afterwards anybody may.
        assert_eq!(greenlet.switch(9).unwrap(), 9);
    });
}

#[test]
fn a_greenlet_goes_from_coroutine_to_coroutine() {
    deadline(10, || {
        let counter = Greenlet::new(|mut n: u32| {
            let mut sum = 0;
            loop {
                sum += n;
                // To the base of whoever runs it now.
                n = Greenlet::base().switch(sum).unwrap();
            }
        });
        let sums: Vec<_> = (1..=4)
            .map(|n| {
                let counter = counter.clone();
                spawn(move || counter.switch(n).unwrap()).join().unwrap()
            })
            .collect();
        assert_eq!(sums, [1, 3, 6, 10]);
        assert_eq!(counter.switch(5).unwrap(), 15);
    });
}

#[test]
fn a_result_passes_over_a_parent_that_waits_in_another_coroutine() {
    deadline(10, || {
        let kept: Rc<Cell<Option<Greenlet<&'static str>>>> = Rc::default();
        let own = kept.clone();
        let parent = Greenlet::new(move |_| {
            own.set(Some(Greenlet::new(|_| "the child's result")));
            sleep(4 * MOMENT);
            "the parent's result"
        });
        let other = spawn(move || parent.switch("").unwrap());
        yield_now();
        let child = kept.take().unwrap();
        assert_eq!(child.parent().unwrap().state(), State::Running);
        assert_eq!(child.switch("").unwrap(), "the child's result");
        assert_eq!(other.join().unwrap(), "the parent's result");
    });
}

#[test]
fn a_kill_of_the_coroutine_unwinds_its_greenlets_and_their_parents() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let coroutine = spawn(move || {
            let _guard = own.guard("coroutine");
            let log = own.clone();
            let outer = Greenlet::new(move |()| {
                let _guard = log.guard("parent");
                let log = log.clone();
                let inner = Greenlet::new(move |()| {
                    let _guard = log.guard("child");
                    sleep(Duration::from_secs(60));
                });
                inner.switch(()).unwrap();
            });
            outer.switch(()).unwrap();
        });
        yield_now();
        coroutine.kill();
        assert!(coroutine.join().unwrap_err().is::<greenling::Killed>());
        assert_eq!(log.take(), ["drop child", "drop parent", "drop coroutine"]);
    });
}

#[test]
fn a_switch_from_inside_of_generators() {
    deadline(10, || {
        let greenlet = Greenlet::new(|first: u32| {
            // Two generators deep.
            let mut outer = Generator::new(|out, n: u32| {
                let mut inner = Generator::new(|out, n: u32| {
                    let n = Greenlet::base().switch(n + 1).unwrap();
                    let n = out.yield_(n + 1);
                    Greenlet::base().switch(n + 1).unwrap()
                });
                let n = inner.send(n + 1).unwrap();
                let n = out.yield_(n + 1);
                assert_eq!(inner.send(n + 1), Err(greenling::error::Finished { input: None }));
                inner.take_return().unwrap()
            });
            let n = outer.send(first + 1).unwrap();
            assert!(outer.send(n + 1).is_err());
            let last = outer.take_return().unwrap();
            Greenlet::base().switch(last + 1).unwrap()
        });
        assert_eq!(greenlet.switch(0).unwrap(), 3);
        assert_eq!(greenlet.switch(10).unwrap(), 15);
        assert_eq!(greenlet.switch(20).unwrap(), 21);
        assert_eq!(greenlet.switch(30).unwrap(), 30);
    });
}

#[test]
fn a_generator_is_a_base_if_no_greenlet_is_around_it() {
    deadline(10, || {
        let mut generator = Generator::new(|out, ()| {
            let echo = Greenlet::new(|mut n: u32| {
                loop {
                    n = Greenlet::base().switch(2 * n).unwrap();
                }
            });
            for n in 0..3 {
                out.yield_(echo.switch(n).unwrap());
            }
        });
        assert!(generator.by_ref().eq([0, 2, 4]));
    });
}

#[test]
fn greenlets_generators_and_coroutines_all_at_once() {
    deadline(30, || {
        // Each coroutine has a greenlet that switches from inside a generator which sleeps; all share one
        // greenlet that they use in turns.
        let shared = Greenlet::new(|mut n: u64| {
            let mut sum = 0;
            loop {
                sum += n;
                n = Greenlet::base().switch(sum).unwrap();
            }
        });
        let total = Rc::new(Cell::new(0));
        let coroutines: Vec<_> = (1..=50_u64)
            .map(|n| {
                let (shared, total) = (shared.clone(), total.clone());
                spawn(move || {
                    let worker = Greenlet::new(move |_| {
                        let generator = Generator::new(move |out, ()| {
                            for k in 0..4 {
                                sleep(Duration::from_millis((n + k) % 4));
                                Greenlet::base().switch(n).unwrap();
                                out.yield_(n);
                            }
                        });
                        generator.sum()
                    });
                    for _ in 0..4 {
                        let n = worker.switch(0).unwrap();
                        shared.switch(n).unwrap();
                    }
                    total.set(total.get() + worker.switch(0).unwrap());
                })
            })
            .collect();
        for coroutine in coroutines {
            coroutine.join().unwrap();
        }
        let expected = 4 * (1..=50).sum::<u64>();
        assert_eq!(total.get(), expected);
        assert_eq!(shared.switch(0).unwrap(), expected);
    });
}

#[test]
fn a_coroutine_may_be_spawned_and_joined_inside() {
    deadline(10, || {
        let greenlet = Greenlet::new(|n: u32| {
            let base = spawn(move || {
                // It is not inside of the greenlet that spawned it.
                assert!(Greenlet::<u32>::current().is_base());
                n + 1
            });
            base.join().unwrap()
        });
        assert_eq!(greenlet.switch(1).unwrap(), 2);
    });
}

#[test]
fn the_hub_may_run_on_a_greenlets_stack() {
    deadline(10, || {
        // Main waits inside of a greenlet, and others use greenlets meanwhile: new ones, and one of main's.
        let echo = Greenlet::new(|mut n: u32| {
            loop {
                n = Greenlet::base().switch(n + 1).unwrap();
            }
        });
        let own = echo.clone();
        let waits = Greenlet::new(move |n: u32| {
            let others: Vec<_> = (0..10)
                .map(|k| {
                    let echo = own.clone();
                    spawn(move || {
                        yield_now();
                        let fresh = Greenlet::new(|n: u32| Greenlet::base().switch(n + 1).unwrap());
                        fresh.switch(echo.switch(k).unwrap()).unwrap()
                    })
                })
                .collect();
            let sum: u32 = others.into_iter().map(|other| other.join().unwrap()).sum();
            own.switch(n + sum).unwrap()
        });
        // The echo answers the base, which is main.
        assert_eq!(waits.switch(1000).unwrap(), 1000 + 45 + 20 + 1);
    });
}

#[test]
fn a_handle_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static KEPT: RefCell<Vec<Greenlet<u32>>> = const { RefCell::new(Vec::new()) };
    }
    struct Tells(std::sync::mpsc::Sender<u32>, u32);
    impl Drop for Tells {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    deadline(10, move || {
        for n in 0..3 {
            let sender = sender.clone();
            let greenlet = Greenlet::new(move |_| {
                let _tells = Tells(sender, n);
                Greenlet::base().switch(n).unwrap()
            });
            greenlet.switch(0).unwrap();
            KEPT.with_borrow_mut(|kept| kept.push(greenlet));
        }
    });
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_coroutine_that_runs_a_greenlet_may_panic() {
    deadline(10, || {
        let greenlet = Greenlet::new(|n: u32| {
            sleep(MOMENT);
            if n == 1 {
                std::panic::resume_unwind(Box::new("inside of both"));
            }
            n
        });
        let own = greenlet.clone();
        let coroutine = spawn(move || own.switch(1).map(|_| ()));
        let payload = coroutine.join().unwrap_err();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "inside of both");
        assert!(greenlet.is_dead());
        assert_eq!(panic_of(|| panic!("still works")), "still works");
    });
}

//! `hub::shutdown`.

use std::cell::Cell;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::error::Killed;
use greenling::thread::{self, JoinHandle};
use greenling::{hub, spawn, yield_now};

use crate::common::deadline;

const GRACE: Duration = Duration::from_secs(10);

/// Counts its drops, and does something first.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn everybody_is_unwound() {
    deadline(20, || {
        let drops = Rc::new(Cell::new(0));
        let children: Vec<JoinHandle<()>> = (0..100)
            .map(|n| {
                let drops = drops.clone();
                spawn(move || {
                    let _probe = OnDrop(|| drops.set(drops.get() + 1));
                    match n % 3 {
                        0 => thread::park(),
                        1 => thread::sleep(Duration::from_secs(3600)),
                        _ => loop {
                            yield_now();
                        },
                    }
                })
            })
            .collect();
        yield_now();
        let late = spawn(|| unreachable!("killed before its first turn"));
        hub::shutdown(GRACE).unwrap();
        assert_eq!(drops.get(), 100);
        assert_eq!((hub::stats().live, hub::stats().stacks_in_use), (0, 0));
        for child in children {
            assert!(child.join().unwrap_err().is::<Killed>());
        }
        assert!(late.join().unwrap_err().is::<Killed>());
    });
}

#[test]
fn with_nobody_there_it_returns_at_once_and_the_hub_goes_on() {
    deadline(20, || {
        let began = Instant::now();
        for _ in 0..3 {
            hub::shutdown(GRACE).unwrap();
            assert_eq!(spawn(|| 1).join().unwrap(), 1);
            hub::shutdown(Duration::MAX).unwrap();
            hub::shutdown(Duration::ZERO).unwrap();
        }
        assert!(began.elapsed() < GRACE);
    });
}

#[test]
fn what_destructors_spawn_is_ended_as_well() {
    deadline(20, || {
        let drops = Rc::new(Cell::new(0));
        fn nest(depth: u32, drops: Rc<Cell<u32>>) {
            spawn(move || {
                let _probe = OnDrop(|| {
                    drops.set(drops.get() + 1);
                    if depth > 0 {
                        nest(depth - 1, drops.clone());
                    }
                });
                // Killed before its first turn, it would not get as far as to make the probe.
                let _ = catch_unwind(thread::park);
                thread::park();
            });
            // Let it begin.
            thread::park_timeout(Duration::from_millis(1));
        }
        nest(3, drops.clone());
        hub::shutdown(GRACE).unwrap();
        assert!(drops.get() >= 1);
        assert_eq!(hub::stats().live, 0);
    });
}

#[test]
fn cleanup_may_take_its_time() {
    deadline(20, || {
        let done = Rc::new(Cell::new(0));
        for n in 0..10_u64 {
            let done = done.clone();
            spawn(move || {
                let _cleanup = OnDrop(|| {
                    thread::sleep(Duration::from_millis(n));
                    let helper = spawn(|| {
                        yield_now();
                        1
                    });
                    // The helper is killed, too; it has not done anything yet.
                    let helped = helper.join();
                    assert!(helped.is_err() || helped.is_ok());
                    done.set(done.get() + 1);
                });
                thread::park();
            });
        }
        yield_now();
        hub::shutdown(GRACE).unwrap();
        assert_eq!(done.get(), 10);
    });
}

#[test]
fn the_stubborn_are_counted_when_time_is_up() {
    deadline(20, || {
        let stop = Rc::new(Cell::new(false));
        let stubborn: Vec<_> = (0..3)
            .map(|_| {
                let stop = stop.clone();
                spawn(move || {
                    while !stop.get() {
                        let _ = catch_unwind(|| thread::sleep(Duration::from_secs(3600)));
                    }
                })
            })
            .collect();
        let tame = spawn(thread::park);
        yield_now();
        let began = Instant::now();
        let error = hub::shutdown(Duration::from_millis(100)).unwrap_err();
        assert!(began.elapsed() >= Duration::from_millis(100));
        assert!(began.elapsed() < GRACE);
        assert_eq!(error.coroutines, 3);
        assert_eq!(error.to_string(), "3 coroutines still running after the grace period");
        assert!(tame.join().unwrap_err().is::<Killed>());
        stop.set(true);
        stubborn.into_iter().for_each(|one| one.join().unwrap());
    });
}

#[test]
fn without_grace_the_killed_still_end_in_their_turn() {
    deadline(20, || {
        let child = spawn(thread::park);
        yield_now();
        assert_eq!(hub::shutdown(Duration::ZERO).unwrap_err().coroutines, 1);
        assert!(child.join().unwrap_err().is::<Killed>());
    });
}

#[test]
fn a_coroutine_that_shuts_down_survives() {
    deadline(20, || {
        let others: Vec<_> = (0..10).map(|_| spawn(thread::park)).collect();
        let caller = spawn(|| {
            hub::shutdown(GRACE).unwrap();
            yield_now();
            assert_eq!(hub::stats().live, 1);
            "alive"
        });
        assert_eq!(caller.join().unwrap(), "alive");
        for other in others {
            assert!(other.join().unwrap_err().is::<Killed>());
        }
    });
}

#[test]
fn two_that_shut_down_at_once_do_not_wait_for_each_other_for_ever() {
    deadline(20, || {
        let began = Instant::now();
        let callers = [0, 1].map(|_| spawn(|| hub::shutdown(Duration::from_millis(300)).is_ok()));
        let _ = hub::shutdown(GRACE);
        for caller in callers {
            let _ = caller.join();
        }
        assert!(began.elapsed() < GRACE);
        assert_eq!(hub::stats().live, 0);
    });
}

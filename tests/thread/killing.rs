//! What `JoinHandle::kill` promises.

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::error::Killed;
use greenling::io::Adapter;
use greenling::thread::{self, JoinHandle};
use greenling::{hub, spawn, yield_now};

use crate::common::deadline;

#[track_caller]
fn assert_killed<T>(child: JoinHandle<T>) {
    match child.join() {
        Ok(_) => panic!("it has run to its end"),
        Err(payload) => assert!(payload.is::<Killed>(), "it has ended by something else"),
    }
}

/// Counts its drops.
struct Probe(Rc<Cell<u32>>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn one_that_has_not_begun_never_runs() {
    deadline(20, || {
        let drops = Rc::new(Cell::new(0));
        let (ran, probe) = (Rc::new(Cell::new(false)), Probe(drops.clone()));
        let flag = ran.clone();
        let child = spawn(move || {
            flag.set(true);
            drop(probe);
        });
        assert!(!child.kill_timeout(Duration::ZERO), "it takes the victim a turn to end");
        assert_killed(child);
        assert!(!ran.get());
        assert_eq!(drops.get(), 1, "what the closure has captured is dropped");
    });
}

#[test]
fn it_ends_every_kind_of_wait() {
    deadline(20, || {
        let drops = Rc::new(Cell::new(0));
        let (reader, _writer) = crate::common::pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        let waits: Vec<Box<dyn FnOnce()>> = vec![
            Box::new(thread::park),
            Box::new(|| thread::park_timeout(Duration::from_secs(60))),
            Box::new(|| thread::sleep(Duration::from_secs(60))),
            Box::new(|| thread::sleep_until(Instant::now() + Duration::from_secs(60))),
            Box::new(|| spawn(thread::park).join().unwrap()),
            Box::new(|| {
                loop {
                    yield_now();
                }
            }),
            Box::new(|| {
                loop {
                    thread::sleep(Duration::ZERO);
                }
            }),
            Box::new(move || drop(reader.read(&mut [0]))),
            Box::new(|| _ = hub::shutdown(Duration::ZERO)),
        ];
        let count = waits.len() as u32 - 1;
        let mut children: Vec<_> = waits
            .into_iter()
            .map(|wait| {
                let probe = Probe(drops.clone());
                spawn(move || {
                    let _probe = probe;
                    wait();
                })
            })
            .collect();
        children.pop().unwrap().kill(); // before it could shut down the others
        for _ in 0..3 {
            yield_now();
        }
        assert_eq!(drops.get(), 1);
        children.iter().for_each(JoinHandle::kill);
        children.into_iter().for_each(assert_killed);
        assert_eq!(drops.get(), count + 1);
        hub::shutdown(Duration::from_secs(10)).unwrap(); // the one that was joined
        assert_eq!(hub::stats().live, 0);
    });
}

#[test]
fn without_waiting_it_unwinds_in_the_victims_own_turn() {
    deadline(20, || {
        let drops = Rc::new(Cell::new(0));
        let probe = Probe(drops.clone());
        let child = spawn(move || {
            let _probe = probe;
            thread::park();
        });
        yield_now();
        child.kill_timeout(Duration::ZERO);
        assert_eq!(drops.get(), 0);
        yield_now();
        assert_eq!(drops.get(), 1);
        assert!(child.is_finished());
        assert_killed(child);
    });
}

#[test]
fn twice_is_as_good_as_once() {
    deadline(20, || {
        let child = spawn(thread::park);
        yield_now();
        child.kill();
        child.kill();
        yield_now();
        child.kill();
        assert_killed(child);
    });
}

#[test]
fn one_that_has_ended_keeps_its_result() {
    deadline(20, || {
        let child = spawn(|| 7);
        yield_now();
        child.kill();
        assert_eq!(child.join().unwrap(), 7);
        // Killed, but it never waits again: its value counts.
        let child = spawn(|| {
            yield_now();
            8
        });
        let handle: JoinHandle<i32> = child;
        let computing = spawn(move || {
            handle.kill();
            handle
        });
        assert_killed(computing.join().unwrap());
    });
}

#[test]
fn one_that_never_waits_again_returns_its_value() {
    deadline(20, || {
        let own: Rc<RefCell<Option<JoinHandle<i32>>>> = Rc::default();
        let slot = own.clone();
        let child = spawn(move || {
            slot.borrow().as_ref().unwrap().kill_timeout(Duration::ZERO); // oneself
            9
        });
        *own.borrow_mut() = Some(child);
        yield_now();
        let child = own.take().unwrap();
        assert_eq!(child.join().unwrap(), 9);
    });
}

#[test]
fn a_coroutine_that_kills_itself_ends_at_its_next_wait() {
    deadline(20, || {
        let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let slot = own.clone();
        let child = spawn(move || {
            slot.borrow().as_ref().unwrap().kill();
            thread::sleep(Duration::from_secs(60));
            unreachable!("it has waited");
        });
        *own.borrow_mut() = Some(child);
        yield_now();
        assert_killed(own.take().unwrap());
    });
}

#[test]
fn one_that_is_swallowed_is_delivered_again() {
    deadline(20, || {
        let caught = Rc::new(Cell::new(0));
        let count = caught.clone();
        let child = spawn(move || {
            for _ in 0..5 {
                let wait = catch_unwind(|| thread::sleep(Duration::from_secs(60)));
                assert!(wait.unwrap_err().is::<Killed>());
                assert!(!thread::panicking());
                count.set(count.get() + 1);
            }
            thread::park();
        });
        yield_now();
        child.kill();
        assert_killed(child);
        assert_eq!(caught.get(), 5);
    });
}

#[test]
fn one_that_is_swallowed_for_ever_does_not_starve_the_others() {
    deadline(20, || {
        let waits: [fn(); 4] = [
            thread::park,
            yield_now,
            || thread::sleep(Duration::from_secs(60)),
            || thread::park_timeout(Duration::from_secs(60)),
        ];
        for wait in waits {
            let stop = Rc::new(Cell::new(false));
            let flag = stop.clone();
            let stubborn = spawn(move || {
                while !flag.get() {
                    let _ = catch_unwind(wait);
                }
            });
            yield_now();
            stubborn.kill_timeout(Duration::ZERO);
            // A timer, a wake and a turn of its own come through.
            thread::sleep(Duration::from_millis(5));
            let other = spawn(thread::park);
            yield_now();
            other.thread().unpark();
            other.join().unwrap();
            assert!(!stubborn.is_finished());
            stop.set(true);
            stubborn.join().unwrap();
        }
    });
}

#[test]
fn the_victim_may_catch_it_and_return_something_else() {
    deadline(20, || {
        let child = spawn(|| {
            let wait = catch_unwind(thread::park);
            assert!(wait.is_err());
            "cleaned up"
        });
        yield_now();
        child.kill();
        assert_eq!(child.join().unwrap(), "cleaned up");
    });
}

#[test]
fn it_does_not_reach_the_one_that_the_victim_joins() {
    deadline(20, || {
        let drops = Rc::new(Cell::new(0));
        let probe = Probe(drops.clone());
        let inner = spawn(move || {
            thread::sleep(Duration::from_millis(10));
            probe
        });
        let inner_thread = inner.thread().clone();
        let outer = spawn(move || {
            drop(inner.join());
            unreachable!("killed in the join");
        });
        yield_now();
        outer.kill();
        assert_killed(outer);
        inner_thread.unpark();
        assert_eq!(drops.get(), 0, "the inner one goes on, detached");
        thread::sleep(Duration::from_millis(30));
        assert_eq!(drops.get(), 1);
        assert_eq!(hub::stats().live, 0);
    });
}

#[test]
fn destructors_run_from_the_inside_out() {
    struct Order(u32, Rc<RefCell<Vec<u32>>>);
    impl Drop for Order {
        fn drop(&mut self) {
            assert!(thread::panicking());
            self.1.borrow_mut().push(self.0);
        }
    }
    fn nest(depth: u32, order: &Rc<RefCell<Vec<u32>>>) {
        let _order = Order(depth, order.clone());
        if depth < 100 {
            nest(depth + 1, order);
        }
        thread::park();
    }
    deadline(20, || {
        let order: Rc<RefCell<Vec<u32>>> = Rc::default();
        let own = order.clone();
        let child = spawn(move || nest(1, &own));
        yield_now();
        child.kill();
        assert_killed(child);
        assert!(order.take().into_iter().eq((1..=100).rev()));
    });
}

#[test]
fn any_thread_may_kill() {
    deadline(30, || {
        for _ in 0..50 {
            let child = spawn(thread::park);
            yield_now();
            let killer = std::thread::spawn(move || {
                child.kill();
                child.join().unwrap_err().is::<Killed>()
            });
            while !killer.is_finished() {
                thread::sleep(Duration::from_micros(100));
            }
            assert!(killer.join().unwrap());
        }
        assert_eq!(hub::stats().live, 0);
    });
}

#[test]
fn it_races_with_wakes_and_deadlines_without_harm() {
    deadline(30, || {
        let mut ended_by_itself = 0;
        for n in 0..2000_u64 {
            let child = spawn(move || {
                if n % 3 == 0 {
                    thread::park();
                } else {
                    thread::sleep(Duration::from_micros(n % 50));
                }
            });
            yield_now();
            if n % 2 == 0 {
                std::thread::sleep(Duration::from_micros(n % 40));
            }
            if n % 5 == 0 {
                child.thread().unpark();
            }
            child.kill();
            if n % 7 == 0 {
                child.thread().unpark();
            }
            match child.join() {
                Ok(()) => ended_by_itself += 1,
                Err(payload) => assert!(payload.is::<Killed>()),
            }
        }
        assert!(ended_by_itself < 2000);
        assert_eq!((hub::stats().live, hub::stats().stacks_in_use), (0, 0));
    });
}

#[test]
fn a_victim_is_not_interrupted_while_it_unwinds() {
    struct Waits(Rc<Cell<bool>>);
    impl Drop for Waits {
        fn drop(&mut self) {
            // Each of these would be a place to deliver the kill, and that would abort the process.
            yield_now();
            thread::sleep(Duration::from_millis(2));
            thread::park_timeout(Duration::from_millis(2));
            spawn(|| thread::sleep(Duration::from_millis(2))).join().unwrap();
            let _ = catch_unwind(AssertUnwindSafe(|| thread::park_timeout(Duration::ZERO)));
            self.0.set(true);
        }
    }
    deadline(20, || {
        let done = Rc::new(Cell::new(false));
        let waits = Waits(done.clone());
        let child = spawn(move || {
            let _waits = waits;
            thread::park();
        });
        yield_now();
        child.kill();
        yield_now();
        child.kill(); // once more, in the middle
        assert_killed(child);
        assert!(done.get());
        assert!(!thread::panicking());
    });
}

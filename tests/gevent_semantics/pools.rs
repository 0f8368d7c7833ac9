//! Group and Pool: spawning, limits, joining, killing.

use std::cell::{Cell, RefCell};
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenling::event::Event;
use greenling::pool::{Group, Pool, PoolFull};
use greenling::thread::{self, Builder};
use greenling::{sleep, spawn, timeout, yield_now};

use crate::common::deadline;
use crate::{Ended, LONG, SHORT, fail, outcome};

#[test]
fn a_group_knows_who_has_not_ended() {
    deadline(20, || {
        let group = Group::new();
        assert!(group.is_empty());
        group.join(); // nobody to wait for
        let event = Rc::new(Event::new());
        for _ in 0..10 {
            let event = event.clone();
            group.spawn(move || event.wait());
        }
        let broken = group.spawn(|| -> u8 { fail("a member") });
        assert_eq!(group.len(), 11);
        yield_now();
        assert_eq!(group.len(), 10);
        assert!(!group.join_timeout(SHORT));
        event.set();
        assert!(group.join_timeout(LONG));
        assert_eq!(group.len(), 0);
        assert_eq!(outcome(broken.join()), Ended::Panicked("a member"));
        assert_eq!(format!("{group:?}"), "Group { len: 0, .. }");
    });
}

#[test]
fn members_may_be_named_and_added() {
    deadline(20, || {
        let group = Group::new();
        let named = group
            .spawn_with(Builder::new().name("worker".into()), || {
                thread::current().name().map(str::to_owned)
            })
            .unwrap();
        let other = spawn(|| sleep(SHORT));
        group.add(&other);
        group.add(&other);
        assert_eq!(group.len(), 2, "one that is added twice is there once");
        group.join();
        assert!(other.is_finished());
        assert_eq!(named.join().unwrap().as_deref(), Some("worker"));
        group.add(&other);
        assert!(group.is_empty(), "it has ended");
    });
}

#[test]
fn join_waits_for_those_who_come_meanwhile() {
    deadline(20, || {
        let group = Group::new();
        let count = Rc::new(Cell::new(0));
        fn next(group: &Group, count: &Rc<Cell<u32>>, left: u32) {
            let (own, count) = (group.clone(), count.clone());
            group.spawn(move || {
                sleep(Duration::from_millis(1));
                count.set(count.get() + 1);
                if left > 0 {
                    next(&own, &count, left - 1);
                }
            });
        }
        next(&group, &count, 5);
        group.join();
        assert_eq!(count.get(), 6);
    });
}

#[test]
fn several_may_join_one_group() {
    deadline(20, || {
        let group = Group::new();
        group.spawn(|| sleep(SHORT));
        let joiners = [(); 3].map(|()| {
            let group = group.clone();
            spawn(move || group.join())
        });
        joiners.into_iter().for_each(|joiner| joiner.join().unwrap());
    });
}

#[test]
fn kill_ends_all_and_waits() {
    deadline(20, || {
        let group = Group::new();
        let dropped = Rc::new(Cell::new(0));
        struct Count(Rc<Cell<u32>>);
        impl Drop for Count {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        for _ in 0..5 {
            let count = Count(dropped.clone());
            group.spawn(move || {
                let _count = count;
                sleep(LONG);
            });
        }
        yield_now();
        let unborn = group.spawn(|| unreachable!());
        group.kill();
        assert_eq!((group.len(), dropped.get()), (0, 5));
        assert_eq!(outcome::<()>(unborn.join()), Ended::Killed);
        group.kill(); // nobody is left
        // It can be used on.
        assert_eq!(group.spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn kill_reaches_those_whom_the_dying_spawn() {
    deadline(20, || {
        struct Spawns(Group);
        impl Drop for Spawns {
            fn drop(&mut self) {
                self.0.spawn(|| sleep(LONG));
            }
        }
        let group = Group::new();
        let spawns = Spawns(group.clone());
        group.spawn(move || {
            let _spawns = spawns;
            sleep(LONG);
        });
        yield_now();
        group.kill();
        assert!(group.is_empty());
    });
}

#[test]
fn kill_by_a_member_ends_it_too() {
    deadline(20, || {
        let group = Group::new();
        let other = group.spawn(|| sleep(LONG));
        let member = group.spawn({
            let group = group.clone();
            move || {
                group.kill();
                unreachable!();
            }
        });
        assert_eq!(outcome::<()>(member.join()), Ended::Killed);
        group.join();
        assert_eq!(outcome(other.join()), Ended::Killed);
    });
}

#[test]
fn kill_with_a_timeout_says_whether_all_have_ended() {
    deadline(20, || {
        let group = Group::new();
        assert!(group.kill_timeout(Duration::ZERO));
        let event = Rc::new(Event::new());
        group.spawn(|| sleep(LONG));
        let shielded = event.clone();
        group.spawn(move || greenling::time::shield(|| shielded.wait()));
        yield_now();
        assert!(!group.kill_timeout(Duration::ZERO));
        assert!(!group.kill_timeout(SHORT));
        assert_eq!(group.len(), 1);
        event.set();
        assert!(group.kill_timeout(LONG));
    });
}

// ---- pools ------------------------------------------------------------------------------------

#[test]
fn no_more_run_at_once_than_there_are_slots() {
    deadline(20, || {
        let pool = Pool::new(3);
        let (running, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        for n in 0..20 {
            let (running, most) = (running.clone(), most.clone());
            pool.spawn(move || {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                sleep(Duration::from_micros(n * 37 % 300));
                running.set(running.get() - 1);
            });
            assert!(pool.len() <= 3);
        }
        pool.join();
        assert_eq!((most.get(), running.get()), (3, 0));
        assert_eq!((pool.size(), pool.free_slots(), pool.is_full()), (3, 3, false));
        assert_eq!(format!("{pool:?}"), "Pool { size: 3, free_slots: 3, len: 0, .. }");
    });
}

#[test]
fn who_waits_for_a_slot_gets_it_in_turn() {
    deadline(20, || {
        let pool = Pool::new(1);
        let gate = Rc::new(Event::new());
        pool.spawn({
            let gate = gate.clone();
            move || gate.wait()
        });
        let order = Rc::new(RefCell::new(Vec::new()));
        let spawners: Vec<_> = (0..5)
            .map(|number| {
                let (pool, order) = (pool.clone(), order.clone());
                spawn(move || {
                    pool.spawn(move || order.borrow_mut().push(number));
                })
            })
            .collect();
        yield_now();
        spawners[2].kill();
        gate.set();
        greenling::join_all(spawners);
        pool.join();
        assert_eq!(*order.borrow(), [0, 1, 3, 4]);
        assert_eq!(pool.free_slots(), 1);
    });
}

#[test]
fn try_spawn_and_spawn_with_a_timeout_give_the_function_back() {
    deadline(20, || {
        let pool = Pool::new(1);
        let busy = pool.try_spawn(|| sleep(3 * SHORT)).unwrap();
        let job = || 5;
        assert!(pool.is_full());
        let PoolFull(job) = pool.try_spawn(job).unwrap_err();
        let error = pool.spawn_timeout(job, SHORT).unwrap_err();
        assert_eq!(error.to_string(), "the pool has no free slot");
        let late = pool.spawn_timeout(error.into_inner(), LONG).unwrap();
        assert!(busy.is_finished());
        assert_eq!(late.join().unwrap(), 5);
    });
}

#[test]
fn a_slot_comes_back_however_its_coroutine_ends() {
    deadline(20, || {
        let pool = Pool::new(2);
        for _ in 0..3 {
            let broken = pool.spawn(|| -> () { fail("broken") });
            let unborn = pool.spawn(|| ());
            unborn.kill_timeout(Duration::ZERO);
            assert_eq!(outcome(broken.join()), Ended::Panicked("broken"));
            assert_eq!(outcome(unborn.join()), Ended::Killed);
            let killed = pool.spawn(|| sleep(LONG));
            yield_now();
            killed.kill();
            assert_eq!(pool.free_slots(), 2);
        }
        assert!(
            timeout(SHORT, || {
                pool.spawn(|| sleep(2 * SHORT));
                pool.spawn(|| sleep(2 * SHORT));
                pool.spawn(|| unreachable!())
            })
            .is_err()
        );
        pool.join();
        assert_eq!(pool.free_slots(), 2);
    });
}

#[test]
fn a_pool_without_slots_is_refused() {
    assert!(catch_unwind(|| Pool::new(0)).is_err());
}

#[test]
fn killing_a_pool_frees_its_slots() {
    deadline(20, || {
        let pool = Pool::new(2);
        pool.spawn(|| sleep(LONG));
        pool.spawn(|| sleep(LONG));
        pool.kill();
        assert_eq!((pool.len(), pool.free_slots()), (0, 2));
        assert_eq!(pool.spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn threads_share_the_slots_of_a_pool() {
    deadline(60, || {
        let pool = Pool::new(3);
        let running = &*Box::leak(Box::new(AtomicUsize::new(0)));
        let done = &*Box::leak(Box::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let pool = pool.clone();
                std::thread::spawn(move || {
                    let group = Group::new();
                    for n in 0..200 {
                        group.add(&pool.spawn(move || {
                            assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
                            if n % 4 == 0 {
                                sleep(Duration::from_micros(20));
                            } else {
                                yield_now();
                            }
                            running.fetch_sub(1, Ordering::SeqCst);
                            done.fetch_add(1, Ordering::SeqCst);
                        }));
                    }
                    group.join();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        pool.join();
        assert_eq!((done.load(Ordering::SeqCst), pool.free_slots()), (800, 3));
    });
}

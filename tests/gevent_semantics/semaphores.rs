//! gevent.lock: Semaphore, BoundedSemaphore, RLock.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenling::sync::{ReentrantMutex, Semaphore};
use greenling::{join_all, sleep, spawn, timeout, yield_now};

use crate::common::deadline;
use crate::{Ended, LONG, SHORT, fail, outcome};

/// `acquire(blocking=False)`, `acquire(timeout=…)`, `locked()`, `counter`.
#[test]
fn acquire_may_refuse_to_wait_or_to_wait_for_long() {
    deadline(20, || {
        let semaphore = Semaphore::new(1);
        assert_eq!(semaphore.available_permits(), 1);
        let permit = semaphore.acquire();
        assert_eq!(semaphore.available_permits(), 0);
        assert!(semaphore.try_acquire().is_none());
        let began = Instant::now();
        assert!(semaphore.acquire_timeout(SHORT).is_none());
        assert!(began.elapsed() >= SHORT);
        drop(permit);
        assert!(semaphore.acquire_timeout(LONG).is_some());
    });
}

/// "Waiters are served in the order in which they came", and one who releases and acquires again stands behind
/// those who wait: it has been handed over before that.
#[test]
fn a_permit_is_handed_to_the_longest_waiter_and_nobody_overtakes() {
    deadline(20, || {
        let semaphore = Rc::new(Semaphore::new(1));
        let order = Rc::new(RefCell::new(Vec::new()));
        let all: Vec<_> = (0..4)
            .map(|n| {
                let (semaphore, order) = (semaphore.clone(), order.clone());
                spawn(move || {
                    for _ in 0..3 {
                        let _permit = semaphore.acquire();
                        order.borrow_mut().push(n);
                        yield_now();
                    }
                })
            })
            .collect();
        join_all(all).into_iter().for_each(Result::unwrap);
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
    });
}

/// `release()` by one who never acquired.
#[test]
fn permits_may_be_added_by_anybody() {
    deadline(20, || {
        let semaphore = Rc::new(Semaphore::new(0));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let semaphore = semaphore.clone();
                spawn(move || semaphore.acquire().forget())
            })
            .collect();
        yield_now();
        spawn({
            let semaphore = semaphore.clone();
            move || semaphore.add_permits(2).unwrap()
        });
        yield_now();
        yield_now();
        assert_eq!(waiters.iter().filter(|waiter| waiter.is_finished()).count(), 2);
        semaphore.add_permits(1).unwrap();
        join_all(waiters).into_iter().for_each(Result::unwrap);
        assert_eq!(semaphore.available_permits(), 0);
    });
}

/// `BoundedSemaphore.release()` once too often is a ValueError.
#[test]
fn over_release_of_a_bounded_one_is_an_error() {
    deadline(20, || {
        let semaphore = Semaphore::bounded(2);
        assert!(semaphore.add_permits(1).is_err());
        drop(semaphore.acquire_many(2));
        assert!(semaphore.add_permits(1).is_err());
        assert_eq!(semaphore.available_permits(), 2, "none was added");
    });
}

/// `with semaphore:` gives it back however the block ends.
#[test]
fn a_permit_comes_back_however_its_scope_ends() {
    deadline(20, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let held = |f: fn()| {
            let permit = semaphore.acquire_owned();
            spawn(move || {
                let _permit = permit;
                f();
            })
        };
        assert_eq!(outcome(held(|| ()).join()), Ended::Returned(()));
        assert_eq!(outcome(held(|| fail("oh")).join()), Ended::Panicked("oh"));
        let sleeper = held(|| sleep(LONG));
        yield_now();
        sleeper.kill();
        held(|| assert!(timeout(SHORT, || sleep(LONG)).is_err())).join().unwrap();
        // One that is killed before it begins.
        held(|| ()).kill();
        assert_eq!(semaphore.available_permits(), 1);
    });
}

/// A kill or a time limit in the moment of the hand-over (issue 1452: it left the lock taken for ever).
#[test]
fn a_waiter_that_is_ended_takes_no_permit_along() {
    deadline(20, || {
        for round in 0..4 {
            let semaphore = Rc::new(Semaphore::new(0));
            let wait = || {
                let semaphore = semaphore.clone();
                spawn(move || drop(semaphore.acquire()))
            };
            let (victim, other) = (wait(), wait());
            yield_now();
            // The permit is the victim's from here on, if it comes before the kill.
            if round % 2 == 0 {
                semaphore.add_permits(1).unwrap();
            }
            victim.kill_timeout(Duration::ZERO);
            if round % 2 == 1 {
                semaphore.add_permits(1).unwrap();
            }
            other.join().unwrap();
            drop(victim.join());
            assert_eq!(semaphore.available_permits(), 1);
        }
    });
}

/// Between threads, which gevent came to late (issues 1739, 2045).
#[test]
fn threads_and_coroutines_share_one() {
    deadline(60, || {
        let semaphore = Arc::new(Semaphore::new(2));
        let inside = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (semaphore, inside) = (semaphore.clone(), inside.clone());
                std::thread::spawn(move || {
                    let work = move || {
                        use std::sync::atomic::Ordering::SeqCst;
                        for _ in 0..50 {
                            let _permit = semaphore.acquire();
                            assert!(inside.fetch_add(1, SeqCst) < 2);
                            yield_now();
                            inside.fetch_sub(1, SeqCst);
                        }
                    };
                    let coroutines = join_all((0..3).map(|_| spawn(work.clone())));
                    coroutines.into_iter().for_each(Result::unwrap);
                    work();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(semaphore.available_permits(), 2);
    });
}

/// RLock: its owner acquires it again, and releases it as often.
#[test]
fn a_recursive_lock_belongs_to_one_coroutine() {
    deadline(20, || {
        let lock = Rc::new(ReentrantMutex::new(()));
        let (first, second) = (lock.lock(), lock.lock());
        let other = spawn({
            let lock = lock.clone();
            move || {
                assert!(lock.try_lock().is_none() && !lock.is_held());
                drop(lock.lock());
            }
        });
        yield_now();
        drop(first);
        yield_now();
        assert!(lock.is_held() && !other.is_finished(), "it is held once more");
        drop(second);
        other.join().unwrap();
        assert!(!lock.is_held() && lock.try_lock().is_some());
    });
}

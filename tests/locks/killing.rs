//! A kill or a time limit that arrives in a wait ends it without the lock, and takes nothing from the others.

use std::rc::Rc;
use std::time::Duration;

use greenling::error::Killed;
use greenling::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock, Semaphore};
use greenling::{JoinHandle, sleep, spawn, timeout, yield_now};

use crate::common::deadline;

const SHORT: Duration = Duration::from_millis(5);

fn killed<T>(handle: JoinHandle<T>) -> bool {
    handle.kill();
    handle.join().is_err_and(|payload| payload.is::<Killed>())
}

#[test]
fn a_wait_for_a_mutex() {
    deadline(20, || {
        let mutex = Rc::new(Mutex::new(0));
        let waiter = || {
            let mutex = mutex.clone();
            spawn(move || *mutex.lock().unwrap() += 1)
        };
        let guard = mutex.lock().unwrap();
        let [first, second, third] = [waiter(), waiter(), waiter()];
        yield_now();
        assert!(killed(second));
        assert!(timeout(SHORT, || drop(mutex.lock())).is_err(), "locked by ourselves");
        drop(guard);
        first.join().unwrap();
        third.join().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 2, "and it is not poisoned");
    });
}

#[test]
fn a_grant_that_came_first_counts() {
    deadline(20, || {
        let mutex = Rc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let mutex2 = mutex.clone();
        let waiter = spawn(move || {
            let mut guard = mutex2.lock().unwrap();
            *guard = 1; // it has been killed, and finds out at its next wait
            drop(guard);
            sleep(SHORT);
            unreachable!();
        });
        yield_now();
        drop(guard); // handed over
        assert!(waiter.kill_timeout(SHORT * 100));
        assert!(waiter.join().is_err());
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn one_who_was_handed_the_lock_and_dies_with_it_gives_it_back() {
    deadline(20, || {
        let mutex = Rc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let holder = spawn({
            let mutex = mutex.clone();
            move || {
                let _guard = mutex.lock().unwrap();
                sleep(Duration::from_secs(60));
            }
        });
        let next = spawn({
            let mutex = mutex.clone();
            move || mutex.lock().is_err()
        });
        yield_now();
        drop(guard);
        yield_now();
        assert!(killed(holder));
        assert!(next.join().unwrap(), "the kill unwound with the guard: poisoned");
    });
}

#[test]
fn a_writer_that_is_killed_lets_the_readers_behind_it_in() {
    deadline(20, || {
        let lock = Rc::new(RwLock::new(0));
        let guard = lock.read().unwrap();
        let writer = spawn({
            let lock = lock.clone();
            move || *lock.write().unwrap() = 1
        });
        yield_now();
        let readers: Vec<_> = (0..40)
            .map(|_| {
                let lock = lock.clone();
                spawn(move || *lock.read().unwrap())
            })
            .collect();
        yield_now();
        assert!(lock.try_read().is_err() && readers.iter().all(|reader| !reader.is_finished()));
        assert!(killed(writer));
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 0);
        }
        drop(guard);
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn a_reader_that_is_killed_leaves_the_others_alone() {
    deadline(20, || {
        let lock = Rc::new(RwLock::new(0));
        let guard = lock.write().unwrap();
        let reader = || {
            let lock = lock.clone();
            spawn(move || *lock.read().unwrap())
        };
        let [one, other] = [reader(), reader()];
        yield_now();
        assert!(killed(one));
        drop(guard);
        assert_eq!(other.join().unwrap(), 0);
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn a_wait_for_a_condvar_ends_without_the_mutex() {
    deadline(20, || {
        let pair = Rc::new((Mutex::new(0), Condvar::new()));
        let waiter = || {
            let pair = pair.clone();
            spawn(move || drop(pair.1.wait(pair.0.lock().unwrap())))
        };
        let [one, other] = [waiter(), waiter()];
        yield_now();
        let guard = pair.0.lock().unwrap();
        assert!(killed(one), "at once, though the mutex is locked");
        drop(guard);
        assert!(!pair.0.is_poisoned(), "it had given the mutex up");
        pair.1.notify_one();
        other.join().unwrap();
    });
}

#[test]
fn a_notification_is_not_lost_with_the_one_that_got_it() {
    deadline(20, || {
        let pair = Rc::new((Mutex::new(0), Condvar::new()));
        let waiter = || {
            let pair = pair.clone();
            spawn(move || drop(pair.1.wait(pair.0.lock().unwrap())))
        };
        let [first, second] = [waiter(), waiter()];
        yield_now();
        let guard = pair.0.lock().unwrap();
        pair.1.notify_one();
        yield_now(); // the first one has been notified, and waits for the mutex
        assert!(killed(first));
        drop(guard);
        second.join().unwrap();
    });
}

#[test]
fn a_time_limit_around_a_condvar() {
    deadline(20, || {
        let (mutex, condvar) = (Mutex::new(7), Condvar::new());
        let result = timeout(SHORT, || {
            let guard = mutex.lock().unwrap();
            condvar.wait_while(guard, |_| true).map(|guard| *guard).unwrap()
        });
        assert!(result.is_err());
        assert_eq!(*mutex.lock().unwrap(), 7);
    });
}

#[test]
fn one_who_is_killed_at_a_barrier_has_not_come() {
    deadline(20, || {
        let barrier = Rc::new(Barrier::new(3));
        let waiter = || {
            let barrier = barrier.clone();
            spawn(move || barrier.wait().is_leader())
        };
        let [one, other] = [waiter(), waiter()];
        yield_now();
        assert!(killed(one));
        let third = waiter();
        yield_now();
        assert!(!other.is_finished() && !third.is_finished());
        assert!(barrier.wait().is_leader());
        assert!(!other.join().unwrap() && !third.join().unwrap());
    });
}

#[test]
fn initializers() {
    deadline(20, || {
        // A kill in the middle poisons a Once, as a panic does, and leaves a OnceLock for the next.
        let once = Rc::new((Once::new(), OnceLock::new()));
        let both = once.clone();
        let doer = spawn(move || both.0.call_once(|| sleep(Duration::from_secs(60))));
        let both = once.clone();
        let setter = spawn(move || {
            both.1.get_or_init(|| {
                sleep(Duration::from_secs(60));
                1
            });
        });
        yield_now();
        // One who waits for it may be killed, too.
        let both = once.clone();
        let waiter = spawn(move || both.0.call_once(|| unreachable!()));
        let both = once.clone();
        let next = spawn(move || *both.1.get_or_init(|| 2));
        yield_now();
        assert!(killed(waiter) && killed(doer) && killed(setter));
        assert_eq!(next.join().unwrap(), 2);
        once.0.call_once_force(|state| assert!(state.is_poisoned()));

        let lazy = LazyLock::<u8>::new(|| {
            sleep(Duration::from_secs(60));
            1
        });
        assert!(timeout(SHORT, || *lazy).is_err());
        let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| *lazy));
        assert!(payload.is_err(), "poisoned");
    });
}

#[test]
fn a_request_for_many_permits_that_is_killed_lets_the_small_ones_in() {
    deadline(20, || {
        let semaphore = Arc::new(Semaphore::new(2));
        let one = semaphore.acquire();
        let large = spawn({
            let semaphore = semaphore.clone();
            move || drop(semaphore.acquire_many(2))
        });
        yield_now();
        let small = spawn({
            let semaphore = semaphore.clone();
            move || drop(semaphore.acquire())
        });
        yield_now();
        assert!(!small.is_finished() && semaphore.try_acquire().is_none(), "nobody overtakes");
        assert!(killed(large));
        small.join().unwrap();
        drop(one);
        assert_eq!(semaphore.available_permits(), 2);
    });
}

#[test]
fn a_permit_goes_back_when_its_coroutine_is_killed() {
    deadline(20, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.acquire_owned();
        let holder = spawn(move || {
            let _permit = permit;
            sleep(Duration::from_secs(60));
        });
        yield_now();
        assert_eq!(semaphore.available_permits(), 0);
        assert!(killed(holder));
        assert_eq!(semaphore.available_permits(), 1);
    });
}

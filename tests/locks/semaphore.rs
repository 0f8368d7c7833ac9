//! Semaphore.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::error::TooManyPermits;
use greenling::sync::{Arc, Semaphore};
use greenling::{join_all, spawn, yield_now};

use crate::common::deadline;

const SHORT: Duration = Duration::from_millis(10);

#[test]
fn permits_are_taken_and_given_back() {
    static THREE: Semaphore = Semaphore::new(3);
    deadline(20, || {
        let one = THREE.acquire();
        let two = THREE.acquire_many(2);
        assert_eq!((one.permits(), two.permits(), THREE.available_permits()), (1, 2, 0));
        assert!(THREE.try_acquire().is_none());
        let begin = Instant::now();
        assert!(THREE.acquire_timeout(SHORT).is_none() && begin.elapsed() >= SHORT);
        assert!(THREE.acquire_timeout(Duration::ZERO).is_none());
        drop(two);
        assert!(THREE.try_acquire_many(3).is_none());
        assert_eq!(THREE.try_acquire_many(2).unwrap().permits(), 2);
        assert!(THREE.acquire_many_timeout(2, Duration::MAX).is_some());
        assert_eq!(THREE.acquire_many(0).permits(), 0);
        assert_eq!(THREE.available_permits(), 2);
        drop(one);
        assert_eq!(THREE.available_permits(), 3);
    });
}

#[test]
fn in_the_order_of_arrival_whatever_they_ask_for() {
    deadline(20, || {
        let semaphore = Rc::new(Semaphore::new(0));
        let order = Rc::new(RefCell::new(Vec::new()));
        let all: Vec<_> = [2, 1, 3, 1, 1]
            .into_iter()
            .enumerate()
            .map(|(n, permits)| {
                let (semaphore, order) = (semaphore.clone(), order.clone());
                spawn(move || {
                    semaphore.acquire_many(permits).forget();
                    order.borrow_mut().push(n);
                })
            })
            .collect();
        let mut seen = Vec::new();
        for _ in 0..8 {
            yield_now();
            assert!(semaphore.try_acquire().is_none(), "nobody overtakes those who wait");
            semaphore.add_permits(1).unwrap();
            yield_now();
            yield_now();
            seen.push(order.borrow().len());
        }
        assert_eq!(seen, [0, 1, 2, 2, 2, 3, 4, 5]);
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4]);
        join_all(all);
    });
}

#[test]
fn many_are_let_in_at_once() {
    deadline(20, || {
        let semaphore = Rc::new(Semaphore::new(0));
        let all: Vec<_> = (0..100)
            .map(|_| {
                let semaphore = semaphore.clone();
                spawn(move || semaphore.acquire().forget())
            })
            .collect();
        yield_now();
        semaphore.add_permits(100).unwrap();
        assert_eq!(semaphore.available_permits(), 0, "handed over already");
        join_all(all);
        assert_eq!(semaphore.available_permits(), 0);
    });
}

#[test]
fn over_release_is_an_error_for_a_bounded_one() {
    deadline(20, || {
        let bounded = Semaphore::bounded(2);
        assert!(bounded.add_permits(1).is_err());
        let permit = bounded.acquire();
        assert!(bounded.add_permits(1).is_err(), "that one will come back");
        permit.forget();
        assert!(bounded.add_permits(2).is_err(), "all or none");
        assert_eq!(bounded.available_permits(), 1);
        assert_eq!(bounded.add_permits(1), Ok(()));
        assert_eq!(bounded.available_permits(), 2);
        assert_eq!(bounded.add_permits(0), Ok(()));

        let open = Semaphore::new(0);
        open.add_permits(Semaphore::MAX_PERMITS).unwrap();
        assert!(open.add_permits(1).is_err());
        assert!(open.add_permits(usize::MAX).is_err());
        assert_eq!(open.available_permits(), Semaphore::MAX_PERMITS);
        drop(open.acquire_many(Semaphore::MAX_PERMITS));
        assert!(open.try_acquire_many(usize::MAX).is_none());
        let error: TooManyPermits = open.add_permits(1).unwrap_err();
        assert_eq!(error.to_string(), "more permits than the semaphore may have");
    });
}

#[test]
#[should_panic(expected = "more permits are asked for than the semaphore may have")]
fn to_wait_for_more_than_there_will_ever_be_is_a_panic() {
    drop(Semaphore::bounded(2).acquire_many(3));
}

#[test]
#[should_panic(expected = "too many permits")]
fn there_is_a_limit() {
    let _ = Semaphore::new(Semaphore::MAX_PERMITS + 1);
}

#[test]
fn owned_permits_go_anywhere() {
    deadline(20, || {
        let semaphore = Arc::new(Semaphore::new(4));
        let mut permits = semaphore.acquire_many_owned(3);
        let one = permits.split(1).unwrap();
        assert!(permits.split(3).is_none());
        assert_eq!((permits.permits(), one.permits()), (2, 1));
        assert!(semaphore.try_acquire_many_owned(2).is_none());
        let last = semaphore.try_acquire_owned().unwrap();
        assert!(semaphore.acquire_owned_timeout(SHORT).is_none());
        std::thread::spawn(move || drop(one)).join().unwrap();
        assert_eq!(semaphore.available_permits(), 1);
        spawn(move || drop(permits)).join().unwrap();
        drop(last);
        assert_eq!(semaphore.available_permits(), 4);
        let owned = semaphore.acquire_owned();
        drop(semaphore);
        assert_eq!(format!("{owned:?}"), "OwnedSemaphorePermit { permits: 1, .. }");
        drop(owned);
    });
}

#[test]
fn a_permit_of_another_thread_ends_a_wait() {
    deadline(20, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.acquire_owned();
        let giver = std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            drop(permit);
        });
        assert!(semaphore.acquire_timeout(Duration::from_secs(15)).is_some());
        giver.join().unwrap();
        assert_eq!(format!("{semaphore:?}"), "Semaphore { available_permits: 1, .. }");
    });
}

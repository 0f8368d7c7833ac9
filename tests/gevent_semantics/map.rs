//! map, imap and imap_unordered of pools and groups.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use greenling::pool::{Group, Pool};
use greenling::{sleep, spawn, timeout, yield_now};

use crate::common::deadline;
use crate::{Ended, LONG, SHORT, fail, outcome};

/// Takes longer for smaller numbers.
fn slow_double(n: u64) -> u64 {
    sleep(Duration::from_micros(1000 - 50 * n));
    2 * n
}

#[test]
fn results_come_in_the_order_of_the_items() {
    deadline(20, || {
        let expected: Vec<u64> = (0..20).map(|n| 2 * n).collect();
        for size in [1, 3, 50] {
            let pool = Pool::new(size);
            let all = pool.map(0..20, slow_double).into_iter().map(Result::unwrap);
            assert!(all.eq(expected.iter().copied()));
            assert!(pool.imap(0..20, slow_double).map(Result::unwrap).eq(expected.iter().copied()));
            assert_eq!(pool.free_slots(), size);
        }
        let group = Group::new();
        assert!(group.map(0..20, slow_double).into_iter().map(Result::unwrap).eq(expected.clone()));
        assert!(group.imap(0..20, slow_double).map(Result::unwrap).eq(expected));
        assert!(group.map(Vec::<u8>::new(), |n| n).is_empty());
        assert!(group.imap(Vec::<u8>::new(), |n| n).next().is_none());
        assert!(group.imap_unordered(Vec::<u8>::new(), |n| n).next().is_none());
    });
}

#[test]
fn unordered_results_come_as_they_are_ready_each_with_its_number() {
    deadline(20, || {
        let pool = Pool::new(10);
        let pauses = [30, 1, 20, 10];
        let order: Vec<usize> = pool
            .imap_unordered(pauses, |ms| sleep(Duration::from_millis(ms)))
            .map(|(number, result)| {
                result.unwrap();
                number
            })
            .collect();
        assert_eq!(order, [1, 3, 2, 0]);
        let numbers: BTreeSet<usize> =
            Pool::new(3).imap_unordered(0..100, |n| n % 7).map(|(number, _)| number).collect();
        assert!(numbers.into_iter().eq(0..100));
    });
}

#[test]
fn a_panic_is_its_items_error_and_the_rest_goes_on() {
    deadline(20, || {
        let pool = Pool::new(2);
        let odd = |n: u8| if n % 2 == 1 { fail("odd") } else { n };
        let expected = [
            Ended::Returned(0),
            Ended::Panicked("odd"),
            Ended::Returned(2),
            Ended::Panicked("odd"),
            Ended::Returned(4),
        ];
        assert!(pool.map(0..5, odd).into_iter().map(outcome).eq(expected));
        let count = pool.imap(0..5, odd).map(outcome).filter(|end| *end == Ended::Panicked("odd"));
        assert_eq!(count.count(), 2);
        let mut unordered: Vec<_> = pool
            .imap_unordered(0..5, odd)
            .map(|(number, result)| (number, result.is_ok()))
            .collect();
        unordered.sort_unstable();
        assert_eq!(unordered, [(0, true), (1, false), (2, true), (3, false), (4, true)]);
        assert_eq!(pool.free_slots(), 2);
    });
}

#[test]
fn a_killed_worker_is_its_items_error_too() {
    deadline(20, || {
        let pool = Pool::new(4);
        let killer = pool.clone();
        greenling::spawn_later(SHORT, move || killer.kill());
        let slow = |n: u8| {
            if n == 1 {
                sleep(LONG)
            }
        };
        let ends: Vec<_> = pool.map(0..3, slow).into_iter().map(outcome).collect();
        assert_eq!(ends, [Ended::Returned(()), Ended::Killed, Ended::Returned(())]);
        let killer = pool.clone();
        greenling::spawn_later(SHORT, move || killer.kill());
        assert_eq!(
            pool.imap_unordered(0..3, slow).filter(|(_, result)| result.is_err()).count(),
            1
        );
    });
}

#[test]
fn work_goes_on_while_results_are_read_and_no_further_than_needed() {
    deadline(20, || {
        let pool = Pool::new(4);
        let started = Rc::new(Cell::new(0));
        let count = started.clone();
        let mut results = pool.imap(0_u64.., move |n| {
            count.set(count.get() + 1);
            n
        });
        sleep(SHORT);
        let ahead = started.get();
        assert!((4..=2 * 4 + 2).contains(&ahead), "{ahead} of endless items have begun");
        for n in 0..50 {
            assert_eq!(results.next().unwrap().unwrap(), n);
            sleep(Duration::ZERO);
            yield_now();
        }
        assert!(started.get() <= 50 + 2 * 4 + 2);
        drop(results);

        let count = started.clone();
        started.set(0);
        let mut results = pool.imap_unordered(0_u64.., move |_| count.set(count.get() + 1));
        sleep(SHORT);
        assert!((4..=3 * 4).contains(&started.get()), "{started:?}");
        assert!(results.by_ref().take(100).all(|(_, result)| result.is_ok()));
    });
}

#[test]
fn dropping_the_iterator_ends_the_work() {
    deadline(20, || {
        let pool = Pool::new(3);
        let mut results = pool.imap(0.., |n| {
            if n > 0 {
                sleep(LONG)
            }
        });
        results.next().unwrap().unwrap();
        drop(results);
        assert!(pool.join_timeout(LONG));
        let mut results = pool.imap_unordered(0.., |n| {
            if n > 0 {
                sleep(LONG)
            }
        });
        results.next().unwrap().1.unwrap();
        drop(results);
        assert!(pool.join_timeout(LONG));
        assert_eq!(pool.free_slots(), 3);
        // Of a group: without a limit, but it ends as well.
        let group = Group::new();
        drop(group.imap(0.., |_| sleep(LONG)));
        yield_now();
        assert!(group.join_timeout(LONG));
    });
}

#[test]
fn a_time_limit_ends_the_work_too() {
    deadline(20, || {
        let pool = Pool::new(2);
        assert!(timeout(SHORT, || pool.map(0..5, |_| sleep(LONG))).is_err());
        assert!(pool.join_timeout(LONG));
        assert!(timeout(SHORT, || pool.imap(0..5, |_| sleep(LONG)).count()).is_err());
        assert!(pool.join_timeout(LONG));
        assert!(timeout(SHORT, || pool.imap_unordered(0..5, |_| sleep(LONG)).count()).is_err());
        assert!(pool.join_timeout(LONG));
        assert_eq!(pool.free_slots(), 2);
    });
}

#[test]
fn a_panic_of_the_items_iterator_comes_after_the_results() {
    deadline(20, || {
        let items = || (0..4).map(|n| if n == 3 { fail("no more items") } else { n });
        let pool = Pool::new(2);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let panics = |read: &dyn Fn()| {
            let payload = catch_unwind(AssertUnwindSafe(read)).unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"no more items"));
            assert_eq!(seen.take(), [0, 1, 2]);
        };
        panics(&|| pool.imap(items(), |n| n).for_each(|n| seen.borrow_mut().push(n.unwrap())));
        panics(&|| {
            pool.imap_unordered(items(), |n| n)
                .for_each(|(_, n)| seen.borrow_mut().push(n.unwrap()));
        });
        let payload = catch_unwind(AssertUnwindSafe(|| pool.map(items(), |n| n))).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"no more items"));
        assert!(pool.join_timeout(LONG));
    });
}

#[test]
fn items_may_come_from_an_iterator_that_waits() {
    deadline(20, || {
        let queue = Rc::new(greenling::queue::Queue::new());
        let pool = Pool::new(2);
        let items = queue.clone();
        let doubled = pool.imap(std::iter::from_fn(move || items.get().ok()), |n: u32| 2 * n);
        let feeder = spawn(move || {
            for n in 0..5 {
                sleep(Duration::from_millis(1));
                queue.put(n).unwrap();
            }
            queue.close();
        });
        assert!(doubled.map(Result::unwrap).eq([0, 2, 4, 6, 8]));
        feeder.join().unwrap();
    });
}

#[test]
fn a_worker_may_use_another_pool() {
    deadline(20, || {
        let (outer, inner) = (Pool::new(2), Pool::new(2));
        let sums = outer.map(0..6, move |n| {
            inner.map(0..n, |m| m).into_iter().map(Result::unwrap).sum::<u32>()
        });
        assert!(sums.into_iter().map(Result::unwrap).eq([0, 0, 1, 3, 6, 10]));
    });
}

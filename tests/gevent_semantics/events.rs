//! Event and AsyncResult.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenling::event::{AsyncResult, Event};
use greenling::{sleep, spawn, timeout, yield_now};

use crate::common::deadline;
use crate::{LONG, SHORT};

#[test]
fn setting_wakes_all_in_the_order_in_which_they_came() {
    deadline(20, || {
        let event = Rc::new(Event::new());
        let order = Rc::new(RefCell::new(Vec::new()));
        for number in 0..10 {
            let (event, order) = (event.clone(), order.clone());
            spawn(move || {
                event.wait();
                order.borrow_mut().push(number);
            });
        }
        yield_now();
        assert!(order.borrow().is_empty());
        event.set();
        yield_now();
        assert!(order.take().into_iter().eq(0..10));
    });
}

#[test]
fn once_set_nobody_waits_until_it_is_cleared() {
    deadline(20, || {
        let event = Event::new();
        assert!(!event.is_set());
        event.set();
        event.set();
        assert!(event.is_set());
        event.wait();
        assert!(event.wait_timeout(LONG));
        event.clear();
        event.clear();
        assert!(!event.is_set());
        assert!(!event.wait_timeout(Duration::ZERO));
    });
}

#[test]
fn setting_and_clearing_at_once_still_wakes_those_who_were_there() {
    deadline(20, || {
        let event = Rc::new(Event::new());
        let woken = [(); 5].map(|()| {
            let event = event.clone();
            spawn(move || event.wait_timeout(LONG))
        });
        yield_now();
        event.set();
        event.clear();
        let late = spawn({
            let event = event.clone();
            move || event.wait_timeout(SHORT)
        });
        assert!(woken.into_iter().all(|waiter| waiter.join().unwrap()), "with true");
        assert!(!late.join().unwrap(), "who came later was not meant");
    });
}

#[test]
fn a_timeout_says_no_and_takes_its_time() {
    deadline(20, || {
        let event = Rc::new(Event::new());
        let began = Instant::now();
        assert!(!event.wait_timeout(SHORT));
        assert!(began.elapsed() >= SHORT);
        let setter = event.clone();
        greenling::spawn_later(SHORT, move || setter.set());
        assert!(event.wait_timeout(LONG));
    });
}

#[test]
fn one_who_was_killed_does_not_keep_the_others_from_being_woken() {
    deadline(20, || {
        let event = Rc::new(Event::new());
        let waiters = [(); 3].map(|()| {
            let event = event.clone();
            spawn(move || event.wait())
        });
        yield_now();
        waiters[1].kill();
        event.set();
        let ended: Vec<bool> = waiters.into_iter().map(|waiter| waiter.join().is_ok()).collect();
        assert_eq!(ended, [true, false, true]);
    });
}

#[test]
fn a_waiter_may_wait_again_at_once() {
    deadline(20, || {
        let event = Rc::new(Event::new());
        let count = Rc::new(std::cell::Cell::new(0));
        let waiter = spawn({
            let (event, count) = (event.clone(), count.clone());
            move || loop {
                event.wait();
                event.clear();
                count.set(count.get() + 1);
            }
        });
        for round in 0..5 {
            yield_now();
            assert_eq!(count.get(), round);
            event.set();
        }
        waiter.kill();
    });
}

/// One sets and clears as fast as it can. Whoever waited at that time goes on: nobody is forgotten, and
/// nobody is let through twice by one setting.
#[test]
fn between_threads_every_round_lets_everyone_through_once() {
    deadline(60, || {
        const WAITERS: usize = 3;
        let (start, end) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let (waiting, through) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let rounds = 2_000;
        let threads: Vec<_> = (0..WAITERS)
            .map(|_| {
                let (start, end) = (start.clone(), end.clone());
                let (waiting, through) = (waiting.clone(), through.clone());
                std::thread::spawn(move || {
                    for _ in 0..rounds {
                        waiting.fetch_add(1, Ordering::SeqCst);
                        start.wait();
                        through.fetch_add(1, Ordering::SeqCst);
                        end.wait();
                    }
                })
            })
            .collect();
        for round in 1..=rounds {
            let all = round * WAITERS;
            while waiting.load(Ordering::SeqCst) < all {
                std::thread::yield_now();
            }
            end.clear();
            start.set();
            while through.load(Ordering::SeqCst) < all {
                std::thread::yield_now();
            }
            start.clear();
            end.set();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(through.load(Ordering::SeqCst), rounds * WAITERS);
    });
}

#[test]
fn setting_races_with_the_timeouts_of_those_who_wait() {
    deadline(60, || {
        for _ in 0..2_000 {
            let event = Arc::new(Event::new());
            let other = {
                let event = event.clone();
                let pause = fastrand::u32(..2000);
                std::thread::spawn(move || {
                    (0..pause).for_each(|_| std::hint::spin_loop());
                    event.set();
                })
            };
            let waiters = [(); 3].map(|()| {
                let (event, limit) = (event.clone(), Duration::from_micros(fastrand::u64(..100)));
                spawn(move || {
                    let seen = event.wait_timeout(limit);
                    assert!(!seen || event.is_set());
                    event.wait();
                })
            });
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            other.join().unwrap();
        }
    });
}

// ---- results ----------------------------------------------------------------------------------

#[test]
fn a_result_is_there_for_all_who_wait_and_all_who_come_later() {
    deadline(20, || {
        let result = Arc::new(AsyncResult::<String, ()>::new());
        let readers = [(); 3].map(|()| {
            let result = result.clone();
            spawn(move || result.get().unwrap().len())
        });
        yield_now();
        assert!(!result.is_ready() && result.try_get().is_none());
        assert_eq!(result.get_timeout(SHORT), None);
        result.set("value".to_owned()).unwrap();
        assert!(result.is_ready());
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() == 5));
        assert_eq!(result.get().unwrap(), "value");
        assert_eq!(result.get_timeout(Duration::ZERO), Some(Ok(&"value".to_owned())));
        assert_eq!(result.try_get(), Some(Ok(&"value".to_owned())));
    });
}

#[test]
fn an_error_is_a_result_too() {
    deadline(20, || {
        let result = Arc::new(AsyncResult::<(), &str>::new());
        let reader = spawn({
            let result = result.clone();
            move || result.get().copied().map_err(|error| *error)
        });
        yield_now();
        result.set_error("it went wrong").unwrap();
        assert_eq!(reader.join().unwrap(), Err("it went wrong"));
        let result = Arc::into_inner(result).unwrap();
        assert_eq!(result.into_inner(), Some(Err("it went wrong")));
    });
}

#[test]
fn it_is_set_once() {
    deadline(20, || {
        // gevent lets a later set replace the value; here it comes back.
        let result = AsyncResult::<u8, &str>::new();
        result.set(1).unwrap();
        assert_eq!(result.set(2), Err(2));
        assert_eq!(result.set_error("no"), Err("no"));
        assert_eq!(result.complete(Ok(3)), Err(Ok(3)));
        assert_eq!(result.get(), Ok(&1));
        assert_eq!(format!("{result:?}"), "AsyncResult(Some(Ok(1)))");
        assert_eq!(AsyncResult::<u8, ()>::from(Ok(4)).get(), Ok(&4));
    });
}

#[test]
fn one_of_many_threads_sets_it() {
    deadline(60, || {
        for _ in 0..300 {
            let result = Arc::new(AsyncResult::<usize, ()>::new());
            let setters: Vec<_> = (0..3)
                .map(|number| {
                    let result = result.clone();
                    std::thread::spawn(move || result.set(number).is_ok())
                })
                .collect();
            let reader = spawn({
                let result = result.clone();
                move || *result.get().unwrap()
            });
            let winner = reader.join().unwrap();
            let won: Vec<bool> = setters.into_iter().map(|setter| setter.join().unwrap()).collect();
            assert_eq!(won.iter().filter(|won| **won).count(), 1);
            assert!(won[winner]);
        }
    });
}

#[test]
fn a_kill_or_a_time_limit_leaves_the_result_alone() {
    deadline(20, || {
        let result = Arc::new(AsyncResult::<u8, ()>::new());
        let reader = spawn({
            let result = result.clone();
            move || *result.get().unwrap()
        });
        yield_now();
        reader.kill();
        assert!(timeout(SHORT, || result.get()).is_err());
        result.set(1).unwrap();
        assert_eq!(result.get(), Ok(&1));
        sleep(Duration::ZERO);
    });
}

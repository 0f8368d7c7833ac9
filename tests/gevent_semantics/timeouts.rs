//! Time limits around any code.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::event::Event;
use greenling::queue::Queue;
use greenling::select::Select;
use greenling::{sleep, spawn, timeout, yield_now};

use crate::common::deadline;
use crate::killing::waits;
use crate::{LONG, SHORT, fail, outcome};

#[test]
fn code_that_returns_in_time_keeps_its_value() {
    deadline(20, || {
        assert_eq!(timeout(LONG, || 1), Ok(1));
        assert_eq!(
            timeout(LONG, || {
                sleep(Duration::from_millis(1));
                2
            }),
            Ok(2)
        );
        // The limit is gone with its scope.
        assert_eq!(timeout(SHORT, || 3), Ok(3));
        sleep(2 * SHORT);
    });
}

#[test]
fn code_that_does_not_wait_is_not_interrupted() {
    deadline(20, || {
        let busy = || {
            let began = Instant::now();
            while began.elapsed() < 2 * SHORT {
                std::hint::spin_loop();
            }
            "late"
        };
        assert_eq!(timeout(SHORT, busy), Ok("late"), "a value that came late is a value");
    });
}

#[test]
fn zero_ends_the_first_wait() {
    deadline(20, || {
        let step = Rc::new(Cell::new(0));
        let inner = step.clone();
        let ended = timeout(Duration::ZERO, move || {
            inner.set(1);
            sleep(Duration::from_nanos(1));
            inner.set(2);
        });
        assert_eq!((ended.is_err(), step.get()), (true, 1));
    });
}

#[test]
fn each_limit_unwinds_to_its_own_scope() {
    deadline(20, || {
        // The outer one fires through the inner one.
        let inner_seen = Rc::new(Cell::new(false));
        let flag = inner_seen.clone();
        let outer = timeout(SHORT, move || {
            let inner = timeout(LONG, || sleep(LONG));
            flag.set(true);
            inner
        });
        assert!(outer.is_err() && !inner_seen.get());

        // The inner one fires, the outer one does not notice.
        let outer = timeout(LONG, || timeout(SHORT, || sleep(LONG)).is_err());
        assert_eq!(outer, Ok(true));

        // One after the other.
        let outer = timeout(4 * SHORT, || {
            assert!(timeout(SHORT, || sleep(LONG)).is_err());
            sleep(LONG);
        });
        assert!(outer.is_err());
    });
}

#[test]
fn limits_of_the_same_length_end_with_the_outer_one() {
    deadline(20, || {
        for _ in 0..20 {
            let outer = timeout(Duration::from_millis(2), || {
                let inner = timeout(Duration::from_millis(2), || sleep(LONG));
                sleep(LONG);
                inner
            });
            assert!(outer.is_err());
        }
    });
}

#[test]
fn a_limit_is_the_coroutines_own() {
    deadline(20, || {
        let done = timeout(SHORT, || {
            let child = spawn(|| {
                sleep(3 * SHORT);
                "not mine"
            });
            timeout(LONG, yield_now).unwrap();
            child
        });
        // The child outlives the limit of the one that has spawned it.
        assert_eq!(done.unwrap().join().unwrap(), "not mine");
    });
}

#[test]
fn a_kill_goes_through_a_limit_and_a_panic_too() {
    deadline(20, || {
        let victim = spawn(|| timeout(LONG, || sleep(LONG)).is_err());
        yield_now();
        victim.kill();
        assert_eq!(outcome(victim.join()), crate::Ended::Killed);
        let broken = spawn(|| timeout(LONG, || -> () { fail("inside") }));
        assert_eq!(outcome(broken.join()), crate::Ended::Panicked("inside"));
    });
}

#[test]
fn destructors_run_and_what_was_waited_for_is_left_alone() {
    deadline(20, || {
        let queue = Rc::new(Queue::new());
        let event = Event::new();
        assert!(timeout(SHORT, || queue.get()).is_err());
        assert!(timeout(SHORT, || event.wait()).is_err());
        queue.put(1).unwrap();
        assert_eq!(queue.try_get(), Ok(1), "nobody stands in line any more");
        event.set();
        assert_eq!(timeout(SHORT, || event.wait()), Ok(()));
    });
}

#[test]
fn many_limits_at_once_fire_each_in_its_time() {
    deadline(20, || {
        let handles: Vec<_> = (1..=200_u32)
            .map(|n| {
                spawn(move || {
                    let began = Instant::now();
                    let limit = Duration::from_micros(100) * n;
                    assert!(timeout(limit, || sleep(LONG)).is_err());
                    assert!(began.elapsed() >= limit);
                })
            })
            .collect();
        greenling::join_all(handles).into_iter().for_each(Result::unwrap);
    });
}

/// Over any code: whatever it is that waits.
#[test]
fn every_wait_is_ended_by_a_limit_around_it() {
    deadline(60, || {
        for (name, wait) in waits() {
            let limited = spawn(move || timeout(SHORT / 5, || wait()).is_err());
            assert!(limited.join().unwrap(), "{name}");
        }
    });
}

/// A time past the end of the clock is none.
#[test]
fn for_ever_is_a_time_too() {
    deadline(20, || {
        const EVER: Duration = Duration::MAX;
        let event = Rc::new(Event::new());
        let wait = |f: fn(&Event)| {
            let event = event.clone();
            spawn(move || f(&event))
        };
        let all = [
            wait(|event| assert!(event.wait_timeout(EVER))),
            wait(|event| timeout(EVER, || event.wait()).unwrap()),
            wait(|event| Select::new().on(event, |()| ()).on(EVER, |()| unreachable!()).wait()),
            wait(|event| Select::new().on(event, |()| ()).wait_timeout(EVER).unwrap()),
        ];
        let [first, others @ ..] = all;
        let joining = spawn(move || first.join_timeout(EVER).unwrap().unwrap());
        let later = greenling::spawn_later(EVER, || ());
        yield_now();
        yield_now();
        event.set();
        others.into_iter().chain([joining]).for_each(|waiter| waiter.join().unwrap());
        later.kill();
    });
}

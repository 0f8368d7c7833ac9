//! Condvar and Barrier.

use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use super::sync::atomic::{AtomicUsize, Ordering};
use super::sync::{Arc, Barrier, BarrierWaitResult, Condvar, Mutex, WaitTimeoutResult};
use super::thread;
use crate::common::deadline;

const LONG: Duration = Duration::from_secs(50);
const SHORT: Duration = Duration::from_millis(15);

#[test]
fn a_wait_gives_the_mutex_away_and_takes_it_back() {
    deadline(60, || {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let other = pair.clone();
        let mut guard = pair.0.lock().unwrap();
        let notifier = thread::spawn(move || {
            *other.0.lock().unwrap() = 1; // only while the first one waits
            other.1.notify_one();
        });
        while *guard == 0 {
            guard = pair.1.wait(guard).unwrap();
        }
        assert!(pair.0.try_lock().is_err(), "it is locked again");
        drop(guard);
        notifier.join().unwrap();
    });
}

#[test]
fn notify_one_is_for_one_and_notify_all_for_all() {
    deadline(60, || {
        let pair = Arc::new((Mutex::new((0, 0)), Condvar::new()));
        let waiters: Vec<_> = (0..5)
            .map(|_| {
                let pair = pair.clone();
                thread::spawn(move || {
                    let mut guard = pair.0.lock().unwrap();
                    guard.0 += 1;
                    // Each takes one ticket.
                    let mut guard = pair.1.wait_while(guard, |state| state.1 == 0).unwrap();
                    guard.1 -= 1;
                })
            })
            .collect();
        while pair.0.lock().unwrap().0 < 5 {
            thread::yield_now();
        }
        pair.0.lock().unwrap().1 = 1;
        pair.1.notify_one();
        while pair.0.lock().unwrap().1 > 0 {
            thread::yield_now();
        }
        pair.0.lock().unwrap().1 = 4;
        pair.1.notify_all();
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(pair.0.lock().unwrap().1, 0);
    });
}

#[test]
fn a_notification_that_nobody_waits_for_is_lost() {
    deadline(60, || {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        condvar.notify_one();
        condvar.notify_all();
        let begin = Instant::now();
        // (It may wake for no reason.)
        let (_guard, result) =
            condvar.wait_timeout_while(mutex.lock().unwrap(), SHORT, |()| true).unwrap();
        assert!(result.timed_out() && begin.elapsed() >= SHORT);
    });
}

#[test]
fn a_wait_with_a_limit_says_how_it_ended() {
    deadline(60, || {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let (guard, result): (_, WaitTimeoutResult) =
            pair.1.wait_timeout(pair.0.lock().unwrap(), Duration::ZERO).unwrap();
        assert!(result.timed_out());
        assert_eq!(format!("{result:?}"), "WaitTimeoutResult(true)");
        drop(guard);
        let other = pair.clone();
        let notifier = thread::spawn(move || {
            thread::sleep(SHORT);
            *other.0.lock().unwrap() = true;
            other.1.notify_all();
        });
        let guard = pair.0.lock().unwrap();
        let (guard, result) = pair.1.wait_timeout_while(guard, LONG, |done| !*done).unwrap();
        assert!(!result.timed_out() && *guard);
        // Not at all, if there is no need to.
        let (guard, result) = pair.1.wait_timeout_while(guard, Duration::ZERO, |_| false).unwrap();
        assert!(!result.timed_out());
        // For longer than the clock can tell.
        let guard = pair.1.wait_timeout_while(guard, Duration::MAX, |_| false).unwrap().0;
        drop(guard);
        notifier.join().unwrap();
    });
}

#[test]
#[allow(deprecated, reason = "std has it")]
fn the_old_wait_in_milliseconds() {
    deadline(60, || {
        let (mutex, condvar) = (Mutex::new(1), Condvar::new());
        let (guard, notified) = condvar.wait_timeout_ms(mutex.lock().unwrap(), 1).unwrap();
        assert!(!notified && *guard == 1);
    });
}

#[test]
fn a_wait_ends_with_the_poison_of_the_mutex() {
    deadline(60, || {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let other = pair.clone();
        let waiter = thread::spawn(move || {
            let mut guard = other.0.lock().unwrap();
            *guard = true;
            let one = other.1.wait_while(guard, |waiting| *waiting).is_err();
            let guard = other.0.lock().unwrap_err().into_inner();
            let other = other.1.wait_timeout(guard, Duration::ZERO).unwrap_err();
            (one, other.into_inner().1.timed_out())
        });
        while !*pair.0.lock().unwrap() {
            thread::yield_now();
        }
        let other = pair.clone();
        let broken = thread::spawn(move || {
            let mut guard = other.0.lock().unwrap();
            *guard = false;
            other.1.notify_all();
            resume_unwind(Box::new(()));
        });
        assert!(broken.join().is_err());
        assert_eq!(waiter.join().unwrap(), (true, true));
    });
}

#[test]
fn a_queue_of_mutex_and_condvar() {
    deadline(60, || {
        let queue = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let consumers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || {
                    let mut sum = 0;
                    loop {
                        let guard = queue.0.lock().unwrap();
                        let mut guard =
                            queue.1.wait_while(guard, |items| items.is_empty()).unwrap();
                        match guard.pop().unwrap() {
                            0 => return sum,
                            n => sum += n,
                        }
                    }
                })
            })
            .collect();
        for n in 1..=1000_u64 {
            queue.0.lock().unwrap().insert(0, n);
            queue.1.notify_one();
        }
        queue.0.lock().unwrap().splice(0..0, [0, 0, 0]);
        queue.1.notify_all();
        let sum: u64 = consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum();
        assert_eq!(sum, 500_500);
    });
}

#[test]
fn statics_and_what_they_print() {
    static CONDVAR: Condvar = Condvar::new();
    static BARRIER: Barrier = Barrier::new(1);
    deadline(60, || {
        assert_eq!(format!("{CONDVAR:?} {BARRIER:?}"), "Condvar { .. } Barrier { .. }");
        let result: BarrierWaitResult = BARRIER.wait();
        assert_eq!(format!("{result:?}"), "BarrierWaitResult { is_leader: true }");
        Condvar::default().notify_all();
    });
}

#[test]
fn a_barrier_lets_nobody_through_before_all_have_come_and_has_one_leader_a_round() {
    const N: usize = 7;
    const ROUNDS: usize = 30;
    deadline(60, || {
        let barrier = Arc::new(Barrier::new(N));
        let (came, led) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..N)
            .map(|_| {
                let (barrier, came, led) = (barrier.clone(), came.clone(), led.clone());
                thread::spawn(move || {
                    for round in 1..=ROUNDS {
                        came.fetch_add(1, Ordering::SeqCst);
                        if barrier.wait().is_leader() {
                            led.fetch_add(1, Ordering::SeqCst);
                        }
                        assert!(came.load(Ordering::SeqCst) >= round * N);
                        barrier.wait();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(led.load(Ordering::SeqCst), ROUNDS);
    });
}

#[test]
fn a_barrier_for_nobody_or_one_lets_everyone_through() {
    deadline(60, || {
        assert!(Barrier::new(0).wait().is_leader());
        let one = Barrier::new(1);
        assert!(one.wait().is_leader() && one.wait().is_leader());
    });
}

//! Who is next.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greenling::sync::{Arc, Condvar, Mutex, RwLock};
use greenling::{sleep, spawn, yield_now};

use crate::common::deadline;

#[test]
fn on_one_thread_a_mutex_goes_to_the_longest_waiter() {
    deadline(20, || {
        let mutex = Rc::new(Mutex::new(Vec::new()));
        let mut guard = mutex.lock().unwrap();
        let waiters: Vec<_> = (1..=20)
            .map(|n| {
                let mutex = mutex.clone();
                spawn(move || mutex.lock().unwrap().push(n))
            })
            .collect();
        yield_now();
        guard.push(0);
        drop(guard);
        // It has been handed over: who comes now is behind them.
        assert!(mutex.try_lock().is_err());
        mutex.lock().unwrap().push(21);
        assert!(mutex.lock().unwrap().iter().copied().eq(0..=21));
        greenling::join_all(waiters);
    });
}

#[test]
fn one_that_locks_again_and_again_starves_nobody() {
    deadline(20, || {
        let mutex = Rc::new(Mutex::new(()));
        let stop = Rc::new(Cell::new(false));
        let greedy = spawn({
            let (mutex, stop) = (mutex.clone(), stop.clone());
            move || {
                while !stop.get() {
                    let _guard = mutex.lock().unwrap();
                    sleep(Duration::from_millis(1));
                }
            }
        });
        yield_now();
        for _ in 0..20 {
            drop(mutex.lock().unwrap());
        }
        stop.set(true);
        greedy.join().unwrap();
    });
}

#[test]
fn nor_does_one_of_another_thread() {
    deadline(60, || {
        let mutex = Arc::new(Mutex::new(()));
        let stop = Arc::new(AtomicBool::new(false));
        let greedy = std::thread::spawn({
            let (mutex, stop) = (mutex.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let _guard = mutex.lock().unwrap();
                    // Held nearly all the time, by one who is always there before us.
                    let begin = Instant::now();
                    while begin.elapsed() < Duration::from_micros(300) {}
                }
            }
        });
        sleep(Duration::from_millis(10));
        for _ in 0..20 {
            drop(mutex.lock().unwrap());
        }
        stop.store(true, Ordering::Relaxed);
        greedy.join().unwrap();
    });
}

#[test]
fn readers_do_not_starve_a_writer_nor_it_them() {
    deadline(20, || {
        let lock = Rc::new(RwLock::new(()));
        let order = Rc::new(RefCell::new(Vec::new()));
        let first = lock.read().unwrap();
        let start = |name: &'static str| {
            let (lock, order) = (lock.clone(), order.clone());
            spawn(move || {
                if name.starts_with('w') {
                    let _guard = lock.write().unwrap();
                    order.borrow_mut().push(name);
                    yield_now();
                } else {
                    let _guard = lock.read().unwrap();
                    order.borrow_mut().push(name);
                    yield_now();
                }
            })
        };
        let all = ["w1", "r1", "r2", "w2", "w3", "r3"].map(start);
        yield_now();
        assert!(lock.try_read().is_err(), "behind a writer");
        assert!(order.borrow().is_empty());
        drop(first);
        greenling::join_all(all);
        assert_eq!(*order.borrow(), ["w1", "r1", "r2", "w2", "w3", "r3"]);
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn notifications_go_to_the_longest_waiter() {
    deadline(20, || {
        let pair = Rc::new((Mutex::new(Vec::new()), Condvar::new()));
        let waiters: Vec<_> = (0..10)
            .map(|n| {
                let pair = pair.clone();
                spawn(move || pair.1.wait(pair.0.lock().unwrap()).unwrap().push(n))
            })
            .collect();
        yield_now();
        for _ in 0..10 {
            pair.1.notify_one();
        }
        greenling::join_all(waiters);
        assert!(pair.0.lock().unwrap().iter().copied().eq(0..10));
    });
}

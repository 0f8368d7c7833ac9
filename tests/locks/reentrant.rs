//! ReentrantMutex.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use greenling::generator::{Generator, Yielder};
use greenling::sync::{Arc, ReentrantMutex};
use greenling::{sleep, spawn, timeout, yield_now};

use crate::common::deadline;

#[test]
fn its_holder_locks_it_again_and_others_wait_for_the_last_guard() {
    deadline(20, || {
        let mutex = Rc::new(ReentrantMutex::new(Cell::new(0)));
        assert!(!mutex.is_held());
        let (first, second) = (mutex.lock(), mutex.lock());
        let third = mutex.try_lock().unwrap();
        assert!(mutex.is_held());
        let other = mutex.clone();
        let waiter = spawn(move || {
            assert!(!other.is_held() && other.try_lock().is_none());
            other.lock().set(2);
        });
        // In any order.
        for guard in [second, first, third] {
            yield_now();
            assert!(!waiter.is_finished());
            assert_eq!(guard.get(), 0);
            drop(guard);
        }
        waiter.join().unwrap();
        assert_eq!(mutex.lock().get(), 2);
        assert_eq!(Rc::into_inner(mutex).unwrap().into_inner().get(), 2);
    });
}

#[test]
fn the_owner_is_the_coroutine_and_not_the_thread() {
    deadline(20, || {
        let mutex = Rc::new(ReentrantMutex::new(RefCell::new(Vec::new())));
        let workers: Vec<_> = (0..10)
            .map(|n| {
                let mutex = mutex.clone();
                spawn(move || {
                    let outer = mutex.lock();
                    outer.borrow_mut().push(n);
                    yield_now();
                    mutex.lock().borrow_mut().push(n);
                })
            })
            .collect();
        greenling::join_all(workers);
        let all = mutex.lock().take();
        assert!(all.chunks(2).all(|pair| pair[0] == pair[1]), "{all:?}");
    });
}

#[test]
fn generators_belong_to_the_coroutine_that_they_run_in() {
    deadline(20, || {
        let mutex = Rc::new(ReentrantMutex::new(()));
        let _guard = mutex.lock();
        let inner = mutex.clone();
        let mut numbers = Generator::new(move |me: &Yielder<(), i32>, ()| {
            let _guard = inner.lock();
            me.yield_(1);
        });
        assert_eq!(numbers.next(), Some(1));
    });
}

#[test]
fn it_is_not_poisoned_and_a_killed_wait_ends_without_it() {
    deadline(20, || {
        let mutex = Rc::new(ReentrantMutex::new(()));
        let holder = spawn({
            let mutex = mutex.clone();
            move || {
                let _guards = (mutex.lock(), mutex.lock());
                sleep(Duration::from_secs(60));
            }
        });
        yield_now();
        assert!(timeout(Duration::from_millis(5), || drop(mutex.lock())).is_err());
        assert!(mutex.try_lock().is_none());
        holder.kill();
        assert!(mutex.try_lock().is_some());
    });
}

#[test]
fn between_threads() {
    deadline(60, || {
        let mutex = Arc::new(ReentrantMutex::new(Cell::new(0)));
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let mutex = mutex.clone();
                std::thread::spawn(move || {
                    let work = move || {
                        for _ in 0..300 {
                            let one = mutex.lock();
                            let before = one.get();
                            if before % 5 == 0 {
                                yield_now();
                            }
                            mutex.lock().set(before + 1);
                        }
                    };
                    if n == 0 {
                        return work(); // a plain thread
                    }
                    for coroutine in [spawn(work.clone()), spawn(work)] {
                        coroutine.join().unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(mutex.lock().get(), 5 * 300);
    });
}

#[test]
fn what_it_prints() {
    deadline(20, || {
        let mutex = Arc::new(ReentrantMutex::from(5));
        let guard = mutex.lock();
        // Its holder may look inside.
        assert_eq!(format!("{mutex:?} {guard:?} {guard}"), "ReentrantMutex { data: 5, .. } 5 5");
        let other = mutex.clone();
        let seen = spawn(move || format!("{other:?}")).join().unwrap();
        assert_eq!(seen, "ReentrantMutex { data: <locked>, .. }");
    });
}

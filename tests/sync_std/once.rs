//! Once, OnceLock, LazyLock.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use super::sync::atomic::{AtomicUsize, Ordering};
use super::sync::{Arc, LazyLock, Once, OnceLock, OnceState};
use super::thread;
use crate::common::deadline;

/// What a panic says, that `f` ends with.
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("it does not panic") };
    match payload.downcast::<&str>() {
        Ok(text) => (*text).to_owned(),
        Err(payload) => *payload.downcast::<String>().expect("a message"),
    }
}

fn unwind() {
    resume_unwind(Box::new("on purpose"));
}

#[test]
fn once_is_once_and_everybody_waits_for_it() {
    static ONCE: Once = Once::new();
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    deadline(60, || {
        assert!(!ONCE.is_completed());
        let threads: Vec<_> = (0..10)
            .map(|_| {
                thread::spawn(|| {
                    ONCE.call_once(|| {
                        thread::sleep(Duration::from_millis(10));
                        CALLS.fetch_add(1, Ordering::SeqCst);
                    });
                    assert_eq!(CALLS.load(Ordering::SeqCst), 1);
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(ONCE.is_completed());
        ONCE.call_once(|| unreachable!());
        ONCE.call_once_force(|_| unreachable!());
    });
}

#[test]
fn a_call_that_unwinds_poisons_until_one_is_forced() {
    deadline(60, || {
        let once = Once::new();
        assert_eq!(panic_of(|| once.call_once(unwind)), "on purpose");
        assert!(!once.is_completed());
        assert_eq!(
            panic_of(|| once.call_once(|| unreachable!())),
            "Once instance has previously been poisoned"
        );
        let see = |state: &OnceState| {
            assert!(state.is_poisoned());
            unwind();
        };
        assert_eq!(panic_of(|| once.call_once_force(see)), "on purpose");
        once.call_once_force(|state| assert!(state.is_poisoned()));
        assert!(once.is_completed());
        once.call_once(|| unreachable!());
        Once::new().call_once_force(|state| {
            assert!(!state.is_poisoned());
            assert_eq!(format!("{state:?}"), "OnceState { poisoned: false }");
        });
        assert_eq!(format!("{once:?}"), "Once { .. }");
    });
}

#[test]
fn one_who_waits_for_a_call_that_unwinds_panics() {
    deadline(60, || {
        let once = Arc::new(Once::new());
        let other = once.clone();
        let broken = thread::spawn(move || {
            other.call_once(|| {
                thread::sleep(Duration::from_millis(20));
                unwind();
            });
        });
        thread::sleep(Duration::from_millis(5));
        // Whether it comes before, during, or after.
        let _ = catch_unwind(AssertUnwindSafe(|| once.call_once(|| ())));
        let _ = broken.join();
    });
}

#[test]
fn a_once_lock_is_set_once() {
    deadline(60, || {
        let lock = OnceLock::new();
        assert_eq!(lock.get(), None);
        assert_eq!(lock.set(1), Ok(()));
        assert_eq!(lock.set(2), Err(2));
        assert_eq!(lock.get(), Some(&1));
        assert_eq!(lock.get_or_init(|| unreachable!()), &1);
        let mut lock = lock;
        *lock.get_mut().unwrap() = 5;
        assert_eq!(lock.clone(), lock);
        assert_eq!(lock.take(), Some(5));
        assert_eq!(lock.get(), None);
        assert_eq!(lock.take(), None);
        assert_eq!(*lock.get_or_init(|| 6), 6);
        assert_eq!(lock.into_inner(), Some(6));
        assert_ne!(OnceLock::from(1), OnceLock::new());
        assert_eq!(OnceLock::<u8>::default().into_inner(), None);
    });
}

#[test]
fn a_once_lock_prints_as_stds() {
    deadline(60, || {
        let lock: OnceLock<u8> = OnceLock::new();
        assert_eq!(format!("{lock:?} {:?}", OnceLock::from(3)), "OnceLock(<uninit>) OnceLock(3)");
    });
}

#[test]
fn several_who_initialize_get_the_value_of_one() {
    static LOCK: OnceLock<usize> = OnceLock::new();
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    deadline(60, || {
        let threads: Vec<_> = (0..10)
            .map(|n| {
                thread::spawn(move || {
                    let value = LOCK.get_or_init(|| {
                        CALLS.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(10));
                        n
                    });
                    (std::ptr::from_ref(value) as usize, *value)
                })
            })
            .collect();
        let values: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(values.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_once_lock_is_not_poisoned() {
    deadline(60, || {
        let lock = OnceLock::<u8>::new();
        assert_eq!(
            panic_of(|| *lock.get_or_init(|| {
                unwind();
                1
            })),
            "on purpose"
        );
        assert_eq!(lock.get(), None);
        assert_eq!(*lock.get_or_init(|| 2), 2);
        let lock = OnceLock::<u8>::new();
        assert_eq!(
            panic_of(|| *lock.get_or_init(|| {
                unwind();
                1
            })),
            "on purpose"
        );
        assert_eq!(lock.set(3), Ok(()));
    });
}

#[test]
fn a_lazy_lock_is_made_at_first_use() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static LAZY: LazyLock<Vec<u8>> = LazyLock::new(|| {
        CALLS.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(10));
        vec![1, 2, 3]
    });
    deadline(60, || {
        assert_eq!(format!("{LAZY:?}"), "LazyLock(<uninit>)");
        let threads: Vec<_> = (0..10).map(|_| thread::spawn(|| LAZY.len())).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 3);
        }
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
        assert_eq!(LazyLock::force(&LAZY), &[1, 2, 3]);
        assert_eq!(format!("{:?}", *LAZY), "[1, 2, 3]");
        assert_eq!(format!("{LAZY:?}"), "LazyLock([1, 2, 3])");
        assert_eq!(*LazyLock::<u8>::default(), 0);
        let borrowed = String::from("closures may borrow");
        assert_eq!(*LazyLock::new(|| borrowed.len()), 19);
    });
}

#[test]
fn a_lazy_lock_that_could_not_be_made_is_poisoned_for_good() {
    deadline(60, || {
        let lazy: LazyLock<u8> = LazyLock::new(|| {
            unwind();
            1
        });
        assert_eq!(panic_of(|| *lazy), "on purpose");
        for _ in 0..2 {
            let message = panic_of(|| *lazy);
            assert!(message.contains("has previously been poisoned"), "{message}");
        }
        assert_eq!(format!("{lazy:?}"), "LazyLock(<uninit>)");
    });
}

#[test]
fn what_is_inside_is_dropped_once() {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    deadline(60, || {
        let drops = Arc::new(AtomicUsize::new(0));
        let count = || drops.load(Ordering::SeqCst);
        drop(OnceLock::from(Counts(drops.clone())));
        assert_eq!(count(), 1);
        let refused = OnceLock::from(Counts(drops.clone())).set(Counts(drops.clone()));
        assert_eq!(count(), 2, "the lock and its value");
        drop(refused);
        assert_eq!(count(), 3);
        let captured = Counts(drops.clone());
        let lazy = LazyLock::new(move || captured);
        drop(lazy);
        assert_eq!(count(), 4, "the function of one that was never used");
        let captured = Counts(drops.clone());
        let lazy = LazyLock::new(move || captured);
        LazyLock::force(&lazy);
        assert_eq!(count(), 4);
        drop(lazy);
        assert_eq!(count(), 5);
    });
}

#[test]
fn what_is_inside_may_borrow_what_dies_with_it() {
    // Compiles only if the lock's drop does not look at what the value borrows.
    let lock;
    let text = String::from("dies first");
    lock = OnceLock::new();
    lock.set(&*text).unwrap();
    assert_eq!(lock.get().unwrap().len(), 10);
}

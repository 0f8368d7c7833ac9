//! RwLock.

use std::panic::resume_unwind;
use std::time::Duration;

use super::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use super::sync::{Arc, RwLock, RwLockReadGuard, TryLockError};
use super::thread;
use crate::common::deadline;

#[test]
fn many_readers_or_one_writer() {
    deadline(60, || {
        // -1: a writer; above 0: readers.
        let inside = Arc::new(AtomicIsize::new(0));
        let lock = Arc::new(RwLock::new(0_u64));
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let (inside, lock) = (inside.clone(), lock.clone());
                thread::spawn(move || {
                    for round in 0..300 {
                        if n % 4 == 0 {
                            let mut guard = lock.write().unwrap();
                            assert_eq!(inside.swap(-1, Ordering::SeqCst), 0);
                            if round % 5 == 0 {
                                thread::yield_now();
                            }
                            *guard += 1;
                            inside.store(0, Ordering::SeqCst);
                        } else {
                            let guard = lock.read().unwrap();
                            assert!(inside.fetch_add(1, Ordering::SeqCst) >= 0);
                            let seen = *guard;
                            if round % 5 == 0 {
                                thread::yield_now();
                            }
                            assert_eq!(*guard, seen);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*lock.read().unwrap(), 600);
    });
}

#[test]
fn who_may_come_in_while_who_is_there() {
    deadline(60, || {
        let lock = RwLock::new(1);
        let reader = lock.read().unwrap();
        assert_eq!(*lock.try_read().unwrap(), 1);
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
        let other: RwLockReadGuard<'_, i32> = lock.read().unwrap();
        drop(reader);
        assert!(lock.try_write().is_err(), "there is one left");
        drop(other);
        let mut writer = lock.try_write().unwrap();
        *writer = 2;
        assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
        drop(writer);
        assert_eq!(*lock.read().unwrap(), 2);
    });
}

#[test]
fn a_writer_waits_for_all_readers_and_readers_for_it() {
    deadline(60, || {
        let lock = Arc::new(RwLock::new(0));
        let (one, other) = (lock.read().unwrap(), lock.read().unwrap());
        let writing = Arc::new(AtomicBool::new(false));
        let (lock2, writing2) = (lock.clone(), writing.clone());
        let writer = thread::spawn(move || {
            let mut guard = lock2.write().unwrap();
            writing2.store(true, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            *guard = 1;
        });
        thread::sleep(Duration::from_millis(10));
        drop(one);
        thread::sleep(Duration::from_millis(10));
        assert!(!writing.load(Ordering::SeqCst));
        drop(other);
        while !writing.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        assert_eq!(*lock.read().unwrap(), 1, "after the writer");
        writer.join().unwrap();
    });
}

#[test]
fn only_a_writer_poisons() {
    deadline(60, || {
        let lock = Arc::new(RwLock::new(1));
        let lock2 = lock.clone();
        let reader = thread::spawn(move || {
            let _guard = lock2.read().unwrap();
            resume_unwind(Box::new(()));
        });
        assert!(reader.join().is_err());
        assert!(!lock.is_poisoned());
        let lock2 = lock.clone();
        let writer = thread::spawn(move || {
            let _guard = lock2.write().unwrap();
            resume_unwind(Box::new(()));
        });
        assert!(writer.join().is_err());
        assert!(lock.is_poisoned());
        assert_eq!(**lock.read().unwrap_err().get_ref(), 1);
        assert_eq!(**lock.write().unwrap_err().get_ref(), 1);
        assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
        assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
        assert_eq!(format!("{lock:?}"), "RwLock { data: 1, poisoned: true, .. }");
        lock.clear_poison();
        assert!(lock.write().is_ok());
    });
}

#[test]
fn the_poison_comes_along() {
    deadline(60, || {
        let lock = Arc::new(RwLock::new(3));
        let lock2 = lock.clone();
        let broken = thread::spawn(move || {
            let _guard = lock2.write().unwrap();
            resume_unwind(Box::new(()));
        });
        assert!(broken.join().is_err());
        let mut lock = Arc::into_inner(lock).unwrap();
        assert_eq!(**lock.get_mut().unwrap_err().get_ref(), 3);
        assert_eq!(lock.into_inner().unwrap_err().into_inner(), 3);
        assert_eq!(RwLock::new(4).into_inner().unwrap(), 4);
    });
}

#[test]
fn it_prints_as_stds_and_is_made_from_values() {
    static ZERO: RwLock<u8> = RwLock::new(0);
    deadline(60, || {
        assert_eq!(format!("{ZERO:?}"), "RwLock { data: 0, poisoned: false, .. }");
        let reader = ZERO.read().unwrap();
        assert_eq!(
            format!("{ZERO:?} {reader:?} {reader}"),
            "RwLock { data: 0, poisoned: false, .. } 0 0"
        );
        drop(reader);
        let writer = ZERO.write().unwrap();
        assert_eq!(
            format!("{ZERO:?} {writer:?} {writer}"),
            "RwLock { data: <locked>, poisoned: false, .. } 0 0"
        );
        drop(writer);
        assert_eq!(*RwLock::from(2).read().unwrap(), 2);
        assert_eq!(*RwLock::<u8>::default().read().unwrap(), 0);
    });
}

#[test]
fn a_read_guard_stands_for_one_of_a_supertype() {
    /// Compiles only if the guard is covariant in its data.
    fn shorten<'a>(guard: RwLockReadGuard<'a, &'static str>) -> RwLockReadGuard<'a, &'a str> {
        guard
    }
    deadline(60, || {
        let lock = RwLock::new("static");
        assert_eq!(*shorten(lock.read().unwrap()), "static");
    });
}

#[test]
fn it_holds_what_has_no_size() {
    deadline(60, || {
        let slice: &RwLock<[i32]> = &RwLock::new([1, 2, 3]);
        slice.write().unwrap()[1] = 20;
        assert_eq!(*slice.read().unwrap(), [1, 20, 3]);
    });
}

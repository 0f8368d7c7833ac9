//! Mutex.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use super::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use super::sync::{Arc, LockResult, Mutex, MutexGuard, PoisonError, TryLockError, TryLockResult};
use super::thread;
use crate::common::deadline;

/// Poisons a mutex.
fn poison<T: Send + 'static>(mutex: &Arc<Mutex<T>>) {
    let mutex = mutex.clone();
    let broken = thread::spawn(move || {
        let _guard = mutex.lock().unwrap();
        resume_unwind(Box::new("on purpose"));
    });
    assert!(broken.join().is_err());
}

#[test]
fn one_at_a_time_and_nothing_is_lost() {
    deadline(60, || {
        let inside = Arc::new(AtomicUsize::new(0));
        let sum = Arc::new(Mutex::new(0_u64));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (inside, sum) = (inside.clone(), sum.clone());
                thread::spawn(move || {
                    for n in 0..500 {
                        let mut guard = sum.lock().unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        let before = *guard;
                        if n % 7 == 0 {
                            thread::yield_now();
                        }
                        *guard = before + 1;
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*sum.lock().unwrap(), 4000);
    });
}

#[test]
fn it_is_held_over_a_sleep() {
    deadline(60, || {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let other = mutex.clone();
        let waiting = thread::spawn(move || *other.lock().unwrap());
        thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        let mut guard = guard;
        *guard = 7;
        drop(guard);
        assert_eq!(waiting.join().unwrap(), 7);
    });
}

#[test]
fn try_lock_does_not_wait() {
    deadline(60, || {
        let mutex = Mutex::new(1);
        *mutex.try_lock().unwrap() = 2;
        let guard = mutex.lock().unwrap();
        let second: TryLockResult<MutexGuard<'_, i32>> = mutex.try_lock();
        assert!(matches!(second, Err(TryLockError::WouldBlock)));
        assert_eq!(
            format!("{}", mutex.try_lock().unwrap_err()),
            "try_lock failed because the operation would block"
        );
        drop(guard);
        assert_eq!(*mutex.try_lock().unwrap(), 2);
    });
}

#[test]
fn unwinding_with_the_guard_poisons() {
    deadline(60, || {
        let mutex = Arc::new(Mutex::new(vec![1]));
        assert!(!mutex.is_poisoned());
        poison(&mutex);
        assert!(mutex.is_poisoned());
        let error: PoisonError<MutexGuard<'_, Vec<i32>>> = mutex.lock().unwrap_err();
        assert_eq!(**error.get_ref(), [1]);
        let mut guard = error.into_inner();
        guard.push(2);
        drop(guard);
        // It stays so, for whatever looks.
        assert!(mutex.is_poisoned());
        match mutex.try_lock() {
            Err(TryLockError::Poisoned(error)) => assert_eq!(**error.get_ref(), [1, 2]),
            other => panic!("{other:?}"),
        }
        // Until somebody says that all is well.
        mutex.clear_poison();
        assert!(!mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap(), [1, 2]);
    });
}

#[test]
fn the_poison_comes_along() {
    deadline(60, || {
        let mutex = Arc::new(Mutex::new(5));
        poison(&mutex);
        let mut mutex = Arc::into_inner(mutex).unwrap();
        assert_eq!(**mutex.get_mut().unwrap_err().get_ref(), 5);
        let result: LockResult<i32> = mutex.into_inner();
        assert_eq!(result.unwrap_err().into_inner(), 5);
        let mut fine = Mutex::new(6);
        *fine.get_mut().unwrap() += 1;
        assert_eq!(fine.into_inner().unwrap(), 7);
    });
}

#[test]
fn one_who_waits_finds_it_poisoned() {
    deadline(60, || {
        let mutex = Arc::new(Mutex::new(()));
        let entered = Arc::new(AtomicBool::new(false));
        let (mutex2, entered2) = (mutex.clone(), entered.clone());
        let broken = thread::spawn(move || {
            let _guard = mutex2.lock().unwrap();
            entered2.store(true, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            resume_unwind(Box::new(()));
        });
        while !entered.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let waits = thread::spawn(move || mutex.lock().is_err());
        assert!(waits.join().unwrap());
        assert!(broken.join().is_err());
    });
}

#[test]
fn a_guard_that_is_dropped_before_the_panic_poisons_nothing() {
    deadline(60, || {
        let mutex = Mutex::new(());
        let result = catch_unwind(AssertUnwindSafe(|| {
            drop(mutex.lock().unwrap());
            resume_unwind(Box::new(()));
        }));
        assert!(result.is_err() && !mutex.is_poisoned());
    });
}

#[test]
fn a_lock_taken_and_dropped_by_a_destructor_that_unwinds_is_not_poisoned() {
    struct Locks<'a>(&'a Mutex<i32>);
    impl Drop for Locks<'_> {
        fn drop(&mut self) {
            assert!(thread::panicking());
            *self.0.lock().unwrap() += 1;
        }
    }
    deadline(60, || {
        let mutex = Mutex::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _locks = Locks(&mutex);
            resume_unwind(Box::new(()));
        }));
        assert!(result.is_err());
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn a_panic_that_is_caught_while_the_guard_lives_poisons_nothing() {
    deadline(60, || {
        let mutex = Mutex::new(());
        let guard = mutex.lock().unwrap();
        assert!(catch_unwind(|| resume_unwind(Box::new(()))).is_err());
        drop(guard);
        assert!(mutex.lock().is_ok());
    });
}

#[test]
fn a_leaked_guard_keeps_it_locked() {
    deadline(60, || {
        let mutex = Mutex::new(1);
        std::mem::forget(mutex.lock().unwrap());
        assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
        assert_eq!(mutex.into_inner().unwrap(), 1);
    });
}

#[test]
fn it_is_a_constant_and_a_static() {
    static COUNT: Mutex<u32> = Mutex::new(40);
    static ARRAY: [Mutex<u8>; 3] = [const { Mutex::new(1) }; 3];
    deadline(60, || {
        *COUNT.lock().unwrap() += 2;
        assert_eq!(*COUNT.lock().unwrap(), 42);
        *ARRAY[1].lock().unwrap() = 2;
        assert_eq!(*ARRAY[0].lock().unwrap() + *ARRAY[1].lock().unwrap(), 3);
    });
}

#[test]
fn it_holds_what_has_no_size() {
    deadline(60, || {
        let slice: &Mutex<[i32]> = &Mutex::new([1, 2, 3]);
        slice.lock().unwrap()[1] = 20;
        assert_eq!(*slice.lock().unwrap(), [1, 20, 3]);
        let object: Arc<Mutex<dyn std::fmt::Debug + Send>> = Arc::new(Mutex::new("text"));
        assert_eq!(format!("{:?}", object.lock().unwrap()), "\"text\"");
    });
}

#[test]
fn it_prints_as_stds() {
    deadline(60, || {
        let mutex = Arc::new(Mutex::new(5));
        assert_eq!(format!("{mutex:?}"), "Mutex { data: 5, poisoned: false, .. }");
        let guard = mutex.lock().unwrap();
        assert_eq!(format!("{guard:?} {guard}"), "5 5");
        assert_eq!(format!("{mutex:?}"), r#"Mutex { data: "<locked>", poisoned: false, .. }"#);
        drop(guard);
        poison(&mutex);
        assert_eq!(format!("{mutex:?}"), "Mutex { data: 5, poisoned: true, .. }");
    });
}

#[test]
fn it_is_made_from_values() {
    deadline(60, || {
        assert_eq!(*Mutex::from("x").lock().unwrap(), "x");
        assert_eq!(*Mutex::<u8>::default().lock().unwrap(), 0);
    });
}

#[test]
fn the_data_is_dropped_once() {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    deadline(60, || {
        let drops = Arc::new(AtomicUsize::new(0));
        drop(Mutex::new(Counts(drops.clone())));
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        let inner = Mutex::new(Counts(drops.clone())).into_inner();
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        drop(inner);
        assert_eq!(drops.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn the_data_may_borrow_what_dies_with_it() {
    // Compiles only if the mutex's drop does not look at what the data borrows.
    let mutex;
    let text = String::from("dies first");
    mutex = Mutex::new(&*text);
    assert_eq!(mutex.lock().unwrap().len(), 10);
}

#[test]
fn scoped_threads_share_it() {
    deadline(60, || {
        let mutex = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for n in 0..4 {
                let mutex = &mutex;
                scope.spawn(move || mutex.lock().unwrap().push(n));
            }
        });
        let mut all = mutex.into_inner().unwrap();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    });
}

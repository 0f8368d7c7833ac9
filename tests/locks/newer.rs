//! What std has since a Rust that is newer than the oldest that the crate supports.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use greenling::sync::{LazyLock, Once, OnceLock, RwLock, RwLockWriteGuard};
use greenling::{spawn, yield_now};

use crate::common::deadline;

#[test]
fn waiting_for_what_somebody_else_does_once() {
    deadline(20, || {
        let once = Rc::new(Once::new());
        let waiters: Vec<_> = (0..3)
            .map(|n| {
                let once = once.clone();
                spawn(move || if n == 0 { once.wait_force() } else { once.wait() })
            })
            .collect();
        yield_now();
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        once.call_once(yield_now);
        for waiter in waiters {
            waiter.join().unwrap();
        }
        once.wait();
        once.wait_force();
    });
}

#[test]
fn waiting_for_what_somebody_else_fails_to_do() {
    deadline(20, || {
        let once = Rc::new(Once::new());
        let other = once.clone();
        let patient = spawn(move || other.wait_force());
        let other = once.clone();
        let strict = spawn(move || catch_unwind(AssertUnwindSafe(|| other.wait())).is_err());
        yield_now();
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            once.call_once(|| resume_unwind(Box::new(())));
        }));
        assert!(unwound.is_err());
        assert!(strict.join().unwrap(), "poisoned");
        assert!(!patient.is_finished());
        once.call_once_force(|_| ());
        patient.join().unwrap();
    });
}

#[test]
fn waiting_for_a_value() {
    deadline(20, || {
        let lock = Rc::new(OnceLock::new());
        let other = lock.clone();
        let waiter = spawn(move || *other.wait() + 1);
        yield_now();
        assert!(!waiter.is_finished());
        lock.set(1).unwrap();
        assert_eq!(waiter.join().unwrap(), 2);
        assert_eq!(*lock.wait(), 1);
    });
}

#[test]
fn from_writing_to_reading() {
    deadline(20, || {
        let lock = Rc::new(RwLock::new(0));
        let mut writer = lock.write().unwrap();
        let other = lock.clone();
        let reads = spawn(move || *other.read().unwrap());
        let other = lock.clone();
        let writes = spawn(move || *other.write().unwrap() += 1);
        let other = lock.clone();
        let reads_later = spawn(move || *other.read().unwrap());
        yield_now();
        *writer = 1;
        let reader = RwLockWriteGuard::downgrade(writer);
        assert_eq!(reads.join().unwrap(), 1);
        yield_now();
        assert!(!writes.is_finished() && !reads_later.is_finished(), "in order of arrival");
        assert_eq!(*reader, 1);
        drop(reader);
        writes.join().unwrap();
        assert_eq!(reads_later.join().unwrap(), 2);
        // Without anybody else.
        let reader = RwLockWriteGuard::downgrade(lock.write().unwrap());
        assert!(lock.try_read().is_ok() && lock.try_write().is_err());
        drop(reader);
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn a_lazy_lock_can_be_looked_at_and_changed() {
    let mut lazy = LazyLock::new(|| 1);
    assert_eq!(LazyLock::get(&lazy), None);
    assert_eq!(LazyLock::get_mut(&mut lazy), None);
    *LazyLock::force_mut(&mut lazy) += 1;
    *lazy += 1;
    assert_eq!(LazyLock::get(&lazy), Some(&3));
    assert_eq!(LazyLock::get_mut(&mut lazy), Some(&mut 3));
}

#[test]
fn a_lazy_lock_that_failed_has_nothing_to_look_at() {
    let mut lazy = LazyLock::<u8>::new(|| resume_unwind(Box::new("on purpose")));
    assert!(catch_unwind(AssertUnwindSafe(|| *lazy)).is_err());
    assert_eq!(LazyLock::get(&lazy), None);
    assert_eq!(LazyLock::get_mut(&mut lazy), None);
    assert!(catch_unwind(AssertUnwindSafe(|| *LazyLock::force_mut(&mut lazy))).is_err());
}

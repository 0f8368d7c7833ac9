//! Who is unwinding, when std's count of panics is the thread's and not the coroutine's.

use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use greenling::sync::{Mutex, RwLock};
use greenling::{Elapsed, sleep, spawn, time, timeout, yield_now};

use crate::common::deadline;

#[test]
fn a_kill_and_a_time_limit_poison_as_a_panic_does() {
    deadline(20, || {
        let mutex = Rc::new(Mutex::new(()));
        let holder = spawn({
            let mutex = mutex.clone();
            move || {
                let _guard = mutex.lock().unwrap();
                sleep(Duration::from_secs(60));
            }
        });
        yield_now();
        holder.kill();
        assert!(mutex.is_poisoned());
        mutex.clear_poison();
        let late: Result<(), Elapsed> = timeout(Duration::from_millis(5), || {
            let _guard = mutex.lock().unwrap();
            sleep(Duration::from_secs(60));
        });
        assert!(late.is_err() && mutex.is_poisoned());

        let lock = RwLock::new(());
        let late = timeout(Duration::from_millis(5), || {
            let _guard = lock.read().unwrap();
            sleep(Duration::from_secs(60));
        });
        assert!(late.is_err() && !lock.is_poisoned(), "a reader changes nothing");
    });
}

#[test]
fn who_must_not_be_torn_apart_is_shielded() {
    deadline(20, || {
        let mutex = Mutex::new(0);
        let late = timeout(Duration::from_millis(1), || {
            time::shield(|| {
                let mut guard = mutex.lock().unwrap();
                sleep(Duration::from_millis(20));
                *guard = 1;
            });
            sleep(Duration::from_secs(60));
        });
        assert!(late.is_err());
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

/// Waits in its destructor.
struct Waits(Rc<Mutex<()>>);

impl Drop for Waits {
    fn drop(&mut self) {
        drop(self.0.lock().unwrap());
    }
}

#[test]
fn while_one_waits_in_the_middle_of_unwinding_the_others_poison_nothing() {
    deadline(20, || {
        let gate = Rc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        let (before, during) = (Rc::new(Mutex::new(0)), Rc::new(RwLock::new(0)));
        let innocent = spawn({
            let (before, during) = (before.clone(), during.clone());
            move || {
                let mut guard = before.lock().unwrap();
                while !std::thread::panicking() {
                    yield_now();
                }
                *guard += 1;
                drop(guard);
                *during.write().unwrap() += 1;
            }
        });
        let unwinding = spawn({
            let waits = Waits(gate.clone());
            move || {
                let _waits = waits;
                resume_unwind(Box::new("on purpose"));
            }
        });
        innocent.join().unwrap();
        assert!(!unwinding.is_finished());
        drop(closed);
        assert!(unwinding.join().is_err());
        assert_eq!((*before.lock().unwrap(), *during.read().unwrap()), (1, 1));
        assert!(!std::thread::panicking());
        gate.clear_poison();
    });
}

#[test]
fn one_that_waits_in_the_middle_of_unwinding_poisons_what_it_holds() {
    deadline(20, || {
        let gate = Rc::new(Mutex::new(()));
        let held = Rc::new(Mutex::new(0));
        let closed = gate.lock().unwrap();
        let unwinding = spawn({
            let (waits, held) = (Waits(gate.clone()), held.clone());
            move || {
                let _guard = held.lock().unwrap(); // dropped after the wait
                let _waits = waits;
                resume_unwind(Box::new("on purpose"));
            }
        });
        yield_now();
        assert!(held.try_lock().is_err());
        drop(closed);
        assert!(unwinding.join().is_err());
        assert!(held.is_poisoned());
    });
}

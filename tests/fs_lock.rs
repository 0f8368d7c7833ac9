//! Locks of files: who waits lets others run, and who stops waiting leaves no lock behind.

mod common;

use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::deadline;
use greenling::fs::{File, TryLockError};
use greenling::{Killed, sleep, spawn, timeout};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

/// A file for one test, which is removed in the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Temporary {
        let name = format!("greenling-lock-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "").unwrap();
        Temporary(path)
    }

    fn open(&self) -> File {
        File::options().read(true).write(true).open(&self.0).unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn is_locked(file: &File) -> bool {
    match file.try_lock() {
        Ok(()) => {
            file.unlock().unwrap();
            false
        }
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => panic!("{error}"),
    }
}

/// Waits until `condition` holds.
fn until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LONG);
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn one_alone_or_many_that_share() {
    deadline(60, || {
        let path = Temporary::new("modes");
        let (one, two, other) = (path.open(), path.open(), path.open());
        one.lock_shared().unwrap();
        two.lock_shared().unwrap();
        other.try_lock_shared().unwrap();
        other.unlock().unwrap();
        assert!(is_locked(&other));
        one.unlock().unwrap();
        assert!(is_locked(&other));
        drop(two); // as good as an unlock
        other.lock().unwrap();
        assert!(matches!(one.try_lock_shared(), Err(TryLockError::WouldBlock)));
        let error = std::io::Error::from(one.try_lock().unwrap_err());
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        other.unlock().unwrap();
        other.unlock().unwrap(); // no lock is no error
        assert!(!is_locked(&one));
        // A clone is a handle of the same lock.
        one.lock().unwrap();
        let clone = one.try_clone().unwrap();
        drop(one);
        assert!(is_locked(&other));
        clone.unlock().unwrap();
        assert!(!is_locked(&other));
    });
}

#[test]
fn who_waits_lets_others_run_and_gets_it_in_the_end() {
    deadline(60, || {
        let path = Temporary::new("waiting");
        let holder = path.open();
        holder.lock().unwrap();
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let file = path.open();
                spawn(move || {
                    file.lock().unwrap();
                    sleep(Duration::from_millis(1));
                    file.unlock().unwrap();
                })
            })
            .collect();
        sleep(SHORT);
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        holder.unlock().unwrap();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(!is_locked(&holder));
    });
}

#[test]
fn it_excludes_stds_handles_too() {
    deadline(60, || {
        let path = Temporary::new("std");
        let theirs = std::fs::File::open(&path.0).unwrap();
        // As its `lock` does, which is younger than the oldest Rust that the crate supports.
        let flock = |operation| {
            // SAFETY: it passes no pointers.
            assert_eq!(unsafe { libc::flock(theirs.as_raw_fd(), operation) }, 0);
        };
        flock(libc::LOCK_EX);
        let ours = path.open();
        assert!(is_locked(&ours));
        let waiter = spawn(move || ours.lock_shared());
        sleep(SHORT);
        assert!(!waiter.is_finished());
        flock(libc::LOCK_UN);
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn a_wait_that_is_ended_leaves_no_lock() {
    deadline(60, || {
        let path = Temporary::new("ended");
        let (holder, file) = (path.open(), Rc::new(path.open()));
        holder.lock().unwrap();
        assert!(timeout(SHORT, || file.lock()).is_err());
        let victim = {
            let file = file.clone();
            spawn(move || file.lock().unwrap())
        };
        sleep(SHORT);
        victim.kill();
        assert!(victim.join().unwrap_err().is::<Killed>());
        // Both threads get the lock now, one after the other, and give it back.
        holder.unlock().unwrap();
        for _ in 0..20 {
            until(|| !is_locked(&holder));
            sleep(Duration::from_millis(1));
        }
        file.lock().unwrap();
        assert!(is_locked(&holder));
    });
}

#[test]
fn a_kill_races_with_the_lock() {
    deadline(120, || {
        let path = Temporary::new("race");
        let holder = path.open();
        for round in 0..300_u64 {
            holder.lock().unwrap();
            let file = Rc::new(path.open());
            let victim = {
                let file = file.clone();
                spawn(move || {
                    file.lock().unwrap();
                    // If it has got it, it knows it, and nothing ends it before it has given it back.
                    file.unlock().unwrap();
                })
            };
            sleep(Duration::from_micros(200));
            let killer = std::thread::spawn(move || {
                (0..round * 50).for_each(|_| std::hint::spin_loop());
                victim.kill();
            });
            holder.unlock().unwrap();
            until(|| killer.is_finished());
            killer.join().unwrap();
            until(|| !is_locked(&holder));
            drop(file);
        }
    });
}

//! std's locks may be held across waits, between coroutines of one thread, of several, and plain threads.

#![cfg(feature = "patch")]

#[path = "common/child.rs"]
mod child;
mod common;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, Once, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use child::On;
use common::deadline;
use greenling::{join_all, patch, sleep, spawn};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_mutex_is_held_across_a_wait() {
    deadline(30, || {
        patch::all();
        let lock = Arc::new(Mutex::new(0));
        let workers = (0..20).map(|_| {
            let lock = lock.clone();
            spawn(move || {
                let mut guard = lock.lock().unwrap();
                let before = *guard;
                sleep(2 * MS);
                *guard = before + 1;
            })
        });
        join_all(workers).into_iter().for_each(|result| result.unwrap());
        assert_eq!(*lock.lock().unwrap(), 20);
    });
}

#[test]
fn a_mutex_between_threads_and_coroutines() {
    deadline(60, || {
        patch::all();
        let lock = Arc::new(Mutex::new(0_u32));
        let add = |lock: &Mutex<u32>, n: u32| {
            let mut guard = lock.lock().unwrap();
            let before = *guard;
            if n % 64 == 0 {
                thread::sleep(Duration::from_micros(50));
            }
            *guard = before + 1;
        };
        let plain: Vec<_> = (0..2)
            .map(|_| {
                let lock = lock.clone();
                thread::spawn(move || (0..2000).for_each(|n| add(&lock, n)))
            })
            .collect();
        let hubs: Vec<_> = (0..2)
            .map(|_| {
                let lock = lock.clone();
                thread::spawn(move || {
                    let workers = (0..20).map(|_| {
                        let lock = lock.clone();
                        spawn(move || (0..200).for_each(|n| add(&lock, n)))
                    });
                    join_all(workers).into_iter().for_each(|result| result.unwrap());
                })
            })
            .collect();
        plain.into_iter().chain(hubs).for_each(|thread| thread.join().unwrap());
        assert_eq!(*lock.lock().unwrap(), 2 * 2000 + 2 * 20 * 200);
    });
}

#[test]
fn readers_share_and_writers_do_not() {
    deadline(30, || {
        patch::all();
        let lock = Arc::new(RwLock::new(0));
        let reading = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let workers = (0..30).map(|n| {
            let (lock, reading, most) = (lock.clone(), reading.clone(), most.clone());
            spawn(move || {
                if n % 3 == 0 {
                    let mut guard = lock.write().unwrap();
                    assert_eq!(reading.load(Ordering::Relaxed), 0);
                    sleep(MS);
                    *guard += 1;
                } else {
                    let _guard = lock.read().unwrap();
                    let now = reading.fetch_add(1, Ordering::Relaxed) + 1;
                    most.fetch_max(now, Ordering::Relaxed);
                    sleep(MS);
                    reading.fetch_sub(1, Ordering::Relaxed);
                }
            })
        });
        join_all(workers).into_iter().for_each(|result| result.unwrap());
        assert_eq!(*lock.read().unwrap(), 10);
        assert!(most.load(Ordering::Relaxed) > 1);
    });
}

#[test]
fn a_condvar_wakes_one_all_and_by_time() {
    deadline(30, || {
        patch::all();
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let pair = pair.clone();
                spawn(move || {
                    let mut tokens =
                        pair.1.wait_while(pair.0.lock().unwrap(), |tokens| *tokens == 0).unwrap();
                    *tokens -= 1;
                })
            })
            .collect();
        sleep(5 * MS);
        *pair.0.lock().unwrap() += 1;
        pair.1.notify_one();
        let other = pair.clone();
        thread::spawn(move || {
            *other.0.lock().unwrap() += 9;
            other.1.notify_all();
        })
        .join()
        .unwrap();
        join_all(waiters).into_iter().for_each(|result| result.unwrap());
        assert_eq!(*pair.0.lock().unwrap(), 0);
        let start = Instant::now();
        let late = spawn(move || {
            let (_tokens, result) = pair
                .1
                .wait_timeout_while(pair.0.lock().unwrap(), 50 * MS, |tokens| *tokens == 0)
                .unwrap();
            result.timed_out()
        });
        assert!(late.join().unwrap());
        assert!(start.elapsed() >= 50 * MS);
    });
}

#[test]
fn once_and_barrier() {
    deadline(30, || {
        patch::all();
        let (once, barrier) = (Arc::new(Once::new()), Arc::new(Barrier::new(11)));
        let calls = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..10)
            .map(|_| {
                let (once, barrier, calls) = (once.clone(), barrier.clone(), calls.clone());
                spawn(move || {
                    once.call_once(|| {
                        sleep(5 * MS);
                        calls.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(calls.load(Ordering::Relaxed), 1);
                    barrier.wait().is_leader()
                })
            })
            .collect();
        let main = barrier.wait().is_leader();
        let leaders = join_all(workers).into_iter().filter(|result| *result.as_ref().unwrap());
        assert_eq!(leaders.count() + usize::from(main), 1);
    });
}

#[test]
fn a_killed_coroutine_gets_its_lock_first() {
    deadline(30, || {
        patch::all();
        let lock = Arc::new(Mutex::new(()));
        let held = lock.clone();
        let owner = spawn(move || {
            let _guard = held.lock().unwrap();
            sleep(50 * MS);
        });
        sleep(5 * MS);
        let wanted = lock.clone();
        let waiter = spawn(move || {
            let _guard = wanted.lock().unwrap();
            sleep(Duration::from_secs(100)); // the kill takes effect here
        });
        sleep(5 * MS);
        waiter.kill();
        owner.join().unwrap();
        assert!(waiter.join().is_err());
        assert!(lock.lock().is_err()); // poisoned, by the unwinding
    });
}

/// What thread::park has is one token for a thread. One coroutine at a time can use it.
#[test]
fn thread_park_works_for_one_coroutine() {
    deadline(30, || {
        patch::all();
        for _ in 0..20 {
            let this = thread::current();
            let parked = spawn(thread::park);
            let ticks = spawn(|| sleep(MS)); // runs meanwhile
            let other = thread::spawn(move || {
                thread::sleep(2 * MS);
                this.unpark();
            });
            ticks.join().unwrap();
            parked.join().unwrap();
            other.join().unwrap();
        }
    });
}

#[test]
fn a_channel_of_std_works_for_one_receiver_of_a_thread() {
    deadline(30, || {
        patch::all();
        let (sender, receiver) = mpsc::channel();
        let other = sender.clone();
        let consumer = spawn(move || receiver.iter().sum::<u32>());
        let producers = (0..10).map(|n| {
            let sender = sender.clone();
            spawn(move || {
                sleep(MS);
                sender.send(n).unwrap();
            })
        });
        let producers: Vec<_> = producers.collect();
        thread::spawn(move || {
            thread::sleep(5 * MS);
            other.send(100).unwrap();
        })
        .join()
        .unwrap();
        join_all(producers).into_iter().for_each(|result| result.unwrap());
        drop(sender);
        assert_eq!(consumer.join().unwrap(), 145);
    });
}

fn futex(word: &AtomicU32, op: i32, value: u32, time: *const libc::timespec, bits: u32) -> i64 {
    // SAFETY: the word is valid, the time null or valid.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            op,
            value,
            time,
            std::ptr::null::<u32>(),
            bits,
        )
    };
    if result < 0 {
        return -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap());
    }
    result
}

/// Whether a thread of this process waits in the kernel.
fn is_asleep(thread: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().starts_with('S')
}

#[test]
fn the_call_itself() {
    deadline(30, || {
        patch::all();
        let private = libc::FUTEX_PRIVATE_FLAG;
        let word = Arc::new(AtomicU32::new(1));
        let in_coroutine = spawn({
            let word = word.clone();
            move || {
                let short = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                let wrong = libc::timespec { tv_sec: 0, tv_nsec: -1 };
                let past = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                let wait = libc::FUTEX_WAIT | private;
                let bitset = libc::FUTEX_WAIT_BITSET | private;
                [
                    futex(&word, wait, 2, std::ptr::null(), 0),
                    futex(&word, wait, 1, &short, 0),
                    futex(&word, wait, 1, &wrong, 0),
                    futex(&word, bitset, 1, &past, u32::MAX),
                    futex(&word, bitset | libc::FUTEX_CLOCK_REALTIME, 1, &past, 1),
                    futex(&word, bitset, 1, std::ptr::null(), 0),
                    futex(&word, libc::FUTEX_WAIT, 1, &short, 0), // shared
                ]
            }
        });
        let expected = [
            libc::EAGAIN,
            libc::ETIMEDOUT,
            libc::EINVAL,
            libc::ETIMEDOUT,
            libc::ETIMEDOUT,
            libc::EINVAL,
            libc::ETIMEDOUT,
        ];
        assert_eq!(in_coroutine.join().unwrap(), expected.map(|error| -i64::from(error)));

        // Waiters of all kinds; the counts are those of the kernel.
        let mut waiters = Vec::new();
        for bits in [1, 2, 2, 4] {
            let word = word.clone();
            waiters.push(spawn(move || {
                futex(&word, libc::FUTEX_WAIT_BITSET | private, 1, std::ptr::null(), bits)
            }));
        }
        let (announce, announced) = mpsc::channel();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (word, announce) = (word.clone(), announce.clone());
                thread::spawn(move || {
                    // SAFETY: it takes nothing.
                    announce.send(unsafe { libc::gettid() }).unwrap();
                    futex(&word, libc::FUTEX_WAIT_BITSET | private, 1, std::ptr::null(), 4)
                })
            })
            .collect();
        sleep(10 * MS); // the coroutines run
        for thread in announced.iter().take(2) {
            while !is_asleep(thread) {
                sleep(MS);
            }
        }
        let wake = libc::FUTEX_WAKE_BITSET | private;
        assert_eq!(futex(&word, wake, 1, std::ptr::null(), 8), 0);
        assert_eq!(futex(&word, wake, 9, std::ptr::null(), 2), 2);
        assert_eq!(futex(&word, wake, 1, std::ptr::null(), 4), 1);
        assert_eq!(futex(&word, libc::FUTEX_WAKE | private, 9, std::ptr::null(), 0), 3);
        for result in join_all(waiters) {
            assert_eq!(result.unwrap(), 0);
        }
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 0);
        }
    });
}

#[test]
fn a_deadlock_of_stds_locks_ends_the_process_loudly() {
    let ended = child::run(On::MainThread, 60, || {
        patch::all();
        let lock = Arc::new(Mutex::new(()));
        let held = lock.clone();
        let _owner = greenling::thread::Builder::new()
            .name("owner".into())
            .spawn(move || {
                let _guard = held.lock().unwrap();
                greenling::thread::park(); // for ever
            })
            .unwrap();
        greenling::yield_now();
        let _guard = lock.lock().unwrap();
    });
    ended.died_of(libc::SIGABRT);
    assert!(ended.stderr.contains("nothing can ever run again"), "{}", ended.stderr);
    assert!(ended.stderr.contains("owner"), "{}", ended.stderr);
}

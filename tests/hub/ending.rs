//! The end of a thread with coroutines on it.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

use greenling::error::Killed;
use greenling::hub;
use greenling::io::Adapter;
use greenling::thread::{self, Builder};
use greenling::{spawn, yield_now};

use crate::common::deadline;
use crate::{child, logger};

/// Does something when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn what_is_unfinished_is_unwound() {
    deadline(20, || {
        let drops = Arc::new(AtomicU32::new(0));
        let count = drops.clone();
        std::thread::spawn(move || {
            for n in 0..50 {
                let count = count.clone();
                let probe = OnDrop(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                });
                spawn(move || {
                    let _probe = probe;
                    match n % 3 {
                        0 => thread::park(),
                        1 => thread::sleep(Duration::from_secs(3600)),
                        _ => loop {
                            yield_now();
                        },
                    }
                });
            }
            yield_now();
            for _ in 0..50 {
                let count = count.clone();
                let probe = OnDrop(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                });
                spawn(move || drop(probe)); // does not even begin
            }
        })
        .join()
        .unwrap();
        assert_eq!(drops.load(Ordering::SeqCst), 100);
    });
}

#[test]
fn cleanup_at_the_end_may_sleep_lock_spawn_join_and_do_io() {
    deadline(30, || {
        let done = Arc::new(Mutex::new(Vec::new()));
        let list = done.clone();
        let ending = std::thread::spawn(move || {
            let (reader, mut writer) = crate::common::pipe().unwrap();
            let mut reader = Adapter::new(reader).unwrap();
            let log = move |what: &'static str| list.lock().unwrap().push(what);
            let keep = log.clone();
            spawn(move || {
                let _cleanup = OnDrop(|| {
                    thread::sleep(Duration::from_millis(5));
                    log("slept");
                    let log_inner = log.clone();
                    let helper = Builder::new().name("helper".into()).spawn(move || {
                        log_inner("helped");
                        7
                    });
                    // It may have been killed before it began, and may not.
                    match helper.unwrap().join() {
                        Ok(7) => log("joined"),
                        Ok(_) => unreachable!(),
                        Err(payload) => {
                            assert!(payload.is::<Killed>());
                            log("helped");
                            log("joined");
                        }
                    }
                    writer.write_all(b"x").unwrap();
                    assert_eq!(reader.read(&mut [0; 4]).unwrap(), 1);
                    log("read");
                    yield_now();
                    thread::park_timeout(Duration::from_millis(1));
                    log("parked");
                });
                thread::park();
            });
            let at_end = OnDrop(move || keep("main ends"));
            yield_now();
            drop(at_end);
        });
        ending.join().unwrap();
        let done = done.lock().unwrap();
        assert_eq!(*done, ["main ends", "slept", "helped", "joined", "read", "parked"]);
    });
}

#[test]
fn one_that_swallows_the_kill_for_ever_does_not_hold_up_the_end() {
    logger::install();
    deadline(30, || {
        let turns = Arc::new(AtomicU32::new(0));
        let count = turns.clone();
        let (sender, receiver) = mpsc::channel();
        let began = Instant::now();
        let ending = std::thread::spawn(move || {
            // Three of each kind, and one that goes quietly.
            for _ in 0..3 {
                let count = count.clone();
                spawn(move || {
                    loop {
                        let _ = catch_unwind(thread::park);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
                spawn(|| {
                    loop {
                        let _ = catch_unwind(yield_now);
                    }
                });
            }
            let stubborn = spawn(|| {
                loop {
                    let _ = catch_unwind(|| thread::sleep(Duration::from_secs(3600)));
                }
            });
            let quiet = spawn(thread::park);
            sender.send((stubborn, quiet)).unwrap();
            yield_now();
        });
        let (stubborn, quiet): (thread::JoinHandle<()>, _) = receiver.recv().unwrap();
        ending.join().unwrap();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "the end took {took:?}");
        assert!(turns.load(Ordering::Relaxed) > 3, "it was killed again and again");
        // Whoever joins them is told.
        assert!(stubborn.is_finished() && quiet.is_finished());
        assert!(stubborn.join().unwrap_err().is::<Killed>());
        assert!(quiet.join().unwrap_err().is::<Killed>());
    });
    let warnings = logger::records_with("7 coroutines");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("WARN greenling"));
}

#[test]
fn those_who_join_from_elsewhere_are_told() {
    deadline(20, || {
        let (sender, receiver) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let ending = std::thread::spawn(move || {
            for _ in 0..10 {
                sender.send(spawn(thread::park)).unwrap();
            }
            drop(sender);
            yield_now();
            wait.recv().unwrap();
        });
        let handles: Vec<_> = receiver.iter().collect();
        // Half of them join here, in coroutines, and half on threads of their own.
        let mut threads = Vec::new();
        let mut coroutines = Vec::new();
        for (n, handle) in handles.into_iter().enumerate() {
            if n % 2 == 0 {
                coroutines.push(spawn(move || handle.join().unwrap_err().is::<Killed>()));
            } else {
                threads.push(std::thread::spawn(move || handle.join().unwrap_err().is::<Killed>()));
            }
        }
        thread::sleep(Duration::from_millis(20));
        go.send(()).unwrap();
        assert!(coroutines.into_iter().all(|joined| joined.join().unwrap()));
        assert!(threads.into_iter().all(|joined| joined.join().unwrap()));
        ending.join().unwrap();
    });
}

#[test]
fn abandoned_ones_that_join_each_other_stay_where_they_are() {
    deadline(20, || {
        std::thread::spawn(|| {
            let stubborn = spawn(|| {
                loop {
                    let _ = catch_unwind(thread::park);
                }
            });
            spawn(move || {
                let mut stubborn = Some(stubborn);
                loop {
                    // Swallows the kill as well, in a join of the other.
                    let handle = RefCell::new(stubborn.take());
                    let _ = catch_unwind(std::panic::AssertUnwindSafe(|| {
                        if let Some(handle) = handle.take() {
                            let _ = handle.join();
                        }
                        thread::park();
                    }));
                }
            });
            yield_now();
        })
        .join()
        .unwrap();
    });
}

#[test]
fn a_panicking_thread_ends_like_any_other() {
    deadline(20, || {
        let drops = Arc::new(AtomicU32::new(0));
        let count = drops.clone();
        let broken = std::thread::spawn(move || {
            spawn(move || {
                let _probe = OnDrop(|| {
                    count.fetch_add(1, Ordering::SeqCst);
                });
                thread::park();
            });
            yield_now();
            std::panic::resume_unwind(Box::new("main"));
        });
        assert_eq!(broken.join().unwrap_err().downcast_ref(), Some(&"main"));
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn the_end_of_the_process_abandons_coroutines_as_it_abandons_threads() {
    let ended = child::run(child::On::MainThread, 20, || {
        spawn(|| {
            let _loud = OnDrop(|| println!("dropped"));
            thread::park();
        });
        yield_now();
        println!("the child has done its work");
        std::process::exit(0);
    });
    ended.succeeded();
    assert!(!ended.stdout.contains("dropped"), "{ended:?}");
}

fn exit_in_a_coroutine() {
    for _ in 0..3 {
        spawn(thread::park);
    }
    let exits = spawn(|| {
        println!("the child has done its work");
        std::process::exit(0);
    });
    exits.join().unwrap();
}

#[test]
fn a_coroutine_may_end_the_process() {
    child::run(child::On::MainThread, 20, exit_in_a_coroutine).succeeded();
}

#[test]
fn a_coroutine_of_another_thread_may_end_the_process() {
    child::run(child::On::OtherThread, 20, exit_in_a_coroutine).succeeded();
}

/// What a process has in use that a thread might leave behind.
fn resources() -> (usize, usize) {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    (fds, maps)
}

/// A life of a hub with everything in it.
fn busy_life() {
    let (reader, mut writer) = crate::common::pipe().unwrap();
    let mut reader = Adapter::new(reader).unwrap();
    let receiver = spawn(move || {
        let mut buffer = [0; 8];
        while reader.read(&mut buffer).unwrap() > 0 {}
    });
    let sleepers: Vec<_> =
        (0..40_u64).map(|n| spawn(move || thread::sleep(Duration::from_micros(n)))).collect();
    yield_now();
    writer.write_all(b"x").unwrap();
    sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    let big = Builder::new().stack_size(1 << 20).spawn(yield_now).unwrap();
    big.join().unwrap();
    drop(writer);
    receiver.join().unwrap();
    spawn(thread::park); // unfinished
    yield_now();
}

#[test]
fn threads_that_come_and_go_leave_nothing_behind() {
    let ended = child::run(child::On::MainThread, 60, || {
        let round = |threads: usize| {
            // All have a hub at the same time.
            let together = Arc::new(Barrier::new(threads));
            let threads: Vec<_> = (0..threads)
                .map(|_| {
                    let together = together.clone();
                    std::thread::spawn(move || {
                        busy_life();
                        together.wait();
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        };
        // More than there will be later: what serves later hubs is kept. (And malloc keeps an arena for
        // each thread it has seen at the same time.)
        round(8);
        let before = resources();
        for _ in 0..40 {
            round(4);
        }
        let after = resources();
        assert_eq!(after.0, before.0, "descriptors");
        assert!(after.1 <= before.1 + 12, "maps: {} before, {} after", before.1, after.1);
    });
    ended.succeeded();
}

/// Threads that libc made have no alternate signal stack; the one that they get must go with them.
#[test]
fn foreign_threads_that_come_and_go_leave_nothing_behind() {
    let ended = child::run(child::On::MainThread, 60, || {
        extern "C" fn life(_: *mut libc::c_void) -> *mut libc::c_void {
            busy_life();
            std::ptr::null_mut()
        }
        let run = || {
            let mut thread = 0;
            // SAFETY: the function fits, and the thread is joined.
            unsafe {
                let no_attributes = std::ptr::null();
                assert_eq!(
                    libc::pthread_create(&mut thread, no_attributes, life, std::ptr::null_mut()),
                    0
                );
                assert_eq!(libc::pthread_join(thread, std::ptr::null_mut()), 0);
            }
        };
        for _ in 0..5 {
            run();
        }
        let before = resources();
        for _ in 0..60 {
            run();
        }
        let after = resources();
        assert_eq!(after.0, before.0, "descriptors");
        assert!(after.1 <= before.1 + 12, "maps: {} before, {} after", before.1, after.1);
    });
    ended.succeeded();
}

#[test]
fn successive_threads_each_have_working_io() {
    deadline(30, || {
        for _ in 0..30 {
            std::thread::spawn(busy_life).join().unwrap();
        }
    });
}

#[test]
fn a_scoped_thread_may_have_a_hub() {
    deadline(20, || {
        let total = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let children: Vec<_> = (0..10).map(|n| spawn(move || n)).collect();
                    for child in children {
                        total.fetch_add(child.join().unwrap(), Ordering::Relaxed);
                    }
                    assert_eq!(hub::stats().live, 0);
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 4 * 45);
    });
}

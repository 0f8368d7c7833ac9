//! Spawning onto another thread's hub.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use greenling::error::Killed;
use greenling::hub::{self, Handle};
use greenling::io::Adapter;
use greenling::thread::{self, Builder};
use greenling::{spawn, yield_now};

use crate::common::deadline;
use crate::logger;

/// Another thread with a hub, which does something until it is told to end.
struct Other {
    handle: Handle,
    main: thread::Thread,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Other {
    /// `wait` is called again and again; it must return when main is unparked.
    fn new(mut wait: impl FnMut() + Send + 'static) -> Other {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel();
        let flag = stop.clone();
        let thread = std::thread::spawn(move || {
            sender.send((hub::handle(), thread::current())).unwrap();
            while !flag.load(Ordering::SeqCst) {
                wait();
            }
        });
        let (handle, main) = receiver.recv().unwrap();
        Other { handle, main, stop, thread }
    }

    fn end(self) -> Handle {
        self.stop.store(true, Ordering::SeqCst);
        self.main.unpark();
        self.thread.join().unwrap();
        self.handle
    }
}

/// Sends work of every kind to a hub and looks at what comes back.
fn exercise(other: Other) {
    let there = other.thread.thread().id();
    for n in 0..200 {
        let child = other.handle.spawn(move || (n * 2, std::thread::current().id())).unwrap();
        assert_eq!(child.join().unwrap(), (n * 2, there));
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(2)); // so that it falls asleep for sure
        }
    }
    let waits = other.handle.spawn(|| {
        let children: Vec<_> = (0..10)
            .map(|n| {
                spawn(move || {
                    thread::sleep(Duration::from_millis(n));
                    n
                })
            })
            .collect();
        children.into_iter().map(|child| child.join().unwrap()).sum::<u64>()
    });
    assert_eq!(waits.unwrap().join().unwrap(), 45);
    let broken = other.handle.spawn(|| std::panic::resume_unwind(Box::new("there"))).unwrap();
    assert_eq!(broken.join().unwrap_err().downcast_ref(), Some(&"there"));
    let killed = other.handle.spawn(thread::park).unwrap();
    killed.kill();
    assert!(killed.join().unwrap_err().is::<Killed>());
    other.end();
}

#[test]
fn a_hub_that_sleeps_without_io_takes_spawns() {
    deadline(20, || exercise(Other::new(thread::park)));
}

#[test]
fn a_hub_that_sleeps_in_epoll_takes_spawns() {
    deadline(20, || {
        let (reader, mut writer) = crate::common::pipe().unwrap();
        let mut waiting = None;
        let mut reader = Some(Adapter::new(reader).unwrap());
        exercise(Other::new(move || {
            waiting.get_or_insert_with(|| {
                let mut reader = reader.take().unwrap();
                spawn(move || reader.read(&mut [0]).unwrap())
            });
            thread::park();
        }));
        let _ = writer.write(b"x");
    });
}

#[test]
fn a_hub_with_a_timer_takes_spawns() {
    deadline(20, || {
        exercise(Other::new(|| thread::park_timeout(Duration::from_secs(3600))));
    });
}

#[test]
fn a_busy_hub_takes_spawns() {
    deadline(20, || exercise(Other::new(yield_now)));
    deadline(20, || {
        let mut started = false;
        exercise(Other::new(move || {
            if !started {
                started = true;
                for _ in 0..10 {
                    spawn(|| {
                        loop {
                            yield_now();
                        }
                    });
                }
            }
            thread::park();
        }));
    });
}

#[test]
fn the_own_hub_takes_spawns_through_its_handle() {
    deadline(20, || {
        let here = hub::handle();
        let child = here.spawn(|| std::thread::current().id()).unwrap();
        assert!(!child.is_finished());
        assert_eq!(child.join().unwrap(), std::thread::current().id());
        let inside = spawn(move || here.spawn(|| 4).unwrap().join().unwrap());
        assert_eq!(inside.join().unwrap(), 4);
    });
}

#[test]
fn a_coroutine_that_joins_on_another_hub_lets_its_own_run() {
    deadline(20, || {
        let other = Other::new(thread::park);
        let handle = other.handle.clone();
        let joins = spawn(move || {
            handle.spawn(|| thread::sleep(Duration::from_millis(20))).unwrap().join().unwrap();
        });
        let mut turns = 0;
        while !joins.is_finished() {
            thread::sleep(Duration::from_millis(1));
            turns += 1;
        }
        assert!(turns > 3);
        other.end();
    });
}

#[test]
fn spawns_of_one_thread_begin_in_their_order() {
    deadline(20, || {
        let other = Other::new(thread::park);
        let order = Arc::new(Mutex::new(Vec::new()));
        let children: Vec<_> = (0..1000)
            .map(|n| {
                let order = order.clone();
                other.handle.spawn(move || order.lock().unwrap().push(n)).unwrap()
            })
            .collect();
        children.into_iter().for_each(|child| child.join().unwrap());
        assert!(order.lock().unwrap().iter().copied().eq(0..1000));
        other.end();
    });
}

#[test]
fn name_and_stack_size_are_honoured() {
    deadline(20, || {
        let other = Other::new(thread::park);
        let builder = Builder::new().name("sent".into()).stack_size(4 << 20);
        let child = other
            .handle
            .spawn_with(builder, || {
                let mut frame = [1u8; 2 << 20]; // overflows the usual size
                std::hint::black_box(&mut frame);
                (thread::current().name().map(str::to_owned), frame[1 << 20])
            })
            .unwrap();
        assert_eq!(child.thread().name(), Some("sent"));
        assert_eq!(child.join().unwrap(), (Some("sent".to_owned()), 1));
        other.end();
    });
}

#[test]
fn eight_threads_spawn_onto_one_hub() {
    deadline(60, || {
        const EACH: u32 = 2000;
        let other = Other::new(thread::park);
        let ran = Arc::new(AtomicU32::new(0));
        let senders: Vec<_> = (0..8)
            .map(|_| {
                let (handle, ran) = (other.handle.clone(), ran.clone());
                std::thread::spawn(move || {
                    let mut children = Vec::new();
                    for _ in 0..EACH {
                        let ran = ran.clone();
                        let child = handle.spawn(move || ran.fetch_add(1, Ordering::Relaxed));
                        children.push(child.unwrap());
                    }
                    children.into_iter().map(|child| child.join().unwrap()).max().unwrap()
                })
            })
            .collect();
        let last = senders.into_iter().map(|sender| sender.join().unwrap()).max();
        assert_eq!(last, Some(8 * EACH - 1));
        assert_eq!(ran.load(Ordering::Relaxed), 8 * EACH);
        other.end();
    });
}

#[test]
fn an_ended_thread_takes_nothing() {
    deadline(20, || {
        let handle = Other::new(thread::park).end();
        let probe = Arc::new(());
        let own = probe.clone();
        let refused = handle.spawn(move || drop(own)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotConnected);
        assert_eq!(Arc::strong_count(&probe), 1, "the closure is dropped");
    });
}

/// The data structures of an ended hub serve the next one; the handle must not.
#[test]
fn a_handle_never_means_a_later_hub() {
    deadline(20, || {
        let handles: Vec<_> = (0..20).map(|_| Other::new(thread::park).end()).collect();
        let others: Vec<_> = (0..20).map(|_| Other::new(thread::park)).collect();
        for handle in handles {
            assert_eq!(handle.spawn(|| ()).unwrap_err().kind(), ErrorKind::NotConnected);
        }
        for other in others {
            assert_eq!(other.handle.spawn(|| 1).unwrap().join().unwrap(), 1);
            other.end();
        }
    });
}

#[test]
fn what_an_ending_thread_never_looked_at_ends_without_running() {
    deadline(20, || {
        let (to_thread, work) = mpsc::channel::<()>();
        let (sender, receiver) = mpsc::channel();
        let ending = std::thread::spawn(move || {
            sender.send(hub::handle()).unwrap();
            work.recv().unwrap(); // blocks the whole thread
        });
        let handle = receiver.recv().unwrap();
        let probe = Arc::new(());
        let own = probe.clone();
        let child = handle.spawn(move || drop(own)).unwrap();
        assert!(!child.is_finished());
        to_thread.send(()).unwrap();
        assert!(child.join().unwrap_err().is::<Killed>());
        ending.join().unwrap();
        assert_eq!(Arc::strong_count(&probe), 1);
    });
}

#[test]
fn a_spawn_that_races_with_the_end_of_the_thread_runs_or_is_refused() {
    deadline(60, || {
        let (mut ran, mut killed, mut refused) = (0, 0, 0);
        for n in 0..300 {
            let (sender, receiver) = mpsc::channel();
            let ending = std::thread::spawn(move || {
                sender.send(hub::handle()).unwrap();
                for _ in 0..n % 40 {
                    yield_now();
                    std::hint::spin_loop();
                }
            });
            let handle = receiver.recv().unwrap();
            let probe = Arc::new(());
            for _ in 0..5 {
                let own = probe.clone();
                match handle.spawn(move || Arc::strong_count(&own)) {
                    Ok(child) => match child.join() {
                        Ok(_) => ran += 1,
                        Err(payload) => {
                            assert!(payload.is::<Killed>());
                            killed += 1;
                        }
                    },
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::NotConnected);
                        refused += 1;
                    }
                }
            }
            ending.join().unwrap();
            assert_eq!(Arc::strong_count(&probe), 1);
        }
        assert_eq!(ran + killed + refused, 1500);
    });
}

#[test]
fn a_stack_that_the_other_hub_cannot_have_is_a_kill_and_a_log_entry() {
    logger::install();
    deadline(20, || {
        let other = Other::new(thread::park);
        let probe = Arc::new(());
        let own = probe.clone();
        let builder = Builder::new().name("gigantic".into()).stack_size(usize::MAX);
        let child = other.handle.spawn_with(builder, move || drop(own)).unwrap();
        assert!(child.join().unwrap_err().is::<Killed>());
        assert_eq!(other.handle.spawn(|| 1).unwrap().join().unwrap(), 1, "the hub lives on");
        other.end();
        assert_eq!(Arc::strong_count(&probe), 1);
        assert!(!logger::records_with("stack").is_empty());
    });
}

/// The function of a coroutine that cannot be taken in is dropped somewhere; its destructor may do anything.
#[test]
fn the_destructor_of_a_refused_closure_may_wait() {
    struct Waits(Arc<AtomicBool>);
    impl Drop for Waits {
        fn drop(&mut self) {
            assert!(thread::current().name().is_none_or(|name| !name.contains('\0')));
            yield_now();
            thread::sleep(Duration::from_millis(5));
            assert_eq!(spawn(|| 3).join().unwrap(), 3);
            self.0.store(true, Ordering::SeqCst);
        }
    }
    type Wait = fn() -> bool;
    // What main is doing meanwhile must not be disturbed.
    let waits: [Wait; 4] = [
        || {
            let began = std::time::Instant::now();
            thread::park_timeout(Duration::from_millis(100));
            began.elapsed() >= Duration::from_millis(100)
        },
        || {
            let child = spawn(|| {
                thread::sleep(Duration::from_millis(60));
                6
            });
            child.join().unwrap() == 6
        },
        || {
            let began = std::time::Instant::now();
            thread::sleep(Duration::from_millis(100));
            began.elapsed() >= Duration::from_millis(100)
        },
        || {
            let (reader, mut writer) = crate::common::pipe().unwrap();
            let feeder = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(60));
                writer.write_all(b"x").unwrap();
            });
            let got = Adapter::new(reader).unwrap().read(&mut [0; 4]).unwrap();
            feeder.join().unwrap();
            got == 1
        },
    ];
    for wait in waits {
        deadline(20, move || {
            let (sender, receiver) = mpsc::channel();
            let other = std::thread::spawn(move || {
                // Somebody has run here and is gone.
                spawn(yield_now).join().unwrap();
                sender.send(hub::handle()).unwrap();
                let undisturbed = wait();
                thread::sleep(Duration::from_millis(50));
                undisturbed
            });
            let handle = receiver.recv().unwrap();
            std::thread::sleep(Duration::from_millis(10));
            let done = Arc::new(AtomicBool::new(false));
            let waits = Waits(done.clone());
            let child = handle
                .spawn_with(Builder::new().stack_size(usize::MAX), move || drop(waits))
                .unwrap();
            assert!(child.join().unwrap_err().is::<Killed>());
            assert!(other.join().unwrap(), "main's wait was disturbed");
            assert!(done.load(Ordering::SeqCst));
        });
    }
}

//! fork(2) and then use: the child has a fresh hub, and the parent notices nothing.
//!
//! Every test forks in a process of its own, so that no other test is copied.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use greenling::error::Killed;
use greenling::hub;
use greenling::io::Adapter;
use greenling::net::{TcpListener, TcpStream};
use greenling::thread;
use greenling::{spawn, yield_now};

use crate::child::{self, On};

/// Runs `body` in a fork of this process and fails if it fails there. The calling coroutine waits, and lets
/// the parent's others run.
#[track_caller]
fn in_fork(body: impl FnOnce()) {
    // SAFETY: what the child does afterwards is what is being tested.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let ok = catch_unwind(AssertUnwindSafe(body)).is_ok();
        // SAFETY: ends the child without running the parent's destructors and exit handlers.
        unsafe { libc::_exit(i32::from(!ok)) };
    }
    let began = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for the write.
        match unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } {
            0 => thread::sleep(Duration::from_millis(1)),
            _ => {
                assert_eq!(status, 0, "the forked child has failed");
                return;
            }
        }
        if began.elapsed() > Duration::from_secs(15) {
            // SAFETY: the child is ours and not yet waited for.
            unsafe { libc::kill(pid, libc::SIGABRT) };
            panic!("the forked child hangs");
        }
    }
}

/// Uses everything that a hub has.
fn work() {
    assert_eq!(spawn(|| 1).join().unwrap(), 1);
    let began = Instant::now();
    let sleepers: Vec<_> =
        (0..10).map(|_| spawn(|| thread::sleep(Duration::from_millis(5)))).collect();
    sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    assert!(began.elapsed() >= Duration::from_millis(5));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap()
    });
    let mut client = TcpStream::connect(addr).unwrap();
    for _ in 0..3 {
        client.write_all(b"ping").unwrap();
        let mut reply = [0; 4];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"ping");
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.join().unwrap(), 12);

    let here = hub::handle();
    let main = thread::current();
    let other = std::thread::spawn(move || {
        let sent = here.spawn(|| 7).unwrap().join().unwrap();
        main.unpark();
        let own = spawn(move || sent + 1);
        own.join().unwrap()
    });
    thread::park();
    while !other.is_finished() {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(other.join().unwrap(), 8);
}

/// Coroutines of every kind that fail if they ever run in another process.
struct Natives {
    stop: Rc<Cell<bool>>,
    running: Vec<thread::JoinHandle<()>>,
    feed: std::fs::File,
    received: Rc<Cell<u32>>,
}

impl Natives {
    fn new() -> Natives {
        let home = std::process::id();
        let stay = move || {
            if std::process::id() != home {
                // Not by a panic, which would be its own coroutine's.
                eprintln!("a coroutine of the parent runs in the child");
                // SAFETY: ends the process.
                unsafe { libc::_exit(9) };
            }
        };
        let stop = Rc::new(Cell::new(false));
        let received = Rc::new(Cell::new(0));
        let (reader, feed) = crate::common::pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        let count = received.clone();
        let until = |wait: fn()| {
            let stop = stop.clone();
            spawn(move || {
                while !stop.get() {
                    wait();
                    stay();
                }
            })
        };
        let mut running = vec![
            until(yield_now),
            until(|| thread::sleep(Duration::from_millis(1))),
            until(|| thread::park_timeout(Duration::from_millis(2))),
            spawn(move || {
                while reader.read(&mut [0]).unwrap() > 0 {
                    stay();
                    count.set(count.get() + 1);
                }
            }),
        ];
        // One that waits for another: the end of the one must not wake the other in the child.
        let joined = until(|| thread::sleep(Duration::from_millis(1)));
        running.push(spawn(move || {
            let end = joined.join();
            stay();
            end.unwrap();
        }));
        Natives { stop, running, feed, received }
    }

    /// They still do what they did.
    fn check(&mut self) {
        let before = self.received.get();
        for _ in 0..3 {
            self.feed.write_all(b"x").unwrap();
            thread::sleep(Duration::from_millis(3));
        }
        assert_eq!(self.received.get(), before + 3);
    }

    fn end(mut self) {
        self.check();
        self.stop.set(true);
        drop(self.feed);
        self.running.into_iter().for_each(|one| one.join().unwrap());
        assert_eq!(hub::stats().live, 0);
    }
}

#[test]
fn the_child_of_a_main_thread_has_a_fresh_hub() {
    let ended = child::run(On::MainThread, 30, || {
        let mut natives = Natives::new();
        natives.check();
        for _ in 0..3 {
            in_fork(|| {
                let stats = hub::stats();
                assert_eq!((stats.live, stats.parked, stats.timers), (0, 0, 0));
                work();
                thread::sleep(Duration::from_millis(20));
                work();
            });
            natives.check();
        }
        natives.end();
        work();
    });
    ended.succeeded();
}

#[test]
fn the_child_of_another_thread_has_a_fresh_hub() {
    let ended = child::run(On::OtherThread, 30, || {
        let mut natives = Natives::new();
        natives.check();
        in_fork(|| {
            work();
            // It is a main thread now, and its end that of the process.
            work();
        });
        natives.end();
    });
    ended.succeeded();
}

#[test]
fn a_coroutine_that_forks_goes_on_in_both() {
    let ended = child::run(On::MainThread, 30, || {
        let mut natives = Natives::new();
        let forks = spawn(|| {
            in_fork(|| {
                assert_eq!(hub::stats().live, 1, "itself");
                work();
                yield_now();
            });
            "parent"
        });
        assert_eq!(forks.join().unwrap(), "parent");
        natives.check();
        natives.end();
    });
    ended.succeeded();
}

/// What main does while a coroutine forks it goes on to do in the child.
#[test]
fn main_goes_on_in_the_child_whatever_it_waits_for() {
    fn forker(value: u32, main: Option<thread::Thread>) -> thread::JoinHandle<u32> {
        // Returns in the child as well.
        spawn(move || {
            // SAFETY: as above.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0);
            if pid > 0 {
                loop {
                    let mut status = 0;
                    // SAFETY: `status` is valid for the write.
                    if unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } != 0 {
                        assert_eq!(status, 0, "the forked child has failed");
                        break;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            }
            if let Some(main) = main {
                main.unpark();
            }
            value
        })
    }
    fn exit_in_child(home: u32) {
        if std::process::id() != home {
            work();
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
    }
    let ended = child::run(On::MainThread, 30, || {
        let home = std::process::id();
        // It joins the one that forks.
        assert_eq!(forker(5, None).join().unwrap(), 5);
        exit_in_child(home);
        // It joins one that stays behind.
        let sleeper = spawn(|| thread::sleep(Duration::from_millis(200)));
        let forks = forker(6, None);
        let end = sleeper.join();
        assert_eq!(end.is_err(), std::process::id() != home);
        exit_in_child(home);
        forks.join().unwrap();
        // It sleeps.
        let forks = forker(7, None);
        let began = Instant::now();
        thread::sleep(Duration::from_millis(30));
        assert!(began.elapsed() >= Duration::from_millis(30));
        exit_in_child(home);
        forks.join().unwrap();
        // It yields.
        let forks = forker(8, None);
        while !forks.is_finished() {
            yield_now();
        }
        exit_in_child(home);
        // It is parked, and the one that has forked unparks it.
        let forks = forker(9, Some(thread::current()));
        thread::park();
        exit_in_child(home);
        assert_eq!(forks.join().unwrap(), 9);
    });
    ended.succeeded();
}

#[test]
fn a_main_that_waits_for_io_goes_on_waiting_in_the_child() {
    let ended = child::run(On::MainThread, 30, || {
        let home = std::process::id();
        let (reader, mut writer) = crate::common::pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        let forks = spawn(move || {
            thread::sleep(Duration::from_millis(5));
            // SAFETY: as above.
            let pid = unsafe { libc::fork() };
            // The child's main reads the first byte, the parent's the second, in this order.
            if pid == 0 {
                thread::sleep(Duration::from_millis(5));
                writer.write_all(b"c").unwrap();
                thread::sleep(Duration::from_secs(3600));
            }
            let mut status = 0;
            // Blocks the parent's thread, so that it does not take the child's byte.
            // SAFETY: `status` is valid for the write.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert_eq!(status, 0);
            writer.write_all(b"p").unwrap();
        });
        let mut byte = [0];
        assert_eq!(reader.read(&mut byte).unwrap(), 1);
        if std::process::id() != home {
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(byte != *b"c")) };
        }
        assert_eq!(&byte, b"p");
        forks.join().unwrap();
    });
    ended.succeeded();
}

#[test]
fn those_that_stay_behind_count_as_killed_in_the_child() {
    let ended = child::run(On::MainThread, 30, || {
        let stays = spawn(thread::park);
        let unstarted = Rc::new(Cell::new(None));
        yield_now();
        unstarted.set(Some(spawn(|| 1)));
        let handles = Cell::new(Some(stays));
        in_fork(|| {
            let stays = handles.take().unwrap();
            stays.thread().unpark();
            stays.kill();
            assert!(stays.is_finished());
            assert!(stays.join().unwrap_err().is::<Killed>());
            assert!(unstarted.take().unwrap().join().unwrap_err().is::<Killed>());
        });
        let stays = handles.take().unwrap();
        stays.thread().unpark();
        stays.join().unwrap();
        assert_eq!(unstarted.take().unwrap().join().unwrap(), 1);
    });
    ended.succeeded();
}

#[test]
fn a_wake_that_was_on_its_way_does_not_block_later_ones() {
    let ended = child::run(On::MainThread, 30, || {
        let main = thread::current();
        for _ in 0..3 {
            let own = main.clone();
            std::thread::spawn(move || own.unpark()).join().unwrap();
            // The message is in the inbox. The token is used up without looking there.
            thread::park();
            in_fork(|| {
                let own = main.clone();
                let other = std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(20));
                    own.unpark();
                });
                thread::park();
                other.join().unwrap();
                work();
            });
        }
    });
    ended.succeeded();
}

#[test]
fn a_child_may_fork() {
    let ended = child::run(On::MainThread, 30, || {
        let mut natives = Natives::new();
        in_fork(|| {
            work();
            let natives = Natives::new();
            in_fork(|| {
                work();
                in_fork(work);
            });
            natives.end();
            work();
        });
        natives.check();
        natives.end();
    });
    ended.succeeded();
}

/// A hub may use what an earlier hub has left; the child must not share it with the parent.
#[test]
fn a_hub_that_has_had_predecessors_but_no_io_forks_as_well() {
    let ended = child::run(On::MainThread, 60, || {
        std::thread::spawn(work).join().unwrap();
        std::thread::spawn(|| {
            spawn(|| ()).join().unwrap();
            for _ in 0..20 {
                // SAFETY: as above.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    for _ in 0..5 {
                        let (reader, mut writer) = crate::common::pipe().unwrap();
                        let mut reader = Adapter::new(reader).unwrap();
                        let receiver = spawn(move || reader.read(&mut [0; 4]).unwrap());
                        thread::sleep(Duration::from_millis(1));
                        writer.write_all(b"x").unwrap();
                        if receiver.join().ok() != Some(1) {
                            // SAFETY: ends the process.
                            unsafe { libc::_exit(1) };
                        }
                    }
                    // SAFETY: ends the process.
                    unsafe { libc::_exit(0) };
                }
                // Meanwhile the parent waits for I/O, too.
                let (reader, mut writer) = crate::common::pipe().unwrap();
                let mut reader = Adapter::new(reader).unwrap();
                let waits = spawn(move || reader.read(&mut [0; 4]).unwrap());
                let mut status = 0;
                // SAFETY: `status` is valid for the write.
                while unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == 0 {
                    thread::sleep(Duration::from_micros(300));
                }
                assert_eq!(status, 0);
                writer.write_all(b"x").unwrap();
                assert_eq!(waits.join().unwrap(), 1);
            }
        })
        .join()
        .unwrap();
    });
    ended.succeeded();
}

/// A daemon forks once and lives on as the child, with threads of its own.
#[test]
fn threads_of_the_child_work_together() {
    let ended = child::run(On::MainThread, 30, || {
        work();
        in_fork(|| {
            // Two hubs wait for the same socket, and a third thread closes it.
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let stream = Arc::new(listener.accept().unwrap().0);
            let waiting: Vec<_> = (0..2)
                .map(|_| {
                    let stream = stream.clone();
                    std::thread::spawn(move || (&*stream).read(&mut [0]).is_err())
                })
                .collect();
            thread::sleep(Duration::from_millis(50));
            stream.close();
            for waiting in waiting {
                assert!(waiting.join().unwrap(), "woken by the close");
            }
            drop(peer);
            for _ in 0..5 {
                let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(work)).collect();
                threads.into_iter().for_each(|thread| thread.join().unwrap());
            }
        });
    });
    ended.succeeded();
}

#[test]
fn the_hubs_of_threads_that_are_not_in_the_child_take_nothing_there() {
    let ended = child::run(On::MainThread, 30, || {
        let (sender, receiver) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let other = std::thread::spawn(move || {
            sender.send((hub::handle(), thread::current(), spawn(thread::park))).unwrap();
            while !flag.load(Ordering::SeqCst) {
                thread::park();
            }
        });
        let (handle, main, parked) = receiver.recv().unwrap();
        in_fork(|| {
            main.unpark(); // harmless
            let refused = handle.spawn(|| ()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::NotConnected);
            work();
        });
        assert_eq!(handle.spawn(|| 4).unwrap().join().unwrap(), 4);
        parked.thread().unpark();
        parked.join().unwrap();
        stop.store(true, Ordering::SeqCst);
        main.unpark();
        other.join().unwrap();
    });
    ended.succeeded();
}

/// Whatever the other threads are in the middle of, the child does not find a lock held.
/// A hub that comes and goes, on a thread that std has not made and takes no lock for.
fn a_short_thread() {
    extern "C" fn life(_: *mut libc::c_void) -> *mut libc::c_void {
        spawn(|| ()).join().unwrap();
        std::ptr::null_mut()
    }
    let mut thread = 0;
    // SAFETY: the function fits, and the thread is joined.
    unsafe {
        let (none, nothing) = (std::ptr::null(), std::ptr::null_mut());
        assert_eq!(libc::pthread_create(&mut thread, none, life, nothing), 0);
        assert_eq!(libc::pthread_join(thread, std::ptr::null_mut()), 0);
    }
}

#[test]
fn a_fork_in_a_storm_leaves_a_child_that_works() {
    let ended = child::run(On::MainThread, 120, || {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU32::new(0));
        let here = hub::handle();
        let main = thread::current();
        let begun = Arc::new(std::sync::Barrier::new(5));
        let storm: Vec<_> = (0..4)
            .map(|_| {
                let (stop, here, main) = (stop.clone(), here.clone(), main.clone());
                let (done, begun) = (done.clone(), begun.clone());
                std::thread::spawn(move || {
                    begun.wait();
                    while !stop.load(Ordering::Relaxed) {
                        main.unpark();
                        let count = done.clone();
                        let sent = here.spawn(move || count.fetch_add(1, Ordering::Relaxed));
                        let own = spawn(|| thread::sleep(Duration::from_micros(20)));
                        own.join().unwrap();
                        let _ = sent.unwrap().join();
                        a_short_thread();
                    }
                })
            })
            .collect();
        // std's own locks, which a thread takes as it begins, would stay taken in a child.
        begun.wait();
        for _ in 0..40 {
            thread::sleep(Duration::from_millis(1));
            in_fork(|| {
                assert_eq!(spawn(|| 1).join().unwrap(), 1);
                thread::sleep(Duration::from_millis(1));
                let here = hub::handle();
                let other = std::thread::spawn(move || here.spawn(|| 3).unwrap().join().unwrap());
                while !other.is_finished() {
                    thread::sleep(Duration::from_millis(1));
                }
                assert_eq!(other.join().unwrap(), 3);
            });
        }
        stop.store(true, Ordering::Relaxed);
        while !storm.iter().all(|thread| thread.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
        storm.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(done.load(Ordering::Relaxed) > 40);
    });
    ended.succeeded();
}

#[test]
fn commands_run_as_ever() {
    let ended = child::run(On::OtherThread, 60, || {
        let mut natives = Natives::new();
        for _ in 0..3 {
            let output = Command::new("echo").arg("hello").output().unwrap();
            assert_eq!(output.stdout, b"hello\n");
            let in_coroutine = spawn(|| {
                let mut command = Command::new("sh");
                command.args(["-c", "exit 7"]);
                // SAFETY: does nothing. It makes std use fork and exec instead of posix_spawn.
                unsafe { command.pre_exec(|| Ok(())) };
                command.status().unwrap().code()
            });
            assert_eq!(in_coroutine.join().unwrap(), Some(7));
            natives.check();
        }
        let missing = Command::new("/nonexistent").status().unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        natives.end();
    });
    ended.succeeded();
}

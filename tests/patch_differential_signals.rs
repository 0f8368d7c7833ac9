//! Signals that arrive while a call waits, and what is *meant* to differ from the kernel's own calls: each
//! difference is asserted on both sides, so that this is its list.

#![cfg(feature = "patch")]

mod common;
#[path = "common/native.rs"]
mod native;

use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use common::{deadline, pipe};
use greenling::{patch, spawn};
use native::{WAIT, both, outcome, same};

const EINTR: i64 = -(libc::EINTR as i64);
const EBADF: i64 = -(libc::EBADF as i64);

extern "C" fn ignore(_: i32) {}

/// Has the signal do nothing, and calls restarted after it or not.
fn handle(signal: i32, restart: bool) {
    // SAFETY: a handler that does nothing.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(i32) as usize;
        action.sa_flags = if restart { libc::SA_RESTART } else { 0 };
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

/// Sends a signal to the calling thread while `call` waits, and does `then` some time after it.
fn interrupted<T>(
    signal: i32,
    then: impl FnOnce() + Send + 'static,
    call: impl FnOnce() -> T,
) -> T {
    // SAFETY: the thread lives until the sender is joined.
    let target = unsafe { libc::pthread_self() };
    let sender = thread::spawn(move || {
        thread::sleep(WAIT);
        // SAFETY: as above.
        unsafe { libc::pthread_kill(target, signal) };
        thread::sleep(WAIT);
        then();
    });
    let result = call();
    sender.join().unwrap();
    result
}

fn read(fd: i32) -> i64 {
    let mut buf = [0_u8; 8];
    // SAFETY: the buffer has this length.
    outcome(unsafe { libc::read(fd, buf.as_mut_ptr().cast(), 8) } as i64)
}

fn send(mut to: impl Write + Send + 'static) -> impl FnOnce() + Send + 'static {
    move || {
        to.write_all(b"x").unwrap();
        mem::forget(to);
    }
}

// ---- the same -------------------------------------------------------------------------------------

#[test]
fn calls_that_are_restarted_go_on() {
    deadline(60, || {
        let seen = same(|| {
            handle(libc::SIGUSR1, true);
            let (a, b) = UnixStream::pair().unwrap();
            let (c, d) = pipe().unwrap();
            let socket = interrupted(libc::SIGUSR1, send(b), || read(a.as_raw_fd()));
            let pipe = interrupted(libc::SIGUSR1, send(d), || read(c.as_raw_fd()));
            let child = std::process::Command::new("sleep").arg("1").spawn().unwrap().id();
            // SAFETY: null says that the status is not wanted.
            let waited = interrupted(
                libc::SIGUSR1,
                || (),
                || unsafe { libc::waitpid(child as i32, ptr::null_mut(), 0) == child as i32 },
            );
            (socket, pipe, waited)
        });
        assert_eq!(seen, (1, 1, true));
    });
}

/// A call that lets signals in while it waits ends for them, in whatever way they are handled.
#[test]
fn a_call_with_a_mask_ends_for_what_it_lets_in() {
    deadline(60, || {
        let seen = same(|| {
            handle(libc::SIGUSR1, true);
            // SAFETY: sets and times are valid.
            unsafe {
                let (mut blocked, mut none): (libc::sigset_t, libc::sigset_t) = mem::zeroed();
                libc::sigemptyset(&mut none);
                libc::sigemptyset(&mut blocked);
                libc::sigaddset(&mut blocked, libc::SIGUSR1);
                libc::pthread_sigmask(libc::SIG_BLOCK, &blocked, ptr::null_mut());
                let time = libc::timespec { tv_sec: 30, tv_nsec: 0 };
                let nothing = ptr::null_mut();
                let selected = interrupted(
                    libc::SIGUSR1,
                    || (),
                    || outcome(libc::pselect(0, nothing, nothing, nothing, &time, &none)),
                );
                let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(0));
                let mut events: [libc::epoll_event; 1] = mem::zeroed();
                let waited = interrupted(
                    libc::SIGUSR1,
                    || (),
                    || {
                        let place = events.as_mut_ptr();
                        outcome(libc::epoll_pwait(epoll.as_raw_fd(), place, 1, 30_000, &none))
                    },
                );
                // One that does not let it in.
                let polled = interrupted(
                    libc::SIGUSR1,
                    || (),
                    || {
                        let time = libc::timespec { tv_sec: 1, tv_nsec: 0 };
                        outcome(libc::ppoll(ptr::null_mut(), 0, &time, &blocked))
                    },
                );
                (selected, waited, polled)
            }
        });
        assert_eq!(seen, (EINTR, EINTR, 0));
    });
}

#[test]
fn a_signalfd_is_read() {
    deadline(60, || {
        let seen = same(|| {
            // SAFETY: the set is valid; the descriptor is ours; a record has this length.
            unsafe {
                let mut set: libc::sigset_t = mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, libc::SIGUSR1);
                libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
                let fd = OwnedFd::from_raw_fd(libc::signalfd(-1, &set, libc::SFD_CLOEXEC));
                interrupted(
                    libc::SIGUSR1,
                    || (),
                    || {
                        let mut record: libc::signalfd_siginfo = mem::zeroed();
                        let (place, len) = ((&raw mut record).cast(), size_of_val(&record));
                        let count = outcome(libc::read(fd.as_raw_fd(), place, len) as i64);
                        (count, record.ssi_signo)
                    },
                )
            }
        });
        assert_eq!(seen, (128, libc::SIGUSR1 as u32));
    });
}

// ---- what differs, on purpose ---------------------------------------------------------------------

/// Handlers run, but no call of a coroutine ends for a signal: whose signal it would be nobody could say.
#[test]
fn difference_signals_do_not_end_calls() {
    deadline(120, || {
        let (native, patched) = both(|| {
            let signal = libc::SIGUSR2;
            handle(signal, false);
            let (a, b) = UnixStream::pair().unwrap();
            let (c, d) = pipe().unwrap();
            let socket = interrupted(signal, send(b), || read(a.as_raw_fd()));
            let pipe = interrupted(signal, send(d), || read(c.as_raw_fd()));
            // These end even for one that restarts others.
            handle(signal, true);
            let (e, f) = UnixStream::pair().unwrap();
            let polled = interrupted(signal, send(f), || {
                let mut entry =
                    libc::pollfd { fd: e.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                // SAFETY: one entry.
                outcome(unsafe { libc::poll(&mut entry, 1, -1) })
            });
            let slept = interrupted(
                signal,
                || (),
                || {
                    let time = libc::timespec { tv_sec: 1, tv_nsec: 0 };
                    let start = Instant::now();
                    // SAFETY: the time is valid.
                    let result = outcome(unsafe { libc::nanosleep(&time, ptr::null_mut()) });
                    (result, start.elapsed() >= Duration::from_secs(1))
                },
            );
            (socket, pipe, polled, slept)
        });
        assert_eq!(native, (EINTR, EINTR, EINTR, (EINTR, false)));
        assert_eq!(patched, (1, 1, 1, (0, true)));
    });
}

/// The kernel lets a call finish with what its descriptor was; here it is woken, and finds that it is closed.
#[test]
fn difference_closing_wakes_who_waits() {
    /// Closes or replaces a descriptor while somebody reads it or polls it, and then sends something to what it was.
    fn scenario(replace: bool, poll: bool) -> i64 {
        let (a, b) = UnixStream::pair().unwrap();
        let fd = a.into_raw_fd();
        let other = File::open("/dev/null").unwrap();
        let closer = thread::spawn(move || {
            thread::sleep(WAIT);
            // SAFETY: the number is ours until here, or stays ours.
            unsafe {
                if replace {
                    libc::dup2(other.as_raw_fd(), fd);
                } else {
                    libc::close(fd);
                }
            }
            thread::sleep(WAIT);
            let _ = (&b).write_all(b"x");
            b
        });
        let result = if poll {
            let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry.
            let found = outcome(unsafe { libc::poll(&mut entry, 1, 20_000) });
            found * 1000 + i64::from(entry.revents)
        } else {
            read(fd)
        };
        drop(closer.join().unwrap());
        if replace {
            // SAFETY: ours.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        result
    }
    deadline(120, || {
        let (native, patched) = both(|| {
            [(false, false), (true, false), (false, true), (true, true)]
                .map(|(replace, poll)| scenario(replace, poll))
        });
        // The peer's byte still comes to the read, and poll tells of it.
        let polled = 1000 + i64::from(libc::POLLIN);
        assert_eq!(native[..2], [1, 1]);
        assert!(native[2..].iter().all(|found| *found >= polled), "{native:?}");
        let closed = 1000 + i64::from(libc::POLLNVAL);
        // What replaces it is always ready.
        assert_eq!(patched, [EBADF, EBADF, closed, polled]);
    });
}

/// A blocking receive of the kernel's waits for as many bytes as `SO_RCVLOWAT` says; ours takes what is there.
#[test]
fn difference_the_low_water_mark_is_for_poll_only() {
    deadline(60, || {
        let (native, patched) = both(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let a = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut b = listener.accept().unwrap().0;
            let mark = 3;
            // SAFETY: the option is that long.
            unsafe {
                let (level, name) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT);
                let place: *const i32 = &mark;
                libc::setsockopt(a.as_raw_fd(), level, name, place.cast(), 4);
            }
            b.write_all(b"ab").unwrap();
            let sender = thread::spawn(move || {
                thread::sleep(WAIT);
                b.write_all(b"cdef").unwrap();
                b
            });
            thread::sleep(WAIT / 10);
            let got = read(a.as_raw_fd());
            let b = ManuallyDrop::new(sender.join().unwrap());
            drop(ManuallyDrop::into_inner(b));
            got
        });
        assert_eq!((native, patched), (6, 2));
    });
}

/// Not even one that falls into the middle of a look at what is ready.
#[test]
fn a_storm_of_signals_ends_no_look() {
    deadline(120, || {
        handle(libc::SIGUSR2, false);
        patch::all();
        let over = Arc::new(AtomicBool::new(false));
        // SAFETY: it takes nothing and cannot fail.
        let (target, told) = (unsafe { libc::pthread_self() }, over.clone());
        let storm = thread::spawn(move || {
            while !told.load(Ordering::Acquire) {
                // SAFETY: the thread lives until it has joined this one.
                unsafe { libc::pthread_kill(target, libc::SIGUSR2) };
            }
        });
        let looks = spawn(|| {
            let (a, _b) = UnixStream::pair().unwrap();
            let fd = a.as_raw_fd();
            let mut found = Vec::new();
            for round in 0..5_000 {
                // Most of them only look, some wait a little.
                let millis = i32::from(round % 500 == 0);
                let time = libc::timespec { tv_sec: 0, tv_nsec: i64::from(millis) * 1_000_000 };
                let mut short = libc::timeval { tv_sec: 0, tv_usec: i64::from(millis) * 1000 };
                let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                // SAFETY: places and sets are valid, and the number is below a set's size.
                let results = unsafe {
                    let mut mask: libc::sigset_t = mem::zeroed();
                    libc::sigemptyset(&mut mask);
                    let mut set: libc::fd_set = mem::zeroed();
                    libc::FD_SET(fd, &mut set);
                    let mut sets = [set; 2];
                    let [first, second] = sets.each_mut().map(ptr::from_mut);
                    let none = ptr::null_mut();
                    [
                        libc::poll(&mut entry, 1, millis),
                        libc::ppoll(&mut entry, 1, &time, &mask),
                        libc::select(fd + 1, first, none, none, &mut short),
                        libc::pselect(fd + 1, second, none, none, &time, &mask),
                    ]
                };
                for (name, result) in ["poll", "ppoll", "select", "pselect"].iter().zip(results) {
                    if result != 0 {
                        found.push((*name, outcome(result)));
                    }
                }
            }
            found
        });
        let found = looks.join().unwrap();
        over.store(true, Ordering::Release);
        storm.join().unwrap();
        assert!(found.is_empty(), "{} of 20,000: {:?}", found.len(), &found[..1]);
    });
}

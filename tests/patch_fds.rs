//! Patched pipes, terminals and files, and waiting for many descriptors at once.

#![cfg(feature = "patch")]

mod common;
#[path = "common/native.rs"]
mod native;

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use common::{deadline, pipe};
use greenling::event::Event;
use greenling::{patch, spawn};
use native::{WAIT, both, outcome, same};

const SECOND: Duration = Duration::from_secs(1);

fn poll(fds: &mut [libc::pollfd], millis: i32) -> i64 {
    // SAFETY: the array has this length.
    outcome(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as u64, millis) })
}

fn entry(fd: &impl AsRawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
}

#[test]
fn a_pipe_waits_both_ways() {
    deadline(30, || {
        same(|| {
            let (mut reader, mut writer) = pipe().unwrap();
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                writer.write_all(b"first").unwrap();
                thread::sleep(WAIT);
            });
            let mut buf = [0; 16];
            let first = reader.read(&mut buf).unwrap();
            let end = reader.read(&mut buf).unwrap();
            peer.join().unwrap();

            let (mut reader, mut writer) = pipe().unwrap();
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                let mut all = Vec::new();
                reader.read_to_end(&mut all).unwrap();
                all
            });
            let data: Vec<u8> = (0..300_001_u32).map(|n| (n % 251) as u8).collect();
            let single = writer.write(&data).unwrap();
            let parts = [IoSlice::new(&data[..100]), IoSlice::new(&data[100..])];
            let vectored = writer.write_vectored(&parts).unwrap();
            drop(writer);
            let got = peer.join().unwrap();
            assert!(got[..data.len()] == data && got[data.len()..] == data);
            (first, end, single, vectored)
        });
    });
}

#[test]
fn a_pipe_without_a_reader_and_one_that_does_not_block() {
    deadline(30, || {
        same(|| {
            let (reader, mut writer) = pipe().unwrap();
            // SAFETY: no pointers.
            unsafe {
                for fd in [reader.as_raw_fd(), writer.as_raw_fd()] {
                    let flags = libc::fcntl(fd, libc::F_GETFL);
                    libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
                }
            }
            let empty = (&reader).read(&mut [0; 4]).unwrap_err().kind();
            let some = writer.write(&[1; 1 << 20]).unwrap();
            let full = writer.write(&[1; 4097]).unwrap_err().kind();
            drop(reader);
            let broken = writer.write(b"x").unwrap_err().raw_os_error();
            (empty, some, full, broken)
        });
    });
}

/// A pseudo-terminal: what a program sees, and what a person sees.
fn terminal() -> (File, File) {
    let (mut near, mut far) = (0, 0);
    // SAFETY: two places for descriptors, which are ours then; nothing else is wanted.
    unsafe {
        let made = libc::openpty(&mut near, &mut far, ptr::null_mut(), ptr::null(), ptr::null());
        assert_eq!(made, 0);
        (File::from_raw_fd(far), File::from_raw_fd(near))
    }
}

#[test]
fn a_terminal_waits_for_a_line() {
    deadline(30, || {
        let line = same(|| {
            let (mut program, mut person) = terminal();
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                person.write_all(b"half").unwrap();
                thread::sleep(WAIT);
                person.write_all(b" a line\n").unwrap();
                person
            });
            let mut buf = [0; 64];
            let count = program.read(&mut buf).unwrap();
            peer.join().unwrap();
            buf[..count].to_vec()
        });
        assert_eq!(line, b"half a line\n");
    });
}

#[test]
fn a_terminal_takes_more_than_it_has_room_for() {
    deadline(30, || {
        same(|| {
            let (mut program, mut person) = terminal();
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                let (mut count, mut buf) = (0, [0; 4096]);
                while count < 100_000 {
                    count += person.read(&mut buf).unwrap();
                }
                count
            });
            let written = program.write(&[b'x'; 100_000]).unwrap();
            (written, peer.join().unwrap())
        });
    });
}

#[test]
fn files_are_just_read() {
    deadline(30, || {
        same(|| {
            let path =
                std::env::temp_dir().join(format!("greenling-file-{:?}", thread::current().id()));
            std::fs::write(&path, vec![3; 500_000]).unwrap();
            let mut file = File::open(&path).unwrap();
            let all = file.read(&mut vec![0; 1_000_000]).unwrap();
            let end = file.read(&mut [0; 8]).unwrap();
            std::fs::remove_file(&path).unwrap();
            let null = File::open("/dev/null").unwrap().read(&mut [0; 8]).unwrap();
            let zero = File::open("/dev/zero").unwrap().read(&mut [1; 8]).unwrap();
            let folder = File::open("/").unwrap().read(&mut [0; 8]).unwrap_err().raw_os_error();
            (all, end, null, zero, folder)
        });
    });
}

#[test]
fn an_eventfd_and_a_timerfd_wait() {
    deadline(30, || {
        same(|| {
            // SAFETY: the kernel hands out descriptors, which are ours.
            let (mut event, mut timer) = unsafe {
                let event = libc::eventfd(0, 0);
                let timer = libc::timerfd_create(libc::CLOCK_MONOTONIC, 0);
                let time = libc::itimerspec {
                    it_interval: mem::zeroed(),
                    it_value: libc::timespec { tv_sec: 0, tv_nsec: 400_000_000 },
                };
                libc::timerfd_settime(timer, 0, &time, ptr::null_mut());
                (File::from_raw_fd(event), File::from_raw_fd(timer))
            };
            let mut copy = event.try_clone().unwrap();
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                copy.write(&7_u64.to_ne_bytes()).unwrap()
            });
            let mut value = [0; 8];
            event.read_exact(&mut value).unwrap();
            let mut expired = [0; 8];
            timer.read_exact(&mut expired).unwrap();
            (u64::from_ne_bytes(value), u64::from_ne_bytes(expired), peer.join().unwrap())
        });
    });
}

// ---- poll and select ------------------------------------------------------------------------------

#[test]
fn poll_takes_all_kinds_of_entries() {
    deadline(30, || {
        same(|| {
            let (a, mut b) = UnixStream::pair().unwrap();
            let file = File::open("/etc/passwd").unwrap();
            let none = libc::pollfd { fd: -1, events: libc::POLLIN, revents: 77 };
            // A regular file is ready at once.
            let mut at_once = [entry(&file, libc::POLLIN), entry(&a, libc::POLLIN), none];
            let first = poll(&mut at_once, 5000);
            // The same descriptor twice, and a negative one.
            let mut twice =
                [entry(&a, libc::POLLIN), none, entry(&a, libc::POLLIN | libc::POLLPRI)];
            let late = poll(&mut twice, 400);
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                b.write_all(b"x").unwrap();
                b
            });
            let found = poll(&mut twice, -1);
            let events = twice.map(|entry| entry.revents);
            drop(peer.join().unwrap());
            let mut gone = [entry(&a, libc::POLLOUT | libc::POLLRDHUP)];
            let hung_up = poll(&mut gone, -1);
            let mut closed = [libc::pollfd { fd: 1_000_000, events: libc::POLLIN, revents: 0 }];
            let invalid = poll(&mut closed, 5000);
            let of_files = at_once.map(|entry| entry.revents);
            (
                (first, of_files, late, found),
                (events, hung_up, gone[0].revents, invalid, closed[0].revents),
            )
        });
    });
}

#[test]
fn poll_without_descriptors_is_a_sleep() {
    deadline(30, || {
        let (native, patched) = both(|| {
            let start = Instant::now();
            (poll(&mut [], 400), start.elapsed())
        });
        assert_eq!((native.0, patched.0), (0, 0));
        assert!(patched.1 >= WAIT && patched.1 < WAIT + 3 * SECOND, "{:?}", patched.1);
    });
}

#[test]
fn poll_leaves_nobody_waiting() {
    deadline(30, || {
        patch::all();
        let (a, mut b) = UnixStream::pair().unwrap();
        let mut reader = a.try_clone().unwrap();
        let polled = Arc::new(Event::new());
        let tell = polled.clone();
        let work = spawn(move || {
            for _ in 0..3 {
                assert_eq!(poll(&mut [entry(&a, libc::POLLIN)], 5), 0);
            }
            tell.set();
            assert_eq!(poll(&mut [entry(&a, libc::POLLIN)], -1), 1);
        });
        polled.wait();
        b.write_all(b"x").unwrap();
        work.join().unwrap();
        // Main is alone and reads what is there; then nobody is left to be woken.
        reader.read_exact(&mut [0]).unwrap();
        let before = greenling::hub::stats().switches;
        b.write_all(b"y").unwrap();
        greenling::sleep(Duration::from_millis(20));
        assert!(greenling::hub::stats().switches - before < 5);
    });
}

#[test]
fn select_and_its_time() {
    deadline(30, || {
        same(|| {
            let (a, mut b) = UnixStream::pair().unwrap();
            let select = |millis: i64| {
                // SAFETY: sets and time are valid; the number is below FD_SETSIZE.
                unsafe {
                    let (mut read, mut write): (libc::fd_set, libc::fd_set) = mem::zeroed();
                    libc::FD_SET(a.as_raw_fd(), &mut read);
                    let mut time =
                        libc::timeval { tv_sec: millis / 1000, tv_usec: millis % 1000 * 1000 };
                    let count = a.as_raw_fd() + 1;
                    let found = outcome(libc::select(
                        count,
                        &mut read,
                        &mut write,
                        ptr::null_mut(),
                        &mut time,
                    ));
                    let is_set = libc::FD_ISSET(a.as_raw_fd(), &read);
                    (found, is_set, time.tv_sec > 10)
                }
            };
            let late = select(400);
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                b.write_all(b"x").unwrap();
                b
            });
            let found = select(20_500);
            peer.join().unwrap();
            (late, found)
        });
    });
}

#[test]
fn a_signal_ends_ppoll_that_lets_it_in() {
    extern "C" fn ignore(_: i32) {}
    deadline(30, || {
        let result = same(|| {
            // SAFETY: a handler that does nothing; sets and time are valid.
            unsafe {
                let handler: extern "C" fn(i32) = ignore;
                libc::signal(libc::SIGUSR1, handler as usize);
                let (mut blocked, mut none): (libc::sigset_t, libc::sigset_t) = mem::zeroed();
                libc::sigemptyset(&mut none);
                libc::sigemptyset(&mut blocked);
                libc::sigaddset(&mut blocked, libc::SIGUSR1);
                libc::pthread_sigmask(libc::SIG_BLOCK, &blocked, ptr::null_mut());
                let target = libc::pthread_self();
                let peer = thread::spawn(move || {
                    thread::sleep(WAIT);
                    libc::pthread_kill(target, libc::SIGUSR1)
                });
                let time = libc::timespec { tv_sec: 20, tv_nsec: 0 };
                let start = Instant::now();
                let result = outcome(libc::ppoll(ptr::null_mut(), 0, &time, &none));
                peer.join().unwrap();
                (result, start.elapsed() < 10 * SECOND)
            }
        });
        assert_eq!(result, (-i64::from(libc::EINTR), true));
    });
}

#[test]
fn another_epoll_instance_is_waited_for() {
    deadline(30, || {
        let found = same(|| {
            let (a, mut b) = UnixStream::pair().unwrap();
            // SAFETY: the descriptor is ours; events and arguments are valid.
            unsafe {
                let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
                let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 42 };
                let (fd, add) = (epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
                libc::epoll_ctl(fd, add, a.as_raw_fd(), &mut event);
                let mut events: [libc::epoll_event; 4] = mem::zeroed();
                let late = outcome(libc::epoll_wait(fd, events.as_mut_ptr(), 4, 300));
                let peer = thread::spawn(move || {
                    thread::sleep(WAIT);
                    b.write_all(b"x").unwrap();
                    b
                });
                let found = outcome(libc::epoll_wait(fd, events.as_mut_ptr(), 4, -1));
                let again = outcome(libc::epoll_wait(fd, events.as_mut_ptr(), 4, -1));
                peer.join().unwrap();
                (late, found, again, { events[0].u64 })
            }
        });
        assert_eq!(found, (0, 1, 1, 42));
    });
}

//! Programs of system calls that are written by hand: each runs natively on a thread and patched in a coroutine,
//! comes to the same, and blocks nobody. (Generated ones are in `patch_differential`.)

#![cfg(feature = "patch")]

mod common;
#[path = "common/native.rs"]
mod native;
#[path = "common/sockets.rs"]
mod sockets;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use common::{deadline, pipe};
use greenling::{patch, spawn};
use native::{WAIT, outcome, same};
use sockets::{Full, set_option};

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// A file in memory with so many bytes, from its beginning.
fn memory_file(len: usize) -> File {
    // SAFETY: a C string; the descriptor is ours.
    let mut file = unsafe { File::from_raw_fd(libc::memfd_create(c"data".as_ptr(), 0)) };
    file.write_all(&vec![9; len]).unwrap();
    file.rewind().unwrap();
    file
}

fn read(fd: &impl AsRawFd, len: usize) -> i64 {
    let mut buf = vec![0_u8; len];
    // SAFETY: the buffer has this length.
    outcome(unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast(), len) } as i64)
}

fn late<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(|| {
        thread::sleep(WAIT);
        act()
    })
}

// ---- std's copies ---------------------------------------------------------------------------------

/// std copies a file to a pipe by sendfile(2).
#[test]
fn a_file_is_copied_to_a_pipe() {
    deadline(60, || {
        same(|| {
            let mut file = memory_file(1_000_000);
            let (mut reader, mut writer) = pipe().unwrap();
            let peer = late(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).unwrap();
                all.len()
            });
            let copied = io::copy(&mut file, &mut writer).unwrap();
            drop(writer);
            (copied, peer.join().unwrap())
        });
    });
}

/// And pipes by splice(2).
#[test]
fn a_pipe_is_copied_to_a_socket_and_back() {
    deadline(60, || {
        same(|| {
            let (mut from, mut source) = pipe().unwrap();
            let (mut near, mut far) = UnixStream::pair().unwrap();
            let (mut rest, mut to) = pipe().unwrap();
            let writer = late(move || source.write_all(&[1; 300_000]).unwrap());
            let reader = late(move || {
                let mut all = Vec::new();
                thread::sleep(WAIT);
                rest.read_to_end(&mut all).unwrap();
                all.len()
            });
            let back = thread::spawn(move || io::copy(&mut far, &mut to).unwrap());
            let copied = io::copy(&mut from, &mut near).unwrap();
            drop(near);
            writer.join().unwrap();
            (copied, back.join().unwrap(), reader.join().unwrap())
        });
    });
}

#[test]
fn splice_and_sendfile_wait_for_pipes() {
    deadline(60, || {
        same(|| {
            let file = memory_file(200_000);
            let (from, mut source) = pipe().unwrap();
            let (mut reader, to) = pipe().unwrap();
            let (near, far) = UnixStream::pair().unwrap();
            let splice = |from: i32, to: i32, len, flags| {
                let none = ptr::null_mut();
                // SAFETY: no offsets.
                outcome(unsafe { libc::splice(from, none, to, none, len, flags) } as i64)
            };
            let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
            let at_once = splice(from, to, 100, libc::SPLICE_F_NONBLOCK);
            let writer = late(move || {
                source.write_all(b"hello").unwrap();
                source
            });
            let moved = splice(from, to, 100, 0);
            let source = writer.join().unwrap();
            let wrong = splice(file.as_raw_fd(), near.as_raw_fd(), 100, 0);
            // SAFETY: null says that the file's own place is meant.
            let send = || unsafe {
                outcome(libc::sendfile(to, file.as_raw_fd(), ptr::null_mut(), 65536) as i64)
            };
            // What is left of a pipe that is full when the second begins.
            let first = send();
            let peer = late(move || {
                let mut buf = vec![0; 40_000];
                reader.read_exact(&mut buf).unwrap();
                reader
            });
            let second = send() > 0;
            let mut reader = peer.join().unwrap();
            // SAFETY: no pointers.
            unsafe { libc::fcntl(to, libc::F_SETFL, libc::O_NONBLOCK) };
            while send() > 0 {}
            let full = send();
            drop(source);
            let end = splice(from, near.as_raw_fd(), 100, 0);
            reader.read_exact(&mut [0; 4]).unwrap();
            drop((reader, far));
            (at_once, moved, wrong, first > 60_000, second, full, end)
        });
    });
}

// ---- terminals ------------------------------------------------------------------------------------

/// A pseudo-terminal without line editing; a read of it waits for `least` bytes, and for so many tenths of a
/// second.
fn terminal(least: u8, tenths: u8) -> (File, File) {
    let (mut near, mut far) = (0, 0);
    // SAFETY: two places for descriptors, which are ours then; the settings are read before they are written.
    unsafe {
        let made = libc::openpty(&mut near, &mut far, ptr::null_mut(), ptr::null(), ptr::null());
        assert_eq!(made, 0);
        let mut settings: libc::termios = mem::zeroed();
        libc::tcgetattr(far, &mut settings);
        libc::cfmakeraw(&mut settings);
        settings.c_cc[libc::VMIN] = least;
        settings.c_cc[libc::VTIME] = tenths;
        libc::tcsetattr(far, libc::TCSANOW, &settings);
        (File::from_raw_fd(far), File::from_raw_fd(near))
    }
}

#[test]
fn a_terminal_waits_as_it_is_set() {
    deadline(60, || {
        let counts = same(|| {
            let never = read(&terminal(0, 0).0, 8);
            let start = Instant::now();
            let (program, _person) = terminal(0, 4);
            let limited = read(&program, 8);
            let took = start.elapsed() >= WAIT * 9 / 10;
            // Something comes within the time.
            let (program, mut person) = terminal(0, 50);
            let peer = late(move || {
                person.write_all(b"abc").unwrap();
                person
            });
            let in_time = read(&program, 8);
            drop(peer.join().unwrap());
            // Three bytes that come one by one.
            let (program, mut person) = terminal(3, 0);
            let peer = thread::spawn(move || {
                for byte in b"xyz" {
                    thread::sleep(WAIT / 2);
                    person.write_all(&[*byte]).unwrap();
                }
                person
            });
            let three = read(&program, 8);
            drop(peer.join().unwrap());
            // Two of four, and then nothing for some time.
            let (program, mut person) = terminal(4, 5);
            let peer = late(move || {
                person.write_all(b"ab").unwrap();
                person
            });
            let gap = read(&program, 8);
            drop(peer.join().unwrap());
            (never, limited, took, in_time, three, gap)
        });
        assert_eq!(counts, (0, 0, true, 3, 3, 2));
    });
}

// ---- what cannot be read --------------------------------------------------------------------------

#[test]
fn what_cannot_be_read_is_an_error_at_once() {
    deadline(30, || {
        same(|| {
            // SAFETY: descriptors are ours.
            unsafe {
                let event = OwnedFd::from_raw_fd(libc::eventfd(0, 0));
                let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(0));
                let own = libc::getpid();
                let process =
                    OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, own, 0) as i32);
                let written = libc::write(event.as_raw_fd(), [0_u8; 4].as_ptr().cast(), 4);
                let written = outcome(written as i64);
                (read(&event, 4), written, read(&epoll, 8), read(&process, 8))
            }
        });
    });
}

// ---- sockets --------------------------------------------------------------------------------------

#[test]
fn a_datagram_that_nobody_takes_is_refused() {
    deadline(30, || {
        let seen = same(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            // One that hears of itself only, so that nobody else gets its number meanwhile.
            let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
            deaf.connect(deaf.local_addr().unwrap()).unwrap();
            socket.connect(deaf.local_addr().unwrap()).unwrap();
            let copy = socket.try_clone().unwrap();
            let peer = late(move || copy.send(b"x").unwrap());
            let while_waiting = socket.recv(&mut [0; 4]).unwrap_err().raw_os_error();
            let sent = peer.join().unwrap();
            thread::sleep(WAIT / 10);
            socket.set_read_timeout(Some(WAIT)).unwrap();
            let later = socket.recv(&mut [0; 4]).unwrap_err().kind();
            (while_waiting, sent, later)
        });
        assert_eq!(seen.0, Some(libc::ECONNREFUSED));
    });
}

#[test]
fn connecting_keeps_its_time_limit_and_goes_on() {
    deadline(60, || {
        let seen = same(|| {
            let full = Full::new();
            // SAFETY: the address is as long as is said; the descriptor is ours.
            unsafe {
                let fd = OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0));
                let limit = libc::timeval { tv_sec: 0, tv_usec: 400_000 };
                set_option(&fd, libc::SO_SNDTIMEO, &limit);
                let mut addr: libc::sockaddr_in = mem::zeroed();
                addr.sin_family = libc::AF_INET as u16;
                addr.sin_port = full.addr.port().to_be();
                addr.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
                let len = size_of_val(&addr) as u32;
                let connect =
                    || outcome(libc::connect(fd.as_raw_fd(), (&raw const addr).cast(), len));
                let start = Instant::now();
                let (late, again) = (connect(), connect());
                let took = start.elapsed() >= WAIT * 3 / 2;
                let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) & libc::O_NONBLOCK;
                let none = libc::timeval { tv_sec: 0, tv_usec: 0 };
                set_option(&fd, libc::SO_SNDTIMEO, &none);
                let peer = late_accept(full);
                let made = connect();
                let twice = connect();
                drop(peer.join().unwrap());
                (late, again, took, flags, made, twice)
            }
        });
        assert_eq!((seen.0, seen.2), (-i64::from(libc::EINPROGRESS), true));
    });
}

fn late_accept(full: Full) -> thread::JoinHandle<TcpListener> {
    late(|| full.accept_all())
}

#[test]
fn a_non_blocking_connect_is_in_progress_and_polled_for() {
    deadline(60, || {
        same(|| {
            let full = Full::new();
            // SAFETY: as above.
            unsafe {
                let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
                let fd = OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, kind, 0));
                let mut addr: libc::sockaddr_in = mem::zeroed();
                addr.sin_family = libc::AF_INET as u16;
                addr.sin_port = full.addr.port().to_be();
                addr.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
                let len = size_of_val(&addr) as u32;
                let connect =
                    || outcome(libc::connect(fd.as_raw_fd(), (&raw const addr).cast(), len));
                let (first, second) = (connect(), connect());
                let poll = |millis| {
                    let events = libc::POLLOUT;
                    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
                    (outcome(libc::poll(&mut entry, 1, millis)), entry.revents)
                };
                let waiting = poll(300);
                let peer = late_accept(full);
                let made = poll(-1);
                drop(peer.join().unwrap());
                (first, second, waiting, made)
            }
        });
    });
}

#[test]
fn urgent_data_is_polled_for_and_received() {
    deadline(30, || {
        same(|| {
            let (a, b) = tcp_pair();
            let (fd, peer) = (a.as_raw_fd(), b.as_raw_fd());
            // SAFETY: one byte each; sets and entries are valid.
            unsafe {
                let mut byte = 0_u8;
                let place = (&raw mut byte).cast();
                let none = outcome(libc::recv(fd, place, 1, libc::MSG_OOB) as i64);
                let peer = late(move || libc::send(peer, c"!".as_ptr().cast(), 1, libc::MSG_OOB));
                let mut entry = libc::pollfd { fd, events: libc::POLLPRI, revents: 0 };
                let polled = outcome(libc::poll(&mut entry, 1, -1));
                peer.join().unwrap();
                let mut except: libc::fd_set = mem::zeroed();
                libc::FD_SET(fd, &mut except);
                let nobody = ptr::null_mut();
                let selected =
                    outcome(libc::select(fd + 1, nobody, nobody, &mut except, ptr::null_mut()));
                let got = outcome(libc::recv(fd, place, 1, libc::MSG_OOB) as i64);
                (none, polled, entry.revents, selected, got, byte)
            }
        });
        assert_eq!(libc::MSG_OOB & libc::MSG_DONTWAIT, 0);
    });
}

/// Several wait for the same descriptor when it is shut down.
#[test]
fn a_shutdown_ends_everybodys_wait() {
    deadline(30, || {
        let seen = same(|| {
            let (a, _b) = tcp_pair();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let waiters: Vec<_> = (0..4)
                .map(|index| {
                    let (stream, listener) =
                        (a.try_clone().unwrap(), listener.try_clone().unwrap());
                    thread::spawn(move || match index {
                        0 => read(&stream, 8),
                        1 => {
                            let (fd, events) = (stream.as_raw_fd(), libc::POLLIN);
                            let mut entry = libc::pollfd { fd, events, revents: 0 };
                            // SAFETY: one entry.
                            outcome(unsafe { libc::poll(&mut entry, 1, -1) })
                        }
                        2 => listener
                            .accept()
                            .map_or_else(|error| -i64::from(error.raw_os_error().unwrap()), |_| 1),
                        _ => {
                            let mut buf = [0_u8; 8];
                            let (fd, place) = (stream.as_raw_fd(), buf.as_mut_ptr().cast());
                            // SAFETY: the buffer has this length.
                            let all = unsafe { libc::recv(fd, place, 8, libc::MSG_WAITALL) };
                            outcome(all as i64)
                        }
                    })
                })
                .collect();
            thread::sleep(WAIT);
            a.shutdown(std::net::Shutdown::Both).unwrap();
            // SAFETY: no pointers.
            unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RD) };
            waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(seen, [0, 1, -i64::from(libc::EINVAL), 0]);
    });
}

/// The same among coroutines of one thread.
#[test]
fn a_shutdown_ends_the_waits_of_coroutines() {
    deadline(30, || {
        patch::all();
        let (a, _b) = tcp_pair();
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let stream = a.try_clone().unwrap();
                spawn(move || read(&stream, 8))
            })
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let copy = listener.try_clone().unwrap();
        let acceptor = spawn(move || copy.accept().unwrap_err().raw_os_error());
        greenling::sleep(Duration::from_millis(20));
        a.shutdown(std::net::Shutdown::Both).unwrap();
        // SAFETY: no pointers.
        unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RD) };
        readers.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap(), 0));
        assert_eq!(acceptor.join().unwrap(), Some(libc::EINVAL));
    });
}

//! Patched locks of files, and what moves bytes without a buffer.

#![cfg(feature = "patch")]

mod common;
#[path = "common/native.rs"]
mod native;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use common::{deadline, pipe};
use greenling::{patch, sleep, spawn};
use native::{WAIT, outcome, same};

const MS: Duration = Duration::from_millis(1);

/// A file, and its name for further openings.
fn file() -> (File, String) {
    // SAFETY: a C string; the descriptor is ours.
    let file =
        unsafe { File::from_raw_fd(libc::memfd_create(c"data".as_ptr(), libc::MFD_CLOEXEC)) };
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    (file, name)
}

fn open(name: &str) -> File {
    File::options().read(true).write(true).open(name).unwrap()
}

fn region(kind: i32) -> libc::flock {
    // SAFETY: plain data: from the start, to the end of the file.
    let mut region: libc::flock = unsafe { mem::zeroed() };
    region.l_type = kind as libc::c_short;
    region
}

fn fcntl(file: &File, command: i32, kind: i32) -> i64 {
    let mut region = region(kind);
    // SAFETY: the region is valid.
    outcome(unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut region) })
}

fn flock(file: &File, operation: i32) -> i64 {
    // SAFETY: no pointers.
    outcome(unsafe { libc::flock(file.as_raw_fd(), operation) })
}

/// Two coroutines of one thread: whoever waits must not keep the holder from running.
#[test]
fn locks_of_open_files_between_coroutines() {
    deadline(60, || {
        patch::all();
        type Call = fn(&File) -> i64;
        let by_flock: [Call; 2] =
            [|file| flock(file, libc::LOCK_EX), |file| flock(file, libc::LOCK_UN)];
        let by_fcntl: [Call; 2] = [
            |file| fcntl(file, libc::F_OFD_SETLKW, libc::F_WRLCK),
            |file| fcntl(file, libc::F_OFD_SETLK, libc::F_UNLCK),
        ];
        for [lock, unlock] in [by_flock, by_fcntl] {
            let (_data, name) = file();
            let workers: Vec<_> = (0..5)
                .map(|_| {
                    let name = name.clone();
                    spawn(move || {
                        let mut file = open(&name);
                        for _ in 0..5 {
                            assert_eq!(lock(&file), 0);
                            file.rewind().unwrap();
                            let mut text = String::new();
                            file.read_to_string(&mut text).unwrap();
                            let count = text.parse::<u32>().unwrap_or(0) + 1;
                            thread::sleep(2 * MS);
                            file.rewind().unwrap();
                            write!(file, "{count}").unwrap();
                            assert_eq!(unlock(&file), 0);
                        }
                    })
                })
                .collect();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            let mut text = String::new();
            open(&name).read_to_string(&mut text).unwrap();
            assert_eq!(text, "25");
        }
    });
}

/// `F_SETLKW`: the lock is the process's, so another process holds it.
#[test]
fn locks_of_another_process() {
    deadline(60, || {
        same(|| {
            let (data, _) = file();
            let (mut reader, writer) = pipe().unwrap();
            // SAFETY: the child makes only system calls, and ends by one.
            let child = unsafe { libc::fork() };
            assert!(child >= 0);
            if child == 0 {
                let taken = fcntl(&data, libc::F_SETLK, libc::F_WRLCK) as u8;
                let time = libc::timespec { tv_sec: 0, tv_nsec: WAIT.as_nanos() as i64 };
                // SAFETY: the buffer and the time are valid.
                unsafe {
                    libc::syscall(libc::SYS_write, writer.as_raw_fd(), &raw const taken, 1);
                    libc::syscall(libc::SYS_nanosleep, &raw const time, 0);
                    libc::syscall(libc::SYS_exit_group, 0);
                }
            }
            let mut taken = [1];
            reader.read_exact(&mut taken).unwrap();
            let start = Instant::now();
            let refused = fcntl(&data, libc::F_SETLK, libc::F_WRLCK);
            let waited = fcntl(&data, libc::F_SETLKW, libc::F_WRLCK);
            let took = start.elapsed();
            let mut status = 0;
            // SAFETY: `status` is valid for the write.
            let reaped = unsafe { libc::waitpid(child, &mut status, 0) };
            assert_eq!(reaped, child);
            (taken, refused, waited, took >= WAIT / 2)
        });
    });
}

/// A kill waits for the lock: it is there then, and given back as its owner unwinds.
#[test]
fn a_killed_coroutine_gets_its_file_lock_first() {
    deadline(60, || {
        patch::all();
        let (holder, name) = file();
        assert_eq!(flock(&holder, libc::LOCK_EX), 0);
        let wanted = name.clone();
        let waiter = spawn(move || {
            let file = open(&wanted);
            assert_eq!(flock(&file, libc::LOCK_EX), 0);
            sleep(Duration::from_secs(100));
        });
        sleep(20 * MS);
        waiter.kill_timeout(Duration::ZERO);
        sleep(20 * MS);
        assert!(!waiter.is_finished());
        assert_eq!(flock(&holder, libc::LOCK_UN), 0);
        assert!(waiter.join().is_err());
        // It waits, since a child that another test forks has everything open for a moment.
        assert_eq!(flock(&open(&name), libc::LOCK_EX), 0);
    });
}

fn splice(from: &impl AsRawFd, to: &impl AsRawFd, len: usize, flags: u32) -> i64 {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: null pointers say that there are no offsets.
    outcome(unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), len, flags) } as i64)
}

fn data() -> Vec<u8> {
    (0..700_001_u32).map(|n| (n % 251) as u8).collect()
}

/// A thread that writes the data, and takes its time before it begins and in the middle.
fn slow_writer(mut to: impl Write + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let data = data();
        thread::sleep(WAIT);
        to.write_all(&data[..100_000]).unwrap();
        thread::sleep(WAIT);
        to.write_all(&data[100_000..]).unwrap();
    })
}

fn slow_reader(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        thread::sleep(3 * WAIT);
        from.read_to_end(&mut all).unwrap();
        all
    })
}

/// Moves all that there is.
fn splice_all(from: &impl AsRawFd, to: &impl AsRawFd) -> (i64, i64) {
    let mut sum = 0;
    loop {
        match splice(from, to, 1 << 20, 0) {
            count @ 1.. => sum += count,
            end => return (sum, end),
        }
    }
}

#[test]
fn splice_waits_at_both_ends() {
    deadline(120, || {
        same(|| {
            // From a pipe to a pipe.
            let ((a, b), (c, d)) = (pipe().unwrap(), pipe().unwrap());
            let (writer, reader) = (slow_writer(b), slow_reader(c));
            let pipes = splice_all(&a, &d);
            drop(d);
            writer.join().unwrap();
            assert!(reader.join().unwrap() == data());
            // From a pipe to a socket.
            let ((a, b), (c, d)) = (pipe().unwrap(), UnixStream::pair().unwrap());
            let (writer, reader) = (slow_writer(b), slow_reader(c));
            let to_socket = splice_all(&a, &d);
            drop(d);
            writer.join().unwrap();
            assert!(reader.join().unwrap() == data());
            // From a socket to a pipe.
            let ((a, b), (c, d)) = (UnixStream::pair().unwrap(), pipe().unwrap());
            let (writer, reader) = (slow_writer(b), slow_reader(c));
            let from_socket = splice_all(&a, &d);
            drop(d);
            writer.join().unwrap();
            assert!(reader.join().unwrap() == data());
            (pipes, to_socket, from_socket)
        });
    });
}

#[test]
fn splice_that_is_not_to_wait_does_not() {
    deadline(60, || {
        same(|| {
            let ((a, b), (c, d)) = (pipe().unwrap(), pipe().unwrap());
            let empty = splice(&a, &d, 100, libc::SPLICE_F_NONBLOCK);
            // SAFETY: no pointers.
            unsafe { libc::fcntl(a.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
            let by_flag = splice(&a, &d, 100, 0);
            (&b).write_all(b"hello").unwrap();
            let there = splice(&a, &d, 100, 0);
            let mut text = [0; 5];
            (&c).read_exact(&mut text).unwrap();
            drop(c);
            (&b).write_all(b"more").unwrap();
            // SAFETY: no pointers: a broken pipe is to be an error.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
            let broken = splice(&a, &d, 100, 0);
            let (regular, _) = file();
            let no_pipe = splice(&regular, &regular, 100, 0);
            (empty, by_flag, there, text, broken, no_pipe)
        });
    });
}

#[test]
fn tee_and_vmsplice_wait_for_room_and_for_data() {
    deadline(60, || {
        same(|| {
            let ((a, b), (c, d)) = (pipe().unwrap(), pipe().unwrap());
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                (&b).write_all(b"hello").unwrap();
            });
            // SAFETY: no pointers.
            let copied = outcome(unsafe { libc::tee(a.as_raw_fd(), d.as_raw_fd(), 100, 0) } as i64);
            let (mut one, mut other) = ([0; 5], [0; 5]);
            (&a).read_exact(&mut one).unwrap();
            (&c).read_exact(&mut other).unwrap();
            peer.join().unwrap();
            // Fill the second pipe; somebody makes room later.
            // SAFETY: no pointers.
            let room = unsafe { libc::fcntl(d.as_raw_fd(), libc::F_GETPIPE_SZ) } as usize;
            (&d).write_all(&vec![1; room]).unwrap();
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                let mut all = Vec::new();
                (&c).read_to_end(&mut all).unwrap();
                all.len()
            });
            let text = *b"mapped";
            let iov = libc::iovec { iov_base: text.as_ptr() as *mut _, iov_len: text.len() };
            // SAFETY: the buffer outlives its reader, who is joined below.
            let mapped = outcome(unsafe { libc::vmsplice(d.as_raw_fd(), &iov, 1, 0) } as i64);
            drop(d);
            assert_eq!(peer.join().unwrap(), room + text.len());
            (copied, one, other, mapped)
        });
    });
}

/// `std::io::copy` uses splice and sendfile, here with processes at the ends.
#[test]
fn std_copies_between_processes_sockets_and_files() {
    deadline(120, || {
        same(|| {
            let mut child = Command::new("sh")
                .args(["-c", "sleep 0.4; cat"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let (mut regular, _) = file();
            regular.write_all(&data()).unwrap();
            regular.rewind().unwrap();
            let (mut stdin, mut stdout) =
                (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let (a, b) = UnixStream::pair().unwrap();
            // In another process's hands, so that this side waits at both ends.
            let reader = slow_reader(a);
            let feeder = thread::spawn(move || std::io::copy(&mut regular, &mut stdin).unwrap());
            let out = std::io::copy(&mut stdout, &mut &b).unwrap();
            drop(b);
            let fed = feeder.join().unwrap();
            assert!(reader.join().unwrap() == data());
            assert!(child.wait().unwrap().success());
            (fed, out)
        });
    });
}

#[test]
fn sendfile_waits_for_room_in_a_pipe() {
    deadline(60, || {
        same(|| {
            let (mut regular, _) = file();
            regular.write_all(&data()).unwrap();
            regular.rewind().unwrap();
            let (a, b) = pipe().unwrap();
            let reader = slow_reader(a);
            let sent = std::io::copy(&mut regular, &mut &b).unwrap();
            drop(b);
            assert!(reader.join().unwrap() == data());
            sent
        });
    });
}

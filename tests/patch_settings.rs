//! What patched calls remember of a descriptor is never wrong: not after what the program sets by any number of
//! the same open file, not after a number was reused; and what happens unseen is noticed within moments.

#![cfg(feature = "patch")]

mod common;
#[path = "common/native.rs"]
mod native;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{deadline, pipe};
use greenling::{patch, sleep, spawn};
use native::outcome;

const MS: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_secs(5);

/// A pair of which the first has waited twice: all is remembered of it.
fn used_pair() -> (UnixStream, UnixStream) {
    let (mut a, b) = UnixStream::pair().unwrap();
    use_it(&mut a, &b);
    (a, b)
}

fn use_it(a: &mut impl Read, b: &UnixStream) {
    let mut peer = ManuallyDrop::new(unsafe_copy(b));
    let writer = spawn(move || {
        for _ in 0..2 {
            sleep(MS);
            peer.write_all(b"x").unwrap();
        }
    });
    for _ in 0..2 {
        a.read_exact(&mut [0]).unwrap();
    }
    writer.join().unwrap();
}

/// The same descriptor, which must not be closed twice.
fn unsafe_copy(stream: &UnixStream) -> UnixStream {
    // SAFETY: the caller keeps it open for as long as this is used, and never drops this.
    unsafe { UnixStream::from_raw_fd(stream.as_raw_fd()) }
}

/// In a coroutine, patched.
fn patched(body: impl FnOnce() + Send + 'static) {
    deadline(60, || {
        patch::all();
        spawn(body).join().unwrap();
    });
}

fn would_block(stream: &mut UnixStream) {
    let start = Instant::now();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(start.elapsed() < SOON);
}

#[test]
fn what_becomes_nonblocking_never_waits_again() {
    patched(|| {
        type Set = fn(&UnixStream, bool);
        let by_fcntl: Set = |stream, on| {
            let fd = stream.as_raw_fd();
            // SAFETY: no pointers.
            unsafe {
                let flags = libc::fcntl(fd, libc::F_GETFL) & !libc::O_NONBLOCK;
                let flags = if on { flags | libc::O_NONBLOCK } else { flags };
                assert_eq!(libc::fcntl(fd, libc::F_SETFL, flags), 0);
            }
        };
        let by_std: Set = |stream, on| stream.set_nonblocking(on).unwrap(); // ioctl
        for set in [by_fcntl, by_std] {
            let (mut a, b) = used_pair();
            for _ in 0..3 {
                set(&a, true);
                would_block(&mut a);
                set(&a, false);
                use_it(&mut a, &b);
            }
        }
    });
}

/// `O_NONBLOCK` and the time limits belong to the open file, and not to the number.
#[test]
fn a_change_by_another_number_of_the_same_file_counts() {
    patched(|| {
        type Dup = fn(&UnixStream) -> UnixStream;
        let by_fcntl: Dup = |stream| stream.try_clone().unwrap();
        // SAFETY: no pointers; the new numbers are owned by nobody else.
        let by_dup: Dup =
            |stream| unsafe { UnixStream::from_raw_fd(libc::dup(stream.as_raw_fd())) };
        let by_dup2: Dup = |stream| {
            let target = File::open("/dev/null").unwrap().into_raw_fd();
            // SAFETY: as above.
            unsafe { UnixStream::from_raw_fd(libc::dup2(stream.as_raw_fd(), target)) }
        };
        for dup in [by_fcntl, by_dup, by_dup2] {
            let (mut a, b) = used_pair();
            let mut other = dup(&a);
            use_it(&mut a, &b);
            use_it(&mut other, &b);
            other.set_nonblocking(true).unwrap();
            would_block(&mut a);
            a.set_nonblocking(false).unwrap();
            use_it(&mut other, &b);
            a.set_read_timeout(Some(50 * MS)).unwrap();
            let start = Instant::now();
            would_block(&mut other);
            assert!(start.elapsed() >= 50 * MS);
            // And when one of the two is gone.
            drop(a);
            use_it_with_limit(&mut other, &b);
        }
    });
}

fn use_it_with_limit(stream: &mut UnixStream, b: &UnixStream) {
    stream.set_read_timeout(None).unwrap();
    use_it(stream, b);
    stream.set_read_timeout(Some(20 * MS)).unwrap();
    would_block(stream);
}

#[test]
fn time_limits_are_those_of_now() {
    patched(|| {
        let (mut a, b) = used_pair();
        for limit in [30, 90, 10, 60] {
            a.set_read_timeout(Some(limit * MS)).unwrap();
            for _ in 0..2 {
                let start = Instant::now();
                would_block(&mut a);
                assert!(start.elapsed() >= limit * MS, "{:?} of {limit} ms", start.elapsed());
            }
        }
        a.set_read_timeout(None).unwrap();
        let reader = spawn(move || {
            use_it(&mut a, &b);
            let peer = spawn(move || {
                sleep(300 * MS);
                drop(b);
            });
            let end = a.read(&mut [0]).unwrap(); // longer than any limit there was
            peer.join().unwrap();
            end
        });
        assert_eq!(reader.join().unwrap(), 0);
    });
}

/// By bare system calls, as other crates make them.
#[test]
fn what_happens_unseen_is_noticed() {
    patched(|| {
        let (mut a, b) = used_pair();
        let fd = a.as_raw_fd();
        // SAFETY: no pointers.
        unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK;
            libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFL, flags);
        }
        would_block(&mut a);
        drop((a, b));

        // A time limit.
        let (mut a, _b) = used_pair();
        let time = libc::timeval { tv_sec: 0, tv_usec: 60_000 };
        let (name, len) = (libc::SO_RCVTIMEO, size_of_val(&time));
        let (fd, start) = (a.as_raw_fd(), Instant::now());
        // SAFETY: `time` is that long.
        let set = unsafe {
            libc::syscall(libc::SYS_setsockopt, fd, libc::SOL_SOCKET, name, &raw const time, len)
        };
        assert_eq!(set, 0);
        would_block(&mut a);
        assert!(start.elapsed() >= 60 * MS);
        drop(a);

        // The number means another socket.
        let (a, _b) = used_pair();
        let (fd, (c, d)) = (a.into_raw_fd(), UnixStream::pair().unwrap());
        // SAFETY: no pointers; `fd` is ours.
        assert_eq!(unsafe { libc::syscall(libc::SYS_dup3, c.as_raw_fd(), fd, 0) }, i64::from(fd));
        drop(c);
        // SAFETY: ours.
        let mut reused = unsafe { UnixStream::from_raw_fd(fd) };
        use_it(&mut reused, &d);
    });
}

/// read(2) and write(2) remember what is a socket, and are told if it is none any more.
#[test]
fn a_sockets_number_that_means_a_pipe() {
    patched(|| {
        for seen in [true, false] {
            let (a, b) = UnixStream::pair().unwrap();
            let mut file = ManuallyDrop::new(unsafe_file(&a));
            use_it(&mut *file, &b); // by read(2)
            let (reader, writer) = pipe().unwrap();
            let (from, to) = (reader.as_raw_fd(), a.as_raw_fd());
            // SAFETY: both are ours.
            let result = unsafe {
                if seen {
                    outcome(libc::dup2(from, to))
                } else {
                    outcome(libc::syscall(libc::SYS_dup3, from, to, 0))
                }
            };
            assert_eq!(result, i64::from(to));
            drop(reader);
            let peer = spawn(move || {
                sleep(5 * MS);
                (&writer).write_all(b"pipe").unwrap();
            });
            let mut text = [0; 4];
            file.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"pipe");
            peer.join().unwrap();
        }
    });
}

fn unsafe_file(stream: &UnixStream) -> File {
    // SAFETY: as for `unsafe_copy`.
    unsafe { File::from_raw_fd(stream.as_raw_fd()) }
}

const ROUNDS: u32 = 2000;

/// As strace(1) counts them: a wait needs the call that says that there is nothing, and the one after it.
#[test]
fn a_wait_asks_the_kernel_nothing_that_is_known() {
    const MARK: &str = "GREENLING_TEST_TRACED";
    if std::env::var_os(MARK).is_some() {
        return patched(|| {
            let (mut a, mut b) = UnixStream::pair().unwrap();
            let echo = spawn(move || {
                let mut byte = [0];
                while b.read(&mut byte).unwrap() == 1 {
                    b.write_all(&byte).unwrap();
                }
            });
            for _ in 0..ROUNDS {
                a.write_all(&[7]).unwrap();
                a.read_exact(&mut [0]).unwrap();
            }
            drop(a);
            echo.join().unwrap();
        });
    }
    let calls = "fcntl,getsockopt,epoll_ctl,fstat,newfstatat,recvfrom";
    let traced = Command::new("strace")
        .args(["-f", "-qq", "-e", &format!("trace=?{}", calls.replace(',', ",?"))])
        .arg(std::env::current_exe().unwrap())
        .args(["a_wait_asks_the_kernel_nothing_that_is_known", "--exact"])
        .env(MARK, "1")
        .output();
    let Ok(traced) = traced else {
        return println!("skipped: no strace");
    };
    let trace = String::from_utf8_lossy(&traced.stderr);
    if trace.contains("ptrace") && !trace.contains("recvfrom(") {
        return println!("skipped: no tracing allowed here");
    }
    let count = |name: &str| trace.lines().filter(|line| line.contains(name)).count() as u32;
    let received = count("recvfrom(");
    assert!(received >= 2 * ROUNDS, "{received}: {trace:.2000}");
    for name in ["fcntl(", "getsockopt(", "epoll_ctl(", "fstat(", "newfstatat("] {
        assert!(count(name) < ROUNDS / 4, "{name} {} times in {ROUNDS} rounds", count(name));
    }
}

/// A wait for what was closed unseen ends with what the kernel says of such a number, not with `EAGAIN`.
#[test]
fn a_descriptor_that_is_closed_unseen_is_bad() {
    patched(|| {
        let (a, b) = used_pair();
        // A number that nobody else gets meanwhile.
        // SAFETY: no pointers; ours from then on.
        let mut high = unsafe {
            let high = libc::fcntl(a.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 700);
            assert!(high >= 700);
            ManuallyDrop::new(UnixStream::from_raw_fd(high))
        };
        use_it(&mut *high, &b);
        let fd = high.as_raw_fd();
        let waiting = spawn(move || {
            let mut buf = 0_u8;
            // SAFETY: one byte.
            outcome(unsafe { libc::recv(fd, (&raw mut buf).cast(), 1, 0) } as i64)
        });
        sleep(MS);
        // SAFETY: ours, and not used any more.
        unsafe { libc::syscall(libc::SYS_close, fd) };
        let start = Instant::now();
        assert_eq!(waiting.join().unwrap(), -i64::from(libc::EBADF));
        assert!(start.elapsed() < SOON);
    });
}

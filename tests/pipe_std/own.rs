//! What goes beyond the system's pipes: kill, time limits, and waiting for many.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::io::{PollFd, pipe, poll};
use greenling::{sleep, spawn, timeout};

use crate::common::deadline;

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn a_full_pipe_holds_a_coroutine_and_not_the_thread() {
    deadline(20, || {
        let (reader, mut writer) = pipe().unwrap();
        let waited = timeout(SHORT, || writer.write_all(&[0; 100_000]));
        assert!(waited.is_err());
        // The mode is nobody's business: it was never changed.
        for fd in [reader.as_fd(), writer.as_fd()] {
            // SAFETY: no pointers are passed.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
            assert_eq!(flags & libc::O_NONBLOCK, 0);
        }
    });
}

#[test]
fn a_killed_reader_takes_nothing() {
    deadline(20, || {
        let (reader, mut writer) = pipe().unwrap();
        let reader = Rc::new(reader);
        let killed = spawn({
            let reader = reader.clone();
            move || (&*reader).read(&mut [0; 16])
        });
        sleep(SHORT);
        killed.kill();
        writer.write_all(b"still there").unwrap();
        drop(writer);
        let mut text = String::new();
        (&*reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "still there");
    });
}

#[test]
fn two_readers_share_what_comes() {
    deadline(20, || {
        let (reader, mut writer) = pipe().unwrap();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let mut reader = reader.try_clone().unwrap();
                spawn(move || {
                    let mut got = Vec::new();
                    reader.read_to_end(&mut got).map(|_| got.len())
                })
            })
            .collect();
        for _ in 0..1000 {
            writer.write_all(&[1; 333]).unwrap();
        }
        drop(writer);
        let total: usize = readers.into_iter().map(|reader| reader.join().unwrap().unwrap()).sum();
        assert_eq!(total, 333_000);
    });
}

#[test]
fn hubs_of_two_threads_hammer_one_pipe() {
    deadline(60, || {
        let (reader, writer) = pipe().unwrap();
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let mut reader = reader.try_clone().unwrap();
                    scope.spawn(move || {
                        let (mut buf, mut total) = ([0; 777], 0);
                        loop {
                            match reader.read(&mut buf).unwrap() {
                                0 => return total,
                                count => total += count,
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..2 {
                let mut writer = writer.try_clone().unwrap();
                scope.spawn(move || (0..2000).for_each(|_| writer.write_all(&[1; 1000]).unwrap()));
            }
            drop(writer);
            let total: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
            assert_eq!(total, 4_000_000);
        });
    });
}

#[test]
fn poll_finds_who_is_ready() {
    deadline(20, || {
        let pipes: Vec<_> = (0..50).map(|_| pipe().unwrap()).collect();
        let mut fds: Vec<_> = pipes.iter().map(|(reader, _)| PollFd::readable(reader)).collect();
        assert_eq!(poll(&mut fds, Some(Duration::ZERO)).unwrap(), 0);
        let begun = Instant::now();
        assert_eq!(poll(&mut fds, Some(SHORT)).unwrap(), 0);
        assert!(begun.elapsed() >= SHORT);
        greenling::scope(|scope| {
            scope.spawn(|| {
                sleep(SHORT);
                (&pipes[7].1).write_all(b"x").unwrap();
            });
            assert_eq!(poll(&mut fds, None).unwrap(), 1);
        });
        let ready: Vec<_> = (0..50).filter(|&n| fds[n].is_readable()).collect();
        assert_eq!(ready, [7]);
        // The same descriptor twice, and for different things.
        let (reader, writer) = &pipes[3];
        let mut fds =
            [PollFd::writable(writer), PollFd::readable(reader), PollFd::readable(reader)];
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        assert!(fds[0].is_writable() && !fds[1].is_ready());
        assert!(timeout(SHORT, || poll(&mut fds[1..], None)).is_err());
        assert_eq!(poll(&mut [], Some(SHORT)).unwrap(), 0);
    });
}

#[test]
fn poll_tells_of_ends_and_of_files() {
    deadline(20, || {
        let (reader, writer) = pipe().unwrap();
        drop(writer);
        let mut fds = [PollFd::readable(&reader)];
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        assert!(fds[0].is_hung_up() && fds[0].is_readable() && !fds[0].is_writable());
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut fds = [PollFd::writable(&writer)];
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        assert!(fds[0].is_error() && fds[0].is_writable());
        let file = std::fs::File::open("/etc/passwd").unwrap();
        let mut fds = [PollFd::readable(&file)];
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
    });
}

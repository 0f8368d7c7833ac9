//! The tests that the system's pipes and the crate's have to pass alike.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use super::process::{Command, Stdio};
use super::{pipe, thread};
use crate::common::deadline;

#[test]
fn what_is_written_is_read() {
    deadline(20, || {
        let (mut reader, mut writer) = pipe().unwrap();
        writer.write_all(b"hello").unwrap();
        let mut buf = [0; 16];
        assert_eq!(reader.read(&mut buf).unwrap(), 5);
        assert_eq!(&buf[..5], b"hello");
        drop(writer);
        assert_eq!(reader.read(&mut buf).unwrap(), 0);
        assert_eq!(reader.read(&mut buf).unwrap(), 0);
    });
}

#[test]
fn a_reader_waits_for_a_writer() {
    deadline(20, || {
        let (mut reader, mut writer) = pipe().unwrap();
        let consumer = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        for part in ["a", "b", "c"] {
            thread::sleep(Duration::from_millis(5));
            writer.write_all(part.as_bytes()).unwrap();
        }
        drop(writer);
        assert_eq!(consumer.join().unwrap(), "abc");
    });
}

#[test]
fn a_writer_waits_for_room_and_writes_all() {
    deadline(20, || {
        let (mut reader, mut writer) = pipe().unwrap();
        let producer = thread::spawn(move || {
            let data: Vec<u8> = (0..500_000u32).map(|n| (n % 251) as u8).collect();
            let slices = [IoSlice::new(&data[..200_000]), IoSlice::new(&data[200_000..])];
            writer.write_vectored(&slices).unwrap() + writer.write(&data).unwrap()
        });
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert_eq!(producer.join().unwrap(), 1_000_000);
        assert_eq!(got.len(), 1_000_000);
        let sent = (0..500_000u32).chain(0..500_000).map(|n| (n % 251) as u8);
        assert!(got.into_iter().eq(sent));
    });
}

#[test]
fn nothing_is_read_and_written_at_once() {
    deadline(20, || {
        let (mut reader, mut writer) = pipe().unwrap();
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        assert_eq!(writer.write(&[]).unwrap(), 0);
        writer.flush().unwrap();
    });
}

#[test]
fn a_pipe_without_readers_is_broken() {
    deadline(20, || {
        let (reader, mut writer) = pipe().unwrap();
        let other = reader.try_clone().unwrap();
        drop(reader);
        writer.write_all(b"x").unwrap();
        drop(other);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        // Also if somebody waits for room.
        let (reader, mut writer) = pipe().unwrap();
        let producer = thread::spawn(move || writer.write_all(&[0; 500_000]));
        thread::sleep(Duration::from_millis(20));
        drop(reader);
        assert_eq!(producer.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn all_writers_have_to_go() {
    deadline(20, || {
        let (mut reader, writer) = pipe().unwrap();
        let writers: Vec<_> = (0..10)
            .map(|n| {
                let mut writer = writer.try_clone().unwrap();
                thread::spawn(move || {
                    for _ in 0..100 {
                        writer.write_all(&[n; 500]).unwrap();
                    }
                })
            })
            .collect();
        drop(writer);
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(got.len(), 500_000);
        // Up to 4096 bytes go in whole.
        assert!(got.chunks(500).all(|chunk| chunk.iter().all(|&byte| byte == chunk[0])));
    });
}

#[test]
fn vectored_reads_fill_one_after_the_other() {
    deadline(20, || {
        let (mut reader, mut writer) = pipe().unwrap();
        writer.write_all(b"abcdefg").unwrap();
        let (mut first, mut second) = ([0; 3], [0; 10]);
        let bufs = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(reader.read_vectored(bufs).unwrap(), 7);
        assert_eq!((&first[..], &second[..4]), (&b"abc"[..], &b"defg"[..]));
    });
}

#[test]
fn both_ends_serve_children() {
    deadline(20, || {
        let (mut reader, writer) = pipe().unwrap();
        let both = writer.try_clone().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2"]).stdout(writer).stderr(both);
        let mut child = command.spawn().unwrap();
        drop(command); // it has the writers
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "out\nerr\n");
        child.wait().unwrap();

        let (reader, mut writer) = pipe().unwrap();
        let child = Command::new("cat").stdin(reader).stdout(Stdio::piped()).spawn().unwrap();
        writer.write_all(b"for the child").unwrap();
        drop(writer);
        assert_eq!(child.wait_with_output().unwrap().stdout, b"for the child");
    });
}

#[test]
fn they_are_descriptors_that_programs_do_not_inherit() {
    deadline(20, || {
        let (reader, writer) = pipe().unwrap();
        // SAFETY: no pointers are passed.
        let flags = |fd| unsafe { libc::fcntl(fd, libc::F_GETFD) };
        assert_eq!(flags(reader.as_raw_fd()), libc::FD_CLOEXEC);
        assert_eq!(flags(writer.as_raw_fd()), libc::FD_CLOEXEC);
        let number = reader.as_raw_fd();
        assert_eq!(OwnedFd::from(reader).as_raw_fd(), number);
        let _ = OwnedFd::from(writer);
    });
}

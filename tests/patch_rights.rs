//! Descriptors that come with bytes over a Unix socket, to a call that waits for all (`MSG_WAITALL`): the kernel
//! never joins what comes behind them to what came with them, and hands them over with whatever piece they came.

#![cfg(feature = "patch")]

mod common;
#[path = "common/native.rs"]
mod native;

use std::fs::File;
use std::io::Write;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use common::deadline;
use native::{WAIT, outcome, same};

#[repr(align(8))]
struct Control([u8; 64]);

/// Sends bytes with a descriptor.
fn send_with(socket: &UnixStream, bytes: &[u8], fd: &File) {
    let mut control = Control([0; 64]);
    let mut buf = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all lengths are those of what they are about, and there is room for one descriptor.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut buf, 1);
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd.as_raw_fd());
        assert_eq!(libc::sendmsg(socket.as_raw_fd(), &message, 0), bytes.len() as isize);
    }
}

/// How many bytes and descriptors come, and the flags; `room` is that for control data.
fn receive(socket: &UnixStream, len: usize, flags: i32, room: usize) -> (i64, usize, i32) {
    let (mut bytes, mut control) = (vec![0_u8; len], Control([0; 64]));
    let mut buf = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len };
    // SAFETY: as above; the descriptors that come are ours.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut buf, 1);
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = room as _;
        let count = outcome(libc::recvmsg(socket.as_raw_fd(), &mut message, flags) as i64);
        let header = libc::CMSG_FIRSTHDR(&message);
        let mut descriptors = 0;
        if let Some(header) = header.as_ref() {
            #[allow(clippy::unnecessary_cast, reason = "its type differs between C libraries")]
            let len = header.cmsg_len as usize;
            descriptors = (len - libc::CMSG_LEN(0) as usize) / 4;
            for n in 0..descriptors {
                let fd = libc::CMSG_DATA(header).cast::<i32>().add(n).read_unaligned();
                drop(OwnedFd::from_raw_fd(fd));
            }
        }
        (count, descriptors, message.msg_flags)
    }
}

fn null() -> File {
    File::open("/dev/null").unwrap()
}

#[test]
fn what_comes_behind_descriptors_is_not_joined_to_them() {
    deadline(60, || {
        let seen = same(|| {
            let (a, mut b) = UnixStream::pair().unwrap();
            let sender = thread::spawn(move || {
                thread::sleep(WAIT);
                send_with(&b, b"with", &null());
                b.write_all(b" and without").unwrap();
                b
            });
            let first = receive(&a, 10, libc::MSG_WAITALL, 24);
            let _b = sender.join().unwrap();
            (first, receive(&a, 12, libc::MSG_WAITALL, 24))
        });
        assert_eq!((seen.0.0, seen.0.1, seen.1.0, seen.1.1), (4, 1, 12, 0));
    });
}

#[test]
fn descriptors_come_with_a_later_piece() {
    deadline(60, || {
        let seen = same(|| {
            let (a, mut b) = UnixStream::pair().unwrap();
            let sender = thread::spawn(move || {
                b.write_all(b"without").unwrap();
                thread::sleep(WAIT);
                send_with(&b, b"with", &null());
                b.write_all(b"more").unwrap();
                b
            });
            let first = receive(&a, 20, libc::MSG_WAITALL, 24);
            let _b = sender.join().unwrap();
            (first, receive(&a, 4, libc::MSG_WAITALL, 24))
        });
        assert_eq!((seen.0.0, seen.0.1, seen.1.0, seen.1.1), (11, 1, 4, 0));
    });
}

/// Without room for them they are dropped, which ends a piece all the same.
#[test]
fn descriptors_without_room_end_a_piece() {
    deadline(60, || {
        let seen = same(|| {
            let (a, mut b) = UnixStream::pair().unwrap();
            let sender = thread::spawn(move || {
                thread::sleep(WAIT);
                send_with(&b, b"with", &null());
                b.write_all(b"more").unwrap();
                send_with(&b, b"with", &null());
                b.write_all(b"more").unwrap();
                b
            });
            let by_message = receive(&a, 6, libc::MSG_WAITALL, 0);
            let _b = sender.join().unwrap();
            let mut bytes = [0_u8; 64];
            let (fd, place) = (a.as_raw_fd(), bytes.as_mut_ptr().cast());
            // SAFETY: the buffer is longer than that.
            let plain = unsafe {
                let plain = outcome(libc::recv(fd, place, 30, libc::MSG_WAITALL) as i64);
                let (address, len) = (std::ptr::null_mut(), std::ptr::null_mut());
                let rest = libc::recvfrom(fd, place, 4, libc::MSG_WAITALL, address, len);
                (plain, outcome(rest as i64))
            };
            (by_message, plain)
        });
        assert_eq!((seen.0.0, seen.0.1, seen.1), (4, 0, (8, 4)));
    });
}

/// A look sees what is there, and waits for no more of it.
#[test]
fn peeking_sees_what_is_there() {
    deadline(60, || {
        let seen = same(|| {
            let (a, mut b) = UnixStream::pair().unwrap();
            let look = libc::MSG_WAITALL | libc::MSG_PEEK;
            let sender = thread::spawn(move || {
                thread::sleep(WAIT);
                b.write_all(b"ab").unwrap();
                b
            });
            let first = receive(&a, 6, look, 24);
            let mut b = sender.join().unwrap();
            send_with(&b, b"cd", &null());
            b.write_all(b"ef").unwrap();
            let second = receive(&a, 6, look, 24);
            (first, second, receive(&a, 4, libc::MSG_WAITALL, 24), receive(&a, 2, look, 24))
        });
        assert_eq!((seen.0.0, seen.1.0, seen.1.1, seen.2.0, seen.2.1), (2, 4, 1, 4, 1));
    });
}

//! Batches of messages, descriptors that travel with them, files that are sent, and buffers that are full.

use std::ffi::c_int;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr;
use std::thread;

use super::calls::{self, outcome};
use super::objects::memory_file;
use super::program::{FAR, Kind, LIMIT, Passing, Poll, Way};
use super::run::{DELAY, World, drain};

type Outcome = (i64, Vec<u8>, Vec<i64>, bool);

/// Buffers for a batch, which point to one another: built in place and not moved.
struct Batch {
    bufs: Vec<Vec<u8>>,
    iovs: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

impl Batch {
    fn new(mut bufs: Vec<Vec<u8>>) -> Batch {
        let iov = |buf: &mut Vec<u8>| libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        let mut iovs: Vec<_> = bufs.iter_mut().map(iov).collect();
        let message = |iov: &mut libc::iovec| {
            // SAFETY: all zeros is an empty message.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_iov = iov;
            message.msg_hdr.msg_iovlen = 1;
            message
        };
        let messages = iovs.iter_mut().map(message).collect();
        Batch { bufs, iovs, messages }
    }

    fn lens(&self, count: i64) -> Vec<i64> {
        assert_eq!(self.iovs.len(), self.messages.len());
        self.messages.iter().take(count.max(0) as usize).map(|one| one.msg_len.into()).collect()
    }
}

pub(crate) fn receive_many(
    fd: RawFd,
    count: usize,
    len: usize,
    flags: i32,
    millis: Option<u32>,
) -> (i64, Vec<u8>, Vec<i64>) {
    let mut batch = Batch::new(vec![vec![0; len]; count]);
    let given = millis.unwrap_or(0);
    let mut time = libc::timespec { tv_sec: i64::from(given / 1000), tv_nsec: 0 };
    let place = if millis.is_some() { &raw mut time } else { ptr::null_mut() };
    let (start, count) = (batch.messages.as_mut_ptr(), count as u32);
    // SAFETY: so many messages, whose buffers have their lengths; the time is valid.
    let got = outcome(unsafe { libc::recvmmsg(fd, start, count, flags, place) });
    let mut lens = batch.lens(got);
    let flags = batch.messages.iter().take(lens.len()).map(|one| one.msg_hdr.msg_flags.into());
    let flags: Vec<i64> = flags.collect();
    let taken = batch.bufs.iter().zip(&lens);
    let data = taken.flat_map(|(buf, len)| buf[..*len as usize].to_vec()).collect();
    lens.extend(flags);
    // The kernel leaves what is left of the time.
    lens.push(i64::from(millis.is_some() && got > 0 && time.tv_sec >= i64::from(given / 1000)));
    (got, data, lens)
}

pub(crate) fn send_many(world: &mut World, lens: &[usize], flags: i32) -> Outcome {
    let mut batch = Batch::new(lens.iter().map(|len| world.data(*len)).collect());
    let (start, count) = (batch.messages.as_mut_ptr(), lens.len() as u32);
    // SAFETY: so many messages, whose buffers have their lengths.
    let sent = outcome(unsafe { libc::sendmmsg(world.own[1], start, count, flags) });
    let lens = batch.lens(sent);
    let mut data = Vec::new();
    for len in &lens {
        data.extend(drain(world.kind, world.peer[0], *len));
    }
    (sent, data, lens, false)
}

/// What the file has that is sent.
const FILE: usize = 1_000_000;

pub(crate) fn send_file(world: &mut World, offset: Option<usize>, len: usize) -> Outcome {
    let mut file = memory_file();
    file.write_all(&(0..FILE).map(|at| (at >> 5) as u8).collect::<Vec<_>>()).unwrap();
    let start = 123;
    file.seek(std::io::SeekFrom::Start(start)).unwrap();
    let mut place = offset.unwrap_or(0) as libc::off_t;
    let offset = if offset.is_some() { &raw mut place } else { ptr::null_mut() };
    let (kind, end, out) = (world.kind, world.peer[0], world.own[1]);
    // One that sends nothing, to see whether anything can be sent.
    let probe = calls::send(Way::Plain, out, b"?", 0);
    if probe < 0 {
        // SAFETY: the offset is valid or null.
        let sent = unsafe { libc::sendfile(out, file.as_raw_fd(), offset, len) };
        return (outcome(sent as i64), Vec::new(), vec![place], false);
    }
    let send = || {
        // SAFETY: as above.
        let sent = unsafe { libc::sendfile(out, file.as_raw_fd(), offset, len) };
        (outcome(sent as i64), place)
    };
    let ((sent, place), data) = if len > 10_000 {
        let drained = move || {
            thread::sleep(DELAY);
            drain(kind, end, len as i64 + 1)
        };
        world.beside(drained, send)
    } else {
        let sent = send();
        (sent, drain(kind, end, sent.0.max(0) + 1))
    };
    (sent, data, vec![place, file.stream_position().unwrap() as i64], false)
}

/// Sends until there is no more room: by the socket's time limit, or without waiting and then asks `poll` when
/// there is room again.
pub(crate) fn fill(world: &mut World, len: usize, poll: Option<Poll>) -> Outcome {
    let (out, end, kind) = (world.own[1], world.peer[0], world.kind);
    let data = vec![b'f'; len];
    if poll.is_none() {
        calls::set_limit(out, true, LIMIT);
    }
    let flags = libc::MSG_NOSIGNAL | if poll.is_some() { libc::MSG_DONTWAIT } else { 0 };
    let (mut total, mut count) = (0, 0);
    let error = loop {
        let sent = calls::send(Way::Flags, out, &data, flags);
        if sent < 0 {
            break sent;
        }
        total += sent;
        count += 1;
    };
    calls::set_limit(out, true, 0);
    let full = error == -i64::from(libc::EAGAIN);
    let empty = move || {
        // Messages one by one, a stream by its length.
        let messages = if kind.is_stream() { i64::from(total > 0) } else { count };
        let each = if kind.is_stream() { total } else { len as i64 };
        (0..messages).map(|_| drain(kind, end, each).len() as i64).sum::<i64>()
    };
    let mut results = Vec::new();
    let drained = match poll {
        Some(how) if full => {
            let fds = [(out, true)];
            let early = calls::poll(how, &fds, LIMIT as i32).0;
            // What TCP is sending makes room by itself.
            results.push(if kind == Kind::Tcp { 0 } else { early });
            let late = move || {
                thread::sleep(DELAY);
                empty()
            };
            let ((ready, _), drained) = world.beside(late, || calls::poll(how, &fds, FAR as i32));
            results.push(ready);
            drained
        }
        _ => empty(),
    };
    results.push(i64::from(drained == total));
    (error, Vec::new(), results, full && poll.is_none())
}

// ---- descriptors ----------------------------------------------------------------------------------

/// Room for the control data of so many descriptors, aligned as that is.
struct Control {
    space: [u64; 16],
    len: usize,
}

impl Control {
    fn new(descriptors: usize) -> Control {
        let len = if descriptors == 0 {
            0
        } else {
            // SAFETY: arithmetic.
            unsafe { libc::CMSG_SPACE((descriptors * size_of::<c_int>()) as u32) as usize }
        };
        Control { space: [0; 16], len }
    }
}

/// Sends `data` and `files`, by `batch` or not.
fn send_with(fd: RawFd, data: &[u8], files: &[File], batch: bool) -> i64 {
    let mut control = Control::new(files.len());
    let mut iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: all zeros is an empty message; the buffers live through the call, and there is room for the
    // descriptors.
    unsafe {
        let mut message: libc::mmsghdr = mem::zeroed();
        let header = &mut message.msg_hdr;
        header.msg_iov = &mut iov;
        header.msg_iovlen = 1;
        header.msg_control = control.space.as_mut_ptr().cast();
        header.msg_controllen = control.len as _;
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(size_of_val(files) as u32) as _;
        let place = libc::CMSG_DATA(first).cast::<c_int>();
        for (index, file) in files.iter().enumerate() {
            place.add(index).write_unaligned(file.as_raw_fd());
        }
        if batch {
            outcome(libc::sendmmsg(fd, &mut message, 1, 0))
        } else {
            outcome(libc::sendmsg(fd, header, 0) as i64)
        }
    }
}

/// Receives, and says of each descriptor what its file has and whether it is closed on exec.
fn receive_with(fd: RawFd, len: usize, passing: &Passing) -> (i64, Vec<u8>, Vec<i64>) {
    let mut data = vec![0; len];
    let mut control = Control::new(passing.room);
    let mut iov = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: len };
    let mut seen = Vec::new();
    // SAFETY: all zeros is an empty message; the buffers have their lengths; descriptors that have come are ours.
    unsafe {
        let mut message: libc::mmsghdr = mem::zeroed();
        let header = &mut message.msg_hdr;
        header.msg_iov = &mut iov;
        header.msg_iovlen = 1;
        header.msg_control = control.space.as_mut_ptr().cast();
        header.msg_controllen = control.len as _;
        let got = if passing.batch {
            let got = outcome(libc::recvmmsg(fd, &mut message, 1, passing.flags, ptr::null_mut()));
            seen.push(got);
            if got == 1 { message.msg_len.into() } else { got }
        } else {
            outcome(libc::recvmsg(fd, header, passing.flags) as i64)
        };
        let header = &message.msg_hdr;
        // Whether the flag comes back is not the same for all kernels.
        seen.push(i64::from(header.msg_flags & !libc::MSG_CMSG_CLOEXEC));
        let mut next = libc::CMSG_FIRSTHDR(header);
        while !next.is_null() && got >= 0 {
            let bytes = (*next).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            let place = libc::CMSG_DATA(next).cast::<c_int>();
            for index in 0..bytes / size_of::<c_int>() {
                let fd = place.add(index).read_unaligned();
                let flags = libc::fcntl(fd, libc::F_GETFD);
                let mut text = Vec::new();
                let mut file = File::from_raw_fd(fd);
                file.rewind().unwrap();
                file.read_to_end(&mut text).unwrap();
                seen.extend([i64::from(flags), text.len() as i64]);
            }
            next = libc::CMSG_NXTHDR(header, next);
        }
        data.truncate(got.max(0) as usize);
        (got, data, seen)
    }
}

pub(crate) fn pass(world: &mut World, passing: &Passing) -> Outcome {
    let files: Vec<_> = (0..passing.descriptors)
        .map(|index| {
            let mut file = memory_file();
            file.write_all(&vec![1; index + 7]).unwrap();
            file
        })
        .collect();
    let data = world.data(passing.len);
    if passing.ours {
        let sent = send_with(world.own[1], &data, &files, passing.batch);
        if sent < 0 {
            return (sent, Vec::new(), Vec::new(), false);
        }
        let (_, bytes, seen) = receive_with(world.peer[0], passing.len, passing);
        return (sent, bytes, seen, false);
    }
    let (end, batch) = (world.peer[1], passing.batch);
    let send = move || {
        thread::sleep(DELAY);
        send_with(end, &data, &files, batch)
    };
    let own = world.own[0];
    let ((got, bytes, mut seen), sent) =
        world.beside(send, || receive_with(own, passing.len, passing));
    seen.push(sent);
    (got, bytes, seen, false)
}

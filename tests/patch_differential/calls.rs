//! The system calls, with results as numbers.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::ptr;

use super::program::{Dup, Poll, Way};

/// A call's result, or `errno` below zero.
pub(crate) fn outcome(result: impl Into<i64>) -> i64 {
    match result.into() {
        -1 => -i64::from(io::Error::last_os_error().raw_os_error().unwrap()),
        value => value,
    }
}

/// Two buffers, whose border is anywhere.
fn halves(buf: *mut u8, len: usize) -> [libc::iovec; 2] {
    let middle = len / 3;
    // SAFETY: the middle is inside of the buffer.
    let second = unsafe { buf.add(middle) };
    [
        libc::iovec { iov_base: buf.cast(), iov_len: middle },
        libc::iovec { iov_base: second.cast(), iov_len: len - middle },
    ]
}

fn message(parts: &mut [libc::iovec; 2]) -> libc::msghdr {
    // SAFETY: all zeros is an empty message.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = 2;
    message
}

pub(crate) fn send(way: Way, fd: c_int, data: &[u8], flags: c_int) -> i64 {
    let (start, len) = (data.as_ptr(), data.len());
    let mut parts = halves(start.cast_mut(), len);
    // SAFETY: the buffers have these lengths, and are only read.
    let count = unsafe {
        match way {
            Way::Plain => libc::write(fd, start.cast(), len),
            Way::Vectored => libc::writev(fd, parts.as_ptr(), 2),
            Way::Flags => libc::send(fd, start.cast(), len, flags),
            Way::Address => libc::sendto(fd, start.cast(), len, flags, ptr::null(), 0),
            Way::Message => libc::sendmsg(fd, &message(&mut parts), flags),
        }
    };
    outcome(count as i64)
}

/// With the bytes that have come.
pub(crate) fn receive(way: Way, fd: c_int, len: usize, flags: c_int) -> (i64, Vec<u8>) {
    let mut data = vec![0; len];
    let start: *mut u8 = data.as_mut_ptr();
    let mut parts = halves(start, len);
    // SAFETY: the buffers have these lengths.
    let count = unsafe {
        match way {
            Way::Plain => libc::read(fd, start.cast(), len),
            Way::Vectored => libc::readv(fd, parts.as_ptr(), 2),
            Way::Flags => libc::recv(fd, start.cast(), len, flags),
            Way::Address => {
                libc::recvfrom(fd, start.cast(), len, flags, ptr::null_mut(), ptr::null_mut())
            }
            Way::Message => libc::recvmsg(fd, &mut message(&mut parts), flags),
        }
    };
    let count = outcome(count as i64);
    data.truncate(count.max(0) as usize);
    (count, data)
}

/// The result, and what was found to be ready.
pub(crate) fn poll(how: Poll, fds: &[(c_int, bool)], millis: c_int) -> (i64, Vec<i64>) {
    let time = timespec(millis);
    match how {
        Poll::Poll | Poll::Ppoll => {
            let events = |write| if write { libc::POLLOUT } else { libc::POLLIN };
            let entry = |&(fd, write): &(c_int, bool)| libc::pollfd {
                fd,
                events: events(write),
                revents: 0,
            };
            let mut entries: Vec<_> = fds.iter().map(entry).collect();
            let (start, count) = (entries.as_mut_ptr(), entries.len() as libc::nfds_t);
            // SAFETY: so many entries; the time is valid.
            let result = unsafe {
                match how {
                    Poll::Poll => libc::poll(start, count, millis),
                    _ => libc::ppoll(
                        start,
                        count,
                        if millis < 0 { ptr::null() } else { &time },
                        ptr::null(),
                    ),
                }
            };
            (outcome(result), entries.iter().map(|entry| entry.revents.into()).collect())
        }
        Poll::Select | Poll::Pselect => select(matches!(how, Poll::Pselect), fds, time),
        _ => epoll(how, fds, millis),
    }
}

fn select(with_mask: bool, fds: &[(c_int, bool)], time: libc::timespec) -> (i64, Vec<i64>) {
    // SAFETY: all zeros is an empty set; descriptors are below its size; times are valid.
    unsafe {
        let mut sets: [libc::fd_set; 2] = mem::zeroed();
        let mut top = 0;
        for &(fd, write) in fds.iter().filter(|(fd, _)| *fd >= 0) {
            assert!((fd as usize) < libc::FD_SETSIZE);
            libc::FD_SET(fd, &mut sets[usize::from(write)]);
            top = top.max(fd + 1);
        }
        let [read, write] = &mut sets;
        let forever = time.tv_sec < 0 || time.tv_nsec < 0;
        let result = if with_mask {
            let time = if forever { ptr::null() } else { &raw const time };
            libc::pselect(top, read, write, ptr::null_mut(), time, ptr::null())
        } else {
            let mut time = libc::timeval { tv_sec: time.tv_sec, tv_usec: time.tv_nsec / 1000 };
            let time = if forever { ptr::null_mut() } else { &raw mut time };
            libc::select(top, read, write, ptr::null_mut(), time)
        };
        let is_set = |&(fd, write): &(c_int, bool)| {
            i64::from(fd >= 0 && libc::FD_ISSET(fd, &sets[usize::from(write)]))
        };
        (outcome(result), fds.iter().map(is_set).collect())
    }
}

unsafe extern "C" {
    /// libc does not have it for all C libraries.
    fn epoll_pwait2(
        epoll: c_int,
        events: *mut libc::epoll_event,
        room: c_int,
        time: *const libc::timespec,
        mask: *const libc::sigset_t,
    ) -> c_int;
}

/// Waits once as told, and looks once more.
fn epoll(how: Poll, fds: &[(c_int, bool)], millis: c_int) -> (i64, Vec<i64>) {
    let kind = match how {
        Poll::EpollEdge => libc::EPOLLET,
        Poll::EpollOnce => libc::EPOLLONESHOT,
        _ => 0,
    };
    // SAFETY: the events are valid, and as many as is said.
    unsafe {
        let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        let mut results = Vec::new();
        for (index, &(fd, write)) in fds.iter().enumerate() {
            let events = if write { libc::EPOLLOUT } else { libc::EPOLLIN } | kind;
            let mut event = libc::epoll_event { events: events as u32, u64: index as u64 };
            results.push(outcome(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event)));
        }
        let mut wait = |millis: c_int| {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
            let (place, none) = (events.as_mut_ptr(), ptr::null());
            let result = outcome(match how {
                Poll::EpollPwait => libc::epoll_pwait(epoll, place, 8, millis, none),
                Poll::EpollPwait2 => {
                    let time = timespec(millis);
                    let time = if millis < 0 { ptr::null() } else { &raw const time };
                    epoll_pwait2(epoll, place, 8, time, none)
                }
                _ => libc::epoll_wait(epoll, place, 8, millis),
            });
            let mut found: Vec<(u64, u32)> = events[..result.max(0) as usize]
                .iter()
                .map(|event| (event.u64, event.events))
                .collect();
            found.sort_unstable();
            let found =
                found.iter().map(|(index, events)| (*index as i64) << 32 | i64::from(*events));
            results.extend(found);
            result
        };
        let first = wait(millis);
        let again = wait(0);
        results.push(again);
        libc::close(epoll);
        (first, results)
    }
}

fn timespec(millis: c_int) -> libc::timespec {
    libc::timespec {
        tv_sec: i64::from(millis) / 1000,
        tv_nsec: i64::from(millis) % 1000 * 1_000_000,
    }
}

pub(crate) fn set_nonblocking(fd: c_int, on: bool, ioctl: bool) -> i64 {
    let mut value = c_int::from(on);
    // SAFETY: the value is valid; fcntl takes no pointers.
    unsafe {
        if ioctl {
            return outcome(libc::ioctl(fd, libc::FIONBIO, &mut value));
        }
        let flags = libc::fcntl(fd, libc::F_GETFL) & !libc::O_NONBLOCK;
        outcome(libc::fcntl(fd, libc::F_SETFL, flags | if on { libc::O_NONBLOCK } else { 0 }))
    }
}

/// `SO_SNDTIMEO` or `SO_RCVTIMEO`.
pub(crate) fn set_limit(fd: c_int, send: bool, millis: u32) -> i64 {
    let time = libc::timeval { tv_sec: 0, tv_usec: i64::from(millis) * 1000 };
    let option = if send { libc::SO_SNDTIMEO } else { libc::SO_RCVTIMEO };
    let (level, place): (_, *const libc::timeval) = (libc::SOL_SOCKET, &time);
    // SAFETY: the time has this length.
    outcome(unsafe { libc::setsockopt(fd, level, option, place.cast(), size_of_val(&time) as u32) })
}

/// How much memory has come for a socket: grows with each datagram.
pub(crate) fn memory(fd: c_int) -> i64 {
    let mut info = [0_u32; 9];
    let mut len = size_of_val(&info) as libc::socklen_t;
    let place = info.as_mut_ptr().cast();
    // SAFETY: the numbers have this length.
    let got = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, SO_MEMINFO, place, &mut len) };
    assert_eq!(got, 0);
    info[0].into()
}

/// From <asm-generic/socket.h>; libc does not name it everywhere.
const SO_MEMINFO: c_int = 55;

pub(crate) fn unread(fd: c_int) -> i64 {
    let mut count: c_int = 0;
    // SAFETY: the count is valid.
    match outcome(unsafe { libc::ioctl(fd, libc::FIONREAD, &mut count) }) {
        0 => count.into(),
        error => error,
    }
}

/// Another number for what `fd` is.
pub(crate) fn dup(how: Dup, fd: c_int) -> c_int {
    // SAFETY: no pointers.
    unsafe {
        match how {
            Dup::Dup => libc::dup(fd),
            Dup::Fcntl => libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0),
            Dup::Dup2 | Dup::Dup3 => {
                // Over something of our own, so that nobody else's is hit.
                let place = libc::eventfd(0, libc::EFD_CLOEXEC);
                match how {
                    Dup::Dup2 => libc::dup2(fd, place),
                    _ => libc::dup3(fd, place, libc::O_CLOEXEC),
                }
            }
        }
    }
}

/// How many there are of [`wrong`].
pub(crate) const WRONG: u8 = 42;

/// Calls that fail, or have nothing to do.
pub(crate) fn wrong(which: u8, fd: c_int, file: c_int) -> i64 {
    let mut buf = [0_u8; 4];
    let place = buf.as_mut_ptr().cast::<libc::c_void>();
    let nowhere = ptr::without_provenance_mut::<libc::c_void>(8);
    let bad = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    let soon = libc::timespec { tv_sec: 0, tv_nsec: 1 };
    let mut negative = libc::timeval { tv_sec: -1, tv_usec: 0 };
    let none = ptr::null_mut();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 1];
    let iov = libc::iovec { iov_base: place, iov_len: 4 };
    // SAFETY: buffers have these lengths; null where that is allowed; a place where nothing is, which only the
    // kernel looks at.
    unsafe {
        let mut empty: libc::msghdr = mem::zeroed();
        match which {
            0 => outcome(libc::recv(-1, place, 4, 0) as i64),
            1 => outcome(libc::recv(file, place, 4, 0) as i64),
            2 => outcome(libc::accept(fd, ptr::null_mut(), ptr::null_mut())),
            3 => outcome(libc::nanosleep(&bad, ptr::null_mut())),
            4 => outcome(libc::select(0, none, none, none, &mut negative)),
            5 => outcome(libc::poll(ptr::null_mut(), 0, 1)),
            6 => outcome(libc::write(file, place, 4) as i64), // it is open for reading
            7 => outcome(libc::close(-1)),
            8 => outcome(libc::recvmsg(file, &mut empty, 0) as i64),
            9 => outcome(libc::recvmsg(1_000_000, &mut empty, libc::MSG_WAITALL) as i64),
            10 => outcome(libc::sendmsg(file, &empty, 0) as i64),
            11 => outcome(libc::sendto(-1, place, 4, 0, ptr::null(), 0) as i64),
            12 => outcome(libc::sendfile(-1, file, ptr::null_mut(), 4) as i64),
            13 => outcome(libc::sendfile(fd, -1, ptr::null_mut(), 4) as i64),
            14 => outcome(libc::connect(-1, ptr::null(), 0)),
            15 => outcome(libc::connect(file, ptr::null(), 0)),
            16 => outcome(libc::accept4(fd, ptr::null_mut(), ptr::null_mut(), 1 << 20)),
            17 => outcome(libc::epoll_wait(file, events.as_mut_ptr(), 1, 5)),
            18 => outcome(libc::epoll_wait(-1, events.as_mut_ptr(), 1, 5)),
            19 => with_epoll(|epoll| libc::epoll_wait(epoll, events.as_mut_ptr(), 0, 5)),
            20 => with_epoll(|epoll| libc::epoll_wait(epoll, events.as_mut_ptr(), -1, 5)),
            21 => {
                with_epoll(|epoll| epoll_pwait2(epoll, events.as_mut_ptr(), 1, &bad, ptr::null()))
            }
            22 => outcome(libc::select(-1, none, none, none, ptr::null_mut())),
            23 => outcome(libc::ppoll(ptr::null_mut(), 0, &bad, ptr::null())),
            24 => outcome(libc::pselect(0, none, none, none, &bad, ptr::null())),
            25 => outcome(libc::poll(ptr::null_mut(), 1 << 31, 5)),
            26 => outcome(libc::dup2(fd, -1)),
            27 => outcome(libc::dup3(fd, fd, 0)),
            28 => outcome(libc::dup3(fd, fd + 1, 1)),
            29 => libc::clock_nanosleep(77, 0, &soon, ptr::null_mut()).into(),
            30 => libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &bad, ptr::null_mut()).into(),
            31 => outcome(libc::usleep(0)),
            32 => outcome(libc::waitpid(1, ptr::null_mut(), 0)),
            33 => outcome(libc::waitid(libc::P_PID, 1, ptr::null_mut(), 0)),
            34 => outcome(libc::readv(fd, &iov, -1) as i64),
            35 => outcome(libc::writev(fd, &iov, 1025) as i64),
            36 => outcome(libc::readv(file, &iov, 1) as i64),
            37 => outcome(libc::write(fd, nowhere, 4) as i64),
            38 => outcome(libc::read(-1, place, 4) as i64),
            39 => outcome(libc::splice(file, none.cast(), fd, none.cast(), 4, 0) as i64),
            40 => outcome(libc::splice(-1, none.cast(), fd, none.cast(), 4, 0) as i64),
            _ => outcome(libc::clock_nanosleep(
                libc::CLOCK_MONOTONIC,
                libc::TIMER_ABSTIME,
                &soon,
                ptr::null_mut(),
            )),
        }
    }
}

fn with_epoll(call: impl FnOnce(c_int) -> c_int) -> i64 {
    // SAFETY: no pointers; ours.
    unsafe {
        let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        let result = outcome(call(epoll));
        libc::close(epoll);
        result
    }
}

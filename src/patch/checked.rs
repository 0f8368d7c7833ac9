//! The forms that glibc's headers turn calls into when a program is compiled with `_FORTIFY_SOURCE`, as
//! distributions do: the same functions with one more argument, the size of the buffer.
//!
//! The C library's own would call its own `read` from inside, past ours.

use std::ffi::{c_int, c_void};

use libc::{nfds_t, pollfd, sigset_t, size_t, sockaddr, socklen_t, ssize_t, timespec};

use super::{file, poll, socket};
use crate::rt::real;

/// Whether so many entries are in an array of so many bytes.
fn has_room(size: size_t, count: nfds_t) -> bool {
    (size / size_of::<pollfd>()) as nfds_t >= count
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __read_chk(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    size: size_t,
) -> ssize_t {
    // SAFETY: the caller's promise. The C library's own ends the process if there is no room.
    unsafe {
        if len > size { real::__read_chk(fd, buf, len, size) } else { file::read(fd, buf, len) }
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __recv_chk(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    size: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as above.
    unsafe {
        if len > size {
            real::__recv_chk(fd, buf, len, size, flags)
        } else {
            socket::recv(fd, buf, len, flags)
        }
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    size: size_t,
    flags: c_int,
    addr: *mut sockaddr,
    addr_len: *mut socklen_t,
) -> ssize_t {
    // SAFETY: as above.
    unsafe {
        if len > size {
            real::__recvfrom_chk(fd, buf, len, size, flags, addr, addr_len)
        } else {
            socket::recvfrom(fd, buf, len, flags, addr, addr_len)
        }
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __poll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    millis: c_int,
    size: size_t,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        if has_room(size, count) {
            poll::poll(fds, count, millis)
        } else {
            real::__poll_chk(fds, count, millis, size)
        }
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __ppoll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    time: *const timespec,
    mask: *const sigset_t,
    size: size_t,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        if has_room(size, count) {
            poll::ppoll(fds, count, time, mask)
        } else {
            real::__ppoll_chk(fds, count, time, mask, size)
        }
    }
}

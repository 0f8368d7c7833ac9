//! What can only block blocks a thread of the pool.

use std::ffi::c_int;

use libc::{sockaddr, socklen_t};

use crate::rt::real;

/// connect(2) of a Unix socket to a listener whose queue is full.
///
/// # Safety
/// As for connect.
pub(super) unsafe fn connect(
    fd: c_int,
    addr: *const sockaddr,
    len: socklen_t,
    _saved: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { real::connect(fd, addr, len) }
}

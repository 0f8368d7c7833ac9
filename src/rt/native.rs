//! The C library's functions as this crate itself calls them.
//!
//! With the feature `patch` the program defines some of them anew (see `crate::patch`), and the crate's own
//! calls must not end up there: a name that is redefined means the C library's own function here. (Not so fcntl and
//! ioctl, which have other signatures as C has them: the crate calls them for what does not wait.)

pub(crate) use libc::*;

// An explicit name goes before one from `*`.
#[cfg(feature = "patch")]
#[allow(unused_imports, reason = "which of them the crate itself calls changes with time")]
pub(crate) use super::real::syscall as syscall6;
#[cfg(feature = "patch")]
#[allow(unused_imports, reason = "which of them the crate itself calls changes with time")]
pub(crate) use super::real::{
    accept, accept4, close, connect, dup, dup2, dup3, epoll_wait, flock, getaddrinfo, getnameinfo,
    poll, read, readv, recv, recvfrom, recvmsg, send, sendmsg, sendto, setsockopt, splice, tee,
    waitid, waitpid, write, writev,
};

/// syscall(2) with all arguments.
///
/// # Safety
/// As for the system call.
#[cfg(not(feature = "patch"))]
#[inline]
pub(crate) unsafe fn syscall6(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

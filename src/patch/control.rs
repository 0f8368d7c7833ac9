//! What changes a descriptor or makes a second number for it: fcntl, ioctl, setsockopt, dup. They do what they
//! always do, for every caller, and have what is remembered of the descriptor forgotten (`settings`).
//!
//! Of these only the locks of files wait: `F_SETLKW` and its form for open files, and flock(2). No event tells
//! when such a lock is free, so a thread of the pool waits for it.

use std::ffi::{c_int, c_uint, c_ulong, c_void};

use libc::socklen_t;

use super::policy::{FDS, cooperative};
use super::{offload, settings, settled};
use crate::rt::real::{self, errno, set_errno};

/// fcntl(2). (It is variadic in C; integers and pointers are passed alike.)
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn fcntl(fd: c_int, command: c_int, arg: usize) -> c_int {
    // SAFETY: the caller's promise.
    let call = |command| unsafe { real::fcntl(fd, command, arg) };
    match command {
        libc::F_SETFL => {
            let result = call(command);
            settings::changed(fd);
            result
        }
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            let new = call(command);
            if new >= 0 {
                settings::duplicated(fd, new);
            }
            new
        }
        libc::F_SETLKW if cooperative(FDS) => {
            wait_for_lock(|| call(libc::F_SETLK), || call(command))
        }
        libc::F_OFD_SETLKW if cooperative(FDS) => {
            wait_for_lock(|| call(libc::F_OFD_SETLK), || call(command))
        }
        _ => call(command),
    }
}

/// The name by which C programs with 64-bit offsets call it.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, arg: usize) -> c_int {
    // SAFETY: off_t is 64 bits wide on all platforms that the crate supports.
    unsafe { fcntl(fd, command, arg) }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn flock(fd: c_int, operation: c_int) -> c_int {
    // SAFETY: no pointers.
    let call = |operation| unsafe { real::flock(fd, operation) };
    if operation & (libc::LOCK_NB | libc::LOCK_UN) != 0 || !cooperative(FDS) {
        return call(operation);
    }
    wait_for_lock(|| call(operation | libc::LOCK_NB), || call(operation))
}

/// Acquires the lock of a file: at once by `attempt`, or by `wait` on another thread. A kill or a time limit
/// takes effect afterwards: the lock is the process's or the open file's, and could not be given back without
/// taking it from another coroutine that has come to it by then.
#[track_caller]
fn wait_for_lock(attempt: impl Fn() -> c_int, wait: impl Fn() -> c_int) -> c_int {
    let saved = errno();
    let result = attempt();
    if result == 0 {
        return settled(saved, 0);
    }
    if !matches!(errno(), libc::EAGAIN | libc::EACCES) {
        return result;
    }
    set_errno(saved);
    // SAFETY: the call is fit for any thread of the process, and its memory is waited for.
    unsafe { offload::call_borrowing(wait) }
}

/// ioctl(2), which is variadic in C as well.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, arg: usize) -> c_int {
    // SAFETY: the caller's promise.
    let result = unsafe { real::ioctl(fd, request, arg) };
    // musl has it with a signed number.
    if request as c_uint == libc::FIONBIO as c_uint {
        settings::changed(fd);
    }
    result
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    // SAFETY: the caller's promise.
    let result = unsafe { real::setsockopt(fd, level, name, value, len) };
    // Whatever their names are: there are two for each time limit.
    if level == libc::SOL_SOCKET && result == 0 {
        settings::changed(fd);
    }
    result
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn dup(old: c_int) -> c_int {
    // SAFETY: no pointers.
    let new = unsafe { real::dup(old) };
    if new >= 0 {
        settings::duplicated(old, new);
    }
    new
}

//! What ends a descriptor: whoever waits for it is woken, and its number starts clean.
//!
//! These act for every caller, on whatever thread, since the descriptor is the process's. For a descriptor
//! that nobody has ever waited for they cost a look into a table.

use std::ffi::{c_int, c_uint};

use super::{settings, sources};
use crate::rt::real::{self, errno, set_errno};

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn close(fd: c_int) -> c_int {
    sources::forget(fd);
    // SAFETY: the caller's promise.
    let result = unsafe { real::close(fd) };
    // Somebody who used it meanwhile may have remembered something of it.
    if let Some(settings) = sources::settings(fd) {
        settings.reset();
    }
    result
}

/// Whether dup2 or dup3 is about to close `new`.
fn is_replaced(old: c_int, new: c_int) -> bool {
    if old == new {
        return false;
    }
    let saved = errno();
    // SAFETY: no pointers.
    let is_open = unsafe { real::fcntl(old, libc::F_GETFD, 0) } != -1;
    set_errno(saved);
    is_open
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    if is_replaced(old, new) {
        sources::forget(new);
    }
    // SAFETY: the caller's promise.
    let result = unsafe { real::dup2(old, new) };
    if result >= 0 && old != new {
        settings::duplicated(old, new);
    }
    result
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    if flags & !libc::O_CLOEXEC == 0 && is_replaced(old, new) {
        sources::forget(new);
    }
    // SAFETY: the caller's promise.
    let result = unsafe { real::dup3(old, new, flags) };
    if result >= 0 {
        settings::duplicated(old, new);
    }
    result
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0 {
        sources::forget_range(first, last);
    }
    // SAFETY: the caller's promise.
    unsafe { real::close_range(first, last, flags) }
}

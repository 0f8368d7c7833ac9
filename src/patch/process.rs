//! Waiting for children and threads.
//!
//! One child is waited for by its pidfd. What has no descriptor (any child of many, a child that stops, a
//! thread) is waited for by a thread of the pool, which leaves the status for the caller to take.

use std::ffi::{c_int, c_void};
use std::ptr;

use libc::{id_t, idtype_t, pid_t, pthread_t, rusage, siginfo_t};

use super::policy::{PROCESSES, cooperative};
use super::sources;
use super::{fail, offload, settled};
use crate::rt::real::{self, errno};
use crate::rt::{Direction, pidfd_open};

/// Stops and continuations, which a pidfd does not tell of.
const MORE_THAN_ENDS: c_int = libc::WUNTRACED | libc::WCONTINUED | libc::WSTOPPED;

/// Waits until `id` may have something to tell.
///
/// # Errors
/// `errno`.
#[track_caller]
fn wait_for(kind: idtype_t, id: id_t, options: c_int) -> Result<(), c_int> {
    if kind == libc::P_PID && options & MORE_THAN_ENDS == 0 {
        if let Ok(fd) = pidfd_open(id) {
            use std::os::fd::{AsRawFd, IntoRawFd};
            let waited = sources::wait(fd.as_raw_fd(), Direction::Read, None);
            let fd = fd.into_raw_fd();
            sources::forget(fd);
            // SAFETY: ours until here.
            unsafe { real::close(fd) };
            return waited.map(drop);
        }
    }
    let mut wanted = libc::WEXITED | libc::WNOWAIT;
    wanted |= options & (libc::WCONTINUED | libc::__WALL | libc::__WCLONE);
    // The same bit, by two names.
    wanted |= options & libc::WSTOPPED;
    offload::call(move || {
        // SAFETY: a null pointer says that no details are wanted.
        while unsafe { real::waitid(kind, id, ptr::null_mut(), wanted) } == -1
            && errno() == libc::EINTR
        {}
    })
    .map(drop)
}

/// What wait4's `pid` means to waitid.
fn target(pid: pid_t) -> (idtype_t, id_t) {
    match pid {
        -1 => (libc::P_ALL, 0),
        // SAFETY: it takes nothing and cannot fail.
        0 => (libc::P_PGID, unsafe { libc::getpgrp() } as id_t),
        1.. => (libc::P_PID, pid as id_t),
        _ => (libc::P_PGID, pid.unsigned_abs()),
    }
}

/// Tries `take`, which does not wait, until it has a child or fails.
#[track_caller]
fn wait_by(pid: pid_t, options: c_int, mut take: impl FnMut() -> pid_t) -> pid_t {
    let saved = errno();
    loop {
        let taken = take();
        if taken > 0 {
            return settled(saved, taken);
        }
        if taken < 0 {
            return taken;
        }
        let (kind, id) = target(pid);
        if let Err(error) = wait_for(kind, id, options) {
            return fail(error) as pid_t;
        }
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t {
    if options & libc::WNOHANG != 0 || !cooperative(PROCESSES) {
        // SAFETY: the caller's promise.
        return unsafe { real::waitpid(pid, status, options) };
    }
    // SAFETY: the caller's promise.
    wait_by(pid, options, || unsafe { real::waitpid(pid, status, options | libc::WNOHANG) })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn wait4(
    pid: pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut rusage,
) -> pid_t {
    if options & libc::WNOHANG != 0 || !cooperative(PROCESSES) {
        // SAFETY: the caller's promise.
        return unsafe { real::wait4(pid, status, options, usage) };
    }
    // SAFETY: the caller's promise.
    wait_by(pid, options, || unsafe { real::wait4(pid, status, options | libc::WNOHANG, usage) })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn wait(status: *mut c_int) -> pid_t {
    // SAFETY: the caller's promise.
    unsafe { waitpid(-1, status, 0) }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn waitid(
    kind: idtype_t,
    id: id_t,
    info: *mut siginfo_t,
    options: c_int,
) -> c_int {
    if options & libc::WNOHANG != 0 || !cooperative(PROCESSES) {
        // SAFETY: the caller's promise.
        return unsafe { real::waitid(kind, id, info, options) };
    }
    let saved = errno();
    loop {
        // SAFETY: all zeros is valid for it, and means that there is no child yet.
        let mut found: siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `found` is valid for the write.
        let result = unsafe { real::waitid(kind, id, &mut found, options | libc::WNOHANG) };
        // SAFETY: waitid fills this in.
        if result != 0 || unsafe { found.si_pid() } != 0 {
            if result == 0 && !info.is_null() {
                // SAFETY: valid by the caller's promise.
                unsafe { *info = found };
            }
            return if result == 0 { settled(saved, 0) } else { result };
        }
        let waited = if kind == libc::P_PIDFD && options & MORE_THAN_ENDS == 0 {
            sources::wait(id as c_int, Direction::Read, None).map(drop)
        } else {
            wait_for(kind, id, options)
        };
        if let Err(error) = waited {
            return fail(error) as c_int;
        }
    }
}

/// `std::thread::JoinHandle::join`: the thread may be waiting for a coroutine of this one.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_join(thread: pthread_t, value: *mut *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    let join = || unsafe { real::pthread_join(thread, value) };
    if !cooperative(PROCESSES) || thread == unsafe_self() {
        return join();
    }
    // SAFETY: any thread may join, and the memory is waited for.
    unsafe { offload::call_borrowing(join) }
}

fn unsafe_self() -> pthread_t {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::pthread_self() }
}

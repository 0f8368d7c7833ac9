//! Sockets: connect and accept.
//!
//! Neither has a flag by which it does not wait. So a socket is non-blocking for the one call of connect, and
//! accept is called when poll(2) says that there is somebody.

use std::ffi::c_int;

use libc::{sockaddr, socklen_t};

use super::policy::{SOCKETS, cooperative_on};
use super::sources::{self, Operation};
use super::{fail, offload, settled};
use crate::rt::real::{self, errno, set_errno};
use crate::rt::{Direction, hooked};

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    if !cooperative_on(SOCKETS, fd) {
        // SAFETY: the caller's promise.
        return unsafe { real::connect(fd, addr, len) };
    }
    let saved = errno();
    // SAFETY: no pointers.
    let flags = unsafe { real::fcntl(fd, libc::F_GETFL, 0) };
    if flags == -1 || flags & libc::O_NONBLOCK != 0 {
        // SAFETY: the caller's promise.
        return unsafe { real::connect(fd, addr, len) };
    }
    let mut operation = Operation::send(fd);
    loop {
        // connect has no flags: the socket is non-blocking for this one call, in which nobody else runs.
        // SAFETY: no pointers; the flags are put back at once.
        let result = unsafe {
            real::fcntl(fd, libc::F_SETFL, (flags | libc::O_NONBLOCK) as usize);
            let result = real::connect(fd, addr, len);
            let error = errno();
            real::fcntl(fd, libc::F_SETFL, flags as usize);
            set_errno(error);
            result
        };
        if result == 0 {
            return settled(saved, 0);
        }
        match errno() {
            state @ (libc::EINPROGRESS | libc::EALREADY) => {
                if let Err(error) = await_connection(&mut operation, state) {
                    return fail(error) as c_int;
                }
                if !is_internet(fd) {
                    return match sources::socket_option(fd, libc::SO_ERROR) {
                        Some(0) => settled(saved, 0),
                        Some(error) => fail(error) as c_int,
                        None => -1,
                    };
                }
                // The same call tells the outcome, and by it the socket leaves the state of connecting.
                // SAFETY: the caller's promise. It does not block: the connection is made or has failed.
                let result = unsafe { real::connect(fd, addr, len) };
                return if result == 0 { settled(saved, 0) } else { result };
            }
            libc::EINTR => {}
            // A Unix listener whose queue is full; no event tells when it has room.
            libc::EAGAIN if is_unix(fd) => {
                // SAFETY: the address is waited for.
                let result = unsafe { offload::call_borrowing(|| real::connect(fd, addr, len)) };
                return if result == 0 { settled(saved, 0) } else { result };
            }
            libc::EAGAIN => {
                if let Err(error) = operation.wait() {
                    return fail(error) as c_int;
                }
            }
            _ => return result,
        }
    }
}

fn is_unix(fd: c_int) -> bool {
    sources::socket_option(fd, libc::SO_DOMAIN) == Some(libc::AF_UNIX)
}

fn is_internet(fd: c_int) -> bool {
    matches!(sources::socket_option(fd, libc::SO_DOMAIN), Some(libc::AF_INET | libc::AF_INET6))
}

/// Waits until the connection is made or has failed, after connect(2) has said `state`.
///
/// # Errors
/// `errno` for connect(2).
#[track_caller]
fn await_connection(operation: &mut Operation, state: c_int) -> Result<(), c_int> {
    loop {
        match operation.wait() {
            Ok(_) => {}
            // What the kernel says when SO_SNDTIMEO is over: it goes on connecting.
            Err(libc::EAGAIN) => return Err(state),
            Err(error) => return Err(error),
        }
        if sources::is_ready_now(operation.fd(), libc::POLLOUT) {
            return Ok(());
        }
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn accept(
    fd: c_int,
    addr: *mut sockaddr,
    len: *mut socklen_t,
) -> c_int {
    if !cooperative_on(SOCKETS, fd) {
        // SAFETY: the caller's promise.
        return unsafe { real::accept(fd, addr, len) };
    }
    // SAFETY: the caller's promise.
    accept_by(fd, || unsafe { real::accept(fd, addr, len) })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn accept4(
    fd: c_int,
    addr: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) -> c_int {
    if !cooperative_on(SOCKETS, fd) {
        // SAFETY: the caller's promise.
        return unsafe { real::accept4(fd, addr, len, flags) };
    }
    // SAFETY: the caller's promise.
    accept_by(fd, || unsafe { real::accept4(fd, addr, len, flags) })
}

/// Locks for those who find a listener ready and accept: another of the process's hubs must not come in
/// between and leave this one blocked. By the listener's inode, since descriptors may be duplicated.
static ACCEPTING: [hooked::Lock<()>; 16] = [const { hooked::Lock::new(()) }; 16];

/// accept(2) has no flag for it, so it is called only when there is somebody to accept.
#[track_caller]
fn accept_by(fd: c_int, mut accept: impl FnMut() -> c_int) -> c_int {
    let saved = errno();
    let mut operation = Operation::new(fd, Direction::Read, Some(libc::SO_RCVTIMEO));
    let lock = &ACCEPTING[sources::inode(fd) as usize % ACCEPTING.len()];
    loop {
        {
            let _accepting = lock.lock();
            // A socket that does not listen, or is non-blocking, is the call's own business.
            if sources::is_ready_now(fd, libc::POLLIN)
                || !operation.may_block()
                || sources::socket_option(fd, libc::SO_ACCEPTCONN) != Some(1)
            {
                let accepted = accept();
                if accepted >= 0 {
                    drop(_accepting);
                    // What had this number before may have been closed unseen.
                    sources::forget(accepted);
                    return settled(saved, accepted);
                }
                if errno() != libc::EINTR {
                    return accepted;
                }
                continue;
            }
        }
        if let Err(error) = operation.wait() {
            return fail(error) as c_int;
        }
    }
}

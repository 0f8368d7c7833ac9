//! sendfile, splice, tee, vmsplice: what moves bytes without a buffer. `std::io::copy` uses the first two.
//!
//! The last three are called once both ends are ready, and with `SPLICE_F_NONBLOCK`. That flag is for pipes only;
//! a socket that is ready takes a small piece without waiting.

use std::ffi::{c_int, c_uint, c_void};

use libc::{iovec, loff_t, off_t, size_t, ssize_t};

use super::file::{EITHER, PIPE_PIECE};
use super::policy::{FDS, SOCKETS, cooperative_on};
use super::sources::{self, Operation};
use super::{fail, offload, settled};
use crate::rt::real::{self, errno};
use crate::rt::{Direction, hooked};

/// After so many times the call is left to a thread of the pool: it would wait for more than poll(2) tells of.
const REFUSALS: u32 = 10;

/// Moves bytes by `op`, which gets flags to add, once all ends are ready.
#[track_caller]
fn move_bytes(ends: &mut [(Operation, i16)], op: impl Fn(c_uint) -> ssize_t) -> ssize_t {
    let saved = errno();
    let mut refused = 0;
    loop {
        let unready =
            ends.iter_mut().find(|(end, events)| !sources::is_ready_now(end.fd(), *events));
        if let Some((end, _)) = unready {
            match end.wait() {
                Ok(_) => continue,
                Err(error) => return fail(error),
            }
        }
        let count = if refused < REFUSALS {
            op(libc::SPLICE_F_NONBLOCK)
        } else {
            // SAFETY: the call is fit for any thread, and its memory is waited for.
            unsafe { offload::call_borrowing(|| op(0)) }
        };
        match count {
            0.. => return settled(saved, count),
            // Somebody else was faster.
            _ if matches!(errno(), libc::EAGAIN | libc::EINTR) && refused < REFUSALS => {
                refused += 1;
                hooked::give_way();
            }
            _ => return count,
        }
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn splice(
    from: c_int,
    from_offset: *mut loff_t,
    to: c_int,
    to_offset: *mut loff_t,
    len: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: the caller's promise.
    let call = |len, flags| unsafe { real::splice(from, from_offset, to, to_offset, len, flags) };
    let waits = cooperative_on(EITHER, from) && cooperative_on(EITHER, to);
    if len == 0 || flags & libc::SPLICE_F_NONBLOCK != 0 || !waits {
        return call(len, flags);
    }
    let is_pipe = |fd| sources::kind(fd) == libc::S_IFIFO;
    let (out_of_pipe, into_pipe) = (is_pipe(from), is_pipe(to));
    let is_right = (out_of_pipe || into_pipe)
        && (from_offset.is_null() || !out_of_pipe)
        && (to_offset.is_null() || !into_pipe)
        && sources::is_open_for(from, Direction::Read)
        && sources::is_open_for(to, Direction::Write);
    if !is_right {
        return call(len, flags); // an error
    }
    let piece = if into_pipe { len } else { len.min(PIPE_PIECE) };
    let mut ends = [(Operation::receive(from), libc::POLLIN), (Operation::send(to), libc::POLLOUT)];
    move_bytes(&mut ends, |more| call(piece, flags | more))
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn tee(from: c_int, to: c_int, len: size_t, flags: c_uint) -> ssize_t {
    // SAFETY: no pointers.
    let call = |flags| unsafe { real::tee(from, to, len, flags) };
    let waits = cooperative_on(FDS, from) && cooperative_on(FDS, to);
    let is_right = || {
        [from, to].iter().all(|&fd| sources::kind(fd) == libc::S_IFIFO)
            && sources::is_open_for(from, Direction::Read)
            && sources::is_open_for(to, Direction::Write)
    };
    if len == 0 || flags & libc::SPLICE_F_NONBLOCK != 0 || !waits || !is_right() {
        return call(flags);
    }
    let mut ends = [
        (Operation::new(from, Direction::Read, None), libc::POLLIN),
        (Operation::new(to, Direction::Write, None), libc::POLLOUT),
    ];
    move_bytes(&mut ends, |more| call(flags | more))
}

/// vmsplice(2). Into a pipe it gives what there is room for, once there is some.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn vmsplice(
    fd: c_int,
    iov: *const iovec,
    count: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: the caller's promise.
    let call = |flags| unsafe { real::vmsplice(fd, iov, count, flags) };
    let waits = flags & libc::SPLICE_F_NONBLOCK == 0 && count > 0 && cooperative_on(FDS, fd);
    if !waits || sources::kind(fd) != libc::S_IFIFO {
        return call(flags);
    }
    let (direction, events) = match sources::is_open_for(fd, Direction::Write) {
        true => (Direction::Write, libc::POLLOUT),
        false => (Direction::Read, libc::POLLIN),
    };
    let mut ends = [(Operation::new(fd, direction, None), events)];
    move_bytes(&mut ends, |more| call(flags | more))
}

// ---- sendfile -------------------------------------------------------------------------------------

/// How much of a file is on its way at a time.
const PIECE: usize = 128 * 1024;

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sendfile(
    out: c_int,
    from: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: the caller's promise.
    let call = || unsafe { real::sendfile(out, from, offset, count) };
    if !cooperative_on(EITHER, out) || sources::kind(from) != libc::S_IFREG {
        return call();
    }
    match sources::kind(out) {
        // A pipe that has room takes what it has room for.
        libc::S_IFIFO
            if cooperative_on(FDS, out) && sources::is_open_for(out, Direction::Write) =>
        {
            let mut sink = Operation::new(out, Direction::Write, None);
            while !sources::is_ready_now(out, libc::POLLOUT) && sink.may_block() {
                if let Err(error) = sink.wait() {
                    return fail(error);
                }
            }
            return call();
        }
        libc::S_IFSOCK if cooperative_on(SOCKETS, out) && !sources::is_nonblocking(out) => {}
        _ => return call(),
    }
    // SAFETY: the caller's promise.
    unsafe { send_file(out, from, offset, count) }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sendfile64(
    out: c_int,
    from: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: off_t is 64 bits wide on all platforms that the crate supports.
    unsafe { sendfile(out, from, offset, count) }
}

/// sendfile(2) from a file to a socket, for which it has no `MSG_DONTWAIT`: the bytes take the way through a buffer.
///
/// # Safety
/// As for sendfile.
unsafe fn send_file(out: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    let saved = errno();
    // SAFETY: null or valid by the caller's promise.
    let start = match unsafe { offset.as_ref() } {
        Some(offset) => *offset,
        // SAFETY: no pointers.
        None => unsafe { libc::lseek(from, 0, libc::SEEK_CUR) },
    };
    if start < 0 {
        return fail(if offset.is_null() { errno() } else { libc::EINVAL });
    }
    let mut buf = Vec::with_capacity(count.min(PIECE));
    let mut done = 0;
    let mut error = 0;
    while done < count {
        let want = (count - done).min(PIECE);
        // SAFETY: the buffer has room for so many bytes.
        let got = unsafe { libc::pread(from, buf.as_mut_ptr(), want, start + done as off_t) };
        if got <= 0 {
            error = if got < 0 { errno() } else { 0 };
            break;
        }
        let piece: *const c_void = buf.as_ptr().cast();
        // SAFETY: the kernel has written so many bytes.
        let sent = unsafe { super::socket::send(out, piece, got as usize, 0) };
        if sent < 0 {
            error = errno();
            break;
        }
        done += sent as usize;
        if sent < got {
            break;
        }
    }
    let end = start + done as off_t;
    // SAFETY: null or valid by the caller's promise.
    match unsafe { offset.as_mut() } {
        Some(offset) => *offset = end,
        None => {
            // SAFETY: no pointers. It was possible before.
            unsafe { libc::lseek(from, end, libc::SEEK_SET) };
        }
    }
    if done == 0 && error != 0 { fail(error) } else { settled(saved, done as ssize_t) }
}

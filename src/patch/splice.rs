//! sendfile, splice, tee, vmsplice: what moves bytes without a buffer. `std::io::copy` uses the first two.
//!
//! sendfile has no way not to wait, and takes the way through a buffer. The others are called with `SPLICE_F_NONBLOCK` once both ends are ready. That flag is for pipes only: what is
//! to be written to a socket may have to wait in the middle of the call, and does so on a thread of the pool.

use std::ffi::{c_int, c_uint, c_void};

use libc::{iovec, loff_t, off_t, size_t, ssize_t};

use super::file::{EITHER, write};
use super::policy::{FDS, SOCKETS, cooperative_on};
use super::sources::{self, Operation, Waited};
use super::{fail, offload, settled};
use crate::rt::Direction;
use crate::rt::real::{self, errno};

/// Waits until something can be done at one end. False if the program has made it non-blocking.
///
/// # Errors
/// As for [`Operation::wait`].
#[track_caller]
fn await_end(operation: &mut Operation, events: i16) -> Result<bool, c_int> {
    while !sources::is_ready_now(operation.fd(), events) {
        if !operation.may_block() {
            return Ok(false);
        }
        if operation.wait()? == Waited::Always {
            break;
        }
    }
    Ok(true)
}

/// Moves bytes by `op`, which gets whether it is to be called such that it does not wait for a pipe.
#[track_caller]
fn move_bytes(from: Option<c_int>, to: c_int, op: impl Fn(bool) -> ssize_t) -> ssize_t {
    let saved = errno();
    let socket = |fd| sources::kind(fd) == libc::S_IFSOCK;
    let option = |fd, option| socket(fd).then_some(option);
    let mut source =
        from.map(|fd| Operation::new(fd, Direction::Read, option(fd, libc::SO_RCVTIMEO)));
    let mut sink = Operation::new(to, Direction::Write, option(to, libc::SO_SNDTIMEO));
    let mut refused = 0;
    loop {
        let from_ready = source.as_mut().map_or(Ok(true), |end| await_end(end, libc::POLLIN));
        let ready = from_ready.and_then(|ready| Ok(ready & await_end(&mut sink, libc::POLLOUT)?));
        let may_wait = match ready {
            Ok(may_wait) => may_wait,
            Err(error) => return fail(error),
        };
        // Ready, and yet it would wait: for more than poll(2) tells of.
        let elsewhere = may_wait && (refused > 1 || (socket(to) && sink.may_block()));
        let count = if elsewhere {
            // SAFETY: the call is fit for any thread, and its memory is waited for.
            unsafe { offload::call_borrowing(|| op(false)) }
        } else {
            op(true)
        };
        match count {
            0.. => return settled(saved, count),
            _ if errno() == libc::EINTR => {}
            _ if errno() == libc::EAGAIN && may_wait && !elsewhere => refused += 1,
            _ => return count,
        }
    }
}

fn is_cooperative(fd: c_int) -> bool {
    match sources::kind(fd) {
        libc::S_IFSOCK => cooperative_on(SOCKETS, fd),
        _ => cooperative_on(FDS, fd),
    }
}

const NONBLOCK: c_uint = libc::SPLICE_F_NONBLOCK;

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
    let call = |flags| unsafe { real::splice(from, from_offset, to, to_offset, len, flags) };
    if flags & NONBLOCK != 0 || len == 0 || !is_cooperative(from) || !is_cooperative(to) {
        return call(flags);
    }
    move_bytes(Some(from), to, |quick| call(if quick { flags | NONBLOCK } else { flags }))
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn tee(from: c_int, to: c_int, len: size_t, flags: c_uint) -> ssize_t {
    // SAFETY: no pointers.
    let call = |flags| unsafe { real::tee(from, to, len, flags) };
    if flags & NONBLOCK != 0 || len == 0 || !is_cooperative(from) || !is_cooperative(to) {
        return call(flags);
    }
    move_bytes(Some(from), to, |quick| call(if quick { flags | NONBLOCK } else { flags }))
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
    if flags & NONBLOCK != 0 || count == 0 || !is_cooperative(fd) {
        return call(flags);
    }
    // SAFETY: no pointers.
    let mode = unsafe { real::fcntl(fd, libc::F_GETFL, 0) };
    if mode == -1 || mode & libc::O_ACCMODE == libc::O_RDONLY {
        // Out of a pipe: what is there is copied.
        let mut source = Operation::new(fd, Direction::Read, None);
        return match await_end(&mut source, libc::POLLIN) {
            Ok(_) => call(flags),
            Err(error) => fail(error),
        };
    }
    move_bytes(None, fd, |quick| call(if quick { flags | NONBLOCK } else { flags }))
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
    let waits = || match sources::kind(out) {
        libc::S_IFSOCK => cooperative_on(SOCKETS, out),
        libc::S_IFIFO => cooperative_on(FDS, out),
        _ => false,
    };
    let is_fit = || sources::kind(from) == libc::S_IFREG && !sources::is_nonblocking(out);
    if !cooperative_on(EITHER, out) || !waits() || !is_fit() {
        // SAFETY: the caller's promise.
        return unsafe { real::sendfile(out, from, offset, count) };
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

/// sendfile(2) from a file to what has to be waited for.
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
        let sent = unsafe { write(out, piece, got as usize) };
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

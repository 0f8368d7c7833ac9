//! Sockets: receive and send.
//!
//! Every operation is tried with `MSG_DONTWAIT` first, so that the program's `O_NONBLOCK` stays as it is.

use std::ffi::{c_int, c_uint, c_void};

use libc::{iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec};

use super::policy::{SOCKETS, cooperative_on};
use super::sources::{self, Operation};
use super::{fail, offload, settled};
use crate::rt::real::{self, errno};

/// With these the kernel does not wait, or never did.
const NEVER_WAITS: c_int = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE | libc::MSG_OOB;

/// Whether a call on `fd` with these flags is to wait as a coroutine does.
#[inline(always)]
fn waits(fd: c_int, flags: c_int) -> bool {
    flags & NEVER_WAITS == 0 && cooperative_on(SOCKETS, fd)
}

// ---- receiving ------------------------------------------------------------------------------------

/// Receives by `op`, which gets the flags of each try.
#[track_caller]
fn receive(fd: c_int, flags: c_int, mut op: impl FnMut(c_int) -> ssize_t) -> ssize_t {
    let saved = errno();
    let mut operation = Operation::receive(fd);
    loop {
        let count = op(flags | libc::MSG_DONTWAIT);
        if count >= 0 {
            return settled(saved, count);
        }
        match errno() {
            libc::EINTR => {}
            libc::EAGAIN => {
                if let Err(error) = operation.wait() {
                    return fail(error);
                }
            }
            _ => return count,
        }
    }
}

/// What a try of [`receive_all`] comes to.
struct Piece {
    count: ssize_t,
    /// Not even a call that waits for all goes on behind it.
    is_last: bool,
}

/// Receives `len` bytes, for `MSG_WAITALL`: by `op`, which gets how many there are and the flags. What was
/// received goes before an error.
#[track_caller]
fn receive_all(
    fd: c_int,
    flags: c_int,
    len: usize,
    mut op: impl FnMut(usize, c_int) -> Piece,
) -> ssize_t {
    if sources::socket_option(fd, libc::SO_TYPE) != Some(libc::SOCK_STREAM) {
        return receive(fd, flags, |flags| op(0, flags).count);
    }
    let saved = errno();
    let peek = flags & libc::MSG_PEEK != 0;
    let mut operation = Operation::receive(fd);
    let mut done = 0;
    loop {
        let Piece { count, is_last } = op(if peek { 0 } else { done }, flags | libc::MSG_DONTWAIT);
        match count {
            0 => return settled(saved, done as ssize_t),
            1.. if peek => done = count as usize,
            1.. => done += count as usize,
            _ if errno() == libc::EINTR => continue,
            _ if errno() != libc::EAGAIN && done == 0 => return count,
            _ if errno() != libc::EAGAIN => return settled(saved, done as ssize_t),
            _ => {}
        }
        if done >= len || is_last {
            return settled(saved, done as ssize_t);
        }
        if count > 0 && !peek {
            continue;
        }
        // What is peeked at stays, so that the end of the stream does not show by an empty result.
        if peek && done > 0 && sources::is_ready_now(fd, libc::POLLRDHUP) {
            return settled(saved, done as ssize_t);
        }
        if let Err(error) = operation.wait() {
            return if done > 0 { settled(saved, done as ssize_t) } else { fail(error) };
        }
    }
}

/// A message without anything.
fn empty_message() -> msghdr {
    // SAFETY: all zeros is a message without buffers, address and control data.
    unsafe { std::mem::zeroed() }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn recv(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    flags: c_int,
) -> ssize_t {
    if !waits(fd, flags) {
        // SAFETY: the caller's promise.
        return unsafe { real::recv(fd, buf, len, flags) };
    }
    if flags & libc::MSG_WAITALL != 0 {
        let mut buf = iovec { iov_base: buf, iov_len: len };
        let mut msg = empty_message();
        (msg.msg_iov, msg.msg_iovlen) = (&mut buf, 1);
        // SAFETY: the caller's buffer.
        return unsafe { receive_message(fd, &mut msg, flags) };
    }
    // SAFETY: the caller's promise.
    receive(fd, flags, |flags| unsafe { real::recv(fd, buf, len, flags) })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn recvfrom(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    flags: c_int,
    addr: *mut sockaddr,
    addr_len: *mut socklen_t,
) -> ssize_t {
    if !waits(fd, flags) {
        // SAFETY: the caller's promise.
        return unsafe { real::recvfrom(fd, buf, len, flags, addr, addr_len) };
    }
    if flags & libc::MSG_WAITALL != 0 && (addr.is_null() || !addr_len.is_null()) {
        let mut buf = iovec { iov_base: buf, iov_len: len };
        let mut msg = empty_message();
        (msg.msg_iov, msg.msg_iovlen, msg.msg_name) = (&mut buf, 1, addr.cast());
        // SAFETY: the caller's buffers; where there is an address there is its length.
        unsafe {
            msg.msg_namelen = if addr.is_null() { 0 } else { *addr_len };
            let count = receive_message(fd, &mut msg, flags);
            if count >= 0 && !addr.is_null() {
                *addr_len = msg.msg_namelen;
            }
            return count;
        }
    }
    receive(fd, flags, |flags| {
        // SAFETY: the caller's promise.
        unsafe { real::recvfrom(fd, buf, len, flags, addr, addr_len) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    if !waits(fd, flags) {
        // SAFETY: the caller's promise.
        return unsafe { real::recvmsg(fd, msg, flags) };
    }
    // SAFETY: the caller's promise.
    unsafe { receive_message(fd, msg, flags) }
}

/// recvmsg(2) for a caller that may wait.
///
/// # Safety
/// As for recvmsg.
#[track_caller]
unsafe fn receive_message(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    if flags & libc::MSG_WAITALL == 0 {
        // SAFETY: the caller's promise.
        return receive(fd, flags, |flags| unsafe { real::recvmsg(fd, msg, flags) });
    }
    // SAFETY: valid by the caller's promise.
    let msg = unsafe { &mut *msg };
    #[allow(clippy::unnecessary_cast, reason = "its type differs between C libraries")]
    // SAFETY: as above.
    let (bufs, len) = unsafe { buffers(msg.msg_iov, msg.msg_iovlen as usize) };
    let (control, control_len, name_len) = (msg.msg_control, msg.msg_controllen, msg.msg_namelen);
    let mut is_unix = None;
    receive_all(fd, flags, len, |done, flags| {
        if done == 0 {
            // Who peeks may come here again.
            (msg.msg_controllen, msg.msg_namelen) = (control_len, name_len);
            // SAFETY: the caller's promise.
            let count = unsafe { real::recvmsg(fd, msg, flags) };
            // (A look at a Unix socket sees what is there, and waits for no more.)
            let is_last = count > 0
                && (count as usize) < len
                && *is_unix.get_or_insert_with(|| is_unix_socket(fd))
                && (flags & libc::MSG_PEEK != 0 || brings_rights(fd, msg));
            return Piece { count, is_last };
        }
        let mut rest = after(bufs, done);
        let mut more = empty_message();
        (more.msg_iov, more.msg_iovlen) = (rest.as_mut_ptr(), rest.len() as _);
        if is_unix != Some(true) {
            // SAFETY: the buffers are parts of the caller's.
            return Piece { count: unsafe { real::recvmsg(fd, &mut more, flags) }, is_last: false };
        }
        // Descriptors may come with a later piece; none have come so far.
        (more.msg_control, more.msg_controllen) = (control, control_len);
        // SAFETY: as above, and the caller's room for control data.
        let count = unsafe { real::recvmsg(fd, &mut more, flags) };
        if count > 0 {
            msg.msg_controllen = more.msg_controllen;
            msg.msg_flags |= more.msg_flags;
        }
        Piece { count, is_last: count > 0 && brings_rights(fd, &more) }
    })
}

fn is_unix_socket(fd: c_int) -> bool {
    sources::socket_option(fd, libc::SO_DOMAIN) == Some(libc::AF_UNIX)
}

/// Whether descriptors have come with what was received of a Unix socket, or were dropped for want of room. The
/// kernel never joins what comes behind them to it.
fn brings_rights(fd: c_int, msg: &msghdr) -> bool {
    if msg.msg_flags & libc::MSG_CTRUNC != 0 {
        // Credentials that were asked for and have no room say the same.
        return sources::socket_option(fd, libc::SO_PASSCRED) != Some(1);
    }
    // SAFETY: the kernel has written the headers, as far as the length says.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(msg);
        while let Some(found) = header.as_ref() {
            if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                return true;
            }
            header = libc::CMSG_NXTHDR(msg, header);
        }
    }
    false
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn recvmmsg(
    fd: c_int,
    msgs: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    if !waits(fd, flags) || count == 0 {
        // SAFETY: the caller's promise.
        return unsafe { real::recvmmsg(fd, msgs, count, flags, timeout) };
    }
    let saved = errno();
    // SAFETY: null or valid by the caller's promise.
    let deadline = match unsafe { timeout.as_ref() } {
        Some(time) => match super::time::deadline(time) {
            Ok(deadline) => deadline,
            Err(error) => return fail(error) as c_int,
        },
        None => None,
    };
    let one_is_enough = flags & libc::MSG_WAITFORONE != 0;
    let plain = flags & !libc::MSG_WAITFORONE;
    let mut done: c_uint = 0;
    while done < count {
        // SAFETY: below `count`, so the caller's.
        let message = unsafe { &mut *msgs.add(done as usize) };
        let got = if done > 0 && one_is_enough {
            // SAFETY: the caller's promise.
            unsafe { real::recvmsg(fd, &mut message.msg_hdr, plain | libc::MSG_DONTWAIT) }
        } else {
            // SAFETY: the caller's promise.
            unsafe { receive_message(fd, &mut message.msg_hdr, plain) }
        };
        if got < 0 {
            return if done > 0 { settled(saved, done as c_int) } else { -1 };
        }
        message.msg_len = got as c_uint;
        done += 1;
        // As the kernel has it: the time limit is looked at after each message, and what is left is noted.
        // SAFETY: null or valid by the caller's promise.
        unsafe { super::time::note_rest(timeout, deadline) };
        if deadline.is_some_and(|deadline| deadline.is_past()) {
            break;
        }
    }
    settled(saved, done as c_int)
}

// ---- sending --------------------------------------------------------------------------------------

/// Sends `len` bytes by `op`, which gets how many are gone and the flags of each try. A blocking send sends
/// everything; what was sent goes before an error.
#[track_caller]
pub(super) fn send_all(
    fd: c_int,
    flags: c_int,
    len: usize,
    op: impl Fn(usize, c_int) -> ssize_t,
) -> ssize_t {
    let saved = errno();
    let mut operation = Operation::send(fd);
    let mut done = 0;
    loop {
        // The signal of a broken pipe is for a call that sends nothing.
        let quiet = if done > 0 { libc::MSG_NOSIGNAL } else { 0 };
        let count = op(done, flags | quiet | libc::MSG_DONTWAIT);
        if count >= 0 {
            done += count as usize;
            if done >= len || count == 0 {
                return settled(saved, done as ssize_t);
            }
            continue;
        }
        let error = match errno() {
            libc::EINTR => continue,
            libc::EAGAIN if operation.may_block() && is_peer_full(fd) => {
                // SAFETY: the call is fit for any thread, and its memory is waited for.
                return unsafe { offload::call_borrowing(|| op(done, flags)) };
            }
            libc::EAGAIN => match operation.wait() {
                Ok(_) => continue,
                Err(error) => error,
            },
            error => error,
        };
        return if done > 0 { settled(saved, done as ssize_t) } else { fail(error) };
    }
}

/// Whether what has to be waited for is not the socket itself, but room at whom a Unix datagram is for: no
/// event tells of that.
fn is_peer_full(fd: c_int) -> bool {
    sources::socket_option(fd, libc::SO_DOMAIN) == Some(libc::AF_UNIX)
        && sources::socket_option(fd, libc::SO_TYPE) == Some(libc::SOCK_DGRAM)
        && sources::is_ready_now(fd, libc::POLLOUT)
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn send(
    fd: c_int,
    buf: *const c_void,
    len: size_t,
    flags: c_int,
) -> ssize_t {
    if !waits(fd, flags) {
        // SAFETY: the caller's promise.
        return unsafe { real::send(fd, buf, len, flags) };
    }
    send_all(fd, flags, len, |done, flags| {
        // SAFETY: `done` is at most `len`; the rest is the caller's promise.
        unsafe { real::send(fd, buf.add(done), len - done, flags) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sendto(
    fd: c_int,
    buf: *const c_void,
    len: size_t,
    flags: c_int,
    addr: *const sockaddr,
    addr_len: socklen_t,
) -> ssize_t {
    if !waits(fd, flags) {
        // SAFETY: the caller's promise.
        return unsafe { real::sendto(fd, buf, len, flags, addr, addr_len) };
    }
    send_all(fd, flags, len, |done, flags| {
        // SAFETY: `done` is at most `len`; the rest is the caller's promise.
        unsafe { real::sendto(fd, buf.add(done), len - done, flags, addr, addr_len) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    if !waits(fd, flags) {
        // SAFETY: the caller's promise.
        return unsafe { real::sendmsg(fd, msg, flags) };
    }
    // SAFETY: the caller's promise.
    unsafe { send_message(fd, msg, flags) }
}

/// sendmsg(2) for a caller that may wait.
///
/// # Safety
/// As for sendmsg.
#[track_caller]
unsafe fn send_message(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    #[allow(clippy::unnecessary_cast, reason = "its type differs between C libraries")]
    // SAFETY: valid by the caller's promise.
    let (bufs, len) = unsafe { buffers((*msg).msg_iov, (*msg).msg_iovlen as usize) };
    send_all(fd, flags, len, |done, flags| {
        if done == 0 {
            // SAFETY: the caller's promise.
            return unsafe { real::sendmsg(fd, msg, flags) };
        }
        let mut rest = after(bufs, done);
        // SAFETY: a copy of a plain structure. What came with the first byte is gone with it.
        let mut more = unsafe { *msg };
        more.msg_iov = rest.as_mut_ptr();
        more.msg_iovlen = rest.len() as _;
        more.msg_control = std::ptr::null_mut();
        more.msg_controllen = 0;
        // SAFETY: the buffers are parts of the caller's.
        unsafe { real::sendmsg(fd, &more, flags) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sendmmsg(
    fd: c_int,
    msgs: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    if !waits(fd, flags) || count == 0 {
        // SAFETY: the caller's promise.
        return unsafe { real::sendmmsg(fd, msgs, count, flags) };
    }
    let saved = errno();
    let mut done = 0;
    while done < count {
        // SAFETY: below `count`, so the caller's.
        let message = unsafe { &mut *msgs.add(done as usize) };
        // SAFETY: the caller's promise.
        let sent = unsafe { send_message(fd, &message.msg_hdr, flags) };
        if sent < 0 {
            return if done > 0 { settled(saved, done as c_int) } else { -1 };
        }
        message.msg_len = sent as c_uint;
        done += 1;
    }
    settled(saved, done as c_int)
}

// ---- buffers --------------------------------------------------------------------------------------

/// An array of buffers and the sum of their lengths.
///
/// # Safety
/// As for readv(2). The array must live as long as the result is used.
pub(super) unsafe fn buffers<'a>(iov: *const iovec, count: usize) -> (&'a [iovec], usize) {
    if count == 0 || iov.is_null() {
        return (&[], 0);
    }
    // SAFETY: the caller's promise.
    let bufs = unsafe { std::slice::from_raw_parts(iov, count) };
    (bufs, bufs.iter().fold(0, |sum: usize, buf| sum.saturating_add(buf.iov_len)))
}

/// What is left of the buffers after so many bytes.
pub(super) fn after(bufs: &[iovec], mut done: usize) -> Vec<iovec> {
    let mut rest = Vec::with_capacity(bufs.len());
    for buf in bufs {
        let skip = done.min(buf.iov_len);
        done -= skip;
        if skip < buf.iov_len {
            rest.push(iovec {
                iov_base: buf.iov_base.wrapping_byte_add(skip),
                iov_len: buf.iov_len - skip,
            });
        }
    }
    rest
}

//! `read` and `write` and their vectored forms: sockets, pipes, terminals, and whatever else can be waited for.
//!
//! A socket is tried with `MSG_DONTWAIT`. Anything else is tried with `RWF_NOWAIT`, where the kernel knows
//! that for its kind, and otherwise asked by poll(2) whether the call would block. Regular files, directories
//! and disks are never waited for.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use libc::{iovec, size_t, ssize_t};

use super::policy::{FDS, Family, SOCKETS, cooperative_on};
use super::socket::{after, buffers, send_all};
use super::sources::{self, Operation, Waited};
use super::{fail, offload, settings, settled};
use crate::rt::real::{self, errno};
use crate::rt::{Deadline, Direction};

/// What a pipe takes in one piece once it is ready.
pub(super) const PIPE_PIECE: usize = libc::PIPE_BUF;
/// What a terminal takes.
const TTY_PIECE: usize = 256;
/// More buffers are an error, which is the call's to return.
const MAX_BUFFERS: usize = 1024;

/// What a descriptor is, for reading and writing.
enum What {
    Socket,
    /// A pipe, a terminal, a device, one of the kernel's own objects.
    Waitable,
    /// The call never waits for others, or is not to be touched.
    Plain,
}

pub(super) const EITHER: Family = Family(SOCKETS.0 | FDS.0);

/// What a call on `fd` is to do, for a caller that may wait.
fn what(fd: c_int) -> What {
    if settings::is_likely_socket(fd) && cooperative_on(SOCKETS, fd) {
        return What::Socket;
    }
    let kind = sources::kind(fd);
    settings::set_likely_socket(fd, kind == libc::S_IFSOCK);
    match kind {
        libc::S_IFSOCK if cooperative_on(SOCKETS, fd) => What::Socket,
        libc::S_IFSOCK | libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK | libc::S_IFLNK => {
            What::Plain
        }
        _ if cooperative_on(FDS, fd) => What::Waitable,
        _ => What::Plain,
    }
}

/// Calls `op` again if it has tried a socket's call on what is no socket any more: the number was reused,
/// unseen. Nothing has been done then.
fn unless_mistaken(fd: c_int, op: impl Fn() -> ssize_t) -> ssize_t {
    let done = op();
    if done >= 0 || errno() != libc::ENOTSOCK || !settings::is_likely_socket(fd) {
        return done;
    }
    settings::set_likely_socket(fd, false);
    op()
}

// ---- reading --------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn read(fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t {
    if len == 0 || !cooperative_on(EITHER, fd) {
        // SAFETY: the caller's promise.
        return unsafe { real::read(fd, buf, len) };
    }
    // SAFETY: the caller's promise, in all of them.
    unless_mistaken(fd, || unsafe {
        match what(fd) {
            What::Socket => super::socket::recv(fd, buf, len, 0),
            What::Waitable => {
                let iov = iovec { iov_base: buf, iov_len: len };
                read_waitable(fd, &[iov], || real::read(fd, buf, len))
            }
            What::Plain => real::read(fd, buf, len),
        }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    if !(1..=MAX_BUFFERS as c_int).contains(&count) || !cooperative_on(EITHER, fd) {
        // SAFETY: the caller's promise.
        return unsafe { real::readv(fd, iov, count) };
    }
    // SAFETY: the caller's promise, in all of them.
    unless_mistaken(fd, || unsafe {
        let (bufs, len) = buffers(iov, count as usize);
        match what(fd) {
            What::Socket if len > 0 => {
                let mut message: libc::msghdr = std::mem::zeroed();
                message.msg_iov = iov.cast_mut();
                message.msg_iovlen = count as _;
                super::socket::recvmsg(fd, &mut message, 0)
            }
            What::Waitable if len > 0 => read_waitable(fd, bufs, || real::readv(fd, iov, count)),
            _ => real::readv(fd, iov, count),
        }
    })
}

/// Whether the kind of file does not know `RWF_NOWAIT` (maybe a terminal), or a sandbox not the call.
fn is_unsupported(error: c_int) -> bool {
    matches!(error, libc::EOPNOTSUPP | libc::ENOSYS | libc::ESPIPE | libc::EPERM)
}

/// Reads from something that is neither a socket nor a file; by `blocking` where it is known not to block.
///
/// # Safety
/// As for readv(2).
#[track_caller]
unsafe fn read_waitable(fd: c_int, bufs: &[iovec], blocking: impl Fn() -> ssize_t) -> ssize_t {
    let saved = errno();
    let mut operation = Operation::new(fd, Direction::Read, None);
    let mut patience = None;
    loop {
        // SAFETY: the caller's promise. An offset of −1 is the current place.
        let count =
            unsafe { real::preadv2(fd, bufs.as_ptr(), bufs.len() as c_int, -1, libc::RWF_NOWAIT) };
        if count >= 0 {
            return settled(saved, count);
        }
        match errno() {
            libc::EINTR => continue,
            libc::EAGAIN => {}
            error if is_unsupported(error) => {
                let patience = *patience.get_or_insert_with(|| Patience::of(fd));
                if patience != Patience::Endless && operation.may_block() {
                    // SAFETY: the caller's promise.
                    return unsafe { read_terminal(fd, patience, blocking) };
                }
            }
            _ => return count,
        }
        if sources::is_ready_now(fd, libc::POLLIN) || !operation.may_block() {
            let count = blocking();
            return if count < 0 { count } else { settled(saved, count) };
        }
        match operation.wait() {
            Ok(Waited::Always) => return blocking(),
            Ok(_) => {}
            Err(error) => return fail(error),
        }
    }
}

/// How long a read of a terminal waits, by its settings (termios(3)).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Until there is a line, or so many bytes as are asked for; and of what is no terminal.
    Endless,
    /// Not at all, or so long for the first byte.
    First(Duration),
    /// After the first byte, a little for each that follows.
    Gaps,
}

impl Patience {
    fn of(fd: c_int) -> Patience {
        let saved = errno();
        // SAFETY: all zeros is valid for it, and the kernel writes no more than that.
        let mut settings: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let got = unsafe { libc::tcgetattr(fd, &mut settings) };
        real::set_errno(saved);
        if got != 0 || settings.c_lflag & libc::ICANON != 0 {
            return Patience::Endless;
        }
        match (settings.c_cc[libc::VMIN], settings.c_cc[libc::VTIME]) {
            (0, tenths) => Patience::First(Duration::from_millis(100) * u32::from(tenths)),
            (_, 0) => Patience::Endless,
            (..) => Patience::Gaps,
        }
    }
}

/// Reads from a terminal whose settings limit the wait.
///
/// # Safety
/// As for readv(2), which `blocking` is.
#[track_caller]
unsafe fn read_terminal(fd: c_int, patience: Patience, blocking: impl Fn() -> ssize_t) -> ssize_t {
    let saved = errno();
    let deadline = match patience {
        Patience::First(time) => Deadline::after(time),
        _ => None,
    };
    while !sources::is_ready_now(fd, libc::POLLIN) {
        match sources::wait(fd, Direction::Read, deadline) {
            Ok(Waited::TimedOut) if !sources::is_ready_now(fd, libc::POLLIN) => {
                return settled(saved, 0);
            }
            Ok(_) => {}
            Err(error) => return fail(error),
        }
    }
    let count = match patience {
        // SAFETY: the call is fit for any thread, and its memory is waited for.
        Patience::Gaps => unsafe { offload::call_borrowing(blocking) },
        _ => blocking(),
    };
    if count < 0 { count } else { settled(saved, count) }
}

// ---- writing --------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t {
    if len == 0 || !cooperative_on(EITHER, fd) {
        // SAFETY: the caller's promise.
        return unsafe { real::write(fd, buf, len) };
    }
    // SAFETY: the caller's promise, in all of them.
    unless_mistaken(fd, || unsafe {
        match what(fd) {
            What::Socket => super::socket::send(fd, buf, len, 0),
            What::Waitable => {
                write_waitable(fd, &[iovec { iov_base: buf.cast_mut(), iov_len: len }], len)
            }
            What::Plain => real::write(fd, buf, len),
        }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    if !(1..=MAX_BUFFERS as c_int).contains(&count) || !cooperative_on(EITHER, fd) {
        // SAFETY: the caller's promise.
        return unsafe { real::writev(fd, iov, count) };
    }
    // SAFETY: the caller's promise, in all of them.
    unless_mistaken(fd, || unsafe {
        let (bufs, len) = buffers(iov, count as usize);
        match what(fd) {
            What::Socket if len > 0 => send_all(fd, 0, len, |done, flags| {
                let mut rest = after(bufs, done);
                let mut message: libc::msghdr = std::mem::zeroed();
                message.msg_iov = rest.as_mut_ptr();
                message.msg_iovlen = rest.len() as _;
                real::sendmsg(fd, &message, flags)
            }),
            What::Waitable if len > 0 => write_waitable(fd, bufs, len),
            _ => real::writev(fd, iov, count),
        }
    })
}

/// Writes everything to something that is neither a socket nor a file; what was written goes before an
/// error.
///
/// # Safety
/// As for writev(2), with `len` the sum of the buffers' lengths.
#[track_caller]
unsafe fn write_waitable(fd: c_int, bufs: &[iovec], len: usize) -> ssize_t {
    let saved = errno();
    let mut operation = Operation::new(fd, Direction::Write, None);
    let mut done = 0;
    // Without empty buffers: of what is left, the first one is written.
    let mut rest = after(bufs, 0);
    loop {
        // SAFETY: the caller's promise.
        let mut count =
            unsafe { real::pwritev2(fd, rest.as_ptr(), rest.len() as c_int, -1, libc::RWF_NOWAIT) };
        let would_block = count < 0 && (errno() == libc::EAGAIN || is_unsupported(errno()));
        if would_block && (sources::is_ready_now(fd, libc::POLLOUT) || !operation.may_block()) {
            // SAFETY: the caller's promise.
            count = unsafe { write_ready(fd, &rest) };
        } else if would_block {
            match operation.wait() {
                // SAFETY: the caller's promise.
                Ok(Waited::Always) => count = unsafe { write_ready(fd, &rest) },
                Ok(_) => continue,
                Err(error) if done == 0 => return fail(error),
                Err(_) => return settled(saved, done as ssize_t),
            }
        }
        match count {
            1.. => done += count as usize,
            _ if count < 0 && errno() == libc::EINTR => continue,
            _ if done > 0 => return settled(saved, done as ssize_t),
            _ => return count,
        }
        if done >= len {
            return settled(saved, done as ssize_t);
        }
        // What the program has made non-blocking takes what it takes.
        if !operation.may_block() {
            return settled(saved, done as ssize_t);
        }
        rest = after(bufs, done);
    }
}

/// Writes as much as surely does not block once poll(2) says that the descriptor is ready.
///
/// # Safety
/// As for writev(2).
unsafe fn write_ready(fd: c_int, rest: &[iovec]) -> ssize_t {
    let piece = match sources::kind(fd) {
        _ if sources::is_nonblocking(fd) => usize::MAX,
        libc::S_IFIFO => PIPE_PIECE,
        // SAFETY: no pointers.
        libc::S_IFCHR if unsafe { libc::isatty(fd) } == 1 => TTY_PIECE,
        // A message for a device must not be cut.
        _ => usize::MAX,
    };
    let first = rest[0];
    // SAFETY: the caller's promise: parts of its buffers.
    unsafe {
        if piece == usize::MAX {
            real::writev(fd, rest.as_ptr(), rest.len() as c_int)
        } else {
            real::write(fd, first.iov_base, first.iov_len.min(piece))
        }
    }
}

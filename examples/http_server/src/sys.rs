//! The system calls that std does not have, each behind a safe function.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Opens what is below `dir`, and nothing else: no `..` and no symlink leads out of it, whatever is
/// renamed meanwhile. A FIFO does not block, it is opened and can be looked at.
pub(crate) fn open_beneath(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<File> {
    // SAFETY: all zeros is a valid open_how; the structure may get more fields.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    // EAGAIN says that something was renamed while the kernel looked.
    for _ in 0..10 {
        // SAFETY: `path` ends with a null byte, and `how` is as long as is said.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if fd >= 0 {
            // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
            return Ok(unsafe { File::from_raw_fd(fd as i32) });
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => {}
            _ => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

/// As [`open_beneath`], one component that is no symlink, for kernels or sandboxes without openat2(2).
pub(crate) fn open_one(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: `name` ends with a null byte.
    let fd = unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | libc::O_NOFOLLOW) };
    match fd {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// sendfile(2): as much as the socket takes. 0 is the end of the file.
pub(crate) fn send_file(
    socket: impl AsFd,
    file: &File,
    start: u64,
    length: usize,
) -> io::Result<usize> {
    let mut offset = start as libc::off_t;
    // SAFETY: `offset` is valid for reading and writing.
    let sent = unsafe {
        libc::sendfile(socket.as_fd().as_raw_fd(), file.as_raw_fd(), &mut offset, length)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// send(2) without `SIGPIPE`. With `more`, the kernel waits for more before it sends a packet that is not full.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], more: bool) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `bytes` only, at most its length.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Raises the limit of open files to at least `wanted`, as far as this process may, and returns what holds.
pub(crate) fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the write.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < wanted {
        let raised = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), ..limit };
        // SAFETY: the kernel only reads the structure.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } != 0 {
            return Err(io::Error::last_os_error());
        }
        return Ok(raised.rlim_cur);
    }
    Ok(limit.rlim_cur)
}

//! Reading and writing descriptors without waiting, whatever their mode.
//!
//! `O_NONBLOCK` belongs to the open file, which may be shared: standard input with the shell, a pipe's end with a
//! child or with a clone of it. So it is never set on those. Where the kernel can do so, it is told for the
//! single call (`RWF_NOWAIT`: regular files, sockets, and pipes since Linux 6.4); elsewhere (terminals) it is asked
//! first, by poll(2), and then told to do no more than it has said it can.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::Adapter;
use crate::rt::{self, Direction, syscall};

/// How often a call is repeated that says it would have to wait while poll(2) says it would not.
const TRIES: u32 = 3;
/// What a terminal that is ready takes at once (it says that it is ready when it has room for this).
const TERMINAL_ROOM: usize = 256;
/// The most buffers that a call takes (`UIO_MAXIOV`).
const MOST_BUFFERS: usize = 1024;

/// Reads what there is.
///
/// # Errors
/// `WouldBlock` if there is nothing yet, and what preadv2(2) says.
pub(crate) fn read(fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let count = bufs.len().min(MOST_BUFFERS);
    let bufs = &mut bufs[..count];
    let empty = bufs.iter().all(|buf| buf.is_empty());
    run(fd, Direction::Read, empty, |flags| preadv2(fd, bufs, flags))
}

/// Reads what is in memory already.
///
/// # Errors
/// `WouldBlock` if it would have to wait, or if the file system cannot tell; what preadv2(2) says.
pub(crate) fn read_cached(fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    match preadv2(fd, bufs, libc::RWF_NOWAIT) {
        Err(error) if is_unsupported(&error) => Err(io::ErrorKind::WouldBlock.into()),
        result => result,
    }
}

/// Writes as much as there is room for.
///
/// # Errors
/// `WouldBlock` if there is no room, and what pwritev2(2) says.
pub(crate) fn write(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let bufs = &bufs[..bufs.len().min(MOST_BUFFERS)];
    let empty = bufs.iter().all(|buf| buf.is_empty());
    run(fd, Direction::Write, empty, |flags| {
        if flags != 0 {
            return pwritev2(fd, bufs, flags);
        }
        let Some(room) = room_of(fd)? else { return pwritev2(fd, bufs, 0) };
        let Some(first) = bufs.iter().find(|buf| !buf.is_empty()) else { return Ok(0) };
        pwritev2(fd, &[IoSlice::new(&first[..first.len().min(room)])], 0)
    })
}

/// Writes, and blocks the thread if there is no room.
///
/// # Errors
/// What pwritev2(2) says.
pub(crate) fn write_blocking(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    pwritev2(fd, &bufs[..bufs.len().min(MOST_BUFFERS)], 0)
}

/// Calls `op` with `RWF_NOWAIT`, or without it when the descriptor is ready.
fn run(
    fd: BorrowedFd<'_>,
    direction: Direction,
    empty: bool,
    mut op: impl FnMut(libc::c_int) -> io::Result<usize>,
) -> io::Result<usize> {
    for _ in 0..TRIES {
        match op(libc::RWF_NOWAIT) {
            Err(error) if is_unsupported(&error) => break,
            // It also says so when it would have to wait for a lock or for the disk.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !rt::is_ready(fd, direction)? {
                    return Err(error);
                }
            }
            result => return result,
        }
    }
    if !empty && !rt::is_ready(fd, direction)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    op(0)
}

/// Whether the kind of file does not know the flag, or the kernel or a sandbox not the call.
fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [libc::EOPNOTSUPP, libc::ENOSYS, libc::EINVAL, libc::EPERM];
    error.raw_os_error().is_some_and(|errno| unsupported.contains(&errno))
}

/// How much can be written to a descriptor that is ready for it, without waiting. `None`: anything.
fn room_of(fd: BorrowedFd<'_>) -> io::Result<Option<usize>> {
    let kind = kind(fd)?;
    Ok(match kind {
        libc::S_IFIFO => Some(libc::PIPE_BUF),
        // SAFETY: no pointers are passed.
        libc::S_IFCHR if unsafe { libc::isatty(fd.as_raw_fd()) } == 1 => Some(TERMINAL_ROOM),
        _ => None,
    })
}

/// The kind of file that is behind a descriptor, as in `st_mode`.
///
/// # Errors
/// What fstat(2) says.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> io::Result<libc::mode_t> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel writes a whole `stat`.
    syscall!(fstat(fd.as_raw_fd(), stat.as_mut_ptr()))?;
    // SAFETY: it has, since there was no error.
    Ok(unsafe { stat.assume_init() }.st_mode & libc::S_IFMT)
}

/// preadv2(2) at the file's own position; without flags readv(2), which is there in every sandbox and emulator.
fn preadv2(
    fd: BorrowedFd<'_>,
    bufs: &mut [IoSliceMut<'_>],
    flags: libc::c_int,
) -> io::Result<usize> {
    let (fd, bufs, count) = (fd.as_raw_fd(), bufs.as_mut_ptr(), bufs.len());
    if flags == 0 {
        // SAFETY: as below.
        return syscall!(readv(fd, bufs.cast(), count as libc::c_int)).map(|read| read as usize);
    }
    // By number, since not every C library has it. An offset of −1 means the file's own position.
    // SAFETY: `IoSliceMut` is an `iovec`; the buffers are ours alone during the call.
    let read = unsafe {
        libc::syscall(
            libc::SYS_preadv2,
            fd,
            bufs,
            count,
            -1 as libc::c_long,
            0 as libc::c_long,
            flags,
        )
    };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(read as usize) }
}

/// As [`preadv2`].
fn pwritev2(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>], flags: libc::c_int) -> io::Result<usize> {
    let (fd, bufs, count) = (fd.as_raw_fd(), bufs.as_ptr(), bufs.len());
    if flags == 0 {
        // SAFETY: as below.
        return syscall!(writev(fd, bufs.cast(), count as libc::c_int)).map(|n| n as usize);
    }
    // SAFETY: `IoSlice` is an `iovec`; the buffers live through the call, which only reads them.
    let written = unsafe {
        libc::syscall(
            libc::SYS_pwritev2,
            fd,
            bufs,
            count,
            -1 as libc::c_long,
            0 as libc::c_long,
            flags,
        )
    };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(written as usize) }
}

/// Calls `attempt` until everything is written, as a blocking write(2) does, or something goes wrong. An
/// error after a part that went well is left for the next write to find.
pub(crate) fn write_all_of(
    bufs: &[IoSlice<'_>],
    mut attempt: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    let mut written = attempt(bufs)?;
    if written == 0 || written == total {
        return Ok(written);
    }
    let mut rest = bufs.to_vec();
    let mut rest = &mut rest[..];
    IoSlice::advance_slices(&mut rest, written);
    while written < total {
        match attempt(rest) {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                written += count;
                IoSlice::advance_slices(&mut rest, count);
            }
        }
    }
    Ok(written)
}

/// A descriptor whose mode is left alone, and whose operations wait without blocking the thread.
pub(crate) struct Plain<T: AsFd> {
    adapter: Adapter<T>,
}

impl<T: AsFd> Plain<T> {
    pub(crate) fn new(io: T) -> Plain<T> {
        Plain { adapter: Adapter::from_nonblocking(io) }
    }

    pub(crate) fn get_ref(&self) -> &T {
        self.adapter.get_ref()
    }

    pub(crate) fn into_inner(self) -> T {
        self.adapter.into_inner().expect("its mode was not changed, so it is not restored")
    }

    /// Reads what there is; waits for something.
    #[track_caller]
    pub(crate) fn read(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.adapter.read_with(|io| read(io.as_fd(), bufs))
    }

    /// Writes all of it, as a blocking write does.
    #[track_caller]
    pub(crate) fn write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        write_all_of(bufs, |bufs| self.adapter.write_with(|io| write(io.as_fd(), bufs)))
    }
}

//! The system calls of sockets, each behind a safe function. None of them blocks.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::name::Name;
use crate::rt::syscall;

/// How many buffers the kernel takes in one call (`IOV_MAX`).
const MAX_BUFFERS: usize = 1024;

/// recv(2) with `MSG_DONTWAIT` and `flags`.
pub(super) fn recv(fd: BorrowedFd<'_>, buf: &mut [u8], flags: i32) -> io::Result<usize> {
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: the kernel writes to `buf` only, at most its length.
    let count = syscall!(recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags))?;
    Ok(count as usize)
}

/// send(2) with `MSG_DONTWAIT`, and without `SIGPIPE`.
pub(super) fn send(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads `buf` only, at most its length.
    let count = syscall!(send(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len(), flags))?;
    Ok(count as usize)
}

/// As [`recv`], into several buffers.
pub(super) fn recv_vectored(fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let mut message = message(bufs.as_mut_ptr().cast(), bufs.len());
    // SAFETY: `IoSliceMut` is an iovec by std's guarantee. The kernel writes to the buffers only, at most
    // their lengths; the message has no room for an address or control data.
    let count = syscall!(recvmsg(fd.as_raw_fd(), &mut message, libc::MSG_DONTWAIT))?;
    Ok(count as usize)
}

/// As [`send`], from several buffers.
pub(super) fn send_vectored(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let message = message(bufs.as_ptr().cast_mut().cast(), bufs.len());
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `IoSlice` is an iovec by std's guarantee, and sendmsg writes neither to the array nor to the
    // buffers, so that it may be behind a shared reference.
    let count = syscall!(sendmsg(fd.as_raw_fd(), &message, flags))?;
    Ok(count as usize)
}

/// A message of the first [`MAX_BUFFERS`] of so many buffers.
fn message(buffers: *mut libc::iovec, count: usize) -> libc::msghdr {
    // SAFETY: all zeros is a message without address, data and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = buffers;
    // The type of the field differs between C libraries.
    message.msg_iovlen = count.min(MAX_BUFFERS) as _;
    message
}

/// The buffers that one call uses.
pub(super) fn usable<T>(bufs: &[T]) -> &[T] {
    &bufs[..bufs.len().min(MAX_BUFFERS)]
}

/// recvfrom(2), as [`recv`], and who has sent it.
pub(super) fn recv_from(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    flags: i32,
) -> io::Result<(usize, Name)> {
    let flags = flags | libc::MSG_DONTWAIT;
    let mut name = Name::room();
    let (addr, len) = name.as_mut_arguments();
    let (start, size) = (buf.as_mut_ptr().cast(), buf.len());
    // SAFETY: the kernel writes to `buf` only, at most its length, and to `name`, at most as much as it has.
    let count = syscall!(recvfrom(fd.as_raw_fd(), start, size, flags, addr, len))?;
    Ok((count as usize, name))
}

/// sendto(2), as [`send`].
pub(super) fn send_to(fd: BorrowedFd<'_>, buf: &[u8], to: &Name) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let (addr, len) = to.as_arguments();
    // SAFETY: the kernel reads `buf` and `to` only, at most their lengths.
    let count = syscall!(sendto(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len(), flags, addr, len))?;
    Ok(count as usize)
}

/// A new stream socket of an address family, with `O_NONBLOCK` and `FD_CLOEXEC`.
pub(super) fn stream_socket(family: i32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket takes no pointers.
    let fd = syscall!(socket(family, kind, 0))?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// connect(2) on a socket with `O_NONBLOCK`.
pub(super) fn connect(fd: BorrowedFd<'_>, to: &Name) -> io::Result<()> {
    let (addr, len) = to.as_arguments();
    // SAFETY: `to` lives through the call and is `len` bytes long.
    syscall!(connect(fd.as_raw_fd(), addr, len)).map(drop)
}

/// accept4(2) on a socket with `O_NONBLOCK`. The new one has `FD_CLOEXEC` only.
pub(super) fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, Name)> {
    let mut name = Name::room();
    let (addr, len) = name.as_mut_arguments();
    // SAFETY: the kernel writes to `name` only, at most as much as it has.
    let accepted = syscall!(accept4(fd.as_raw_fd(), addr, len, libc::SOCK_CLOEXEC))?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok((unsafe { OwnedFd::from_raw_fd(accepted) }, name))
}

/// shutdown(2), both ways.
pub(super) fn shutdown(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: shutdown takes no pointers.
    syscall!(shutdown(fd.as_raw_fd(), libc::SHUT_RDWR)).map(drop)
}

/// The time limits of a socket for receiving and sending.
pub(super) fn timeout(fd: BorrowedFd<'_>, option: i32) -> io::Result<std::time::Duration> {
    let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut len = size_of_val(&time) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `time`, which has as many.
    syscall!(getsockopt(
        fd.as_raw_fd(),
        libc::SOL_SOCKET,
        option,
        (&raw mut time).cast(),
        &mut len
    ))?;
    Ok(std::time::Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000))
}

//! The system calls of sockets, each behind a safe function. None of them blocks.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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

/// A new TCP socket for addresses of the family of `addr`, with `O_NONBLOCK` and `FD_CLOEXEC`.
pub(super) fn stream_socket(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let fd = syscall!(socket(family, kind, 0))?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// connect(2) on a socket with `O_NONBLOCK`.
pub(super) fn connect(fd: BorrowedFd<'_>, addr: &SocketAddr) -> io::Result<()> {
    match addr {
        SocketAddr::V4(addr) => {
            // SAFETY: all zeros is a valid address structure.
            let mut name: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = addr.port().to_be();
            name.sin_addr.s_addr = u32::from_ne_bytes(addr.ip().octets());
            let len = size_of_val(&name) as libc::socklen_t;
            // SAFETY: `name` lives through the call and is `len` bytes long.
            syscall!(connect(fd.as_raw_fd(), (&raw const name).cast(), len))?;
        }
        SocketAddr::V6(addr) => {
            // SAFETY: all zeros is a valid address structure.
            let mut name: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = addr.port().to_be();
            name.sin6_addr.s6_addr = addr.ip().octets();
            name.sin6_flowinfo = addr.flowinfo();
            name.sin6_scope_id = addr.scope_id();
            let len = size_of_val(&name) as libc::socklen_t;
            // SAFETY: `name` lives through the call and is `len` bytes long.
            syscall!(connect(fd.as_raw_fd(), (&raw const name).cast(), len))?;
        }
    }
    Ok(())
}

/// accept4(2) on a socket with `O_NONBLOCK`. The new one has `FD_CLOEXEC` only.
///
/// # Errors
/// What accept4(2) says, or `InvalidInput` for a peer that has no IP address.
pub(super) fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = size_of_val(&name) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `name`, which has as many.
    let accepted =
        syscall!(accept4(fd.as_raw_fd(), name.as_mut_ptr().cast(), &mut len, libc::SOCK_CLOEXEC))?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    let accepted = unsafe { OwnedFd::from_raw_fd(accepted) };
    // SAFETY: it was zeroed, which is valid for it, and the kernel may have written plain data.
    let addr = address(unsafe { name.assume_init_ref() })?;
    Ok((accepted, addr))
}

fn address(name: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    let pointer: *const libc::sockaddr_storage = name;
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the storage is large and aligned enough for every family, and this is the one
            // that the kernel has named.
            let name = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Ok(SocketAddr::new(IpAddr::V4(ip), u16::from_be(name.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            let addr = SocketAddrV6::new(ip, port, name.sin6_flowinfo, name.sin6_scope_id);
            Ok(SocketAddr::V6(addr))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "invalid argument")),
    }
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

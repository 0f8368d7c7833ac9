//! The functions that the feature `patch` redefines, as the C library has them.
//!
//! Each is looked up once, behind this program in the search order, so that what others have put in between
//! (a preloaded library, a sanitizer) stays in the chain. Looking up may allocate, and an allocator may read
//! files: a call that comes in the middle of a lookup, or of a function that is not there, is the bare system
//! call.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::mem::transmute;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{
    addrinfo, epoll_event, fd_set, hostent, id_t, idtype_t, iovec, loff_t, mmsghdr, msghdr, nfds_t,
    off_t, pid_t, pollfd, pthread_t, rusage, siginfo_t, sigset_t, size_t, sockaddr, socklen_t,
    ssize_t, timespec, timeval,
};

/// Where a function of the C library is.
pub(crate) struct Slot {
    name: &'static CStr,
    /// 0 before the lookup, 1 if there is none.
    address: AtomicUsize,
}

const MISSING: usize = 1;

thread_local! {
    static LOOKING_UP: Cell<bool> = const { Cell::new(false) };
}

impl Slot {
    const fn new(name: &'static CStr) -> Slot {
        Slot { name, address: AtomicUsize::new(0) }
    }

    #[inline(always)]
    fn get(&self) -> Option<usize> {
        match self.address.load(Ordering::Relaxed) {
            0 => self.look_up(),
            MISSING => None,
            address => Some(address),
        }
    }

    #[cold]
    fn look_up(&self) -> Option<usize> {
        if LOOKING_UP.replace(true) {
            return None;
        }
        let errno = errno();
        // SAFETY: the name is a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) } as usize;
        set_errno(errno);
        LOOKING_UP.set(false);
        self.address.store(if found == 0 { MISSING } else { found }, Ordering::Relaxed);
        (found != 0).then_some(found)
    }
}

pub(crate) fn errno() -> c_int {
    // SAFETY: the location is the calling thread's own.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// A system call without the C library; a failure is −1 and `errno`.
///
/// # Safety
/// As for the system call.
#[inline]
pub(crate) unsafe fn raw(number: c_long, a: [usize; 6]) -> isize {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel's calling convention; the rest is the caller's promise.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a[0] as isize => result,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack),
        );
    }
    if (-4095..0).contains(&result) {
        set_errno(-result as c_int);
        return -1;
    }
    result
}

/// Arguments of a system call, filled up with zeros.
macro_rules! raw {
    ($number:ident $(, $arg:expr)*) => {{
        let given: &[usize] = &[$($arg as usize),*];
        let mut all = [0; 6];
        all[..given.len()].copy_from_slice(given);
        // SAFETY: the caller's promise.
        unsafe { raw(libc::$number, all) as _ }
    }};
}

macro_rules! real {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty = $raw:expr;)*) => {
        $(
            /// The C library's function of this name.
            ///
            /// # Safety
            /// As for that.
            #[inline]
            #[allow(unused_variables, clippy::too_many_arguments, reason = "as C has it")]
            pub(crate) unsafe fn $name($($arg: $ty),*) -> $ret {
                static SLOT: Slot = Slot::new(
                    match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => unreachable!(),
                    }
                );
                match SLOT.get() {
                    Some(address) => {
                        // SAFETY: the C library's function of this name has this signature.
                        let real: unsafe extern "C" fn($($ty),*) -> $ret = unsafe { transmute(address) };
                        // SAFETY: the caller's promise.
                        unsafe { real($($arg),*) }
                    }
                    None => $raw,
                }
            }
        )*
    };
}

/// What a resolver says in the middle of the lookup of its own address.
const NO_RESOLVER: c_int = libc::EAI_SYSTEM;

/// The size of the kernel's signal sets.
const SIGSET: usize = 8;

real! {
    fn read(fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t = raw!(SYS_read, fd, buf, len);
    fn write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t = raw!(SYS_write, fd, buf, len);
    fn readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t =
        raw!(SYS_readv, fd, iov, count);
    fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t =
        raw!(SYS_writev, fd, iov, count);
    fn recv(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int) -> ssize_t =
        raw!(SYS_recvfrom, fd, buf, len, flags);
    fn send(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t =
        raw!(SYS_sendto, fd, buf, len, flags);
    fn recvfrom(
        fd: c_int, buf: *mut c_void, len: size_t, flags: c_int,
        addr: *mut sockaddr, addr_len: *mut socklen_t,
    ) -> ssize_t = raw!(SYS_recvfrom, fd, buf, len, flags, addr, addr_len);
    fn sendto(
        fd: c_int, buf: *const c_void, len: size_t, flags: c_int,
        addr: *const sockaddr, addr_len: socklen_t,
    ) -> ssize_t = raw!(SYS_sendto, fd, buf, len, flags, addr, addr_len);
    fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t =
        raw!(SYS_recvmsg, fd, msg, flags);
    fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t =
        raw!(SYS_sendmsg, fd, msg, flags);
    fn recvmmsg(
        fd: c_int, msgs: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec,
    ) -> c_int = raw!(SYS_recvmmsg, fd, msgs, count, flags, timeout);
    fn sendmmsg(fd: c_int, msgs: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int =
        raw!(SYS_sendmmsg, fd, msgs, count, flags);
    fn sendfile(out: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t =
        raw!(SYS_sendfile, out, from, offset, count);
    fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int =
        raw!(SYS_connect, fd, addr, len);
    fn accept(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int =
        raw!(SYS_accept4, fd, addr, len, 0);
    fn accept4(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int =
        raw!(SYS_accept4, fd, addr, len, flags);

    fn close(fd: c_int) -> c_int = raw!(SYS_close, fd);
    fn dup2(old: c_int, new: c_int) -> c_int =
        if old == new { raw!(SYS_fcntl, old, libc::F_GETFD) } else { raw!(SYS_dup3, old, new, 0) };
    fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int = raw!(SYS_dup3, old, new, flags);
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int =
        raw!(SYS_close_range, first, last, flags);
    fn fcntl(fd: c_int, command: c_int, arg: usize) -> c_int = raw!(SYS_fcntl, fd, command, arg);
    fn dup(old: c_int) -> c_int = raw!(SYS_dup, old);
    fn ioctl(fd: c_int, request: c_ulong, arg: usize) -> c_int = raw!(SYS_ioctl, fd, request, arg);
    fn setsockopt(
        fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t,
    ) -> c_int = raw!(SYS_setsockopt, fd, level, name, value, len);
    fn flock(fd: c_int, operation: c_int) -> c_int = raw!(SYS_flock, fd, operation);
    fn splice(
        from: c_int, from_offset: *mut loff_t, to: c_int, to_offset: *mut loff_t, len: size_t,
        flags: c_uint,
    ) -> ssize_t = raw!(SYS_splice, from, from_offset, to, to_offset, len, flags);
    fn tee(from: c_int, to: c_int, len: size_t, flags: c_uint) -> ssize_t =
        raw!(SYS_tee, from, to, len, flags);
    fn vmsplice(fd: c_int, iov: *const iovec, count: size_t, flags: c_uint) -> ssize_t =
        raw!(SYS_vmsplice, fd, iov, count, flags);
    fn preadv2(fd: c_int, iov: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t =
        raw!(SYS_preadv2, fd, iov, count, offset, 0, flags);
    fn pwritev2(fd: c_int, iov: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t =
        raw!(SYS_pwritev2, fd, iov, count, offset, 0, flags);

    fn poll(fds: *mut pollfd, count: nfds_t, millis: c_int) -> c_int = {
        let time = timespec {
            tv_sec: (millis / 1000).into(),
            tv_nsec: c_long::from(millis % 1000) * 1_000_000,
        };
        let time = if millis < 0 { std::ptr::null() } else { &raw const time };
        raw!(SYS_ppoll, fds, count, time, 0, SIGSET)
    };
    fn ppoll(
        fds: *mut pollfd, count: nfds_t, time: *const timespec, mask: *const sigset_t,
    ) -> c_int = raw!(SYS_ppoll, fds, count, time, mask, SIGSET);
    fn select(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *mut timeval,
    ) -> c_int = {
        // SAFETY: null or valid, by the caller's promise.
        let spec = unsafe { time.as_ref() }.map(|time| timespec {
            tv_sec: time.tv_sec,
            tv_nsec: time.tv_usec * 1000,
        });
        let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        raw!(SYS_pselect6, count, read, write, except, spec, 0)
    };
    fn pselect(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set,
        time: *const timespec, mask: *const sigset_t,
    ) -> c_int = {
        let mask = [mask as usize, SIGSET];
        raw!(SYS_pselect6, count, read, write, except, time, mask.as_ptr())
    };
    fn epoll_wait(epoll: c_int, events: *mut epoll_event, room: c_int, millis: c_int) -> c_int =
        raw!(SYS_epoll_pwait, epoll, events, room, millis, 0, SIGSET);
    fn epoll_pwait(
        epoll: c_int, events: *mut epoll_event, room: c_int, millis: c_int, mask: *const sigset_t,
    ) -> c_int = raw!(SYS_epoll_pwait, epoll, events, room, millis, mask, SIGSET);
    fn epoll_pwait2(
        epoll: c_int, events: *mut epoll_event, room: c_int, time: *const timespec,
        mask: *const sigset_t,
    ) -> c_int = raw!(SYS_epoll_pwait2, epoll, events, room, time, mask, SIGSET);

    // Called for buffers that are too small only, for which the C library ends the process.
    fn __read_chk(fd: c_int, buf: *mut c_void, len: size_t, size: size_t) -> ssize_t =
        std::process::abort();
    fn __recv_chk(fd: c_int, buf: *mut c_void, len: size_t, size: size_t, flags: c_int) -> ssize_t =
        std::process::abort();
    fn __recvfrom_chk(
        fd: c_int, buf: *mut c_void, len: size_t, size: size_t, flags: c_int,
        addr: *mut sockaddr, addr_len: *mut socklen_t,
    ) -> ssize_t = std::process::abort();
    fn __poll_chk(fds: *mut pollfd, count: nfds_t, millis: c_int, size: size_t) -> c_int =
        std::process::abort();
    fn __ppoll_chk(
        fds: *mut pollfd, count: nfds_t, time: *const timespec, mask: *const sigset_t, size: size_t,
    ) -> c_int = std::process::abort();

    fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int =
        raw!(SYS_nanosleep, time, left);
    fn clock_nanosleep(
        clock: libc::clockid_t, flags: c_int, time: *const timespec, left: *mut timespec,
    ) -> c_int = {
        let failed: c_int = raw!(SYS_clock_nanosleep, clock, flags, time, left);
        if failed == 0 { 0 } else { errno() }
    };
    fn usleep(micros: c_uint) -> c_int = {
        let time = timespec {
            tv_sec: (micros / 1_000_000).into(),
            tv_nsec: c_long::from(micros % 1_000_000) * 1000,
        };
        raw!(SYS_nanosleep, &raw const time, 0)
    };
    fn sleep(seconds: c_uint) -> c_uint = {
        let time = timespec { tv_sec: seconds.into(), tv_nsec: 0 };
        let _: c_int = raw!(SYS_nanosleep, &raw const time, 0);
        0
    };

    fn getaddrinfo(
        node: *const c_char, service: *const c_char, hints: *const addrinfo,
        found: *mut *mut addrinfo,
    ) -> c_int = NO_RESOLVER;
    fn getnameinfo(
        addr: *const sockaddr, len: socklen_t, host: *mut c_char, host_len: socklen_t,
        service: *mut c_char, service_len: socklen_t, flags: c_int,
    ) -> c_int = NO_RESOLVER;
    fn gethostbyname(name: *const c_char) -> *mut hostent = std::ptr::null_mut();
    fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent = std::ptr::null_mut();
    fn gethostbyaddr(addr: *const c_void, len: socklen_t, family: c_int) -> *mut hostent =
        std::ptr::null_mut();
    fn gethostbyname_r(
        name: *const c_char, space: *mut hostent, buf: *mut c_char, len: size_t,
        found: *mut *mut hostent, error: *mut c_int,
    ) -> c_int = libc::EAGAIN;
    fn gethostbyname2_r(
        name: *const c_char, family: c_int, space: *mut hostent, buf: *mut c_char, len: size_t,
        found: *mut *mut hostent, error: *mut c_int,
    ) -> c_int = libc::EAGAIN;
    fn gethostbyaddr_r(
        addr: *const c_void, addr_len: socklen_t, family: c_int, space: *mut hostent,
        buf: *mut c_char, len: size_t, found: *mut *mut hostent, error: *mut c_int,
    ) -> c_int = libc::EAGAIN;

    fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t =
        raw!(SYS_wait4, pid, status, options, 0);
    fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t =
        raw!(SYS_wait4, pid, status, options, usage);
    fn waitid(kind: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int =
        raw!(SYS_waitid, kind, id, info, options, 0);
    fn pthread_join(thread: pthread_t, value: *mut *mut c_void) -> c_int = libc::EAGAIN;
}

/// syscall(2) of any number, straight to the kernel.
///
/// # Safety
/// As for the system call.
#[inline]
pub(crate) unsafe fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    // SAFETY: the caller's promise.
    unsafe { raw(number, [a, b, c, d, e, f]) as c_long }
}

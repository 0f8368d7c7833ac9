//! Every function that is meant to be redefined is, is in force in this program, and does what it should: here
//! those that no other test of the patch calls.

#![cfg(feature = "patch")]

mod common;
#[path = "common/native.rs"]
mod native;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::{mem, ptr, thread};

use common::deadline;
use greenling::{patch, sleep, spawn};
use native::{WAIT, outcome, same};

const ALL: &str = "read readv write writev recv recvfrom recvmsg recvmmsg send sendto sendmsg sendmmsg \
    sendfile sendfile64 connect accept accept4 close dup dup2 dup3 close_range fcntl fcntl64 ioctl setsockopt \
    splice tee vmsplice flock poll ppoll select pselect epoll_wait epoll_pwait epoll_pwait2 nanosleep \
    clock_nanosleep usleep sleep getaddrinfo getnameinfo gethostbyname gethostbyname2 gethostbyaddr \
    gethostbyname_r gethostbyname2_r gethostbyaddr_r wait waitpid wait4 waitid pthread_join syscall \
    __read_chk __recv_chk __recvfrom_chk __poll_chk __ppoll_chk";

#[test]
fn everything_is_redefined_and_in_force() {
    let report = patch::report();
    let mut missing: Vec<_> = ALL.split_whitespace().collect();
    for symbol in &report.symbols {
        assert!(missing.contains(&symbol.name), "{} is not in this test's list", symbol.name);
        missing.retain(|name| *name != symbol.name);
        assert!(symbol.exported && symbol.has_original && symbol.is_live(), "{symbol:?}");
    }
    assert!(missing.is_empty(), "not redefined: {missing:?}");
}

#[test]
fn close_range_wakes_those_who_wait() {
    deadline(60, || {
        patch::all();
        // Numbers that nobody else in this process uses.
        let (a, _b) = UnixStream::pair().unwrap();
        let first = 700;
        for fd in first..first + 4 {
            // SAFETY: the number is free, or is 700 and above by mistake of this test's.
            assert_eq!(unsafe { libc::dup2(a.as_raw_fd(), fd) }, fd);
        }
        let waiters: Vec<_> = (first..first + 4)
            .map(|fd| {
                spawn(move || {
                    let mut byte = 0_u8;
                    // SAFETY: one byte.
                    outcome(unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, 0) } as i64)
                })
            })
            .collect();
        sleep(WAIT / 20);
        // SAFETY: ours.
        let closed = unsafe { libc::close_range(first as u32, first as u32 + 3, 0) };
        assert_eq!(closed, 0);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), -i64::from(libc::EBADF));
        }
        // What is only to be closed at exec stays.
        let (c, mut d) = UnixStream::pair().unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { libc::dup2(c.into_raw_fd(), first) }, first);
        let reader = spawn(move || {
            let mut byte = 0_u8;
            // SAFETY: one byte.
            unsafe { libc::recv(first, (&raw mut byte).cast(), 1, 0) }
        });
        sleep(WAIT / 20);
        let flags = libc::CLOSE_RANGE_CLOEXEC as c_int;
        // SAFETY: ours.
        assert_eq!(unsafe { libc::close_range(first as u32, first as u32, flags) }, 0);
        d.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), 1);
        // SAFETY: ours.
        unsafe { libc::close(first) };
    });
}

#[test]
fn fcntl_by_both_of_its_names() {
    unsafe extern "C" {
        fn fcntl64(fd: c_int, command: c_int, ...) -> c_int;
    }
    deadline(60, || {
        same(|| {
            let (a, _b) = UnixStream::pair().unwrap();
            let fd = a.as_raw_fd();
            // SAFETY: no pointers; the numbers that are made are closed.
            unsafe {
                let flags = fcntl64(fd, libc::F_GETFL);
                let set = fcntl64(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
                let now = libc::fcntl(fd, libc::F_GETFL) & libc::O_NONBLOCK;
                let copy = fcntl64(fd, libc::F_DUPFD_CLOEXEC, 500);
                let cloexec = libc::fcntl(copy, libc::F_GETFD);
                libc::close(copy);
                (set, now, copy >= 500, cloexec, outcome(fcntl64(-1, libc::F_GETFL)))
            }
        });
    });
}

unsafe extern "C" {
    fn gethostbyname(name: *const c_char) -> *mut libc::hostent;
    fn gethostbyname2(name: *const c_char, family: c_int) -> *mut libc::hostent;
    fn gethostbyaddr(addr: *const c_void, len: libc::socklen_t, kind: c_int) -> *mut libc::hostent;
    fn gethostbyname_r(
        name: *const c_char,
        space: *mut libc::hostent,
        buf: *mut c_char,
        len: usize,
        found: *mut *mut libc::hostent,
        error: *mut c_int,
    ) -> c_int;
    fn gethostbyname2_r(
        name: *const c_char,
        family: c_int,
        space: *mut libc::hostent,
        buf: *mut c_char,
        len: usize,
        found: *mut *mut libc::hostent,
        error: *mut c_int,
    ) -> c_int;
    fn gethostbyaddr_r(
        addr: *const c_void,
        addr_len: libc::socklen_t,
        family: c_int,
        space: *mut libc::hostent,
        buf: *mut c_char,
        len: usize,
        found: *mut *mut libc::hostent,
        error: *mut c_int,
    ) -> c_int;
}

/// A host as those functions give it: its name, family and addresses.
type Host = Option<(String, c_int, Vec<Vec<u8>>)>;

/// # Safety
/// `host` must be null, or what one of the functions has given just now.
unsafe fn read_host(host: *const libc::hostent) -> Host {
    // SAFETY: the caller's promise: strings end with 0, the list with a null pointer.
    unsafe {
        let host = host.as_ref()?;
        let name = CStr::from_ptr(host.h_name).to_string_lossy().into_owned();
        let mut addresses = Vec::new();
        let mut at = host.h_addr_list;
        while !(*at).is_null() {
            let bytes = std::slice::from_raw_parts((*at).cast::<u8>(), host.h_length as usize);
            addresses.push(bytes.to_vec());
            at = at.add(1);
        }
        Some((name, host.h_addrtype, addresses))
    }
}

#[test]
fn hosts_by_the_old_functions() {
    deadline(60, || {
        let hosts = same(|| {
            let (name, none) = (c"localhost".as_ptr(), c"no-such-name.invalid".as_ptr());
            let addr = [127_u8, 0, 0, 1];
            let mut hosts = Vec::new();
            // SAFETY: strings and buffers are valid, and of the lengths that are given.
            unsafe {
                hosts.push(read_host(gethostbyname(name)));
                hosts.push(read_host(gethostbyname2(name, libc::AF_INET)));
                hosts.push(read_host(gethostbyaddr(addr.as_ptr().cast(), 4, libc::AF_INET)));
                hosts.push(read_host(gethostbyname(none)));
                let mut buf = vec![0 as c_char; 4096];
                let (space, len) = (&mut mem::zeroed(), buf.len());
                let (buf, mut found, mut error) = (buf.as_mut_ptr(), ptr::null_mut(), 0);
                let result = gethostbyname_r(name, space, buf, len, &mut found, &mut error);
                hosts.push(read_host(found).filter(|_| result == 0));
                let result =
                    gethostbyname2_r(name, libc::AF_INET, space, buf, len, &mut found, &mut error);
                hosts.push(read_host(found).filter(|_| result == 0));
                let (addr, family) = (addr.as_ptr().cast(), libc::AF_INET);
                let result =
                    gethostbyaddr_r(addr, 4, family, space, buf, len, &mut found, &mut error);
                hosts.push(read_host(found).filter(|_| result == 0));
                let result = gethostbyname_r(name, space, buf, 1, &mut found, &mut error);
                assert_eq!((result, found.is_null()), (libc::ERANGE, true));
            }
            hosts
        });
        for (n, host) in hosts.iter().enumerate() {
            assert_eq!(host.is_some(), n != 3, "{hosts:?}");
        }
    });
}

#[test]
#[allow(clippy::zombie_processes, reason = "wait4 reaps it")]
fn children_by_wait4() {
    deadline(60, || {
        same(|| {
            let child = Command::new("sh").args(["-c", "sleep 0.4; exit 3"]).spawn().unwrap();
            let pid = child.id() as c_int;
            let mut status = 0;
            // SAFETY: both are valid for a write; all zeros is a value of the second.
            let (reaped, used) = unsafe {
                let mut usage: libc::rusage = mem::zeroed();
                (libc::wait4(pid, &mut status, 0, &mut usage), usage.ru_maxrss > 0)
            };
            assert_eq!(reaped, pid);
            // SAFETY: no pointers but null.
            let again = outcome(unsafe { libc::wait4(pid, ptr::null_mut(), 0, ptr::null_mut()) });
            (libc::WEXITSTATUS(status), used, again)
        });
    });
}

#[test]
fn threads_by_pthread_join() {
    extern "C" fn body(argument: *mut c_void) -> *mut c_void {
        thread::sleep(WAIT);
        argument.wrapping_byte_add(1)
    }
    deadline(60, || {
        same(|| {
            // SAFETY: as POSIX has it; the argument is never followed.
            unsafe {
                let mut id = mem::zeroed();
                let argument = ptr::without_provenance_mut(41);
                assert_eq!(libc::pthread_create(&mut id, ptr::null(), body, argument), 0);
                let mut value = ptr::null_mut();
                let joined = libc::pthread_join(id, &mut value);
                (joined, value.addr())
            }
        });
    });
}

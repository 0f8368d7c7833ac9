//! Names and addresses: the resolver's functions as a whole, on a thread of the pool.
//!
//! Inside of the C library the resolver's own calls are bound to the C library's own functions, so there is
//! nothing smaller to take hold of.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::net::IpAddr;
use std::ptr;

use libc::{addrinfo, hostent, size_t, sockaddr, socklen_t};

use super::offload;
use super::policy::{DNS, cooperative};
use crate::rt::real::{self, errno, set_errno};

// What <netdb.h> has in h_errno; libc does not name them.
const TRY_AGAIN: c_int = 2;

/// # Safety
/// `text` must be null or a C string.
unsafe fn copied(text: *const c_char) -> Option<CString> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned())
}

fn as_ptr(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}

/// Whether looking it up asks nobody.
fn is_numeric(name: Option<&CString>) -> bool {
    name.is_none_or(|name| name.to_str().is_ok_and(|name| name.parse::<IpAddr>().is_ok()))
}

// ---- getaddrinfo ----------------------------------------------------------------------------------

/// What getaddrinfo has found, until somebody takes it: a caller that was killed never will.
struct Found {
    list: *mut addrinfo,
}

// SAFETY: the list is plain memory that nobody else has.
unsafe impl Send for Found {}

impl Drop for Found {
    fn drop(&mut self) {
        if !self.list.is_null() {
            // SAFETY: made by getaddrinfo, and not handed out.
            unsafe { libc::freeaddrinfo(self.list) };
        }
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    found: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: the caller's promise.
    let plain = || unsafe { real::getaddrinfo(node, service, hints, found) };
    if !cooperative(DNS) {
        return plain();
    }
    // SAFETY: null or valid by the caller's promise.
    let (name, service, hints) = unsafe { (copied(node), copied(service), hints.as_ref()) };
    if is_numeric(name.as_ref()) {
        return plain();
    }
    // Only these four fields count in hints.
    let hints =
        hints.map(|hints| [hints.ai_flags, hints.ai_family, hints.ai_socktype, hints.ai_protocol]);
    let outcome = offload::call(move || {
        // SAFETY: all zeros is valid for it.
        let mut wish: addrinfo = unsafe { std::mem::zeroed() };
        if let Some(fields) = hints {
            [wish.ai_flags, wish.ai_family, wish.ai_socktype, wish.ai_protocol] = fields;
        }
        let wish = if hints.is_some() { &raw const wish } else { ptr::null() };
        let mut result = Found { list: ptr::null_mut() };
        // SAFETY: C strings or null; the hints and the result live through the call.
        let failed =
            unsafe { real::getaddrinfo(as_ptr(&name), as_ptr(&service), wish, &mut result.list) };
        if failed != 0 {
            result.list = ptr::null_mut();
        }
        (failed, result)
    });
    match outcome {
        Ok(((0, mut result), _)) => {
            // SAFETY: valid by the caller's promise.
            unsafe { *found = std::mem::replace(&mut result.list, ptr::null_mut()) };
            0
        }
        Ok(((failed, _), error)) => {
            if failed == libc::EAI_SYSTEM {
                set_errno(error);
            }
            failed
        }
        Err(error) => {
            set_errno(error);
            libc::EAI_SYSTEM
        }
    }
}

// ---- getnameinfo ----------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn getnameinfo(
    addr: *const sockaddr,
    len: socklen_t,
    host: *mut c_char,
    host_len: socklen_t,
    service: *mut c_char,
    service_len: socklen_t,
    flags: c_int,
) -> c_int {
    let asks_nobody =
        flags & libc::NI_NUMERICHOST != 0 || host.is_null() || host_len == 0 || addr.is_null();
    if asks_nobody || !cooperative(DNS) {
        // SAFETY: the caller's promise.
        return unsafe {
            real::getnameinfo(addr, len, host, host_len, service, service_len, flags)
        };
    }
    // Aligned as addresses are.
    let mut name = vec![0_u64; (len as usize).div_ceil(8)];
    // SAFETY: the address is `len` bytes long by the caller's promise.
    unsafe { addr.cast::<u8>().copy_to_nonoverlapping(name.as_mut_ptr().cast(), len as usize) };
    let (host_room, service_room) = (host_len, if service.is_null() { 0 } else { service_len });
    let outcome = offload::call(move || {
        let mut texts = (vec![0_u8; host_room as usize], vec![0_u8; service_room as usize]);
        let service = if service_room == 0 { ptr::null_mut() } else { texts.1.as_mut_ptr().cast() };
        // SAFETY: all of it lives through the call and has these lengths.
        let failed = unsafe {
            let host = texts.0.as_mut_ptr().cast();
            let addr = name.as_ptr().cast();
            real::getnameinfo(addr, len, host, host_room, service, service_room, flags)
        };
        (failed, texts)
    });
    match outcome {
        Ok(((failed, texts), error)) => {
            if failed == 0 {
                // SAFETY: as long as the caller said.
                unsafe {
                    host.cast::<u8>().copy_from_nonoverlapping(texts.0.as_ptr(), texts.0.len());
                    let room = service.cast::<u8>();
                    room.copy_from_nonoverlapping(texts.1.as_ptr(), texts.1.len());
                }
            } else if failed == libc::EAI_SYSTEM {
                set_errno(error);
            }
            failed
        }
        Err(error) => {
            set_errno(error);
            libc::EAI_SYSTEM
        }
    }
}

// ---- gethostby* -----------------------------------------------------------------------------------

/// A result of the functions without `_r`, which lasts until the thread's next call of one.
struct Host {
    entry: Box<hostent>,
    /// What the entry points into.
    _space: Vec<u64>,
}

// SAFETY: plain memory, with pointers into itself.
unsafe impl Send for Host {}

thread_local! {
    static LAST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

unsafe extern "C" {
    fn __h_errno_location() -> *mut c_int;
}

/// Has `lookup`, one of the functions with `_r`, called on the pool, with more and more space.
#[track_caller]
fn look_up(
    lookup: impl Fn(*mut hostent, *mut c_char, size_t, *mut *mut hostent, *mut c_int) -> c_int
    + Send
    + 'static,
) -> *mut hostent {
    let saved = errno();
    let outcome = offload::call(move || {
        let mut words = 256;
        loop {
            let mut space = vec![0_u64; words];
            // SAFETY: all zeros is valid for it.
            let mut entry: Box<hostent> = Box::new(unsafe { std::mem::zeroed() });
            let (mut found, mut error) = (ptr::null_mut(), 0);
            let place = space.as_mut_ptr().cast();
            let failed = lookup(&mut *entry, place, words * 8, &mut found, &mut error);
            if failed == libc::ERANGE && words < 1 << 20 {
                words *= 2;
                continue;
            }
            let host = (!found.is_null()).then_some(Host { entry, _space: space });
            return (host, error);
        }
    });
    let (host, error) = match outcome {
        Ok((result, _)) => result,
        Err(error) => {
            set_errno(error);
            (None, TRY_AGAIN)
        }
    };
    match host {
        Some(host) => LAST.with_borrow_mut(|last| {
            set_errno(saved);
            &raw mut *last.insert(host).entry
        }),
        None => {
            // SAFETY: the location is the calling thread's own.
            unsafe { *__h_errno_location() = error };
            ptr::null_mut()
        }
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn gethostbyname(name: *const c_char) -> *mut hostent {
    // SAFETY: the caller's promise.
    let Some(owned) = (unsafe { copied(name) }).filter(|_| cooperative(DNS)) else {
        // SAFETY: the caller's promise.
        return unsafe { real::gethostbyname(name) };
    };
    look_up(move |entry, buf, len, found, error| {
        // SAFETY: `look_up` hands in what the function wants.
        unsafe { real::gethostbyname_r(owned.as_ptr(), entry, buf, len, found, error) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent {
    // SAFETY: the caller's promise.
    let Some(owned) = (unsafe { copied(name) }).filter(|_| cooperative(DNS)) else {
        // SAFETY: the caller's promise.
        return unsafe { real::gethostbyname2(name, family) };
    };
    look_up(move |entry, buf, len, found, error| {
        // SAFETY: as above.
        unsafe { real::gethostbyname2_r(owned.as_ptr(), family, entry, buf, len, found, error) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn gethostbyaddr(
    addr: *const c_void,
    len: socklen_t,
    family: c_int,
) -> *mut hostent {
    if addr.is_null() || !cooperative(DNS) {
        // SAFETY: the caller's promise.
        return unsafe { real::gethostbyaddr(addr, len, family) };
    }
    let mut owned = vec![0_u64; (len as usize).div_ceil(8)];
    // SAFETY: the address is `len` bytes long by the caller's promise.
    unsafe { addr.cast::<u8>().copy_to_nonoverlapping(owned.as_mut_ptr().cast(), len as usize) };
    look_up(move |entry, buf, room, found, error| {
        let addr = owned.as_ptr().cast();
        // SAFETY: as above.
        unsafe { real::gethostbyaddr_r(addr, len, family, entry, buf, room, found, error) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn gethostbyname_r(
    name: *const c_char,
    space: *mut hostent,
    buf: *mut c_char,
    len: size_t,
    found: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    let call = || unsafe { real::gethostbyname_r(name, space, buf, len, found, error) };
    // SAFETY: its memory is waited for.
    if cooperative(DNS) { unsafe { offload::call_borrowing(call) } } else { call() }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    space: *mut hostent,
    buf: *mut c_char,
    len: size_t,
    found: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    let call = || unsafe { real::gethostbyname2_r(name, family, space, buf, len, found, error) };
    // SAFETY: its memory is waited for.
    if cooperative(DNS) { unsafe { offload::call_borrowing(call) } } else { call() }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn gethostbyaddr_r(
    addr: *const c_void,
    addr_len: socklen_t,
    family: c_int,
    space: *mut hostent,
    buf: *mut c_char,
    len: size_t,
    found: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    let call =
        || unsafe { real::gethostbyaddr_r(addr, addr_len, family, space, buf, len, found, error) };
    // SAFETY: its memory is waited for.
    if cooperative(DNS) { unsafe { offload::call_borrowing(call) } } else { call() }
}

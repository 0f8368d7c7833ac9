//! A C allocator that itself calls redefined functions, from the first allocation of the process on: looking up
//! the C library's own does not recurse.

#![cfg(feature = "patch")]
#![allow(unsafe_code)]

mod common;

use std::ffi::c_void;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::deadline;
use greenling::{join_all, patch, spawn};

/// Address space for everything that is ever allocated; nothing is freed.
const SPACE: usize = 4 << 30;

static START: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

fn space() -> usize {
    let start = START.load(Ordering::Acquire);
    if start != 0 {
        return start;
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, anywhere.
    let fresh = unsafe { libc::mmap(ptr::null_mut(), SPACE, access, flags, -1, 0) } as usize;
    match START.compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => fresh,
        Err(other) => other,
    }
}

/// What allocators do: they look into files, take locks, ask for time.
fn ask_the_system() {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: a descriptor that is none, and no bytes; a futex that nobody waits for.
    unsafe {
        let errno = *libc::__errno_location();
        libc::read(-1, ptr::null_mut(), 1);
        libc::close(-1);
        libc::poll(ptr::null_mut(), 0, 0);
        let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        libc::syscall(libc::SYS_futex, USED.as_ptr(), wake, 1);
        *libc::__errno_location() = errno;
    }
}

fn allocate(size: usize, align: usize) -> *mut c_void {
    ask_the_system();
    let align = align.max(16);
    // The size stands before the block, for realloc.
    let taken = size + align + 16;
    let at = USED.fetch_add(taken, Ordering::Relaxed);
    if at + taken > SPACE {
        return ptr::null_mut();
    }
    let block = (space() + at + 16).next_multiple_of(align);
    // SAFETY: inside of what was just taken.
    unsafe { *((block - 8) as *mut usize) = size };
    block as *mut c_void
}

#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    allocate(size, 16)
}

#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    // Fresh pages are zero.
    count.checked_mul(size).map_or(ptr::null_mut(), |size| allocate(size, 16))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(old: *mut c_void, size: usize) -> *mut c_void {
    let fresh = allocate(size, 16);
    if !old.is_null() && !fresh.is_null() {
        // SAFETY: `allocate` has put the size there, and both blocks are large enough.
        unsafe {
            let len = (*((old as usize - 8) as *const usize)).min(size);
            fresh.cast::<u8>().copy_from_nonoverlapping(old.cast(), len);
        }
    }
    fresh
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, align: usize, size: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { *place = allocate(size, align) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    allocate(size, align)
}

#[unsafe(no_mangle)]
extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    allocate(size, align)
}

#[unsafe(no_mangle)]
extern "C" fn free(_: *mut c_void) {
    ask_the_system();
}

#[test]
fn an_allocator_may_call_what_is_redefined() {
    deadline(30, || {
        let before = CALLS.load(Ordering::Relaxed);
        assert!(before > 100, "ours is not the allocator");
        patch::all();
        let pairs = (0..50).map(|n: u8| {
            spawn(move || {
                let (mut a, mut b) = UnixStream::pair().unwrap();
                let echo = spawn(move || {
                    let mut buf = vec![0; 3];
                    b.read_exact(&mut buf).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                    b.write_all(&buf).unwrap();
                });
                a.write_all(&[n; 3]).unwrap();
                let mut buf = [0; 3];
                a.read_exact(&mut buf).unwrap();
                assert_eq!(buf, [n; 3]);
                echo.join().unwrap();
            })
        });
        join_all(pairs).into_iter().for_each(|result| result.unwrap());
    });
}

//! What makes an overflow a fault: the guard below each stack.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

/// Length of a guard: whole pages, whatever their size is (on aarch64 up to 64 KiB). Code that Rust compiles probes
/// every page of a large frame, so one page would do; C code often does not, and may step over a single page.
pub(super) const GUARD: usize = if cfg!(target_arch = "aarch64") { 64 } else { 16 } * 1024;

/// Not in every libc crate yet. From Linux's `asm-generic/mman-common.h`.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// How guards are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum GuardKind {
    Madvise = 1,
    Mprotect = 2,
}

/// What the kernel has shown to work, once known; 0 before that.
static GUARD_KIND: AtomicU8 = AtomicU8::new(0);

/// Makes every guard from now on with mprotect, as on a kernel without MADV_GUARD_INSTALL.
pub(crate) fn force_mprotect_guards() {
    GUARD_KIND.store(GuardKind::Mprotect as u8, Ordering::Relaxed);
}

/// The way in which the last guard was made, or `None` before the first.
pub(super) fn guard_kind() -> Option<GuardKind> {
    match GUARD_KIND.load(Ordering::Relaxed) {
        1 => Some(GuardKind::Madvise),
        2 => Some(GuardKind::Mprotect),
        _ => None,
    }
}

pub(super) fn install(start: usize) -> io::Result<()> {
    let address: *mut libc::c_void = ptr::with_exposed_provenance_mut(start);
    if guard_kind() != Some(GuardKind::Mprotect) {
        // SAFETY: the range is the guard of a slot that nobody uses yet, inside our own mapping.
        let made = unsafe { libc::madvise(address, GUARD, MADV_GUARD_INSTALL) } == 0;
        if made && (guard_kind().is_some() || is_closed(address)) {
            GUARD_KIND.store(GuardKind::Madvise as u8, Ordering::Relaxed);
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if !made && error.kind() == io::ErrorKind::OutOfMemory {
            return Err(error);
        }
        // What pretends to be Linux and knows nothing of guards may ignore an advice that it does not know (QEMU's
        // user mode does). EINVAL: an older kernel, or memory that is locked by mlockall(2). The one will not
        // change and the other may, but a mixture would gain nothing.
        GUARD_KIND.store(GuardKind::Mprotect as u8, Ordering::Relaxed);
    }
    // SAFETY: as above.
    if unsafe { libc::mprotect(address, GUARD, libc::PROT_NONE) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Whether nothing can be written there, by the kernel's word: where a store would fault, a call fails with `EFAULT`.
fn is_closed(address: *mut libc::c_void) -> bool {
    // SAFETY: one byte, which nobody uses and the kernel checks.
    unsafe { libc::getrandom(address, 1, libc::GRND_NONBLOCK) != 1 }
}

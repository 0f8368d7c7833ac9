//! What is cooperative: which family of functions, on which descriptor, for which caller.
//!
//! All decisions stand here, and each family's file asks them before it does anything else. Whoever is
//! refused gets the C library's own function.

#![forbid(unsafe_code)]

use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::rt::hooked;

/// A family of functions: a bit in [`ACTIVE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family(pub(super) u32);

pub(super) const SOCKETS: Family = Family(1);
pub(super) const FDS: Family = Family(2);
pub(super) const POLL: Family = Family(4);
pub(super) const TIME: Family = Family(8);
pub(super) const DNS: Family = Family(16);
pub(super) const LOCKS: Family = Family(32);
pub(super) const PROCESSES: Family = Family(64);
/// Not a family: whether standard input, output and error are descriptors like others.
pub(super) const STDIO: Family = Family(128);

/// Which families are on. Zero until the program asks for them.
static ACTIVE: AtomicU32 = AtomicU32::new(0);

pub(super) fn activate(families: u32) {
    ACTIVE.store(families, Ordering::Release);
}

pub(super) fn active() -> u32 {
    ACTIVE.load(Ordering::Acquire)
}

#[inline(always)]
fn is_on(family: Family) -> bool {
    ACTIVE.load(Ordering::Relaxed) & family.0 != 0
}

/// Whether the caller is to wait as a coroutine does.
///
/// Not so before the program has asked for it, on a thread without a hub, on a thread that has nothing but
/// its main coroutine, in the hub's own work, inside of `unpatched`, and while the caller unwinds: another
/// coroutine would see a panicking thread.
#[inline(always)]
pub(super) fn cooperative(family: Family) -> bool {
    is_on(family) && hooked::may_wait() && !hooked::is_unwinding()
}

/// As [`cooperative`], also for a caller that unwinds: for waits that only another coroutine may be able to end.
#[inline(always)]
pub(super) fn cooperative_even_unwinding(family: Family) -> bool {
    is_on(family) && hooked::may_wait()
}

/// As [`cooperative`], for an operation on `fd`.
///
/// Standard input, output and error are left alone unless the program has asked for them: std locks them by
/// thread, so that a coroutine that waits inside of `println!` would let another one into the same lock,
/// which panics.
#[inline(always)]
pub(super) fn cooperative_on(family: Family, fd: c_int) -> bool {
    (fd > 2 || (fd >= 0 && is_on(STDIO))) && cooperative(family)
}

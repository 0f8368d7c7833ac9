//! What the program has set on a descriptor, remembered: that it blocks, the time limits of a socket, and that
//! it is one. Asking the kernel before every wait would cost as much as the switch.
//!
//! An answer of the kernel's holds until one of the redefined functions changes it (fcntl, ioctl, setsockopt,
//! and what ends a descriptor) or might have changed it by another number of the same open file (dup and its
//! like). What is remembered carries the count of such changes from before the kernel was asked, so that an
//! answer that was overtaken is never used.
//!
//! Changes also come unseen: from inside of the C library, by a bare system call, from another process. So
//! nobody waits by what is remembered for longer than [`GRACE`]; who still waits then asks the kernel
//! (`Operation::wait`). Only that a descriptor *blocks* is remembered: else the call returns at once.

#![forbid(unsafe_code)]

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::sources;
use crate::rt::Direction;

/// How long a wait by what is remembered may be wrong.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// How the count of changes is cut to share a word with a time limit, in microseconds (0 for none).
const COUNT_SHIFT: u32 = 48;
const MAX_MICROS: u64 = (1 << COUNT_SHIFT) - 1;

/// The changes of all descriptors that share an open file with others: an even number. Each other one counts
/// its own, by odd numbers, and 0 is what no memory of it carries.
static SHARED_CHANGES: AtomicU64 = AtomicU64::new(2);

/// What is remembered of one descriptor.
pub(super) struct Settings {
    changes: AtomicU64,
    is_shared: AtomicBool,
    is_socket: AtomicBool,
    /// For each direction the count of changes and the time limit; 0 for nothing.
    limits: [AtomicU64; 2],
}

/// The count of changes when the kernel was asked.
#[derive(Clone, Copy)]
pub(super) struct Asked(u64);

impl Settings {
    pub(super) const fn new() -> Settings {
        Settings {
            changes: AtomicU64::new(1),
            is_shared: AtomicBool::new(false),
            is_socket: AtomicBool::new(false),
            limits: [const { AtomicU64::new(0) }; 2],
        }
    }

    fn count(&self) -> u64 {
        match self.is_shared.load(Ordering::Acquire) {
            true => SHARED_CHANGES.load(Ordering::Acquire),
            false => self.changes.load(Ordering::Acquire),
        }
    }

    fn limit(&self, direction: Direction) -> &AtomicU64 {
        &self.limits[direction as usize]
    }

    /// The number is about to mean something else, or has just begun to.
    pub(super) fn reset(&self) {
        self.changes.fetch_add(2, Ordering::AcqRel);
        self.is_shared.store(false, Ordering::Release);
        self.is_socket.store(false, Ordering::Release);
    }
}

/// If the descriptor is known to block: the time limit of the socket, in this direction.
#[inline]
pub(super) fn known(fd: c_int, direction: Direction) -> Option<Option<Duration>> {
    let settings = sources::settings(fd)?;
    let word = settings.limit(direction).load(Ordering::Acquire);
    let micros = word & MAX_MICROS;
    (word != 0 && word >> COUNT_SHIFT == settings.count() & 0xffff)
        .then(|| (micros != 0).then(|| Duration::from_micros(micros)))
}

/// To be called before the kernel is asked.
pub(super) fn asking(fd: c_int) -> Option<Asked> {
    sources::settings(fd).map(|settings| Asked(settings.count()))
}

/// Remembers the answer: the descriptor blocks, with this time limit.
pub(super) fn remember(fd: c_int, direction: Direction, limit: Option<Duration>, asked: Asked) {
    let Some(settings) = sources::settings(fd) else { return };
    let micros = limit.map_or(0, |limit| limit.as_micros().max(1));
    if micros <= u128::from(MAX_MICROS) {
        let word = asked.0 << COUNT_SHIFT | micros as u64;
        settings.limit(direction).store(word, Ordering::Release);
    }
}

/// Whether it was a socket when somebody last looked. To be trusted only as far as a socket's call tells that.
#[inline]
pub(super) fn is_likely_socket(fd: c_int) -> bool {
    sources::settings(fd).is_some_and(|settings| settings.is_socket.load(Ordering::Relaxed))
}

pub(super) fn set_likely_socket(fd: c_int, is_socket: bool) {
    if let Some(settings) = sources::settings(fd) {
        settings.is_socket.store(is_socket, Ordering::Relaxed);
    }
}

/// What is remembered does not hold any more.
pub(super) fn changed(fd: c_int) {
    let Some(settings) = sources::settings(fd) else { return };
    let count = match settings.is_shared.load(Ordering::Acquire) {
        true => &SHARED_CHANGES,
        false => &settings.changes,
    };
    count.fetch_add(2, Ordering::AcqRel);
}

/// `new` has just become another number for the open file of `old`: a change by one is one for both.
pub(super) fn duplicated(old: c_int, new: c_int) {
    sources::make_settings(old);
    sources::make_settings(new);
    if let Some(settings) = sources::settings(new) {
        settings.reset();
    }
    for settings in [old, new].into_iter().filter_map(sources::settings) {
        settings.is_shared.store(true, Ordering::Release);
    }
}

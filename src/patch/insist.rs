//! Callers that ask again at once for what they were refused, and would hold the thread: a lock's word that
//! never is as they expect it, a wait that a kill or a passed time limit has ended and that they begin anew.
//!
//! After so many times in a row that it is no coincidence any more, they are logged and have to pause.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::notice::{self, Once};
use crate::rt::{Deadline, Reason, hooked};

const TOO_OFTEN: u32 = 1000;
/// How long each further refusal takes.
const PAUSE: Duration = Duration::from_millis(1);

/// A wait that a kill or a time limit has ended; else the address of a lock's word.
pub(super) const INTERRUPTED: usize = 0;

/// Counts a refusal.
#[track_caller]
pub(super) fn note(what: usize) {
    let mut refusals = hooked::refusals();
    refusals.count = if refusals.what == what { refusals.count.saturating_add(1) } else { 1 };
    refusals.what = what;
    hooked::set_refusals(refusals);
    if refusals.count < TOO_OFTEN {
        hooked::charge();
        return;
    }
    complain(what);
    let reason = Reason::Wait("a pause after a thousand refusals in a row");
    let _ = hooked::park_shielded(reason, Deadline::after(PAUSE));
}

/// Whether a wait for this word may end early by a kill or a time limit: not twice in a row, since one who
/// looks at the clock, and waits again until its time has come, would spin.
pub(super) fn may_end_early(address: usize) -> bool {
    let mut refusals = hooked::refusals();
    let may = refusals.ended_early != address;
    refusals.ended_early = if may { address } else { 0 };
    hooked::set_refusals(refusals);
    may
}

#[cold]
fn complain(what: usize) {
    let (what, text) = match what {
        INTERRUPTED => (
            Once::IgnoresErrors,
            "was killed, or is over its time limit, but ignores the error of a thousand calls (ECANCELED, sleeps \
             that end early) and waits in none of greenling's functions: it is slowed down, and cannot be ended",
        ),
        _ => (Once::SpinsOnLock, "spins on a lock's word (futex) that is never as it expects"),
    };
    notice::once(what, log::Level::Error, format_args!("{text}"));
}

/// The calling coroutine has waited as it ought to.
#[inline]
pub(super) fn forget() {
    let mut refusals = hooked::refusals();
    if refusals.count > 0 {
        refusals.count = 0;
        hooked::set_refusals(refusals);
    }
}

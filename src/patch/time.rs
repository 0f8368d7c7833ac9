//! Sleeping.

use std::ffi::{c_int, c_uint};
use std::time::Duration;

use libc::{clockid_t, timespec};

use super::policy::{TIME, cooperative};
use super::{fail, insist};
use crate::rt::real;
use crate::rt::{Deadline, Reason, Woken, hooked};

/// When a relative time is over; `None` for never.
///
/// # Errors
/// `EINVAL` for a time that is none.
pub(super) fn deadline(time: &timespec) -> Result<Option<Deadline>, c_int> {
    duration(time).map(Deadline::after)
}

/// # Errors
/// `EINVAL` for a time that is none.
pub(super) fn duration(time: &timespec) -> Result<Duration, c_int> {
    if time.tv_sec < 0 || !(0..1_000_000_000).contains(&time.tv_nsec) {
        return Err(libc::EINVAL);
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Sleeps until the deadline; false if it was interrupted.
#[track_caller]
fn sleep_until(deadline: Option<Deadline>) -> bool {
    if deadline.is_some_and(Deadline::is_past) {
        hooked::give_way();
        return true;
    }
    loop {
        match hooked::park(Reason::Sleep, deadline) {
            Woken::Unparked => {}
            Woken::TimedOut => {
                insist::forget();
                return true;
            }
            Woken::Killed | Woken::Elapsed | Woken::Deadlocked => {
                insist::note(insist::INTERRUPTED);
                return false;
            }
        }
    }
}

/// Notes what is left of a wait that has ended early.
///
/// # Safety
/// `left` must be null or valid for a write.
pub(super) unsafe fn note_rest(left: *mut timespec, deadline: Option<Deadline>) {
    let nanos = deadline.map_or(u64::MAX, |deadline| deadline.0.saturating_sub(hooked::now()));
    // SAFETY: the caller's promise.
    if let Some(left) = unsafe { left.as_mut() } {
        left.tv_sec = (nanos / 1_000_000_000) as libc::time_t;
        left.tv_nsec = (nanos % 1_000_000_000) as libc::c_long;
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
    if time.is_null() || !cooperative(TIME) {
        // SAFETY: the caller's promise.
        return unsafe { real::nanosleep(time, left) };
    }
    // SAFETY: valid by the caller's promise.
    let deadline = match deadline(unsafe { &*time }) {
        Ok(deadline) => deadline,
        Err(error) => return fail(error) as c_int,
    };
    // See `clock_nanosleep`.
    sleep_until(deadline);
    0
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> c_int {
    let is_wall =
        matches!(clock, libc::CLOCK_MONOTONIC | libc::CLOCK_REALTIME | libc::CLOCK_BOOTTIME);
    if time.is_null() || !is_wall || !cooperative(TIME) {
        // SAFETY: the caller's promise.
        return unsafe { real::clock_nanosleep(clock, flags, time, left) };
    }
    // SAFETY: valid by the caller's promise.
    let duration = match duration(unsafe { &*time }) {
        Ok(duration) => duration,
        Err(error) => return error,
    };
    let is_absolute = flags & libc::TIMER_ABSTIME != 0;
    loop {
        let span = if is_absolute { duration.saturating_sub(now_by(clock)) } else { duration };
        let deadline = Deadline::after(span);
        if !sleep_until(deadline) {
            // std takes everything but EINTR for a broken promise (it panics), and sleeps the rest after that:
            // so the sleep just ends early. Which of the two functions it calls depends on its version.
            return 0;
        }
        // The clock may have been set meanwhile.
        if !is_absolute || clock == libc::CLOCK_MONOTONIC || now_by(clock) >= duration {
            return 0;
        }
    }
}

/// What a clock shows.
pub(super) fn now_by(clock: clockid_t) -> Duration {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for the write.
    unsafe { libc::clock_gettime(clock, &mut now) };
    duration(&now).unwrap_or_default()
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn usleep(micros: c_uint) -> c_int {
    if !cooperative(TIME) {
        // SAFETY: no pointers.
        return unsafe { real::usleep(micros) };
    }
    let deadline = Deadline::after(Duration::from_micros(micros.into()));
    if sleep_until(deadline) { 0 } else { fail(libc::ECANCELED) as c_int }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sleep(seconds: c_uint) -> c_uint {
    if !cooperative(TIME) {
        // SAFETY: no pointers.
        return unsafe { real::sleep(seconds) };
    }
    let deadline = Deadline::after(Duration::from_secs(seconds.into()));
    if sleep_until(deadline) {
        return 0;
    }
    let left = deadline.map_or(u64::MAX, |deadline| deadline.0.saturating_sub(hooked::now()));
    left.div_ceil(1_000_000_000) as c_uint
}

//! Waiting for many descriptors at once: poll, select, and other runtimes' epoll instances.
//!
//! The call is made with a time limit of zero. When that finds nothing, the coroutine waits for all of the
//! descriptors in its own hub and asks again.

use std::ffi::c_int;
use std::time::Duration;

use libc::{epoll_event, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};

use super::policy::{POLL, cooperative};
use super::sources::{self, Waited};
use super::time::deadline as deadline_in;
use super::{fail, settled};
use crate::rt::real::{self, errno};
use crate::rt::{Deadline, Direction, Reason, hooked};

type Interests = Vec<(c_int, Direction)>;

/// Calls `look`, which does not block, as often as a signal comes in between: even a call that does not wait ends
/// with `EINTR` when one is there and no descriptor is ready. But no call of a coroutine ends for a signal that it
/// does not let in itself.
fn look_again(mut look: impl FnMut() -> c_int) -> c_int {
    loop {
        let found = look();
        if found >= 0 || errno() != libc::EINTR {
            return found;
        }
    }
}

/// Calls `look`, which does not block, until it finds something or fails, or the time is over, or there is one of
/// the `signals`.
#[track_caller]
fn wait_until(
    name: &'static str,
    interests: &Interests,
    deadline: Option<Deadline>,
    signals: &Signals,
    mut look: impl FnMut() -> c_int,
) -> c_int {
    let saved = errno();
    let mut expired = false;
    loop {
        let found = match look_again(&mut look) {
            0 => signals.handle(),
            found => found,
        };
        if found > 0 || (found == 0 && expired) {
            return settled(saved, found);
        }
        if found < 0 {
            return found;
        }
        match sources::wait_any(interests, Reason::Wait(name), deadline) {
            // Somebody has closed one of them: the call says what it thinks of that.
            Ok(Waited::Ready) | Err(libc::EBADF) => {}
            Ok(Waited::TimedOut) => expired = true,
            // Cannot be: what is always ready has been found.
            Ok(Waited::Always) => hooked::give_way(),
            Err(error) => return fail(error) as c_int,
        }
    }
}

fn deadline_in_millis(millis: c_int) -> Option<Deadline> {
    u64::try_from(millis).ok().and_then(|millis| Deadline::after(Duration::from_millis(millis)))
}

/// Signals that a call lets in while it waits: a descriptor that is ready when one of them is pending.
struct Signals {
    fd: Option<c_int>,
    mask: *const sigset_t,
}

impl Signals {
    const NONE: Signals = Signals { fd: None, mask: std::ptr::null() };

    /// # Safety
    /// `mask` must be null or valid, for as long as this exists.
    unsafe fn new(mask: *const sigset_t) -> Signals {
        // SAFETY: the caller's promise; plain data.
        let Some(mask) = (unsafe { mask.as_ref() }) else { return Signals::NONE };
        // SAFETY: all sets are valid, and the numbers are those of signals.
        unsafe {
            let mut now: sigset_t = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &mut now);
            let mut let_in: sigset_t = std::mem::zeroed();
            let mut any = false;
            for signal in 1..=64 {
                if libc::sigismember(&now, signal) == 1 && libc::sigismember(mask, signal) == 0 {
                    libc::sigaddset(&mut let_in, signal);
                    any = true;
                }
            }
            let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
            let fd = if any { libc::signalfd(-1, &let_in, flags) } else { -1 };
            Signals { fd: (fd >= 0).then_some(fd), mask }
        }
    }

    fn add_to(&self, interests: &mut Interests) {
        interests.extend(self.fd.map(|fd| (fd, Direction::Read)));
    }

    /// Has a pending signal handled: −1 with `EINTR`, or 0 if there is none that has a handler.
    fn handle(&self) -> c_int {
        if self.fd.is_none_or(|fd| !sources::is_ready_now(fd, libc::POLLIN)) {
            return 0;
        }
        let now = timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: no entries; the mask is valid by `new`'s promise.
        unsafe { real::ppoll(std::ptr::null_mut(), 0, &now, self.mask) }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if let Some(fd) = self.fd {
            let saved = errno();
            sources::forget(fd);
            // SAFETY: ours.
            unsafe { real::close(fd) };
            real::set_errno(saved);
        }
    }
}

// ---- poll -----------------------------------------------------------------------------------------

const OUT: i16 = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;

/// # Safety
/// As for poll(2), which must have found the array valid.
unsafe fn interests_of(fds: *const pollfd, count: nfds_t) -> Interests {
    if count == 0 || fds.is_null() {
        return Interests::new();
    }
    // SAFETY: the caller's promise.
    let fds = unsafe { std::slice::from_raw_parts(fds, count as usize) };
    let mut interests = Interests::with_capacity(fds.len());
    for poll in fds.iter().filter(|poll| poll.fd >= 0) {
        // Hang-ups and errors are told on the read side, whatever is asked for.
        if poll.events & !OUT != 0 || poll.events & OUT == 0 {
            interests.push((poll.fd, Direction::Read));
        }
        if poll.events & OUT != 0 {
            interests.push((poll.fd, Direction::Write));
        }
    }
    interests
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, millis: c_int) -> c_int {
    if !cooperative(POLL) {
        // SAFETY: the caller's promise.
        return unsafe { real::poll(fds, count, millis) };
    }
    // SAFETY: the caller's promise.
    let look = || unsafe { real::poll(fds, count, 0) };
    let saved = errno();
    let found = look_again(look);
    if found < 0 || (found == 0 && millis == 0) {
        return found;
    }
    if found > 0 {
        return settled(saved, found);
    }
    // SAFETY: the kernel has accepted the array.
    let interests = unsafe { interests_of(fds, count) };
    wait_until("poll", &interests, deadline_in_millis(millis), &Signals::NONE, look)
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    time: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    if !cooperative(POLL) {
        // SAFETY: the caller's promise.
        return unsafe { real::ppoll(fds, count, time, mask) };
    }
    // SAFETY: null or valid by the caller's promise.
    let deadline = match unsafe { time.as_ref() }.map(deadline_in) {
        Some(Ok(deadline)) => deadline,
        Some(Err(error)) => return fail(error) as c_int,
        None => None,
    };
    // SAFETY: the caller's promise.
    let look = || unsafe { real::poll(fds, count, 0) };
    let saved = errno();
    let found = look_again(look);
    if found != 0 {
        return if found > 0 { settled(saved, found) } else { found };
    }
    // SAFETY: the kernel has accepted the array; the mask by the caller's promise.
    let (mut interests, signals) = unsafe { (interests_of(fds, count), Signals::new(mask)) };
    signals.add_to(&mut interests);
    wait_until("ppoll", &interests, deadline, &signals, look)
}

// ---- select ---------------------------------------------------------------------------------------

/// A copy of one of select's sets, which may be larger than `fd_set`.
struct Set {
    place: *mut fd_set,
    words: Vec<u64>,
}

impl Set {
    /// # Safety
    /// `place` must be null or have room for `count` bits, rounded up to words.
    unsafe fn new(place: *mut fd_set, count: c_int) -> Set {
        let len = if place.is_null() { 0 } else { (count as usize).div_ceil(64) };
        let mut words = vec![0; len];
        // SAFETY: the caller's promise.
        unsafe { place.cast::<u64>().copy_to_nonoverlapping(words.as_mut_ptr(), len) };
        Set { place, words }
    }

    /// Puts the asked-for bits back to where the kernel leaves its answer.
    fn restore(&self) -> *mut fd_set {
        // SAFETY: as in `new`.
        unsafe {
            let place = self.place.cast::<u64>();
            place.copy_from_nonoverlapping(self.words.as_ptr(), self.words.len());
        }
        self.place
    }

    fn add_to(&self, interests: &mut Interests, count: c_int, direction: Direction) {
        for fd in 0..count {
            let word = self.words.get(fd as usize / 64).copied().unwrap_or(0);
            if word & (1 << (fd as usize % 64)) != 0 {
                interests.push((fd, direction));
            }
        }
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    time: *mut timeval,
) -> c_int {
    // SAFETY: null or valid by the caller's promise.
    let limit = unsafe { time.as_ref() };
    let is_valid = limit.is_none_or(|time| time.tv_sec >= 0 && time.tv_usec >= 0) && count >= 0;
    if !is_valid || !cooperative(POLL) {
        // SAFETY: the caller's promise.
        return unsafe { real::select(count, read, write, except, time) };
    }
    let deadline = limit.and_then(|time| {
        let micros = Duration::from_micros(time.tv_usec as u64);
        Deadline::after(Duration::from_secs(time.tv_sec as u64).saturating_add(micros))
    });
    // SAFETY: the caller's promise.
    let found =
        unsafe { select_by("select", count, [read, write, except], deadline, &Signals::NONE) };
    // As Linux has it: what is left of the time.
    // SAFETY: as above.
    if let Some(time) = unsafe { time.as_mut() } {
        let left = deadline.map_or(0, |deadline| deadline.0.saturating_sub(hooked::now())) / 1000;
        if deadline.is_some() {
            time.tv_sec = (left / 1_000_000) as libc::time_t;
            time.tv_usec = (left % 1_000_000) as libc::suseconds_t;
        }
    }
    found
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    time: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: null or valid by the caller's promise.
    let deadline = unsafe { time.as_ref() }.map(deadline_in);
    if count < 0 || matches!(deadline, Some(Err(_))) || !cooperative(POLL) {
        // SAFETY: the caller's promise.
        return unsafe { real::pselect(count, read, write, except, time, mask) };
    }
    let deadline = deadline.and_then(Result::ok).flatten();
    // SAFETY: the caller's promise.
    unsafe { select_by("pselect", count, [read, write, except], deadline, &Signals::new(mask)) }
}

/// # Safety
/// As for select(2).
#[track_caller]
unsafe fn select_by(
    name: &'static str,
    count: c_int,
    sets: [*mut fd_set; 3],
    deadline: Option<Deadline>,
    signals: &Signals,
) -> c_int {
    // SAFETY: the caller's promise.
    let sets = sets.map(|place| unsafe { Set::new(place, count) });
    let mut interests = Interests::new();
    let directions = [Direction::Read, Direction::Write, Direction::Read];
    for (set, direction) in sets.iter().zip(directions) {
        set.add_to(&mut interests, count, direction);
    }
    signals.add_to(&mut interests);
    wait_until(name, &interests, deadline, signals, || {
        let mut now = timeval { tv_sec: 0, tv_usec: 0 };
        let [read, write, except] = sets.each_ref().map(Set::restore);
        // SAFETY: the caller's sets.
        unsafe { real::select(count, read, write, except, &mut now) }
    })
}

// ---- epoll ----------------------------------------------------------------------------------------

/// Waits for another runtime's epoll instance, which is itself a descriptor to wait for.
#[track_caller]
fn epoll_by(
    epoll: c_int,
    deadline: Option<Deadline>,
    signals: &Signals,
    look: impl FnMut() -> c_int,
) -> c_int {
    let mut interests = vec![(epoll, Direction::Read)];
    signals.add_to(&mut interests);
    wait_until("epoll_wait", &interests, deadline, signals, look)
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    room: c_int,
    millis: c_int,
) -> c_int {
    if millis == 0 || !cooperative(POLL) {
        // SAFETY: the caller's promise.
        return unsafe { real::epoll_wait(epoll, events, room, millis) };
    }
    epoll_by(epoll, deadline_in_millis(millis), &Signals::NONE, || {
        // SAFETY: the caller's promise.
        unsafe { real::epoll_wait(epoll, events, room, 0) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn epoll_pwait(
    epoll: c_int,
    events: *mut epoll_event,
    room: c_int,
    millis: c_int,
    mask: *const sigset_t,
) -> c_int {
    if millis == 0 || !cooperative(POLL) {
        // SAFETY: the caller's promise.
        return unsafe { real::epoll_pwait(epoll, events, room, millis, mask) };
    }
    // SAFETY: the caller's promise.
    let signals = unsafe { Signals::new(mask) };
    epoll_by(epoll, deadline_in_millis(millis), &signals, || {
        // SAFETY: the caller's promise.
        unsafe { real::epoll_wait(epoll, events, room, 0) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn epoll_pwait2(
    epoll: c_int,
    events: *mut epoll_event,
    room: c_int,
    time: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: null or valid by the caller's promise.
    let deadline = unsafe { time.as_ref() }.map(deadline_in);
    if matches!(deadline, Some(Err(_))) || !cooperative(POLL) {
        // SAFETY: the caller's promise.
        return unsafe { real::epoll_pwait2(epoll, events, room, time, mask) };
    }
    // SAFETY: the caller's promise.
    let signals = unsafe { Signals::new(mask) };
    epoll_by(epoll, deadline.and_then(Result::ok).flatten(), &signals, || {
        // SAFETY: the caller's promise.
        unsafe { real::epoll_wait(epoll, events, room, 0) }
    })
}

//! The lock of [`Mutex`](super::Mutex) and [`ReentrantMutex`](super::ReentrantMutex), without data.
//!
//! # Protocol
//!
//! The word is 0, or says who holds the lock (see `rt::lock_word`). Locking is one exchange 0 → holder, unlocking one
//! holder → 0; the queue of waiters is touched only if an exchange fails. What must hold at all times:
//!
//! > While somebody waits in the queue, the word has CONTENDED, or a waiter who was told to look again is on its way.
//!
//! Only those who hold the queue's lock set or clear CONTENDED, so that it and the queue agree. Whoever unlocks and
//! finds it set looks at the first waiter, and either *hands over* (the word goes from one holder to the next and
//! is never 0 in between) or *lets it look again* (the word becomes 0, the waiter is woken and does not count as
//! waiting any more). One who looks again and finds the lock taken waits again, at the head of the queue, and
//! sets CONTENDED; if it takes the lock while others wait, it sets CONTENDED as well.
//!
//! # Which of the two
//!
//! To a waiter of the same hub the lock is handed over: it will run as soon as the holder parks, and a lock that is
//! contended on one hub is one whose holders park while they hold it, so to let it look again would be to wake it
//! in vain. A waiter of another hub has to be woken there, which takes microseconds, in which the lock would lie
//! idle if it were handed over: 20 to 100 times slower. So it is let look again, until it has waited for [`PATIENCE`];
//! then it is handed over, so that nobody starves. But only one is in any [`PATIENCE`]: among many waiters each
//! hand-over makes all the others wait longer, and if each of them were to have one for that, there would soon be
//! nothing but hand-overs between threads, for ever.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rt::lock_word::{CONTENDED, same_hub};
use crate::rt::{self, Place, Reason, Unparker, WaitQueue, Waited, Woken};

/// For how long a waiter of another thread may be passed over, in nanoseconds; by a clock of a few milliseconds'
/// precision.
const PATIENCE: u64 = 1_000_000;

/// The time, if a waiter of another thread has been passed over for long enough.
pub(super) fn out_of_patience(since: u64, last_forced: LastForced) -> Option<u64> {
    let now = rt::coarse_now();
    (now.saturating_sub(since.max(last_forced)) >= PATIENCE).then_some(now)
}

/// How often to look at a lock that somebody holds on another thread, before parking.
pub(super) const SPINS: u32 = 100;

pub(super) struct RawMutex {
    word: AtomicU64,
    /// A message that is still there after the grant says that the lock was handed over.
    waiters: WaitQueue<LastForced, Waiting>,
}

/// When it was last handed to a waiter of another hub.
pub(super) type LastForced = u64;

/// As whom it is locked: the word, but for CONTENDED.
#[derive(Clone, Copy)]
pub(super) struct Held(pub(super) u64);

/// What a waiter offers.
struct Waiting {
    /// The word of the lock when it has it.
    word: u64,
    since: u64,
}

impl RawMutex {
    pub(super) const fn new() -> RawMutex {
        RawMutex { word: AtomicU64::new(0), waiters: WaitQueue::new(0) }
    }

    /// Whether it was free; and if so, as whom it is locked, for [`unlock`](Self::unlock).
    #[inline(always)]
    pub(super) fn try_lock(&self) -> Option<Held> {
        let me = rt::my_lock_word();
        self.try_lock_as(me).then_some(Held(me))
    }

    #[inline(always)]
    fn try_lock_as(&self, me: u64) -> bool {
        self.word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Unwinds, without the lock, if the coroutine is killed meanwhile.
    #[inline(always)]
    #[track_caller]
    pub(super) fn lock(&self, what: &'static str) -> Held {
        match self.lock_or_interrupted(what) {
            Ok(held) => held,
            Err(interrupted) => rt::unwind(interrupted),
        }
    }

    /// Never unwinds.
    #[inline(always)]
    #[track_caller]
    pub(super) fn lock_or_interrupted(&self, what: &'static str) -> Result<Held, Woken> {
        let me = rt::my_lock_word();
        if self.try_lock_as(me) { Ok(Held(me)) } else { self.lock_contended(what, me) }
    }

    #[cold]
    #[track_caller]
    fn lock_contended(&self, what: &'static str, me: u64) -> Result<Held, Woken> {
        if self.spin(me) {
            return Ok(Held(me));
        }
        let since = rt::coarse_now();
        let mut place = Place::Last;
        loop {
            let waited = self.waiters.wait_at(
                place,
                Reason::Lock(what, &self.word),
                None,
                Some(Waiting { word: me, since }),
                |queue, _| self.take_or_mark(me, queue.waiting() > 0).then_some(()),
                || (),
            );
            match waited {
                Ok(Waited::Attempted(()) | Waited::Granted(Some(_))) => return Ok(Held(me)),
                Ok(Waited::Granted(None)) => place = Place::First,
                // Whoever unlocks finds the others, for the word still has CONTENDED.
                Err((woken, _)) => return Err(woken),
            }
        }
    }

    /// Waits for a moment, if the holder may be running on another processor.
    fn spin(&self, me: u64) -> bool {
        for _ in 0..SPINS {
            let word = self.word.load(Ordering::Relaxed);
            if word == 0 {
                if self.try_lock_as(me) {
                    return true;
                }
            } else if word & CONTENDED != 0 || same_hub(word, me) {
                return false;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Under the queue's lock: takes the mutex, or makes sure that whoever unlocks it looks at the queue.
    fn take_or_mark(&self, me: u64, others_wait: bool) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let next = match word {
                0 if others_wait => me | CONTENDED,
                0 => me,
                _ => word | CONTENDED,
            };
            // Release is not needed for the mark: the queue is guarded by its own lock.
            match self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return word == 0,
                Err(now) => word = now,
            }
        }
    }

    /// To be called by the holder, with what locking gave.
    #[inline(always)]
    pub(super) fn unlock(&self, held: Held) {
        // Fails if the word has CONTENDED. (It may still be the word of the holder before, who is handing over
        // and has not written it yet; that has CONTENDED, too.)
        if self.word.compare_exchange(held.0, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_contended();
        }
    }

    #[cold]
    fn unlock_contended(&self) {
        if let Some(next) = self.pass_on() {
            next.unpark();
        }
    }

    fn pass_on(&self) -> Option<Unparker> {
        let mut queue = self.waiters.lock();
        let word = self.word.load(Ordering::Relaxed);
        let last_forced = *queue;
        let mut forced = None;
        let granted = queue.grant_with(|slot| {
            let waiting = slot.as_ref().map(|waiting| (waiting.word, waiting.since));
            let (next, since) = waiting.expect("whoever waits makes an offer");
            if same_hub(word, next) {
                return next;
            }
            forced = out_of_patience(since, last_forced);
            if forced.is_some() {
                return next;
            }
            *slot = None;
            0
        });
        if let Some(now) = forced {
            *queue = now;
        }
        let next = match granted {
            Some((0, _)) | None => 0,
            Some((next, _)) if queue.waiting() > 0 => next | CONTENDED,
            Some((next, _)) => next,
        };
        // Nobody else changes a word that has CONTENDED without the queue's lock.
        self.word.store(next, Ordering::Release);
        granted.map(|(_, unparker)| unparker)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_waiter_is_handed_the_lock_in_a_millisecond() {
        assert!(out_of_patience(rt::coarse_now(), 0).is_none(), "it has just come");
        let long_ago = 0;
        let now =
            out_of_patience(long_ago, 0).expect("it has waited for long, and so has everybody");
        assert!(out_of_patience(long_ago, now).is_none(), "another has just been handed it");
    }
}

//! `Timers<W>`: who is to be woken when. Pure data: no clock, no coroutine, no system call.
//!
//! # A hierarchical timing wheel
//! Time is counted in *ticks* of 2¹⁴ ns (16.4 µs). A tick number is read as nine digits in base 64,
//! and there is one level of 64 slots for each digit. A timer lies at the level of the **highest
//! digit in which its tick differs from `elapsed`**, the tick up to which everything has fired, in
//! the slot which that digit names:
//!
//! ```text
//!            elapsed = .. 03 17 42        (digits of levels .. 2, 1, 0)
//!
//!  tick .. 03 17 50  →  level 0, slot 50       fires at this very tick
//!  tick .. 03 20 05  →  level 1, slot 20       somewhere in the 64 ticks of that slot
//!  tick .. 09 00 00  →  level 2, slot 9        somewhere in 64² ticks
//!  tick ≤ elapsed    →  level 0, slot 42       overdue: counts as `elapsed`
//! ```
//!
//! Three things follow, and everything here rests on them:
//! * The place of a timer is a function of its tick and `elapsed`, so an entry need not store it.
//! * Occupied slots lie at or above the digit of `elapsed`, and all of one level fires before
//!   anything of the next: what comes first is found by two bit scans.
//! * Timers of equal tick always lie in the same list. Lists are appended to and moved front to
//!   back, so timers of equal deadline stay in the order in which they came.
//!
//! # Moving time
//! [`expire`](Timers::expire) does not visit ticks one by one. Let `level` be the highest digit in
//! which the new time differs from the old. Everything at lower levels is due, and so is every slot
//! of `level` below the new digit. The slot of the new digit itself is due in part; the rest of it
//! moves down (a *cascade*). Nothing else moves. The cost is that of the timers touched, however
//! long the jump, and a timer is moved at most once for each level in its life.
//!
//! A slot also remembers a lower bound of its ticks, so the hub sleeps until the first timer and
//! not until the next cascade.
//!
//! # Precision
//! Deadlines are rounded *up* to a tick: a timer never fires early, and less than a tick late. What
//! fires together is sorted by its exact deadline.

#![forbid(unsafe_code)]

/// log₂ of the nanoseconds in a tick.
const TICK_BITS: u32 = 14;
/// Nanoseconds in a tick.
const TICK: u64 = 1 << TICK_BITS;
/// log₂ of the slots in a level.
const DIGIT_BITS: u32 = 6;
/// Slots in a level: as many as an occupancy word has bits.
const SLOTS: usize = 1 << DIGIT_BITS;
/// Ticks run from 0 to 2⁵⁰ (`u64::MAX` rounded up), and nine digits of six bits hold that.
const LEVELS: usize = 9;
/// The end of a list.
const NIL: u32 = u32::MAX;
/// In `Entry::prev`: the entry is on the free list. An index never grows this large.
const VACANT: u32 = u32::MAX - 1;

/// Names a live timer: from [`Timers::insert`] until it is cancelled or has expired, after which the
/// key may be given out again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerKey(u32);

/// A timer that is due and has left the structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expired<W> {
    /// The deadline it was set for, in nanoseconds.
    pub(crate) deadline: u64,
    /// Whom to wake.
    pub(crate) waker: W,
}

/// One timer, or one free place. 24 bytes with an 8-byte `W`.
#[derive(Clone, Copy)]
struct Entry<W> {
    deadline: u64,
    /// Towards the head of the slot's list; `VACANT` for a free place.
    prev: u32,
    /// Towards the tail of the slot's list, or the next free place.
    next: u32,
    /// Stale in a free place.
    waker: W,
}

/// A list of timers. Meaningful only while its occupancy bit is set.
#[derive(Clone, Copy)]
struct Slot {
    head: u32,
    tail: u32,
    /// No timer in the list has an earlier tick. Cancelling leaves it as it is, so it may be too
    /// low, which costs one idle call of `expire`.
    earliest: u64,
}

/// The timers of one hub, each with a `W` to wake.
pub(crate) struct Timers<W> {
    /// Everything whose tick is not above this has fired.
    elapsed: u64,
    /// A bit for each slot that has timers.
    occupied: [u64; LEVELS],
    /// `LEVELS × SLOTS` lists; empty until the first timer is set.
    slots: Vec<Slot>,
    entries: Vec<Entry<W>>,
    /// Head of the free places among `entries`.
    free: u32,
    len: usize,
}

impl<W: Copy> Timers<W> {
    /// No timers, and no memory taken.
    pub(crate) const fn new() -> Self {
        Timers {
            elapsed: 0,
            occupied: [0; LEVELS],
            slots: Vec::new(),
            entries: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// How many timers are live.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is live.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a timer for `deadline`, in nanoseconds of the clock whose time `expire` is given. A
    /// deadline that has passed is due at once.
    #[inline]
    pub(crate) fn insert(&mut self, deadline: u64, waker: W) -> TimerKey {
        let entry = Entry { deadline, prev: NIL, next: NIL, waker };
        let index = self.free;
        if index == NIL {
            return self.insert_at_end(entry);
        }
        let place = &mut self.entries[index as usize];
        self.free = place.next;
        *place = entry;
        self.len += 1;
        self.link(index);
        TimerKey(index)
    }

    /// `insert` when there is no free place.
    fn insert_at_end(&mut self, entry: Entry<W>) -> TimerKey {
        if self.slots.is_empty() {
            let slot = Slot { head: NIL, tail: NIL, earliest: 0 };
            self.slots.resize(LEVELS * SLOTS, slot);
        }
        assert!(self.entries.len() < VACANT as usize, "too many timers");
        let index = self.entries.len() as u32;
        self.entries.push(entry);
        self.len += 1;
        self.link(index);
        TimerKey(index)
    }

    /// Removes a timer that has not expired, and gives its waker back.
    ///
    /// # Panics
    /// If no timer has this key.
    #[inline]
    pub(crate) fn cancel(&mut self, key: TimerKey) -> W {
        let waker = self.unlink(key.0).waker;
        self.release(key.0);
        self.forget_places_if_empty();
        waker
    }

    #[cfg(test)]
    /// What the timer is set for.
    ///
    /// # Panics
    /// If no timer has this key.
    pub(crate) fn deadline(&self, key: TimerKey) -> u64 {
        let entry = &self.entries[key.0 as usize];
        assert!(entry.prev != VACANT, "no such timer");
        entry.deadline
    }

    /// Sets a live timer for another time. It keeps its key and its waker, and comes after those
    /// that already have this deadline.
    ///
    /// # Panics
    /// If no timer has this key.
    #[inline]
    pub(crate) fn rearm(&mut self, key: TimerKey, deadline: u64) {
        self.unlink(key.0);
        self.entries[key.0 as usize].deadline = deadline;
        self.link(key.0);
    }

    /// The earliest time at which [`expire`](Self::expire) may have something to do: never too late,
    /// and too early only if the timer it was meant for is gone. `None` without timers.
    #[inline]
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        let level = self.occupied.iter().position(|&occupied| occupied != 0)?;
        let digit = self.occupied[level].trailing_zeros() as usize;
        // Only the tick of `u64::MAX`, 2⁵⁰, does not fit.
        Some(self.slots[level * SLOTS + digit].earliest.saturating_mul(TICK))
    }

    /// Removes all timers that are due and appends them to `due`, by deadline, and in the order in
    /// which they were set where deadlines are equal. Due is a timer whose deadline, rounded up to
    /// a tick, is not after `now`. `now` never goes back; an earlier one counts as the last one.
    pub(crate) fn expire(&mut self, now: u64, due: &mut Vec<Expired<W>>) {
        // Nothing is due in the middle of a tick, except at the end of time, which is not whole.
        let now = if now == u64::MAX { tick_of(now) } else { now >> TICK_BITS };
        let now = now.max(self.elapsed);
        if self.len == 0 {
            self.elapsed = now;
            return;
        }
        let first = due.len();
        let level = level_between(self.elapsed, now);
        let digit = digit_at(now, level);
        for below in 0..level {
            self.take_slots(below, u64::MAX, due);
        }
        self.take_slots(level, (1 << digit) - 1, due);
        // From here on places are reckoned from the new time.
        self.elapsed = now;
        self.take_or_cascade(level, digit, due);
        // Ticks are in order already, but for what came out of one slot. The sort is stable.
        due[first..].sort_by_key(|expired| expired.deadline);
        self.forget_places_if_empty();
    }

    /// Takes every timer out of those slots of `level` that are in `mask`.
    fn take_slots(&mut self, level: usize, mask: u64, due: &mut Vec<Expired<W>>) {
        let mut rest = self.occupied[level] & mask;
        self.occupied[level] &= !mask;
        while rest != 0 {
            let digit = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let mut index = self.slots[level * SLOTS + digit].head;
            while index != NIL {
                index = self.take(index, due);
            }
        }
    }

    /// Takes what is due out of the slot that time has just entered, and moves the rest down to
    /// where it belongs by now.
    fn take_or_cascade(&mut self, level: usize, digit: usize, due: &mut Vec<Expired<W>>) {
        let bit = 1 << digit;
        if self.occupied[level] & bit == 0 {
            return;
        }
        self.occupied[level] &= !bit;
        let mut index = self.slots[level * SLOTS + digit].head;
        while index != NIL {
            let entry = &self.entries[index as usize];
            if tick_of(entry.deadline) <= self.elapsed {
                index = self.take(index, due);
            } else {
                let next = entry.next;
                self.link(index);
                index = next;
            }
        }
    }

    /// Moves one timer to `due` and returns the next of its list, which the caller has given up.
    fn take(&mut self, index: u32, due: &mut Vec<Expired<W>>) -> u32 {
        let Entry { deadline, next, waker, .. } = self.entries[index as usize];
        due.push(Expired { deadline, waker });
        self.release(index);
        next
    }

    /// Appends the entry to the list of its deadline's slot.
    #[inline]
    fn link(&mut self, index: u32) {
        let tick = tick_of(self.entries[index as usize].deadline).max(self.elapsed);
        let level = level_between(self.elapsed, tick);
        let digit = digit_at(tick, level);
        let slot = &mut self.slots[level * SLOTS + digit];
        let bit = 1 << digit;
        let prev = if self.occupied[level] & bit == 0 {
            self.occupied[level] |= bit;
            *slot = Slot { head: index, tail: index, earliest: tick };
            NIL
        } else {
            let prev = slot.tail;
            slot.tail = index;
            slot.earliest = slot.earliest.min(tick);
            self.entries[prev as usize].next = index;
            prev
        };
        let entry = &mut self.entries[index as usize];
        entry.prev = prev;
        entry.next = NIL;
    }

    /// Takes the entry out of its list and returns a copy of it.
    #[inline]
    fn unlink(&mut self, index: u32) -> Entry<W> {
        let entry = self.entries[index as usize];
        assert!(entry.prev != VACANT, "no such timer");
        if entry.prev != NIL {
            self.entries[entry.prev as usize].next = entry.next;
        }
        if entry.next != NIL {
            self.entries[entry.next as usize].prev = entry.prev;
        }
        if entry.prev == NIL || entry.next == NIL {
            // At an end of the list, so the slot itself changes: `link` put it here.
            let tick = tick_of(entry.deadline).max(self.elapsed);
            let level = level_between(self.elapsed, tick);
            let digit = digit_at(tick, level);
            let slot = &mut self.slots[level * SLOTS + digit];
            match (entry.prev, entry.next) {
                (NIL, NIL) => self.occupied[level] &= !(1 << digit),
                (NIL, next) => slot.head = next,
                (prev, _) => slot.tail = prev,
            }
        }
        entry
    }

    /// Makes the place of an entry that is in no list free.
    #[inline]
    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.prev = VACANT;
        entry.next = self.free;
        self.free = index;
        self.len -= 1;
    }

    /// Without timers, starts over from the first place: the free list is as scattered as the
    /// timers were cancelled, and following it through a large table would miss the cache.
    #[inline]
    fn forget_places_if_empty(&mut self) {
        if self.len == 0 {
            self.entries.clear();
            self.free = NIL;
        }
    }
}

/// The first tick that does not lie before `deadline`.
fn tick_of(deadline: u64) -> u64 {
    deadline.div_ceil(TICK)
}

/// The highest digit in which the two ticks differ; 0 if they do not.
fn level_between(a: u64, b: u64) -> usize {
    (((a ^ b) | 1).ilog2() / DIGIT_BITS) as usize
}

/// A digit of `tick`: the slot within the level.
fn digit_at(tick: u64, level: usize) -> usize {
    (tick >> (level as u32 * DIGIT_BITS)) as usize % SLOTS
}

#[cfg(test)]
mod tests;

//! How locks say in one word who holds them, so that a fast path needs a single atomic operation, and the
//! dump can name the holder.
//!
//! ```text
//!   63  CONTENDED  whoever releases has to look at the waiters (the lock's own business)
//!   62  EXCLUSIVE  held by one, and the rest of the word says by whom; else the rest counts those who share it
//!   48  14 bits    which hub the holder is on, roughly: equal for the same hub, hardly ever for others
//!    0  48 bits    the holder's id
//! ```
//!
//! Ids are cut to 48 bits, which serves to spawn a million coroutines a second for nine years.

#![forbid(unsafe_code)]

pub(crate) const CONTENDED: u64 = 1 << 63;
pub(crate) const EXCLUSIVE: u64 = 1 << 62;
const HUB: u64 = 0x3fff << 48;
const ID: u64 = (1 << 48) - 1;

pub(crate) const fn of(id: u64, hub_id: u64) -> u64 {
    EXCLUSIVE | (hub_id << 48 & HUB) | (id & ID)
}

/// Whether two holders are on one hub; in rare cases it says so of two that are not.
pub(crate) const fn same_hub(one: u64, other: u64) -> bool {
    (one ^ other) & HUB == 0
}

/// Who holds a lock with this word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    Nobody,
    /// One whose id ends in these 48 bits.
    One(u64),
    Sharers(u64),
}

pub(crate) const fn holder(word: u64) -> Holder {
    match word & !CONTENDED {
        0 => Holder::Nobody,
        word if word & EXCLUSIVE == 0 => Holder::Sharers(word),
        word => Holder::One(word & ID),
    }
}

/// Whether a task with this id may be meant by [`Holder::One`].
pub(crate) const fn matches(id: u64, one: u64) -> bool {
    id & ID == one
}

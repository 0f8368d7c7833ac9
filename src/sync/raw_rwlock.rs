//! The lock of [`RwLock`](super::RwLock), without data.
//!
//! # Protocol
//!
//! The word is 0, or says who holds the lock to write, or how many hold it to read (see `rt::lock_word`). While nobody
//! waits, each operation is one atomic exchange. As for the mutex:
//!
//! > While somebody waits in the queue, the word has CONTENDED, or a writer who was told to look again is on its way.
//!
//! With CONTENDED set, whoever wants the lock goes to the queue, and waits there if others do. So the order is that
//! of arrival, and neither readers nor writers starve. Whoever releases the lock lets in those at the head of the
//! queue that fit ([`RawRwLock::admit`]): one writer, or all readers up to the first writer. The same is done when
//! a waiter leaves that was killed, since those behind it may fit now.
//!
//! A writer of another hub is let look again rather than handed the lock, for a while, as with the mutex.

#![forbid(unsafe_code)]

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::rt::lock_word::{CONTENDED, EXCLUSIVE, same_hub};
use crate::rt::{self, Place, Reason, Unparker, WaitQueue, Waited};

use super::raw_mutex::{Held, LastForced, SPINS, out_of_patience};

/// How many readers are woken at a time.
const BATCH: usize = 16;

pub(super) struct RawRwLock {
    word: AtomicU64,
    /// A message that is still there after the grant says that the lock was handed over.
    waiters: WaitQueue<LastForced, Waiting>,
}

// It guards nothing by itself. For the guards, which are then as unwind safe as their data.
impl UnwindSafe for RawRwLock {}
impl RefUnwindSafe for RawRwLock {}

/// What a waiter offers.
#[derive(Clone, Copy)]
struct Waiting {
    /// What the lock's word grows by when it has it: 1 for a reader, its own word for a writer.
    word: u64,
    since: u64,
}

impl Waiting {
    fn is_writer(self) -> bool {
        self.word & EXCLUSIVE != 0
    }
}

/// Whether one who wants `wanted` fits in with those who hold the lock.
fn fits(word: u64, wanted: u64) -> bool {
    let held = word & !CONTENDED;
    if wanted & EXCLUSIVE != 0 { held == 0 } else { held & EXCLUSIVE == 0 }
}

const READER: u64 = 1;

impl RawRwLock {
    pub(super) const fn new() -> RawRwLock {
        RawRwLock { word: AtomicU64::new(0), waiters: WaitQueue::new(0) }
    }

    #[inline(always)]
    pub(super) fn try_read(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & (EXCLUSIVE | CONTENDED) == 0 {
            let next = word + READER;
            match self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[inline(always)]
    pub(super) fn try_write(&self) -> Option<Held> {
        let me = rt::my_lock_word();
        self.try_write_as(me).then_some(Held(me))
    }

    #[inline(always)]
    fn try_write_as(&self, me: u64) -> bool {
        self.word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn read(&self) {
        if !self.try_read() {
            self.wait("a RwLock, to read", READER);
        }
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn write(&self) -> Held {
        let me = rt::my_lock_word();
        if !self.try_write_as(me) {
            self.wait("a RwLock, to write", me);
        }
        Held(me)
    }

    /// Unwinds, without the lock, if the coroutine is killed meanwhile.
    #[cold]
    #[track_caller]
    fn wait(&self, what: &'static str, wanted: u64) {
        if self.spin(wanted) {
            return;
        }
        let waiting = Waiting { word: wanted, since: rt::coarse_now() };
        let mut place = Place::Last;
        loop {
            let waited = self.waiters.wait_at(
                place,
                Reason::Lock(what, &self.word),
                None,
                Some(waiting),
                |queue, _| {
                    // One who was told to look again has the others behind it.
                    let may = place == Place::First || queue.waiting() == 0;
                    self.take_or_mark(waiting.word, may, queue.waiting() > 0).then_some(())
                },
                || (),
            );
            match waited {
                Ok(Waited::Attempted(()) | Waited::Granted(Some(_))) => return,
                Ok(Waited::Granted(None)) => place = Place::First,
                Err((interrupted, _)) => {
                    self.admit();
                    rt::unwind(interrupted);
                }
            }
        }
    }

    /// Waits for a moment, if a writer on another processor may be about to be done.
    fn spin(&self, wanted: u64) -> bool {
        let me = rt::my_lock_word();
        for _ in 0..SPINS {
            let word = self.word.load(Ordering::Relaxed);
            if word & CONTENDED != 0 || (word & EXCLUSIVE != 0 && same_hub(word, me)) {
                return false;
            }
            let is_writer = wanted & EXCLUSIVE != 0;
            if fits(word, wanted)
                && (if is_writer { self.try_write_as(wanted) } else { self.try_read() })
            {
                return true;
            }
            if is_writer && word & EXCLUSIVE == 0 {
                // Held by readers, who may be of this hub for all we know.
                return false;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Under the queue's lock: takes the lock, or makes sure that whoever releases it looks at the queue.
    fn take_or_mark(&self, wanted: u64, may: bool, others_wait: bool) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let takes = may && fits(word, wanted);
            let next = match (takes, others_wait) {
                (false, _) => word | CONTENDED,
                (true, true) => (word + wanted) | CONTENDED,
                (true, false) => (word & !CONTENDED) + wanted,
            };
            match self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return takes,
                Err(now) => word = now,
            }
        }
    }

    #[inline(always)]
    pub(super) fn unlock_read(&self) {
        let before = self.word.fetch_sub(READER, Ordering::Release);
        if before == CONTENDED | READER {
            self.admit();
        }
    }

    #[inline(always)]
    pub(super) fn unlock_write(&self, held: Held) {
        // Fails if the word has CONTENDED.
        if self.word.compare_exchange(held.0, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.release_contended(0);
        }
    }

    /// From the writer to a reader, with nobody in between.
    pub(super) fn downgrade(&self) {
        let word = self.word.load(Ordering::Relaxed);
        let done = word & CONTENDED == 0
            && self
                .word
                .compare_exchange(word, READER, Ordering::Release, Ordering::Relaxed)
                .is_ok();
        if !done {
            self.release_contended(READER);
        }
    }

    #[cold]
    fn release_contended(&self, left: u64) {
        // Nobody takes the lock, for it is contended.
        self.word.store(CONTENDED | left, Ordering::Release);
        self.admit();
    }

    /// Lets in those at the head of the queue that fit.
    #[cold]
    fn admit(&self) {
        let mut done = false;
        while !done {
            let mut wakes = [const { None }; BATCH];
            {
                let mut queue = self.waiters.lock();
                for slot in &mut wakes {
                    // Acquire: what those before did, which is passed on with the grant.
                    let word = self.word.load(Ordering::Acquire);
                    if word & CONTENDED == 0 {
                        // Nobody waits, or the writer that is on its way takes care of them.
                        done = true;
                        break;
                    }
                    let Some(first) = queue.first_offer().copied() else {
                        self.word.fetch_and(!CONTENDED, Ordering::Relaxed);
                        done = true;
                        break;
                    };
                    if !fits(word, first.word) {
                        done = true;
                        break;
                    }
                    let (unparker, is_writer) = self.let_in(&mut queue, first);
                    *slot = unparker;
                    if is_writer {
                        done = true;
                        break;
                    }
                }
            }
            wakes.into_iter().flatten().for_each(Unparker::unpark);
        }
    }

    /// Hands the lock to the first waiter, or lets it look again. Says whether it is a writer.
    fn let_in(
        &self,
        queue: &mut rt::Locked<'_, LastForced, Waiting>,
        first: Waiting,
    ) -> (Option<Unparker>, bool) {
        if first.is_writer() && !same_hub(first.word, rt::my_lock_word()) {
            let Some(now) = out_of_patience(first.since, **queue) else {
                let granted = queue.grant_with(|slot| *slot = None);
                self.word.fetch_and(!CONTENDED, Ordering::Relaxed);
                return (granted.map(|((), unparker)| unparker), true);
            };
            **queue = now;
        }
        // Before the grant, since whoever has been granted the lock may release it at once.
        self.word.fetch_add(first.word, Ordering::Relaxed);
        let granted = queue.grant_with(|_| ());
        if queue.waiting() == 0 {
            self.word.fetch_and(!CONTENDED, Ordering::Relaxed);
        }
        (granted.map(|((), unparker)| unparker), first.is_writer())
    }
}

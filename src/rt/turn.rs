//! The loop's own work between coroutines: messages of other threads, timers, I/O, and sleep.
//!
//! Nobody's code runs here; it only wakes.

use super::hub::{Hub, bump};
use super::spawn;
use super::sys;
use super::task::{Message, State, Woken};
use super::timers::Expired;

impl Hub {
    /// Looks after other threads' messages, timers and I/O. With `block` and nothing to run it sleeps
    /// until there is something.
    #[inline(never)]
    pub(super) fn turn(&self, block: bool) {
        #[cfg(feature = "patch")]
        self.in_turn.set(true);
        self.take_turn(block);
        #[cfg(feature = "patch")]
        self.in_turn.set(false);
    }

    fn take_turn(&self, block: bool) {
        self.count_switches();
        self.coarse_now.set(sys::coarse_now());
        // The task that ran last may be gone, and a logger may ask who runs.
        self.current.set(self.main_ref);
        if self.unwinding.get().suspended > 0 {
            self.recount_unwinding();
        }
        self.receive();
        let now = self.expire_timers();
        #[cfg(feature = "patch")]
        self.look_at_token();
        let block = block && self.run.is_empty();
        #[cfg(feature = "patch")]
        let block = block && self.mark_token();
        let timeout = match (block, now) {
            (false, _) => Some(0),
            (true, None) => None,
            (true, Some(now)) => {
                self.timers.borrow().next_expiry().map(|next| next.saturating_sub(now))
            }
        };
        let hopeless = timeout.is_none() && self.reactor.borrow().waiting() == 0;
        let timeout = if hopeless { self.before_endless_sleep() } else { timeout };
        if self.reactor.borrow().started() {
            if block || self.reactor.borrow().waiting() > 0 {
                self.poll(timeout);
            }
        } else if block {
            self.sleep_on_futex(timeout);
        }
        #[cfg(feature = "patch")]
        self.unmark_token();
    }

    /// Adds up the switches since the last time and starts the countdown anew.
    pub(super) fn count_switches(&self) {
        let (interval, left) = (self.settings.get().poll_interval, self.countdown.get());
        let idle = self.idle_yields.take();
        bump(&self.counters.switches, u64::from(interval.saturating_sub(left + idle)));
        self.countdown.set(interval);
    }

    fn poll(&self, timeout: Option<u64>) {
        bump(&self.counters.polls, 1);
        let mut ready = self.ready.take();
        let found = if timeout == Some(0) {
            self.reactor.borrow_mut().poll(timeout, &mut ready)
        } else {
            let bell = self.remote.bell();
            bell.fall_asleep(true);
            // A message that came before the bell was set would not ring it.
            let timeout = if self.remote.inbox().is_empty() { timeout } else { Some(0) };
            let found = self.reactor.borrow_mut().poll(timeout, &mut ready);
            bell.wake_up();
            found
        };
        bump(&self.counters.events, found as u64);
        for task in ready.drain(..) {
            self.wake(task, Woken::Unparked);
        }
        self.ready.replace(ready);
    }

    fn sleep_on_futex(&self, timeout: Option<u64>) {
        let bell = self.remote.bell();
        bell.fall_asleep(false);
        if self.remote.inbox().is_empty() {
            let (word, asleep) = bell.futex();
            sys::futex_wait(word, asleep, timeout);
        }
        bell.wake_up();
    }

    /// Acts on the messages of other threads.
    fn receive(&self) {
        if self.remote.inbox().is_empty() {
            return;
        }
        let mut messages = self.messages.take();
        self.remote.inbox().take_all(&mut messages);
        for message in messages.drain(..) {
            match message {
                Message::Wake(task) => {
                    bump(&self.counters.remote_wakes, 1);
                    task.wake_received();
                    // A late one may be meant for the hub that `remote` served before.
                    if self.owns(&task) {
                        self.wake(task.as_ref(), Woken::Unparked);
                    }
                }
                Message::Spawn(task, stack_size) => {
                    if let Err(orphan) = spawn::adopt(self, task, stack_size) {
                        self.orphans.borrow_mut().push(orphan);
                        // Main, which is to refuse it, takes this for a wake without a reason.
                        self.wake(self.main_ref, Woken::Unparked);
                    }
                }
                Message::Close(fd) => self.close_fd(fd),
            }
        }
        self.messages.replace(messages);
    }

    /// Drops the functions of coroutines that could not be taken in: on main, and not in the loop, since
    /// their destructors may do anything.
    #[inline]
    pub(super) fn refuse_orphans(&self) {
        if !self.orphans.borrow().is_empty() {
            // SAFETY: main is alive, and this is its hub's thread.
            let local = unsafe { self.main_ref.get().local() };
            // The destructors may park as well.
            let woken = local.woken.get();
            let orphans = self.orphans.take();
            orphans.iter().for_each(spawn::refuse);
            local.woken.set(woken);
        }
    }

    /// Wakes those whose deadline has passed. Returns the time, if it had to be asked for.
    fn expire_timers(&self) -> Option<u64> {
        if self.timers.borrow().is_empty() {
            return None;
        }
        let now = sys::now();
        let mut due = self.due.take();
        self.timers.borrow_mut().expire(now, &mut due);
        for Expired { waker: task, .. } in due.drain(..) {
            // SAFETY: a task cancels its timer as it finishes, so this one has not finished.
            let local = unsafe { task.get().local() };
            local.timer.set(None);
            let (deadline, limit) = (local.deadline.get(), local.limit_now.get());
            let next = deadline.min(limit);
            if local.state.get() != State::Parked || next == u64::MAX {
                // Left over from an earlier wait.
            } else if next > now {
                self.set_timer(task, next);
            } else if deadline <= limit {
                self.wake(task, Woken::TimedOut);
            } else {
                self.wake(task, Woken::Elapsed);
            }
        }
        self.due.replace(due);
        Some(now)
    }
}

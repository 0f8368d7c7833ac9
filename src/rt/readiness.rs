//! A hub's I/O: waiting for descriptors, and fairness among those that never have to wait.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::hub::Hub;
use super::reactor::{Direction, Enlisted, SourceId};
use super::sys::{self, Epoll};
use super::task::{Reason, WakeFds, Woken};

/// A side of a descriptor, and who asks.
#[cfg(feature = "patch")]
pub(crate) type Interest = (RawFd, SourceId, Direction);

impl Hub {
    /// Whether an operation on the descriptor is worth trying (see `reactor.rs`).
    #[inline(always)]
    pub(crate) fn may_be_ready(&self, fd: RawFd, id: SourceId, direction: Direction) -> bool {
        self.reactor.borrow_mut().may_be_ready(fd, id, direction)
    }

    #[inline(always)]
    pub(crate) fn short_read(&self, fd: RawFd, id: SourceId) {
        self.reactor.borrow_mut().short_read(fd, id);
    }

    /// Parks the current task until the descriptor may be ready again.
    ///
    /// # Errors
    /// What epoll_create1(2), eventfd(2) or epoll_ctl(2) says; it has not waited then.
    // Inlined, like all that lies between an operation and the switch: see `Suspender::suspend`.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn wait_fd(
        &self,
        fd: RawFd,
        id: SourceId,
        direction: Direction,
        deadline: Option<u64>,
    ) -> io::Result<Woken> {
        if std::thread::panicking() && self.is_unwinding() {
            return block_on_fd(fd, direction, deadline);
        }
        let current = self.current_ref();
        if self.enlist(fd, id, direction)? == Enlisted::AlwaysReady {
            return Ok(Woken::Unparked);
        }
        let reason = match direction {
            Direction::Read => Reason::Read(fd),
            Direction::Write => Reason::Write(fd),
        };
        let woken = self.park(reason, deadline);
        if woken != Woken::Unparked || self.reactor.borrow().may_still_wait(fd, direction) {
            // Something else than the descriptor has ended the wait.
            self.reactor.borrow_mut().cancel(fd, direction, current);
        }
        Ok(woken)
    }

    fn enlist(&self, fd: RawFd, id: SourceId, direction: Direction) -> io::Result<Enlisted> {
        self.prepare_io()?;
        self.reactor.borrow_mut().wait(fd, id, direction, self.current_ref())
    }

    /// Parks the current task until one of several descriptors may be ready, whatever was known of them. A
    /// deadline of `None` is for ever; without descriptors it is a sleep. `None` comes back, at once, if one
    /// of them cannot be waited for.
    ///
    /// It must be allowed to switch (`may_wait_here`).
    ///
    /// # Errors
    /// What epoll_create1(2), eventfd(2) or epoll_ctl(2) says; it has not waited then.
    #[cfg(feature = "patch")]
    #[track_caller]
    pub(super) fn wait_any(
        &self,
        interests: &[Interest],
        reason: Reason,
        deadline: Option<u64>,
    ) -> io::Result<Option<Woken>> {
        let current = self.current_ref();
        let mut outcome = Ok(true);
        let mut enlisted = 0;
        if !interests.is_empty() {
            self.prepare_io()?;
        }
        for &(fd, id, direction) in interests {
            let mut reactor = self.reactor.borrow_mut();
            match reactor.wait_unsure(fd, id, direction, current) {
                Ok(Enlisted::Waiting) => enlisted += 1,
                Ok(Enlisted::AlwaysReady) => outcome = Ok(false),
                Err(error) => outcome = Err(error),
            }
            if !matches!(outcome, Ok(true)) {
                break;
            }
        }
        let woken = matches!(outcome, Ok(true)).then(|| self.park(reason, deadline));
        let mut reactor = self.reactor.borrow_mut();
        for &(fd, _, direction) in &interests[..enlisted] {
            reactor.cancel(fd, direction, current);
        }
        outcome.map(|_| woken)
    }

    /// As [`wait_any`](Self::wait_any), for one whose registration is believed to be of what the number means now.
    ///
    /// # Errors
    /// As for that.
    #[cfg(feature = "patch")]
    #[track_caller]
    pub(super) fn wait_trusting(
        &self,
        (fd, id, direction): Interest,
        reason: Reason,
        deadline: Option<u64>,
    ) -> io::Result<Option<Woken>> {
        let current = self.current_ref();
        if self.enlist(fd, id, direction)? == Enlisted::AlwaysReady {
            return Ok(None);
        }
        let woken = self.park(reason, deadline);
        if woken != Woken::Unparked || self.reactor.borrow().may_still_wait(fd, direction) {
            self.reactor.borrow_mut().cancel(fd, direction, current);
        }
        Ok(Some(woken))
    }

    #[cold]
    fn let_others_run(&self) {
        self.yield_now();
    }

    /// Makes sure that the hub can wait for descriptors.
    ///
    /// # Errors
    /// What epoll_create1(2) or eventfd(2) says.
    pub(super) fn prepare_io(&self) -> io::Result<()> {
        if self.reactor.borrow().started() { Ok(()) } else { self.start_reactor() }
    }

    #[cold]
    fn start_reactor(&self) -> io::Result<()> {
        let fds = match self.remote().fds().get() {
            Some(fds) => fds,
            None => {
                let fds = WakeFds { epoll: Arc::new(Epoll::new()?), eventfd: sys::eventfd()? };
                self.remote().fds().get_or_init(|| fds)
            }
        };
        self.reactor.borrow_mut().start(fds.epoll.clone(), fds.eventfd.as_raw_fd())
    }

    /// Wakes all who wait for a descriptor that is being closed.
    pub(super) fn close_fd(&self, fd: RawFd) {
        let mut ready = Vec::new();
        self.reactor.borrow_mut().close(fd, &mut ready);
        for task in ready {
            self.wake(task, Woken::Unparked);
        }
    }

    /// To be called after an I/O operation that did not have to wait: a task whose I/O is always
    /// ready lets the others run once its budget is used up.
    #[inline(always)]
    pub(crate) fn charge(&self) {
        let current = self.current_ref();
        let (done, by) = self.charged.get();
        let done = if by == current { done + 1 } else { 1 };
        if done < self.settings.get().io_budget {
            self.charged.set((done, current));
        } else {
            self.charged.set((0, current));
            self.let_others_run();
        }
    }
}

/// Blocks the thread: for a coroutine that is unwinding, which must not switch.
#[cold]
fn block_on_fd(fd: RawFd, direction: Direction, deadline: Option<u64>) -> io::Result<Woken> {
    let events = match direction {
        Direction::Read => libc::POLLIN,
        Direction::Write => libc::POLLOUT,
    };
    let ready = sys::poll_blocking(fd, events, deadline)?;
    Ok(if ready { Woken::Unparked } else { Woken::TimedOut })
}

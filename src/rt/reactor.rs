//! Which descriptors are watched, what is known of their readiness, and who waits for them.
//!
//! Pure bookkeeping over one epoll instance: it fills a list of who is to be woken and never wakes
//! anybody itself. It knows nothing of coroutines; `W` is whatever the hub calls a waiter.
//!
//! # Protocol
//!
//! A descriptor is registered at its first `EAGAIN`, edge-triggered, for both directions, once. From
//! then on an entry holds, for each direction, whether it *may be ready*:
//!
//! | what happens | read side | write side |
//! |---|---|---|
//! | not registered | may be ready | may be ready |
//! | an event of this direction | ready | ready |
//! | hang-up or error event | ready, **sticky** | ready, sticky (not for a half-close) |
//! | a short read | drained, unless sticky | |
//! | `EAGAIN` | drained, and no longer sticky | drained, and no longer sticky |
//!
//! *Drained* means that the next operation need not be tried: it waits at once. No wake-up is lost by
//! that: an event is fetched only inside [`Reactor::poll`], which never runs between an operation
//! and the note that it drained the descriptor; whatever arrives after the operation raises a new edge,
//! which a later poll fetches. A reset or hang-up queued behind data is part of an edge that may
//! have been fetched *before* a short read and raises no second one, so it must survive the note:
//! that is what sticky is for. The same holds for urgent data, at which a read stops short.
//!
//! Entries are found by descriptor number. Since numbers are reused, each entry remembers which source
//! (an id that is never reused) it was registered for; another source on the same number registers
//! anew.

#![cfg_attr(not(test), forbid(unsafe_code))]

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::sys::{Epoll, Events};

/// Which half of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// The identity of something that owns (or borrows) a descriptor. Unique in the process; 0 is nobody.
pub(crate) type SourceId = u64;

/// The event tag that means the hub's own eventfd.
const WAKE_TAG: u64 = u64::MAX;

const INTEREST: i32 =
    libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET;

/// Events of one poll. More stay in the kernel until the next.
const BATCH: usize = 1024;

#[derive(Clone, Copy, Debug, Default)]
struct Readiness {
    ready: bool,
    sticky: bool,
}

/// Those who wait for one direction. Nearly always none or one.
#[derive(Debug)]
struct Waiters<W> {
    first: Option<W>,
    #[expect(clippy::box_collection, reason = "8 bytes in each entry instead of 24")]
    more: Option<Box<Vec<W>>>,
}

impl<W: Copy + PartialEq> Waiters<W> {
    const NONE: Self = Waiters { first: None, more: None };

    fn push(&mut self, waiter: W) {
        match self.first {
            None => self.first = Some(waiter),
            Some(_) => self.more.get_or_insert_default().push(waiter),
        }
    }

    /// Returns whether the waiter was there.
    fn remove(&mut self, waiter: W) -> bool {
        if self.first == Some(waiter) {
            // The others keep their order.
            self.first = match &mut self.more {
                Some(more) if !more.is_empty() => Some(more.remove(0)),
                _ => None,
            };
            return true;
        }
        let Some(more) = &mut self.more else { return false };
        let Some(at) = more.iter().position(|w| *w == waiter) else { return false };
        more.remove(at);
        true
    }

    /// Moves all waiters to `out` and returns how many there were.
    fn drain(&mut self, out: &mut Vec<W>) -> usize {
        let Some(first) = self.first.take() else { return 0 };
        out.push(first);
        match &mut self.more {
            None => 1,
            Some(more) => {
                let count = 1 + more.len();
                out.append(more);
                count
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

#[derive(Debug)]
struct Entry<W> {
    /// For whom the descriptor is registered; 0 while it is not.
    source: SourceId,
    read: Readiness,
    write: Readiness,
    readers: Waiters<W>,
    writers: Waiters<W>,
}

impl<W> Entry<W> {
    fn side(&mut self, direction: Direction) -> (&mut Readiness, &mut Waiters<W>) {
        match direction {
            Direction::Read => (&mut self.read, &mut self.readers),
            Direction::Write => (&mut self.write, &mut self.writers),
        }
    }
}

/// What became of a request to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enlisted {
    /// The waiter is on the list and will be handed out by a later poll.
    Waiting,
    /// A file of a kind that is always ready (epoll refuses regular files): there is no waiting.
    AlwaysReady,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Reactor<W> {
    /// By descriptor number.
    entries: Vec<Entry<W>>,
    epoll: Option<Arc<Epoll>>,
    events: Events,
    waiting: usize,
}

impl<W: Copy + PartialEq> Reactor<W> {
    pub(crate) const fn new() -> Self {
        Reactor { entries: Vec::new(), epoll: None, events: Vec::new(), waiting: 0 }
    }

    /// How many waiters there are.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether there is an epoll instance to wait in.
    #[inline]
    pub(crate) fn started(&self) -> bool {
        self.epoll.is_some()
    }

    /// Begins to use `epoll`; `wake_fd` is the eventfd by which other threads interrupt a wait.
    ///
    /// # Errors
    /// What epoll_ctl(2) says; nothing has changed then.
    pub(crate) fn start(&mut self, epoll: Arc<Epoll>, wake_fd: RawFd) -> io::Result<()> {
        // Edge-triggered: each signal is one event, and nobody ever needs to read the counter.
        // The instance may have served an earlier hub, and know the eventfd.
        let interest = libc::EPOLLIN | libc::EPOLLET;
        match epoll.add(wake_fd, interest, WAKE_TAG) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                epoll.modify(wake_fd, interest, WAKE_TAG)?;
            }
            other => other?,
        }
        self.events.reserve_exact(BATCH);
        self.epoll = Some(epoll);
        Ok(())
    }

    fn entry(&mut self, fd: RawFd, source: SourceId) -> Option<&mut Entry<W>> {
        self.entries.get_mut(fd as usize).filter(|entry| entry.source == source)
    }

    /// Whether an operation is worth trying.
    #[inline]
    pub(crate) fn may_be_ready(&mut self, fd: RawFd, id: SourceId, direction: Direction) -> bool {
        match self.entry(fd, id) {
            Some(entry) => entry.side(direction).0.ready,
            None => true,
        }
    }

    /// Notes a short read: whatever was there has been read.
    #[inline]
    pub(crate) fn short_read(&mut self, fd: RawFd, id: SourceId) {
        if let Some(entry) = self.entry(fd, id) {
            entry.read.ready = entry.read.sticky;
        }
    }

    /// Puts `waiter` on the list after an `EAGAIN` (or, with `may_be_ready` false, without trying).
    ///
    /// # Errors
    /// What epoll_ctl(2) says: `ENOSPC` beyond fs.epoll.max_user_watches, `EBADF` for a closed
    /// descriptor, `ENOMEM`. The waiter is not on the list then.
    ///
    /// # Panics
    /// If [`start`](Self::start) has not been called.
    pub(crate) fn wait(
        &mut self,
        fd: RawFd,
        id: SourceId,
        direction: Direction,
        waiter: W,
    ) -> io::Result<Enlisted> {
        if self.entry(fd, id).is_none() && !self.register(fd, id)? {
            return Ok(Enlisted::AlwaysReady);
        }
        let (readiness, waiters) = self.entries[fd as usize].side(direction);
        *readiness = Readiness::default();
        waiters.push(waiter);
        self.waiting += 1;
        Ok(Enlisted::Waiting)
    }

    /// Returns false for a file that cannot be watched because it is always ready.
    /// As [`wait`](Self::wait), for a source that cannot be sure that its descriptor still is what it
    /// registered: somebody may have closed it unseen, and the number may mean something new.
    #[cfg(feature = "patch")]
    pub(crate) fn wait_unsure(
        &mut self,
        fd: RawFd,
        id: SourceId,
        direction: Direction,
        waiter: W,
    ) -> io::Result<Enlisted> {
        if self.entry(fd, id).is_some() {
            let epoll = self.epoll.as_ref().expect("the reactor was started");
            if let Err(error) = epoll.modify(fd, INTEREST, tag(fd, id)) {
                if error.kind() != io::ErrorKind::NotFound {
                    return Err(error);
                }
                self.entries[fd as usize].source = 0;
            }
        }
        self.wait(fd, id, direction, waiter)
    }

    #[cold]
    fn register(&mut self, fd: RawFd, id: SourceId) -> io::Result<bool> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let epoll = self.epoll.as_ref().expect("the reactor was started");
        let tag = tag(fd, id);
        match epoll.add(fd, INTEREST, tag) {
            Ok(()) => {}
            // Another source registered this very descriptor and still shares it, or it was
            // closed while a duplicate lived on. Either way the registration is ours now.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                epoll.modify(fd, INTEREST, tag)?;
            }
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(false),
            Err(error) => return Err(error),
        }
        let index = fd as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || Entry {
                source: 0,
                read: Readiness::default(),
                write: Readiness::default(),
                readers: Waiters::NONE,
                writers: Waiters::NONE,
            });
        }
        let entry = &mut self.entries[index];
        entry.source = id;
        // Nothing is known yet of the side that nobody has tried. Waiters of another source on this
        // number stay: they will be woken, and find out for themselves.
        entry.read = Readiness { ready: true, sticky: false };
        entry.write = Readiness { ready: true, sticky: false };
        Ok(true)
    }

    /// Whether anybody waits for this side of the descriptor.
    #[inline]
    pub(crate) fn may_still_wait(&self, fd: RawFd, direction: Direction) -> bool {
        self.entries.get(fd as usize).is_some_and(|entry| match direction {
            Direction::Read => !entry.readers.is_empty(),
            Direction::Write => !entry.writers.is_empty(),
        })
    }

    /// Takes `waiter` off the list if it is still there.
    pub(crate) fn cancel(&mut self, fd: RawFd, direction: Direction, waiter: W) {
        if let Some(entry) = self.entries.get_mut(fd as usize) {
            if entry.side(direction).1.remove(waiter) {
                self.waiting -= 1;
            }
        }
    }

    /// The source is about to close its descriptor: stop watching it.
    pub(crate) fn forget(&mut self, fd: RawFd, id: SourceId) {
        let Some(epoll) = self.epoll.clone() else { return };
        let Some(entry) = self.entry(fd, id) else { return };
        // Another source may be waiting on the same descriptor number; its wake-up needs the
        // registration. Closing the descriptor will end it, as far as the kernel can tell.
        if entry.readers.is_empty() && entry.writers.is_empty() {
            entry.source = 0;
            epoll.delete(fd);
        }
    }

    /// The descriptor is being closed under its waiters: all of them are to be woken, and the next
    /// source on this number starts anew.
    pub(crate) fn close(&mut self, fd: RawFd, ready: &mut Vec<W>) {
        let Some(epoll) = self.epoll.clone() else { return };
        let Some(entry) = self.entries.get_mut(fd as usize) else { return };
        if entry.source != 0 {
            entry.source = 0;
            epoll.delete(fd);
        }
        self.waiting -= entry.readers.drain(ready);
        self.waiting -= entry.writers.drain(ready);
    }

    /// Fetches events, waiting up to `timeout` nanoseconds (`None`: for ever), and appends to `ready`
    /// whoever waited for one of them. Returns the number of events.
    ///
    /// # Panics
    /// If somebody has closed the epoll instance's descriptor: no coroutine could wait any more.
    pub(crate) fn poll(&mut self, timeout: Option<u64>, ready: &mut Vec<W>) -> usize {
        let Some(epoll) = &self.epoll else { return 0 };
        let mut events = std::mem::take(&mut self.events);
        if let Err(error) = epoll.wait(&mut events, timeout) {
            panic!("epoll_wait failed ({error}): was the hub's epoll descriptor closed?");
        }
        for event in &events {
            let (tag, bits) = (event.u64, event.events);
            if tag != WAKE_TAG {
                self.on_event(tag, bits as i32, ready);
            }
        }
        let count = events.len();
        self.events = events;
        count
    }

    fn on_event(&mut self, event_tag: u64, bits: i32, ready: &mut Vec<W>) {
        let fd = event_tag as u32 as RawFd;
        let Some(entry) = self.entries.get_mut(fd as usize) else { return };
        if entry.source == 0 || tag(fd, entry.source) != event_tag {
            return; // a late event of a source that is gone
        }
        let hung_up = bits & (libc::EPOLLHUP | libc::EPOLLERR) != 0;
        if bits & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLPRI) != 0 || hung_up {
            entry.read.ready = true;
            entry.read.sticky |= hung_up || bits & (libc::EPOLLRDHUP | libc::EPOLLPRI) != 0;
            self.waiting -= entry.readers.drain(ready);
        }
        if bits & libc::EPOLLOUT != 0 || hung_up {
            entry.write.ready = true;
            entry.write.sticky |= hung_up;
            self.waiting -= entry.writers.drain(ready);
        }
    }

    /// In the child of a fork: knows of no registration, no waiter and no epoll instance any more.
    pub(crate) fn reset(&mut self) {
        *self = Reactor::new();
    }
}

/// The tag of a registration: enough of the id to tell a number's successive owners apart.
fn tag(fd: RawFd, id: SourceId) -> u64 {
    (id << 32) | fd as u32 as u64
}

#[cfg(test)]
mod tests;

//! What all servers have in common: the coroutines that serve, how many there may be, and the end.
//!
//! A server is two coroutines beside those that serve. The *acceptor* waits for clients and gives each a
//! coroutine. The *supervisor* waits for somebody to ask for the end, and then takes the steps to it; so
//! whoever asks need not be on the server's thread, and need not wait.

#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;

use super::accept::{Backoff, Severity};
use super::stats::{Counters, Stats, count};
use crate::error::Killed;
use crate::event::Event;
use crate::pool::{Slot, Slots};
use crate::thread::{self, Builder, JoinHandle};
use crate::time;

/// What a server gives its clients when it stops by itself, unless it was told otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// How long those that are killed may take to unwind.
const UNWINDING: Duration = Duration::from_secs(5);
/// A time that never comes.
const NEVER: u64 = u64::MAX;

/// What any thread may do to a server: ask it to stop, look whether it has, read what it has counted.
///
/// It is made by [`StreamServer::handle`](super::StreamServer::handle), or that of
/// [`DatagramServer`](super::DatagramServer::handle).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::server::StreamServer;
///
/// let server = StreamServer::bind("127.0.0.1:0", |_stream, _peer| Ok(()))?;
/// let handle = server.handle();
/// let other = std::thread::spawn(move || handle.stop(Duration::from_secs(10)));
/// server.serve_forever()?; // until it is stopped
/// # other.join().unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    control: Arc<Control>,
}

impl Handle {
    /// Asks the server to stop, and returns at once.
    ///
    /// It no longer accepts, its handlers may go on for `grace`, and are killed then. Of several demands,
    /// the one that ends first counts. A server that has not been started will stop at once when it is.
    pub fn stop(&self, grace: Duration) {
        self.control.request(grace);
    }

    /// Whether it has been asked to stop, or has stopped by itself. A handler of connections that live long
    /// looks at this between requests.
    pub fn is_stopping(&self) -> bool {
        self.control.stopping.is_set()
    }

    /// Waits until the server is asked to stop: for what has to tell clients, or to end idle connections.
    #[track_caller]
    pub fn wait_stopping(&self) {
        self.control.stopping.wait();
    }

    /// Waits until the server has stopped and no handler is left.
    #[track_caller]
    pub fn wait_stopped(&self) {
        self.control.stopped.wait();
    }

    /// As [`wait_stopped`](Self::wait_stopped), for at most `timeout`. Says whether it has stopped.
    #[track_caller]
    pub fn wait_stopped_timeout(&self, timeout: Duration) -> bool {
        self.control.stopped.wait_timeout(timeout)
    }

    /// What the server has counted so far.
    pub fn stats(&self) -> Stats {
        self.control.counters.read()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("stopping", &self.is_stopping())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The part of a server that all threads see.
#[derive(Default)]
struct Control {
    counters: Counters,
    /// When the handlers that are left are to be killed.
    kill_at: KillAt,
    /// There is something for the supervisor to look at.
    changed: Event,
    /// It has been asked to stop.
    stopping: Event,
    /// It has.
    stopped: Event,
}

struct KillAt {
    epoch: Instant,
    nanos: AtomicU64,
}

impl Default for KillAt {
    fn default() -> KillAt {
        KillAt { epoch: Instant::now(), nanos: AtomicU64::new(NEVER) }
    }
}

impl KillAt {
    fn no_later_than(&self, delay: Duration) {
        let at = self.epoch.elapsed().saturating_add(delay).as_nanos();
        self.nanos.fetch_min(u64::try_from(at).unwrap_or(NEVER), Ordering::AcqRel);
    }

    /// How long until then; `None` is for ever.
    fn left(&self) -> Option<Duration> {
        match self.nanos.load(Ordering::Acquire) {
            NEVER => None,
            at => Some(Duration::from_nanos(at).saturating_sub(self.epoch.elapsed())),
        }
    }
}

impl Control {
    fn request(&self, grace: Duration) {
        self.kill_at.no_later_than(grace);
        self.stopping.set();
        self.changed.set();
    }
}

/// The part of a server that its own thread sees.
pub(super) struct Core {
    control: Arc<Control>,
    /// For the log.
    what: &'static str,
    started: Cell<bool>,
    /// Why it stopped by itself.
    fatal: RefCell<Option<io::Error>>,
    members: RefCell<Slab<JoinHandle<()>>>,
    pub(super) settings: RefCell<Settings>,
}

/// What is set before the start.
pub(super) struct Settings {
    slots: Option<Arc<Slots>>,
    pub(super) deadline: Option<Duration>,
    pub(super) stack_size: Option<usize>,
    pub(super) grace: Duration,
}

impl Settings {
    /// # Panics
    /// If `count` is 0.
    #[track_caller]
    pub(super) fn limit(&mut self, count: usize) {
        assert!(count > 0, "a server without a place for a client could never accept one");
        self.slots = Some(Arc::new(Slots::new(count)));
    }
}

impl Core {
    pub(super) fn new(what: &'static str) -> Rc<Core> {
        Rc::new(Core {
            control: Arc::default(),
            what,
            started: Cell::new(false),
            fatal: RefCell::new(None),
            members: RefCell::default(),
            settings: RefCell::new(Settings {
                slots: None,
                deadline: None,
                stack_size: None,
                grace: DEFAULT_GRACE,
            }),
        })
    }

    pub(super) fn handle(&self) -> Handle {
        Handle { control: self.control.clone() }
    }

    pub(super) fn is_started(&self) -> bool {
        self.started.get()
    }

    /// Starts the acceptor, which returns only to say why it cannot go on, and the supervisor, which calls
    /// `close` when nothing is accepted any more.
    ///
    /// # Errors
    /// `AlreadyExists` if it was started before; `OutOfMemory` if there is no stack to be had.
    #[track_caller]
    pub(super) fn start(
        self: &Rc<Core>,
        accept: impl FnOnce(&Rc<Core>) -> io::Error + 'static,
        close: impl FnOnce() + 'static,
    ) -> io::Result<()> {
        if self.started.get() {
            let message = "a server is started once";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        let core = self.clone();
        let acceptor = Builder::new().name(format!("{} acceptor", self.what)).spawn(move || {
            let error = accept(&core);
            core.fail(error);
        })?;
        // Should there be no stack for the supervisor, this ends the acceptor.
        let ending = Ending { core: self.clone(), acceptor, close: Some(close) };
        Builder::new()
            .name(format!("{} supervisor", self.what))
            .spawn(move || ending.supervise())?;
        self.started.set(true);
        Ok(())
    }

    /// Waits for the end, and returns the reason if that is an error.
    #[track_caller]
    pub(super) fn wait(&self) -> io::Result<()> {
        self.control.stopped.wait();
        self.fatal.borrow_mut().take().map_or(Ok(()), Err)
    }

    /// Stops, waits until that is done, and says how many handlers had to be killed.
    #[track_caller]
    pub(super) fn stop(&self, grace: Duration) -> usize {
        self.control.request(grace);
        if !self.started.get() {
            return 0;
        }
        self.control.stopped.wait();
        self.control.counters.read().killed as usize
    }

    /// Asks for the end in the way of somebody who has not said how.
    pub(super) fn retire(&self) {
        let grace = self.settings.borrow().grace;
        self.control.request(grace);
    }

    #[cold]
    fn fail(&self, error: io::Error) {
        log::error!("{}: cannot go on: {error}", self.what);
        *self.fatal.borrow_mut() = Some(error);
        self.retire();
    }

    // ---- accepting ----------------------------------------------------------------------------

    /// Serves what `next` waits for, as long as the limit allows, until that fails for good.
    pub(super) fn accept_all<C, A, W>(
        self: &Rc<Core>,
        next: impl Fn() -> io::Result<(C, A)>,
        work: impl Fn(C, A) -> W,
    ) -> io::Error
    where
        A: Clone + fmt::Debug + 'static,
        W: FnOnce() -> io::Result<()> + 'static,
    {
        let slots = self.settings.borrow().slots.clone();
        let mut backoff = Backoff::default();
        loop {
            // First a place, then a client: those for whom there is none stay in the backlog.
            let slot = slots.as_ref().and_then(|slots| Slots::acquire(slots, None));
            let result = next().and_then(|(connection, peer)| {
                let work = work(connection, peer.clone());
                self.spawn(slot, peer, work)
            });
            let Err(error) = result else {
                backoff.reset();
                continue;
            };
            count(&self.control.counters.accept_errors);
            match Severity::of(&error) {
                Severity::Passing => log::debug!("{}: {error}", self.what),
                Severity::Exhausted => {
                    // A warning for each time of want, not for each attempt.
                    let level =
                        if backoff.is_fresh() { log::Level::Warn } else { log::Level::Debug };
                    let pause = backoff.next();
                    log::log!(level, "{}: {error}; trying again in {pause:?}", self.what);
                    thread::sleep(pause);
                }
                Severity::Fatal => return error,
            }
        }
    }

    fn spawn<A: fmt::Debug + 'static>(
        self: &Rc<Core>,
        slot: Option<Slot>,
        peer: A,
        work: impl FnOnce() -> io::Result<()> + 'static,
    ) -> io::Result<()> {
        let Settings { deadline, stack_size, .. } = *self.settings.borrow();
        let mut builder = Builder::new();
        if let Some(size) = stack_size {
            builder = builder.stack_size(size);
        }
        let key = self.members.borrow().vacant_key();
        let mut member = Member { core: self.clone(), key, counted: false, _slot: slot };
        let counters = &self.control.counters;
        counters.begin();
        // It owns the member whether it is ever called or not.
        let serve = move || {
            let Member { core, counted, .. } = &mut member;
            core.serve(deadline, &peer, work, counted);
        };
        match builder.spawn(serve) {
            Ok(handle) => {
                self.members.borrow_mut().insert(handle);
                Ok(())
            }
            Err(error) => {
                counters.withdraw();
                Err(error)
            }
        }
    }

    /// The body of a coroutine that serves.
    fn serve(
        &self,
        deadline: Option<Duration>,
        peer: &dyn fmt::Debug,
        work: impl FnOnce() -> io::Result<()>,
        counted: &mut bool,
    ) {
        let counters = &self.control.counters;
        // Whatever the handler shares with others is as safe as with a thread that panics.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| match deadline {
            Some(limit) => time::timeout(limit, work),
            None => Ok(work()),
        }));
        *counted = true;
        match outcome {
            Ok(Ok(Ok(()))) => count(&counters.completed),
            Ok(Ok(Err(error))) => {
                count(&counters.failed);
                log::debug!("{}: {peer:?}: {error}", self.what);
            }
            Ok(Err(_)) => {
                count(&counters.timed_out);
                log::debug!("{}: {peer:?}: it took longer than it may", self.what);
            }
            Err(payload) if payload.is::<Killed>() => {
                *counted = false;
                panic::resume_unwind(payload)
            }
            Err(payload) => {
                count(&counters.panicked);
                let message = message(&*payload);
                log::error!("{}: the handler of {peer:?} panicked: {message}", self.what);
            }
        }
    }

    // ---- ending -------------------------------------------------------------------------------

    /// Waits until no handler is left, and kills those that are when the time is up.
    fn finish(&self) {
        let control = &self.control;
        loop {
            control.changed.clear();
            if self.members.borrow().is_empty() {
                return;
            }
            match control.kill_at.left() {
                Some(Duration::ZERO) => return self.kill_all(),
                Some(left) => control.changed.wait_timeout(left),
                None => {
                    control.changed.wait();
                    true
                }
            };
        }
    }

    fn kill_all(&self) {
        let members = std::mem::take(&mut *self.members.borrow_mut());
        for (_, member) in &members {
            member.kill_timeout(Duration::ZERO);
        }
        let until = Instant::now() + UNWINDING;
        let mut left = 0;
        for (_, member) in members {
            if member.join_timeout(until.saturating_duration_since(Instant::now())).is_err() {
                left += 1;
            }
        }
        if left > 0 {
            log::error!("{}: {left} handlers do not end though they were killed", self.what);
        }
    }
}

/// The error of what needs the socket of a server that has none any more.
pub(super) fn has_stopped() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the server has stopped")
}

/// What a panic says.
fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// A coroutine that serves, for the time in which it counts as one.
struct Member {
    core: Rc<Core>,
    key: usize,
    /// Whether it was noted how it ended.
    counted: bool,
    _slot: Option<Slot>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let Member { core, key, counted, .. } = self;
        let control = &core.control;
        let own = core.members.borrow_mut().try_remove(*key);
        if !*counted {
            count(&control.counters.killed);
        }
        control.counters.end();
        drop(own);
        if control.stopping.is_set() {
            control.changed.set();
        }
    }
}

/// The supervisor's part. If the supervisor itself is killed, with its hub, dropping this ends the rest.
struct Ending<F: FnOnce()> {
    core: Rc<Core>,
    acceptor: JoinHandle<()>,
    close: Option<F>,
}

impl<F: FnOnce()> Ending<F> {
    fn supervise(mut self) {
        let control = self.core.control.clone();
        while !control.stopping.is_set() {
            control.changed.wait();
            control.changed.clear();
        }
        // It owns a share of the listener; new clients are refused from the moment at which that is gone.
        self.acceptor.kill();
        if let Some(close) = self.close.take() {
            close();
        }
        self.core.finish();
    }
}

impl<F: FnOnce()> Drop for Ending<F> {
    fn drop(&mut self) {
        self.acceptor.kill_timeout(Duration::ZERO);
        if let Some(close) = self.close.take() {
            close();
        }
        self.core.control.stopping.set();
        self.core.control.stopped.set();
    }
}

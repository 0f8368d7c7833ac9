//! The scheduler of a thread: its handle for other threads, its settings, its counters, its end.
//!
//! A hub is made on a thread's first use of the crate; nothing has to be started.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::time::Duration;

use crate::error::StillRunning;
use crate::rt::{self, Remote};
use crate::thread::{Builder, JoinHandle};

/// A handle by which any thread can spawn coroutines onto a hub.
///
/// # Examples
/// ```
/// use greenling::{hub, thread};
///
/// let here = hub::handle();
/// let main = thread::current();
/// let other = std::thread::spawn(move || {
///     // Runs on the first thread, as soon as that waits.
///     here.spawn(move || main.unpark()).unwrap().join().unwrap();
/// });
/// thread::park();
/// # other.join().unwrap();
/// ```
#[derive(Clone)]
pub struct Handle {
    hub: (&'static Remote, u64),
}

/// The handle of the calling thread's hub.
pub fn handle() -> Handle {
    Handle { hub: rt::identity() }
}

impl Handle {
    /// Spawns a coroutine onto the hub. It begins when that hub's thread next waits or yields.
    ///
    /// # Errors
    /// `NotConnected` if the hub's thread has ended. If that thread has no memory for a stack, the
    /// coroutine ends at once without running, and joining it gives [`Killed`](crate::error::Killed).
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_with(Builder::new(), f)
    }

    /// As [`spawn`](Self::spawn), with a name and a stack size.
    ///
    /// # Errors
    /// As for `spawn`.
    #[track_caller]
    pub fn spawn_with<F, T>(&self, builder: Builder, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (name, stack_size) = builder.into_parts();
        rt::spawn_on(self.hub, name, stack_size, f).map(JoinHandle::new)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// Settings of hubs.
///
/// # Examples
/// ```
/// use greenling::hub::Config;
///
/// Config::new().stack_size(1024 * 1024).apply(); // this thread, from now on
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "settings take effect when they are applied"]
pub struct Config {
    stack_size: Option<usize>,
    cached_stacks: Option<usize>,
    poll_interval: Option<u32>,
    io_budget: Option<u32>,
    mprotect_guards: bool,
}

impl Config {
    /// Settings that change nothing.
    pub fn new() -> Config {
        Config::default()
    }

    /// The size in bytes of coroutines' stacks that do not ask for another. 256 KiB by default.
    pub fn stack_size(mut self, bytes: usize) -> Config {
        self.stack_size = Some(bytes);
        self
    }

    /// How many free stacks of each size keep their pages for the next coroutine. 16,384 by default;
    /// the pages of further ones go back to the system.
    pub fn cached_stacks(mut self, count: usize) -> Config {
        self.cached_stacks = Some(count);
        self
    }

    /// After how many switches at most the hub looks at I/O, timers and other threads, however many
    /// coroutines could run. 64 by default, at least 1.
    pub fn poll_interval(mut self, switches: u32) -> Config {
        self.poll_interval = Some(switches.max(1));
        self
    }

    /// After how many I/O operations that did not have to wait a coroutine lets others run. 64 by
    /// default, at least 1.
    pub fn io_budget(mut self, operations: u32) -> Config {
        self.io_budget = Some(operations.max(1));
        self
    }

    /// Makes stack guards by mprotect(2) even where the kernel has `MADV_GUARD_INSTALL`, for the whole
    /// process from now on. Two memory maps for each stack, so that about 32,000 fit under the usual
    /// vm.max_map_count; debuggers and crash reporters know such guards better.
    pub fn mprotect_guards(mut self) -> Config {
        self.mprotect_guards = true;
        self
    }

    fn over(&self, mut settings: rt::Settings) -> rt::Settings {
        if self.mprotect_guards {
            rt::force_mprotect_guards();
        }
        settings.stack_size = self.stack_size.unwrap_or(settings.stack_size);
        settings.cached_stacks = self.cached_stacks.unwrap_or(settings.cached_stacks);
        settings.poll_interval = self.poll_interval.unwrap_or(settings.poll_interval);
        settings.io_budget = self.io_budget.unwrap_or(settings.io_budget);
        settings
    }

    /// Changes the calling thread's hub.
    pub fn apply(&self) {
        rt::set_settings(self.over(rt::settings()));
    }

    /// Changes what hubs begin with that are made from now on.
    pub fn apply_default(&self) {
        self.over(rt::Settings::defaults()).make_default();
    }
}

/// Counters of a hub since its beginning, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Switches into coroutines. Each is paired with one back.
    pub switches: u64,
    /// Coroutines spawned.
    pub spawned: u64,
    /// Coroutines that have not ended, the main coroutine not counted.
    pub live: usize,
    /// Of these, and of the main coroutine, how many wait for something.
    pub parked: usize,
    /// System calls that asked for I/O events.
    pub polls: u64,
    /// I/O events.
    pub events: u64,
    /// Timers that are set, some of them for waits that have ended already.
    pub timers: usize,
    /// Wakes that came from other threads.
    pub remote_wakes: u64,
    /// Stacks of this thread that belong to a coroutine, a greenlet or a generator.
    pub stacks_in_use: usize,
    /// Free stacks whose pages are kept.
    pub stacks_cached: usize,
    /// Address space of all stacks, in bytes. Memory is used only for what was touched.
    pub stack_bytes_reserved: usize,
}

/// The counters of the calling thread's hub.
///
/// # Examples
/// ```
/// let before = greenling::hub::stats();
/// greenling::spawn(|| ()).join().unwrap();
/// let after = greenling::hub::stats();
/// assert_eq!(after.spawned, before.spawned + 1);
/// assert_eq!(after.live, before.live);
/// ```
pub fn stats() -> Stats {
    let hub = rt::hub_stats();
    let stacks = rt::pool_stats();
    Stats {
        switches: hub.switches,
        spawned: hub.spawned,
        live: hub.live,
        // The caller runs; who is neither queued nor running is parked.
        parked: hub.live.saturating_sub(hub.queued),
        polls: hub.polls,
        events: hub.events,
        timers: hub.timers,
        remote_wakes: hub.remote_wakes,
        stacks_in_use: stacks.in_use,
        stacks_cached: stacks.cached,
        stack_bytes_reserved: stacks.reserved_bytes,
    }
}

/// Ends all other coroutines of the calling thread by unwinding, as if each had been killed, and waits
/// for that up to `grace`.
///
/// To be called before `main` returns, where destructors have to run: otherwise the end of the process
/// abandons coroutines as it abandons threads.
///
/// # Errors
/// [`StillRunning`] if some have not ended in time: they swallow the kill, or compute.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// greenling::spawn(|| greenling::sleep(Duration::from_secs(3600)));
/// greenling::hub::shutdown(Duration::from_secs(1)).unwrap();
/// ```
#[track_caller]
pub fn shutdown(grace: Duration) -> Result<(), StillRunning> {
    match rt::shutdown(grace) {
        0 => Ok(()),
        coroutines => Err(StillRunning { coroutines }),
    }
}

/// Gives the pages of the calling thread's free stacks back to the system.
///
/// Useful after a peak: free stacks are kept warm otherwise (see [`Config::cached_stacks`]).
pub fn trim() {
    rt::trim_stacks();
}

//! Threads for what blocks and cannot be made to wait cooperatively: files, look-ups of names, C
//! libraries, long computations.
//!
//! [`unblock`] runs a function on a thread of a common pool while the calling coroutine waits, and the
//! others of its thread run. [`ThreadPool`] is a pool of one's own. (gevent's `threadpool`.)
//!
//! ```
//! use greenling::threadpool::unblock;
//!
//! let size = unblock(|| std::fs::metadata("/etc/passwd").map(|data| data.len()))?;
//! assert!(size > 0);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What runs there
//! A job runs on a plain thread, so what it captures and returns is [`Send`]. It does not end early: if
//! whoever waits for it is killed or runs into a time limit, the job goes on alone. A panic goes to whoever
//! joins. A coroutine that a job spawns lives on the job's thread, and ends with it if not before.
//!
//! # After a fork
//! The child has none of the threads; its pools begin anew, empty. A [`Job`] of the parent's that has not
//! ended by then joins as [`Killed`](crate::error::Killed) in the child.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe, resume_unwind};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

mod crew;
mod job;

pub use job::Job;

use crate::rt::{self, Deadline, PerProcess};
use crate::thread;
use crew::{Crew, Settings};

/// How many threads the pool of [`unblock`] has at most.
const MAX_THREADS: usize = 256;

/// How long a thread with nothing to do stays, unless [`Builder::idle_timeout`] says otherwise.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The pool of [`unblock`].
static COMMON: LazyLock<ThreadPool> = LazyLock::new(|| Builder::new().build());

/// Runs `f` on a thread of a common pool and waits for its result; other coroutines run meanwhile.
///
/// The pool has up to 256 threads, which are started as they are needed and end after 10 s without work.
/// If all are at work, `f` waits for its turn. While the caller unwinds, from a panic or because it was
/// killed, its destructors' functions run in place and block the thread.
///
/// # Panics
/// As `f` does; or if there is no thread and none can be started ([`ThreadPool::try_spawn`] returns that
/// as an error).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::{join_all, spawn, threadpool::unblock};
///
/// // Ten calls that block for 20 ms each, at once.
/// let calls = (0..10).map(|n| {
///     spawn(move || unblock(move || {
///         std::thread::sleep(Duration::from_millis(20));
///         n
///     }))
/// });
/// let sum: i32 = join_all(calls).into_iter().map(Result::unwrap).sum();
/// assert_eq!(sum, 45);
/// ```
#[track_caller]
pub fn unblock<T, F>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    COMMON.unblock(f)
}

/// As [`unblock`], for the crate's own system calls: what the outside world decides is an error.
#[allow(dead_code, reason = "for the modules that are to come")]
#[track_caller]
pub(crate) fn try_unblock<T, F>(f: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    COMMON.try_unblock(f)
}

/// Settings of a [`ThreadPool`] that is about to be built.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::threadpool::Builder;
///
/// let pool = Builder::new()
///     .max_threads(4)
///     .idle_timeout(Duration::from_secs(1))
///     .thread_name("database")
///     .build();
/// assert_eq!(pool.max_threads(), 4);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    settings: Settings,
}

impl Builder {
    /// Up to 256 threads that end after 10 s without work.
    pub fn new() -> Builder {
        Builder {
            settings: Settings {
                max_threads: MAX_THREADS,
                idle_timeout: IDLE_TIMEOUT,
                name: "greenling-pool".to_owned(),
                stack_size: None,
            },
        }
    }

    /// Sets how many threads there may be at once.
    ///
    /// # Panics
    /// If it is 0: nothing could ever run.
    pub fn max_threads(mut self, max: usize) -> Builder {
        assert!(max > 0, "a pool needs at least one thread");
        self.settings.max_threads = max;
        self
    }

    /// Sets how long a thread stays that has nothing to do. With zero each ends after its job, unless
    /// another one is waiting.
    pub fn idle_timeout(mut self, timeout: Duration) -> Builder {
        self.settings.idle_timeout = timeout;
        self
    }

    /// Names the threads, for debuggers and panic messages. Linux shows the first 15 bytes.
    ///
    /// # Panics
    /// If the name contains a null byte, as in std.
    pub fn thread_name(mut self, name: impl Into<String>) -> Builder {
        let name = name.into();
        assert!(!name.contains('\0'), "thread name may not contain interior null bytes");
        self.settings.name = name;
        self
    }

    /// Sets the size of the threads' stacks in bytes; std's default if it is not set.
    pub fn stack_size(mut self, size: usize) -> Builder {
        self.settings.stack_size = Some(size);
        self
    }

    /// Makes the pool. Its threads are started when there is something to do.
    pub fn build(self) -> ThreadPool {
        let pool = Pool { settings: self.settings, crew: PerProcess::new() };
        ThreadPool { pool: Arc::new(pool) }
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

/// A pool of threads for functions that block.
///
/// A job is given to a thread that has nothing to do; if there is none, a new one is started, up to the
/// limit; beyond that jobs wait in the order in which they came. A clone is another handle to the same
/// pool; any thread may use it. When the last handle is dropped, the jobs that there are are still done,
/// and then the threads end.
///
/// # Examples
/// ```
/// use greenling::threadpool::ThreadPool;
///
/// let pool = ThreadPool::new(4);
/// let job = pool.spawn(|| std::fs::read("/etc/hostname"));
/// // … other things …
/// let _contents = job.join().unwrap();
/// ```
#[derive(Clone)]
pub struct ThreadPool {
    pool: Arc<Pool>,
}

struct Pool {
    settings: Settings,
    crew: PerProcess<Arc<Crew>>,
}

impl Pool {
    fn crew(&self) -> &Arc<Crew> {
        self.crew.get(|| Crew::new(self.settings.clone()))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.crew().close();
    }
}

impl ThreadPool {
    /// A pool of up to `max_threads` threads, and otherwise with the settings of [`Builder::new`].
    ///
    /// # Panics
    /// If `max_threads` is 0.
    pub fn new(max_threads: usize) -> ThreadPool {
        Builder::new().max_threads(max_threads).build()
    }

    /// Has `f` called on a thread of the pool. It does not wait.
    ///
    /// # Panics
    /// If there is no thread, and none can be started, as in std.
    pub fn spawn<T, F>(&self, f: F) -> Job<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.try_spawn(f) {
            Ok(job) => job,
            Err(error) => panic!("failed to spawn a thread of a pool: {error}"),
        }
    }

    /// As [`spawn`](Self::spawn), but does not panic.
    ///
    /// # Errors
    /// What pthread_create(3) says, if there is no thread, and none can be started. With one thread at
    /// least, the job waits for that.
    pub fn try_spawn<T, F>(&self, f: F) -> io::Result<Job<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let crew = self.pool.crew();
        let job = Job::new(crew, Box::new(f));
        crew.submit(job.work())?;
        Ok(job)
    }

    /// Calls `f` on a thread of the pool and waits for its result: [`unblock`] with this pool.
    /// (gevent's `apply`.)
    ///
    /// # Panics
    /// As [`unblock`].
    #[track_caller]
    pub fn unblock<T, F>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.try_unblock(f) {
            Ok(value) => value,
            Err(error) => panic!("failed to spawn a thread of a pool: {error}"),
        }
    }

    #[track_caller]
    pub(crate) fn try_unblock<T, F>(&self, f: F) -> io::Result<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if rt::had_better_block() {
            // Others must not run now: they would see the thread panicking.
            return Ok(f());
        }
        match self.try_spawn(f)?.join() {
            Ok(value) => Ok(value),
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Calls `f` for every item on the pool's threads and returns the results in the order of the items.
    ///
    /// An item whose call panics gives an `Err`; the others go on. If the caller is killed meanwhile, what
    /// has not begun never will. (gevent's `map`.)
    ///
    /// # Panics
    /// As [`spawn`](Self::spawn).
    ///
    /// # Examples
    /// ```
    /// use greenling::threadpool::ThreadPool;
    ///
    /// let squares = ThreadPool::new(4).map(1..=10, |n| n * n);
    /// assert_eq!(squares.into_iter().map(Result::unwrap).sum::<u32>(), 385);
    /// ```
    #[track_caller]
    pub fn map<I, R>(
        &self,
        items: I,
        f: impl Fn(I::Item) -> R + Send + Sync + 'static,
    ) -> Vec<thread::Result<R>>
    where
        I: IntoIterator<Item: Send + 'static>,
        R: Send + 'static,
    {
        /// Takes back what is left when the caller unwinds.
        struct Left<R: Send + 'static>(std::vec::IntoIter<Job<R>>);

        impl<R: Send + 'static> Drop for Left<R> {
            fn drop(&mut self) {
                for job in self.0.by_ref() {
                    job.cancel();
                }
            }
        }

        let f = Arc::new(f);
        let jobs: Vec<_> = items
            .into_iter()
            .map(|item| {
                let f = f.clone();
                self.spawn(move || f(item))
            })
            .collect();
        let mut left = Left(jobs.into_iter());
        left.0.by_ref().map(Job::join).collect()
    }

    /// Waits until every job has ended, including those that come meanwhile. (gevent's `join`.)
    #[track_caller]
    pub fn join(&self) {
        self.pool.crew().join(None);
    }

    /// As [`join`](Self::join), but waits for at most `timeout`. Says whether all have ended.
    #[track_caller]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.pool.crew().join(Deadline::after(timeout))
    }

    /// How many jobs have not ended, begun or not.
    pub fn len(&self) -> usize {
        self.pool.crew().unfinished()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many threads there are, at work or not.
    pub fn threads(&self) -> usize {
        self.pool.crew().threads()
    }

    /// How many threads there may be.
    pub fn max_threads(&self) -> usize {
        self.pool.settings.max_threads
    }
}

impl UnwindSafe for ThreadPool {}
impl RefUnwindSafe for ThreadPool {}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("max_threads", &self.max_threads())
            .field("threads", &self.threads())
            .field("len", &self.len())
            .finish()
    }
}

//! [`Signals`].

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::Signal;
use super::registry::Post;
use crate::io::Adapter;
use crate::rt;
use crate::thread;

/// How long to wait for a descriptor when there is none to wait for signals with.
const BACKOFF: Duration = Duration::from_millis(100);

/// Gets signals from its making to its end. See the [module](crate::signal).
///
/// Each of several `Signals` gets every signal; several coroutines that wait for one `Signals` share them. It counts:
/// what comes while nobody waits is kept. (The system itself keeps only one of each kind until the handler has run.)
/// It may be used by any thread.
///
/// # Examples
/// ```
/// use greenling::signal::{Signal, Signals};
///
/// let signals = Signals::new(&[Signal::WINCH, Signal::USR2])?;
/// let sleeper = greenling::spawn(move || signals.wait());
/// unsafe { libc::raise(libc::SIGUSR2) };
/// assert_eq!(sleeper.join().unwrap(), Signal::USR2);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Signals {
    // Before `post`, so that hubs have forgotten the descriptor when the next listener gets it.
    note: Adapter<BorrowedFd<'static>>,
    post: Open,
}

/// A post that is closed when this is dropped.
struct Open(&'static Post);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Signals {
    /// Begins to listen for these signals.
    ///
    /// # Errors
    /// `InvalidInput` for signals that nobody can wait for: `SIGKILL`, `SIGSTOP`, and those of a program's own faults
    /// (`SIGSEGV`, `SIGBUS`, `SIGILL`, `SIGFPE`, `SIGSYS`). `EMFILE` when there are too many descriptors.
    pub fn new(signals: &[Signal]) -> io::Result<Signals> {
        rt::prepare_io()?;
        let post = Open(Post::open(signals)?);
        Ok(Signals { note: Adapter::from_nonblocking(post.0.note()), post })
    }

    /// One attempt.
    fn take(&self) -> io::Result<Signal> {
        self.post.0.take_note();
        self.post.0.take().ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Waits for a signal; of several that have come, the one with the lowest number.
    #[track_caller]
    pub fn wait(&self) -> Signal {
        loop {
            match self.note.read_with(|_| self.take()) {
                Ok(signal) => return signal,
                Err(error) => self.without_descriptors(&error),
            }
        }
    }

    /// Waits for a signal for at most `timeout`.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Signal> {
        let Some(deadline) = Instant::now().checked_add(timeout) else { return Some(self.wait()) };
        loop {
            match self.note.read_with_deadline(deadline, |_| self.take()) {
                Ok(signal) => return Some(signal),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return None,
                Err(_) if Instant::now() >= deadline => return None,
                Err(error) => self.without_descriptors(&error),
            }
        }
    }

    /// This hub, another than the one that the listener was made on, cannot wait for descriptors.
    #[cold]
    #[track_caller]
    fn without_descriptors(&self, error: &io::Error) {
        log::warn!("cannot wait for signals, trying again: {error}");
        thread::sleep(BACKOFF);
    }

    /// A signal that has come already, if there is one.
    pub fn try_wait(&self) -> Option<Signal> {
        self.post.0.take()
    }

    /// One signal after the other, for ever.
    pub fn forever(&self) -> Forever<'_> {
        Forever { signals: self }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signals").field(&self.post.0.signals()).finish()
    }
}

/// An iterator over the signals that come. See [`Signals::forever`].
#[derive(Debug)]
pub struct Forever<'a> {
    signals: &'a Signals,
}

impl Iterator for Forever<'_> {
    type Item = Signal;

    #[track_caller]
    fn next(&mut self) -> Option<Signal> {
        Some(self.signals.wait())
    }
}

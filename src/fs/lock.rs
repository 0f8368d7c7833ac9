//! Locks of whole files, between processes: flock(2).

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::File;
use crate::rt;
use crate::threadpool::{Builder, ThreadPool};

/// Why [`File::try_lock`] has not locked: `std::fs::TryLockError`.
///
/// # Examples
/// ```
/// use greenling::fs::{File, TryLockError};
///
/// let (one, other) = (File::open("/etc/passwd")?, File::open("/etc/passwd")?);
/// one.lock()?;
/// assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
/// # Ok::<(), std::io::Error>(())
/// ```
pub enum TryLockError {
    /// What flock(2) says.
    Error(io::Error),
    /// Another handle of the file has a lock that excludes this one.
    WouldBlock,
}

impl fmt::Debug for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryLockError::Error(error) => error.fmt(f),
            TryLockError::WouldBlock => f.write_str("WouldBlock"),
        }
    }
}

impl fmt::Display for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryLockError::Error(_) => "the file could not be locked because of an I/O error",
            TryLockError::WouldBlock => {
                "the file could not be locked because the operation would block"
            }
        })
    }
}

impl Error for TryLockError {}

impl From<TryLockError> for io::Error {
    fn from(error: TryLockError) -> io::Error {
        match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        }
    }
}

/// Threads that wait for locks. Not those of `unblock`: if waiters took all of these, whoever holds the lock could not
/// finish what it is at. And without a limit, so that no waiter waits for another one's thread.
static WAITERS: LazyLock<ThreadPool> =
    LazyLock::new(|| Builder::new().max_threads(usize::MAX).thread_name("file locks").build());

fn flock(fd: &impl AsRawFd, operation: i32) -> io::Result<()> {
    loop {
        // SAFETY: it has no memory to touch, and the descriptor is open while it is borrowed.
        if unsafe { libc::flock(fd.as_raw_fd(), operation) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// What has become of a wait for a lock, known to the one who waits and the thread that does it.
#[derive(Clone, Copy, PartialEq)]
enum Claim {
    Waiting,
    Locked,
    Abandoned,
}

/// The part of the one who waits. Dropped early, by a kill or a time limit, it sees to it that no lock is left over.
struct Waiter<'a> {
    claim: Arc<Mutex<Claim>>,
    file: &'a File,
    finished: bool,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        match *claim {
            // It was locked in the last moment, and nobody will know.
            Claim::Locked => drop(flock(self.file, libc::LOCK_UN)),
            _ => *claim = Claim::Abandoned,
        }
    }
}

impl File {
    /// Locks the file for this handle alone; waits while another handle has a lock, in this process or another.
    ///
    /// A lock binds only those who ask for it. It ends with [`unlock`](Self::unlock), or when the handle and its clones
    /// are closed. A handle that has a lock already gives it up for the new one. A wait takes a thread of its own. If it
    /// is ended by a kill or a time limit, the handle has no lock.
    ///
    /// # Errors
    /// What flock(2) says; `WouldBlock` if no thread can be started.
    ///
    /// # Examples
    /// ```
    /// use greenling::fs::File;
    ///
    /// let file = File::open("/etc/passwd")?;
    /// file.lock_shared()?;
    /// file.unlock()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn lock(&self) -> io::Result<()> {
        self.wait_for_lock(libc::LOCK_EX)
    }

    /// As [`lock`](Self::lock), for a lock that any number of handles may have, while none has the other kind.
    ///
    /// # Errors
    /// As for `lock`.
    #[track_caller]
    pub fn lock_shared(&self) -> io::Result<()> {
        self.wait_for_lock(libc::LOCK_SH)
    }

    /// As [`lock`](Self::lock), without waiting.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if another handle has a lock.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        self.lock_at_once(libc::LOCK_EX)
    }

    /// As [`lock_shared`](Self::lock_shared), without waiting.
    ///
    /// # Errors
    /// As for [`try_lock`](Self::try_lock).
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        self.lock_at_once(libc::LOCK_SH)
    }

    /// Gives the lock up. No lock is no error.
    ///
    /// # Errors
    /// What flock(2) says.
    pub fn unlock(&self) -> io::Result<()> {
        flock(self, libc::LOCK_UN)
    }

    fn lock_at_once(&self, operation: i32) -> Result<(), TryLockError> {
        flock(self, operation | libc::LOCK_NB).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                rt::charge_look();
                TryLockError::WouldBlock
            }
            _ => TryLockError::Error(error),
        })
    }

    #[track_caller]
    fn wait_for_lock(&self, operation: i32) -> io::Result<()> {
        match self.lock_at_once(operation) {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        // The thread has a descriptor of its own, so that it does not matter what becomes of this one. A lock belongs
        // to what both are handles of.
        let file: OwnedFd = std::os::fd::AsFd::as_fd(self).try_clone_to_owned()?;
        let claim = Arc::new(Mutex::new(Claim::Waiting));
        let mut waiter = Waiter { claim: claim.clone(), file: self, finished: false };
        let result = WAITERS.try_unblock(move || {
            let result = flock(&file, operation);
            let mut claim = claim.lock().unwrap_or_else(PoisonError::into_inner);
            match (*claim, &result) {
                (Claim::Abandoned, Ok(())) => drop(flock(&file, libc::LOCK_UN)),
                (_, Ok(())) => *claim = Claim::Locked,
                (_, Err(_)) => {}
            }
            result
        });
        waiter.finished = true;
        result?
    }
}

//! Every error type of the crate.

#![forbid(unsafe_code)]

use std::fmt;

mod queue;

pub use queue::{
    GetError, GetTimeoutError, PoolFull, PutError, PutTimeoutError, TryGetError, TryPutError,
};

/// What a coroutine that was killed ends with: [`JoinHandle::join`](crate::thread::JoinHandle::join)
/// returns an `Err` whose payload is of this type.
///
/// A kill unwinds its coroutine as a panic does, so that destructors run, but without the panic hook
/// and hence without a message. The semantics are those of gevent's `GreenletExit`.
///
/// # Examples
/// ```
/// use greenling::error::Killed;
///
/// let sleeper = greenling::spawn(|| greenling::sleep(std::time::Duration::from_secs(3600)));
/// sleeper.kill();
/// let payload = sleeper.join().unwrap_err();
/// assert!(payload.is::<Killed>());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Killed;

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the coroutine was killed")
    }
}

impl std::error::Error for Killed {}

/// [`hub::shutdown`](crate::hub::shutdown) ran out of time: some coroutines have not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StillRunning {
    /// How many are left.
    pub coroutines: usize,
}

impl fmt::Display for StillRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.coroutines;
        write!(
            f,
            "{n} coroutine{} still running after the grace period",
            if n == 1 { "" } else { "s" }
        )
    }
}

impl std::error::Error for StillRunning {}

/// A [`local!`](crate::local!) value was used after its coroutine had dropped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the coroutine-local value has been dropped")
    }
}

impl std::error::Error for AccessError {}

/// [`timeout`](crate::timeout): the time was up before the code had come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit has passed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(_: Elapsed) -> std::io::Error {
        std::io::ErrorKind::TimedOut.into()
    }
}

/// A generator yields nothing more: the error of
/// [`Generator::send`](crate::generator::Generator::send).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Finished<In> {
    /// What was sent, if the generator had finished before and did not take it.
    pub input: Option<In>,
}

impl<In> fmt::Debug for Finished<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finished").finish_non_exhaustive()
    }
}

impl<In> fmt::Display for Finished<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the generator has finished")
    }
}

impl<In> std::error::Error for Finished<In> {}

/// A greenlet could not be reached: the error of [`Greenlet::switch`](crate::greenlet::Greenlet::switch),
/// with the message, and of [`Greenlet::throw`](crate::greenlet::Greenlet::throw), with the payload.
#[non_exhaustive]
pub enum SwitchError<T> {
    /// It has finished.
    Dead(T),
    /// It runs already: in another coroutine, which waits for something inside of it, or further out, with the
    /// caller inside of it.
    Busy(T),
    /// Nothing can be thrown into it: it has switched away in the middle of unwinding.
    Unwinding(T),
    /// The caller itself is being dropped. Nobody could ever switch back to it, so it has to end.
    Dropped(T),
    /// The caller is the base already, of this family. The type of the messages is the family, and a number that
    /// does not say its type is an `i32`: maybe `Greenlet::<u64>::base()` was meant.
    AtBase(T),
    /// It was reached. But what has come back is no message: it is the end of a greenlet, by a kill.
    Killed,
}

impl<T> SwitchError<T> {
    /// What did not arrive.
    pub fn into_inner(self) -> Option<T> {
        match self {
            SwitchError::Dead(value)
            | SwitchError::Busy(value)
            | SwitchError::Unwinding(value)
            | SwitchError::Dropped(value)
            | SwitchError::AtBase(value) => Some(value),
            SwitchError::Killed => None,
        }
    }

    fn variant(&self) -> (&'static str, &'static str) {
        match self {
            SwitchError::Dead(_) => ("Dead", "the greenlet has finished"),
            SwitchError::Busy(_) => ("Busy", "the greenlet runs elsewhere"),
            SwitchError::Unwinding(_) => ("Unwinding", "the greenlet is unwinding"),
            SwitchError::Dropped(_) => ("Dropped", "the calling greenlet is being dropped"),
            SwitchError::AtBase(_) => ("AtBase", "the caller is the base of this family already"),
            SwitchError::Killed => ("Killed", "a greenlet was killed before it had a message"),
        }
    }
}

impl<T> fmt::Debug for SwitchError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SwitchError::Killed => f.write_str("Killed"),
            _ => f.debug_tuple(self.variant().0).finish_non_exhaustive(),
        }
    }
}

impl<T> fmt::Display for SwitchError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.variant().1)
    }
}

impl<T> std::error::Error for SwitchError<T> {}

/// A greenlet was not killed: the error of [`Greenlet::kill`](crate::greenlet::Greenlet::kill).
#[non_exhaustive]
pub enum KillError<M> {
    /// It has caught the unwinding and goes on. Somebody has switched to the killer meanwhile: with this
    /// message, or with none if that was the end of another greenlet by a kill.
    Survived(Option<M>),
    /// It runs already: see [`SwitchError::Busy`].
    Busy,
    /// It is unwinding already, and has switched away or is the caller.
    Unwinding,
    /// The base cannot be killed.
    Base,
    /// The caller itself is being dropped: see [`SwitchError::Dropped`].
    Dropped,
}

impl<M> KillError<M> {
    fn variant(&self) -> (&'static str, &'static str) {
        match self {
            KillError::Survived(_) => ("Survived", "the greenlet has caught its kill"),
            KillError::Busy => ("Busy", "the greenlet runs elsewhere"),
            KillError::Unwinding => ("Unwinding", "the greenlet is unwinding"),
            KillError::Base => ("Base", "the base cannot be killed"),
            KillError::Dropped => ("Dropped", "the calling greenlet is being dropped"),
        }
    }
}

impl<M> fmt::Debug for KillError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.variant().0)
    }
}

impl<M> fmt::Display for KillError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.variant().1)
    }
}

impl<M> std::error::Error for KillError<M> {}

/// A greenlet's parent cannot be what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParentError {
    /// It would be its own ancestor.
    Cycle,
    /// The base has no parent.
    Base,
}

impl fmt::Display for ParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParentError::Cycle => "a greenlet cannot be its own ancestor",
            ParentError::Base => "the base has no parent",
        })
    }
}

impl std::error::Error for ParentError {}

/// [`Semaphore::add_permits`](crate::sync::Semaphore::add_permits): more than the semaphore may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooManyPermits;

impl fmt::Display for TooManyPermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more permits than the semaphore may have")
    }
}

impl std::error::Error for TooManyPermits {}

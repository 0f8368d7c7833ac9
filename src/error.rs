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

//! Errors of queues and pools. Each gives back what could not be handed over.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

/// `put`: the queue is closed. The item comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PutError<T>(pub T);

/// `try_put`: the item, and why it was not taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TryPutError<T> {
    /// The queue is full and nobody waits for an item.
    Full(T),
    /// The queue is closed.
    Closed(T),
}

/// `put_timeout`: the item, and why it was not taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PutTimeoutError<T> {
    /// The time was up before there was room.
    Timeout(T),
    /// The queue is closed.
    Closed(T),
}

/// `get`: the queue is closed and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetError;

/// `try_get`: why there is no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryGetError {
    /// There is none at this moment.
    Empty,
    /// The queue is closed and empty: there will be none.
    Closed,
}

/// `get_timeout`: why there is no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetTimeoutError {
    /// The time was up before one came.
    Timeout,
    /// The queue is closed and empty: there will be none.
    Closed,
}

/// A [`Pool`](crate::pool::Pool) had no free slot. The function comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PoolFull<F>(pub F);

impl<T> PutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> TryPutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            TryPutError::Full(item) | TryPutError::Closed(item) => item,
        }
    }

    /// Whether the queue was full.
    pub fn is_full(&self) -> bool {
        matches!(self, TryPutError::Full(_))
    }

    /// Whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        matches!(self, TryPutError::Closed(_))
    }
}

impl<T> PutTimeoutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            PutTimeoutError::Timeout(item) | PutTimeoutError::Closed(item) => item,
        }
    }

    /// Whether the time was up.
    pub fn is_timeout(&self) -> bool {
        matches!(self, PutTimeoutError::Timeout(_))
    }

    /// Whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        matches!(self, PutTimeoutError::Closed(_))
    }
}

impl<F> PoolFull<F> {
    /// The function that was not spawned.
    pub fn into_inner(self) -> F {
        self.0
    }
}

const CLOSED: &str = "the queue is closed";
const CLOSED_AND_EMPTY: &str = "the queue is closed and empty";

// As in std: the item need not be `Debug`, so that the errors can always be unwrapped.
impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutError").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CLOSED)
    }
}

impl<T> Error for PutError<T> {}

impl<T> fmt::Debug for TryPutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "Full(..)" } else { "Closed(..)" })
    }
}

impl<T> fmt::Display for TryPutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "the queue is full" } else { CLOSED })
    }
}

impl<T> Error for TryPutError<T> {}

impl<T> fmt::Debug for PutTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_timeout() { "Timeout(..)" } else { "Closed(..)" })
    }
}

impl<T> fmt::Display for PutTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_timeout() {
            "timed out waiting for room in the queue"
        } else {
            CLOSED
        })
    }
}

impl<T> Error for PutTimeoutError<T> {}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CLOSED_AND_EMPTY)
    }
}

impl Error for GetError {}

impl fmt::Display for TryGetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryGetError::Empty => "the queue is empty",
            TryGetError::Closed => CLOSED_AND_EMPTY,
        })
    }
}

impl Error for TryGetError {}

impl fmt::Display for GetTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GetTimeoutError::Timeout => "timed out waiting for an item of the queue",
            GetTimeoutError::Closed => CLOSED_AND_EMPTY,
        })
    }
}

impl Error for GetTimeoutError {}

impl<F> fmt::Debug for PoolFull<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolFull").finish_non_exhaustive()
    }
}

impl<F> fmt::Display for PoolFull<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool has no free slot")
    }
}

impl<F> Error for PoolFull<F> {}

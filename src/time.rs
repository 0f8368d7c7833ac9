//! Time limits over any code, and `std::time`'s names.

#![forbid(unsafe_code)]

use crate::rt::{self, Deadline, Shield};

pub use crate::error::Elapsed;
pub use crate::thread::{sleep, sleep_until};
pub use std::time::*;

/// Calls `f`, for at most `limit`.
///
/// When the time is up, the wait that the coroutine is in, or its next one, unwinds to here; destructors
/// run. Code that does not wait is not interrupted, and if `f` returns, its value counts, however late. A
/// limit of zero ends the first wait. Limits nest: an outer one may fire through an inner one, and each
/// unwinds exactly to its own call. (gevent's `Timeout`.)
///
/// # Errors
/// [`Elapsed`] if the time was up first.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::{sleep, timeout};
///
/// assert_eq!(timeout(Duration::from_secs(10), || 42), Ok(42));
/// let late = timeout(Duration::from_millis(5), || sleep(Duration::from_secs(10)));
/// assert!(late.is_err());
/// ```
pub fn timeout<T>(limit: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    rt::with_limit(Deadline::after(limit), f).ok_or(Elapsed)
}

/// Calls `f`, in which neither a kill nor a time limit interrupts the coroutine. They take effect at the
/// first wait after it.
///
/// For the short stretch of code that must not be torn apart. A shielded wait that does not end cannot be
/// ended from outside.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::{sleep, timeout};
///
/// let done = timeout(Duration::from_millis(1), || {
///     greenling::time::shield(|| sleep(Duration::from_millis(20)));
///     "complete"
/// });
/// assert_eq!(done, Ok("complete"));
/// ```
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    let _shield = Shield::new();
    f()
}

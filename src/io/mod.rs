//! Waiting for descriptors, and `std::io`'s names.
//!
//! [`Adapter`] makes any descriptor that the kernel can wait for cooperative: a socket, a pipe, a
//! terminal, an eventfd. [`pipe`], [`stdin`], [`stdout`] and [`stderr`] are std's, but let other coroutines run while
//! they wait; [`poll`] waits for many descriptors at once. Everything else here is `std::io`'s.

mod adapter;
pub(crate) mod nowait;
pub(crate) mod pipe;
mod poll;
mod stdio;

pub use adapter::{Adapter, wait_readable, wait_writable};
pub(crate) use nowait::Plain;
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use poll::{PollFd, poll};
pub use std::io::*;
pub use stdio::{Stderr, StderrLock, Stdin, StdinLock, Stdout, StdoutLock, stderr, stdin, stdout};

//! Waiting for descriptors, and `std::io`'s names.
//!
//! [`Adapter`] makes any descriptor that the kernel can wait for cooperative: a socket, a pipe, a
//! terminal, an eventfd. The crate's own sockets are built on it. Everything else here is `std::io`'s.

#![forbid(unsafe_code)]

mod adapter;

pub use adapter::{Adapter, wait_readable, wait_writable};
pub use std::io::*;

//! Our channels, used by plain threads.

pub(crate) use greenling::sync::mpsc;
pub(crate) use std::thread;

#[path = "bounded.rs"]
mod bounded;
#[path = "traits.rs"]
mod traits;
#[path = "unbounded.rs"]
mod unbounded;

//! Our channels, used by coroutines of one thread.

pub(crate) use greenling::sync::mpsc;
pub(crate) use greenling::thread;

#[path = "bounded.rs"]
mod bounded;
#[path = "traits.rs"]
mod traits;
#[path = "unbounded.rs"]
mod unbounded;

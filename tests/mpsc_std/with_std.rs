//! What std does, which is what the tests claim.

pub(crate) use std::sync::mpsc;
pub(crate) use std::thread;

#[path = "bounded.rs"]
mod bounded;
#[path = "traits.rs"]
mod traits;
#[path = "unbounded.rs"]
mod unbounded;

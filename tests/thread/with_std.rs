//! What std does, which is what the tests claim.

pub(crate) use std::thread;

#[path = "cases.rs"]
mod cases;

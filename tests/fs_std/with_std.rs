//! What std does, which is what the tests claim.

pub(crate) use std::fs;
pub(crate) use std::os::unix::fs as unix;

#[path = "cases.rs"]
mod cases;

//! What the crate does.

pub(crate) use greenling::fs;
pub(crate) use greenling::os::unix::fs as unix;

#[path = "cases.rs"]
mod cases;

//! What std does, which is what the tests claim.

pub(crate) use std::os::unix::process::{CommandExt, ExitStatusExt};
pub(crate) use std::{fs, process, thread};

#[path = "cases.rs"]
mod cases;

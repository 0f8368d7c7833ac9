//! What std does, which is what the tests claim.

pub(crate) use std::{os::unix::net, thread};

#[path = "cases.rs"]
mod cases;

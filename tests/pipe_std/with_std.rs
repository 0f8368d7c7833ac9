//! What the system does. (`std::io::pipe` is younger than the oldest Rust that the crate supports.)

pub(crate) use crate::common::pipe;
pub(crate) use std::{process, thread};

#[path = "cases.rs"]
mod cases;

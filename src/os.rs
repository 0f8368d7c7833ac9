//! What only some systems have, in the places where std has it.

pub mod linux;
pub mod unix;

pub use std::os::{fd, raw};

//! Pipes behave as std's do, and waiting for them lets others run.

#![allow(clippy::duplicate_mod, reason = "the cases are compiled for std's pipes and for ours")]

mod common;

#[path = "pipe_std/own.rs"]
mod own;
#[path = "pipe_std/with_greenling.rs"]
mod with_greenling;
#[path = "pipe_std/with_std.rs"]
mod with_std;

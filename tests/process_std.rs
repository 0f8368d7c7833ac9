//! Processes behave as std's do, and waiting for them lets others run.

#![allow(clippy::duplicate_mod, reason = "the cases are compiled for std's processes and for ours")]

#[path = "common/child.rs"]
mod child;
mod common;

#[path = "process_std/faults.rs"]
mod faults;
#[path = "process_std/waiting.rs"]
mod waiting;
#[path = "process_std/with_greenling.rs"]
mod with_greenling;
#[path = "process_std/with_std.rs"]
mod with_std;

//! Coroutines behave as threads do, and beyond that as documented.

#![allow(clippy::duplicate_mod, reason = "the cases are compiled for std's threads and for ours")]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/logger.rs"]
mod logger;

#[path = "thread/killing.rs"]
mod killing;
#[path = "thread/panics.rs"]
mod panics;
#[path = "thread/running.rs"]
mod running;
#[path = "thread/unwinding.rs"]
mod unwinding;
#[path = "thread/with_greenling.rs"]
mod with_greenling;
#[path = "thread/with_std.rs"]
mod with_std;

//! The hub of a thread: handle, settings, counters, fairness, and how it ends.

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/logger.rs"]
mod logger;

#[path = "hub/ending.rs"]
mod ending;
#[path = "hub/fairness.rs"]
mod fairness;
#[path = "hub/fork.rs"]
mod fork;
#[path = "hub/handle.rs"]
mod handle;
#[path = "hub/shutdown.rs"]
mod shutdown;
#[path = "hub/stacks.rs"]
mod stacks;
#[path = "hub/stats.rs"]
mod stats;
#[path = "hub/thread_locals.rs"]
mod thread_locals;

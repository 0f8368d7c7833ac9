//! What std does, which is what the tests claim.

pub(crate) use std::{sync, thread};

#[path = "mutex.rs"]
mod mutex;
#[path = "once.rs"]
mod once;
#[path = "rwlock.rs"]
mod rwlock;
#[path = "together.rs"]
mod together;

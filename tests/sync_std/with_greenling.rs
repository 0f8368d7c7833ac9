//! What the crate does. All on one thread, so that whatever does not wait cooperatively hangs.

pub(crate) use greenling::{sync, thread};

#[path = "mutex.rs"]
mod mutex;
#[path = "once.rs"]
mod once;
#[path = "rwlock.rs"]
mod rwlock;
#[path = "together.rs"]
mod together;

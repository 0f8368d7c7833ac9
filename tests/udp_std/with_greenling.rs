//! What the crate does. All on one thread, so that whatever does not wait cooperatively hangs.

pub(crate) use greenling::{net, thread};

#[path = "cases.rs"]
mod cases;

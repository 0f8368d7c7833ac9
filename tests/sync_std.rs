//! The locks behave as std's: every case is compiled, and passes, with `std::sync` and `std::thread`, and with the
//! crate's.

#![allow(clippy::needless_late_init, reason = "the order of drops is what is tested")]
#![allow(clippy::duplicate_mod, reason = "the cases are compiled for std and for us")]

mod common;

#[path = "sync_std/with_greenling.rs"]
mod with_greenling;
#[path = "sync_std/with_std.rs"]
mod with_std;

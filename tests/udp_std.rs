//! The UDP socket does what std's does: the same tests run on both. What std cannot do comes after.

#![allow(clippy::duplicate_mod, reason = "the tests are compiled for std's sockets and for ours")]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/sockets.rs"]
mod sockets;

#[path = "udp_std/faults.rs"]
mod faults;
#[path = "udp_std/with_greenling.rs"]
mod with_greenling;
#[path = "udp_std/with_std.rs"]
mod with_std;

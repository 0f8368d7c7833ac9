//! The sockets do what std's do: the same tests run on both.

#![allow(clippy::duplicate_mod, reason = "the tests are compiled for std's sockets and for ours")]

mod common;
#[path = "common/sockets.rs"]
mod sockets;

#[path = "tcp_std/with_greenling.rs"]
mod with_greenling;
#[path = "tcp_std/with_std.rs"]
mod with_std;

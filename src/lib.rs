#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("greenling supports x86_64 and aarch64");
#[cfg(not(target_os = "linux"))]
compile_error!("greenling supports Linux only");

mod rt;

/// The guide, whose code is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide.md")]
mod guide {}

pub mod block_on;
pub mod debug;
pub mod error;
pub mod event;
pub mod fs;
pub mod generator;
pub mod greenlet;
pub mod hub;
pub mod io;
pub mod local;
pub mod net;
pub mod os;
#[cfg(feature = "patch")]
pub mod patch;
pub mod pool;
pub mod process;
pub mod queue;
pub mod select;
pub mod server;
pub mod signal;
pub mod sync;
pub mod thread;
pub mod threadpool;
pub mod time;

pub use block_on::block_on;
pub use error::{Elapsed, Killed};
pub use thread::{
    JoinHandle, current, join_all, join_any, scope, sleep, spawn, spawn_later, yield_now,
};
pub use time::timeout;

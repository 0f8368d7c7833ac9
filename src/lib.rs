#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("greenling supports x86_64 and aarch64");
#[cfg(not(target_os = "linux"))]
compile_error!("greenling supports Linux only");

mod rt;

pub mod error;
pub mod hub;
pub mod io;
pub mod net;
pub mod thread;

pub use error::Killed;
pub use thread::{JoinHandle, current, sleep, spawn, yield_now};

//! What Linux has: `std::os::linux`.

#![forbid(unsafe_code)]

pub use std::os::linux::fs;

/// What Linux has beyond [`os::unix::net`](super::unix::net): abstract names of sockets, options of TCP.
pub mod net {
    pub use crate::net::linux::TcpStreamExt;
    pub use std::os::linux::net::*;
}

//! What Linux has: `std::os::linux`.

#![forbid(unsafe_code)]

/// What Linux has beyond [`os::unix::net`](super::unix::net): abstract names of sockets.
pub mod net {
    pub use std::os::linux::net::*;
}

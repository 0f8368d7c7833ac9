//! Servers measured side by side.
//!
//! A [server](measure::Subject) is any program that serves on a port of the loopback interface. It runs on one
//! processor, and a [load generator](load), a process of its own that compares every byte, on another. All
//! servers of a comparison stand ready at once and take short turns, so that whatever else the machine does
//! falls on all of them alike; a ratio is that of two turns that follow each other.
//!
//! Two programs use it here, `echo` and `vs_threads`, and `benches/peers` has the third.

pub mod chart;
pub mod load;
pub mod measure;
pub mod report;
pub mod role;
pub mod server;
pub mod stats;
pub mod strace;
pub mod sys;

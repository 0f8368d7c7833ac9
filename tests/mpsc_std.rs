//! Channels behave as std's do: the same cases for std's channels between threads, for ours between
//! coroutines, and for ours between plain threads.

#![allow(
    clippy::duplicate_mod,
    reason = "the cases are compiled for three pairs of channel and thread"
)]

mod common;

#[path = "mpsc_std/ours_between_coroutines.rs"]
mod ours_between_coroutines;
#[path = "mpsc_std/ours_between_threads.rs"]
mod ours_between_threads;
#[path = "mpsc_std/with_std.rs"]
mod with_std;

//! What is still to be fetched, and what has been seen.

mod journal;
mod memory;
#[cfg(feature = "redis")]
mod shared;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::time::Duration;

use crate::page::Job;

pub(crate) use memory::Memory;
#[cfg(feature = "redis")]
pub(crate) use shared::Shared;

/// How things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) queued: usize,
    pub(crate) in_flight: usize,
    pub(crate) seen: usize,
}

/// What bounds a crawl.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_pages: Option<u64>,
    /// At a time.
    pub(crate) per_host: usize,
    /// Between the beginnings of two pages of a host.
    pub(crate) delay: Duration,
    /// Addresses that differ in their query only.
    pub(crate) max_queries: u32,
}

/// The frontier: each address is handed out once, in the order in which addresses were found, host by host.
pub(crate) trait Frontier: Send + Sync {
    /// Takes in what has not been seen yet.
    fn add(&self, found: Vec<Job>) -> io::Result<()>;

    /// The next page to fetch; waits until there is one that may be fetched. `None` when all is done, or
    /// the crawl is to stop.
    fn next(&self) -> io::Result<Option<Job>>;

    /// A page is done, and these links were found in it. `fetched` is false if nothing was asked of its
    /// host.
    fn done(&self, job: &Job, fetched: bool, found: Vec<Job>) -> io::Result<()>;

    /// A host asks for more time between pages.
    fn slow_down(&self, host: &str, delay: Duration);

    /// Hands out no more pages.
    fn stop(&self);

    fn counts(&self) -> Counts;
}

/// Stands for an address: 128 bits, so that two of them never meet.
fn fingerprint(text: &str) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, text).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

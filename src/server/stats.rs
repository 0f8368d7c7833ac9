//! What a server has counted.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a server has done since its start, in connections (datagrams for a
/// [`DatagramServer`](super::DatagramServer)).
///
/// `accepted` is the sum of `active`, `completed`, `failed`, `timed_out`, `panicked` and `killed`, as seen
/// from the server's own thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// All that were given a coroutine.
    pub accepted: u64,
    /// Those that are being served.
    pub active: u64,
    /// The most that were served at a time.
    pub peak: u64,
    /// Handlers that have returned `Ok`.
    pub completed: u64,
    /// Handlers that have returned an error, and connections that could not be wrapped (TLS handshakes).
    pub failed: u64,
    /// Handlers that were ended by the server's [`deadline`](super::StreamServer::deadline).
    pub timed_out: u64,
    /// Handlers that have panicked.
    pub panicked: u64,
    /// Handlers that were killed: at the end of the grace of a stop, or by the end of the hub.
    pub killed: u64,
    /// Errors of `accept`, of `recv_from`, and of spawning.
    pub accept_errors: u64,
}

/// The same, while they are being counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) active: AtomicU64,
    pub(super) peak: AtomicU64,
    pub(super) completed: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) panicked: AtomicU64,
    pub(super) killed: AtomicU64,
    pub(super) accept_errors: AtomicU64,
}

/// Only the server's own thread counts, so that no locked instruction is needed.
pub(super) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

impl Counters {
    pub(super) fn begin(&self) {
        count(&self.accepted);
        let active = self.active.load(Relaxed) + 1;
        self.active.store(active, Relaxed);
        self.peak.store(self.peak.load(Relaxed).max(active), Relaxed);
    }

    /// Takes back what the beginning and the end of one have counted that could not be spawned.
    pub(super) fn withdraw(&self) {
        for counter in [&self.accepted, &self.killed] {
            counter.store(counter.load(Relaxed) - 1, Relaxed);
        }
    }

    pub(super) fn end(&self) {
        self.active.store(self.active.load(Relaxed) - 1, Relaxed);
    }

    pub(super) fn read(&self) -> Stats {
        let value = |counter: &AtomicU64| counter.load(Relaxed);
        Stats {
            accepted: value(&self.accepted),
            active: value(&self.active),
            peak: value(&self.peak),
            completed: value(&self.completed),
            failed: value(&self.failed),
            timed_out: value(&self.timed_out),
            panicked: value(&self.panicked),
            killed: value(&self.killed),
            accept_errors: value(&self.accept_errors),
        }
    }
}

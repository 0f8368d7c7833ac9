//! What is counted while a crawl runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::page::Page;

/// The upper ends of the histogram's classes, in milliseconds; the last class has none.
pub(crate) const CLASSES: [u64; 11] = [10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000];
/// How many broken links are kept for the report.
pub(crate) const MOST_BROKEN: usize = 1000;

#[derive(Debug)]
pub(crate) struct Stats {
    start: Instant,
    counts: Mutex<Counted>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    /// Pages that were asked for.
    pub(crate) pages: u64,
    pub(crate) bytes: u64,
    pub(crate) retries: u64,
    pub(crate) skipped: BTreeMap<String, u64>,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) times: [u64; CLASSES.len() + 1],
    pub(crate) hosts: HashMap<String, HostTimes>,
    /// The first of the broken ones.
    pub(crate) broken: Vec<Broken>,
    pub(crate) broken_in_all: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostTimes {
    pub(crate) pages: u64,
    pub(crate) ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) url: String,
    pub(crate) why: String,
    pub(crate) from: Vec<String>,
}

impl Stats {
    pub(crate) fn new() -> Stats {
        Stats { start: Instant::now(), counts: Mutex::default() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn get(&self) -> MutexGuard<'_, Counted> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, page: &Page, host: &str) {
        let mut counts = self.get();
        if let Some(why) = &page.skipped {
            let why = why.split(':').next().unwrap_or(why);
            *counts.skipped.entry(why.to_owned()).or_default() += 1;
            return;
        }
        counts.pages += 1;
        counts.bytes += page.bytes;
        counts.retries += u64::from(page.attempts.saturating_sub(1));
        if let Some(status) = page.status {
            *counts.statuses.entry(status).or_default() += 1;
        }
        if let Some(error) = &page.error {
            *counts.errors.entry(error.clone()).or_default() += 1;
        }
        counts.times[CLASSES.partition_point(|end| *end < page.ms)] += 1;
        let times = counts.hosts.entry(host.to_owned()).or_default();
        times.pages += 1;
        times.ms += page.ms;
        if page.is_broken() {
            counts.broken_in_all += 1;
            if counts.broken.len() < MOST_BROKEN {
                counts.broken.push(Broken {
                    url: page.url.clone(),
                    why: why_broken(page),
                    from: page.from.iter().cloned().collect(),
                });
            }
        }
    }
}

pub(crate) fn why_broken(page: &Page) -> String {
    match (&page.error, page.status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => format!("status {status}"),
        (None, None) => "unknown".to_owned(),
    }
}

impl Counted {
    /// The hosts that take longest, and their mean times in milliseconds.
    pub(crate) fn slowest_hosts(&self, count: usize) -> Vec<(&str, u64)> {
        let means = self.hosts.iter().map(|(host, times)| (&**host, times.ms / times.pages.max(1)));
        let mut means: Vec<_> = means.collect();
        means.sort_by_key(|(host, ms)| (std::cmp::Reverse(*ms), *host));
        means.truncate(count);
        means
    }

    pub(crate) fn errors(&self) -> u64 {
        self.broken_in_all
    }
}

//! The frontier of a single crawler: in the process, and in a file.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::journal::{Journal, Past, written_but_pending};
use super::{Counts, Frontier, Limits, fingerprint};
use crate::page::{Job, Page};

/// See the module's documentation. Whoever waits for a page waits on a plain condition variable.
#[derive(Debug)]
pub(crate) struct Memory {
    state: Mutex<State>,
    changed: Condvar,
    limits: Limits,
}

#[derive(Debug, Default)]
struct State {
    hosts: HashMap<String, Host>,
    /// The hosts with pages to fetch, in turn.
    ring: VecDeque<String>,
    seen: HashSet<u128>,
    /// How many queries of an address were taken.
    queries: HashMap<u128, u32>,
    queued: usize,
    in_flight: usize,
    /// Pages that count against the limit.
    handed: u64,
    waiting: usize,
    /// Somebody of those who wait watches the clock.
    watched: bool,
    stopped: bool,
    journal: Option<Journal>,
}

#[derive(Debug)]
struct Host {
    jobs: VecDeque<Job>,
    in_flight: usize,
    ready_at: Instant,
    delay: Duration,
}

enum Taken {
    Job(Box<Job>),
    /// Something has to happen first; not before this time, if there is one.
    Wait(Option<Instant>),
    Finished,
}

impl Memory {
    fn with(limits: Limits, journal: Option<Journal>) -> Memory {
        let state = State { journal, ..State::default() };
        Memory { state: Mutex::new(state), changed: Condvar::new(), limits }
    }

    /// A new crawl, which keeps a journal in `path`.
    pub(crate) fn create(
        limits: Limits,
        path: Option<&Path>,
        seeds: Vec<String>,
    ) -> io::Result<Memory> {
        let journal = path.map(|path| Journal::create(path, seeds)).transpose()?;
        Ok(Memory::with(limits, journal))
    }

    /// The crawl of the journal in `path`, and with what it began. `replay` makes jobs of the links of a page
    /// that was written to the output but is not in the journal.
    pub(crate) fn resume(
        limits: Limits,
        path: &Path,
        output: Option<&Path>,
        replay: impl FnOnce(&[String], Vec<Page>) -> Vec<(Job, Vec<Job>)>,
    ) -> io::Result<(Memory, Vec<String>)> {
        let (journal, past) = Journal::open(path)?;
        let replayed = match output {
            Some(output) => replay(&past.seeds, written_but_pending(output, &past)?),
            None => Vec::new(),
        };
        let memory = Memory::with(limits, None);
        let Past { seeds, seen, pending, fetched } = past;
        {
            let mut state = memory.lock();
            for url in &seen {
                state.is_new(url, &limits);
            }
            state.handed = fetched;
            for job in pending {
                state.enqueue(job, &limits);
            }
            state.journal = Some(journal);
        }
        for (job, found) in replayed {
            let taken = memory.lock().take_exactly(&job);
            if taken {
                memory.done(&job, true, found)?;
            }
        }
        Ok((memory, seeds))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way; and a crawl had better save what it has.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether an address is to be taken; it is not the next time.
    fn is_new(&mut self, url: &str, limits: &Limits) -> bool {
        if self.seen.contains(&fingerprint(url)) {
            return false;
        }
        if let Some((path, _)) = url.split_once('?') {
            let count = self.queries.entry(fingerprint(path)).or_default();
            if *count >= limits.max_queries {
                return false;
            }
            *count += 1;
        }
        self.seen.insert(fingerprint(url))
    }

    fn enqueue(&mut self, job: Job, limits: &Limits) {
        let name = job.host();
        let host = self.hosts.entry(name.clone()).or_insert_with(|| Host {
            jobs: VecDeque::new(),
            in_flight: 0,
            ready_at: Instant::now(),
            delay: limits.delay,
        });
        if host.jobs.is_empty() {
            self.ring.push_back(name);
        }
        host.jobs.push_back(job);
        self.queued += 1;
    }

    fn take(&mut self, limits: &Limits) -> Taken {
        if self.queued == 0 {
            return if self.in_flight == 0 { Taken::Finished } else { Taken::Wait(None) };
        }
        if limits.max_pages.is_some_and(|max| self.handed >= max) {
            // Those under way may turn out not to count.
            return if self.in_flight == 0 { Taken::Finished } else { Taken::Wait(None) };
        }
        let now = Instant::now();
        let mut earliest: Option<Instant> = None;
        for _ in 0..self.ring.len() {
            let Some(name) = self.ring.pop_front() else { break };
            let Some(host) = self.hosts.get_mut(&name) else { continue };
            if host.in_flight >= limits.per_host {
                self.ring.push_back(name);
                continue;
            }
            if host.ready_at > now {
                earliest = Some(earliest.map_or(host.ready_at, |at| at.min(host.ready_at)));
                self.ring.push_back(name);
                continue;
            }
            let Some(job) = host.jobs.pop_front() else { continue };
            if !host.jobs.is_empty() {
                self.ring.push_back(name);
            }
            host.ready_at = now + host.delay;
            host.in_flight += 1;
            self.queued -= 1;
            self.in_flight += 1;
            self.handed += 1;
            return Taken::Job(Box::new(job));
        }
        Taken::Wait(earliest)
    }

    /// Takes this page out of turn, if it is queued.
    fn take_exactly(&mut self, job: &Job) -> bool {
        let Some(host) = self.hosts.get_mut(&job.host()) else { return false };
        let Some(at) = host.jobs.iter().position(|queued| queued.url == job.url) else {
            return false;
        };
        host.jobs.remove(at);
        host.in_flight += 1;
        if host.jobs.is_empty() {
            let name = job.host();
            self.ring.retain(|host| *host != name);
        }
        self.queued -= 1;
        self.in_flight += 1;
        self.handed += 1;
        true
    }
}

impl Frontier for Memory {
    fn add(&self, mut found: Vec<Job>) -> io::Result<()> {
        let mut state = self.lock();
        found.retain(|job| state.is_new(job.url.as_str(), &self.limits));
        if found.is_empty() {
            return Ok(());
        }
        if let Some(journal) = &mut state.journal {
            journal.added(&found)?;
        }
        for job in found {
            state.enqueue(job, &self.limits);
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn next(&self) -> io::Result<Option<Job>> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return Ok(None);
            }
            let until = match state.take(&self.limits) {
                Taken::Job(job) => {
                    // One is woken for each change; who finds something wakes the next.
                    if state.waiting > 0 && state.queued > 0 {
                        self.changed.notify_one();
                    }
                    return Ok(Some(*job));
                }
                Taken::Finished => {
                    state.stopped = true;
                    self.changed.notify_all();
                    return Ok(None);
                }
                Taken::Wait(until) => until.filter(|_| !state.watched),
            };
            state.waiting += 1;
            match until {
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    state.watched = true;
                    let left = until.saturating_duration_since(Instant::now());
                    let woken = self.changed.wait_timeout(state, left);
                    state = woken.unwrap_or_else(PoisonError::into_inner).0;
                    state.watched = false;
                }
            }
            state.waiting -= 1;
        }
    }

    fn done(&self, job: &Job, fetched: bool, mut found: Vec<Job>) -> io::Result<()> {
        let mut state = self.lock();
        found.retain(|job| state.is_new(job.url.as_str(), &self.limits));
        let written = match &mut state.journal {
            Some(journal) => journal.done(job.url.as_str(), fetched, &found),
            None => Ok(()),
        };
        for job in found {
            state.enqueue(job, &self.limits);
        }
        if let Some(host) = state.hosts.get_mut(&job.host()) {
            host.in_flight -= 1;
        }
        state.in_flight -= 1;
        state.handed -= u64::from(!fetched);
        drop(state);
        self.changed.notify_one();
        written
    }

    fn slow_down(&self, host: &str, delay: Duration) {
        let mut state = self.lock();
        if let Some(host) = state.hosts.get_mut(host) {
            host.delay = host.delay.max(delay);
            host.ready_at = host.ready_at.max(Instant::now() + delay);
        }
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn counts(&self) -> Counts {
        let state = self.lock();
        Counts { queued: state.queued, in_flight: state.in_flight, seen: state.seen.len() }
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;

//! What a worker does: take a page, fetch it, hand on what is in it. Plain blocking code: whether a thread or a
//! coroutine runs it, it cannot tell.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use url::Url;

use crate::address::{Scope, normalise};
use crate::fetch::{Answer, Failure, Fetcher};
use crate::frontier::Frontier;
use crate::graph::Graph;
use crate::html;
use crate::options::Options;
use crate::output::Output;
use crate::page::{Job, Page};
use crate::robots::{Robots, Rules, read_sitemaps};
use crate::stats::Stats;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

pub(crate) struct Crawl {
    pub(crate) options: Options,
    pub(crate) scope: Scope,
    pub(crate) frontier: Box<dyn Frontier>,
    pub(crate) fetcher: Fetcher,
    pub(crate) robots: Robots,
    pub(crate) stats: Stats,
    pub(crate) output: Option<Output>,
    pub(crate) graph: Option<Mutex<Graph>>,
    /// Somebody has asked for an end: what is under way may finish, nothing is tried again.
    pub(crate) stopping: AtomicBool,
    /// Why the crawl could not go on.
    pub(crate) failed: Mutex<Option<io::Error>>,
}

impl Crawl {
    /// Fetches page after page until there is none left.
    pub(crate) fn work(&self) {
        if let Err(error) = self.try_work() {
            // A full disk, or a frontier that is gone: to go on would lose pages.
            self.failed.lock().unwrap().get_or_insert(error);
            self.stop();
        }
    }

    fn try_work(&self) -> io::Result<()> {
        while let Some(job) = self.frontier.next()? {
            let (page, found) = self.visit(&job);
            // First what was found out, then that it is done: whatever ends us in between, nothing is lost.
            if let Some(output) = &self.output {
                output.write(&page)?;
            }
            self.frontier.done(&job, page.skipped.is_none(), found)?;
            if let Some(graph) = &self.graph {
                graph.lock().unwrap().add(&page);
            }
            self.stats.add(&page, &job.host());
        }
        Ok(())
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.frontier.stop();
    }

    fn visit(&self, job: &Job) -> (Page, Vec<Job>) {
        let mut page = Page {
            url: job.url.to_string(),
            depth: job.depth,
            from: job.from.clone(),
            ..Page::default()
        };
        if !self.options.no_robots {
            let agent = &self.options.user_agent;
            let rules =
                self.robots.rules(&job.url, &self.fetcher, agent, |rules| self.meet(job, rules));
            page.skipped = rules.refuses(&job.url);
            if page.skipped.is_some() {
                return (page, Vec::new());
            }
        }
        match self.fetch(&job.url, &mut page) {
            Ok(answer) => {
                page.status = Some(answer.status);
                page.media_type = answer.media_type.clone();
                page.bytes = answer.body.len() as u64;
                if answer.too_large {
                    page.error = Some("too large".to_owned());
                    page.detail = Some(format!("more than {} bytes", self.options.max_size));
                }
                let found = self.read(job, &answer, &mut page);
                (page, found)
            }
            Err(failure) => {
                page.error = Some(failure.kind.to_owned());
                page.detail = Some(failure.detail);
                (page, Vec::new())
            }
        }
    }

    /// The first visit to a host.
    fn meet(&self, job: &Job, rules: &Rules) {
        if let Some(delay) = rules.delay {
            self.frontier.slow_down(&job.host(), delay.min(self.options.max_delay));
        }
        if self.options.sitemap && !rules.sitemaps.is_empty() {
            let found = read_sitemaps(&rules.sitemaps, &self.fetcher);
            let jobs = self.jobs(found.into_iter().filter_map(normalise), 0, None);
            if let Err(error) = self.frontier.add(jobs) {
                self.failed.lock().unwrap().get_or_insert(error);
                self.stop();
            }
        }
    }

    /// Fetches, and tries again what may go better next time.
    fn fetch(&self, url: &Url, page: &mut Page) -> Result<Answer, Failure> {
        let mut pause = Duration::from_millis(500);
        loop {
            let start = Instant::now();
            let result = self.fetcher.page(url);
            page.ms = start.elapsed().as_millis() as u64;
            page.attempts += 1;
            let (again, wish) = match &result {
                Ok(answer) => (matches!(answer.status, 429 | 502 | 503 | 504), answer.retry_after),
                Err(failure) => (failure.is_passing(), None),
            };
            let stopping = self.stopping.load(Ordering::Relaxed);
            if !again || page.attempts > self.options.retries || stopping {
                return result;
            }
            thread::sleep(wish.unwrap_or(pause).min(LONGEST_PAUSE));
            pause *= 2;
        }
    }

    /// Reads what came, notes it in `page`, and returns what to fetch next.
    fn read(&self, job: &Job, answer: &Answer, page: &mut Page) -> Vec<Job> {
        if let (300..400, Some(target)) = (answer.status, &answer.location) {
            let Some(target) = job.url.join(target).ok().and_then(normalise) else {
                page.error = Some("malformed answer".to_owned());
                page.detail = Some(format!("a redirect to '{target}'"));
                return Vec::new();
            };
            page.redirect = Some(target.to_string());
            if job.redirects >= 10 {
                page.error = Some("redirects".to_owned());
                page.detail = Some("too many redirects in a row".to_owned());
                return Vec::new();
            }
            return self
                .jobs([target].into_iter(), job.depth, job.from.clone())
                .into_iter()
                .map(|next| Job { redirects: job.redirects + 1, ..next })
                .collect();
        }
        let is_html = page.media_type.as_deref().is_none_or(|name| name.contains("html"));
        if answer.status != 200 || !is_html || answer.body.is_empty() {
            return Vec::new();
        }
        let text = html::decode(&answer.body, answer.charset.as_deref());
        let contents = html::read(&text, &job.url, self.options.assets);
        page.title = contents.title;
        page.links = contents.links.iter().map(Url::to_string).collect();
        if contents.nofollow || job.depth >= self.options.max_depth {
            return Vec::new();
        }
        self.jobs(contents.links.into_iter(), job.depth + 1, Some(page.url.clone()))
    }

    /// What is to be fetched of these addresses.
    pub(crate) fn jobs(
        &self,
        urls: impl Iterator<Item = Url>,
        depth: u32,
        from: Option<String>,
    ) -> Vec<Job> {
        urls.filter_map(|url| self.scope.admit(&url))
            .map(|url| Job { url, depth, redirects: 0, from: from.clone() })
            .collect()
    }

    /// What would have been found in pages that an earlier run has written out.
    pub(crate) fn replay(
        scope: &Scope,
        options: &Options,
        pages: Vec<Page>,
    ) -> Vec<(Job, Vec<Job>)> {
        pages
            .into_iter()
            .filter_map(|page| {
                let job = Job {
                    url: Url::parse(&page.url).ok()?,
                    depth: page.depth,
                    redirects: 0,
                    from: page.from.clone(),
                };
                let deeper = page.depth < options.max_depth;
                let links = page.links.iter().filter(|_| deeper).chain(&page.redirect);
                let found = links
                    .filter_map(|link| scope.admit(&Url::parse(link).ok()?))
                    .map(|url| Job {
                        url,
                        depth: page.depth + u32::from(page.redirect.is_none()),
                        redirects: u32::from(page.redirect.is_some()),
                        from: Some(page.url.clone()),
                    })
                    .collect();
                Some((job, found))
            })
            .collect()
    }
}

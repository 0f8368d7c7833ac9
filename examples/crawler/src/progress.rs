//! What a person sees while a crawl runs.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::crawl::Crawl;

/// Shows how things stand until it is dropped.
pub(crate) struct Progress {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// It runs on a thread of its own, so that it also shows when the crawl itself hangs.
    pub(crate) fn start(crawl: Arc<Crawl>) -> Progress {
        let (end, ended) = channel();
        let thread = thread::spawn(move || {
            if std::io::stderr().is_terminal() {
                on_terminal(&crawl, &ended);
            } else {
                in_lines(&crawl, &ended);
            }
        });
        Progress { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ends_within(ended: &Receiver<()>, time: Duration) -> bool {
    !matches!(ended.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}

fn on_terminal(crawl: &Crawl, ended: &Receiver<()>) {
    let max = crawl.options.max_pages;
    let bar = match max {
        Some(max) => ProgressBar::new(max),
        None => ProgressBar::new_spinner(),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    let template = match max {
        Some(_) => "{spinner} {bar:30} {pos}/{len} {msg}",
        None => "{spinner} {elapsed} {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let mut rate = Rate::new();
    loop {
        bar.set_message(line(crawl, &mut rate, max.is_none()));
        bar.set_position(crawl.stats.get().pages);
        if ends_within(ended, Duration::from_millis(200)) {
            break;
        }
    }
    bar.finish_and_clear();
}

fn in_lines(crawl: &Crawl, ended: &Receiver<()>) {
    let mut rate = Rate::new();
    while !ends_within(ended, Duration::from_secs(5)) {
        eprintln!("{}", line(crawl, &mut rate, true));
    }
}

/// Pages a second, of late.
struct Rate {
    at: Instant,
    pages: u64,
    value: f64,
}

impl Rate {
    fn new() -> Rate {
        Rate { at: Instant::now(), pages: 0, value: 0.0 }
    }

    fn update(&mut self, pages: u64) -> f64 {
        let elapsed = self.at.elapsed().as_secs_f64();
        if elapsed >= 1.0 || self.value == 0.0 {
            let new = (pages - self.pages) as f64 / elapsed.max(0.001);
            self.value = if self.value == 0.0 { new } else { 0.5 * self.value + 0.5 * new };
            (self.at, self.pages) = (Instant::now(), pages);
        }
        self.value
    }
}

fn line(crawl: &Crawl, rate: &mut Rate, with_pages: bool) -> String {
    let counts = crawl.frontier.counts();
    let counted = crawl.stats.get().clone();
    let pages = if with_pages { format!("{} pages, ", counted.pages) } else { String::new() };
    let slow: Vec<_> =
        counted.slowest_hosts(2).into_iter().map(|(host, ms)| format!("{host} {ms} ms")).collect();
    format!(
        "{pages}{} queued, {} under way, {:.0}/s, {}, {} broken; slowest: {}",
        counts.queued,
        counts.in_flight,
        rate.update(counted.pages),
        HumanBytes(counted.bytes),
        counted.errors(),
        if slow.is_empty() { "none yet".to_owned() } else { slow.join(", ") },
    )
}

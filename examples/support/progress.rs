//! Progress on standard error: a bar on a terminal, a plain line now and then elsewhere.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const BETWEEN_LINES: Duration = Duration::from_secs(1);

pub(crate) struct Progress {
    bar: ProgressBar,
    label: String,
    last_line: Cell<Instant>,
}

impl Progress {
    pub(crate) fn new(label: &str, total: u64) -> Progress {
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg}")
            .expect("the template is well formed")
            .progress_chars("=> ");
        let bar = ProgressBar::new(total).with_style(style).with_prefix(label.to_owned());
        Progress { bar, label: label.to_owned(), last_line: Cell::new(Instant::now()) }
    }

    pub(crate) fn update(&self, done: u64, note: &str) {
        self.bar.set_position(done);
        self.bar.set_message(note.to_owned());
        if self.last_line.get().elapsed() >= BETWEEN_LINES {
            self.plain_line(done, note);
        }
    }

    pub(crate) fn finish(self, done: u64, note: &str) {
        self.bar.set_position(done);
        self.bar.abandon_with_message(note.to_owned());
        self.plain_line(done, note);
    }

    fn plain_line(&self, done: u64, note: &str) {
        // indicatif hides its bar when standard error is no terminal.
        if self.bar.is_hidden() {
            let total = self.bar.length().unwrap_or(done);
            eprintln!("{}: {done}/{total} {note}", self.label);
        }
        self.last_line.set(Instant::now());
    }
}

//! A logger that remembers, for tests of what the crate says through `log`.

use std::sync::{Mutex, Once, PoisonError};

static RECORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Memory;

impl log::Log for Memory {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        RECORDS.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn flush(&self) {}
}

/// Begins to remember, if that has not happened before.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Memory).expect("this is the only logger");
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// What has been logged so far that contains `text`. Tests run side by side, so it has to be a text that
/// no other one causes.
pub(crate) fn records_with(text: &str) -> Vec<String> {
    let records = RECORDS.lock().unwrap_or_else(PoisonError::into_inner);
    records.iter().filter(|line| line.contains(text)).cloned().collect()
}

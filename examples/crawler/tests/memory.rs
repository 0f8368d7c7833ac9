//! Memory stays flat however many pages a site has.

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Folder, Site, crawler, finish, succeeded, tree_page};

/// The most memory that a crawl of so many pages has used, in KiB, as the report says it.
fn peak(pages: usize) -> u64 {
    let site = Site::serve(move |target| tree_page(target, pages, 3));
    let folder = Folder::new(&format!("memory-{pages}"));
    let args = [
        &*site.url,
        "--no-robots",
        "--max-depth",
        "100",
        "--output",
        "out.jsonl",
        "--concurrency",
        "32",
    ];
    let mut command: Command = crawler(&folder, &args);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let text = succeeded(&finish(child, Duration::from_secs(600)));
    assert!(text.contains(&format!("{pages} pages")), "{text}");
    let line = text.lines().find(|line| line.contains("of memory at most")).unwrap();
    let mut words = line.rsplit(';').next().unwrap().split_whitespace();
    let (number, unit) = (words.next().unwrap(), words.next().unwrap());
    let number: f64 = number.parse().unwrap();
    match unit {
        "MiB" => (number * 1024.0) as u64,
        "KiB" => number as u64,
        _ => panic!("{line}"),
    }
}

#[track_caller]
fn grows_little(few: usize, many: usize, bytes_each: u64) {
    let (before, after) = (peak(few), peak(many));
    let grown = after.saturating_sub(before) * 1024;
    let allowed = bytes_each * (many - few) as u64 + (8 << 20);
    assert!(grown <= allowed, "{few} pages: {before} KiB, {many} pages: {after} KiB");
}

/// A page that was seen costs a fingerprint; one that waits, its address.
#[test]
fn eight_times_the_pages_take_hardly_more_memory() {
    grows_little(500, 4000, 400);
}

#[test]
#[ignore = "a soak: some minutes without optimization"]
fn a_hundred_thousand_pages_take_hardly_more_memory() {
    grows_little(1000, 100_000, 100);
}

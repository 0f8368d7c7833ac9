//! What a person is told in the end.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use indicatif::HumanBytes;

use crate::output;
use crate::stats::{Broken, CLASSES, Counted};

/// How many broken links are shown, and holders of each.
const SHOWN: usize = 50;
const HOLDERS: usize = 3;

/// All pages that hold the broken links, as far as the output tells.
pub(crate) fn find_holders(broken: &mut [Broken], output: &Path) {
    let places: HashMap<String, usize> =
        broken.iter().enumerate().map(|(place, broken)| (broken.url.clone(), place)).collect();
    let Ok(pages) = output::pages(output) else { return };
    for page in pages {
        for link in page.links.iter().chain(&page.redirect) {
            let Some(place) = places.get(link) else { continue };
            let from = &mut broken[*place].from;
            if !from.contains(&page.url) {
                from.push(page.url.clone());
            }
        }
    }
}

pub(crate) fn report(counted: &Counted, elapsed: Duration) -> String {
    let mut text = String::new();
    let seconds = elapsed.as_secs_f64();
    let rate = counted.pages as f64 / seconds.max(0.001);
    let _ = writeln!(
        text,
        "\n{} pages, {} in {seconds:.1} s: {rate:.0} pages a second, {} tried again",
        counted.pages,
        HumanBytes(counted.bytes),
        counted.retries
    );
    let (cpu, memory) = usage();
    let per_page = cpu.as_secs_f64() * 1e3 / counted.pages.max(1) as f64;
    let _ = writeln!(
        text,
        "{:.2} s of processor time, {per_page:.2} ms a page; {} of memory at most",
        cpu.as_secs_f64(),
        HumanBytes(memory)
    );
    table(&mut text, "status", counted.statuses.iter().map(|(s, n)| (s.to_string(), *n)));
    table(&mut text, "error", counted.errors.iter().map(|(e, n)| (e.clone(), *n)));
    table(&mut text, "not fetched", counted.skipped.iter().map(|(w, n)| (w.clone(), *n)));
    histogram(&mut text, counted);
    slowest(&mut text, counted);
    broken(&mut text, counted);
    text
}

fn table(text: &mut String, title: &str, rows: impl Iterator<Item = (String, u64)>) {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let width = width.max(title.chars().count());
    let _ = writeln!(text, "\n{title:width$}    pages");
    for (name, count) in rows {
        let _ = writeln!(text, "{name:width$} {count:>8}");
    }
}

fn histogram(text: &mut String, counted: &Counted) {
    if counted.pages == 0 {
        return;
    }
    let most = counted.times.iter().copied().max().unwrap_or(0).max(1);
    let _ = writeln!(text, "\ntime for a page      pages");
    let first = counted.times.iter().position(|n| *n > 0).unwrap_or(0);
    let last = counted.times.iter().rposition(|n| *n > 0).unwrap_or(0);
    for class in first..=last {
        let name = match CLASSES.get(class) {
            Some(end) => format!("up to {end:>6} ms"),
            None => "longer          ".to_owned(),
        };
        let bar = "█".repeat((counted.times[class] * 40).div_ceil(most) as usize);
        let _ = writeln!(text, "{name:16} {:>9} {bar}", counted.times[class]);
    }
}

fn slowest(text: &mut String, counted: &Counted) {
    if counted.hosts.len() < 2 {
        return;
    }
    let _ = writeln!(text, "\nslowest hosts");
    for (host, ms) in counted.slowest_hosts(5) {
        let _ = writeln!(text, "{ms:>8} ms  {host} ({} pages)", counted.hosts[host].pages);
    }
}

fn broken(text: &mut String, counted: &Counted) {
    if counted.broken_in_all == 0 {
        return;
    }
    let _ = writeln!(text, "\n{} broken", counted.broken_in_all);
    for broken in counted.broken.iter().take(SHOWN) {
        let _ = writeln!(text, "  {} ({})", broken.url, broken.why);
        for holder in broken.from.iter().take(HOLDERS) {
            let _ = writeln!(text, "      on {holder}");
        }
        if broken.from.len() > HOLDERS {
            let _ = writeln!(text, "      and on {} other pages", broken.from.len() - HOLDERS);
        }
    }
    if counted.broken_in_all > SHOWN as u64 {
        let more = counted.broken_in_all - SHOWN as u64;
        let _ = writeln!(text, "  and {more} others, which --output lists");
    }
}

/// Processor time of this process so far, and the most memory that it has used, in bytes.
fn usage() -> (Duration, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    // Linux counts in hundredths of a second towards programs, on all machines.
    (Duration::from_millis(10 * (ticks(11) + ticks(12))), peak.unwrap_or(0) * 1024)
}

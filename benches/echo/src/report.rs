//! Tables for the terminal and for a document, and rows for a file.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use crate::measure::{Limit, Report};
use crate::stats::{median, micros, quartiles};

/// A table of text.
#[derive(Clone, Debug, Default)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(heading: [&str; N]) -> Table {
        Table { heading: heading.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Columns that line up.
    pub fn for_terminal(&self) -> String {
        let width = |column: usize| {
            let cells = [&self.heading].into_iter().chain(&self.rows);
            cells.filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let mut text = String::new();
        for row in [&self.heading].into_iter().chain(&self.rows) {
            for (column, cell) in row.iter().enumerate() {
                let width = width(column).unwrap_or(0);
                let cell =
                    if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
                text += &cell;
                text += "  ";
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// As Markdown has it.
    pub fn for_document(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<_> = (0..self.heading.len())
            .map(|column| if column == 0 { "---" } else { "---:" }.to_owned())
            .collect();
        let mut text = line(&self.heading) + &line(&rule);
        self.rows.iter().for_each(|row| text += &line(row));
        text
    }
}

/// Everything of these servers, a row for each.
pub fn table_of(reports: &[Report]) -> Table {
    let mut table = Table::new([
        "connections",
        "busy",
        "server",
        "requests/s",
        "CPU µs/request",
        "ratio",
        "(quartiles)",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "KB/connection",
        "to open all, s",
        "calls/request",
    ]);
    for report in reports {
        let (low, high) = quartiles(report.ratios.clone());
        table.row([
            report.connections.to_string(),
            report.mode.to_owned(),
            report.name.clone(),
            format!("{:.0}", median(report.requests_per_second())),
            format!("{:.2}", median(report.cpu_per_request())),
            format!("{:.3}", median(report.ratios.clone())),
            format!("{low:.2}–{high:.2}"),
            format!("{:.0}", report.median_of(|slice| micros(slice.p50))),
            format!("{:.0}", report.median_of(|slice| micros(slice.p99))),
            format!("{:.0}", report.median_of(|slice| micros(slice.p999))),
            format!("{:.1}", report.resident / 1000.0),
            format!("{:.2}", report.opened.as_secs_f64()),
            report.calls.as_ref().map_or(String::from("-"), |(calls, _)| format!("{calls:.3}")),
        ]);
    }
    table
}

/// What became of the servers at a limit.
pub fn table_of_limits<'a>(limits: impl IntoIterator<Item = (&'a str, &'a Limit)>) -> Table {
    let mut table = Table::new([
        "limit",
        "server",
        "connections held",
        "still served",
        "after closing all",
        "the next one saw",
    ]);
    for (limit, outcome) in limits {
        table.row([
            limit.to_owned(),
            outcome.name.clone(),
            outcome.held.to_string(),
            outcome.served.to_string(),
            outcome.again.to_string(),
            outcome.failure.clone(),
        ]);
    }
    table
}

/// Every turn, as comma-separated values.
///
/// # Errors
/// Those of `csv`.
pub fn write_csv(csv: &mut impl Write, reports: &[Report]) -> io::Result<()> {
    writeln!(
        csv,
        "protocol,connections,busy,server,round,requests,seconds,cpu_us_per_request,p50_us,p99_us,p999_us,\
         bytes_per_connection,seconds_to_open_all"
    )?;
    for report in reports {
        for ((round, slice), cpu) in report.slices.iter().enumerate().zip(report.cpu_per_request())
        {
            writeln!(
                csv,
                "{},{},{},{},{round},{},{:.4},{cpu:.3},{:.1},{:.1},{:.1},{:.0},{:.4}",
                report.protocol.name(),
                report.connections,
                report.mode,
                report.name,
                slice.requests,
                slice.elapsed.as_secs_f64(),
                micros(slice.p50),
                micros(slice.p99),
                micros(slice.p999),
                report.resident,
                report.opened.as_secs_f64(),
            )?;
        }
    }
    csv.flush()
}

/// Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->` in a document.
///
/// # Errors
/// If the file cannot be read or written, or has no such marks.
pub fn replace_in_document(path: &Path, name: &str, text: &str) -> io::Result<()> {
    let document = fs::read_to_string(path)?;
    let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let missing = || io::Error::other(format!("{}: no {open} … {close}", path.display()));
    let (before, rest) = document.split_once(&open).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&close).ok_or_else(missing)?;
    fs::write(path, format!("{before}{open}\n{}\n{close}{after}", text.trim_end()))
}

/// Which machine this is, and how busy it is with other work, in a line.
pub fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("?");
    let rustc = version("rustc", &["--version"]).unwrap_or_default();
    let greenling = version("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_default();
    format!(
        "{cores} × {model}, Linux {}, {rustc}, greenling {greenling}, load average {load} at the end",
        kernel.trim()
    )
}

/// The first line that a command prints.
pub fn version(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output().ok()?;
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let said = String::from_utf8_lossy(&said);
    output.status.success().then(|| said.lines().next().unwrap_or_default().trim().to_owned())
}

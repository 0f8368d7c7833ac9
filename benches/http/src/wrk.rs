//! The load: wrk, and what it reports.

use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::run::command_on;

/// What wrk has seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p99: Duration,
}

/// Keeps so many connections busy for so many seconds.
pub(crate) fn run(
    addr: SocketAddr,
    connections: usize,
    seconds: u64,
    cpu: Option<usize>,
) -> io::Result<Report> {
    let mut command = command_on(Command::new("wrk"), cpu);
    command.args(["--threads", "1", "--latency", "--connections", &connections.to_string()]);
    command.args(["--duration", &format!("{seconds}s"), &format!("http://{addr}/")]);
    let output = command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), "wrk is not installed"),
        _ => error,
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("Socket errors") || text.contains("Non-2xx") {
        return Err(io::Error::other(format!("wrk had errors:\n{text}")));
    }
    parse(&text).ok_or_else(|| io::Error::other(format!("wrk says something else:\n{text}")))
}

fn parse(text: &str) -> Option<Report> {
    let field = |start: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(start))?;
        line.split_whitespace().next()
    };
    let requests = text.lines().find_map(|line| {
        let (count, rest) = line.trim().split_once(' ')?;
        rest.starts_with("requests in").then(|| count.parse().ok())?
    })?;
    Some(Report {
        requests,
        per_second: field("Requests/sec:")?.parse().ok()?,
        p99: duration(field("99%")?)?,
    })
}

fn duration(text: &str) -> Option<Duration> {
    let (unit, seconds) = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)]
        .into_iter()
        .find(|(unit, _)| text.ends_with(unit))?;
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    Duration::try_from_secs_f64(number * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let text = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n\
            Latency Distribution\n     50%  304.00us\n     99%    1.50ms\n\
            187653 requests in 1.10s, 25.05MB read\nRequests/sec: 170612.35\nTransfer/sec:     22.78MB\n";
        let p99 = Duration::from_micros(1500);
        let report = Report { requests: 187_653, per_second: 170_612.35, p99 };
        assert_eq!(parse(text), Some(report));
    }
}

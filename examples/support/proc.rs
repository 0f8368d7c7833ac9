//! What `/proc` tells of a process.

use std::{fs, io};

/// One of the sizes in `/proc/PROCESS/status`, such as `VmRSS`, in bytes. `process` is a process
/// id or `self`.
pub(crate) fn status_bytes(process: &str, field: &str) -> io::Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path)?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| io::Error::other(format!("{path} has no {field}")))
}

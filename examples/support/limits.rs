//! The limit on open files: every connection costs a descriptor at each end.

use std::io;

/// Raises the soft limit on open files to at least `wanted`, as far as this process may, and
/// returns the limit that then holds. A process with `CAP_SYS_RESOURCE` may raise the hard limit
/// too; any other stops at it.
pub(crate) fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let now = open_files()?;
    if now.rlim_cur >= wanted {
        return Ok(now.rlim_cur);
    }
    let beyond = libc::rlimit { rlim_cur: wanted, rlim_max: wanted.max(now.rlim_max) };
    if set_open_files(&beyond).is_ok() {
        return Ok(wanted);
    }
    set_open_files(&libc::rlimit { rlim_cur: now.rlim_max, ..now })?;
    Ok(now.rlim_max)
}

fn open_files() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to fill.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_open_files(limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: the kernel only reads the valid rlimit behind the pointer.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

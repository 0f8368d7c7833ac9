//! Whether a part of a file is in the page cache, so that nobody would wait for the disk.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// cachestat(2), which Linux has from 6.5 on; the number is the same on all architectures.
const SYS_CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct Range {
    offset: u64,
    length: u64,
}

/// All in pages.
#[repr(C)]
#[derive(Default)]
struct Stat {
    cached: u64,
    dirty: u64,
    in_writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// `None` if the kernel does not tell.
pub(crate) fn is_cached(file: &File, offset: u64, length: u64) -> Option<bool> {
    static UNKNOWN: AtomicBool = AtomicBool::new(false);
    if length == 0 || UNKNOWN.load(Ordering::Relaxed) {
        return None;
    }
    let (range, mut stat) = (Range { offset, length }, Stat::default());
    // SAFETY: both structures are the call's, and outlive it.
    let result =
        unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &range, &raw mut stat, 0) };
    if result != 0 {
        // A sandbox may refuse it (EPERM), a kind of file may not have it (EOPNOTSUPP): ask no more.
        UNKNOWN.store(true, Ordering::Relaxed);
        return None;
    }
    // SAFETY: it takes a number and gives one.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    Some(stat.cached == (offset + length).div_ceil(page) - offset / page)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_was_written_is_cached_and_a_hole_is_not() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 20_000]).unwrap();
        file.write_all_at(b"end", 10 << 20).unwrap();
        assert_eq!(is_cached(&file, 0, 0), None);
        if is_cached(&file, 0, 20_000).is_none() {
            println!("skipped: the kernel does not have cachestat");
            return;
        }
        assert_eq!(is_cached(&file, 0, 20_000), Some(true));
        assert_eq!(is_cached(&file, 4_095, 2), Some(true));
        assert_eq!(is_cached(&file, 5 << 20, 20_000), Some(false));
        assert_eq!(is_cached(&file, 0, 10 << 20), Some(false));
    }
}

//! What the process has used, and memory as a stack takes it.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use corosensei::stack::{Stack, StackPointer};

/// Processor time of this process, user and system.
pub fn cpu_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: writes one timespec. It cannot fail: the clock always exists and the pointer is good.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, time.as_mut_ptr());
        time.assume_init()
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resident memory of this process in bytes.
pub fn resident() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux 4.14 or later");
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
        .map(|kib: u64| kib * 1024)
        .expect("an Rss line")
}

/// Address space that is touched page by page, as stacks are.
pub struct Untouched {
    start: *mut u8,
    length: usize,
}

impl Untouched {
    /// Takes address space, without memory behind it.
    pub fn new(length: usize) -> io::Result<Untouched> {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        // SAFETY: a new mapping, anywhere.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is ours. If it fails, there are huge pages, and it is merely faster.
        unsafe { libc::madvise(start, length, libc::MADV_NOHUGEPAGE) };
        Ok(Untouched { start: start.cast(), length })
    }

    /// Writes a byte, which brings its page into being.
    pub fn touch(&mut self, at: usize) {
        assert!(at < self.length);
        // SAFETY: in bounds, and nobody else knows of this memory.
        unsafe { self.start.add(at).write_volatile(1) };
    }
}

impl Drop for Untouched {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and no reference into it was ever given out.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// A stack for a bare coroutine: a piece of one large mapping, so that there can be 100,000 under the
/// default `vm.max_map_count`, with its top where the tops of all stacks are that are mapped singly.
pub struct BareStack {
    base: StackPointer,
    _memory: Rc<Untouched>,
}

impl BareStack {
    const SIZE: usize = 256 * 1024;

    /// So many stacks.
    pub fn many(count: usize) -> io::Result<Vec<BareStack>> {
        let memory = Rc::new(Untouched::new(count * Self::SIZE)?);
        let start = memory.start.expose_provenance();
        let base = |slot| NonZeroUsize::new(start + slot * Self::SIZE).expect("not at address 0");
        Ok((1..=count)
            .map(|slot| BareStack { base: base(slot), _memory: memory.clone() })
            .collect())
    }
}

// SAFETY: the range is its own, page-aligned and alive as long as this is. There is no guard; what
// the benches run on it needs some hundred bytes.
unsafe impl Stack for BareStack {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.base.get() - Self::SIZE).expect("not at address 0")
    }
}

//! The few system calls that std does not have, behind safe functions.

use std::fs;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// An event as epoll reports it: what happened, and the number the fd was registered with.
pub use libc::epoll_event as Event;

/// What is registered for: both directions, edge-triggered, once for the fd's life.
const INTEREST: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;

/// There is something to read, or the end of it, or an error.
pub const READABLE: u32 = libc::EPOLLIN as u32 | HANG_UP;
pub const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// The peer will send no more. There is no second edge for what is still in the buffer.
pub const HANG_UP: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An epoll instance, edge-triggered.
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers; the result is a new fd that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Epoll(fd))
    }

    /// Registers `fd`; it leaves when it is closed.
    pub fn add(&self, fd: impl AsFd, data: u64) -> io::Result<()> {
        let mut event = Event { events: INTEREST as u32, u64: data };
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: both fds are open for the call, and the event outlives it.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })?;
        Ok(())
    }

    /// Waits for events, at most for `timeout` if there is one, and returns them.
    pub fn wait<'b>(
        &self,
        buffer: &'b mut [Event],
        timeout: Option<Duration>,
    ) -> io::Result<&'b [Event]> {
        let timeout = timeout.map_or(-1, |t| t.as_millis().min(i32::MAX as u128) as i32);
        let capacity = buffer.len() as i32;
        // SAFETY: the kernel writes at most `capacity` events, which is the buffer's length.
        let result = check(unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), buffer.as_mut_ptr(), capacity, timeout)
        });
        match result {
            Ok(count) => Ok(&buffer[..count as usize]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
            Err(error) => Err(error),
        }
    }
}

/// A buffer for `Epoll::wait`.
pub fn event_buffer() -> Vec<Event> {
    vec![Event { events: 0, u64: 0 }; 1024]
}

/// The processor time, user and system, that a process has used. Any process may be asked about.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: writes one clockid_t.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: writes one timespec, which is initialised if the call succeeds.
    let time = unsafe {
        check(libc::clock_gettime(clock, time.as_mut_ptr()))?;
        time.assume_init()
    };
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Resident memory of a process in bytes, without what the kernel keeps for it.
pub fn resident(pid: u32) -> io::Result<u64> {
    // `statm` is cheaper, but its counters lag behind by some pages for each thread.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
        .map(|kib: u64| kib * 1024)
        .ok_or_else(|| io::Error::other("smaps_rollup without an Rss line"))
}

/// The processors that this process may run on.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the kernel writes at most the size given; all zeroes is a valid set before it.
    let set = unsafe {
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()))?;
        set.assume_init()
    };
    // SAFETY: every number is below CPU_SETSIZE.
    Ok((0..libc::CPU_SETSIZE as usize)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Keeps this thread, and those it will start, on one processor.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    assert!(cpu < libc::CPU_SETSIZE as usize);
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: all zeroes is the empty set; `cpu` is in range; the kernel reads the size given.
    check(unsafe {
        libc::CPU_SET(cpu, set.assume_init_mut());
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set.as_ptr())
    })?;
    Ok(())
}

/// Sets the soft and hard limit of address space, in bytes.
pub fn limit_address_space(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: reads the one struct.
    check(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) })?;
    Ok(())
}

/// Sets the soft and hard limit of open files.
pub fn limit_open_files(files: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: files, rlim_max: files };
    // SAFETY: reads the one struct.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(())
}

/// Raises the limit of open files as far as it may be and returns it.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads and writes the one struct.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    }
    Ok(limit.rlim_cur)
}

/// Has this process killed when its parent dies, so that a run that is broken off leaves nothing.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    Ok(())
}

/// Sends SIGINT to a child that has not been waited for.
pub fn interrupt(pid: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::kill(pid as libc::pid_t, libc::SIGINT) })?;
    Ok(())
}

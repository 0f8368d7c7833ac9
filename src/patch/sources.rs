//! Descriptors that the program has by number only, as sources towards the hubs.
//!
//! A descriptor is adopted when somebody first waits for it, however and whenever it was opened, and
//! forgotten when it is closed. Its number then begins anew. Since it may also be closed unseen (inside of the
//! C library, or by a bare system call), a wait makes sure that the registration is of what the number means
//! now: at once, or, by what is remembered of the descriptor (`settings`), when it has lasted for a while.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::insist;
use super::settings::{self, GRACE, Settings};
use crate::rt::real::{self, errno};
use crate::rt::{self, Deadline, Direction, Reason, Woken, hooked};

/// Who is registered by a descriptor's number.
struct Source {
    /// 0 for nobody.
    id: AtomicU64,
    /// On which hubs, as a set of bits.
    hubs: AtomicU64,
    settings: Settings,
}

/// Sources that are allocated together.
const CHUNK: usize = 1024;
/// Enough for 16 million descriptors; greater numbers are not made cooperative.
const CHUNKS: usize = 16 * 1024;

type Chunk = [Source; CHUNK];

impl Source {
    const fn new() -> Source {
        Source { id: AtomicU64::new(0), hubs: AtomicU64::new(0), settings: Settings::new() }
    }
}

/// By descriptor. Chunks are never freed.
static TABLE: [AtomicPtr<Chunk>; CHUNKS] = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];

/// The process that the table is about. A child of vfork(2) shares it, and its closing must not count.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// To be called at the beginning, and in the child of a fork.
pub(super) fn set_process() {
    PROCESS.store(std::process::id(), Ordering::Relaxed);
}

fn existing(fd: c_int) -> Option<&'static Source> {
    let fd = usize::try_from(fd).ok()?;
    let chunk = TABLE.get(fd / CHUNK)?.load(Ordering::Acquire);
    // SAFETY: null or a chunk, which lives for ever.
    Some(&unsafe { chunk.as_ref() }?[fd % CHUNK])
}

fn made(fd: c_int) -> Option<&'static Source> {
    if let Some(source) = existing(fd) {
        return Some(source);
    }
    let slot = TABLE.get(usize::try_from(fd).ok()? / CHUNK)?;
    // Not by way of the stack, which may be small.
    let fresh: Box<[Source]> = std::iter::repeat_with(Source::new).take(CHUNK).collect();
    let fresh: *mut Chunk = Box::into_raw(fresh).cast();
    if slot.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // SAFETY: ours, and never published.
        drop(unsafe { Box::from_raw(fresh) });
    }
    existing(fd)
}

/// What is remembered of a descriptor; nothing of one that nobody has ever waited for.
pub(super) fn settings(fd: c_int) -> Option<&'static Settings> {
    existing(fd).map(|source| &source.settings)
}

/// Has there be a place to remember what is set on a descriptor.
pub(super) fn make_settings(fd: c_int) {
    made(fd);
}

/// The id under which `fd` is registered from now on with the calling thread's hub.
fn adopt(fd: c_int) -> Option<u64> {
    let source = made(fd)?;
    source.hubs.fetch_or(hooked::own_bit(), Ordering::AcqRel);
    let id = source.id.load(Ordering::Acquire);
    if id != 0 {
        return Some(id);
    }
    let fresh = rt::source_id();
    match source.id.compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(fresh),
        Err(other) => Some(other),
    }
}

fn is_still(fd: c_int, id: u64) -> bool {
    existing(fd).is_some_and(|source| source.id.load(Ordering::Acquire) == id)
}

/// The descriptor is about to be closed: whoever waits for it is woken and finds that out.
pub(super) fn forget(fd: c_int) {
    let Some(source) = existing(fd) else { return };
    source.settings.reset();
    if source.id.load(Ordering::Acquire) == 0 {
        return;
    }
    if std::process::id() != PROCESS.load(Ordering::Relaxed) {
        return;
    }
    let saved = errno();
    if source.id.swap(0, Ordering::AcqRel) != 0 {
        rt::close_source(fd, source.hubs.swap(0, Ordering::AcqRel));
    }
    real::set_errno(saved);
}

/// [`forget`] for all of a range, both ends included.
pub(super) fn forget_range(first: u32, last: u32) {
    for (index, chunk) in TABLE.iter().enumerate() {
        if chunk.load(Ordering::Acquire).is_null() {
            continue;
        }
        let start = (index * CHUNK) as u32;
        let end = start + CHUNK as u32 - 1;
        if start <= last && first <= end {
            (start.max(first)..=end.min(last)).for_each(|fd| forget(fd as c_int));
        }
    }
}

/// How a wait has ended that has neither failed nor been interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Worth another try.
    Ready,
    TimedOut,
    /// It is of a kind that is always ready (a regular file).
    Always,
}

/// Waits until the descriptor may be ready. For callers that may wait.
///
/// # Errors
/// `errno`: `ECANCELED` for a kill or a time limit, `EBADF` if it was closed meanwhile, and what epoll says.
#[track_caller]
pub(super) fn wait(
    fd: c_int,
    direction: Direction,
    deadline: Option<Deadline>,
) -> Result<Waited, c_int> {
    let id = adopt(fd).ok_or(libc::EBADF)?;
    let woken = hooked::wait_any(&[(fd, id, direction)], reason(fd, direction), deadline);
    outcome(woken, &[(fd, id, direction)])
}

/// As [`wait`], without making sure that the descriptor is what it was.
///
/// # Errors
/// As for [`wait`].
#[track_caller]
fn wait_trusting(
    fd: c_int,
    direction: Direction,
    deadline: Option<Deadline>,
) -> Result<Waited, c_int> {
    let id = adopt(fd).ok_or(libc::EBADF)?;
    let woken = hooked::wait_trusting((fd, id, direction), reason(fd, direction), deadline);
    outcome(woken, &[(fd, id, direction)])
}

fn reason(fd: c_int, direction: Direction) -> Reason {
    match direction {
        Direction::Read => Reason::Read(fd),
        Direction::Write => Reason::Write(fd),
    }
}

/// As [`wait`], for several.
///
/// # Errors
/// As for [`wait`].
#[track_caller]
pub(super) fn wait_any(
    fds: &[(c_int, Direction)],
    reason: Reason,
    deadline: Option<Deadline>,
) -> Result<Waited, c_int> {
    let mut interests = Vec::with_capacity(fds.len());
    for &(fd, direction) in fds {
        let id = adopt(fd).ok_or(libc::EBADF)?;
        interests.push((fd, id, direction));
    }
    outcome(hooked::wait_any(&interests, reason, deadline), &interests)
}

#[track_caller]
fn outcome(
    woken: std::io::Result<Option<Woken>>,
    interests: &[hooked::Interest],
) -> Result<Waited, c_int> {
    match woken.map_err(|error| error.raw_os_error().unwrap_or(libc::ENOMEM))? {
        None => Ok(Waited::Always),
        Some(Woken::TimedOut) => Ok(Waited::TimedOut),
        Some(Woken::Unparked) => {
            insist::forget();
            let closed = interests.iter().any(|&(fd, id, _)| !is_still(fd, id));
            if closed { Err(libc::EBADF) } else { Ok(Waited::Ready) }
        }
        Some(Woken::Deadlocked) => Err(libc::EDEADLK),
        Some(Woken::Killed | Woken::Elapsed) => {
            insist::note(insist::INTERRUPTED);
            Err(libc::ECANCELED)
        }
    }
}

/// Whether one of `events` is there on `fd` in this moment.
pub(super) fn is_ready_now(fd: c_int, events: i16) -> bool {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one pollfd.
    unsafe { real::poll(&mut poll, 1, 0) > 0 }
}

/// Whether the program has made the descriptor non-blocking. A descriptor that is none is left to the call.
pub(super) fn is_nonblocking(fd: c_int) -> bool {
    // SAFETY: no pointers.
    let flags = unsafe { real::fcntl(fd, libc::F_GETFL, 0) };
    flags == -1 || flags & libc::O_NONBLOCK != 0
}

/// Whether the descriptor is open for this direction.
pub(super) fn is_open_for(fd: c_int, direction: Direction) -> bool {
    let other = match direction {
        Direction::Read => libc::O_WRONLY,
        Direction::Write => libc::O_RDONLY,
    };
    // SAFETY: no pointers.
    let flags = unsafe { real::fcntl(fd, libc::F_GETFL, 0) };
    flags != -1 && flags & libc::O_ACCMODE != other
}

fn status(fd: c_int) -> Option<libc::stat> {
    let saved = errno();
    // SAFETY: all zeros is valid for it, and the kernel writes no more than that.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let got = unsafe { libc::fstat(fd, &mut status) };
    real::set_errno(saved);
    (got == 0).then_some(status)
}

/// What kind of file it is (`S_IFSOCK`, …); 0 for none of those.
pub(super) fn kind(fd: c_int) -> libc::mode_t {
    status(fd).map_or(0, |status| status.st_mode & libc::S_IFMT)
}

/// Tells open sockets apart.
pub(super) fn inode(fd: c_int) -> u64 {
    status(fd).map_or(0, |status| status.st_ino)
}

/// An integer option of a socket's own level.
pub(super) fn socket_option(fd: c_int, name: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    let place: *mut c_int = &mut value;
    // SAFETY: the kernel writes at most `len` bytes to `value`.
    let got =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, place.cast::<c_void>(), &mut len) };
    (got == 0).then_some(value)
}

/// A socket's `SO_RCVTIMEO` or `SO_SNDTIMEO`; `None` for no limit.
fn socket_limit(fd: c_int, option: c_int) -> Option<Duration> {
    let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut len = size_of_val(&time) as libc::socklen_t;
    let place: *mut libc::timeval = &mut time;
    // SAFETY: the kernel writes at most `len` bytes to `time`.
    let got =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, place.cast::<c_void>(), &mut len) };
    if got != 0 || (time.tv_sec == 0 && time.tv_usec == 0) {
        return None;
    }
    Some(Duration::new(time.tv_sec.max(0) as u64, time.tv_usec.max(0) as u32 * 1000))
}

/// The waits of one blocking operation: what the program has set on the descriptor is looked up at the first.
pub(super) struct Operation {
    fd: c_int,
    direction: Direction,
    /// The socket option with its time limit; `None` for what is no socket.
    option: Option<c_int>,
    /// When it was looked up, and that it blocks.
    since: Option<u64>,
    /// Whether it was the kernel that said so just now.
    is_certain: bool,
    limit: Option<Duration>,
    expired: bool,
}

impl Operation {
    pub(super) fn receive(fd: c_int) -> Operation {
        Operation::new(fd, Direction::Read, Some(libc::SO_RCVTIMEO))
    }

    pub(super) fn send(fd: c_int) -> Operation {
        Operation::new(fd, Direction::Write, Some(libc::SO_SNDTIMEO))
    }

    pub(super) fn new(fd: c_int, direction: Direction, option: Option<c_int>) -> Operation {
        Operation {
            fd,
            direction,
            option,
            since: None,
            is_certain: false,
            limit: None,
            expired: false,
        }
    }

    pub(super) fn fd(&self) -> c_int {
        self.fd
    }

    /// Whether the program has left the descriptor blocking. Asked once.
    pub(super) fn may_block(&mut self) -> bool {
        if self.since.is_some() {
            return true;
        }
        self.since = Some(hooked::now());
        if let Some(limit) = settings::known(self.fd, self.direction) {
            self.limit = limit;
            return true;
        }
        let blocks = self.ask();
        if !blocks {
            self.since = None;
        }
        blocks
    }

    /// Whether the descriptor blocks, by the kernel's answer, which is remembered.
    #[cold]
    fn ask(&mut self) -> bool {
        let asked = settings::asking(self.fd);
        if is_nonblocking(self.fd) {
            return false;
        }
        self.is_certain = true;
        self.limit = self.option.and_then(|option| socket_limit(self.fd, option));
        if let Some(asked) = asked {
            settings::remember(self.fd, self.direction, self.limit, asked);
        }
        true
    }

    /// What a call says of a descriptor that does not block: non-blocking, or closed just before the wait for it
    /// began, so that it was not woken.
    fn refusal(&self) -> c_int {
        // SAFETY: no pointers.
        match unsafe { real::fcntl(self.fd, libc::F_GETFD, 0) } {
            -1 => libc::EBADF,
            _ => libc::EAGAIN,
        }
    }

    fn deadline(&self) -> Option<Deadline> {
        let nanos = u64::try_from(self.limit?.as_nanos()).ok()?;
        self.since?.checked_add(nanos).map(Deadline)
    }

    /// To be called after `EAGAIN`: waits until it is worth another try.
    ///
    /// # Errors
    /// `errno`: `EAGAIN` for what the program has made non-blocking and when the time limit is reached, else
    /// as for [`wait`].
    #[track_caller]
    pub(super) fn wait(&mut self) -> Result<Waited, c_int> {
        if self.expired {
            return Err(libc::EAGAIN);
        }
        if !self.may_block() {
            return Err(self.refusal());
        }
        if !self.is_certain {
            let grace = [Deadline::after(GRACE), self.deadline()].into_iter().flatten();
            let grace = grace.min_by_key(|deadline| deadline.0);
            let waited = wait_trusting(self.fd, self.direction, grace)?;
            if waited != Waited::TimedOut {
                return Ok(waited);
            }
            // It may be something else than what is remembered.
            if !self.ask() {
                return Err(self.refusal());
            }
        }
        let waited = wait(self.fd, self.direction, self.deadline())?;
        // The hub may have been late, and the descriptor ready in time: one more try.
        self.expired = waited == Waited::TimedOut;
        Ok(waited)
    }
}

//! Standard input, output and error.
//!
//! Their descriptors belong to whoever started the program as much as to the program: `O_NONBLOCK` is never set on
//! them, and no registration with epoll outlives the wait that it was made for, so that a program may put something
//! else in their place (dup2(2)).

use std::fmt;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, LineWriter, Lines, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use super::adapter::{wait_readable, wait_writable};
use super::nowait;
use crate::rt::{self, Reason, WaitQueue, Waited};

/// A closed standard stream is as good as an empty one, or one that swallows everything (std's rule).
fn unless_closed<T>(result: io::Result<T>, otherwise: T) -> io::Result<T> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(otherwise),
        result => result,
    }
}

/// Waits and tries until `op` does not say `WouldBlock`.
#[track_caller]
fn run<T>(
    fd: BorrowedFd<'_>,
    mut op: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    wait: impl Fn(BorrowedFd<'_>) -> io::Result<bool>,
) -> io::Result<T> {
    loop {
        match op(fd) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => drop(wait(fd)?),
            result => return result,
        }
    }
}

// ---- input ----------------------------------------------------------------------------------------

/// Descriptor 0, unbuffered.
struct RawInput;

impl Read for RawInput {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    #[track_caller]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let stdin = io::stdin();
        let read = |fd: BorrowedFd<'_>| nowait::read(fd, bufs);
        unless_closed(run(stdin.as_fd(), read, |fd| wait_readable(fd, None)), 0)
    }
}

type Input = Box<BufReader<RawInput>>;

/// Where the buffer of standard input is.
enum Place {
    NotMadeYet,
    Free(Input),
    /// With the coroutine that has locked it.
    Taken,
}

/// Whoever unlocks hands the buffer to the next who waits.
static INPUT: WaitQueue<Place, Input> = WaitQueue::new(Place::NotMadeYet);

/// Standard input: `std::io::stdin`, but waiting lets other coroutines run.
///
/// All handles share one buffer, which is not the one of `std::io::stdin`: a program should read from one of the
/// two only.
///
/// A terminal, a pipe and a socket are waited for; a regular file is simply read. Where the kernel cannot read
/// without blocking (terminals), a read that finds its data taken away by another process blocks the thread.
///
/// # Examples
/// ```no_run
/// use greenling::io;
///
/// for line in io::stdin().lines() {
///     println!("{}", line?.to_uppercase());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stdin() -> Stdin {
    Stdin { _private: () }
}

/// A handle of standard input. See [`stdin`].
pub struct Stdin {
    _private: (),
}

/// Standard input, locked for one coroutine.
pub struct StdinLock<'a> {
    /// There until it is dropped.
    input: Option<Input>,
    /// As std's: it stays on its thread.
    guard: PhantomData<MutexGuard<'a, ()>>,
}

impl Stdin {
    /// Locks it, waiting for whoever has locked it. It is unlocked when the guard is dropped.
    #[track_caller]
    pub fn lock(&self) -> StdinLock<'static> {
        let waited = INPUT.wait(Reason::Wait("standard input"), None, None, |place, _| {
            match std::mem::replace(&mut **place, Place::Taken) {
                Place::NotMadeYet => Some(None),
                Place::Free(input) => Some(Some(input)),
                Place::Taken => None,
            }
        });
        let input = match waited {
            Ok(Waited::Attempted(input) | Waited::Granted(input)) => input,
            Err((interrupted, _)) => rt::unwind(interrupted),
        };
        let input = input.unwrap_or_else(|| Box::new(BufReader::new(RawInput)));
        StdinLock { input: Some(input), guard: PhantomData }
    }

    /// Reads a line, with its end, and appends it to `buf`. 0 is the end of the input.
    ///
    /// # Errors
    /// What reading says; `InvalidData` if it is not UTF-8.
    #[track_caller]
    pub fn read_line(&self, buf: &mut String) -> io::Result<usize> {
        self.lock().read_line(buf)
    }

    /// The lines, without their ends. The input stays locked.
    #[track_caller]
    pub fn lines(self) -> Lines<StdinLock<'static>> {
        self.lock().lines()
    }

    /// Whether it is a terminal: [`IsTerminal`](std::io::IsTerminal), which only std may implement.
    pub fn is_terminal(&self) -> bool {
        io::IsTerminal::is_terminal(&io::stdin())
    }
}

impl StdinLock<'_> {
    fn input(&mut self) -> &mut BufReader<RawInput> {
        self.input.as_mut().expect("it is there until the guard is dropped")
    }

    /// As [`Stdin::is_terminal`].
    pub fn is_terminal(&self) -> bool {
        stdin().is_terminal()
    }
}

impl Drop for StdinLock<'_> {
    fn drop(&mut self) {
        let Some(input) = self.input.take() else { return };
        let mut place = INPUT.lock();
        let next = match place.grant(input) {
            Ok(next) => Some(next),
            Err(input) => {
                *place = Place::Free(input);
                None
            }
        };
        drop(place);
        if let Some(next) = next {
            next.unpark();
        }
    }
}

impl Read for StdinLock<'_> {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.input().read(buf)
    }

    #[track_caller]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.input().read_vectored(bufs)
    }

    #[track_caller]
    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        self.input().read_to_end(buf)
    }

    #[track_caller]
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        self.input().read_to_string(buf)
    }
}

impl BufRead for StdinLock<'_> {
    #[track_caller]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input().fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.input().consume(amount);
    }
}

impl Read for &Stdin {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.lock().read(buf)
    }

    #[track_caller]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.lock().read_vectored(bufs)
    }

    #[track_caller]
    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        self.lock().read_to_end(buf)
    }

    #[track_caller]
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        self.lock().read_to_string(buf)
    }

    #[track_caller]
    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.lock().read_exact(buf)
    }
}

impl Read for Stdin {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    #[track_caller]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }

    #[track_caller]
    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buf)
    }

    #[track_caller]
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(buf)
    }

    #[track_caller]
    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        (&*self).read_exact(buf)
    }
}

// ---- output ---------------------------------------------------------------------------------------

/// Set when the process ends: what is written then blocks, for nobody is left to run.
static ENDING: AtomicBool = AtomicBool::new(false);

#[track_caller]
fn write_raw(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let total = bufs.iter().map(|buf| buf.len()).sum();
    let written = nowait::write_all_of(bufs, |bufs| {
        if ENDING.load(Ordering::Relaxed) {
            return nowait::write_blocking(fd, bufs);
        }
        run(fd, |fd| nowait::write(fd, bufs), |fd| wait_writable(fd, None))
    });
    unless_closed(written, total)
}

/// A stream that several coroutines write to, one at a time; the one that has locked it may lock it again.
struct Shared<W> {
    holder: WaitQueue<Holder>,
    /// Locked by the holder only, for single operations: so that it never waits, nor blocks a thread.
    writer: OnceLock<Mutex<W>>,
}

struct Holder {
    /// The coroutine's id, or 0.
    id: u64,
    depth: u32,
}

impl<W> Shared<W> {
    const fn new() -> Shared<W> {
        Shared { holder: WaitQueue::new(Holder { id: 0, depth: 0 }), writer: OnceLock::new() }
    }

    #[track_caller]
    fn lock(&self, what: &'static str) {
        let me = rt::current().id();
        let locked = self.holder.wait_until(Reason::Wait(what), None, |holder| {
            if holder.id != 0 && holder.id != me {
                return None;
            }
            holder.id = me;
            holder.depth += 1;
            Some(())
        });
        if let Err(interrupted) = locked {
            rt::unwind(interrupted);
        }
    }

    fn unlock(&self) {
        let mut holder = self.holder.lock();
        holder.depth -= 1;
        if holder.depth > 0 {
            return;
        }
        holder.id = 0;
        let next = holder.grant(()).ok();
        drop(holder);
        if let Some(next) = next {
            next.unpark();
        }
    }

    /// For the holder.
    fn writer(&self, make: fn() -> W) -> MutexGuard<'_, W> {
        // A kill in the middle of a write poisons it, and leaves a buffer that is fit for use.
        let writer = self.writer.get_or_init(|| Mutex::new(make()));
        writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Defines a standard output stream: its handle, its guard, and their traits.
macro_rules! output_stream {
    (
        $(#[$doc:meta])* $name:ident, $lock:ident, $function:ident, $raw:ident, $fd:expr,
        $shared:ident: $writer:ty = $make:expr, $what:literal
    ) => {
        $(#[$doc])*
        pub fn $function() -> $name {
            $name { _private: () }
        }

        #[doc = concat!("A handle of ", $what, ". See [`", stringify!($function), "`].")]
        pub struct $name {
            _private: (),
        }

        #[doc = concat!("The lock on ", $what, ", for one coroutine, which may lock it again.")]
        pub struct $lock<'a> {
            /// As std's: it stays on its thread.
            guard: PhantomData<MutexGuard<'a, ()>>,
        }

        static $shared: Shared<$writer> = Shared::new();

        /// The descriptor, unbuffered.
        struct $raw;

        impl Write for $raw {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                write_raw($fd.as_fd(), &[IoSlice::new(buf)])
            }

            #[track_caller]
            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                write_raw($fd.as_fd(), bufs)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl $name {
            /// Locks it, waiting for whoever has locked it. It is unlocked when the guard is dropped.
            #[track_caller]
            pub fn lock(&self) -> $lock<'static> {
                $shared.lock($what);
                $lock { guard: PhantomData }
            }

            /// Whether it is a terminal: [`IsTerminal`](std::io::IsTerminal), which only std may implement.
            pub fn is_terminal(&self) -> bool {
                io::IsTerminal::is_terminal(&$fd)
            }
        }

        impl $lock<'_> {
            #[doc = concat!("As [`", stringify!($name), "::is_terminal`].")]
            pub fn is_terminal(&self) -> bool {
                io::IsTerminal::is_terminal(&$fd)
            }
        }

        impl Drop for $lock<'_> {
            fn drop(&mut self) {
                $shared.unlock();
            }
        }

        impl Write for $lock<'_> {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                $shared.writer($make).write(buf)
            }

            #[track_caller]
            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                $shared.writer($make).write_vectored(bufs)
            }

            #[track_caller]
            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                $shared.writer($make).write_all(buf)
            }

            #[track_caller]
            fn flush(&mut self) -> io::Result<()> {
                $shared.writer($make).flush()
            }
        }

        impl Write for &$name {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.lock().write(buf)
            }

            #[track_caller]
            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.lock().write_vectored(bufs)
            }

            #[track_caller]
            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                self.lock().write_all(buf)
            }

            #[track_caller]
            fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
                self.lock().write_fmt(args)
            }

            #[track_caller]
            fn flush(&mut self) -> io::Result<()> {
                self.lock().flush()
            }
        }

        impl Write for $name {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                (&*self).write(buf)
            }

            #[track_caller]
            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                (&*self).write_vectored(bufs)
            }

            #[track_caller]
            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                (&*self).write_all(buf)
            }

            #[track_caller]
            fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
                (&*self).write_fmt(args)
            }

            #[track_caller]
            fn flush(&mut self) -> io::Result<()> {
                (&*self).flush()
            }
        }

        /// The stream, for a child. Same as inheriting it, or as giving it to another of the child's streams.
        impl From<$name> for std::process::Stdio {
            fn from(_: $name) -> std::process::Stdio {
                $fd.into()
            }
        }
    };
}

output_stream! {
    /// Standard output: `std::io::stdout`, but waiting lets other coroutines run.
    ///
    /// It is flushed at the end of every line and at the end of the process. All handles share one buffer, which is
    /// not the one of `std::io::stdout` and `println!`: a program that uses both for one line should flush in between.
    ///
    /// When whatever reads the output is slow, the coroutine waits and not the thread. A terminal gets long
    /// output in small pieces.
    ///
    /// # Examples
    /// ```
    /// use std::io::Write;
    ///
    /// let mut out = greenling::io::stdout().lock(); // no other coroutine's lines in between
    /// writeln!(out, "one")?;
    /// writeln!(out, "two")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    Stdout, StdoutLock, stdout, RawOutput, io::stdout(),
    OUTPUT: LineWriter<RawOutput> = output_writer, "standard output"
}

output_stream! {
    /// Standard error: `std::io::stderr`, but waiting lets other coroutines run. It has no buffer.
    Stderr, StderrLock, stderr, RawError, io::stderr(),
    ERROR: RawError = || RawError, "standard error"
}

fn output_writer() -> LineWriter<RawOutput> {
    extern "C" fn flush_at_exit() {
        ENDING.store(true, Ordering::Relaxed);
        let Some(writer) = OUTPUT.writer.get() else { return };
        let mut writer = match writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody is in the middle of a write that will never end.
            Err(TryLockError::WouldBlock) => return,
        };
        let _ = writer.flush();
    }
    // SAFETY: a plain function, for ever. A failure means that there is no memory, and no flush at the end.
    let _ = unsafe { libc::atexit(flush_at_exit) };
    LineWriter::new(RawOutput)
}

/// Builds what all handles and guards have.
macro_rules! descriptors {
    ($($name:ident $(<$life:lifetime>)?: $std:expr;)*) => {$(
        impl AsFd for $name $(<$life>)? {
            fn as_fd(&self) -> BorrowedFd<'_> {
                // SAFETY: std's own handles say that the standard descriptors are always open.
                unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) }
            }
        }

        impl AsRawFd for $name $(<$life>)? {
            fn as_raw_fd(&self) -> RawFd {
                $std.as_raw_fd()
            }
        }

        impl fmt::Debug for $name $(<$life>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

descriptors! {
    Stdin: io::stdin();
    StdinLock<'_>: io::stdin();
    Stdout: io::stdout();
    StdoutLock<'_>: io::stdout();
    Stderr: io::stderr();
    StderrLock<'_>: io::stderr();
}

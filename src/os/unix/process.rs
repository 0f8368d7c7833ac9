//! What Unix has beyond [`process`](crate::process): `std::os::unix::process`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process as std_process;

use crate::process::Command;

pub use std::os::unix::process::{ExitStatusExt, parent_id};

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::process::Command {}
}

/// What a [`Command`] has on Unix: `std::os::unix::process::CommandExt`. Implemented by this crate only.
///
/// # Examples
/// ```
/// use greenling::os::unix::process::CommandExt;
/// use greenling::process::Command;
///
/// let output = Command::new("sh").arg0("another name").args(["-c", "echo $0"]).output()?;
/// assert_eq!(output.stdout, b"another name\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait CommandExt: sealed::Sealed {
    /// Sets the child's user id. The supplementary groups are given up if this process is the superuser's.
    fn uid(&mut self, id: u32) -> &mut Command;

    /// Sets the child's group id.
    fn gid(&mut self, id: u32) -> &mut Command;

    /// Has `f` called in the child, after fork(2) and before execve(2). An error ends the child and is what
    /// [`spawn`](Command::spawn) returns.
    ///
    /// # Safety
    /// As for std's method: `f` runs in a copy of this process that has one thread only. It may call what is
    /// async-signal-safe; memory allocation and locks of other threads may be in any state. It must not wait
    /// for anything of this crate's.
    unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static;

    /// The older name of [`pre_exec`](Self::pre_exec).
    ///
    /// # Safety
    /// As there.
    #[deprecated(since = "0.1.0", note = "should be unsafe, use `pre_exec` instead")]
    unsafe fn before_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static;

    /// Replaces this process by the program. Returns only if that fails; the process may have lost some of its state
    /// then, as std's documentation says.
    fn exec(&mut self) -> io::Error;

    /// Sets the name under which the program is told that it was called.
    fn arg0<S>(&mut self, arg: S) -> &mut Command
    where
        S: AsRef<OsStr>;

    /// Puts the child into a process group; 0 means a new one of its own.
    fn process_group(&mut self, pgroup: i32) -> &mut Command;
}

impl CommandExt for Command {
    fn uid(&mut self, id: u32) -> &mut Command {
        std_process::CommandExt::uid(&mut self.inner, id);
        self
    }

    fn gid(&mut self, id: u32) -> &mut Command {
        std_process::CommandExt::gid(&mut self.inner, id);
        self
    }

    unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        // SAFETY: the caller's promise is what std asks for.
        unsafe { std_process::CommandExt::pre_exec(&mut self.inner, f) };
        self
    }

    unsafe fn before_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        // SAFETY: the caller's promise.
        unsafe { self.pre_exec(f) }
    }

    fn exec(&mut self) -> io::Error {
        self.inherit();
        std_process::CommandExt::exec(&mut self.inner)
    }

    fn arg0<S>(&mut self, arg: S) -> &mut Command
    where
        S: AsRef<OsStr>,
    {
        std_process::CommandExt::arg0(&mut self.inner, arg);
        self
    }

    fn process_group(&mut self, pgroup: i32) -> &mut Command {
        std_process::CommandExt::process_group(&mut self.inner, pgroup);
        self
    }
}

//! [`Child`] and its ends of the pipes.

#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{self, ExitStatus, Output};

use super::exit::Watch;
use crate::io::pipe::pipe_end;
use crate::rt;
use crate::thread;

pipe_end! {
    /// A child's standard input, to write to: `std::process::ChildStdin`. The child comes to the end of its input
    /// when this is dropped.
    ChildStdin, write
}

pipe_end! {
    /// A child's standard output, to read from: `std::process::ChildStdout`.
    ChildStdout, read
}

pipe_end! {
    /// A child's standard error, to read from: `std::process::ChildStderr`.
    ChildStderr, read
}

/// Builds the conversions from and to std's types.
macro_rules! std_ends {
    ($($name:ident)*) => {$(
        impl From<process::$name> for $name {
            fn from(end: process::$name) -> $name {
                OwnedFd::from(end).into()
            }
        }

        impl From<$name> for process::$name {
            fn from(end: $name) -> process::$name {
                OwnedFd::from(end).into()
            }
        }
    )*};
}

std_ends! { ChildStdin ChildStdout ChildStderr }

/// A program that has been started: `std::process::Child`.
///
/// Dropping it neither ends the program nor waits for it; as in std, whoever starts programs should wait for
/// them, or they stay in the process table as zombies once they have ended.
pub struct Child {
    inner: process::Child,
    /// What tells of the child's end; made by the first wait for it.
    watch: Option<Watch>,
    /// The child's standard input, if it was piped.
    pub stdin: Option<ChildStdin>,
    /// The child's standard output, if it was piped.
    pub stdout: Option<ChildStdout>,
    /// The child's standard error, if it was piped.
    pub stderr: Option<ChildStderr>,
}

impl Child {
    pub(super) fn new(mut inner: process::Child) -> Child {
        Child {
            stdin: inner.stdin.take().map(ChildStdin::from),
            stdout: inner.stdout.take().map(ChildStdout::from),
            stderr: inner.stderr.take().map(ChildStderr::from),
            inner,
            watch: None,
        }
    }

    /// Ends the program with `SIGKILL`. It still has to be waited for.
    ///
    /// # Errors
    /// As std's: none for a child that has been waited for, else what kill(2) says.
    pub fn kill(&mut self) -> io::Result<()> {
        self.inner.kill()
    }

    /// The child's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// Closes the child's standard input, waits for its end and returns its status, also when called again.
    ///
    /// A kill or a time limit ends the wait, and the child can be waited for again.
    ///
    /// # Errors
    /// What waitpid(2) says: `ECHILD` if somebody else has waited for the child.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use greenling::process::Command;
    /// use greenling::timeout;
    ///
    /// let mut child = Command::new("sleep").arg("100").spawn()?;
    /// assert!(timeout(Duration::from_millis(20), || child.wait()).is_err());
    /// child.kill()?;
    /// assert!(!child.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        let watch = match &mut self.watch {
            Some(watch) => watch,
            none => none.insert(Watch::new(self.inner.id())?),
        };
        let status = watch.wait(&mut self.inner)?;
        self.watch = None;
        Ok(status)
    }

    /// The child's status if it has ended, without waiting. Leaves its standard input open.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.inner.try_wait()?;
        match status {
            Some(_) => self.watch = None,
            None => rt::charge_look(),
        }
        Ok(status)
    }

    /// Closes the child's standard input, reads all of its output, from both pipes at once, and waits for its end.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait), and what read(2) says.
    #[track_caller]
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        self.end_with_output()
    }

    #[track_caller]
    pub(super) fn end_with_output(&mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (out, err) = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr) = match (out, err) {
            (Some(out), Some(err)) => read_both(out, err)?,
            (out, err) => (read_all(out)?, read_all(err)?),
        };
        let status = self.wait()?;
        Ok(Output { status, stdout, stderr })
    }

    /// Calls `f`; if that is unwound, by a kill or a time limit, the child is killed and waited for, because nobody
    /// has got hold of it.
    #[track_caller]
    pub(super) fn killed_when_unwinding<T>(self, f: impl FnOnce(&mut Child) -> T) -> T {
        struct KilledAtDrop(Option<Child>);

        impl Drop for KilledAtDrop {
            fn drop(&mut self) {
                if let Some(child) = self.0.take() {
                    child.end();
                }
            }
        }

        let mut guard = KilledAtDrop(Some(self));
        let result = f(guard.0.as_mut().expect("it was put there"));
        // Even if it was an error: std leaves the child alone then.
        drop(guard.0.take());
        result
    }

    /// Kills the child and takes its status, so that it leaves no zombie.
    #[cold]
    fn end(mut self) {
        drop((self.stdin.take(), self.stdout.take(), self.stderr.take()));
        let _ = self.inner.kill();
        // A killed process ends at once, unless it is stuck in the kernel; then nobody should have to wait for it.
        if !matches!(self.inner.try_wait(), Ok(None)) {
            return;
        }
        let mut inner = self.inner;
        let _ = std::thread::Builder::new()
            .name("reaper".into())
            .stack_size(64 * 1024)
            .spawn(move || inner.wait());
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("id", &self.inner.id())
            .finish_non_exhaustive()
    }
}

#[track_caller]
fn read_all(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Reads both at once: a child that finds one of them full would wait for ever if it were the other's turn.
#[track_caller]
fn read_both(out: ChildStdout, err: ChildStderr) -> io::Result<(Vec<u8>, Vec<u8>)> {
    thread::scope(|scope| {
        let err = thread::Builder::new()
            .name("stderr".into())
            .spawn_scoped(scope, move || read_all(Some(err)))?;
        let out = read_all(Some(out))?;
        let err = err.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))?;
        Ok((out, err))
    })
}

//! [`Command`].

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{self, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};

use super::Child;

/// A program that is to be started: `std::process::Command`.
///
/// # Examples
/// ```
/// use greenling::process::Command;
///
/// // As long as the longest of them.
/// let sleepers: Vec<_> = (0..10)
///     .map(|_| greenling::spawn(|| Command::new("sleep").arg("0.05").status()))
///     .collect();
/// for sleeper in sleepers {
///     assert!(sleeper.join().unwrap()?.success());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Command {
    pub(crate) inner: process::Command,
    /// Which of the standard streams have been given by the user; the others depend on the call.
    given: [bool; 3],
}

impl Command {
    /// A command with no arguments, the environment and working directory of this process, and standard streams
    /// that are inherited by [`spawn`](Self::spawn) and [`status`](Self::status), and captured by
    /// [`output`](Self::output).
    ///
    /// A program without a slash is looked for in `PATH`.
    pub fn new<S: AsRef<OsStr>>(program: S) -> Command {
        Command { inner: process::Command::new(program), given: [false; 3] }
    }

    /// Adds an argument.
    pub fn arg<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I, S>(&mut self, args: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.inner.args(args);
        self
    }

    /// Sets an environment variable for the child.
    pub fn env<K, V>(&mut self, key: K, val: V) -> &mut Command
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.inner.env(key, val);
        self
    }

    /// Sets environment variables for the child.
    pub fn envs<I, K, V>(&mut self, vars: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.inner.envs(vars);
        self
    }

    /// Removes an environment variable for the child.
    pub fn env_remove<K: AsRef<OsStr>>(&mut self, key: K) -> &mut Command {
        self.inner.env_remove(key);
        self
    }

    /// Removes all environment variables for the child.
    pub fn env_clear(&mut self) -> &mut Command {
        self.inner.env_clear();
        self
    }

    /// Sets the working directory of the child. A program's path is better not relative then.
    pub fn current_dir<P: AsRef<Path>>(&mut self, dir: P) -> &mut Command {
        self.inner.current_dir(dir);
        self
    }

    /// Sets the child's standard input. By default it is inherited, but for [`output`](Self::output), where it is empty.
    pub fn stdin<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.given[0] = true;
        self.inner.stdin(cfg);
        self
    }

    /// Sets the child's standard output. By default it is inherited, but for [`output`](Self::output), which
    /// captures it.
    pub fn stdout<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.given[1] = true;
        self.inner.stdout(cfg);
        self
    }

    /// Sets the child's standard error. By default it is inherited, but for [`output`](Self::output), which
    /// captures it.
    pub fn stderr<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.given[2] = true;
        self.inner.stderr(cfg);
        self
    }

    /// Starts the program and returns a handle of it. Blocks the thread until it has been executed.
    ///
    /// # Errors
    /// What fork(2) and execve(2) say, and whatever else prepares the child: `NotFound` if there is no such program,
    /// `EMFILE` when there are too many descriptors.
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.inherit();
        self.inner.spawn().map(Child::new)
    }

    /// Starts the program, waits for its end, and returns its status and what it has written.
    ///
    /// Standard output and standard error are read at the same time, so that a child that fills one of them does not
    /// wait for ever.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn), and what read(2) says.
    ///
    /// # Examples
    /// ```
    /// use greenling::process::Command;
    ///
    /// let output = Command::new("echo").arg("hello").output()?;
    /// assert!(output.status.success());
    /// assert_eq!(output.stdout, b"hello\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn output(&mut self) -> io::Result<Output> {
        self.set_defaults(Stdio::null, Stdio::piped);
        self.inner.spawn().map(Child::new)?.killed_when_unwinding(Child::end_with_output)
    }

    /// Starts the program and waits for its end.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn).
    #[track_caller]
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.killed_when_unwinding(Child::wait)
    }

    /// For the streams that the user has not given: std keeps what was set by the call before.
    fn set_defaults(&mut self, input: fn() -> Stdio, output: fn() -> Stdio) {
        if !self.given[0] {
            self.inner.stdin(input());
        }
        if !self.given[1] {
            self.inner.stdout(output());
        }
        if !self.given[2] {
            self.inner.stderr(output());
        }
    }

    pub(crate) fn inherit(&mut self) {
        self.set_defaults(Stdio::inherit, Stdio::inherit);
    }

    /// The program, as given to [`new`](Self::new).
    #[must_use]
    pub fn get_program(&self) -> &OsStr {
        self.inner.get_program()
    }

    /// The arguments.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.inner.get_args()
    }

    /// The environment variables that have been set, or removed (`None`).
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.inner.get_envs()
    }

    /// The working directory, if one has been set.
    #[must_use]
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.inner.get_current_dir()
    }
}

impl fmt::Debug for Command {
    /// The command, quoted, as std has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Takes the command over. Its standard streams count as given: a stream that has not been set is inherited, also
/// by [`Command::output`].
impl From<process::Command> for Command {
    fn from(inner: process::Command) -> Command {
        Command { inner, given: [true; 3] }
    }
}

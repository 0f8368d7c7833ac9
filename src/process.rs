//! Other programs: `std::process`, but waiting for them, and for their output, lets other coroutines run.
//!
//! ```
//! use greenling::process::{Command, Stdio};
//! use std::io::Write;
//!
//! let mut child = Command::new("tr").args(["a-z", "A-Z"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
//! child.stdin.take().unwrap().write_all(b"hello")?;
//! let output = child.wait_with_output()?; // others run meanwhile
//! assert_eq!(output.stdout, b"HELLO");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Children get plain blocking descriptors, and everything else that std gives them. What does not wait is std's own:
//! [`Stdio`], [`Output`], [`ExitStatus`], [`exit`], …
//!
//! # Kill and time limits
//! A wait for a [`Child`] that is interrupted leaves the child as it is: it can be waited for again. Within
//! [`Command::output`] and [`Command::status`] nobody but the call has the child, so that it is killed, as
//! Python's `subprocess.run` does.
//!
//! # What blocks
//! Starting a program blocks the thread until the program has been executed, for a millisecond or so.

#![forbid(unsafe_code)]

mod child;
mod command;
mod exit;

pub use child::{Child, ChildStderr, ChildStdin, ChildStdout};
pub use command::Command;
pub use std::process::{
    CommandArgs, CommandEnvs, ExitCode, ExitStatus, Output, Stdio, Termination, abort, exit, id,
};

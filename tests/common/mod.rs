//! What the tests share.

use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::panic::resume_unwind;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Runs a test on a thread of its own, and thus on a fresh hub, and fails if it has not ended in time: a
/// hang is a failure. The time includes the end of the thread, which takes its hub down.
#[allow(dead_code, reason = "not every test needs it")]
#[track_caller]
pub(crate) fn deadline<T: Send + 'static>(
    secs: u64,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let name = thread::current().name().unwrap_or("test").to_owned();
    let test = thread::Builder::new().name(name).spawn(body).expect("a thread for the test");
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(test.join()));
    match end.recv_timeout(Duration::from_secs(secs)) {
        Ok(Ok(value)) => value,
        Ok(Err(payload)) => resume_unwind(payload),
        Err(RecvTimeoutError::Timeout) => panic!("the test hangs: it has not ended in {secs} s"),
        Err(RecvTimeoutError::Disconnected) => unreachable!("the watcher always sends"),
    }
}

/// A pipe, reader first. (`std::io::pipe` is younger than the oldest Rust that the crate supports.)
#[allow(dead_code, reason = "not every test needs one")]
pub(crate) fn pipe() -> io::Result<(File, File)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given them to us.
    Ok(unsafe { (File::from_raw_fd(fds[0]), File::from_raw_fd(fds[1])) })
}

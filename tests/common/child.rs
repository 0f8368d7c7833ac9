//! Tests that crash, fork or change the whole process run in a process of their own: the test's own
//! program, started again for this one test.

use std::cell::Cell;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Says to the child that it is one.
const MARK: &str = "GREENLING_TEST_CHILD";

/// How a child has ended.
#[derive(Debug)]
#[allow(dead_code, reason = "not every test program needs all of it")]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

#[allow(dead_code, reason = "not every test program needs all of them")]
impl Ended {
    /// Fails unless the child has run its body to the end.
    #[track_caller]
    pub(crate) fn succeeded(&self) {
        let done = self.status.success() && self.stdout.contains(DONE);
        assert!(done, "the child process has failed: {self:#?}");
    }

    #[track_caller]
    pub(crate) fn died_of(&self, signal: i32) {
        assert_eq!(self.status.signal(), Some(signal), "{self:#?}");
    }
}

/// What a child prints at the end of its body. A body that is not reached would pass for a success.
const DONE: &str = "the child has done its work";

/// On which thread of the child the body runs.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "not every test program needs both")]
pub(crate) enum On {
    /// The first and only one of its process.
    MainThread,
    /// One that std has made.
    OtherThread,
}

/// Goes on in a fork of this process, where the calling thread is the main thread: libtest runs every test
/// on a thread of its own. Nothing of the crate has been used before, so that it does not see the fork.
fn become_main_thread() {
    // SAFETY: the only other thread is libtest's, which waits for this one.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        return;
    }
    let mut status = 0;
    // SAFETY: `status` is valid for the write; the rest passes no pointers and ends the process in the
    // way in which the fork has ended.
    unsafe {
        libc::waitpid(pid, &mut status, 0);
        if libc::WIFSIGNALED(status) {
            libc::signal(libc::WTERMSIG(status), libc::SIG_DFL);
            libc::raise(libc::WTERMSIG(status));
        }
        libc::_exit(libc::WEXITSTATUS(status));
    }
}

/// Runs `body` in a child process and returns how that ended. A child that has not ended after `secs` is
/// killed, and the test fails.
///
/// To be called before the test does anything else, since the child runs the test from its beginning; and
/// once only, for the same reason (see [`run_each`]).
#[track_caller]
#[allow(dead_code, reason = "not every test program needs it")]
pub(crate) fn run(on: On, secs: u64, body: impl FnOnce()) -> Ended {
    let mut body = Some(body);
    let run_body = |_: &()| body.take().expect("there is one case")();
    run_each(on, secs, &[()], run_body).pop().expect("there is one case")
}

/// Runs `body` for each case in a child process of its own, one after the other; otherwise as [`run`].
#[track_caller]
pub(crate) fn run_each<T>(on: On, secs: u64, cases: &[T], body: impl FnOnce(&T)) -> Vec<Ended> {
    thread_local!(static CALLS: Cell<u32> = const { Cell::new(0) });
    CALLS.set(CALLS.get() + 1);
    assert_eq!(CALLS.get(), 1, "a child could not tell the calls apart");
    if let Ok(case) = std::env::var(MARK) {
        if on == On::MainThread {
            become_main_thread();
        }
        body(&cases[case.parse::<usize>().unwrap()]);
        println!("{DONE}");
        std::process::exit(0);
    }
    (0..cases.len()).map(|case| run_case(secs, case)).collect()
}

#[track_caller]
fn run_case(secs: u64, case: usize) -> Ended {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = thread::current().name().expect("libtest names its threads").to_owned();
    command.args([&name, "--exact", "--include-ignored", "--nocapture"]);
    command.env(MARK, case.to_string()).env_remove("RUST_BACKTRACE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that what it has forked can be killed with it.
    command.process_group(0);
    let mut child = command.spawn().unwrap();
    let group = child.id() as i32;
    let stdout = drain(child.stdout.take().unwrap());
    let stderr = drain(child.stderr.take().unwrap());
    let deadline = Instant::now() + Duration::from_secs(secs);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() >= deadline => break None,
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    // SAFETY: no pointers are passed; the group is the one that we have just made.
    unsafe { libc::kill(-group, libc::SIGKILL) };
    let hangs = status.is_none();
    let status = status.unwrap_or_else(|| child.wait().unwrap());
    let ended = Ended { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
    assert!(!hangs, "the child hangs: it has not ended in {secs} s: {ended:#?}");
    ended
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

//! Programs of `examples/`, each in a process of its own.

#![allow(dead_code, reason = "not every test program needs all of it")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long any one thing may take on a busy machine, without optimization. What takes longer
/// hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// An example that runs in a process of its own, and is killed if it does not end in time.
pub(crate) struct Example {
    name: &'static str,
    child: Child,
    /// Lines of standard output and error, in the order in which they came.
    lines: Receiver<String>,
    seen: Vec<String>,
    /// What it reads, if it was started so that somebody writes it.
    stdin: Option<ChildStdin>,
}

impl Example {
    pub(crate) fn start(name: &'static str, arguments: &[&str]) -> Example {
        let mut command = Command::new(path(name));
        command.args(arguments);
        Example::run(name, command)
    }

    /// Starts an example in a shell that has set a limit.
    pub(crate) fn start_limited(name: &'static str, limit: &str, arguments: &str) -> Example {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit {limit} && exec \"$0\" {arguments}")).arg(path(name));
        Example::run(name, command)
    }

    fn run(name: &'static str, command: Command) -> Example {
        Example::spawn(name, command, Stdio::null())
    }

    /// Starts an example whose standard input comes from the test.
    pub(crate) fn start_typing(name: &'static str, arguments: &[&str]) -> Example {
        let mut command = Command::new(path(name));
        command.args(arguments);
        Example::spawn(name, command, Stdio::piped())
    }

    fn spawn(name: &'static str, mut command: Command, stdin: Stdio) -> Example {
        assert!(
            path(name).exists(),
            "run `cargo build --examples` first, with --release if the test has it: \
             `cargo test` builds the examples, but `cargo test --test examples` does not"
        );
        let mut child =
            command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        for stream in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let stdin = child.stdin.take();
        Example { name, child, lines, seen: Vec::new(), stdin }
    }

    /// Starts an example that serves, and waits until it does.
    pub(crate) fn serve(name: &'static str, arguments: &[&str]) -> (Example, SocketAddr) {
        let mut example = Example::start(name, &[&["--addr", "127.0.0.1:0"], arguments].concat());
        let line = example.line_with("listening on ");
        let (_, address) = line.split_once("listening on ").unwrap();
        (example, address.trim().parse().unwrap())
    }

    /// The next line that contains `part`.
    pub(crate) fn line_with(&mut self, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(reason) => self.fail(&format!("no line with {part:?} ({reason})")),
            }
        }
    }

    /// Writes a line to its standard input.
    pub(crate) fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it was started for typing");
        writeln!(stdin, "{line}").unwrap();
    }

    /// Ends its standard input.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: the process is our child and was not waited for, so the id is still its own.
        let result = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    pub(crate) fn limit_open_files(&self, count: u64) {
        let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
        let process = self.child.id() as libc::pid_t;
        let none = std::ptr::null_mut();
        // SAFETY: the process is our child and was not waited for; the kernel reads a valid rlimit
        // and writes nothing.
        let result = unsafe { libc::prlimit(process, libc::RLIMIT_NOFILE, &limit, none) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    /// Waits for the end; gives the exit status and everything that was printed.
    pub(crate) fn finish(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.fail("does not end"),
            }
        }
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.seen.join("\n"));
            }
            if Instant::now() > deadline {
                self.fail("does not exit");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end, which must be a good one; gives everything that was printed.
    pub(crate) fn succeed(self) -> String {
        let name = self.name;
        let (status, output) = self.finish();
        assert!(status.success(), "{name} ended with {status}:\n{output}");
        output
    }

    fn fail(&mut self, what: &str) -> ! {
        panic!("{}: {what}; it printed:\n{}", self.name, self.seen.join("\n"))
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo puts examples beside the directory with the test programs.
pub(crate) fn path(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(example)
}

pub(crate) fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&server, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

pub(crate) fn exchange(stream: &mut TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(message)?;
    let mut reply = vec![0; message.len()];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

//! Counts a process's system calls with `strace -c`.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::sys;

/// strace, attached to a server.
pub struct Strace {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

/// How often each system call was made.
pub struct Calls(Vec<(String, u64)>);

impl Strace {
    /// Attaches to a process and its threads. Fails where strace is missing or not allowed.
    pub fn attach(pid: u32) -> io::Result<Strace> {
        let mut child = Command::new("strace")
            .args(["-c", "-f", "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().expect("it is piped");
        let mut strace = Strace { child, stderr: BufReader::new(stderr) };
        let mut line = String::new();
        strace.stderr.read_line(&mut line)?;
        if !line.contains("attached") {
            strace.child.wait()?;
            return Err(io::Error::other(line.trim().to_owned()));
        }
        Ok(strace)
    }

    /// Detaches, and returns what was counted.
    pub fn finish(mut self) -> io::Result<Calls> {
        sys::interrupt(self.child.id())?;
        let mut output = String::new();
        self.stderr.read_to_string(&mut output)?;
        self.child.wait()?;
        Ok(Calls::parse(&output))
    }
}

impl Calls {
    /// A row is `% time, seconds, usecs/call, calls, [errors,] name`.
    fn parse(output: &str) -> Calls {
        let row = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            let (&name, &share) = (words.last()?, words.first()?);
            share.parse::<f64>().ok()?;
            Some((name.to_owned(), words.get(3)?.parse().ok()?))
        };
        let rows = output.lines().filter_map(row).filter(|(name, _)| name != "total");
        Calls(rows.collect())
    }

    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, calls)| calls).sum()
    }

    /// Each call by name, as so many for each of `requests`.
    pub fn per_request(&self, requests: u64) -> String {
        let mut text = String::new();
        for (name, calls) in &self.0 {
            let _ = write!(text, "{name} {:.3}  ", *calls as f64 / requests as f64);
        }
        text
    }
}

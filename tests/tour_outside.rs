//! The tours of what lies outside of the program, processes, files and processors, do what they say they do.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The lines that the example prints. It has a minute, on a busy machine and without optimization.
#[track_caller]
fn run(example: &str) -> Vec<String> {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf =
        test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(example);
    assert!(path.exists(), "`cargo build --examples` builds what this test runs");
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    // Little enough to fit into the pipes.
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{example} hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn subprocess() {
    let expected = [
        "echo says: hello",
        "sh says: hear, hear!",
        "sh says: there, there!",
        "sorted: a b c",
        "exit 3: exit status: 3",
        "it takes too long",
        "killed: signal: 9 (SIGKILL)",
        "well ended: 20",
        "zombies: 0",
    ];
    assert_eq!(run("tour_subprocess"), expected);
}

#[test]
fn copying_a_file_in_halves() {
    assert_eq!(run("tour_copy_file"), ["1000001 bytes, the same: true"]);
}

#[test]
fn primes_on_a_pool() {
    let lines = run("tour_primes");
    assert_eq!(lines.len(), 5);
    for (line, threads) in lines[1..4].iter().zip([1, 4, 10]) {
        let start = format!("{threads} workers: 9592 primes in ");
        assert!(line.starts_with(&start) && line.ends_with(" ms"), "{line}");
    }
    assert_eq!(lines[4], "meanwhile a coroutine had its turns");
}

#[test]
fn daemons() {
    let expected = ["the worker has cleaned up", "the killed one has cleaned up", "main ends"];
    assert_eq!(run("tour_daemon"), expected);
}

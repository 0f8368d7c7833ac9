//! The examples, at small size.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs an example, which cargo has built beside the tests.
fn run(name: &str, args: &[&str]) -> String {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let child =
        Command::new(&path).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let end = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("{name} hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{status}: {text}{}", String::from_utf8_lossy(&stderr));
    text
}

#[test]
fn patched_http_downloads() {
    let text = run("patched_http", &["50", "3"]);
    let rows: Vec<&str> = text.lines().filter(|line| line.ends_with(" 150000")).collect();
    assert_eq!(rows.len(), 2, "{text}");
    assert!(rows[0].starts_with("one thread") && rows[1].starts_with("a thread each"), "{text}");
}

#[test]
fn patched_redis_waits() {
    let text = run("patched_redis", &["50"]);
    if text.starts_with("skipped: ") {
        print!("{text}");
        return;
    }
    assert_eq!(text.lines().filter(|line| line.ends_with(" s")).count(), 2, "{text}");
}

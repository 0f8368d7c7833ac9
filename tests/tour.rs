//! The small programs of the tour print what they say they do. They assert it themselves, too.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Cargo puts the examples beside the tests.
fn path(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(example)
}

/// What the example prints. It has a minute, on a busy machine and without optimization.
#[track_caller]
fn output(example: &str, arguments: &[&str]) -> String {
    let path = path(example);
    assert!(path.exists(), "`cargo build --examples` builds what this test runs");
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Little enough to fit into the pipes.
    let deadline = Instant::now() + Duration::from_secs(60);
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
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn switch() {
    assert_eq!(output("tour_switch", &[]), "1\n3\n2\n4\n");
}

#[test]
fn eat_play() {
    let text = output("tour_eat_play", &[]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 8);
    assert_eq!((lines[0], lines[7]), ("Anna eats breakfast", "  the music has ended"));
}

#[test]
fn producer_consumer() {
    let text = output("tour_send", &[]);
    assert!(text.starts_with("made a leek bun\n  eaten so far: 1\n"), "{text}");
    assert!(text.ends_with("all of them: leek bun, cabbage bun, bean bun\n"), "{text}");
}

#[test]
fn consumer_chain() {
    assert_eq!(output("tour_consumer_chain", &[]), "1: green tea\n2: greenlets\n3: an evergreen\n");
}

#[test]
fn same_fringe() {
    let expected = "the same leaves: true, after 400 leaves\n\
                    another fifth leaf: false, after 10 leaves\n";
    assert_eq!(output("tour_same_fringe", &[]), expected);
}

#[test]
fn round_robin() {
    let turns = ["a 1 3", "b 1 1", "c 1 2", "a 2 3", "c 2 2", "a 3 3"];
    let expected: String = turns
        .map(|turn| {
            let mut words = turn.split(' ');
            let mut next = || words.next().unwrap();
            format!("{} has turn {} of {}\n", next(), next(), next())
        })
        .concat();
    assert_eq!(output("tour_round_robin", &[]), expected);
}

#[test]
fn the_round_robin_scheduler_is_short() {
    let source = include_str!("../examples/tour_round_robin.rs");
    assert!(source.lines().count() < 60);
}

#[test]
fn chain() {
    assert_eq!(output("tour_chain", &[]), "100000 links\n");
    assert_eq!(output("tour_chain", &["1"]), "1 links\n");
}

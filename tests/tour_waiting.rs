//! The small programs on waiting for each other run, and come to the end that they assert.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs an example and returns the lines that it prints.
#[track_caller]
fn run(name: &str) -> Vec<String> {
    // target/PROFILE/deps/this → target/PROFILE/examples
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.extend(["examples", name]);
    assert!(path.exists(), "`cargo build --examples` builds what this test runs");
    let mut child = Command::new(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{name} hangs: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{text}{errors}", output.status);
    assert_eq!(errors, "", "{name} has nothing to complain of");
    text.lines().map(str::to_owned).collect()
}

/// How many lines contain `part`.
fn count(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|line| line.contains(part)).count()
}

#[test]
fn producer_and_consumers() {
    let lines = run("tour_producer_consumer");
    assert_eq!((count(&lines, "baked"), count(&lines, " eats ")), (30, 30));
    // The producer has waited for room: it never ran ahead of the consumers by more than the shelf.
    assert!(lines.iter().position(|line| line.contains("eats")) < Some(14), "{lines:#?}");
}

#[test]
fn three_sleeps() {
    assert_eq!(run("tour_sleeps")[..3], ["slept 2 s", "slept 3 s", "slept 4 s"]);
}

#[test]
fn workers_with_names_and_a_count() {
    let lines = run("tour_workers");
    assert_eq!(count(&lines, "is done"), 10);
    assert_eq!(lines.last().unwrap(), "all ten have gone home");
}

#[test]
fn values_of_ones_own() {
    let expected = ["Ada: 3 steps", "Grace: 5 steps", "Barbara: 7 steps", "main serves nobody"];
    assert_eq!(run("tour_local"), expected);
}

#[test]
fn ten_wait_for_one_event() {
    let lines = run("tour_event");
    assert_eq!(lines[0], "bang!");
    let expected = (1..=10).map(|number| format!("runner {number} is off"));
    assert!(lines[1..11].iter().cloned().eq(expected), "{lines:#?}");
}

#[test]
fn never_over_a_red_light() {
    let lines = run("tour_traffic_light");
    let mut is_green = false;
    let mut cars = 0;
    for line in &lines {
        match line.as_str() {
            "red" => is_green = false,
            "green" => is_green = true,
            line if line.contains("drives") => {
                assert!(is_green, "{lines:#?}");
                cars += 1;
            }
            _ => {}
        }
    }
    assert_eq!(cars, 12);
}

#[test]
fn orders_of_queues() {
    assert!(run("tour_queue_orders")[0].starts_with(r#"["a", "b", "c"] ["c", "b", "a"]"#));
}

#[test]
fn a_pool_with_callbacks() {
    let lines = run("tour_pool");
    assert_eq!(lines.last().unwrap(), "[Some(0), Some(1), None, Some(3)]");
}

#[test]
fn join_with_a_timeout() {
    let lines = run("tour_join_timeout");
    assert_eq!(lines[0], "in time: the result");
    assert_eq!(lines[2..], ["the light is off", "the time limit has passed"]);
}

#[test]
fn start_after_a_delay() {
    let lines = run("tour_start_later");
    let said: Vec<&str> = lines.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(said, ["now", "one", "three", "five"]);
}

#[test]
fn two_locks_in_opposite_order() {
    let lines = run("tour_bank_transfer");
    assert_eq!(lines[0..2], ["careless:", "deadlock: nothing can ever run again"]);
    assert_eq!(count(&lines, "' waits for a Mutex, held by '"), 2);
    assert_eq!(lines.last().unwrap(), "balances: [430, 570]");
}

#[test]
fn five_at_a_time() {
    let lines = run("tour_semaphore");
    assert_eq!(count(&lines, "sits down"), 20);
    assert!(count(&lines, ": 5 at table") > 0 && count(&lines, ": 6 at table") == 0);
}

#[test]
fn a_recursive_lock() {
    let lines = run("tour_reentrant");
    assert_eq!(lines.len(), 19);
    assert_eq!(lines[2], "Ada begins 1");
}

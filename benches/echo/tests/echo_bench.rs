//! The measurement itself: it ends, it compares, and it does not accept a wrong answer.

use std::process::{Command, Output};

fn echo(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echo"));
    command.args(["--rounds", "2", "--slice", "50", "--limit", "60"]).args(args);
    command.output().expect("the program runs")
}

#[test]
fn a_short_run_compares_all_servers() {
    let csv = std::env::temp_dir().join(format!("greenling-echo-{}.csv", std::process::id()));
    let output = echo(&["--connections", "5,150", "--csv", csv.to_str().unwrap()]);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{stdout}{stderr}");
    for server in ["raw", "greenling", "threads"] {
        assert_eq!(stdout.lines().filter(|line| line.contains(server)).count(), 2, "{stdout}");
    }
    let rows = std::fs::read_to_string(&csv).unwrap();
    std::fs::remove_file(&csv).unwrap();
    // A heading, and two rounds of three servers with two numbers of connections.
    assert_eq!(rows.lines().count(), 1 + 2 * 3 * 2, "{rows}");
}

#[test]
fn a_wrong_answer_fails_the_run() {
    let output = echo(&["--connections", "5", "--servers", "raw,threads", "--corrupt"]);
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("answered something else than it was sent"), "{stderr}");
}

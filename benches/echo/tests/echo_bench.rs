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

#[test]
fn a_load_generator_that_does_not_compare_fails_the_run() {
    let output = echo(&["--connections", "5", "--servers", "raw,threads", "--blind"]);
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("does not see a wrong answer"), "{stderr}");
}

fn vs_threads(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vs_threads"));
    command.args(["--connections", "5,120", "--rounds", "2", "--slice", "50", "--limit", "60"]);
    command.args(args).output().expect("the program runs")
}

#[test]
fn vs_threads_writes_tables_rows_and_charts() {
    let docs = std::env::temp_dir().join(format!("greenling-vs-{}", std::process::id()));
    std::fs::create_dir_all(&docs).unwrap();
    let document = docs.join("performance.md");
    std::fs::write(&document, "before\n<!-- vs_threads -->\nold\n<!-- /vs_threads -->\nafter\n")
        .unwrap();
    let output = vs_threads(&["--no-limits", "--docs", docs.to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");

    let text = std::fs::read_to_string(&document).unwrap();
    assert!(text.starts_with("before\n") && text.ends_with("after\n"), "{text}");
    assert!(!text.contains("old"), "{text}");
    // Two numbers of connections, two ways to be busy.
    assert_eq!(text.lines().filter(|line| line.contains("| greenling |")).count(), 4, "{text}");
    let rows = std::fs::read_to_string(docs.join("vs_threads.csv")).unwrap();
    assert_eq!(rows.lines().count(), 1 + 2 * 2 * 2 * 2, "{rows}");
    for chart in ["cpu", "requests", "p99", "idle_p99", "memory", "open"] {
        let path = docs.join(format!("charts/vs_threads_{chart}.svg"));
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.contains("<svg") && svg.contains("greenling"), "{chart}: {svg}");
    }
    std::fs::remove_dir_all(&docs).unwrap();
}

#[test]
fn vs_threads_does_not_accept_a_wrong_answer() {
    let output = vs_threads(&["--no-limits", "--corrupt"]);
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("answered something else than it was sent"), "{stderr}");
}

#[test]
fn a_load_generator_that_reports_too_little_compared_is_not_believed() {
    use greenling_echo_bench::load::{Protocol, Slice};
    assert!(Slice::parse("10 10 640 1 1 1 1 1", Protocol::Echo).is_ok());
    assert!(Slice::parse("10 10 639 1 1 1 1 1", Protocol::Echo).is_err());
    assert!(Slice::parse("10 10 130 1 1 1 1 1", Protocol::Http).is_ok());
    assert!(Slice::parse("10 10 0 1 1 1 1 1", Protocol::Http).is_err());
    assert!(Slice::parse("10 10", Protocol::Echo).is_err());
}

#[test]
fn as_many_connections_as_the_limit_of_open_files_allows() {
    // 200 files, shared by descent with the servers and the load generator: not enough for 1,000 connections.
    let command =
        "ulimit -S -n 200; ulimit -H -n 200; exec \"$0\" --connections 1000 --rounds 1 --slice 20";
    let output = Command::new("sh")
        .args(["-c", command, env!("CARGO_BIN_EXE_echo")])
        .output()
        .expect("there is a shell");
    // The number is lowered to what fits, which the run says.
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("136 connections instead of 1000"), "{stderr}");
}

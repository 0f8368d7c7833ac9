//! All of it runs, and a run whose measuring is wrong fails.

use std::fs;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let mut peers = Command::new(env!("CARGO_BIN_EXE_peers"));
    peers.args(["--quick", "--limit", "240"]).args(arguments).output().unwrap()
}

fn fails_with(arguments: &[&str], why: &str) {
    let output = run(arguments);
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_server_that_answers_wrongly_fails_the_run() {
    fails_with(&["--only", "echo", "--corrupt"], "answered something else");
}

#[test]
fn a_load_generator_that_does_not_check_fails_the_run() {
    fails_with(&["--only", "echo", "--blind"], "does not see a wrong answer");
}

#[test]
fn the_small_operations_are_measured_and_written() {
    let docs = std::env::temp_dir().join(format!("peers-{}", std::process::id()));
    fs::create_dir_all(&docs).unwrap();
    fs::write(
        docs.join("performance.md"),
        "a\n<!-- peers_micro -->\nold\n<!-- /peers_micro -->\nz\n",
    )
    .unwrap();
    let to = docs.to_str().unwrap();
    let output = run(&["--only", "micro", "--ops", "yield,mutex4x250,idle", "--docs", to]);
    assert!(output.status.success(), "{output:?}");

    let document = fs::read_to_string(docs.join("performance.md")).unwrap();
    assert!(document.starts_with("a\n") && document.ends_with("\nz\n"), "{document}");
    assert!(!document.contains("old"), "{document}");
    for (op, by) in [("yield, two in turn", "tokio"), ("an idle one, made", "greenling")] {
        assert!(document.contains(&format!("| {op} | {by} |")), "{document}");
    }
    assert!(document.contains("tokio 1."), "no versions: {document}");
    let csv = fs::read_to_string(docs.join("peers_micro.csv")).unwrap();
    let turns = csv.lines().filter(|line| line.starts_with("yield,greenling,")).count();
    assert_eq!(turns, 2, "{csv}");
    assert!(docs.join("charts/peers_yield.svg").exists());
    fs::remove_dir_all(&docs).unwrap();
}

//! The bench runs, checks its servers, and says who was compared.

use std::process::Command;

#[test]
fn a_short_run_compares_the_servers() {
    if Command::new("wrk").arg("--version").output().is_err() {
        eprintln!("skipped: wrk is not installed");
        return;
    }
    let arguments =
        ["--connections", "4", "--rounds", "1", "--servers", "raw,greenling", "--limit", "60"];
    let output = Command::new(env!("CARGO_BIN_EXE_http")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    for server in ["raw", "greenling"] {
        let row = table.lines().find(|line| line.contains(server)).expect("it has a row");
        let ratio: f64 = row.split_whitespace().nth(4).unwrap().parse().unwrap();
        assert!((0.1..10.0).contains(&ratio), "{row}");
    }
}

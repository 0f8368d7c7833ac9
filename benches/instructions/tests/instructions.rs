//! What is counted repeats, and a table that is exceeded fails the run.

use std::fs;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_instructions")).args(arguments).output().unwrap()
}

#[test]
fn the_count_repeats_and_more_than_the_table_says_fails() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("skipped: valgrind is not installed");
        return;
    }
    let path = std::env::temp_dir().join(format!("instructions-{}.csv", std::process::id()));
    let table = path.to_str().unwrap();
    let short = ["--ops", "yield,mutex", "--shorten", "10", "--table", table];

    let output = run(&[&short[..], &["--write"]].concat());
    assert!(output.status.success(), "{output:?}");
    let written = fs::read_to_string(&path).unwrap();
    let counted: Vec<(&str, f64)> = (written.lines().skip(2))
        .map(|line| line.split_once(',').unwrap())
        .map(|(op, count)| (op, count.parse().unwrap()))
        .collect();
    assert_eq!(counted.iter().map(|(op, _)| *op).collect::<Vec<_>>(), ["yield", "mutex"]);
    assert!(counted.iter().all(|(_, count)| (1.0..10_000.0).contains(count)), "{written}");

    let output = run(&[&short[..], &["--check", "0.5"]].concat());
    assert!(output.status.success(), "{output:?}");

    fs::write(&path, format!("yield,{}\n", counted[0].1 * 0.9)).unwrap();
    let output = run(&[&short[..], &["--check"]].concat());
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("more instructions") && said.contains("yield"), "{said}");
    fs::remove_file(&path).unwrap();
}

//! greenling against a thread for each connection: `cargo bench --bench vs_threads`.
//!
//! The measurement itself is a program of `benches/echo`, which draws charts; what it needs for that is no burden to
//! the tests and examples of this package. So this one only has cargo run it, with the arguments that it got:
//! `cargo bench --bench vs_threads -- --help`.

#![forbid(unsafe_code)]

use std::env;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--quiet", "--manifest-path", manifest]);
    command.args(["-p", "greenling-echo-bench", "--bin", "vs_threads", "--"]);
    let arguments: Vec<_> = env::args().skip(1).collect();
    // A run with settings of its own is an experiment and leaves the documentation alone.
    if arguments.iter().all(|argument| argument == "--bench") {
        command.args(["--docs", docs]);
    }
    match command.args(arguments).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vs_threads: cargo does not run: {error}");
            ExitCode::FAILURE
        }
    }
}

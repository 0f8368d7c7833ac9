//! Instructions of the hot paths, counted by callgrind: figures that repeat on a noisy machine.
//!
//! Run with: `cargo run --release -p greenling-instructions [-- --check | --write]`
//!
//! Each operation is done N times and 2N times, in a process of its own under `valgrind --tool=callgrind`; the
//! difference, divided by N, is what one takes, without start and end. What the kernel does is not counted. The figures
//! are the same each time; that of `sleep`, for which the clock has a say, within a thousandth.
//! The table in `benches/instructions.csv` is of the toolchain that is named in it: another compiler makes other code.
//! `benches/compare` shows two commits side by side, both by the compiler that is installed.

#![forbid(unsafe_code)]

mod ops;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use clap::{Parser, Subcommand};
use ops::Op;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../instructions.csv");

/// Instructions of greenling's hot paths.
#[derive(Parser, Debug)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(clap::Args, Debug)]
struct Options {
    /// Count these only
    #[arg(long, value_delimiter = ',')]
    ops: Vec<Op>,
    /// The table that the figures are compared with
    #[arg(long, default_value = TABLE, value_name = "FILE")]
    table: PathBuf,
    /// Write the figures into the table
    #[arg(long)]
    write: bool,
    /// Fail if an operation takes more than so many percent more than the table says
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, default_missing_value = "3")]
    check: Option<f64>,
    /// Divide the numbers of operations by this
    #[arg(long, default_value_t = 1, hide = true)]
    shorten: u64,
}

#[derive(Subcommand, Debug)]
enum Role {
    /// Do an operation so many times
    #[command(hide = true)]
    Do { op: Op, times: u64 },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.role {
        Some(Role::Do { op, times }) => {
            op.run(times);
            Ok(())
        }
        None => run(&args.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        return Ok(());
    }
    let ops = if options.ops.is_empty() { &Op::ALL[..] } else { &options.ops };
    let known = fs::read_to_string(&options.table).unwrap_or_default();
    let (mut rows, mut worse) = (String::new(), Vec::new());
    println!("{:<44} {:>12} {:>12} {:>8}", "operation", "instructions", "table", "change");
    for &op in ops {
        let counted = count(op, (op.times() / options.shorten).max(1))?;
        rows += &format!("{},{counted:.1}\n", op.name());
        let (before, change) = match look_up(&known, op) {
            Some(before) => {
                let percent = (counted / before - 1.0) * 100.0;
                if options.check.is_some_and(|most| percent > most) {
                    worse.push(op.name());
                }
                (format!("{before:.1}"), format!("{percent:+.1} %"))
            }
            None => ("-".to_owned(), "-".to_owned()),
        };
        println!("{:<44} {counted:>12.1} {before:>12} {change:>8}", op.title());
    }
    if options.write {
        write(&options.table, &rows)?;
    }
    match worse[..] {
        [] => Ok(()),
        _ => Err(format!("more instructions than the table says: {}", worse.join(", ")).into()),
    }
}

/// Instructions of one operation.
fn count(op: Op, times: u64) -> Result<f64, Box<dyn Error>> {
    let (once, twice) = (collect(op, times)?, collect(op, 2 * times)?);
    Ok((twice as f64 - once as f64) / times as f64)
}

/// Instructions of a process that does it so many times.
fn collect(op: Op, times: u64) -> Result<u64, Box<dyn Error>> {
    let mut valgrind = Command::new("valgrind");
    // Stacks are of our own making, and lie anywhere.
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--max-stackframe=1"]);
    valgrind.arg(env::current_exe()?).args(["do", op.name(), &times.to_string()]);
    // What the environment is long is where the stack begins.
    let output =
        valgrind.env_clear().envs(env::var_os("PATH").map(|path| ("PATH", path))).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    match collected.and_then(|(_, number)| number.trim().parse().ok()) {
        Some(number) if output.status.success() => Ok(number),
        _ => Err(format!("{} under valgrind: {}\n{said}", op.name(), output.status).into()),
    }
}

fn look_up(table: &str, op: Op) -> Option<f64> {
    table.lines().find_map(|line| line.strip_prefix(op.name())?.strip_prefix(',')?.parse().ok())
}

fn write(table: &Path, rows: &str) -> Result<(), Box<dyn Error>> {
    let rustc = Command::new("rustc").arg("--version").output()?;
    let rustc = String::from_utf8_lossy(&rustc.stdout);
    fs::write(table, format!("# {}\noperation,instructions\n{rows}", rustc.trim()))?;
    Ok(())
}

//! What an echo over TCP costs the server, as a multiple of what a raw epoll loop pays.
//!
//! Run with: `cargo run --release -p greenling-echo-bench --bin echo -- --strace`
//!
//! The table shows medians over all rounds.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use greenling_echo_bench::load::Protocol;
use greenling_echo_bench::measure::{self, Placement, Plan, Subject};
use greenling_echo_bench::role::Role;
use greenling_echo_bench::{report, server};

/// TCP echo servers compared: processor time per request, memory and system calls.
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
    /// How many connections; fewer if the limit of open files is lower.
    #[arg(long, value_delimiter = ',', default_value = "50,1000,8000")]
    connections: Vec<usize>,
    /// The servers, in the order of their turns. The first is what the others are compared with.
    #[arg(long, value_delimiter = ',', default_value = "raw,greenling,threads")]
    servers: Vec<server::Kind>,
    /// How many turns each server has.
    #[arg(long, default_value_t = 12)]
    rounds: usize,
    /// Measured time of a turn, in milliseconds.
    #[arg(long, default_value_t = 250)]
    slice: u64,
    /// Count system calls as well, for the first number of connections.
    #[arg(long)]
    strace: bool,
    /// Write every turn to this file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 180)]
    limit: u64,
    /// Have the first server answer wrongly now and then: the run must fail.
    #[arg(long, hide = true)]
    corrupt: bool,
    /// Have the load generators compare nothing: the run must fail.
    #[arg(long, hide = true)]
    blind: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.role {
        None => run(&args.options),
        Some(role) => role.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    measure::give_up_after(Duration::from_secs(options.limit));
    let most = measure::most_connections()?;
    let placement = Placement::choose()?;
    measure::check_that_errors_are_seen(placement, options.blind)?;

    let subjects = options.servers.iter().enumerate();
    let subjects: Vec<_> = subjects
        .map(|(at, &kind)| Subject::built_in(kind, options.corrupt && at == 0))
        .collect::<Result<_, _>>()?;
    let mut reports = Vec::new();
    for (at, &wanted) in options.connections.iter().enumerate() {
        let connections = wanted.min(most);
        if connections < wanted {
            eprintln!("echo: {connections} connections instead of {wanted}: limit of open files");
        }
        eprint!("{connections} connections ");
        let plan = Plan {
            protocol: Protocol::Echo,
            connections,
            modes: vec![("all", connections)],
            rounds: options.rounds,
            slice: options.slice,
            strace: options.strace && at == 0,
            blind: options.blind,
            may_fall: false,
        };
        reports.extend(measure::compare(&subjects, &plan, placement)?.into_iter().flatten());
        eprintln!();
    }
    if let Some(path) = &options.csv {
        report::write_csv(&mut BufWriter::new(File::create(path)?), &reports)?;
    }
    print!("{}", report::table_of(&reports).for_terminal());
    for report in &reports {
        if let Some((_, names)) = &report.calls {
            println!("calls per echo, {}: {names}", report.name);
        }
    }
    Ok(())
}

//! greenling beside a thread for each connection.
//!
//! Run with: `cargo bench --bench vs_threads`
//!
//! Both servers are the same text (`server/blocking.rs`), once with the names of std and once with those of
//! greenling. For each number of connections both stand ready at once and take turns: with every connection
//! busy, and with only ten of them while the others are open and idle. Then each is filled up to a limit.
//!
//! It prints a table and, with `--docs`, writes it into `performance.md`, every turn into `vs_threads.csv`, and
//! draws charts.

use std::error::Error;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use greenling_echo_bench::chart::{self, Line};
use greenling_echo_bench::load::Protocol;
use greenling_echo_bench::measure::{self, Placement, Plan, Report, Subject};
use greenling_echo_bench::report::{self, Table};
use greenling_echo_bench::role::Role;
use greenling_echo_bench::server::Kind;
use greenling_echo_bench::stats::{median, micros};

/// How many connections are busy while the others idle.
const FEW: usize = 10;
/// A limit of open files that is reached soon.
const FILES: u64 = 500;
/// A limit of address space that is reached soon: 2 GiB.
const ADDRESS_SPACE: u64 = 2 << 30;
/// More connections than fit into that.
const BEYOND: usize = 12_000;

/// greenling against a thread for each connection.
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
    /// How many connections; as many as the limit of open files allows, if that is lower.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,5000,10000,20000")]
    connections: Vec<usize>,
    /// How many turns each server has in each mode.
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Measured time of a turn, in milliseconds.
    #[arg(long, default_value_t = 250)]
    slice: u64,
    /// Leave the limits alone.
    #[arg(long)]
    no_limits: bool,
    /// Where to put the CSV and the charts; `performance.md` there gets the tables.
    #[arg(long, value_name = "DIRECTORY")]
    docs: Option<PathBuf>,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 420)]
    limit: u64,
    /// Have greenling's place taken by a server that answers wrongly: the run must fail.
    #[arg(long, hide = true)]
    corrupt: bool,
    /// What `cargo bench` says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.role {
        None => run(&args.options),
        Some(role) => role.run().map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vs_threads: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    measure::give_up_after(Duration::from_secs(options.limit));
    let most = measure::most_connections()?;
    let placement = Placement::choose()?;
    measure::check_that_errors_are_seen(placement, false)?;
    let greenling = if options.corrupt { Kind::Raw } else { Kind::Greenling };
    let subjects =
        [Subject::built_in(greenling, options.corrupt)?, Subject::built_in(Kind::Threads, false)?];

    let (mut reports, mut fallen) = (Vec::new(), Vec::new());
    for &wanted in &options.connections {
        let connections = wanted.min(most);
        if connections < wanted {
            eprintln!("{connections} connections instead of {wanted}: limit of open files");
        }
        eprint!("{connections} connections ");
        let plan = Plan {
            protocol: Protocol::Echo,
            connections,
            modes: vec![("all", connections), ("10", FEW.min(connections))],
            rounds: options.rounds,
            slice: options.slice,
            strace: false,
            blind: false,
            may_fall: true,
        };
        let compared = measure::compare(&subjects, &plan, placement)?;
        for subject in &subjects {
            if compared.iter().flatten().all(|report| report.name != subject.name) {
                fallen.push(format!(
                    "{} has no row with {connections} connections: it ended, or refused some, while they were opened.",
                    subject.name
                ));
            }
        }
        reports.extend(compared.into_iter().flatten());
        eprintln!();
    }
    let table = report::table_of(&reports);
    print!("{}", table.for_terminal());

    let limits = if options.no_limits { Table::default() } else { limits(&subjects, placement)? };
    print!("\n{}", limits.for_terminal());
    fallen.iter().for_each(|line| println!("{line}"));
    if let Some(docs) = &options.docs {
        write_docs(docs, &reports, &table, &limits, &fallen.join("\n"))?;
    }
    Ok(())
}

fn limits(subjects: &[Subject], placement: Placement) -> Result<Table, Box<dyn Error>> {
    let mut outcomes = Vec::new();
    for subject in subjects {
        let files = measure::reach_limit(subject, BEYOND, placement, Some(FILES), None)?;
        outcomes.push(("500 open files", files));
    }
    for subject in subjects {
        let space = measure::reach_limit(subject, BEYOND, placement, None, Some(ADDRESS_SPACE))?;
        outcomes.push(("2 GiB of address space", space));
    }
    Ok(report::table_of_limits(outcomes.iter().map(|(limit, outcome)| (*limit, outcome))))
}

fn write_docs(
    docs: &Path,
    reports: &[Report],
    table: &Table,
    limits: &Table,
    fallen: &str,
) -> Result<(), Box<dyn Error>> {
    let charts = docs.join("charts");
    fs::create_dir_all(&charts)?;
    report::write_csv(&mut BufWriter::new(File::create(docs.join("vs_threads.csv"))?), reports)?;

    let lines = |mode: &str, value: &dyn Fn(&Report) -> f64| -> Vec<Line> {
        ["greenling", "threads"]
            .iter()
            .map(|name| {
                let of = reports.iter().filter(|r| r.name == *name && r.mode == mode);
                ((*name).to_owned(), of.map(|r| (r.connections as f64, value(r))).collect())
            })
            .collect()
    };
    let all: [(&str, &str, &str, Vec<Line>); 6] = [
        ("cpu", "Server CPU per request, all connections busy", "µs", {
            lines("all", &|r| median(r.cpu_per_request()))
        }),
        ("requests", "Requests per second, all connections busy", "1/s", {
            lines("all", &|r| median(r.requests_per_second()))
        }),
        ("p99", "p99 latency, all connections busy", "µs", {
            lines("all", &|r| r.median_of(|slice| micros(slice.p99)))
        }),
        ("idle_p99", "p99 latency, 10 connections busy, the others idle", "µs", {
            lines("10", &|r| r.median_of(|slice| micros(slice.p99)))
        }),
        ("memory", "Resident memory per connection", "KB", {
            lines("all", &|r| r.resident / 1000.0)
        }),
        ("open", "Time to open all and have each echo once", "s", {
            lines("all", &|r| r.opened.as_secs_f64())
        }),
    ];
    let mut pictures = String::new();
    for (name, title, unit, lines) in all {
        chart::lines(&charts.join(format!("vs_threads_{name}.svg")), title, unit, &lines)?;
        pictures += &format!("![{title}](charts/vs_threads_{name}.svg)\n");
    }
    let text = format!(
        "{}\n\n{}\n{fallen}\n\n{}\n{pictures}",
        report::machine(),
        table.for_document(),
        limits.for_document()
    );
    report::replace_in_document(&docs.join("performance.md"), "vs_threads", &text)?;
    Ok(())
}

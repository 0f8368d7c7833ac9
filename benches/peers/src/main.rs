//! greenling beside the other runtimes.
//!
//! Run with: `cargo run --release --manifest-path benches/peers/Cargo.toml [-- --quick]`
//!
//! It measures all that is installed: what an echo and a small HTTP answer cost a server, by `benches/echo`'s load
//! generator, and the small operations. What is not there is passed over, and said. Without options it takes about
//! ten minutes and writes tables, every single turn (CSV) and charts into `docs/`.

mod foreign;
mod micro;
mod run;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use greenling_echo_bench::role::Role;

/// greenling beside tokio, may, threads, Go, gevent, hyper, nginx and others.
#[derive(Parser, Debug)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Section {
    /// Server CPU per echo, at 50, 1,000 and 8,000 connections
    Echo,
    /// The same for a small HTTP answer, at 64 and 1,000
    Http,
    /// The small operations
    Micro,
}

#[derive(clap::Args, Debug)]
struct Options {
    /// Few rounds and few connections: shows that all of it works, and no figure to rely on
    #[arg(long)]
    quick: bool,
    /// What is measured
    #[arg(long, value_delimiter = ',', default_value = "echo,http,micro")]
    only: Vec<Section>,
    /// The small operations to measure; all by default
    #[arg(long, value_delimiter = ',')]
    ops: Vec<micro::Op>,
    /// How many turns each one has
    #[arg(long)]
    rounds: Option<usize>,
    /// Write tables and charts into this directory. By default docs/, unless there is any option: a run with
    /// settings of its own is an experiment
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 1800)]
    limit: u64,
    /// Have the first server answer wrongly now and then: the run must fail
    #[arg(long, hide = true)]
    corrupt: bool,
    /// Have the load generators compare nothing: the run must fail
    #[arg(long, hide = true)]
    blind: bool,
}

/// The processes that a run starts.
#[derive(Subcommand, Debug)]
enum Part {
    #[command(flatten)]
    Of(Role),
    /// A server of another runtime
    #[command(hide = true)]
    Peer { kind: server::Kind },
    /// Small operations, as standard input says
    #[command(hide = true)]
    Micro { peer: micro::Peer, op: micro::Op },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.part {
        None => run::run(&args.options),
        Some(Part::Of(role)) => role.run().map_err(Into::into),
        Some(Part::Peer { kind }) => kind.serve().map_err(Into::into),
        Some(Part::Micro { peer, op }) => micro::obey(peer, op).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

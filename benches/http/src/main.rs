//! What a small HTTP answer costs the server, as a multiple of what a raw epoll loop pays.
//!
//! Run with: `cargo run --release -p greenling-http-bench` (wants wrk; nginx joins in if it is installed)
//!
//! Each server runs in a process of its own on one processor, and wrk on another. The servers take short
//! turns, so that whatever else the machine does falls on all of them alike. What is compared is
//! processor time per request: with a client as costly as the server, requests per second say little. The
//! ratio is that of two turns of one round; the table shows medians over all rounds.

mod hello;
mod run;
mod server;
#[path = "../../echo/src/sys.rs"]
#[allow(dead_code, reason = "the echo bench needs more of it")]
mod sys;
mod wrk;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// HTTP servers compared: processor time per request.
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
    /// How many keep-alive connections
    #[arg(long, value_delimiter = ',', default_value = "64,1000")]
    connections: Vec<usize>,
    /// The servers, in the order of their turns. The first is what the others are compared with
    #[arg(long, value_delimiter = ',', default_value = "raw,greenling,nginx")]
    servers: Vec<server::Kind>,
    /// How many turns each server has
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds that a turn takes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    slice: u64,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 300)]
    limit: u64,
}

/// The processes that a run starts.
#[derive(Subcommand, Debug)]
enum Role {
    #[command(hide = true)]
    Serve {
        kind: server::Kind,
        #[arg(long)]
        cpu: Option<usize>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.role {
        None => run::run(&args.options),
        Some(Role::Serve { kind, cpu }) => prepare_child(cpu).and_then(|()| server::serve(kind)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http: {error}");
            ExitCode::FAILURE
        }
    }
}

fn prepare_child(cpu: Option<usize>) -> io::Result<()> {
    sys::die_with_parent()?;
    sys::raise_open_files()?;
    cpu.map_or(Ok(()), sys::pin_to)
}

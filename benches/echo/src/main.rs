//! What an echo over TCP costs the server, as a multiple of what a raw epoll loop pays.
//!
//! Run with: `cargo run --release -p greenling-echo-bench -- --strace`
//!
//! The servers run on one processor and the load generator on another, each in a process of its
//! own. For every number of connections all servers stand ready at once and take short turns, so
//! that whatever else the machine does falls on all of them alike. The ratio is that of two turns
//! that follow each other; the table shows medians over all rounds.

mod load;
mod run;
mod server;
mod strace;
mod sys;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
}

/// The processes that a run starts.
#[derive(Subcommand, Debug)]
enum Role {
    #[command(hide = true)]
    Serve {
        kind: server::Kind,
        #[arg(long)]
        cpu: Option<usize>,
        #[arg(long)]
        corrupt: bool,
    },
    #[command(hide = true)]
    Load {
        addr: SocketAddr,
        #[arg(long)]
        connections: usize,
        /// The server's process, whose processor time is read.
        #[arg(long)]
        server: u32,
        #[arg(long)]
        cpu: Option<usize>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.role {
        None => run::run(&args.options),
        Some(Role::Serve { kind, cpu, corrupt }) => {
            prepare_child(cpu).and_then(|()| server::serve(kind, corrupt))
        }
        Some(Role::Load { addr, connections, server, cpu }) => {
            prepare_child(cpu).and_then(|()| load::run(addr, connections, server))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn prepare_child(cpu: Option<usize>) -> io::Result<()> {
    sys::die_with_parent()?;
    sys::raise_open_files()?;
    cpu.map_or(Ok(()), sys::pin_to)
}

//! An FTP server: RFC 959 with the extensions that clients use today (RFC 2389, 2428, 3659).
//!
//! Run with: cargo run --release -p ftp_server -- --root DIR
//!
//! Then, in another terminal: `lftp 127.0.0.1:2121`, or `curl ftp://127.0.0.1:2121/`.
//!
//! Each session is a coroutine in plain blocking style; while it transfers, a second one listens to
//! the client. Clients cannot leave DIR. An upload appears under its name when it is complete. Without
//! `--passwords` everybody may read and write as `anonymous`. SIGINT and SIGTERM let running transfers
//! end, for `--grace` seconds at most; a second signal does not wait.

mod ascii;
#[path = "../../support/cached.rs"]
mod cached;
mod control;
mod data;
mod disk;
mod files;
#[cfg(test)]
#[path = "../../../tests/common/fuzz.rs"]
mod fuzz;
#[path = "../../support/limits.rs"]
mod limits;
mod line;
mod listing;
mod path;
mod serve;
mod session;
#[path = "../../support/stderr_log.rs"]
mod stderr_log;
mod transfer;
mod users;
mod watch;

use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use disk::Disk;
use serve::Server;
use users::{Anonymous, Users};

/// Descriptors that belong to no session: standard streams, the listener, epoll, signals, the root.
const SPARE_DESCRIPTORS: u64 = 64;
/// Control, data and listening connection, and two for the path to a file.
const DESCRIPTORS_PER_CLIENT: u64 = 5;

/// An FTP server.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// The directory that is served, and that clients cannot leave
    #[arg(long, value_name = "DIR", required_unless_present = "hash")]
    root: Option<PathBuf>,
    /// Where to listen; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:2121", value_name = "HOST:PORT")]
    addr: String,
    /// Clients served at a time; the rest are told to try again later
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    max_clients: u64,
    /// Let in only those of this file, with lines NAME:HASH, or NAME:HASH:ro for who may only read
    #[arg(long, value_name = "FILE")]
    passwords: Option<PathBuf>,
    /// Let in anonymous users besides, who may only read
    #[arg(long, requires = "passwords")]
    anonymous: bool,
    /// Read a password from standard input, print its HASH for the password file, and end
    #[arg(long)]
    hash: bool,
    /// Nobody may change anything
    #[arg(long)]
    read_only: bool,
    /// Allow PORT and EPRT, to the client's own address only
    #[arg(long)]
    active: bool,
    /// The ports of passive data connections, for a firewall
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_ports)]
    passive_ports: Option<RangeInclusive<u16>>,
    /// The address that PASV names, if clients reach this host by another one
    #[arg(long, value_name = "IP")]
    public_address: Option<Ipv4Addr>,
    /// Seconds after which a client that says nothing is dismissed
    #[arg(long, default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle_timeout: u64,
    /// Seconds after which a transfer that does not move is broken off
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    data_timeout: u64,
    /// Seconds that running transfers have to finish when the server ends
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    grace: u64,
    /// Write a line for each login and transfer to standard error
    #[arg(long)]
    log: bool,
}

impl Options {
    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout)
    }

    pub(crate) fn data_timeout(&self) -> Duration {
        Duration::from_secs(self.data_timeout)
    }
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = text.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        (1 <= first && first <= last).then_some(first..=last)
    });
    range.ok_or_else(|| "it must be two port numbers with a dash between them".into())
}

fn main() -> ExitCode {
    stderr_log::install();
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ftp_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut options: Options) -> io::Result<()> {
    if options.hash {
        return print_hash();
    }
    let wanted = options.max_clients * DESCRIPTORS_PER_CLIENT + SPARE_DESCRIPTORS;
    let limit = limits::raise_open_files(wanted)?;
    let most = (limit.saturating_sub(SPARE_DESCRIPTORS) / DESCRIPTORS_PER_CLIENT).max(1);
    if most < options.max_clients {
        eprintln!("Only {limit} files may be open here: at most {most} clients at a time.");
        options.max_clients = most;
    }
    let root = options.root.as_deref().unwrap_or(".".as_ref());
    let disk = Disk::open(root)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", root.display())))?;
    let users = Users::load(options.passwords.as_deref(), anonymous(&options), options.read_only)?;

    Rc::new(Server::new(options, disk, users)).serve()
}

/// Without a list of users there is nobody but anonymous.
fn anonymous(options: &Options) -> Anonymous {
    match (&options.passwords, options.anonymous) {
        (None, _) => Anonymous::Writes,
        (Some(_), true) => Anonymous::Reads,
        (Some(_), false) => Anonymous::Refused,
    }
}

fn print_hash() -> io::Result<()> {
    let mut password = String::new();
    io::stdin().read_line(&mut password)?;
    println!("{}", users::hash(password.trim_end_matches(['\r', '\n']).as_bytes())?);
    Ok(())
}

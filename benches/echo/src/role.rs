//! The processes that a run starts. Every program of the harness can play each of these roles.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Subcommand;

use crate::load::{self, Protocol};
use crate::server::{self, Kind};
use crate::sys;

/// What a child process does.
#[derive(Subcommand, Debug)]
pub enum Role {
    /// One of the servers that are built in.
    #[command(hide = true)]
    Serve {
        kind: Kind,
        #[arg(long)]
        corrupt: bool,
    },
    /// The load generator.
    #[command(hide = true)]
    Load {
        addr: SocketAddr,
        #[arg(long)]
        connections: usize,
        /// The server's process, whose processor time is read.
        #[arg(long)]
        server: u32,
        #[arg(long)]
        protocol: Protocol,
        /// Compare nothing: the run must fail.
        #[arg(long)]
        blind: bool,
    },
    /// Opens connections until the server takes no more.
    #[command(hide = true)]
    Limit {
        addr: SocketAddr,
        #[arg(long)]
        most: usize,
    },
    /// Becomes another program, on one processor, that ends when its parent does.
    #[command(hide = true)]
    Launch {
        #[arg(long)]
        cpu: Option<usize>,
        /// The limit of open files.
        #[arg(long)]
        files: Option<u64>,
        /// The limit of address space, in bytes.
        #[arg(long)]
        address_space: Option<u64>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

impl Role {
    /// Plays it.
    pub fn run(self) -> io::Result<()> {
        match self {
            Role::Serve { kind, corrupt } => server::serve(kind, corrupt),
            Role::Load { addr, connections, server, protocol, blind } => {
                load::run(addr, connections, server, protocol, blind)
            }
            Role::Limit { addr, most } => load::limit(addr, most),
            Role::Launch { cpu, files, address_space, command } => {
                sys::die_with_parent()?;
                match files {
                    Some(files) => sys::limit_open_files(files)?,
                    None => drop(sys::raise_open_files()?),
                }
                address_space.map_or(Ok(()), sys::limit_address_space)?;
                cpu.map_or(Ok(()), sys::pin_to)?;
                Err(Command::new(&command[0]).args(&command[1..]).exec())
            }
        }
    }
}

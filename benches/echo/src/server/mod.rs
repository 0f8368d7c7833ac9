//! The servers. Each answers every byte with itself, and runs until it is killed.

mod raw;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};

use clap::ValueEnum;

/// One coroutine for each connection. The same text as `threads`: only the names are others.
mod coroutines {
    use greenling::net::{TcpListener, TcpStream};
    use greenling::thread::{Builder, sleep};

    include!("blocking.rs");
}

/// One thread for each connection.
mod threads {
    use std::net::{TcpListener, TcpStream};
    use std::thread::{Builder, sleep};

    include!("blocking.rs");
}

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kind {
    /// An epoll loop by hand: the least that an echo can cost.
    Raw,
    /// A coroutine for each connection.
    Greenling,
    /// A thread for each connection.
    Threads,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Raw => "raw",
            Kind::Greenling => "greenling",
            Kind::Threads => "threads",
        }
    }
}

/// Serves on a free port of the loopback interface, which it prints. With `corrupt`, `raw` answers
/// wrongly now and then.
pub fn serve(kind: Kind, corrupt: bool) -> io::Result<()> {
    match kind {
        Kind::Raw => {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            announce(listener.local_addr()?)?;
            raw::serve(listener, corrupt)
        }
        Kind::Greenling => {
            let listener = greenling::net::TcpListener::bind(("127.0.0.1", 0))?;
            announce(listener.local_addr()?)?;
            coroutines::serve(listener)
        }
        Kind::Threads => {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            announce(listener.local_addr()?)?;
            threads::serve(listener)
        }
    }
}

fn announce(addr: SocketAddr) -> io::Result<()> {
    println!("listening on {addr}");
    io::stdout().flush()
}

//! The servers.

mod nginx;
mod raw;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use clap::ValueEnum;
use greenling::net::TcpStream;
use greenling::server::StreamServer;

use crate::hello;

pub(crate) use nginx::Nginx;

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// An epoll loop by hand
    Raw,
    /// A coroutine for each connection
    Greenling,
    /// One process of nginx that returns the same text, if it is installed
    Nginx,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Raw => "raw",
            Kind::Greenling => "greenling",
            Kind::Nginx => "nginx",
        }
    }

    pub(crate) fn is_installed(self) -> bool {
        let nginx = || Command::new("nginx").arg("-v").output().is_ok();
        self != Kind::Nginx || nginx()
    }
}

/// Serves on a free port of the loopback interface, which it prints.
pub(crate) fn serve(kind: Kind) -> io::Result<()> {
    match kind {
        Kind::Raw => {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            announce(listener.local_addr()?)?;
            raw::serve(listener)
        }
        Kind::Greenling => {
            let server = StreamServer::bind(("127.0.0.1", 0), |stream, _| connection(stream))?;
            announce(server.local_addr()?)?;
            server.serve_forever()
        }
        Kind::Nginx => Err(io::Error::other("nginx is a program of its own")),
    }
}

fn announce(addr: SocketAddr) -> io::Result<()> {
    println!("listening on {addr}");
    io::stdout().flush()
}

/// All that greenling's server is: what one would write for a thread.
fn connection(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = [0; 2048];
    let mut output = Vec::with_capacity(512);
    let mut length = 0;
    loop {
        if length == input.len() {
            return Err(io::Error::other("the request is too long"));
        }
        let received = stream.read(&mut input[length..])?;
        if received == 0 {
            return Ok(());
        }
        length += received;
        let used = hello::answer_all(&input[..length], &mut output)?;
        input.copy_within(used..length, 0);
        length -= used;
        stream.write_all(&output)?;
        output.clear();
    }
}

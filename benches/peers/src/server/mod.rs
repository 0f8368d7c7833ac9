//! The servers of the other runtimes. Each serves on a free port of the loopback interface, which it prints, until
//! it is killed.

mod http;
mod with_may;
mod with_tokio;

use std::io::{self, Write};
use std::net::SocketAddr;

use clap::ValueEnum;

/// Bytes of a connection's buffer, as in the servers of `benches/echo`.
const BUFFER: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// tokio on one thread
    Tokio,
    /// tokio with two workers
    Tokio2,
    /// may with one worker
    May,
    /// HTTP by hyper, on tokio with one thread
    Hyper,
    /// HTTP by may_minihttp, on may with one worker
    MayMinihttp,
}

impl Kind {
    pub(crate) const ECHO: [Kind; 3] = [Kind::Tokio, Kind::Tokio2, Kind::May];
    pub(crate) const HTTP: [Kind; 2] = [Kind::Hyper, Kind::MayMinihttp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Tokio => "tokio",
            Kind::Tokio2 => "tokio2",
            Kind::May => "may",
            Kind::Hyper => "hyper",
            Kind::MayMinihttp => "may-minihttp",
        }
    }

    pub(crate) fn serve(self) -> io::Result<()> {
        match self {
            Kind::Tokio => with_tokio::serve(0),
            Kind::Tokio2 => with_tokio::serve(2),
            Kind::May => with_may::serve(),
            Kind::Hyper => http::with_hyper(),
            Kind::MayMinihttp => http::with_may_minihttp(),
        }
    }
}

fn announce(addr: SocketAddr) -> io::Result<()> {
    println!("listening on {addr}");
    io::stdout().flush()
}

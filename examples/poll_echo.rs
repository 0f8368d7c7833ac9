//! An echo server in one loop over `poll`, for those who come from select, poll or epoll: the classical
//! state machine, in which nothing waits but `greenling::io::poll`.
//!
//! Run with: cargo run --release --example poll_echo
//!
//! Then, in another terminal: `nc 127.0.0.1 7014`.
//!
//! `echo_server` does the same with a coroutine for each client, in a third of the code and with less work
//! for the kernel; this shows that a loop of this kind lives beside other coroutines. SIGINT and SIGTERM
//! end it cleanly.

#[path = "support/limits.rs"]
mod limits;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use greenling::io::{PollFd, poll};
use greenling::{signal, sleep, spawn};

/// Descriptors that are not clients: standard streams, the listener, epoll, signals, those of `poll`.
const SPARE_DESCRIPTORS: u64 = 64;
/// What a client may have waiting for it. Nothing more is read from it until it has taken some.
const MAX_PENDING: usize = 64 * 1024;
/// For which nobody is accepted when the descriptors have run out.
const PAUSE: Duration = Duration::from_millis(50);

/// An echo server over poll.
#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:7014", value_name = "HOST:PORT")]
    addr: String,
    /// Clients served at a time
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    max_clients: u64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("poll_echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let limit = limits::raise_open_files(options.max_clients + SPARE_DESCRIPTORS)?;
    let most = limit.saturating_sub(SPARE_DESCRIPTORS).clamp(1, options.max_clients);
    if most < options.max_clients {
        eprintln!("Only {limit} files may be open here: at most {most} clients at a time.");
    }
    let signals = signal::termination()?;
    let listener = TcpListener::bind(&options.addr)?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;

    let mut server =
        Server { listener, clients: Vec::new(), max_clients: most as usize, paused_until: None };
    // The loop is a coroutine like any other; `poll` is where it waits, and where it can be ended.
    let server = spawn(move || server.run());
    let ended = greenling::sync::mpsc::channel();
    let told = ended.0.clone();
    server.on_exit(move |_| {
        let _ = told.send(None);
    });
    spawn(move || ended.0.send(Some(signals.wait())));
    if ended.1.recv().ok().flatten().is_some() {
        server.kill();
        println!("ended by a signal");
        return Ok(());
    }
    server.join().expect("it does not panic")
}

struct Server {
    listener: TcpListener,
    clients: Vec<Client>,
    max_clients: usize,
    paused_until: Option<Instant>,
}

struct Client {
    stream: TcpStream,
    /// What it has sent and not got back yet, from `sent` on.
    pending: Vec<u8>,
    sent: usize,
    /// Whether it has sent all that it will. It is owed the rest of its echo nevertheless.
    ended: bool,
    /// Whether its connection is over.
    gone: bool,
}

impl Server {
    /// Until an error that is not one client's.
    fn run(&mut self) -> io::Result<()> {
        loop {
            let (can_accept, ready) = self.wait()?;
            for (client, (readable, writable)) in self.clients.iter_mut().zip(ready) {
                client.go_on(readable, writable);
            }
            self.clients.retain(|client| !client.gone);
            if can_accept {
                self.accept()?;
            }
        }
    }

    /// Waits until there is something to do; says whether somebody can be accepted, and for each client
    /// whether it can be read and written.
    fn wait(&mut self) -> io::Result<(bool, Vec<(bool, bool)>)> {
        let now = Instant::now();
        self.paused_until = self.paused_until.filter(|&until| until > now);
        let pause = self.paused_until.map(|until| until - now);
        let accepts = pause.is_none() && self.clients.len() < self.max_clients;
        let mut fds: Vec<PollFd<'_>> = self.clients.iter().map(Client::interest).collect();
        if accepts {
            fds.push(PollFd::readable(&self.listener));
        }
        match poll(&mut fds, pause) {
            // A wait needs a descriptor; a look does not.
            Err(error) if is_exhausted(&error) => {
                sleep(PAUSE);
                poll(&mut fds, Some(Duration::ZERO))?;
            }
            polled => drop(polled?),
        }
        let can_accept = accepts && fds.pop().is_some_and(|fd| fd.is_readable());
        Ok((can_accept, fds.iter().map(|fd| (fd.is_readable(), fd.is_writable())).collect()))
    }

    fn accept(&mut self) -> io::Result<()> {
        while self.clients.len() < self.max_clients {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    let (pending, sent, ended, gone) = (Vec::new(), 0, false, false);
                    self.clients.push(Client { stream, pending, sent, ended, gone });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The listener would be ready again and again, and the loop spin.
                Err(error) if is_exhausted(&error) => {
                    eprintln!("poll_echo: {error}");
                    self.paused_until = Some(Instant::now() + PAUSE);
                    break;
                }
                Err(error) if is_of_the_listener(&error) => return Err(error),
                // That of a client which has gone already.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::ENOSPC];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

fn is_of_the_listener(error: &io::Error) -> bool {
    let codes = [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

impl Client {
    /// What is to be waited for. Errors and hang-ups are always reported.
    fn interest(&self) -> PollFd<'_> {
        let reads = !self.ended && self.pending.len() < MAX_PENDING;
        match (reads, self.sent < self.pending.len()) {
            (true, true) => PollFd::either(&self.stream),
            (true, false) => PollFd::readable(&self.stream),
            (false, _) => PollFd::writable(&self.stream),
        }
    }

    fn go_on(&mut self, readable: bool, writable: bool) {
        let read = if readable { self.read() } else { Ok(()) };
        // What was just read can mostly be sent at once.
        let written = if readable || writable { self.write() } else { Ok(()) };
        let owed = self.sent < self.pending.len();
        self.gone = read.and(written).is_err() || (self.ended && !owed);
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while self.pending.len() < MAX_PENDING {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(length) => self.pending.extend(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        while self.sent < self.pending.len() {
            match self.stream.write(&self.pending[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.pending.clear();
        self.sent = 0;
        Ok(())
    }
}

//! One log for many: the lines of standard input and of all clients of a Unix socket, each with its time.
//!
//! Run with: cargo run --release --example unix_log -- --addr /tmp/log.sock --log /tmp/log
//!
//! Then, in another terminal: `echo hello | nc -U -N /tmp/log.sock`, or `socat - UNIX:/tmp/log.sock`.
//!
//! A socket file that a server has left behind is taken over; one on which somebody listens is not, and what
//! is no socket is never touched. When the disk is slow, clients wait; when it is full, lines are lost,
//! counted and reported. SIGINT and SIGTERM end the server when all lines that it has taken are written.

#[path = "support/limits.rs"]
mod limits;
#[path = "support/stderr_log.rs"]
mod stderr_log;
#[path = "support/stop.rs"]
mod stop;

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Parser;
use greenling::fs::OpenOptions;
use greenling::io::Adapter;
use greenling::server::StreamServer;
use greenling::sync::mpsc::{Receiver, SyncSender, sync_channel};
use greenling::threadpool::unblock;
use greenling::{spawn, timeout};

/// Descriptors that are not clients: standard streams, the listener, epoll, signals, the log.
const SPARE_DESCRIPTORS: u64 = 64;
/// A longer line is cut into several.
const MAX_LINE: u64 = 8 * 1024;
/// How many lines may wait for the disk.
const BACKLOG: usize = 1024;
/// What is written at once, if so much is there.
const BATCH: usize = 64 * 1024;

/// How long a server that may be there has to accept.
const PROBE: Duration = Duration::from_secs(1);

/// A log that many write to.
#[derive(Clone, Parser)]
struct Options {
    /// The socket to listen on
    #[arg(long, default_value = "/tmp/greenling-log.sock", value_name = "PATH")]
    addr: PathBuf,
    /// The file to append to; standard output by default
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Clients served at a time
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_clients: u64,
    /// Seconds that clients may go on after SIGINT or SIGTERM
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    grace: u64,
}

fn main() -> ExitCode {
    stderr_log::install();
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unix_log: {error}");
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
    let log: Box<dyn Write> = match &options.log {
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path);
            Box::new(file.map_err(|error| about(path, error))?)
        }
        None => Box::new(greenling::io::stdout()),
    };
    let socket = SocketFile::bind(&options.addr)?;
    let listener = Adapter::new(socket.listener.try_clone()?)?;

    let (sender, lines) = sync_channel(BACKLOG);
    let of_clients = Sender { lines: sender.clone() };
    let server = StreamServer::new(listener, move |client, _| of_clients.serve_client(client))
        .max_clients(most as usize);
    stop::stop_on_signal(server.handle(), Duration::from_secs(options.grace))?;
    println!("listening on {}", options.addr.display());
    io::stdout().flush()?;

    let writer = spawn(move || write_all(log, &lines));
    let typed = Sender { lines: sender };
    let stdin = spawn(move || typed.copy("stdin", greenling::io::stdin().lock()));
    let served = server.serve_forever();
    let clients = server.stats().accepted;
    // The end of all senders is the end of the writer.
    drop(server);
    stdin.kill();
    let (written, lost) = writer.join().expect("it neither panics nor is it killed");
    drop(socket);
    served?;
    println!("{clients} clients, {written} lines written, {lost} lost");
    Ok(())
}

fn about(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A listening socket, whose file goes with it.
struct SocketFile {
    path: PathBuf,
    listener: UnixListener,
    /// Device and number of the file, by which it is known.
    identity: (u64, u64),
}

impl SocketFile {
    fn bind(path: &Path) -> io::Result<SocketFile> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        };
        let listener = listener.map_err(|error| about(path, error))?;
        let identity = identity(path)?;
        Ok(SocketFile { path: path.to_owned(), listener, identity })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Not if somebody has put another one in its place.
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Removes a socket file behind which there is no server any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let in_use = |what: &str| Err(about(path, io::Error::new(ErrorKind::AddrInUse, what)));
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return in_use("this is no socket, and is left alone");
    }
    // Connecting waits if the backlog is full, and then somebody is there, too.
    let probe = path.to_owned();
    match timeout(PROBE, || unblock(move || UnixStream::connect(probe).map(drop))) {
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => in_use("somebody listens on it"),
    }
}

/// One entry of the log.
struct Line {
    time: SystemTime,
    source: String,
    text: Vec<u8>,
}

/// A way into the log, which waits while that is behind.
struct Sender {
    lines: SyncSender<Line>,
}

impl Sender {
    fn serve_client(&self, client: Adapter<UnixStream>) -> io::Result<()> {
        // The kernel tells who is at the other end; a client cannot.
        let process = peer_process(client.get_ref())?;
        self.copy(&format!("process {process}"), BufReader::new(client));
        Ok(())
    }

    /// Every line of `reader`, until it ends or fails.
    fn copy(&self, source: &str, mut reader: impl BufRead) {
        loop {
            let mut text = Vec::new();
            let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut text);
            let ended = !matches!(read, Ok(length) if length > 0);
            if text.last() == Some(&b'\n') {
                text.pop();
            } else if text.is_empty() {
                return;
            }
            let line = Line { time: SystemTime::now(), source: source.to_owned(), text };
            if self.lines.send(line).is_err() || ended {
                return;
            }
        }
    }
}

fn peer_process(client: &UnixStream) -> io::Result<i32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    let (fd, value) = (client.as_raw_fd(), (&raw mut peer).cast());
    // SAFETY: the kernel writes a `ucred` at most, of the size that it is told, into a valid one.
    let got =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, value, &raw mut size) };
    if got == 0 { Ok(peer.pid) } else { Err(io::Error::last_os_error()) }
}

impl Line {
    /// `2026-01-31T12:00:00.000Z [source] text`, always one line, and nothing that a terminal would obey.
    fn append_to(&self, out: &mut Vec<u8>) {
        let time = humantime::format_rfc3339_millis(self.time);
        let text = String::from_utf8_lossy(&self.text);
        let _ = write!(out, "{time} [{}] ", self.source);
        for c in text.trim_end_matches('\r').chars() {
            let _ = match c {
                '\t' => write!(out, "\t"),
                c if c.is_control() => write!(out, "{}", c.escape_default()),
                c => write!(out, "{c}"),
            };
        }
        out.push(b'\n');
    }
}

/// Writes every line; several at once, when several are there. Says how many were written, and how many lost.
fn write_all(mut log: Box<dyn Write>, lines: &Receiver<Line>) -> (u64, u64) {
    let (mut written, mut lost) = (0, 0);
    let mut batch = Vec::new();
    while let Ok(line) = lines.recv() {
        batch.clear();
        line.append_to(&mut batch);
        let mut count = 1;
        while batch.len() < BATCH {
            let Ok(line) = lines.try_recv() else { break };
            line.append_to(&mut batch);
            count += 1;
        }
        match log.write_all(&batch).and_then(|()| log.flush()) {
            Ok(()) => written += count,
            Err(error) => {
                eprintln!("unix_log: {count} lines are lost: {error}");
                lost += count;
            }
        }
    }
    (written, lost)
}

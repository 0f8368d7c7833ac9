//! A web proxy: CONNECT for https, and plain HTTP/1.1.
//!
//! Run with: cargo run --release --example web_proxy
//!
//! Then, in another terminal: `curl -x http://127.0.0.1:7011 http://example.org/` or
//! `curl -x http://127.0.0.1:7011 https://example.org/`.
//!
//! Requests are parsed strictly and written anew, so that nothing can be smuggled past the proxy; bodies go
//! through as they come, in either direction, both at once where a server answers early. A client may use
//! its connection for many requests. Whoever reaches the proxy may use it: it listens on loopback unless it
//! is told otherwise. SIGINT and SIGTERM end it: idle connections are closed at once, requests and tunnels have
//! `--grace` seconds, unless a second signal comes. Of a tunnel nobody but its ends knows whether it is still needed, so one
//! that is open keeps the proxy for all of them.

#[path = "support/dial.rs"]
mod dial;
#[path = "support/http_message.rs"]
mod http_message;
#[path = "support/limits.rs"]
mod limits;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/stderr_log.rs"]
mod stderr_log;
#[path = "support/stop.rs"]
mod stop;

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv6Addr, Shutdown};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use greenling::net::TcpStream;
use greenling::server::{Handle, StreamServer};
use greenling::{scope, timeout};
use http_message::{Body, Head, Start};
use relay::{Counts, relay};
use slab::Slab;

/// Descriptors that are not connections: standard streams, the listener, epoll, signals.
const SPARE_DESCRIPTORS: u64 = 64;
/// How long a client may take over the head of a request that it has begun.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a client may go on sending a body that nobody wants any more.
const LINGER: Duration = Duration::from_secs(2);
/// How long a connection may take for a request's first byte that begins to wait for it while the server stops: it
/// has just been accepted, or was just told that it may go on.
const LAST_CALL: Duration = Duration::from_millis(200);

/// A web proxy.
#[derive(Clone, Parser)]
struct Options {
    /// Where to listen; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:7011", value_name = "HOST:PORT")]
    addr: String,
    /// Clients served at a time
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_clients: u64,
    /// Seconds that a server has to accept
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    connect_timeout: u64,
    /// Seconds after which a connection on which nothing moves is closed
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle_timeout: u64,
    /// Seconds that requests and tunnels may go on after SIGINT or SIGTERM. A tunnel takes all of them unless one of
    /// its ends closes it, for an idle one may still be needed
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    grace: u64,
    /// Write a line for each request to standard error
    #[arg(long)]
    log: bool,
}

fn main() -> ExitCode {
    stderr_log::install();
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("web_proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    let limit = limits::raise_open_files(2 * options.max_clients + SPARE_DESCRIPTORS)?;
    let most = (limit.saturating_sub(SPARE_DESCRIPTORS) / 2).clamp(1, options.max_clients);
    if most < options.max_clients {
        eprintln!("Only {limit} files may be open here: at most {most} clients at a time.");
    }
    let proxy = Proxy {
        options: options.clone(),
        name: format!("greenling-{:08x}", fastrand::u32(..)),
        requests: Cell::new(0),
        idle: Idle::default(),
        server: OnceCell::new(),
    };
    let proxy: &'static Proxy = Box::leak(Box::new(proxy));
    let server = StreamServer::bind(&options.addr, |client, _| proxy.serve(client))?
        .max_clients(most as usize);
    // It accepts only from `serve_forever` on.
    let _ = proxy.server.set(server.handle());
    let dismissal = greenling::spawn({
        let server = server.handle();
        move || {
            server.wait_stopping();
            proxy.idle.dismiss_all();
        }
    });
    stop::stop_on_signal(server.handle(), Duration::from_secs(options.grace))?;
    println!("listening on {}", server.local_addr()?);
    io::stdout().flush()?;

    server.serve_forever()?;
    dismissal.kill();
    println!("served {} clients, {} requests", server.stats().accepted, proxy.requests.get());
    Ok(())
}

struct Proxy {
    options: Options,
    /// What it calls itself in `Via`, by which it knows its own requests again.
    name: String,
    requests: Cell<u64>,
    idle: Idle,
    server: OnceCell<Handle>,
}

/// The connections that wait for a request: they need not be waited for when the server stops.
#[derive(Default)]
struct Idle {
    clients: RefCell<Slab<Rc<TcpStream>>>,
}

impl Idle {
    fn enter(&self, client: &Rc<TcpStream>) -> Seat<'_> {
        Seat { idle: self, key: self.clients.borrow_mut().insert(Rc::clone(client)) }
    }

    fn dismiss_all(&self) {
        for (_, client) in self.clients.borrow().iter() {
            // It fails if the client has gone, which is the same.
            let _ = client.shutdown(Shutdown::Read);
        }
    }
}

struct Seat<'i> {
    idle: &'i Idle,
    key: usize,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.idle.clients.borrow_mut().remove(self.key);
    }
}

/// Why a request gets an answer from the proxy itself.
struct Refusal {
    status: u16,
    reason: &'static str,
    cause: String,
}

impl Refusal {
    fn new(status: u16, reason: &'static str, cause: impl ToString) -> Refusal {
        Refusal { status, reason, cause: cause.to_string() }
    }

    fn of_server(error: &io::Error) -> Refusal {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                Refusal::new(504, "Gateway Timeout", error)
            }
            _ => Refusal::new(502, "Bad Gateway", error),
        }
    }
}

/// What becomes of the client's connection.
enum Next {
    Request,
    Close,
}

impl Proxy {
    fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.options.idle_timeout)
    }

    fn is_stopping(&self) -> bool {
        self.server.get().is_some_and(Handle::is_stopping)
    }

    /// Waits for the first byte of a request; tells whether there is one.
    fn await_request(
        &self,
        shared: &Rc<TcpStream>,
        reader: &mut BufReader<&TcpStream>,
    ) -> io::Result<bool> {
        if !reader.buffer().is_empty() {
            return Ok(true);
        }
        if self.is_stopping() {
            return timeout(LAST_CALL, || reader.fill_buf().map(|bytes| !bytes.is_empty()))
                .unwrap_or(Ok(false));
        }
        let _seat = self.idle.enter(shared);
        Ok(!reader.fill_buf()?.is_empty())
    }

    /// One client, with all its requests.
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let shared = Rc::new(client);
        let client = &*shared;
        client.set_read_timeout(Some(self.idle_timeout()))?;
        client.set_write_timeout(Some(self.idle_timeout()))?;
        client.set_nodelay(true)?;
        let mut reader = BufReader::new(client);
        loop {
            // Between requests it may be idle; once one begins, its head has to come.
            if !self.await_request(&shared, &mut reader)? {
                return Ok(());
            }
            let head = timeout(HEAD_TIMEOUT, || http_message::read_request(&mut reader));
            let head = match head {
                Ok(Ok(Some(head))) => head,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => {
                    return refuse(client, &Refusal::new(400, "Bad Request", error));
                }
                Ok(Err(error)) => return Err(error),
                Err(elapsed) => {
                    return refuse(client, &Refusal::new(408, "Request Timeout", elapsed));
                }
            };
            self.requests.set(self.requests.get() + 1);
            match self.answer(head, &mut reader, client)? {
                Ok(Next::Request) => {}
                Ok(Next::Close) => return linger(client),
                Err(refusal) => return refuse(client, &refusal),
            }
        }
    }

    /// One request. The outer error ends the connection without an answer.
    fn answer(
        &self,
        head: Head,
        reader: &mut BufReader<&TcpStream>,
        client: &TcpStream,
    ) -> io::Result<Result<Next, Refusal>> {
        let Start::Request { method, target } = &head.start else {
            unreachable!("it was asked for")
        };
        if self.options.log {
            eprintln!("{method} {target}");
        }
        if method == "CONNECT" {
            let target = target.clone();
            return self.tunnel(&target, reader, client);
        }
        match self.rewrite(head) {
            Ok(forward) => forward.run(self, reader, client),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn dial(&self, target: &str) -> Result<TcpStream, Refusal> {
        let limit = Duration::from_secs(self.options.connect_timeout);
        let server = dial::dial(target, limit).and_then(|server| {
            server.set_read_timeout(Some(self.idle_timeout()))?;
            server.set_write_timeout(Some(self.idle_timeout()))?;
            server.set_nodelay(true)?;
            Ok(server)
        });
        server.map_err(|error| Refusal::of_server(&error))
    }

    fn tunnel(
        &self,
        target: &str,
        reader: &mut BufReader<&TcpStream>,
        mut client: &TcpStream,
    ) -> io::Result<Result<Next, Refusal>> {
        if authority(target, None).as_deref() != Some(target) {
            return Ok(Err(Refusal::new(400, "Bad Request", "CONNECT wants HOST:PORT")));
        }
        let server = match self.dial(target) {
            Ok(server) => server,
            Err(refusal) => return Ok(Err(refusal)),
        };
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        // What an eager client has sent behind its request is the server's already.
        (&server).write_all(reader.buffer())?;
        reader.consume(reader.buffer().len());
        relay(client, &server, Some(self.idle_timeout()), &Counts::default())?;
        Ok(Ok(Next::Close))
    }

    /// The request as the server is to get it.
    fn rewrite(&self, mut head: Head) -> Result<Forward, Refusal> {
        let bad = |cause: &dyn ToString| Refusal::new(400, "Bad Request", cause.to_string());
        let Start::Request { method, target } = &head.start else {
            unreachable!("it was asked for")
        };
        let Some((host, path)) = split_target(target) else {
            return Err(bad(&"the proxy wants http://HOST/PATH"));
        };
        let server = authority(host, Some(80)).ok_or_else(|| bad(&"the host is malformed"))?;
        let (method, host) = (method.clone(), host.to_owned());
        let start = Start::Request { method: method.clone(), target: path };
        let body = head.request_body().map_err(|error| bad(&error))?;
        // Which host is meant says the target; a Host that is missing or there twice is a sign of mischief.
        let hosts = head.all("host").count();
        if hosts > 1 || (hosts == 0 && head.minor_version >= 1) {
            return Err(bad(&"a request has one Host"));
        }
        if head.list("via").iter().any(|hop| hop.ends_with(&self.name)) {
            return Err(Refusal::new(508, "Loop Detected", "the request has been here before"));
        }
        let forward = Forward {
            method,
            server,
            body,
            keep_alive: head.keeps_alive(),
            chunks: head.minor_version >= 1,
            continues: head.minor_version >= 1
                && head.list("expect").iter().any(|what| what == "100-continue"),
            head: {
                head.start = start;
                head.remove_hop_by_hop();
                head.remove("host");
                head.fields.insert(0, ("Host".to_owned(), host.into_bytes()));
                head.add("Via", format!("1.1 {}", self.name));
                head.add("Connection", "close");
                frame(&mut head, body == Body::Chunked);
                head
            },
        };
        Ok(forward)
    }
}

/// A request on its way to a server, over a connection of its own.
struct Forward {
    head: Head,
    method: String,
    server: String,
    body: Body,
    /// Whether the client wants to send more requests.
    keep_alive: bool,
    /// Whether the client understands chunks.
    chunks: bool,
    /// Whether the client waits to be told to send the body.
    continues: bool,
}

impl Forward {
    fn run(
        self,
        proxy: &Proxy,
        reader: &mut BufReader<&TcpStream>,
        client: &TcpStream,
    ) -> io::Result<Result<Next, Refusal>> {
        let server = match proxy.dial(&self.server) {
            Ok(server) => server,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // If the server does not take it, then it may have answered nevertheless.
        let _ = (&server).write_all(&self.head.to_bytes());
        let sent = Cell::new(self.body == Body::Length(0));
        let answered = scope(|scope| {
            // The body goes up while the answer comes down: a server may answer before it has all.
            let upload = scope.spawn(|| {
                let copied = http_message::copy_body(self.body, reader, &mut &server, true);
                sent.set(copied.is_ok());
                match copied {
                    // The server will miss the rest of it, and the client get no answer.
                    Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                        server.shutdown(Shutdown::Both)
                    }
                    _ => Ok(()),
                }
            });
            let answered = self.pass_answer(proxy, &server, client);
            upload.kill();
            answered
        });
        match answered {
            Ok(Ok(true)) if sent.get() => Ok(Ok(Next::Request)),
            Ok(Ok(_)) => Ok(Ok(Next::Close)),
            Ok(Err(refusal)) => Ok(Err(refusal)),
            Err(error) => {
                // Half an answer must not look like a whole one.
                relay::reset_on_close(client)?;
                Err(error)
            }
        }
    }

    /// Passes on what the server says; tells whether the client may send another request.
    fn pass_answer(
        &self,
        proxy: &Proxy,
        server: &TcpStream,
        mut client: &TcpStream,
    ) -> io::Result<Result<bool, Refusal>> {
        let mut from_server = BufReader::new(server);
        let (mut head, status) = loop {
            let mut head = match http_message::read_response(&mut from_server) {
                Ok(head) => head,
                Err(error) => return Ok(Err(Refusal::of_server(&error))),
            };
            let Start::Response { status, .. } = head.start else {
                unreachable!("it was asked for")
            };
            match status {
                101 => return Ok(Err(Refusal::new(502, "Bad Gateway", "nobody asked to upgrade"))),
                100..200 if status != 100 || self.continues => {
                    head.remove_hop_by_hop();
                    client.write_all(&head.to_bytes())?;
                }
                100..200 => {}
                _ => break (head, status),
            }
        };
        let body = match head.response_body(status, &self.method) {
            Ok(body) => body,
            Err(error) => return Ok(Err(Refusal::of_server(&error))),
        };
        let framed = match body {
            Body::Length(_) => true,
            Body::Chunked => self.chunks,
            Body::UntilClose => false,
        };
        head.remove_hop_by_hop();
        frame(&mut head, body == Body::Chunked && self.chunks);
        head.add("Via", "1.1 greenling");
        let keep_alive = framed && self.keep_alive && !proxy.is_stopping();
        head.add("Connection", if keep_alive { "keep-alive" } else { "close" });
        client.write_all(&head.to_bytes())?;
        http_message::copy_body(body, &mut from_server, &mut client, self.chunks)?;
        Ok(Ok(keep_alive))
    }
}

/// Says how the body is framed from here on: once, whatever the sender has said twice.
fn frame(head: &mut Head, chunked: bool) {
    if let Some(length) = head.list("content-length").into_iter().next() {
        head.remove("content-length");
        head.add("Content-Length", length);
    }
    if chunked {
        head.add("Transfer-Encoding", "chunked");
    }
}

/// Splits `http://HOST[:PORT]/PATH` into what goes into `Host` and into the request line.
fn split_target(target: &str) -> Option<(&str, String)> {
    let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"))?;
    let rest = &target[scheme.len()..];
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    Some((host, if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }))
}

/// `HOST:PORT` as it is looked up; with the default port, if there is none and there is a default.
fn authority(text: &str, default: Option<u16>) -> Option<String> {
    // A colon inside of brackets is part of an IPv6 address.
    let after_brackets = text.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match text[after_brackets..].rsplit_once(':') {
        Some((host, port)) => (&text[..after_brackets + host.len()], number(port)?),
        None => (text, default?),
    };
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(of_a_name),
    };
    (is_host && port != 0).then(|| format!("{host}:{port}"))
}

/// Digits only: what is parsed as a number may have a sign.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn refuse(mut client: &TcpStream, refusal: &Refusal) -> io::Result<()> {
    let Refusal { status, reason, cause } = refusal;
    let text = format!("{status} {reason}: {cause}\n");
    write!(
        client,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )?;
    linger(client)
}

/// Closes in a way that lets the client read the answer, though it may still be sending: what comes after
/// a socket is closed is answered by a reset, and that may overtake the answer.
fn linger(mut client: &TcpStream) -> io::Result<()> {
    match client.shutdown(Shutdown::Write) {
        Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
        ended => ended?,
    }
    let _ = timeout(LINGER, || io::copy(&mut client, &mut io::sink()));
    Ok(())
}

//! The load generator: many connections from one thread, each with one request under way, every
//! byte of every answer compared with what was sent.
//!
//! It is a process of its own, and obeys its standard input: for each line `WARM MEASURE ACTIVE`, in
//! milliseconds and connections, it keeps so many of its connections busy for so long, waits for the last
//! answers, and prints a [`Slice`]. In between nothing is under way, so several of them can take turns.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use socket2::{Domain, Socket, Type};

use crate::sys::{self, Epoll, Event, READABLE};

/// Bytes in a request of `echo`, and in its answer.
const MESSAGE: usize = 64;
/// What an HTTP server is asked for.
const GET: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: greenling-bench\r\nAccept: */*\r\n\r\n";
/// What it answers.
pub const HELLO: &[u8] = b"Hello, World!";
/// How many connections are opened before all of them are tried: fewer than a listener's backlog.
const BATCH: usize = 100;
/// How many connections come from the same address. Of an address' 28,000 ephemeral ports Linux's connect(2) prefers
/// one half, and once that is used up it searches it in vain, each time, for most of a millisecond.
const PER_ADDRESS: usize = 5_000;
/// Longest time without any answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Protocol {
    /// Every byte comes back.
    Echo,
    /// HTTP/1.1 with keep-alive; every answer is 200 with the body [`HELLO`].
    Http,
}

impl Protocol {
    /// Bytes of an answer that are compared with what they should be.
    fn compared(self) -> usize {
        match self {
            Protocol::Echo => MESSAGE,
            Protocol::Http => HELLO.len(),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Protocol::Echo => "echo",
            Protocol::Http => "http",
        }
    }
}

/// What came of one line of input.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Slice {
    /// Answers, complete and verified, in the measured time.
    pub requests: u64,
    pub elapsed: Duration,
    /// Processor time of the server in the measured time.
    pub cpu: Duration,
    pub p50: Duration,
    pub p99: Duration,
    pub p999: Duration,
    /// Answers in all, with those before and after.
    pub total: u64,
    /// Bytes that were compared for these answers.
    pub verified: u64,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = [self.elapsed, self.cpu, self.p50, self.p99, self.p999];
        write!(f, "{} {} {}", self.requests, self.total, self.verified)?;
        times.iter().try_for_each(|time| write!(f, " {}", time.as_nanos()))
    }
}

impl Slice {
    /// Reads what `Display` has written.
    ///
    /// # Errors
    /// If it is something else, or if the load generator has not compared as much as it received.
    pub fn parse(line: &str, protocol: Protocol) -> io::Result<Slice> {
        let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[requests, total, verified, elapsed, cpu, p50, p99, p999]) => {
                let [elapsed, cpu, p50, p99, p999] =
                    [elapsed, cpu, p50, p99, p999].map(Duration::from_nanos);
                if verified != total * protocol.compared() as u64 {
                    return Err(io::Error::other("the load generator did not check every byte"));
                }
                Ok(Slice { requests, elapsed, cpu, p50, p99, p999, total, verified })
            }
            _ => Err(io::Error::other(format!("not a result: {line:?}"))),
        }
    }
}

/// Opens the connections, says `ready` and how many nanoseconds that took, or `refused` and why; then it does
/// what standard input says until that ends.
pub fn run(
    addr: SocketAddr,
    connections: usize,
    server: u32,
    protocol: Protocol,
    blind: bool,
) -> io::Result<()> {
    let mut load = Load::new(server, protocol, blind)?;
    let begin = Instant::now();
    while load.connections.len() < connections {
        let more = BATCH.min(connections - load.connections.len());
        if let Err(error) = load.connect(addr, more) {
            // A server at its limit is a result. One that answers wrongly is not.
            if error.kind() != io::ErrorKind::InvalidData {
                say(&format!("refused {error}"))?;
            }
            return Err(error);
        }
    }
    say(&format!("ready {}", begin.elapsed().as_nanos()))?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut numbers =
            line.split_whitespace().map(|word| word.parse().map_err(io::Error::other));
        let mut next = || numbers.next().unwrap_or(Err(io::Error::other("three numbers, please")));
        let (warm, measure, active) = (next()?, next()?, next()?);
        let (warm, measure) = (Duration::from_millis(warm), Duration::from_millis(measure));
        say(&load.slice(warm, measure, active as usize)?.to_string())?;
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    println!("{line}");
    io::stdout().flush()
}

struct Connection {
    stream: TcpStream,
    sent_at: Instant,
    /// How many requests it has sent.
    sequence: u32,
    /// Bytes of the current answer that have come.
    received: usize,
    /// Them, if they are needed all at once.
    answer: Vec<u8>,
}

/// When a request is followed by another.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Again,
    Stop,
}

struct Load {
    epoll: Epoll,
    connections: Vec<Connection>,
    events: Vec<Event>,
    /// The process whose time is measured.
    server: u32,
    protocol: Protocol,
    blind: bool,
    /// Requests that have no answer yet.
    under_way: usize,
    answers: u64,
    verified: u64,
    latencies: Vec<u32>,
}

/// Connects from the loopback's address 127.0.0.1 + `nth`, if it is to a loopback address of that kind.
fn connect_from(addr: SocketAddr, nth: usize) -> io::Result<TcpStream> {
    let SocketAddr::V4(v4) = addr else { return TcpStream::connect(addr) };
    let nth = u8::try_from(nth).unwrap_or(0);
    if !v4.ip().is_loopback() || nth == 0 {
        return TcpStream::connect(addr);
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, nth.saturating_add(1)), 0).into())?;
    socket.connect(&addr.into())?;
    Ok(socket.into())
}

impl Load {
    fn new(server: u32, protocol: Protocol, blind: bool) -> io::Result<Load> {
        Ok(Load {
            epoll: Epoll::new()?,
            connections: Vec::new(),
            events: sys::event_buffer(),
            server,
            protocol,
            blind,
            under_way: 0,
            answers: 0,
            verified: 0,
            latencies: Vec::new(),
        })
    }

    /// Opens some connections and has each echo once, so that the server has surely taken them.
    fn connect(&mut self, addr: SocketAddr, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let stream = connect_from(addr, self.connections.len() / PER_ADDRESS)?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let index = self.connections.len();
            self.epoll.add(&stream, index as u64)?;
            let sent_at = Instant::now();
            self.connections.push(Connection {
                stream,
                sent_at,
                sequence: 0,
                received: 0,
                answer: Vec::new(),
            });
            self.send(index)?;
        }
        self.finish()
    }

    /// Keeps so many connections busy for `warm` and `measure`, and reports on the latter.
    fn slice(&mut self, warm: Duration, measure: Duration, active: usize) -> io::Result<Slice> {
        (self.answers, self.verified) = (0, 0);
        let start = Instant::now();
        // Spread over all of them.
        let step = (self.connections.len() / active.max(1)).max(1);
        for index in (0..self.connections.len()).step_by(step).take(active) {
            self.send(index)?;
        }
        self.keep_on(start + warm)?;

        self.latencies.clear();
        let (answers, begin, cpu) = (self.answers, Instant::now(), sys::cpu_time(self.server)?);
        self.keep_on(begin + measure)?;
        let (elapsed, cpu) = (begin.elapsed(), sys::cpu_time(self.server)? - cpu);
        let requests = self.answers - answers;

        let [p50, p99, p999] = [0.50, 0.99, 0.999].map(|part| self.percentile(part));
        self.finish()?;
        let (total, verified) = (self.answers, self.verified);
        Ok(Slice { requests, elapsed, cpu, p50, p99, p999, total, verified })
    }

    fn percentile(&mut self, part: f64) -> Duration {
        if self.latencies.is_empty() {
            return Duration::ZERO;
        }
        let at = (self.latencies.len() as f64 * part) as usize;
        let (_, &mut nanos, _) = self.latencies.select_nth_unstable(at);
        Duration::from_nanos(nanos.into())
    }

    fn keep_on(&mut self, until: Instant) -> io::Result<()> {
        while Instant::now() < until {
            self.turn(Then::Again)?;
        }
        Ok(())
    }

    /// Waits for the answers that are still to come.
    fn finish(&mut self) -> io::Result<()> {
        while self.under_way > 0 {
            self.turn(Then::Stop)?;
        }
        Ok(())
    }

    /// Waits for events and deals with them.
    fn turn(&mut self, then: Then) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        let ready = self.epoll.wait(&mut events, Some(PATIENCE))?;
        if ready.is_empty() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer"));
        }
        for event in ready {
            let (happened, index) = (event.events, event.u64 as usize);
            if happened & READABLE != 0 && self.receive(index)? && then == Then::Again {
                self.send(index)?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        connection.sequence += 1;
        connection.received = 0;
        connection.sent_at = Instant::now();
        let message = message(index, connection.sequence);
        let request: &[u8] = match self.protocol {
            Protocol::Echo => &message,
            Protocol::Http => GET,
        };
        // With nothing else under way there is always room for it.
        if connection.stream.write(request)? != request.len() {
            return Err(io::Error::other("a request was cut"));
        }
        self.under_way += 1;
        Ok(())
    }

    /// Reads what is there, and compares it. Whether the answer is complete.
    fn receive(&mut self, index: usize) -> io::Result<bool> {
        let connection = &mut self.connections[index];
        // Longer than an answer, so that a byte too many is seen.
        let mut buffer = [0; 1024];
        let length = match connection.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            // A partial answer, say, whose rest was there already when the first half was read.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            result => result?,
        };
        let complete = match self.protocol {
            Protocol::Echo => connection.compare_echo(index, &buffer[..length], self.blind),
            Protocol::Http => connection.compare_http(&buffer[..length]),
        }?;
        if !complete {
            return Ok(false);
        }
        self.verified += self.protocol.compared() as u64;
        self.latencies.push(connection.sent_at.elapsed().as_nanos().try_into().unwrap_or(u32::MAX));
        self.answers += 1;
        self.under_way -= 1;
        Ok(true)
    }
}

fn wrong() -> io::Error {
    let text = "the server answered something else than it was sent";
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Connection {
    /// Compares a piece of an answer with what was sent; true if it was the last.
    fn compare_echo(&mut self, index: usize, piece: &[u8], blind: bool) -> io::Result<bool> {
        let message = message(index, self.sequence);
        if self.received + piece.len() > MESSAGE {
            return Err(wrong());
        }
        if !blind && !message[self.received..].starts_with(piece) {
            return Err(wrong());
        }
        self.received += piece.len();
        Ok(self.received == MESSAGE)
    }

    /// Collects a piece of an answer; when it is complete, compares its status, length and body.
    fn compare_http(&mut self, piece: &[u8]) -> io::Result<bool> {
        if self.received == 0 {
            self.answer.clear();
        }
        self.received += piece.len();
        self.answer.extend_from_slice(piece);
        let Some(end) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(false);
        };
        let (head, body) = self.answer.split_at(end + 4);
        let says_length = head.split(|&byte| byte == b'\n').any(|line| {
            let line = line.trim_ascii();
            let (name, value) = line.split_at(line.len().min(b"content-length:".len()));
            name.eq_ignore_ascii_case(b"content-length:") && value.trim_ascii() == b"13"
        });
        if !head.starts_with(b"HTTP/1.1 200 ") || !says_length || !HELLO.starts_with(body) {
            return Err(wrong());
        }
        Ok(body.len() == HELLO.len())
    }
}

/// Opens connections until one is refused or not answered, looks whether those before are still served, closes
/// them all and tries again. Prints how many were held, how many of them were still answered, how many were
/// held the second time, and how the first one failed.
pub fn limit(addr: SocketAddr, most: usize) -> io::Result<()> {
    let (mut held, failure) = fill(addr, most);
    let served = held.iter_mut().filter_map(|stream| ask(stream, 2).ok()).count();
    let count = held.len();
    drop(held);
    std::thread::sleep(Duration::from_millis(500));
    let (again, _) = fill(addr, count);
    say(&format!("{count} {served} {} {failure}", again.len()))
}

fn fill(addr: SocketAddr, most: usize) -> (Vec<TcpStream>, String) {
    let mut held = Vec::new();
    while held.len() < most {
        let open = || {
            let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            ask(&mut stream, 1)?;
            Ok::<_, io::Error>(stream)
        };
        match open() {
            Ok(stream) => held.push(stream),
            Err(error) => return (held, format!("{:?}", error.kind())),
        }
    }
    (held, String::from("none"))
}

/// Has a connection echo once.
fn ask(stream: &mut TcpStream, sequence: u32) -> io::Result<()> {
    let sent = message(0, sequence);
    stream.write_all(&sent)?;
    let mut answer = [0; MESSAGE];
    stream.read_exact(&mut answer)?;
    if answer == sent { Ok(()) } else { Err(wrong()) }
}

/// What a connection sends: no two requests are the same, so an answer that went astray is seen.
fn message(connection: usize, sequence: u32) -> [u8; MESSAGE] {
    let seed = (connection as u64) << 32 | u64::from(sequence);
    let mut message = [0; MESSAGE];
    for (word, bytes) in message.chunks_exact_mut(8).enumerate() {
        // One step of splitmix64.
        let mut mixed = (seed << 3 | word as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.copy_from_slice(&(mixed ^ mixed >> 31).to_le_bytes());
    }
    message
}

//! The load generator: many connections from one thread, each with one request under way, every
//! byte of every answer compared with what was sent.
//!
//! It is a process of its own, and obeys its standard input: for each line `WARM MEASURE`, in
//! milliseconds, it keeps all connections busy for so long, waits for the last answers, and prints
//! a [`Slice`]. In between nothing is under way, so several of them can take turns.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::sys::{self, Epoll, Event, READABLE};

/// Bytes in a request, and in its answer.
const MESSAGE: usize = 64;
/// How many connections are opened before all of them are tried: fewer than a listener's backlog.
const BATCH: usize = 100;
/// Longest time without any answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of one line of input.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Slice {
    /// Answers, complete and verified, in the measured time.
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// Processor time of the server in the measured time.
    pub(crate) cpu: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Answers in all, with those before and after.
    pub(crate) total: u64,
    /// Bytes that were compared for these answers.
    pub(crate) verified: u64,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = [self.elapsed, self.cpu, self.p50, self.p99];
        write!(f, "{} {} {}", self.requests, self.total, self.verified)?;
        times.iter().try_for_each(|time| write!(f, " {}", time.as_nanos()))
    }
}

impl FromStr for Slice {
    type Err = io::Error;

    fn from_str(line: &str) -> io::Result<Slice> {
        let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[requests, total, verified, elapsed, cpu, p50, p99]) => {
                let [elapsed, cpu, p50, p99] = [elapsed, cpu, p50, p99].map(Duration::from_nanos);
                let slice = Slice { requests, elapsed, cpu, p50, p99, total, verified };
                if verified != total * MESSAGE as u64 {
                    return Err(io::Error::other("the load generator did not check every byte"));
                }
                Ok(slice)
            }
            _ => Err(io::Error::other(format!("not a result: {line:?}"))),
        }
    }
}

/// Opens the connections, says `ready`, and then does what standard input says until it ends.
pub(crate) fn run(addr: SocketAddr, connections: usize, server: u32) -> io::Result<()> {
    let mut load = Load::new(server)?;
    while load.connections.len() < connections {
        let more = BATCH.min(connections - load.connections.len());
        load.connect(addr, more)?;
    }
    say("ready")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut millis = line.split_whitespace().map(|word| word.parse().map_err(io::Error::other));
        let mut next = || millis.next().unwrap_or(Err(io::Error::other("two numbers, please")));
        let (warm, measure) = (next()?, next()?);
        let slice = load.slice(Duration::from_millis(warm), Duration::from_millis(measure))?;
        say(&slice.to_string())?;
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
    /// Requests that have no answer yet.
    under_way: usize,
    answers: u64,
    verified: u64,
    latencies: Vec<u32>,
}

impl Load {
    fn new(server: u32) -> io::Result<Load> {
        Ok(Load {
            epoll: Epoll::new()?,
            connections: Vec::new(),
            events: sys::event_buffer(),
            server,
            under_way: 0,
            answers: 0,
            verified: 0,
            latencies: Vec::new(),
        })
    }

    /// Opens some connections and has each echo once, so that the server has surely taken them.
    fn connect(&mut self, addr: SocketAddr, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let stream = TcpStream::connect(addr)?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let index = self.connections.len();
            self.epoll.add(&stream, index as u64)?;
            let sent_at = Instant::now();
            self.connections.push(Connection { stream, sent_at, sequence: 0, received: 0 });
            self.send(index)?;
        }
        self.finish()
    }

    /// Keeps every connection busy for `warm` and `measure`, and reports on the latter.
    fn slice(&mut self, warm: Duration, measure: Duration) -> io::Result<Slice> {
        (self.answers, self.verified) = (0, 0);
        let start = Instant::now();
        for index in 0..self.connections.len() {
            self.send(index)?;
        }
        self.keep_on(start + warm)?;

        self.latencies.clear();
        let (answers, begin, cpu) = (self.answers, Instant::now(), sys::cpu_time(self.server)?);
        self.keep_on(begin + measure)?;
        let (elapsed, cpu) = (begin.elapsed(), sys::cpu_time(self.server)? - cpu);
        let requests = self.answers - answers;

        let (p50, p99) = (self.percentile(0.50), self.percentile(0.99));
        self.finish()?;
        let (total, verified) = (self.answers, self.verified);
        Ok(Slice { requests, elapsed, cpu, p50, p99, total, verified })
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
        // With nothing else under way there is always room for it.
        if connection.stream.write(&message)? != MESSAGE {
            return Err(io::Error::other("a request was cut"));
        }
        self.under_way += 1;
        Ok(())
    }

    /// Reads what is there, and compares it. Whether the answer is complete.
    fn receive(&mut self, index: usize) -> io::Result<bool> {
        let connection = &mut self.connections[index];
        // Longer than an answer, so that a byte too many is seen.
        let mut buffer = [0; 2 * MESSAGE];
        let length = match connection.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            // A partial answer, say, whose rest was there already when the first half was read.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            result => result?,
        };
        let message = message(index, connection.sequence);
        if !message[connection.received..].starts_with(&buffer[..length]) {
            return Err(io::Error::other("the server answered something else than it was sent"));
        }
        self.verified += length as u64;
        connection.received += length;
        if connection.received < MESSAGE {
            return Ok(false);
        }
        self.latencies.push(connection.sent_at.elapsed().as_nanos().try_into().unwrap_or(u32::MAX));
        self.answers += 1;
        self.under_way -= 1;
        Ok(true)
    }
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

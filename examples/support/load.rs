//! Clients that check every byte they get back, and the tally they keep.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use greenling::net::TcpStream;

/// How many coroutines open connections, each waiting for a first reply before it opens the next.
/// So there are never more unaccepted connections than the 128 that a listener's backlog holds: one
/// too many is dropped by the kernel and tried again a whole second later.
pub(crate) const CONNECTORS: usize = 64;

/// Longer messages than this could fill the buffers of both directions while the client still
/// writes and does not yet read; then client and server would wait for each other.
pub(crate) const MAX_MESSAGE: u64 = 64 * 1024;

/// Why a client gave up.
#[derive(Debug)]
pub(crate) enum Failure {
    Io(io::Error),
    Mismatch,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// A connection that sends messages and knows what must come back.
pub(crate) struct Client {
    stream: TcpStream,
    random: fastrand::Rng,
    answer: fn(&mut [u8]),
    message: Vec<u8>,
    reply: Vec<u8>,
}

impl Client {
    /// Connects to `server`, which is expected to apply `answer` to each message. Messages are
    /// random bytes from `seed`, so that replies that went to the wrong client are noticed.
    pub(crate) fn connect(
        server: SocketAddr,
        seed: u64,
        size: usize,
        timeout: Duration,
        answer: fn(&mut [u8]),
    ) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&server, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Client {
            stream,
            random: fastrand::Rng::with_seed(seed),
            answer,
            message: vec![0; size],
            // Room for one byte too many: a server that sends more than it should is caught, and a
            // read that leaves room tells the hub that the socket is drained.
            reply: vec![0; size + 1],
        })
    }

    /// Sends one message and checks the whole reply. Returns the time from before the first byte
    /// was written until the last was read.
    pub(crate) fn exchange(&mut self) -> Result<Duration, Failure> {
        self.random.fill(&mut self.message);
        let start = Instant::now();
        self.stream.write_all(&self.message)?;
        let mut received = 0;
        while received < self.message.len() {
            match self.stream.read(&mut self.reply[received..]) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(n) => received += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let took = start.elapsed();
        (self.answer)(&mut self.message);
        if self.reply[..received] != self.message {
            return Err(Failure::Mismatch);
        }
        Ok(took)
    }
}

/// What all clients together have seen.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// In microseconds. Every sample is kept, so that percentiles are exact.
    pub(crate) latencies: Vec<u32>,
    pub(crate) bytes_verified: u64,
    pub(crate) mismatches: u64,
    /// How often each error occurred.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn succeeded(&mut self, latency: Duration, bytes: usize) {
        self.latencies.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        self.bytes_verified += bytes as u64;
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        match failure {
            Failure::Io(error) => *self.errors.entry(error.to_string()).or_default() += 1,
            Failure::Mismatch => self.mismatches += 1,
        }
    }

    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The latencies below which the given shares of all exchanges stayed; zero when there was
    /// none.
    pub(crate) fn percentiles<const N: usize>(&mut self, shares: [f64; N]) -> [Duration; N] {
        self.latencies.sort_unstable();
        shares.map(|share| {
            let last = self.latencies.len().saturating_sub(1);
            let index = (last as f64 * share).round() as usize;
            Duration::from_micros(self.latencies.get(index).copied().unwrap_or(0).into())
        })
    }
}

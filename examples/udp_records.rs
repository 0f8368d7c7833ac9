//! Records of a fixed layout over UDP: a number, a name of up to 16 bytes and a measurement, which is
//! Python's `struct` format `!i16sf`.
//!
//! Run with: cargo run --release --example udp_records
//!
//! Then, in another terminal: `cargo run --release --example udp_records -- --to 127.0.0.1:7013 1 oven 21.5`.
//!
//! The layout is spelt out byte by byte, the most significant first, so that it is the same on every machine.
//! A datagram of another size, or with a name that is no text, is refused and counted. A record that has
//! arrived is sent back as its acknowledgement; the sender repeats it until then. SIGINT and SIGTERM end the
//! server cleanly.

#[path = "support/stderr_log.rs"]
mod stderr_log;
#[path = "support/stop.rs"]
mod stop;

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use greenling::io::Adapter;
use greenling::server::DatagramServer;

/// After which a record that was not acknowledged is sent again.
const AGAIN: Duration = Duration::from_millis(300);

/// Receives records, or sends one.
#[derive(Parser)]
struct Options {
    /// Where to receive; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:7013", value_name = "HOST:PORT")]
    addr: String,
    /// Send a record there instead of receiving
    #[arg(long, value_name = "HOST:PORT", requires = "measurement")]
    to: Option<String>,
    /// Seconds after which a receiver that does not answer is given up
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[arg(requires = "to", allow_negative_numbers = true)]
    number: Option<i32>,
    /// At most 16 bytes
    name: Option<String>,
    #[arg(allow_negative_numbers = true)]
    measurement: Option<f32>,
}

fn main() -> ExitCode {
    stderr_log::install();
    let options = Options::parse();
    let ended = match (&options.to, options.number, &options.name, options.measurement) {
        (Some(to), Some(number), Some(name), Some(measurement)) => {
            Record::new(number, name, measurement)
                .ok_or_else(|| {
                    io::Error::new(ErrorKind::InvalidInput, "the name has more than 16 bytes")
                })
                .and_then(|record| send(&record, to, Duration::from_secs(options.timeout)))
        }
        _ => receive(&options.addr),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("udp_records: {error}");
            ExitCode::FAILURE
        }
    }
}

const NAME_SIZE: usize = 16;
const RECORD_SIZE: usize = size_of::<i32>() + NAME_SIZE + size_of::<f32>();

#[derive(Clone, Debug, PartialEq)]
struct Record {
    number: i32,
    name: String,
    measurement: f32,
}

impl Record {
    fn new(number: i32, name: &str, measurement: f32) -> Option<Record> {
        let fits = name.len() <= NAME_SIZE && !name.contains('\0');
        fits.then(|| Record { number, name: name.to_owned(), measurement })
    }

    fn to_bytes(&self) -> [u8; RECORD_SIZE] {
        let mut bytes = [0; RECORD_SIZE];
        let (number, rest) = bytes.split_at_mut(size_of::<i32>());
        let (name, measurement) = rest.split_at_mut(NAME_SIZE);
        number.copy_from_slice(&self.number.to_be_bytes());
        name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        measurement.copy_from_slice(&self.measurement.to_be_bytes());
        bytes
    }

    /// Or why it is no record.
    fn from_bytes(bytes: &[u8]) -> Result<Record, String> {
        let wrong_size = || format!("it has {} bytes and not {RECORD_SIZE}", bytes.len());
        let bytes: &[u8; RECORD_SIZE] = bytes.try_into().map_err(|_| wrong_size())?;
        let (number, rest) = bytes.split_first_chunk().ok_or_else(wrong_size)?;
        let (name, measurement) = rest.split_last_chunk().ok_or_else(wrong_size)?;
        // Shorter names are filled up with zeros.
        let length = name.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let name = std::str::from_utf8(&name[..length]).ok();
        let name = name.filter(|name| !name.contains('\0')).ok_or("its name is no text")?;
        let (number, measurement) = (i32::from_be_bytes(*number), f32::from_be_bytes(*measurement));
        Ok(Record { number, name: name.to_owned(), measurement })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name came over the network: quoted, it can do nothing to a terminal.
        write!(f, "{} {:?} {}", self.number, self.name, self.measurement)
    }
}

fn receive(addr: &str) -> io::Result<()> {
    let socket = Adapter::new(UdpSocket::bind(addr)?)?;
    let counts = Rc::new((Cell::new(0_u64), Cell::new(0_u64)));
    let counted = Rc::clone(&counts);
    let handle = move |socket: &Adapter<UdpSocket>, datagram: Vec<u8>, from: SocketAddr| {
        let (records, refused) = &*counted;
        match Record::from_bytes(&datagram) {
            Ok(record) => {
                records.set(records.get() + 1);
                let mut stdout = greenling::io::stdout().lock();
                writeln!(stdout, "record from {from}: {record}")?;
                socket.write_with(|socket| socket.send_to(&datagram, from)).map(drop)
            }
            Err(why) => {
                refused.set(refused.get() + 1);
                eprintln!("refused what came from {from}: {why}");
                Ok(())
            }
        }
    };
    let server = DatagramServer::new(socket, handle).max_handlers(64);
    stop::stop_on_signal(server.handle(), Duration::ZERO)?;
    let mut stdout = greenling::io::stdout();
    writeln!(stdout, "listening on {}", server.local_addr()?)?;
    server.serve_forever()?;
    writeln!(stdout, "{} records, {} refused", counts.0.get(), counts.1.get())
}

/// Sends the record until it comes back.
fn send(record: &Record, to: &str, patience: Duration) -> io::Result<()> {
    let Some(to) = to.to_socket_addrs()?.next() else {
        return Err(io::Error::new(ErrorKind::NotFound, "the host has no address"));
    };
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    let socket = Adapter::new(socket)?;
    let bytes = record.to_bytes();
    let give_up = Instant::now() + patience;
    // Longer than a record, so that a longer datagram is not taken for one.
    let mut answer = [0; RECORD_SIZE + 1];
    while Instant::now() < give_up {
        // An error here may be that of an earlier attempt: nobody was there.
        let _ = socket.write_with(|socket| socket.send(&bytes));
        let again = (Instant::now() + AGAIN).min(give_up);
        while Instant::now() < again {
            match socket.read_with_deadline(again, |socket| socket.recv(&mut answer)) {
                Ok(length) if answer[..length] == bytes => {
                    println!("acknowledged: {record}");
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => return Err(error),
            }
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, "the receiver does not answer"))
}

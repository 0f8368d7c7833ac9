//! The soaks of `echo_server`, `unix_log` and `udp_records`: see `soak.rs`.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fastrand::Rng;

use super::example::{Example, connect, exchange};
use super::soak::{LONG, SHORT, noise, soak, wrong};
use super::{Dir, reset};

// ---- echo_server ------------------------------------------------------------------------------

/// It sends back letters in upper case.
fn check_upper_case(stream: &mut TcpStream, random: &mut Rng) -> io::Result<()> {
    for _ in 0..random.u8(1..10) {
        let message = noise(random, 20_000);
        if exchange(stream, &message)? != message.to_ascii_uppercase() {
            return Err(wrong("another echo"));
        }
    }
    Ok(())
}

fn echo(server: SocketAddr, random: &mut Rng) -> io::Result<()> {
    let mut stream = connect(server);
    match random.u8(0..5) {
        0 => drop(stream),
        1 => reset(stream),
        2 => {
            // A reset in the middle of much that is under way.
            stream.set_nonblocking(true)?;
            let _ = stream.write(&noise(random, 500_000));
            reset(stream);
        }
        3 => {
            check_upper_case(&mut stream, random)?;
            reset(stream);
        }
        _ => {
            check_upper_case(&mut stream, random)?;
            stream.shutdown(Shutdown::Write)?;
            if io::copy(&mut stream, &mut io::sink())? != 0 {
                return Err(wrong("more than was sent"));
            }
        }
    }
    Ok(())
}

fn soak_echo(time: Duration) {
    let (server, address) = Example::serve("echo_server", &[]);
    soak(&server, time, |random| echo(address, random));
    server.signal(libc::SIGTERM);
    server.succeed();
}

#[test]
fn an_echo_server_stays_as_it_is() {
    soak_echo(SHORT);
}

#[test]
#[ignore = "a soak of more than a minute; run with --release -- --ignored"]
fn an_echo_server_stays_as_it_is_for_long() {
    soak_echo(LONG);
}

// ---- unix_log ---------------------------------------------------------------------------------

/// Some write lines, some no end of a line, some bytes that are no text, some nothing.
fn write_to_log(socket: &str, random: &mut Rng) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    for _ in 0..random.u8(0..5) {
        match random.u8(0..4) {
            0 => stream.write_all(&noise(random, 3_000))?,
            1 => stream.write_all(b"without an end")?,
            _ => writeln!(stream, "line {}", random.u64(..))?,
        }
    }
    Ok(())
}

fn soak_log(time: Duration) {
    let dir = Dir::new();
    let socket = dir.path("socket");
    let log = dir.path("log");
    // The clients wait for nothing, so as many are served at a time as may be; and how many those are, of whom each
    // leaves a stack that is kept, is not to depend on how busy the disk is.
    let options = ["--addr", &socket, "--log", &log, "--max-clients", "50"];
    let mut server = Example::start_typing("unix_log", &options);
    server.line_with("listening on ");
    soak(&server, time, |random| write_to_log(&socket, random));
    server.signal(libc::SIGTERM);
    server.succeed();
    let lines = std::fs::read(dir.path("log")).unwrap();
    let lines = lines.split(|byte| *byte == b'\n').count();
    assert!(lines > 1_000, "only {lines} lines");
}

#[test]
fn a_log_stays_as_it_is() {
    soak_log(SHORT);
}

#[test]
#[ignore = "a soak of more than a minute; run with --release -- --ignored"]
fn a_log_stays_as_it_is_for_long() {
    soak_log(LONG);
}

// ---- udp_records ------------------------------------------------------------------------------

/// A record is acknowledged with itself, whatever came before it.
fn record(server: SocketAddr, random: &mut Rng) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    for _ in 0..random.u8(..5) {
        // Never of a record's size.
        let nonsense = noise(random, 2_000);
        if nonsense.len() != 24 {
            socket.send(&nonsense)?;
        }
    }
    let mut record = [0; 24];
    random.fill(&mut record[..4]);
    record[4..8].copy_from_slice(b"name");
    record[20..].copy_from_slice(&1.5_f32.to_be_bytes());
    let mut answer = [0; 100];
    for _ in 0..20 {
        socket.send(&record)?;
        match socket.recv(&mut answer) {
            Ok(24) if answer[..24] == record => return Ok(()),
            Ok(_) => return Err(wrong("another record")),
            Err(_) => {} // A datagram may be lost.
        }
    }
    Err(wrong("no acknowledgement"))
}

fn soak_records(time: Duration) {
    let (server, address) = Example::serve("udp_records", &[]);
    soak(&server, time, |random| record(address, random));
    server.signal(libc::SIGTERM);
    let output = server.succeed();
    assert!(!output.contains("panicked"), "{output}");
}

#[test]
fn a_receiver_of_records_stays_as_it_is() {
    soak_records(SHORT);
}

#[test]
#[ignore = "a soak of more than a minute; run with --release -- --ignored"]
fn a_receiver_of_records_stays_as_it_is_for_long() {
    soak_records(LONG);
}

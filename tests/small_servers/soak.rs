//! Load that does not end: what a server has open, and how large it is, stay as they are.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::chat::{nonsense, packet, text};
use super::example::{Example, connect, exchange};
use super::{play, reset, until};

/// How many clients there are at a time.
pub(super) const CLIENTS: u64 = 4;
/// What may be opened once and kept: descriptors for looking up names, and the like.
pub(super) const KEPT: usize = 2;
/// How much a process may grow without anything being lost: its allocator's fragments, stacks that are kept.
pub(super) const MAY_GROW: u64 = 8 << 20;

/// A short soak belongs to the tests.
pub(super) const SHORT: Duration = Duration::from_secs(2);
/// Without a pause, this is more than an hour of a busy server's.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// Has clients do something again and again, and compares the server before and after. The name of what each of
/// them does comes from `act`, so that it is seen that all of it was done.
pub(super) fn soak(
    server: &Example,
    time: Duration,
    act: impl Fn(&mut Rng) -> io::Result<()> + Sync,
) {
    let idle = server.descriptors() + KEPT;
    let failures = AtomicU64::new(0);
    let load = |time: Duration, seed: u64| -> u64 {
        let run = |seed| {
            let (end, mut random) = (Instant::now() + time, Rng::with_seed(seed));
            let mut count = 0;
            while Instant::now() < end {
                if let Err(error) = act(&mut random) {
                    failures.fetch_add(1, Ordering::Relaxed);
                    println!("a client failed: {error}");
                }
                count += 1;
            }
            count
        };
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..CLIENTS).map(|n| scope.spawn(move || run(seed + n))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        })
    };
    load(time / 4, 100);
    until("all is closed after the first part", || server.descriptors() <= idle);
    let before = server.resident();
    let count = load(time, 200);
    until("all is closed", || server.descriptors() <= idle);
    let after = server.resident();
    println!("{count} clients in {time:?}: {before} bytes resident before, {after} after");
    assert_eq!(failures.into_inner(), 0);
    assert!(after.saturating_sub(before) < MAY_GROW, "from {before} bytes to {after}");
}

pub(super) fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

fn echo() -> String {
    play(|mut stream| {
        stream.set_nodelay(true)?;
        io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
    })
}

pub(super) fn noise(random: &mut Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(1..most)];
    random.fill(&mut bytes);
    bytes
}

fn check_echo(stream: &mut TcpStream, random: &mut Rng) -> io::Result<()> {
    for _ in 0..random.u8(1..10) {
        let message = noise(random, 20_000);
        if exchange(stream, &message)? != message {
            return Err(wrong("another echo"));
        }
    }
    Ok(())
}

// ---- port_forwarder ---------------------------------------------------------------------------

fn forward(server: SocketAddr, random: &mut Rng) -> io::Result<()> {
    let mut stream = connect(server);
    match random.u8(0..6) {
        0 => drop(stream),
        1 => reset(stream),
        2 => {
            // A reset in the middle of much that is under way.
            stream.set_nonblocking(true)?;
            let _ = stream.write(&noise(random, 500_000));
            stream.set_nonblocking(false)?;
            let _ = stream.read(&mut [0; 1000]);
            reset(stream);
        }
        3 => {
            check_echo(&mut stream, random)?;
            reset(stream);
        }
        4 => {
            let message = noise(random, 20_000);
            stream.write_all(&message)?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            if answer != message {
                return Err(wrong("another echo"));
            }
        }
        _ => check_echo(&mut stream, random)?,
    }
    Ok(())
}

fn soak_forwarder(time: Duration) {
    let (server, address) = Example::serve("port_forwarder", &["--to", &echo()]);
    soak(&server, time, |random| forward(address, random));
    server.signal(libc::SIGTERM);
    server.succeed();
}

#[test]
fn a_forwarder_stays_as_it_is() {
    soak_forwarder(SHORT);
}

#[test]
#[ignore = "a soak of more than a minute; run with --release -- --ignored"]
fn a_forwarder_stays_as_it_is_for_long() {
    soak_forwarder(LONG);
}

// ---- web_proxy --------------------------------------------------------------------------------

const LARGE: usize = 1 << 20;

/// A web server that does by each path what servers do.
pub(super) fn origin() -> String {
    let serve = |stream: TcpStream| {
        let mut stream = BufReader::new(stream);
        let (mut head, mut length, mut chunked) = (String::new(), 0, false);
        while !head.ends_with("\r\n\r\n") {
            let start = head.len();
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
            let line = head[start..].to_ascii_lowercase();
            chunked |= line.starts_with("transfer-encoding: chunked");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        io::copy(&mut (&mut stream).take(length), &mut io::sink())?;
        let mut line = String::from(if chunked { "" } else { "\r\n" });
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        let answer = stream.get_mut();
        match head.split(' ').nth(1).unwrap_or_default() {
            "/large" => {
                write!(answer, "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n")?;
                answer.write_all(&vec![b'x'; LARGE])
            }
            "/chunks" => answer.write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ),
            "/half" => answer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
            "/nonsense" => answer.write_all(b"HTTP/9 nonsense\r\n\r\n"),
            _ => answer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        }
    };
    play(serve)
}

/// Sends requests, of which the last one closes; and says what the end of the last answer is.
pub(super) fn ask(stream: &mut TcpStream, requests: &[u8], end: &[u8]) -> io::Result<()> {
    stream.write_all(requests)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    match answer.ends_with(end) {
        true => Ok(()),
        false => Err(wrong(String::from_utf8_lossy(&answer))),
    }
}

struct Behind {
    origin: String,
    echo: String,
    nobody: SocketAddr,
}

fn browse(proxy: SocketAddr, behind: &Behind, random: &mut Rng) -> io::Result<()> {
    let Behind { origin, echo, nobody } = behind;
    let mut stream = connect(proxy);
    let request = |path: &str, fields: &str| {
        format!("POST http://{origin}{path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
    };
    let last = "Connection: close\r\n";
    match random.u8(0..10) {
        0 => {
            let many = request("/", "").repeat(random.usize(0..10));
            ask(&mut stream, (many + &request("/", last)).as_bytes(), b"hello")
        }
        1 => ask(&mut stream, request("/chunks", last).as_bytes(), b"0\r\n\r\n"),
        2 => {
            let body = noise(random, 50_000);
            let head = request("/", &format!("Content-Length: {}\r\n{last}", body.len()));
            ask(&mut stream, &[head.as_bytes(), &body].concat(), b"hello")
        }
        3 => {
            let chunk = format!("400\r\n{}\r\n", "y".repeat(0x400)).repeat(random.usize(1..20));
            let head = request("/", &format!("Transfer-Encoding: chunked\r\n{last}"));
            ask(&mut stream, (head + &chunk + "0\r\nTrailer: 1\r\n\r\n").as_bytes(), b"hello")
        }
        4 => {
            write!(stream, "CONNECT {echo} HTTP/1.1\r\nHost: x\r\n\r\n")?;
            let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
            let mut answer = vec![0; established.len()];
            stream.read_exact(&mut answer)?;
            if answer != established {
                return Err(wrong(String::from_utf8_lossy(&answer)));
            }
            check_echo(&mut stream, random)?;
            if random.bool() {
                reset(stream);
            }
            Ok(())
        }
        5 => {
            stream.write_all(request("/large", "").as_bytes())?;
            stream.read_exact(&mut vec![0; random.usize(1..LARGE)])?;
            reset(stream);
            Ok(())
        }
        6 => {
            stream.write_all(request("/half", "").as_bytes())?;
            match stream.read_to_end(&mut Vec::new()) {
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
                other => Err(wrong(format!("half an answer was {other:?}"))),
            }
        }
        7 => {
            stream.write_all(request("/nonsense", "").as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            answer.starts_with("HTTP/1.1 502 ").then_some(()).ok_or_else(|| wrong(answer))
        }
        8 => {
            // The head of a body that never comes, or half a head.
            let head = request("/", "Content-Length: 100\r\n");
            let cut = if random.bool() { head.len() } else { random.usize(..head.len()) };
            stream.write_all(&head.as_bytes()[..cut])?;
            if random.bool() {
                reset(stream);
            }
            Ok(())
        }
        _ => {
            write!(stream, "CONNECT {nobody} HTTP/1.1\r\nHost: x\r\n\r\n")?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            answer.starts_with("HTTP/1.1 502 ").then_some(()).ok_or_else(|| wrong(answer))
        }
    }
}

fn soak_proxy(time: Duration) {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let behind = Behind { origin: origin(), echo: echo(), nobody };
    let (server, address) = Example::serve("web_proxy", &[]);
    soak(&server, time, |random| browse(address, &behind, random));
    server.signal(libc::SIGTERM);
    server.succeed();
}

#[test]
fn a_proxy_stays_as_it_is() {
    soak_proxy(SHORT);
}

#[test]
#[ignore = "a soak of more than a minute; run with --release -- --ignored"]
fn a_proxy_stays_as_it_is_for_long() {
    soak_proxy(LONG);
}

// ---- chat_server ------------------------------------------------------------------------------

/// The next datagram of a kind; others are passed over, and none is waited for long, for datagrams may be lost.
fn next(socket: &UdpSocket, kind: u8) -> Option<Vec<u8>> {
    let mut buffer = [0; 2000];
    loop {
        let length = socket.recv(&mut buffer).ok()?;
        if buffer[3] == kind {
            return Some(buffer[..length].to_vec());
        }
    }
}

/// Whether the member was let in.
fn visit(server: SocketAddr, random: &mut Rng) -> io::Result<bool> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let (nonce, name) = (random.u64(..), format!("n{}", random.u64(..1_000_000)));
    for _ in 0..random.u8(..5) {
        socket.send(&nonsense(random))?;
    }
    socket.send(&packet(1, &[&nonce.to_be_bytes(), &text(&name)]))?;
    let Some(welcome) = next(&socket, 6) else { return Ok(false) };
    let token = &welcome[12..];
    if random.u8(..4) == 0 {
        return Ok(false); // It never comes in.
    }
    socket.send(&packet(2, &[token]))?;
    if next(&socket, 8).is_none() {
        return Ok(false);
    }
    for number in 1..random.u32(1..10) {
        let said = "x".repeat(random.usize(1..500));
        socket.send(&packet(3, &[token, &number.to_be_bytes(), &text(&said)]))?;
        let _ = next(&socket, 10);
        socket.send(&packet(4, &[token, &0_u64.to_be_bytes()]))?;
    }
    if random.u8(..8) > 0 {
        socket.send(&packet(5, &[token]))?; // The others expire.
    }
    Ok(true)
}

fn soak_chat(time: Duration) {
    let (server, address) = Example::serve("chat_server", &["--expire", "1"]);
    let visits = AtomicU64::new(0);
    soak(&server, time, |random| {
        visits.fetch_add(visit(address, random)?.into(), Ordering::Relaxed);
        Ok(())
    });
    let visits = visits.into_inner();
    println!("{visits} were in the room");
    assert!(visits > 100, "only {visits} were in the room");
    server.signal(libc::SIGTERM);
    let output = server.succeed();
    assert!(!output.contains("panicked"), "{output}");
}

#[test]
fn a_chat_room_stays_as_it_is() {
    soak_chat(SHORT);
}

#[test]
#[ignore = "a soak of more than a minute; run with --release -- --ignored"]
fn a_chat_room_stays_as_it_is_for_long() {
    soak_chat(LONG);
}

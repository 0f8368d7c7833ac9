//! Who is still answered when the server is told to end, and what the answers say.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{LONG, Server, certificate, tool};

const HUGE: usize = 32 << 20;
const GET: &str = "GET /digits HTTP/1.1\r\nHost: a\r\n\r\n";
/// Nothing ends by itself while a test looks.
const PATIENT: [&str; 6] =
    ["--grace", "1000", "--idle-timeout", "1000", "--header-timeout", "1000"];

/// Tells the server to end, and waits until it does.
fn stop(server: &Server) {
    server.signal(libc::SIGTERM);
    let start = Instant::now();
    while TcpStream::connect(server.addr).is_ok() {
        assert!(start.elapsed() < LONG, "new connections are still accepted");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_request_that_has_begun_is_answered_and_told_that_it_is_the_last() {
    let server = Server::start(&PATIENT);
    let mut clients = ["head", "body"].map(|_| server.connect());
    // The first answer tells that the beginning of the second request has come, too.
    let body = "GET /digits HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    for (client, (second, cut)) in clients.iter_mut().zip([(GET, 20), (body, body.len() - 2)]) {
        client.send(format!("{GET}{}", &second[..cut]));
        assert_eq!(client.answer("GET").header("connection"), "keep-alive");
    }
    stop(&server);
    for (client, rest) in clients.iter_mut().zip([&GET[20..], &body[body.len() - 2..]]) {
        client.send(rest);
        let answer = client.answer("GET");
        assert_eq!((answer.text(), answer.header("connection")), ("0123456789", "close"));
        client.is_closed();
    }
    server.ended_well();
}

#[test]
fn requests_behind_the_last_one_are_not_answered() {
    let server = Server::start(&PATIENT);
    let mut client = server.connect();
    client.send(format!("{GET}{}", &GET[..20]));
    client.answer("GET");
    stop(&server);
    client.send(format!("{}{GET}{GET}", &GET[20..]));
    assert_eq!(client.answer("GET").header("connection"), "close");
    client.is_closed();
    drop(client);
    server.ended_well();
}

#[test]
fn who_was_told_to_go_on_and_then_the_server_ends_may_ask_once_more_if_it_has() {
    let root = common::site();
    // More than the kernel's buffers hold.
    std::fs::write(root.path().join("huge.bin"), vec![0; HUGE]).unwrap();
    let server = Server::with_root(root, &PATIENT);
    let [mut asking, mut silent] = ["asking", "silent"].map(|_| server.connect());
    for client in [&mut asking, &mut silent] {
        client.send("GET /huge.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in [&mut asking, &mut silent] {
        assert_eq!(client.head().header("connection"), "keep-alive");
    }
    stop(&server);
    asking.send(GET);
    for client in [&mut asking, &mut silent] {
        client.stream.read_exact(&mut vec![0; HUGE]).unwrap();
    }
    let answer = asking.answer("GET");
    assert_eq!((answer.text(), answer.header("connection")), ("0123456789", "close"));
    asking.is_closed();
    silent.is_closed();
    drop(asking);
    server.ended_well();
}

#[test]
fn requests_that_were_sent_just_before_the_end_are_answered() {
    let server = Server::start(&PATIENT);
    let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.ask(GET);
    }
    // While it is held, both come: the requests and the signal.
    server.signal(libc::SIGSTOP);
    for client in &mut clients {
        client.send(GET);
    }
    server.signal(libc::SIGTERM);
    server.signal(libc::SIGCONT);
    for client in &mut clients {
        assert_eq!(client.answer("GET").text(), "0123456789");
        client.is_closed();
    }
    server.ended_well();
}

/// A server that speaks TLS, and an address from which to reach it by a connection that it has accepted before
/// it was told to end. Who comes there shakes hands with a server that ends.
fn ending_server_with_tls() -> Option<(Server, String)> {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(dir.path())?;
    let files = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let server = Server::start(&[&PATIENT[..], &files].concat());
    let idle = server.descriptors();
    let client = TcpStream::connect(server.addr).unwrap();
    let start = Instant::now();
    while server.descriptors() <= idle {
        assert!(start.elapsed() < LONG, "nobody accepts");
        thread::sleep(Duration::from_millis(5));
    }
    stop(&server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let (mut from, mut to) = (near.try_clone().unwrap(), client.try_clone().unwrap());
        let up = thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut &client, &mut &near);
        let _ = near.shutdown(Shutdown::Both);
        up.join().unwrap();
    });
    Some((server, address))
}

#[test]
fn who_shakes_hands_when_the_server_ends_may_ask_for_one_thing() {
    let Some((server, address)) = ending_server_with_tls() else { return };
    let url = format!("https://{address}/digits");
    if let Some(output) = tool("curl", &["-sSki", "--noproxy", "*", "--max-time", "25", &url]) {
        let answer = String::from_utf8(output.stdout).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.to_ascii_lowercase().contains("\r\nconnection: close"), "{head}");
        assert_eq!(body, "0123456789");
        server.ended_well();
    }
}

#[test]
fn who_shakes_hands_when_the_server_ends_and_asks_for_nothing_is_let_go() {
    let Some((server, address)) = ending_server_with_tls() else { return };
    let mut client = std::process::Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &address])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    client.stdout.take().unwrap().read_to_end(&mut said).unwrap();
    assert!(said.is_empty(), "{}", said.escape_ascii());
    // Its input was open all the time.
    let _ = client.stdin.take().unwrap().flush();
    client.wait().unwrap();
    server.ended_well();
}

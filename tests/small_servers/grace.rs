//! What `web_proxy` and `port_forwarder` do with transfers in progress when they are told to end.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::example::{DEADLINE, Example, connect, exchange};
use super::{Dir, have, noise, play, until};

/// More than the kernel's buffers hold; it takes curl about four seconds.
const SIZE: usize = 32 << 20;
const RATE: &str = "8M";

fn origin() -> String {
    let body = noise(SIZE);
    play(move |mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0; 1];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")?;
        stream.write_all(&body)
    })
}

fn serve(name: &'static str, origin: &str, grace: &str) -> (Example, SocketAddr) {
    match name {
        "web_proxy" => Example::serve(name, &["--grace", grace]),
        _ => Example::serve(name, &["--grace", grace, "--to", origin]),
    }
}

/// Ends the server in the middle of a download; gives whether curl was content, what it has got, and how
/// long the server went on after the signal.
fn stop_in_the_middle(name: &'static str, grace: &str) -> (bool, Vec<u8>, Duration) {
    let (origin, dir) = (origin(), Dir::new());
    let (server, address) = serve(name, &origin, grace);
    let file = dir.path("download");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "50", "--limit-rate", RATE, "--noproxy"]);
    match name {
        "web_proxy" => {
            curl.args(["", "-x", &format!("http://{address}")]).arg(format!("http://{origin}/"))
        }
        _ => curl.arg("*").arg(format!("http://{address}/")),
    };
    curl.args(["-o", &file]).env_remove("no_proxy").env_remove("NO_PROXY").stderr(Stdio::null());
    let mut curl = curl.spawn().unwrap();
    until("the download has begun", || fs::metadata(&file).is_ok_and(|file| file.len() > 0));

    let start = Instant::now();
    stop(&server, address);
    if grace != "0" {
        assert!(curl.try_wait().unwrap().is_none(), "refused while the download goes on");
    }
    let mut status = None;
    until("curl ends", || {
        status = curl.try_wait().unwrap();
        status.is_some()
    });
    server.succeed();
    (status.unwrap().success(), fs::read(&file).unwrap(), start.elapsed())
}

fn with_enough(name: &'static str) {
    if have("curl") {
        let (content, got, took) = stop_in_the_middle(name, "50");
        assert!(content && got == noise(SIZE), "{} bytes", got.len());
        assert!(took < Duration::from_secs(40), "it does not use up its grace: {took:?}");
    }
}

fn without_enough(name: &'static str) {
    for grace in ["0", "1"] {
        if have("curl") {
            let (content, got, took) = stop_in_the_middle(name, grace);
            assert!(!content && got.len() < SIZE, "grace {grace}: {} bytes", got.len());
            assert!(took < Duration::from_secs(30), "grace {grace}: {took:?}");
        }
    }
}

#[test]
fn a_download_through_the_proxy_is_completed_in_the_grace() {
    with_enough("web_proxy");
}

#[test]
fn a_download_through_the_proxy_is_cut_after_the_grace() {
    without_enough("web_proxy");
}

#[test]
fn a_download_through_the_forwarder_is_completed_in_the_grace() {
    with_enough("port_forwarder");
}

#[test]
fn a_download_through_the_forwarder_is_cut_after_the_grace() {
    without_enough("port_forwarder");
}

/// A web server whose every answer is `ok`; one for `/slow` waits until it is let go, and half of one for
/// `/in-two-parts`.
fn small_origin() -> (String, Sender<()>) {
    let (let_go, slow) = channel();
    let slow = Arc::new(Mutex::new(slow));
    let origin = play(move |mut stream| {
        let mut head = [0; 4096];
        let length = stream.read(&mut head)?;
        let wait = || {
            // Without a word it goes on by itself, and the test sees that it was too late.
            let _ = slow.lock().unwrap().recv_timeout(DEADLINE);
        };
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let mut rest = &answer[..];
        match head[..length].split(|&byte| byte == b' ').nth(1) {
            Some(b"/slow") => wait(),
            Some(b"/in-two-parts") => {
                let first;
                (first, rest) = answer.split_at(answer.len() - 1);
                stream.write_all(first)?;
                wait();
            }
            _ => {}
        }
        stream.write_all(rest)
    });
    (origin, let_go)
}

/// A proxy that waits for ever, but for what the tests are about.
fn patient_proxy() -> (Example, SocketAddr) {
    Example::serve("web_proxy", &["--grace", "1000", "--idle-timeout", "1000"])
}

fn get(origin: &str, path: &str) -> String {
    format!("GET http://{origin}{path} HTTP/1.1\r\nHost: {origin}\r\n\r\n")
}

/// Reads one answer of [`small_origin`]; gives its head.
#[track_caller]
fn answer(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let mut byte = [0; 1];
        client.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

/// Tells a server to end, and waits until it does.
fn stop(server: &Example, address: SocketAddr) {
    server.signal(libc::SIGTERM);
    until("new connections are refused", || {
        TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
}

/// The server has nothing more to say and has closed the connection, in order.
#[track_caller]
fn is_closed(client: &mut TcpStream) {
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0, "closed, in order");
}

#[test]
fn idle_clients_of_the_proxy_are_dismissed_at_once() {
    let (origin, _) = small_origin();
    let (server, address) = patient_proxy();
    let (mut used, mut fresh) = (connect(address), connect(address));
    used.write_all(get(&origin, "/").as_bytes()).unwrap();
    assert!(answer(&mut used).contains("\r\nConnection: keep-alive\r\n"));
    server.signal(libc::SIGTERM);
    is_closed(&mut used);
    is_closed(&mut fresh);
    server.succeed();
}

#[test]
fn what_the_proxy_answers_when_it_ends_is_said_to_be_the_last() {
    let (origin, let_go) = small_origin();
    let (server, address) = patient_proxy();
    let (mut waiting, mut half) = (connect(address), connect(address));
    // The first answer tells that the half of the second request has come, too.
    let second = get(&origin, "/");
    let (second, rest) = second.split_at(30);
    half.write_all((get(&origin, "/") + second).as_bytes()).unwrap();
    assert!(answer(&mut half).contains("\r\nConnection: keep-alive\r\n"));
    waiting.write_all((get(&origin, "/") + &get(&origin, "/slow")).as_bytes()).unwrap();
    assert!(answer(&mut waiting).contains("\r\nConnection: keep-alive\r\n"));

    stop(&server, address);
    half.write_all(rest.as_bytes()).unwrap();
    assert!(answer(&mut half).contains("\r\nConnection: close\r\n"));
    is_closed(&mut half);
    let_go.send(()).unwrap();
    assert!(answer(&mut waiting).contains("\r\nConnection: close\r\n"));
    is_closed(&mut waiting);
    server.succeed();
}

#[test]
fn who_was_told_to_go_on_and_then_the_proxy_ends_may_ask_once_more_if_it_has() {
    let (origin, let_go) = small_origin();
    let (server, address) = patient_proxy();
    let (mut asking, mut silent) = (connect(address), connect(address));
    for client in [&mut asking, &mut silent] {
        client.write_all(get(&origin, "/in-two-parts").as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\no") {
            let mut byte = [0; 1];
            client.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.escape_ascii().to_string().contains("Connection: keep-alive"));
    }
    stop(&server, address);
    asking.write_all(get(&origin, "/").as_bytes()).unwrap();
    (0..2).for_each(|_| let_go.send(()).unwrap());
    for client in [&mut asking, &mut silent] {
        client.read_exact(&mut [0; 1]).unwrap();
    }
    assert!(answer(&mut asking).contains("\r\nConnection: close\r\n"));
    is_closed(&mut asking);
    is_closed(&mut silent);
    drop(asking);
    server.succeed();
}

/// A connection through the server to one that echoes, open and idle.
fn idle_connection(name: &'static str, grace: &str) -> (Example, SocketAddr, TcpStream) {
    let echo = play(|mut stream| io::copy(&mut stream.try_clone()?, &mut stream).map(drop));
    let (server, address) = serve(name, &echo, grace);
    let mut stream = connect(address);
    if name == "web_proxy" {
        write!(stream, "CONNECT {echo} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut established = [0; b"HTTP/1.1 200 Connection established\r\n\r\n".len()];
        stream.read_exact(&mut established).unwrap();
    }
    assert_eq!(exchange(&mut stream, b"before").unwrap(), b"before");
    (server, address, stream)
}

#[test]
fn idle_tunnels_and_connections_may_go_on_for_the_grace() {
    for name in ["web_proxy", "port_forwarder"] {
        let (server, address, mut stream) = idle_connection(name, "1000");
        stop(&server, address);
        assert_eq!(exchange(&mut stream, b"after").unwrap(), b"after", "{name}");
        // And when they have ended, nothing is waited for.
        drop(stream);
        server.succeed();
    }
}

#[test]
fn idle_tunnels_and_connections_are_cut_after_the_grace() {
    for name in ["web_proxy", "port_forwarder"] {
        let (server, _, mut stream) = idle_connection(name, "1");
        let start = Instant::now();
        server.signal(libc::SIGTERM);
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "{name}");
        assert!(start.elapsed() >= Duration::from_millis(900), "{name}: {:?}", start.elapsed());
        server.succeed();
    }
}

#[test]
fn a_second_signal_cuts_idle_tunnels_and_connections() {
    for name in ["web_proxy", "port_forwarder"] {
        let (server, address, mut stream) = idle_connection(name, "1000");
        stop(&server, address);
        server.signal(libc::SIGTERM);
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "{name}");
        server.succeed();
    }
}

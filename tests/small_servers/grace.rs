//! What `web_proxy` and `port_forwarder` do with transfers in progress when they are told to end.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::example::{Example, connect};
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

    server.signal(libc::SIGTERM);
    let start = Instant::now();
    until("new connections are refused", || {
        TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
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

#[test]
fn idle_clients_of_the_proxy_are_dismissed_at_once() {
    let origin = play(|mut stream| {
        let _ = stream.read(&mut [0; 4096])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let (server, address) =
        Example::serve("web_proxy", &["--grace", "1000", "--idle-timeout", "1000"]);
    let (mut used, mut fresh) = (connect(address), connect(address));
    write!(used, "GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let mut byte = [0; 1];
        used.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    server.signal(libc::SIGTERM);
    for client in [&mut used, &mut fresh] {
        assert_eq!(client.read(&mut [0; 16]).unwrap(), 0, "closed, in order");
    }
    server.succeed();
}

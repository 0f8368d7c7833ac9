//! `unix_log`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;

use super::example::Example;
use super::{Dir, have, succeed, until};

fn server(dir: &Dir, options: &[&str]) -> (Example, String) {
    let socket = dir.path("socket");
    let log = dir.path("log");
    let arguments = [&["--addr", &socket, "--log", &log], options].concat();
    let mut server = Example::start_typing("unix_log", &arguments);
    server.line_with(&format!("listening on {socket}"));
    (server, socket)
}

fn log(dir: &Dir) -> String {
    fs::read_to_string(dir.path("log")).unwrap_or_default()
}

/// What comes after the time and the source.
fn texts(log: &str) -> Vec<&str> {
    log.lines().map(|line| line.split_once("] ").unwrap().1).collect()
}

#[test]
fn lines_of_stdin_and_of_clients_are_in_one_log_with_times() {
    let dir = Dir::new();
    fs::write(dir.path("log"), "2020-01-01T00:00:00.000Z [stdin] what was there\n").unwrap();
    let (mut server, socket) = server(&dir, &[]);
    server.type_line("typed");
    let mut expected = vec!["what was there", "typed"];
    until("it is written", || log(&dir).lines().count() == expected.len());
    if have("nc") {
        succeed(Command::new("nc").args(["-N", "-U", &socket]), b"from nc\nsecond\n");
        expected.extend(["from nc", "second"]);
        until("it is written", || log(&dir).lines().count() == expected.len());
    }
    if have("socat") {
        let target = format!("UNIX-CONNECT:{socket}");
        // Without an end of line, and with what a terminal would obey.
        succeed(Command::new("socat").args(["-u", "-", &target]), b"a\x1b[2Jb\xff\tc\rd\r\nlast");
        expected.extend(["a\\u{1b}[2Jb\u{fffd}\tc\\rd", "last"]);
        until("it is written", || log(&dir).lines().count() == expected.len());
    }
    let log = log(&dir);
    assert_eq!(texts(&log), expected);
    for line in log.lines().skip(1) {
        // 2026-01-31T12:00:00.000Z
        let (time, source) = line.split_once(' ').unwrap();
        assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{line}");
        assert!(source.starts_with("[stdin] ") || source.starts_with("[process "), "{line}");
    }
    server.end_input(); // clients go on
    let mut client = UnixStream::connect(&socket).unwrap();
    client.write_all(b"after the end of the input\n").unwrap();
    until("it is written", || self::log(&dir).contains("after the end"));

    server.signal(libc::SIGTERM);
    let output = server.succeed();
    assert!(output.contains("lines written, 0 lost"), "{output}");
    assert!(!fs::exists(&socket).unwrap(), "the socket file is left");
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
}

#[test]
fn many_clients_write_at_once_and_no_line_is_torn() {
    let dir = Dir::new();
    let (server, socket) = server(&dir, &[]);
    let clients: Vec<_> = (0..50)
        .map(|client| {
            let socket = socket.clone();
            thread::spawn(move || {
                let mut stream = UnixStream::connect(socket).unwrap();
                for line in 0..100 {
                    // In two parts, so that others come in between.
                    write!(stream, "client {client} ").unwrap();
                    writeln!(stream, "line {line} {}", "x".repeat(client)).unwrap();
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    until("all is written", || log(&dir).lines().count() >= 5000);
    let log = log(&dir);
    let texts = texts(&log);
    for client in 0..50 {
        let own = texts.iter().filter(|text| text.starts_with(&format!("client {client} ")));
        let expected = (0..100).map(|n| format!("client {client} line {n} {}", "x".repeat(client)));
        assert!(own.eq(&expected.collect::<Vec<_>>()), "the lines of client {client}");
    }
    server.signal(libc::SIGINT);
    let output = server.succeed();
    assert!(output.contains("50 clients, 5000 lines written, 0 lost"), "{output}");
}

#[test]
fn a_stale_socket_file_is_taken_over_and_nothing_else() {
    let dir = Dir::new();
    let socket = dir.path("socket");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(fs::exists(&socket).unwrap());
    let (first, _) = server(&dir, &[]);

    // Somebody listens on it now, and goes on.
    let (status, output) = Example::start("unix_log", &["--addr", &socket]).finish();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("somebody listens on it"), "{output}");
    let mut client = UnixStream::connect(&socket).unwrap();
    client.write_all(b"still here\n").unwrap();
    until("it is written", || log(&dir).contains("still here"));

    // A server that is killed leaves its file, and the next one takes it.
    first.signal(libc::SIGKILL);
    first.finish();
    assert!(fs::exists(&socket).unwrap());
    let (second, _) = server(&dir, &[]);
    // What has been put in its place is not removed at the end.
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "precious").unwrap();
    second.signal(libc::SIGTERM);
    second.succeed();
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");

    let (status, output) = Example::start("unix_log", &["--addr", &socket]).finish();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("this is no socket"), "{output}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn long_lines_are_cut_and_a_full_disk_loses_lines_but_not_the_server() {
    let dir = Dir::new();
    let (server, socket) = server(&dir, &[]);
    let mut client = UnixStream::connect(&socket).unwrap();
    client.write_all(&[&[b'x'; 20_000][..], b"\n"].concat()).unwrap();
    until("it is written", || log(&dir).lines().count() == 3);
    let lengths: Vec<_> = texts(&log(&dir)).iter().map(|text| text.len()).collect();
    assert_eq!(lengths, [8192, 8192, 20_000 - 2 * 8192]);
    drop(server);

    if !fs::exists("/dev/full").unwrap() {
        return println!("skipped: there is no /dev/full");
    }
    let socket = dir.path("other");
    let arguments = ["--addr", &socket, "--log", "/dev/full"];
    let mut server = Example::start_typing("unix_log", &arguments);
    server.line_with("listening on ");
    server.type_line("first");
    server.line_with("1 lines are lost");
    UnixStream::connect(&socket).unwrap().write_all(b"second\n").unwrap();
    server.line_with("1 lines are lost");
    server.signal(libc::SIGTERM);
    let output = server.succeed();
    assert!(output.contains("0 lines written, 2 lost"), "{output}");
}

#[test]
fn it_waits_when_descriptors_run_out_and_then_goes_on() {
    let dir = Dir::new();
    let (mut server, socket) = server(&dir, &[]);
    UnixStream::connect(&socket).unwrap().write_all(b"first\n").unwrap();
    until("it is written", || log(&dir).contains("first"));
    server.limit_open_files(16);
    let clients: Vec<_> = (0..16).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    server.line_with("trying again in 10ms");
    for (n, mut client) in clients.into_iter().enumerate() {
        writeln!(client, "number {n}").unwrap();
    }
    until("all is written", || log(&dir).lines().count() == 17);
    server.signal(libc::SIGTERM);
    server.succeed();
}

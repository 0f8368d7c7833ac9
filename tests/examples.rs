//! Every example runs, does what it says, and ends as it should.

#[path = "common/example.rs"]
mod example;
#[path = "common/readme.rs"]
mod readme;

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use example::{DEADLINE, Example, connect, exchange};

/// The row of `c10k`'s table that belongs to `server`.
fn row<'a>(table: &'a str, server: &str) -> Vec<&'a str> {
    let row = table.lines().find_map(|line| line.strip_prefix(server)?.strip_prefix("  "));
    row.unwrap_or_else(|| panic!("no row for {server} in:\n{table}")).split_whitespace().collect()
}

#[test]
fn hello_interleaves_two_sleepers() {
    let output = Example::start("hello", &[]).succeed();
    assert!(output.starts_with("hello from a coroutine\ntick 1\n    tock 1\n"), "{output}");
    assert!(output.ends_with("6 lines, from two coroutines on one thread"), "{output}");
}

#[test]
fn c10k_compares_both_servers_and_verifies_every_byte() {
    let output = Example::start("c10k", &["--connections", "200", "--seconds", "1"]).succeed();
    for server in ["greenling", "thread per connection"] {
        // held, requests/s, p50 ms, p99 ms, memory KB, CPU µs, errors, verified MB
        let row = row(&output, server);
        assert_eq!(row[0], "200", "connections held\n{output}");
        assert!(row[1].parse::<f64>().unwrap() > 0.0, "requests per second\n{output}");
        assert!(row[6].parse::<f64>().unwrap() > 0.0, "memory per connection\n{output}");
        assert!(row[8].parse::<f64>().unwrap() > 0.0, "CPU per request\n{output}");
        assert_eq!(row[10], "0", "errors\n{output}");
    }
}

#[test]
fn c10k_takes_messages_longer_than_the_servers_buffer() {
    let output = Example::start(
        "c10k",
        &["--connections=20", "--seconds=1", "--message-size=65536", "--only=greenling"],
    )
    .succeed();
    assert_eq!(row(&output, "greenling")[10], "0", "errors\n{output}");
    assert!(!output.contains("thread per connection"), "{output}");
}

#[test]
fn c10k_says_when_it_may_not_open_enough_files() {
    let arguments = "--connections 2000 --seconds 1";
    let output = Example::start_limited("c10k", "-n 128", arguments).succeed();
    let held = row(&output, "greenling")[0];
    // A privileged process may raise even the hard limit that was set, and then holds them all.
    if held != "2000" {
        assert_eq!(held, "64", "connections held\n{output}");
        assert!(output.contains("64 connections instead of 2000"), "{output}");
    }
}

#[test]
fn million_wakes_all_it_put_to_sleep() {
    let output = Example::start("million", &["--count", "2000"]).succeed();
    assert!(output.contains("coroutines asleep       2000"), "{output}");
}

#[test]
fn million_goes_on_with_what_a_limit_allows() {
    // The address space holds some of these stacks of 1 MiB, but not all.
    let arguments = "--count 100000 --stack-size 1048576";
    let output = Example::start_limited("million", "-v 4000000", arguments).succeed();
    assert!(output.contains("There is a limit at "), "{output}");
}

#[test]
fn echo_server_answers_in_upper_case_and_leaves_other_bytes_alone() {
    let (server, address) = Example::serve("echo_server", &[]);
    let mut stream = connect(address);
    let message = "Grüße, 世界! [az] {AZ}".as_bytes();
    let expected = "GRüßE, 世界! [AZ] {AZ}".as_bytes();
    assert_eq!(exchange(&mut stream, message).unwrap(), expected);

    let every_byte: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    assert_eq!(exchange(&mut stream, &every_byte).unwrap(), every_byte.to_ascii_uppercase());
    drop(server);
}

#[test]
fn echo_server_answers_all_that_came_before_a_half_close() {
    let (_server, address) = Example::serve("echo_server", &[]);
    let mut stream = connect(address);
    let message = vec![b'x'; 100_000];
    let mut writer = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        writer.write_all(&message).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    writer.join().unwrap();
    assert_eq!(reply.len(), 100_000);
    assert!(reply.iter().all(|&byte| byte == b'X'));
}

#[test]
fn echo_server_serves_no_more_clients_than_it_may() {
    let (_server, address) = Example::serve("echo_server", &["--max-clients", "2"]);
    let (mut first, mut second) = (connect(address), connect(address));
    assert_eq!(exchange(&mut first, b"one").unwrap(), b"ONE");
    assert_eq!(exchange(&mut second, b"two").unwrap(), b"TWO");

    // The third is in the backlog: connected, but nobody answers it.
    let mut third = connect(address);
    third.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = exchange(&mut third, b"three").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");

    drop(first);
    third.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut reply = [0; 5];
    third.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"THREE");
    assert_eq!(exchange(&mut second, b"still here").unwrap(), b"STILL HERE");
}

#[test]
fn echo_server_dismisses_idle_clients_only() {
    let (_server, address) = Example::serve("echo_server", &["--idle-timeout", "1"]);
    let (mut idle, mut busy) = (connect(address), connect(address));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        assert_eq!(exchange(&mut busy, b"ping").unwrap(), b"PING");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "the server has closed the connection");
}

#[test]
fn echo_server_waits_when_descriptors_run_out_and_then_goes_on() {
    let (mut server, address) = Example::serve("echo_server", &[]);
    // Once it has waited for a client, its hub has the descriptors that it needs itself.
    assert_eq!(exchange(&mut connect(address), b"first").unwrap(), b"FIRST");
    // Taken away behind its back, since it would serve fewer clients if it knew.
    server.limit_open_files(16);
    let mut streams: Vec<_> = (0..16).map(|_| connect(address)).collect();
    server.line_with("trying again in 10ms");

    // Each client that leaves lets one of those in that wait, until all have been served.
    for mut stream in streams.drain(..) {
        assert_eq!(exchange(&mut stream, b"my turn").unwrap(), b"MY TURN");
    }
    server.signal(libc::SIGTERM);
    let output = server.succeed();
    assert!(output.contains("served 17 clients, 117 bytes"), "{output}");
}

#[test]
fn echo_server_ends_cleanly_on_sigterm_and_sigint() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let (server, address) = Example::serve("echo_server", &[]);
        let mut stream = connect(address);
        assert_eq!(exchange(&mut stream, b"still open").unwrap(), b"STILL OPEN");
        server.signal(signal);
        let output = server.succeed();
        assert!(output.contains("served 1 clients, 10 bytes"), "{output}");
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "the connection is closed");
    }
}

#[test]
fn load_client_verifies_all_replies_of_the_echo_server() {
    let (server, address) = Example::serve("echo_server", &[]);
    let address = address.to_string();
    let arguments = ["--addr", &address, "--clients", "100", "--requests", "20"];
    let output = Example::start("load_client", &arguments).succeed();
    assert!(output.contains("requests answered  2000 of 2000"), "{output}");
    assert!(output.contains("mismatches         0"), "{output}");

    server.signal(libc::SIGTERM);
    let output = server.succeed();
    assert!(output.contains("served 100 clients, 128000 bytes"), "{output}");
}

#[test]
fn load_client_notices_a_server_that_answers_wrongly() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // It echoes, but not in upper case.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    let arguments = ["--addr", &address, "--clients", "3", "--requests", "10"];
    let (status, output) = Example::start("load_client", &arguments).finish();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("mismatches         3"), "{output}");
}

#[test]
fn load_client_fails_when_nobody_listens() {
    // The port was free a moment ago, and nobody listens on it now.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = address.to_string();
    let arguments = ["--addr", &address, "--clients", "3"];
    let (status, output) = Example::start("load_client", &arguments).finish();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("3 × Connection refused"), "{output}");
}

#[test]
fn the_readme_says_of_the_options_what_the_programs_say() {
    let examples = readme::programs().filter(|(name, _)| example::path(name).exists());
    let checked = examples.map(|(name, text)| {
        assert!(text.contains(&format!("cargo run --release --example {name}")), "{name}");
        readme::check_options(name, &Example::start(name, &["--help"]).succeed());
    });
    assert_eq!(checked.count(), 8, "echo, forwarder, proxy, chat (2), log, records, poll");
}

#[test]
fn every_program_of_the_readme_is_in_the_one_of_the_examples() {
    let table = include_str!("../README.md").lines().filter(|line| line.contains("| `cargo run "));
    let mut count = 0;
    for line in table {
        let words: Vec<_> = line.split(&[' ', '`'][..]).collect();
        let named = |option| words.iter().position(|word| *word == option).map(|at| words[at + 1]);
        let name = named("--bin").or(named("--example")).or(named("-p")).unwrap();
        assert!(readme::programs().any(|(program, _)| program == name), "{name} has no section");
        count += 1;
    }
    assert!(count > 8, "{count}");
}

//! `poll_echo`.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::example::{Example, connect, exchange};
use super::{have, noise, reset, run, until};

/// How much CPU time, user and system, a process has used, in hundredths of a second.
fn ticks(server: &Example) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

#[test]
fn it_echoes_all_that_nc_sends_and_sees_its_end() {
    let (server, address) = Example::serve("poll_echo", &[]);
    if have("nc") {
        let data = noise(5_000_000);
        let port = address.port().to_string();
        let output = run(Command::new("nc").args(["-N", "127.0.0.1", &port]), &data);
        assert!(output.stdout == data, "{} bytes came back", output.stdout.len());
    }
    let mut client = connect(address);
    assert_eq!(exchange(&mut client, b"one").unwrap(), b"one");
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let (server, address) = Example::serve("poll_echo", &[]);
        assert_eq!(exchange(&mut connect(address), b"x").unwrap(), b"x");
        server.signal(signal);
        assert!(server.succeed().contains("ended by a signal"));
    }
    server.signal(libc::SIGTERM);
    server.succeed();
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_and_gets_all_in_the_end() {
    let (server, address) = Example::serve("poll_echo", &[]);
    let mut slow = connect(address);
    let mut writer = slow.try_clone().unwrap();
    let data = noise(20_000_000);
    let sent = data.clone();
    let writer = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    thread::sleep(Duration::from_millis(500));
    assert!(!writer.is_finished(), "the server keeps 20 MB for a client");
    // Others do not notice, and nothing spins.
    let mut other = connect(address);
    assert_eq!(exchange(&mut other, b"other").unwrap(), b"other");
    let before = ticks(&server);
    thread::sleep(Duration::from_millis(500));
    assert!(ticks(&server) - before < 25, "the loop spins");
    let mut echo = Vec::new();
    slow.read_to_end(&mut echo).unwrap();
    writer.join().unwrap();
    assert!(echo == data, "{} bytes came back", echo.len());
}

#[test]
fn resets_and_ends_leave_nothing_behind() {
    let (server, address) = Example::serve("poll_echo", &[]);
    assert_eq!(exchange(&mut connect(address), b"first").unwrap(), b"first");
    let mut witness = connect(address);
    assert_eq!(exchange(&mut witness, b"here").unwrap(), b"here");
    until("the first is gone", || server.descriptors() <= 12);
    let before = server.descriptors();
    for round in 0..50 {
        let mut client = connect(address);
        client.write_all(&noise(1000 * round)).unwrap();
        match round % 3 {
            0 => reset(client),
            1 => drop(client),
            _ => client.shutdown(Shutdown::Both).unwrap(),
        }
    }
    assert_eq!(exchange(&mut witness, b"still here").unwrap(), b"still here");
    until("all are closed", || server.descriptors() <= before);
    let ticks_before = ticks(&server);
    thread::sleep(Duration::from_millis(500));
    assert!(ticks(&server) - ticks_before < 25, "the loop spins over what has ended");
}

#[test]
fn it_waits_when_descriptors_run_out_and_then_goes_on() {
    let (mut server, address) = Example::serve("poll_echo", &[]);
    assert_eq!(exchange(&mut connect(address), b"first").unwrap(), b"first");
    server.limit_open_files(16);
    let mut clients: Vec<_> = (0..16).map(|_| connect(address)).collect();
    server.line_with("Too many open files");
    for mut client in clients.drain(..) {
        assert_eq!(exchange(&mut client, b"my turn").unwrap(), b"my turn");
    }
    server.signal(libc::SIGTERM);
    server.succeed();
}

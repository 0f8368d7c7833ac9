//! `port_forwarder`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::example::{DEADLINE, Example, connect, exchange};
use super::{have, noise, play, reset, run, succeed, until};

/// One client, which may be reset at any moment, even before it knows that it is connected.
fn attempt(server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    exchange(&mut stream, b"my turn")
}

fn echo() -> String {
    play(|mut stream| {
        io::copy(&mut stream.try_clone()?, &mut stream)?;
        stream.shutdown(Shutdown::Write)
    })
}

#[test]
fn it_forwards_what_nc_and_socat_send_and_counts_it() {
    let (server, address) = Example::serve("port_forwarder", &["--to", &echo()]);
    let before = server.descriptors();
    let mut expected = 0;
    let data = noise(3_000_000);
    if have("nc") {
        let port = address.port().to_string();
        let output = run(Command::new("nc").args(["-N", "127.0.0.1", &port]), &data);
        assert!(output.stdout == data, "{} bytes came back", output.stdout.len());
        expected += 1;
    }
    if have("socat") {
        let target = format!("TCP:{address}");
        let text = succeed(Command::new("socat").args(["-t", "30", "-", &target]), b"Hello!\n");
        assert_eq!(text, "Hello!\n");
        expected += 1;
    }
    // What the hub needs to wait for connections, but none of these.
    until("both ends of each are closed", || server.descriptors() <= before + 3);
    server.signal(libc::SIGTERM);
    let output = server.succeed();
    assert!(output.contains(&format!("forwarded {expected} connections")), "{output}");
    if expected == 2 {
        assert!(output.contains("3000007 bytes there, 3000007 bytes back"), "{output}");
    }
}

#[test]
fn each_direction_ends_by_itself() {
    // It answers only after the end, and goes on for a while then.
    let target = play(|mut stream| {
        let mut question = Vec::new();
        stream.read_to_end(&mut question)?;
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(20));
            stream.write_all(&question)?;
        }
        Ok(())
    });
    let (_server, address) = Example::serve("port_forwarder", &["--to", &target]);
    let mut client = connect(address);
    client.write_all(b"all of it;").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "all of it;".repeat(5));

    // And the other way around: the target ends first, and gets the rest nevertheless.
    let (sender, rest) = mpsc::channel();
    let target = play(move |mut stream| {
        stream.write_all(b"greeting")?;
        stream.shutdown(Shutdown::Write)?;
        let mut rest = String::new();
        stream.read_to_string(&mut rest)?;
        let _ = sender.send(rest);
        Ok(())
    });
    let (_server, address) = Example::serve("port_forwarder", &["--to", &target]);
    let mut client = connect(address);
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "greeting");
    client.write_all(b"still heard").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest.recv_timeout(DEADLINE).unwrap(), "still heard");
}

#[test]
fn a_reset_is_passed_on_as_a_reset_in_either_direction() {
    let target = play(|mut stream| {
        stream.write_all(b"half of the answ")?;
        stream.read_exact(&mut [0; 1])?;
        reset(stream);
        Ok(())
    });
    let (server, address) = Example::serve("port_forwarder", &["--to", &target]);
    let mut client = connect(address);
    client.read_exact(&mut [0; 16]).unwrap();
    client.write_all(b"x").unwrap();
    let error = client.read(&mut [0; 1]).expect_err("half an answer does not end like a whole one");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let (sender, seen) = mpsc::channel();
    let target = play(move |mut stream| {
        stream.write_all(b"x")?;
        let _ = sender.send(stream.read(&mut [0; 1]).map_err(|error| error.kind()));
        Ok(())
    });
    let (other, address) = Example::serve("port_forwarder", &["--to", &target]);
    let mut client = connect(address);
    client.read_exact(&mut [0; 1]).unwrap();
    let before = other.descriptors();
    reset(client);
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap(), Err(ErrorKind::ConnectionReset));
    until("both ends are closed", || other.descriptors() <= before - 2);
    drop(server);
}

#[test]
fn nobody_listening_behind_it_is_a_reset_and_nothing_worse() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (mut server, address) = Example::serve("port_forwarder", &["--to", &nobody, "--log"]);
    for _ in 0..3 {
        assert!(attempt(address).is_err());
        server.line_with("Connection refused");
    }
    server.signal(libc::SIGINT);
    server.succeed();
}

#[test]
fn no_more_is_read_than_the_other_side_takes() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(std::sync::Mutex::new(wait));
    let target = play(move |mut stream| {
        let _ = wait.lock().unwrap().recv();
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(&all.len().to_be_bytes())
    });
    let (server, address) = Example::serve("port_forwarder", &["--to", &target]);
    let mut client = connect(address);
    let sent = Arc::new(AtomicU64::new(0));
    let (mut writer, counted) = (client.try_clone().unwrap(), Arc::clone(&sent));
    const SIZE: usize = 64 << 20;
    let writer = thread::spawn(move || {
        let block = vec![1; 1 << 16];
        for _ in 0..SIZE / block.len() {
            writer.write_all(&block).unwrap();
            counted.fetch_add(block.len() as u64, Ordering::Relaxed);
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    // The kernel's buffers take some of it, and then nothing moves.
    let mut last = u64::MAX;
    until("the sender waits", || {
        thread::sleep(Duration::from_millis(300));
        let now = sent.load(Ordering::Relaxed);
        now > 0 && std::mem::replace(&mut last, now) == now
    });
    assert!(last < SIZE as u64, "the forwarder has taken everything");
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 32 << 10, "it keeps {kilobytes} KB");

    go.send(()).unwrap();
    writer.join().unwrap();
    let mut answer = [0; 8];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(usize::from_be_bytes(answer), SIZE);
}

#[test]
fn a_connection_on_which_nothing_moves_is_closed_and_no_other() {
    let (server, address) =
        Example::serve("port_forwarder", &["--to", &echo(), "--idle-timeout", "1"]);
    let (mut idle, mut busy) = (connect(address), connect(address));
    assert_eq!(exchange(&mut idle, b"hello").unwrap(), b"hello");
    let start = Instant::now();
    // Only one direction moves at a time, and each rests for longer than no time.
    while start.elapsed() < Duration::from_millis(2500) {
        assert_eq!(exchange(&mut busy, b"ping").unwrap(), b"ping");
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(idle.read(&mut [0; 1]).unwrap_or(0), 0, "the connection is closed");
    server.signal(libc::SIGTERM);
    server.succeed();
}

#[test]
fn it_waits_when_descriptors_run_out_and_then_goes_on() {
    let (mut server, address) = Example::serve("port_forwarder", &["--to", &echo()]);
    assert_eq!(exchange(&mut connect(address), b"first").unwrap(), b"first");
    server.limit_open_files(20);
    let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(address)).collect();
    server.line_with("trying again in 10ms");
    drop(clients);
    // Those whose turn came when there was no descriptor for their other end were reset; the next is served.
    until("a new client is served", || attempt(address).is_ok_and(|answer| answer == b"my turn"));
    server.signal(libc::SIGTERM);
    server.succeed();
}

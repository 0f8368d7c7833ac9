//! What goes wrong: broken connections, full disks, signals, nonsense.

#[path = "../../../tests/common/fuzz.rs"]
mod fuzz;
#[path = "support/malformed.rs"]
mod malformed;
mod support;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use fuzz::Bytes;
use proptest::prelude::*;
use support::{Server, connect, noise, reset};

const DISK_FULL: &str = "-f 1024"; // in units of 512 or 1024 bytes, depending on the shell

#[test]
fn resets_in_mid_transfer_leave_nothing_behind() {
    let server = Server::start(&[]);
    server.write("big", vec![0; 20_000_000]);
    server.check();
    let before = server.open_files();
    for round in 0..20 {
        let mut client = server.login();
        let mut data = client.begin(if round % 2 == 0 { "RETR big" } else { "STOR new" });
        let _ = match round % 2 {
            0 => data.read(&mut [0; 1000]).map(drop),
            _ => data.write_all(&vec![0; 500_000]),
        };
        if round % 4 < 2 {
            reset(data);
            client.expect(426);
            client.ask("NOOP", 200);
        } else {
            reset(client.stream.try_clone().unwrap());
            rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
            drop(client);
            // The control connection has gone, so the transfer ends too.
            let mut rest = Vec::new();
            let _ = data.read_to_end(&mut rest);
        }
    }
    server.wait_for_open_files(before);
    assert_eq!(server.names(), ["big"]);
    server.check();
}

#[test]
fn what_a_killed_client_has_sent_is_not_a_file() {
    let server = Server::start(&[]);
    server.write("f", "old");
    for _ in 0..20 {
        let mut client = server.login();
        let mut data = client.begin("STOR f");
        data.write_all(b"half of the ne").unwrap();
        // In the order in which a process's descriptors are closed.
        drop(client);
        drop(data);
    }
    let before = server.open_files();
    server.wait_for_open_files(before);
    server.check();
    assert_eq!(server.read("f"), b"old");
}

#[test]
fn a_full_disk_refuses_the_upload_and_takes_it_away() {
    let server = Server::start_limited(DISK_FULL, &[]);
    server.write("f", "old");
    let mut client = server.login();
    for _ in 0..3 {
        let mut data = client.begin("STOR f");
        let mut sent = 0;
        while sent < 50_000_000 && data.write_all(&[0; 65_536]).is_ok() {
            sent += 65_536;
        }
        drop(data);
        client.expect(452);
        assert_eq!(server.names(), ["f"]);
    }
    assert_eq!(client.get("RETR f"), b"old");
    client.put("STOR small", b"fits");
    server.check();
}

/// A file system of its own, which only a privileged process may mount.
#[test]
fn a_full_file_system_refuses_directories_and_uploads() {
    let root = tempfile::tempdir().unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m,nr_inodes=5", "ftp-test"])
        .arg(root.path())
        .output();
    if !mount.is_ok_and(|mount| mount.status.success()) {
        println!("skipped: a tmpfs could not be mounted");
        return;
    }
    struct Mounted(std::path::PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _mounted = Mounted(root.path().to_owned());
    let server = Server::start_in(root, &[]);
    let mut client = server.login();
    let mut data = client.begin("STOR f");
    while data.write_all(&[0; 65_536]).is_ok() {}
    drop(data);
    client.expect(452);
    assert!(server.names().is_empty());
    for n in 0..4 {
        client.ask(&format!("MKD {n}"), 257);
    }
    client.ask("MKD 4", 452);
    client.ask("STOR g", 452);
    client.ask("QUIT", 221);
}

#[test]
fn sigterm_lets_a_download_end_and_dismisses_the_idle() {
    let mut server = Server::start(&[]);
    let bytes = noise(20_000_000);
    server.write("big", &bytes);
    let (mut idle, mut client) = (server.login(), server.login());
    let mut data = client.begin("RETR big");
    let mut got = vec![0; 1000];
    data.read_exact(&mut got).unwrap();
    server.signal(libc::SIGTERM);
    idle.expect(421);
    idle.expect_end();
    assert!(TcpStream::connect(server.address).is_err(), "nobody is let in any more");
    thread::sleep(Duration::from_millis(300));
    data.read_to_end(&mut got).unwrap();
    assert!(got == bytes, "{} of {} bytes", got.len(), bytes.len());
    client.expect(226);
    client.expect(421);
    client.expect_end();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn sigterm_does_not_wait_longer_than_the_grace() {
    for second_signal in [false, true] {
        let grace = if second_signal { "60" } else { "1" };
        let mut server = Server::start(&["--grace", grace]);
        server.write("big", vec![0; 50_000_000]);
        let (mut reader, mut writer) = (server.login(), server.login());
        let _unread = reader.begin("RETR big");
        let mut unwritten = writer.begin("STOR new");
        unwritten.write_all(&[0; 100_000]).unwrap();
        server.signal(libc::SIGTERM);
        if second_signal {
            // Two signals at once may arrive as one.
            thread::sleep(Duration::from_millis(200));
            server.signal(libc::SIGINT);
        }
        let status = server.wait();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
        assert_eq!(server.names(), ["big"], "the upload was removed");
    }
}

/// How many malformed commands a session has at most.
const COMMANDS: usize = 500;
/// How many sessions there are at a time.
const SESSIONS: u64 = 10;
/// How much a process may grow without anything being lost: its allocator's fragments, stacks that are kept.
const MAY_GROW: u64 = 8 << 20;

/// Sends so many malformed commands, and compares the server before and after.
fn storm(commands: usize) {
    let server = Server::start(&["--max-clients", "20", "--active", "--data-timeout", "1"]);
    server.check();
    let open = server.open_files();
    let address = server.address;
    let seed = fuzz::seed();
    println!("FUZZ_SEED={seed}");
    let attack = |rounds: u32, first: u64| -> usize {
        let attacker = |thread: u64| {
            let sent = Cell::new(0);
            let sessions = malformed::sessions(COMMANDS);
            fuzz::check_from(seed, thread, rounds, sessions, |(lines, resets)| {
                sent.set(sent.get() + lines.len());
                nonsense(connect(address), &lines, resets)
            });
            sent.get()
        };
        let sent = thread::scope(|scope| {
            let attackers = first..first + SESSIONS;
            let attackers: Vec<_> =
                attackers.map(|thread| scope.spawn(move || attacker(thread))).collect();
            attackers.into_iter().map(|attacker| attacker.join().unwrap()).sum()
        });
        server.wait_for_open_files(open);
        sent
    };
    attack(1, SESSIONS);
    let before = server.resident();
    // A session is half as long as the longest on average; and some more, so that it is enough.
    let rounds = (commands * 22 / 10).div_ceil(COMMANDS * SESSIONS as usize);
    let sent = attack(rounds as u32, 0);
    let after = server.resident();
    println!("{sent} commands: {before} bytes resident before, {after} after");
    assert!(sent > commands / 2, "only {sent} commands were sent");
    assert!(after.saturating_sub(before) < MAY_GROW, "from {before} bytes to {after}");
    server.check();
}

#[test]
fn malformed_commands_do_no_harm() {
    storm(10_000);
}

#[test]
#[ignore = "a hundred thousand malformed commands take a minute; run with --release -- --ignored"]
fn a_hundred_thousand_malformed_commands_do_no_harm() {
    storm(100_000);
}

/// A session of nonsense.
fn nonsense(mut stream: TcpStream, lines: &[Bytes], resets: bool) -> Result<(), TestCaseError> {
    let mut reader = stream.try_clone().unwrap();
    let replies = thread::spawn(move || {
        let mut replies = Vec::new();
        let _ = reader.read_to_end(&mut replies);
        replies
    });
    let mut text = b"USER ftp\r\nPASS x\r\n".to_vec();
    for line in lines {
        text.extend_from_slice(line);
        if text.len() > 4000 && stream.write_all(&std::mem::take(&mut text)).is_err() {
            break;
        }
    }
    let _ = stream.write_all(&text);
    if resets {
        // The reset comes when the reader, which this wakes, has closed its end too.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Both);
    } else {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let replies = replies.join().unwrap();
    prop_assert!(replies.starts_with(b"220") || replies.starts_with(b"421") || replies.is_empty());
    Ok(())
}

#[test]
fn clients_beyond_the_limit_are_told_so_however_many_they_are() {
    let server = Server::start(&["--max-clients", "2"]);
    let _inside = (server.login(), server.login());
    let before = server.open_files();
    let mut outside: Vec<_> = (0..300).map(|_| connect(server.address)).collect();
    for stream in &mut outside {
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, "421 Too many users; try again later.\r\n");
    }
    server.wait_for_open_files(before);
}

#[test]
fn other_sessions_go_on_while_one_transfers() {
    let server = Server::start(&[]);
    server.write("big", vec![0; 100_000_000]);
    let mut client = server.login();
    let mut data = client.begin("RETR big");
    let reader = thread::spawn(move || std::io::copy(&mut data, &mut std::io::sink()).unwrap());
    let mut other = server.login();
    for _ in 0..100 {
        other.ask("NOOP", 200);
    }
    assert_eq!(reader.join().unwrap(), 100_000_000);
    client.expect(226);
}

/// What one client does of all that clients do. Each has a directory of its own.
fn session(server: &Server, random: &mut fastrand::Rng, own: u64) {
    let mut client = server.login();
    client.send(format!("MKD d{own}\r\n"));
    client.reply(); // It may be there.
    client.ask(&format!("CWD d{own}"), 250);
    let bytes = noise(random.usize(1..300_000));
    for _ in 0..random.u8(1..6) {
        match random.u8(0..7) {
            0 => {
                client.put("STOR f", &bytes);
                assert!(client.get("RETR f") == bytes);
            }
            1 => {
                client.put("STOR f", &bytes[..bytes.len() / 2]);
                client.put("APPE f", &bytes[bytes.len() / 2..]);
                let begin = bytes.len().min(100);
                client.ask(&format!("REST {begin}"), 350);
                assert!(client.get("RETR f") == bytes[begin..]);
            }
            2 => drop(client.get(["LIST", "NLST", "MLSD"][random.usize(..3)])),
            3 => {
                let mut data = client.begin("STOR g");
                data.write_all(&bytes[..bytes.len() / 2]).unwrap();
                reset(data);
                client.expect(426);
            }
            4 => {
                let mut data = client.begin("RETR /big");
                let _ = data.read(&mut [0; 1000]);
                client.ask("ABOR", 426);
                client.expect(226);
            }
            5 => {
                client.put("STOR h", b"h");
                client.ask("RNFR h", 350);
                client.ask("RNTO i", 250);
                client.ask("DELE i", 250);
                client.ask("SIZE i", 550);
            }
            // Agreed, and not used.
            _ => drop(client.passive()),
        }
    }
    match random.u8(0..4) {
        0 => {
            // It is gone in the middle.
            let data = client.begin("RETR /big");
            reset(data);
        }
        1 => reset(client.stream.try_clone().unwrap()),
        _ => drop(client.ask("QUIT", 221)),
    }
}

/// Has four clients come and go for so long, and compares the server before and after.
fn soak(time: Duration) {
    let server = Server::start(&[]);
    server.write("big", vec![0; 20_000_000]);
    server.check();
    let open = server.open_files();
    let load = |time: Duration, seed: u64| -> u64 {
        let (end, server) = (Instant::now() + time, &server);
        let run = move |own: u64| {
            let (mut random, mut count) = (fastrand::Rng::with_seed(seed + own), 0);
            while Instant::now() < end {
                session(server, &mut random, own);
                count += 1;
            }
            count
        };
        let count = thread::scope(|scope| {
            let clients: Vec<_> = (0..4).map(|own| scope.spawn(move || run(own))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        server.wait_for_open_files(open);
        count
    };
    load(time / 4, 100);
    let before = server.resident();
    let count = load(time, 200);
    let after = server.resident();
    println!("{count} sessions in {time:?}: {before} bytes resident before, {after} after");
    assert!(after.saturating_sub(before) < MAY_GROW, "from {before} bytes to {after}");
    let left: Vec<_> = server.names().into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
    server.check();
}

#[test]
fn sessions_that_come_and_go_leave_nothing_behind() {
    soak(Duration::from_secs(2));
}

#[test]
#[ignore = "a soak of more than a minute; run with --release -- --ignored"]
fn an_hours_sessions_leave_nothing_behind() {
    soak(Duration::from_secs(60));
}

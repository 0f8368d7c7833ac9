//! A name server that never answers, a real one for the C library's resolver: look-ups can be left, and hold up
//! nobody else.

#[path = "common/child.rs"]
mod child;
mod common;

use std::ffi::CString;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};

use child::On;
use common::deadline;
use greenling::net::{TcpListener, TcpStream, ToSocketAddrs};
use greenling::{sleep, spawn, timeout};

const SERVER: &str = "127.9.9.9";
/// More than are looked up at a time.
const MANY: usize = 100;
const MS: Duration = Duration::from_millis(1);

/// Puts a file in place of /etc/resolv.conf, for the calling thread and those that it starts from now on.
fn replace_settings(by: &Path) -> io::Result<()> {
    let by = CString::new(by.to_str().unwrap()).unwrap();
    let check = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let (none, nothing) = (ptr::null(), ptr::null());
    let place = c"/etc/resolv.conf".as_ptr();
    // SAFETY: strings with their ends, and null where nothing is meant.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, nothing))?;
        check(libc::mount(by.as_ptr(), place, none, libc::MS_BIND, nothing))
    }
}

fn look_up(n: usize) -> io::Result<Vec<SocketAddr>> {
    Ok((format!("name{n}.example.org"), 80).to_socket_addrs()?.collect())
}

#[test]
fn look_ups_that_hang_can_be_left_and_hold_up_nobody() {
    let ended = child::run(On::OtherThread, 60, || {
        let settings =
            std::env::temp_dir().join(format!("greenling-resolv-{}", std::process::id()));
        std::fs::write(&settings, format!("nameserver {SERVER}\noptions timeout:30 attempts:1\n"))
            .unwrap();
        let ready = replace_settings(&settings)
            .and_then(|()| UdpSocket::bind((SERVER, 53)))
            .and_then(|silent| silent.set_nonblocking(true).map(|()| silent));
        let _ = std::fs::remove_file(&settings); // what is mounted stays
        match ready {
            Ok(silent) => deadline(50, move || hang(&silent)),
            Err(error) => println!("skipped: no resolver can be set up here ({error})"),
        }
    });
    ended.succeeded();
    if let Some(line) = ended.stdout.lines().find(|line| line.starts_with("skipped")) {
        println!("{line}");
    }
}

fn hang(silent: &UdpSocket) {
    let start = Instant::now();
    let in_time = timeout(100 * MS, || look_up(0));
    if let Err(error) = silent.recv(&mut [0; 1000]) {
        println!("skipped: the C library does not ask name servers here ({error})");
        return;
    }
    assert!(in_time.is_err(), "the server was asked, and is silent");

    let many: Vec<_> = (1..MANY).map(|n| spawn(move || look_up(n))).collect();
    sleep(100 * MS);
    assert!(many.iter().all(|one| !one.is_finished()));

    // Nobody else is held up: what is no name, and who does not ask.
    assert_eq!("127.0.0.1:80".to_socket_addrs().unwrap().count(), 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(&*listener.local_addr().unwrap().to_string()).unwrap();
    assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());

    // Waiting for one of the pool's threads, or for the answer: either can be killed.
    for one in many {
        one.kill();
        assert!(one.join().is_err());
    }
    assert!(start.elapsed() < Duration::from_secs(20), "the server's 30 s were not waited for");
    // The C library of this process does ask that server, and would wait.
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        sender.send(std::net::ToSocketAddrs::to_socket_addrs(&("name.example.org", 80)).is_ok())
    });
    assert!(receiver.recv_timeout(500 * MS).is_err());
}

//! Many connections, and too many.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::net::{TcpListener, TcpStream};
use greenling::os::unix::net::UnixStream;
use greenling::{sleep, spawn, yield_now};

use crate::child::{self, On};
use crate::common::deadline;

#[test]
fn a_thousand_connections_at_once() {
    const CLIENTS: usize = 1000;
    in_child(|| {
        limit_descriptors(3 * CLIENTS as u64 + 100);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = spawn(move || {
            let handlers: Vec<_> = listener
                .incoming()
                .take(CLIENTS)
                .map(|stream| {
                    let mut stream = stream.unwrap();
                    spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap())
                })
                .collect();
            handlers.into_iter().map(|handler| handler.join().unwrap()).sum::<u64>()
        });
        let clients: Vec<_> = (0..CLIENTS as u32)
            .map(|n| {
                spawn(move || {
                    let mut stream = TcpStream::connect(addr).unwrap();
                    for round in 0..5 {
                        let sent = (n + round).to_ne_bytes();
                        stream.write_all(&sent).unwrap();
                        let mut got = [0; 4];
                        stream.read_exact(&mut got).unwrap();
                        assert_eq!(got, sent);
                    }
                    stream.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(stream.read(&mut [0; 4]).unwrap(), 0);
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        assert_eq!(server.join().unwrap(), CLIENTS as u64 * 5 * 4);
    });
}

#[test]
fn accept_without_descriptors_fails_and_recovers() {
    in_child(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let hoard = use_up_descriptors();
        for _ in 0..3 {
            let error = listener.accept().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        }
        drop(hoard);
        let (_stream, addr) = listener.accept().unwrap();
        assert_eq!(addr, client.local_addr().unwrap());
    });
}

#[test]
fn a_loop_that_ignores_errors_of_accept_does_not_spin() {
    in_child(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
        sleep(Duration::from_millis(1)); // the hub has its descriptors
        let hoard = use_up_descriptors();
        let failures = Rc::new(std::cell::Cell::new(0));
        let server = spawn({
            let failures = failures.clone();
            move || {
                let mut accepted = Vec::new();
                while accepted.len() < 3 {
                    match listener.accept() {
                        Ok((stream, _)) => accepted.push(stream),
                        Err(_) => failures.set(failures.get() + 1),
                    }
                }
            }
        });
        let start = Instant::now();
        let burnt = processor_time();
        for _ in 0..20 {
            sleep(Duration::from_millis(5)); // goes on meanwhile
        }
        let elapsed = start.elapsed();
        assert!(elapsed < Duration::from_secs(5));
        assert!(processor_time() - burnt < elapsed / 2, "it spins");
        assert!((1..=elapsed.as_millis() / 4).contains(&failures.get()), "{}", failures.get());
        drop(hoard);
        server.join().unwrap();
        drop(clients);
    });
}

#[test]
fn a_hub_without_descriptors_says_so() {
    in_child(|| {
        // By std's listener, so that the hub has not been asked to wait for anything.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let mut hoard = use_up_descriptors();
        // There is none for the epoll instance.
        let error = (&client).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        let error = TcpStream::connect(listener.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        assert_eq!(client.try_clone().unwrap_err().raw_os_error(), Some(libc::EMFILE));
        // One is enough for a listener, but not for waiting.
        hoard.pop();
        let error = TcpListener::bind("127.0.0.1:0").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        drop(hoard);
        let reader = spawn(move || (&client).read(&mut [0; 8]).unwrap());
        yield_now();
        (&server).write_all(b"fine").unwrap();
        assert_eq!(reader.join().unwrap(), 4);
    });
}

/// How many descriptors are open, apart from the one for looking.
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

#[test]
fn connect_without_descriptors_fails_loses_nothing_and_recovers() {
    in_child(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let by_name = ("localhost", addr.port());
        // Everything is there that stays: the hub's descriptors, the pool, what the C library keeps.
        drop((TcpStream::connect(by_name).unwrap(), listener.accept().unwrap()));
        let before = open_descriptors();
        let mut hoard = use_up_descriptors();
        let error = TcpStream::connect(addr).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        let error = TcpStream::connect_timeout(&addr, Duration::from_secs(9)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        // The C library reads files to look a name up. It says what std is told, too.
        let ours = TcpStream::connect(by_name).unwrap_err();
        let stds = std::net::TcpStream::connect(by_name).unwrap_err();
        assert_eq!((ours.kind(), ours.to_string()), (stds.kind(), stds.to_string()));
        let ours = UnixStream::connect("/nowhere").unwrap_err();
        assert_eq!(ours.raw_os_error(), Some(libc::EMFILE));
        // One is enough to connect with, and two of them are enough to be accepted as well.
        hoard.truncate(hoard.len() - 2);
        drop((TcpStream::connect(addr).unwrap(), listener.accept().unwrap()));
        drop(hoard);
        assert_eq!(open_descriptors(), before);
        drop((TcpStream::connect(by_name).unwrap(), listener.accept().unwrap()));
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn a_broken_pipe_raises_no_signal() {
    in_child(|| {
        // std has the process ignore it; a library that is used by another language has not.
        // SAFETY: no handler is installed.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let (mut client, _server) = crate::pair();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let error = client.write_vectored(&[io::IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn failing_operations_do_not_starve_the_others() {
    deadline(60, || {
        let (client, _server) = crate::pair();
        client.set_nonblocking(true).unwrap();
        let sleeper = spawn(|| sleep(Duration::from_millis(20)));
        while !sleeper.is_finished() {
            assert!((&client).read(&mut [0; 8]).is_err());
        }
        client.shutdown(Shutdown::Write).unwrap();
        client.set_nonblocking(false).unwrap();
        let sleeper = spawn(|| sleep(Duration::from_millis(20)));
        while !sleeper.is_finished() {
            assert!((&client).write(b"x").is_err());
        }
    });
}

/// Runs the test in a process of its own, since limits and signals are the whole process's.
#[track_caller]
fn in_child(body: fn()) {
    child::run(On::OtherThread, 60, body).succeeded();
}

fn limit_descriptors(count: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for reading and writing.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = count.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    assert_eq!(limit.rlim_cur, count, "the hard limit is too low for this test");
}

/// Leaves this process without a free descriptor, until the result is dropped.
fn use_up_descriptors() -> Vec<std::fs::File> {
    limit_descriptors(64);
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the write.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

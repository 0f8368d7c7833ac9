//! What a server survives, and what not.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::net::{TcpListener, TcpStream};
use greenling::server::{Listener, StreamServer};
use greenling::sleep;

use crate::child::{self, On};
use crate::common::deadline;
use crate::{LONG, connect, echo, exchange, logger, until};

#[test]
fn a_panic_closes_its_own_connection_only() {
    logger::install();
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", |mut stream, peer| {
            let mut first = [0; 1];
            stream.read_exact(&mut first)?;
            if first == *b"!" {
                std::panic::resume_unwind(Box::new("the handler of this test"));
            }
            echo(stream, peer)
        })
        .unwrap();
        server.start().unwrap();
        let addr = server.local_addr().unwrap();
        let mut good = connect(addr);
        exchange_from_second(&mut good);
        let mut bad = connect(addr);
        io::Write::write_all(&mut bad, b"!").unwrap();
        assert_eq!(bad.read(&mut [0; 8]).unwrap(), 0);
        exchange(&mut good, b"still here");
        exchange_from_second(&mut connect(addr));
        until(|| server.stats().panicked == 1);
        let logged = logger::records_with("the handler of this test");
        assert_eq!(logged.len(), 1, "{logged:?}");
        let peer = bad.local_addr().unwrap().to_string();
        assert!(logged[0].starts_with("ERROR") && logged[0].contains(&peer), "{logged:?}");
    });
}

/// The first byte is not echoed.
fn exchange_from_second(client: &mut TcpStream) {
    io::Write::write_all(client, b"x").unwrap();
    exchange(client, b"fine");
}

#[test]
fn an_error_of_a_handler_is_counted_and_its_own() {
    deadline(60, || {
        let server =
            StreamServer::bind("127.0.0.1:0", |_, _| Err(io::ErrorKind::Other.into())).unwrap();
        server.start().unwrap();
        for n in 1..=3 {
            let mut client = connect(server.local_addr().unwrap());
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
            until(|| server.stats().failed == n);
        }
    });
}

/// A listener whose `accept` says what was written for it, and then waits.
struct Scripted {
    errors: RefCell<VecDeque<i32>>,
    calls: Rc<Cell<u32>>,
    then: TcpListener,
}

fn scripted(errors: &[i32]) -> (Scripted, Rc<Cell<u32>>) {
    let calls = Rc::new(Cell::new(0));
    let errors = RefCell::new(errors.iter().copied().collect());
    let then = TcpListener::bind("127.0.0.1:0").unwrap();
    (Scripted { errors, calls: calls.clone(), then }, calls)
}

impl Listener for Scripted {
    type Stream = TcpStream;
    type Addr = SocketAddr;

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.calls.set(self.calls.get() + 1);
        if let Some(code) = self.errors.borrow_mut().pop_front() {
            return Err(io::Error::from_raw_os_error(code));
        }
        self.then.accept()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.then.local_addr()
    }
}

#[test]
fn aborted_connections_are_passed_over_at_once() {
    deadline(60, || {
        let (listener, calls) = scripted(&[libc::ECONNABORTED; 500]);
        let server = StreamServer::new(listener, echo);
        let start = Instant::now();
        server.start().unwrap();
        exchange(&mut connect(server.local_addr().unwrap()), b"the next one");
        // A pause of 10 ms for each would be 5 s.
        assert!(start.elapsed() < Duration::from_secs(4));
        assert!(calls.get() > 500);
        assert_eq!(server.stats().accept_errors, 500);
    });
}

#[test]
fn want_is_met_with_ever_longer_patience() {
    deadline(60, || {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
            let (listener, calls) = scripted(&[code; 4]);
            let server = StreamServer::new(listener, echo);
            let start = Instant::now();
            server.start().unwrap();
            sleep(Duration::from_millis(5));
            assert!(calls.get() <= 1 || start.elapsed() > Duration::from_millis(10));
            exchange(&mut connect(server.local_addr().unwrap()), b"at last");
            assert!(start.elapsed() >= Duration::from_millis(10 + 20 + 40 + 80));
            assert_eq!(server.stats().accept_errors, 4);
        }
    });
}

#[test]
fn a_useless_listener_ends_the_server_with_its_error() {
    deadline(60, || {
        for code in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
            let (listener, calls) = scripted(&[code]);
            let server = StreamServer::new(listener, echo);
            let error = server.serve_forever().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(code));
            assert_eq!(calls.get(), 1);
            assert_eq!(server.local_addr().unwrap_err().kind(), io::ErrorKind::NotConnected);
        }
    });
}

#[test]
fn clients_that_are_served_outlive_a_listener_that_fails_by_the_grace() {
    deadline(60, || {
        let (listener, _) = scripted(&[]);
        let then = listener.then.try_clone().unwrap();
        let server = StreamServer::new(listener, echo).grace(Duration::from_millis(100));
        server.start().unwrap();
        let mut client = connect(server.local_addr().unwrap());
        exchange(&mut client, b"in");
        then.close(); // of the clone, which shuts the socket down: accept says EINVAL
        until(|| server.handle().is_stopping());
        exchange(&mut client, b"still");
        let error = server.serve_forever().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "killed after the grace");
        assert_eq!(server.stats().killed, 1);
    });
}

#[test]
fn without_descriptors_it_waits_and_then_goes_on() {
    child::run(On::OtherThread, 60, || {
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap();
        server.start().unwrap();
        let addr = server.local_addr().unwrap();
        exchange(&mut connect(addr), b"before");
        let mut clients: Vec<_> = (0..5).map(|_| connect(addr)).collect();
        // None of them has been accepted: nobody has waited since.
        let hoard = use_up_descriptors();
        let burnt = processor_time();
        sleep(Duration::from_millis(300));
        let errors = server.stats().accept_errors;
        // 10, 20, 40, 80, 160 ms, and what `accept` itself waits after a failure.
        assert!((2..=6).contains(&errors), "{errors}");
        assert!(processor_time() - burnt < Duration::from_millis(150), "it spins");
        drop(hoard);
        for client in &mut clients {
            exchange(client, b"after");
        }
        assert_eq!(server.stats().accepted, 6);
        drop(clients);
        assert_eq!(server.stop(LONG), 0);
    })
    .succeeded();
}

/// Leaves this process without a free descriptor, until the result is dropped.
fn use_up_descriptors() -> Vec<std::fs::File> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for reading and writing.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = 64;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the write.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

//! What a server does for its clients.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::event::Event;
use greenling::net::{TcpListener, TcpStream};
use greenling::server::StreamServer;
use greenling::{sleep, spawn};

use crate::child::{self, On};
use crate::common::deadline;
use crate::{LONG, connect, echo, exchange, until};

#[test]
fn each_client_is_served_by_itself() {
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap();
        server.start().unwrap();
        let addr = server.local_addr().unwrap();
        let mut idle = connect(addr);
        let mut busy = connect(addr);
        exchange(&mut busy, b"while the other says nothing");
        exchange(&mut idle, b"hello");
        assert_eq!(server.stats().active, 2);
        drop((idle, busy));
        until(|| server.stats().completed == 2);
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.active, stats.peak), (2, 0, 2));
        assert_eq!(server.stop(LONG), 0);
    });
}

#[test]
fn the_connection_is_closed_when_the_handler_returns() {
    deadline(60, || {
        let server =
            StreamServer::bind("127.0.0.1:0", |mut stream, _| stream.write_all(b"bye")).unwrap();
        server.start().unwrap();
        let mut client = connect(server.local_addr().unwrap());
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap(); // ends, which only a close makes it
        assert_eq!(text, "bye");
    });
}

#[test]
fn the_handler_need_not_be_send() {
    deadline(60, || {
        let peers = Rc::new(RefCell::new(Vec::new()));
        let seen = peers.clone();
        let server = StreamServer::bind("127.0.0.1:0", move |_, peer| {
            seen.borrow_mut().push(peer);
            Ok(())
        })
        .unwrap();
        server.start().unwrap();
        let client = connect(server.local_addr().unwrap());
        until(|| server.stats().completed == 1);
        assert_eq!(*peers.borrow(), [client.local_addr().unwrap()]);
    });
}

#[test]
fn no_more_are_served_than_may_be_and_the_next_come_in_order() {
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap().max_clients(2);
        server.start().unwrap();
        let addr = server.local_addr().unwrap();
        let mut first = [connect(addr), connect(addr)];
        first.iter_mut().for_each(|client| exchange(client, b"in"));
        let mut waiting: Vec<_> = (0..3).map(|_| connect(addr)).collect();
        for client in &mut waiting {
            client.write_all(b"me too").unwrap();
            client.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
            let error = client.read(&mut [0; 6]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "nobody may answer");
            client.set_read_timeout(Some(LONG)).unwrap();
        }
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.active), (2, 2), "the rest is in the backlog");
        drop(first);
        let mut answer = [0; 6];
        waiting[0].read_exact(&mut answer).unwrap();
        waiting[1].read_exact(&mut answer).unwrap();
        assert_eq!(server.stats().accepted, 4);
        waiting.remove(0);
        waiting[1].read_exact(&mut answer).unwrap();
        assert_eq!(server.stats().peak, 2);
    });
}

#[test]
#[should_panic(expected = "without a place")]
fn a_limit_of_nobody_is_refused() {
    let _ = StreamServer::bind("127.0.0.1:0", echo).unwrap().max_clients(0);
}

#[test]
fn a_connection_that_takes_too_long_is_ended() {
    deadline(60, || {
        struct Told(Rc<Cell<bool>>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let unwound = Rc::new(Cell::new(false));
        let told = unwound.clone();
        let server = StreamServer::bind("127.0.0.1:0", move |stream, peer| {
            let _told = Told(told.clone());
            echo(stream, peer)
        })
        .unwrap()
        .deadline(Duration::from_millis(50));
        server.start().unwrap();
        let start = Instant::now();
        let mut client = connect(server.local_addr().unwrap());
        exchange(&mut client, b"busy");
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        assert!(start.elapsed() >= Duration::from_millis(50));
        until(|| server.stats().timed_out == 1);
        assert!(unwound.get(), "its destructors run");
        assert_eq!(server.stats().killed, 0);
    });
}

#[test]
fn wrapping_happens_beside_the_others_and_within_its_time() {
    fn wrap(mut stream: TcpStream) -> io::Result<TcpStream> {
        let mut word = [0; 4];
        stream.read_exact(&mut word)?;
        if &word != b"open" {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(stream)
    }
    deadline(60, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = StreamServer::wrapping(listener, wrap, echo)
            .handshake_timeout(Duration::from_millis(200));
        server.start().unwrap();
        let addr = server.local_addr().unwrap();
        let mut silent = connect(addr);
        let mut wrong = connect(addr);
        wrong.write_all(b"shut").unwrap();
        let mut right = connect(addr);
        right.write_all(b"open").unwrap();
        exchange(&mut right, b"through");
        assert_eq!(wrong.read(&mut [0; 8]).unwrap(), 0);
        let start = Instant::now();
        assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0);
        assert!(start.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(250));
        exchange(&mut right, b"the limit was for the handshake only");
        assert_eq!((server.stats().failed, server.stats().active), (2, 1));
    });
}

#[test]
fn thousands_of_clients() {
    const CLIENTS: usize = 3000;
    child::run(On::OtherThread, 120, || {
        raise_descriptors(2 * CLIENTS as u64 + 100);
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap().stack_size(32 * 1024);
        server.start().unwrap();
        let addr = server.local_addr().unwrap();
        let all_in = Rc::new(Event::new());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                // In batches, so that the backlog never overflows.
                if n % 100 == 0 {
                    until(|| server.stats().accepted as usize == n);
                }
                let mut client = connect(addr);
                let all_in = all_in.clone();
                spawn(move || {
                    all_in.wait();
                    for round in 0..5 {
                        exchange(&mut client, format!("client {n}, round {round}").as_bytes());
                    }
                })
            })
            .collect();
        until(|| server.stats().active as usize == CLIENTS);
        all_in.set();
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert_eq!(server.stop(LONG), 0);
        let stats = server.stats();
        assert_eq!((stats.accepted as usize, stats.completed as usize), (CLIENTS, CLIENTS));
        assert_eq!((stats.active, stats.peak as usize), (0, CLIENTS));
        assert_eq!(greenling::hub::stats().live, 0, "nothing is left");
    })
    .succeeded();
}

fn raise_descriptors(count: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for reading and writing.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = count.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    assert_eq!(limit.rlim_cur, count, "the hard limit is too low for this test");
}

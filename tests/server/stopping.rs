//! How a server ends.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::event::Event;
use greenling::net::TcpStream;
use greenling::server::StreamServer;
use greenling::{sleep, spawn};

use crate::common::deadline;
use crate::{LONG, connect, echo, exchange, until};

#[test]
fn who_is_served_may_finish_and_nobody_else_gets_in() {
    deadline(60, || {
        let server = Rc::new(StreamServer::bind("127.0.0.1:0", echo).unwrap());
        server.start().unwrap();
        let addr = server.local_addr().unwrap();
        let mut client = connect(addr);
        exchange(&mut client, b"in");
        let stopper = spawn({
            let server = server.clone();
            move || server.stop(LONG)
        });
        until(|| TcpStream::connect(addr).is_err());
        exchange(&mut client, b"still served");
        assert!(!stopper.is_finished());
        let start = Instant::now();
        drop(client);
        assert_eq!(stopper.join().unwrap(), 0);
        assert!(start.elapsed() < LONG / 2, "it does not use up its grace");
        assert_eq!(server.stats().completed, 1);
    });
}

#[test]
fn who_does_not_finish_is_killed_and_unwinds() {
    struct Slow(Rc<Cell<u32>>);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    deadline(60, || {
        let unwound = Rc::new(Cell::new(0));
        let count = unwound.clone();
        let server = StreamServer::bind("127.0.0.1:0", move |stream, peer| {
            let _slow = Slow(count.clone());
            echo(stream, peer)
        })
        .unwrap();
        server.start().unwrap();
        let mut clients: Vec<_> = (0..3).map(|_| connect(server.local_addr().unwrap())).collect();
        clients.iter_mut().for_each(|client| exchange(client, b"in"));
        let start = Instant::now();
        assert_eq!(server.stop(Duration::from_millis(80)), 3);
        assert!(start.elapsed() >= Duration::from_millis(80));
        assert!(start.elapsed() < Duration::from_secs(20));
        assert_eq!(unwound.get(), 3, "stop has waited for their destructors");
        for client in &mut clients {
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        }
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.killed, stats.active), (3, 3, 0));
    });
}

#[test]
fn a_handler_in_a_shield_ends_after_it() {
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", |_, _| {
            greenling::time::shield(|| sleep(Duration::from_millis(150)));
            sleep(LONG);
            Ok(())
        })
        .unwrap();
        server.start().unwrap();
        let _client = connect(server.local_addr().unwrap());
        until(|| server.stats().active == 1);
        let start = Instant::now();
        assert_eq!(server.stop(Duration::ZERO), 1);
        assert!(start.elapsed() >= Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(20));
        assert_eq!(server.stats().active, 0);
    });
}

#[test]
fn any_thread_may_stop_it() {
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap();
        let handle = server.handle();
        assert!(!handle.is_stopping());
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            handle.stop(LONG);
            handle.wait_stopped();
            handle
        });
        server.serve_forever().unwrap();
        let handle = other.join().unwrap();
        assert!(handle.is_stopping() && handle.wait_stopped_timeout(Duration::ZERO));
        assert!(format!("{handle:?}").contains("stopping: true"));
    });
}

#[test]
fn a_handler_may_stop_its_own_server() {
    deadline(60, || {
        let handle = Rc::new(RefCell::new(None::<greenling::server::Handle>));
        let stopper = handle.clone();
        let server = StreamServer::bind("127.0.0.1:0", move |stream, peer| {
            if let Some(handle) = &*stopper.borrow() {
                handle.stop(LONG);
            }
            echo(stream, peer)
        })
        .unwrap();
        *handle.borrow_mut() = Some(server.handle());
        let client = connect(server.local_addr().unwrap());
        let client = spawn(move || {
            let mut client = client;
            exchange(&mut client, b"it goes on until it returns");
        });
        server.serve_forever().unwrap();
        client.join().unwrap();
        assert_eq!((server.stats().completed, server.stats().killed), (1, 0));
    });
}

#[test]
fn a_handler_that_waits_for_the_stop_of_its_own_server_is_killed_with_it() {
    deadline(60, || {
        let slot = Rc::new(RefCell::new(None::<Rc<StreamServer<_>>>));
        let inside = slot.clone();
        let server = Rc::new(
            StreamServer::bind("127.0.0.1:0", move |_, _| {
                let server = inside.borrow().clone();
                server.unwrap().stop(Duration::from_millis(20));
                unreachable!("the one that it waits for is itself")
            })
            .unwrap(),
        );
        *slot.borrow_mut() = Some(server.clone());
        let _client = connect(server.local_addr().unwrap());
        server.serve_forever().unwrap();
        assert_eq!(server.stats().killed, 1);
        slot.borrow_mut().take();
    });
}

#[test]
fn the_shortest_grace_counts() {
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap();
        server.start().unwrap();
        let mut client = connect(server.local_addr().unwrap());
        exchange(&mut client, b"in");
        server.handle().stop(Duration::MAX);
        sleep(Duration::from_millis(20));
        assert_eq!(server.stats().active, 1);
        let start = Instant::now();
        server.handle().stop(Duration::from_millis(50));
        server.handle().stop(Duration::MAX); // changes nothing
        assert_eq!(server.stop(LONG), 1);
        assert!(start.elapsed() >= Duration::from_millis(50) && start.elapsed() < LONG / 2);
        assert_eq!(server.stop(LONG), 1, "again, at once");
    });
}

#[test]
fn the_address_is_free_for_the_next_server() {
    deadline(60, || {
        let mut addr = "127.0.0.1:0".parse().unwrap();
        for round in 0..5 {
            let server = StreamServer::bind(addr, echo).unwrap();
            addr = server.local_addr().unwrap();
            server.start().unwrap();
            let mut client = connect(addr);
            exchange(&mut client, b"hello");
            // Killed connections are closed by the server, so its side waits out TIME_WAIT.
            assert_eq!(server.stop(Duration::ZERO), 1, "round {round}");
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        }
    });
}

#[test]
fn a_server_starts_once() {
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap();
        server.start().unwrap();
        assert_eq!(server.start().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        server.stop(LONG);
        assert_eq!(server.start().unwrap_err().kind(), io::ErrorKind::NotConnected);
        let never = StreamServer::bind("127.0.0.1:0", echo).unwrap();
        let addr = never.local_addr().unwrap();
        assert_eq!(never.stop(LONG), 0);
        assert!(TcpStream::connect(addr).is_err());
        assert_eq!(never.serve_forever().unwrap_err().kind(), io::ErrorKind::NotConnected);
    });
}

#[test]
fn a_stop_that_comes_before_the_start_is_not_lost() {
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap();
        server.handle().stop(LONG);
        server.serve_forever().unwrap();
    });
}

#[test]
fn while_the_places_are_taken_a_stop_is_heard() {
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap().max_clients(1);
        server.start().unwrap();
        let mut client = connect(server.local_addr().unwrap());
        exchange(&mut client, b"in");
        assert_eq!(server.stop(Duration::from_millis(1)), 1);
    });
}

#[test]
fn dropping_a_server_stops_it_with_its_grace() {
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap().grace(LONG);
        server.start().unwrap();
        let (addr, handle) = (server.local_addr().unwrap(), server.handle());
        let mut client = connect(addr);
        exchange(&mut client, b"in");
        drop(server);
        until(|| TcpStream::connect(addr).is_err());
        exchange(&mut client, b"still");
        drop(client);
        handle.wait_stopped();
        assert_eq!((handle.stats().completed, handle.stats().killed), (1, 0));
    });
}

#[test]
fn the_end_of_the_hub_is_the_end_of_the_server() {
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap();
        server.start().unwrap();
        let addr = server.local_addr().unwrap();
        let mut client = connect(addr);
        exchange(&mut client, b"in");
        greenling::hub::shutdown(LONG).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        assert!(TcpStream::connect(addr).is_err());
        server.serve_forever().unwrap();
        assert_eq!(server.stats().killed, 1);
    });
}

#[test]
fn those_who_wait_for_the_beginning_of_the_end_are_told() {
    deadline(60, || {
        let server = StreamServer::bind("127.0.0.1:0", echo).unwrap();
        server.start().unwrap();
        let told = Rc::new(Event::new());
        let watcher = spawn({
            let (handle, told) = (server.handle(), told.clone());
            move || {
                handle.wait_stopping();
                told.set();
            }
        });
        sleep(Duration::from_millis(5));
        assert!(!told.is_set());
        server.stop(LONG);
        watcher.join().unwrap();
    });
}

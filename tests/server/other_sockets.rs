//! Servers over what is not TCP: Unix sockets and datagrams.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use greenling::event::Event;
use greenling::io::Adapter;
use greenling::os::unix::net as own;
use greenling::server::{DatagramServer, DatagramSocket, StreamServer};
use greenling::{sleep, spawn};

use crate::common::deadline;
use crate::{LONG, until};

/// A path for a socket, that is gone afterwards.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("greenling-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_crates_own_unix_sockets_are_served() {
    deadline(60, || {
        let place = Place::new("own-stream");
        let listener = own::UnixListener::bind(&place.0).unwrap();
        let server = StreamServer::new(listener, |mut stream: own::UnixStream, _peer| {
            let mut text = [0; 5];
            stream.read_exact(&mut text)?;
            text.make_ascii_uppercase();
            stream.write_all(&text)
        });
        server.start().unwrap();
        assert_eq!(server.local_addr().unwrap().as_pathname(), Some(&*place.0));
        for _ in 0..20 {
            let mut client = own::UnixStream::connect(&place.0).unwrap();
            client.write_all(b"hello").unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "HELLO");
        }
        assert_eq!(server.stop(LONG), 0);
        assert_eq!(server.stats().completed, 20);
        assert!(own::UnixStream::connect(&place.0).is_err());
    });
}

#[test]
fn the_crates_own_datagram_sockets_are_served() {
    deadline(60, || {
        let socket = greenling::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = DatagramServer::new(socket, |socket, datagram, peer| {
            sleep(Duration::from_millis(1)); // others are received meanwhile
            socket.send_to(&datagram, peer).map(drop)
        });
        server.start().unwrap();
        let client = greenling::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        for n in 0..20 {
            client.send(&[n]).unwrap();
        }
        let mut got: Vec<u8> = (0..20)
            .map(|_| {
                let mut buf = [0; 8];
                assert_eq!(client.recv(&mut buf).unwrap(), 1);
                buf[0]
            })
            .collect();
        got.sort_unstable();
        assert!(got.into_iter().eq(0..20));
        assert_eq!(server.stop(LONG), 0);

        let (here, there) = (Place::new("own-here"), Place::new("own-there"));
        let socket = own::UnixDatagram::bind(&here.0).unwrap();
        let server = DatagramServer::new(socket, |socket: &own::UnixDatagram, datagram, peer| {
            socket.send_to_addr(&datagram, &peer).map(drop)
        });
        server.start().unwrap();
        let client = own::UnixDatagram::bind(&there.0).unwrap();
        client.send_to(b"hello", &here.0).unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 5);
        assert_eq!(server.stop(LONG), 0);
    });
}

#[test]
fn unix_sockets_are_served_like_any_other() {
    deadline(60, || {
        let place = Place::new("stream");
        let listener = Adapter::new(UnixListener::bind(&place.0).unwrap()).unwrap();
        let server = StreamServer::new(listener, |mut stream: Adapter<UnixStream>, _peer| {
            let mut text = [0; 5];
            stream.read_exact(&mut text)?;
            text.make_ascii_uppercase();
            stream.write_all(&text)
        });
        server.start().unwrap();
        assert_eq!(server.local_addr().unwrap().as_pathname(), Some(&*place.0));
        for _ in 0..20 {
            let mut client = Adapter::new(UnixStream::connect(&place.0).unwrap()).unwrap();
            client.write_all(b"hello").unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "HELLO");
        }
        assert_eq!(server.stop(LONG), 0);
        assert_eq!(server.stats().completed, 20);
        assert!(UnixStream::connect(&place.0).is_err());
    });
}

type Udp = Adapter<UdpSocket>;

fn udp() -> Udp {
    Adapter::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap()
}

fn ask(client: &Udp, server: SocketAddr, text: &[u8]) -> Vec<u8> {
    client.get_ref().send_to(text, server).unwrap();
    let mut buffer = [0; 2048];
    let (length, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!(from, server);
    buffer[..length].to_vec()
}

fn answer(socket: &Udp, datagram: Vec<u8>, peer: SocketAddr) -> io::Result<()> {
    socket.write_with(|io| io.send_to(&datagram, peer)).map(drop)
}

#[test]
fn each_datagram_is_handled_by_itself() {
    deadline(60, || {
        let slow = Rc::new(Event::new());
        let go_on = slow.clone();
        let server = DatagramServer::new(udp(), move |socket: &Udp, datagram, peer| {
            match &datagram[..] {
                b"slow" => slow.wait(),
                b"panic" => std::panic::resume_unwind(Box::new("on purpose")),
                b"error" => return Err(io::ErrorKind::Other.into()),
                _ => {}
            }
            answer(socket, datagram, peer)
        });
        server.start().unwrap();
        let addr = server.local_addr().unwrap();
        let waiting = udp();
        waiting.get_ref().send_to(b"slow", addr).unwrap();
        let client = udp();
        for bad in [&b"panic"[..], b"error"] {
            client.get_ref().send_to(bad, addr).unwrap();
        }
        assert_eq!(ask(&client, addr, b"hello"), b"hello");
        assert_eq!(ask(&client, addr, b""), b"", "an empty one is one");
        assert_eq!(ask(&client, addr, &[7; 1400]), [7; 1400]);
        let stats = server.stats();
        assert_eq!((stats.panicked, stats.failed, stats.active), (1, 1, 1));
        go_on.set();
        assert_eq!(waiting.recv_from(&mut [0; 9]).unwrap().0, 4);
        assert_eq!(server.stop(LONG), 0);
        assert_eq!(server.stats().accepted, 6);
        UdpSocket::bind(addr).expect("the address is free again");
    });
}

#[test]
fn no_more_datagrams_are_handled_than_may_be() {
    deadline(60, || {
        let running = Rc::new(Cell::new(0));
        let seen = running.clone();
        let server = DatagramServer::new(udp(), move |socket: &Udp, datagram, peer| {
            running.set(running.get() + 1);
            assert!(running.get() <= 2);
            sleep(Duration::from_millis(2));
            running.set(running.get() - 1);
            answer(socket, datagram, peer)
        })
        .max_handlers(2);
        server.start().unwrap();
        let addr = server.local_addr().unwrap();
        let clients: Vec<_> =
            (0..20_u8).map(|n| spawn(move || assert_eq!(ask(&udp(), addr, &[n]), [n]))).collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert_eq!((server.stats().peak, seen.get()), (2, 0));
        server.stop(LONG);
    });
}

#[test]
fn a_handler_of_a_datagram_is_killed_after_the_grace_and_ended_at_its_deadline() {
    deadline(60, || {
        let forever = |_: &Udp, _, _| {
            sleep(2 * LONG);
            Ok(())
        };
        let server = DatagramServer::new(udp(), forever);
        server.start().unwrap();
        udp().get_ref().send_to(b"x", server.local_addr().unwrap()).unwrap();
        until(|| server.stats().active == 1);
        assert_eq!(server.stop(Duration::from_millis(10)), 1);

        let server = DatagramServer::new(udp(), forever).deadline(Duration::from_millis(10));
        let handle = server.handle();
        udp().get_ref().send_to(b"x", server.local_addr().unwrap()).unwrap();
        spawn(move || {
            until(|| handle.stats().timed_out == 1);
            handle.stop(LONG);
        });
        server.serve_forever().unwrap();
    });
}

#[test]
fn unix_datagrams_and_their_longest() {
    deadline(60, || {
        let place = Place::new("datagram");
        let socket = Adapter::new(UnixDatagram::bind(&place.0).unwrap()).unwrap();
        let got = Rc::new(Cell::new(0));
        let length = got.clone();
        let handler = move |_: &Adapter<UnixDatagram>, datagram: Vec<u8>, _| {
            length.set(datagram.len());
            Ok(())
        };
        let server = DatagramServer::new(socket, handler).max_datagram(100);
        server.start().unwrap();
        let client = UnixDatagram::unbound().unwrap();
        for (sent, received) in [(60, 60), (200, 100)] {
            client.send_to(&vec![1; sent], &place.0).unwrap();
            until(|| got.get() == received);
        }
        assert_eq!(server.stop(LONG), 0);
    });
}

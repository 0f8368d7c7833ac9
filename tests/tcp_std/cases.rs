//! Connections and data.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use super::net::{self, Shutdown, TcpListener, TcpStream};
use super::thread;
use crate::common::deadline;
use crate::sockets::{Full, reset_at_close};

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Both ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// An address on which nobody listens.
fn refusing() -> SocketAddr {
    TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    // Of a length that divides no buffer's.
    let block: Vec<u8> = (0..251).collect();
    let mut bytes = block.repeat(len / block.len() + 1);
    bytes.truncate(len);
    bytes
}

#[test]
fn what_is_written_is_read() {
    deadline(60, || {
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        let addr = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), peer);
            io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap()
        });
        let mut client = TcpStream::connect(addr).unwrap();
        assert_eq!(client.peer_addr().unwrap(), addr);
        for size in [1, 64, 4096, 100_000] {
            let sent = pattern(size);
            client.write_all(&sent).unwrap();
            let mut got = vec![0; size];
            client.read_exact(&mut got).unwrap();
            assert!(got == sent);
        }
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(server.join().unwrap(), 1 + 64 + 4096 + 100_000);
    });
}

#[test]
fn ipv6_works_with_its_addresses() {
    deadline(60, || {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return }; // a machine without IPv6
        let addr = listener.local_addr().unwrap();
        let client = TcpStream::connect(addr).unwrap();
        let (server, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(server.local_addr().unwrap(), addr);
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    deadline(60, || {
        let error = TcpStream::connect(refusing()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        let error = TcpStream::connect_timeout(&refusing(), Duration::from_secs(9)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn connect_tries_each_address_and_reports_the_last() {
    deadline(60, || {
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        let addr = listener.local_addr().unwrap();
        let stream = TcpStream::connect(&[refusing(), addr][..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addr);
        // The last one is no address that a host may have.
        let nobody = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
        let error = TcpStream::connect(&[refusing(), nobody][..]).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn no_address_and_bad_addresses_are_errors() {
    deadline(60, || {
        let none: &[SocketAddr] = &[];
        let error = TcpStream::connect(none).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "could not resolve to any addresses");
        assert_eq!(TcpListener::bind(none).unwrap_err().to_string(), error.to_string());
        let error = TcpStream::connect("127.0.0.1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "127.0.0.1".to_socket_addrs().unwrap_err().to_string());
    });
}

#[test]
fn names_are_looked_up() {
    deadline(60, || {
        let listener = TcpListener::bind("localhost:0").unwrap();
        let addr = listener.local_addr().unwrap();
        assert!(addr.ip().is_loopback());
        for n in 0..2 {
            let client = match n {
                0 => TcpStream::connect(("localhost", addr.port())).unwrap(),
                _ => TcpStream::connect(format!("localhost:{}", addr.port())).unwrap(),
            };
            assert_eq!(client.peer_addr().unwrap(), addr);
            listener.accept().unwrap();
        }
    });
}

#[test]
fn a_connect_timeout_of_zero_is_an_error() {
    deadline(60, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let full = Full::new();
        let error = TcpStream::connect_timeout(&full.addr, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "cannot set a 0 duration timeout");
        TcpStream::connect_timeout(&addr, Duration::MAX).unwrap();
    });
}

#[test]
fn a_connection_that_nobody_answers_times_out() {
    deadline(60, || {
        let full = Full::new();
        let limit = Duration::from_millis(150);
        let start = std::time::Instant::now();
        let error = TcpStream::connect_timeout(&full.addr, limit).unwrap_err();
        assert!(start.elapsed() >= limit);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(
            (error.raw_os_error(), error.to_string()),
            (None, "connection timed out".into())
        );
    });
}

#[test]
fn an_address_in_use_cannot_be_bound() {
    deadline(60, || {
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        let taken = listener.local_addr().unwrap();
        assert_eq!(TcpListener::bind(taken).unwrap_err().kind(), ErrorKind::AddrInUse);
        // The next address is tried.
        let other = TcpListener::bind(&[taken, SocketAddr::from(([127, 0, 0, 1], 0))][..]).unwrap();
        assert_ne!(other.local_addr().unwrap(), taken);
        drop(listener);
        TcpListener::bind(taken).unwrap();
    });
}

#[test]
fn incoming_yields_connections() {
    deadline(60, || {
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        let addr = listener.local_addr().unwrap();
        let clients = thread::spawn(move || {
            for n in 0..3 {
                TcpStream::connect(addr).unwrap().write_all(&[n]).unwrap();
            }
        });
        for (n, stream) in listener.incoming().take(3).enumerate() {
            let mut text = Vec::new();
            stream.unwrap().read_to_end(&mut text).unwrap();
            assert_eq!(text, [n as u8]);
        }
        clients.join().unwrap();
    });
}

#[test]
fn peek_leaves_the_data() {
    deadline(60, || {
        let (mut client, mut server) = pair();
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            client.write_all(b"abcd").unwrap();
            client
        });
        let mut buf = [0; 10];
        assert_eq!(server.peek(&mut buf).unwrap(), 4); // waits
        assert_eq!(server.peek(&mut buf).unwrap(), 4);
        assert_eq!(server.peek(&mut buf[..2]).unwrap(), 2);
        assert_eq!(server.read(&mut buf).unwrap(), 4);
        drop(writer.join().unwrap());
        assert_eq!(server.peek(&mut buf).unwrap(), 0);
    });
}

#[test]
fn the_end_of_the_stream_is_read_again_and_again() {
    deadline(60, || {
        let (mut client, server) = pair();
        drop(server);
        for _ in 0..3 {
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        }
    });
}

#[test]
fn a_half_closed_stream_still_sends() {
    deadline(60, || {
        let (mut client, mut server) = pair();
        let echo = thread::spawn(move || {
            let mut request = Vec::new();
            server.read_to_end(&mut request).unwrap();
            thread::sleep(Duration::from_millis(20));
            server.write_all(&request).unwrap();
            server.write_all(&request).unwrap();
        });
        client.write_all(b"half").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "halfhalf");
        echo.join().unwrap();
    });
}

#[test]
fn shutdown_ends_a_waiting_read_of_a_clone() {
    deadline(60, || {
        let (client, _server) = pair();
        let mut clone = client.try_clone().unwrap();
        let reader = thread::spawn(move || clone.read(&mut [0; 8]).unwrap());
        thread::sleep(Duration::from_millis(20));
        client.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reader.join().unwrap(), 0);
        client.shutdown(Shutdown::Both).unwrap();
        client.shutdown(Shutdown::Both).unwrap();
    });
}

#[test]
fn empty_buffers_do_nothing() {
    deadline(60, || {
        let (mut client, mut server) = pair();
        assert_eq!(client.write(&[]).unwrap(), 0);
        assert_eq!(client.write_vectored(&[]).unwrap(), 0);
        assert_eq!(client.write_vectored(&[IoSlice::new(&[])]).unwrap(), 0);
        // Nothing is there, and yet these do not wait.
        assert_eq!(server.read_vectored(&mut []).unwrap(), 0);
        assert_eq!(server.read_vectored(&mut [IoSliceMut::new(&mut [])]).unwrap(), 0);
        client.write_all(b"x").unwrap();
        assert_eq!(server.read(&mut []).unwrap(), 0);
        assert_eq!(server.peek(&mut []).unwrap(), 0);
        assert_eq!(server.read(&mut [0; 4]).unwrap(), 1);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.write_vectored(&[]).unwrap(), 0);
        client.flush().unwrap();
    });
}

#[test]
fn vectored_reads_and_writes_use_all_buffers() {
    deadline(60, || {
        let (mut client, mut server) = pair();
        let bufs = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cdef")];
        assert_eq!(client.write_vectored(&bufs).unwrap(), 6);
        let (mut head, mut tail) = ([0; 1], [0; 16]);
        let mut bufs = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
        assert_eq!(server.read_vectored(&mut bufs).unwrap(), 6);
        assert_eq!((&head, &tail[..5]), (b"a", &b"bcdef"[..]));
    });
}

#[test]
fn a_vectored_call_takes_1024_buffers() {
    deadline(60, || {
        let (mut client, mut server) = pair();
        assert_eq!(client.write_vectored(&[IoSlice::new(b"x"); 1500]).unwrap(), 1024);
        let mut bytes = [0; 1500];
        let mut bufs: Vec<_> = bytes.chunks_mut(1).map(IoSliceMut::new).collect();
        assert_eq!(server.read_vectored(&mut bufs).unwrap(), 1024);
    });
}

#[test]
fn one_write_sends_everything() {
    deadline(60, || {
        let (mut client, mut server) = pair();
        let data = pattern(8 << 20);
        let reader = thread::spawn(move || {
            let mut got = Vec::new();
            server.read_to_end(&mut got).unwrap();
            got
        });
        assert_eq!(client.write(&data).unwrap(), data.len());
        let thirds: Vec<_> = data.chunks(data.len() / 3 + 1).map(IoSlice::new).collect();
        assert_eq!(client.write_vectored(&thirds).unwrap(), data.len());
        drop(client);
        let got = reader.join().unwrap();
        assert!(got[..data.len()] == data && got[data.len()..] == data);
    });
}

#[test]
fn both_directions_flow_at_once() {
    deadline(60, || {
        let (client, server) = pair();
        let data = pattern(4 << 20);
        let mut tasks = Vec::new();
        for stream in [client, server] {
            let (mut writer, sent) = (stream.try_clone().unwrap(), data.clone());
            tasks.push(thread::spawn(move || {
                writer.write_all(&sent).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            }));
            let expected = data.clone();
            tasks.push(thread::spawn(move || {
                let mut got = Vec::new();
                (&stream).read_to_end(&mut got).unwrap();
                assert!(got == expected);
            }));
        }
        for task in tasks {
            task.join().unwrap();
        }
    });
}

#[test]
fn a_clone_keeps_the_connection_open() {
    deadline(60, || {
        let (client, mut server) = pair();
        let mut clone = client.try_clone().unwrap();
        drop(client);
        clone.write_all(b"alive").unwrap();
        let mut got = [0; 5];
        server.read_exact(&mut got).unwrap();
        drop(clone);
        assert_eq!(server.read(&mut got).unwrap(), 0);
    });
}

#[test]
fn a_clone_of_a_listener_accepts_too() {
    deadline(60, || {
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        let addr = listener.local_addr().unwrap();
        let clone = listener.try_clone().unwrap();
        drop(listener);
        let _client = TcpStream::connect(addr).unwrap();
        clone.accept().unwrap();
        drop(clone);
        assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn writing_to_a_closed_peer_fails_without_a_signal() {
    deadline(60, || {
        let (mut client, server) = pair();
        drop(server);
        let error = loop {
            match client.write_all(b"anybody there?") {
                Ok(()) => thread::sleep(Duration::from_millis(1)),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn unread_data_at_close_resets_the_connection() {
    deadline(60, || {
        let (mut client, server) = pair();
        client.write_all(b"unread").unwrap();
        drop(server);
        let error = client.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn an_error_behind_a_partial_write_is_reported_next() {
    for then_read in [false, true] {
        deadline(60, move || {
            let (mut client, server) = pair();
            let killer = thread::spawn(move || {
                thread::sleep(Duration::from_millis(50));
                reset_at_close(&server);
            });
            let sent = client.write(&vec![0; 64 << 20]).unwrap();
            assert!(sent > 0 && sent < 64 << 20);
            killer.join().unwrap();
            let next = if then_read { client.read(&mut [0; 8]) } else { client.write(b"more") };
            assert_eq!(next.unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert_eq!(client.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
            assert!(client.take_error().unwrap().is_none());
        });
    }
}

#[test]
fn debug_shows_addresses_and_descriptor() {
    deadline(60, || {
        use std::os::fd::AsRawFd;
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        let addr = listener.local_addr().unwrap();
        let fd = listener.as_raw_fd();
        let text = format!("TcpListener {{ addr: {addr:?}, fd: {fd} }}");
        assert_eq!(format!("{listener:?}"), text);
        let incoming = format!("{:?}", listener.incoming());
        assert_eq!(incoming, format!("Incoming {{ listener: {text} }}"));
        let client = TcpStream::connect(addr).unwrap();
        let (own, fd) = (client.local_addr().unwrap(), client.as_raw_fd());
        let text = format!("TcpStream {{ addr: {own:?}, peer: {addr:?}, fd: {fd} }}");
        assert_eq!(format!("{client:?}"), text);
    });
}

#[test]
fn the_types_go_where_stds_go() {
    fn goes<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
    goes::<TcpStream>();
    goes::<TcpListener>();
    goes::<net::Incoming<'static>>();
    fn reads_and_writes<T: Read + Write>() {}
    reads_and_writes::<TcpStream>();
    reads_and_writes::<&TcpStream>();
}

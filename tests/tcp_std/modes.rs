//! Options: time limits, the non-blocking mode, and what conversions make of them.

use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::net::{TcpListener, TcpStream};
use super::thread;
use crate::common::deadline;
use crate::sockets::{descriptor_flags, is_nonblocking, set_option};

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const SHORT: Duration = Duration::from_millis(60);

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Both ends of a connection that holds no more than a few hundred kilobytes under way.
fn pair_with_small_buffers() -> (TcpStream, TcpStream) {
    let (client, server) = pair();
    set_option(&client, libc::SO_SNDBUF, &65536);
    set_option(&server, libc::SO_RCVBUF, &65536);
    (client, server)
}

#[test]
fn simple_options_are_the_kernels() {
    deadline(60, || {
        let (client, _server) = pair();
        assert!(!client.nodelay().unwrap());
        client.set_nodelay(true).unwrap();
        assert!(client.nodelay().unwrap());
        client.set_ttl(42).unwrap();
        assert_eq!(client.ttl().unwrap(), 42);
        assert!(client.take_error().unwrap().is_none());
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        listener.set_ttl(43).unwrap();
        assert_eq!(listener.ttl().unwrap(), 43);
        assert!(listener.take_error().unwrap().is_none());
        #[allow(deprecated)]
        if let Ok(listener) = TcpListener::bind("[::1]:0") {
            listener.only_v6().unwrap();
            assert!(listener.set_only_v6(true).is_err());
        }
    });
}

#[test]
fn time_limits_are_kept() {
    deadline(60, || {
        let (client, _server) = pair();
        assert_eq!(client.read_timeout().unwrap(), None);
        assert_eq!(client.write_timeout().unwrap(), None);
        client.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        client.set_write_timeout(Some(Duration::from_secs(4))).unwrap();
        assert_eq!(client.read_timeout().unwrap(), Some(Duration::from_secs(3)));
        assert_eq!(client.write_timeout().unwrap(), Some(Duration::from_secs(4)));
        let error = client.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = client.set_write_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        client.set_read_timeout(None).unwrap();
        assert_eq!(client.read_timeout().unwrap(), None);
        assert_eq!(client.write_timeout().unwrap(), Some(Duration::from_secs(4)));
        // For ever, as the kernel sees it; and an instant, which is not.
        client.set_read_timeout(Some(Duration::MAX)).unwrap();
        client.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
        let error = (&client).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_read_gives_up_after_its_time() {
    deadline(60, || {
        let (mut client, mut server) = pair();
        client.set_read_timeout(Some(SHORT)).unwrap();
        for attempt in 0..3 {
            let start = Instant::now();
            let error = match attempt {
                0 => client.peek(&mut [0; 8]).unwrap_err(),
                _ => client.read(&mut [0; 8]).unwrap_err(),
            };
            assert!(start.elapsed() >= SHORT);
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        }
        server.write_all(b"late").unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 4);
    });
}

#[test]
fn data_in_time_is_read_within_a_limit() {
    deadline(60, || {
        let (mut client, mut server) = pair();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let writer = thread::spawn(move || {
            for byte in 0..5 {
                thread::sleep(Duration::from_millis(10));
                server.write_all(&[byte]).unwrap();
            }
            server
        });
        for byte in 0..5 {
            let mut buf = [0];
            assert_eq!(client.read(&mut buf).unwrap(), 1);
            assert_eq!(buf, [byte]);
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_write_that_gives_up_says_how_far_it_came() {
    deadline(60, || {
        let (mut client, mut server) = pair_with_small_buffers();
        client.set_write_timeout(Some(SHORT)).unwrap();
        let data: Vec<u8> = (0..4 << 20).map(|n| (n % 253) as u8).collect();
        let start = Instant::now();
        let mut sent = client.write(&data).unwrap();
        assert!(start.elapsed() >= SHORT);
        assert!(0 < sent && sent < data.len());
        // The kernel may find room for more meanwhile.
        let error = loop {
            match client.write(&data[sent..]) {
                Ok(more) => sent += more,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        drop(client);
        let mut got = Vec::new();
        server.read_to_end(&mut got).unwrap();
        assert!(got == data[..sent]);
    });
}

#[test]
fn a_writes_time_limit_holds_for_all_of_it() {
    deadline(60, || {
        let (mut client, mut server) = pair();
        client.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        // It gets on all the time, but not fast enough.
        let reader = thread::spawn(move || {
            let mut buf = vec![0; 1 << 20];
            while server.read(&mut buf).unwrap() > 0 {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let data = vec![0; 1 << 30];
        let sent = client.write(&data).unwrap();
        assert!(0 < sent && sent < data.len());
        drop(client);
        reader.join().unwrap();
    });
}

#[test]
fn clones_share_their_time_limits() {
    deadline(60, || {
        let (client, _server) = pair();
        let mut clone = client.try_clone().unwrap();
        client.set_read_timeout(Some(SHORT)).unwrap();
        assert!(clone.read_timeout().unwrap().is_some());
        assert_eq!(clone.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_nonblocking_stream_does_not_wait() {
    deadline(60, || {
        let (mut client, mut server) = pair_with_small_buffers();
        client.set_nonblocking(true).unwrap();
        let error = client.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_eq!(client.peek(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        server.write_all(b"now").unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 3);
        // A write takes what fits, and no more.
        let sent = client.write(&vec![0; 16 << 20]).unwrap();
        assert!(sent < 16 << 20);
        while client.write(&[0; 4096]).is_ok() {}
        assert_eq!(client.write(&[0; 4096]).unwrap_err().kind(), ErrorKind::WouldBlock);
        client.set_nonblocking(false).unwrap();
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            server.write_all(b"later").unwrap();
            server
        });
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 5);
        writer.join().unwrap();
    });
}

#[test]
fn polling_a_nonblocking_stream_finds_its_data() {
    deadline(60, || {
        let (mut client, mut server) = pair();
        let writer = thread::spawn(move || {
            for _ in 0..3 {
                server.write_all(b"some").unwrap();
                thread::sleep(Duration::from_millis(10));
            }
            server
        });
        // Short reads of a stream that has been waited for, and then never again.
        let mut read = client.read(&mut [0; 64]).unwrap();
        client.set_nonblocking(true).unwrap();
        while read < 12 {
            match client.read(&mut [0; 64]) {
                Ok(count) => read += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_nonblocking_listener_does_not_wait() {
    deadline(60, || {
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        let clone = listener.try_clone().unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(clone.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let addr = listener.local_addr().unwrap();
        let _client = TcpStream::connect(addr).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(!is_nonblocking(&stream), "an accepted stream does not inherit the mode");
        clone.set_nonblocking(false).unwrap();
        let client = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            TcpStream::connect(addr).unwrap()
        });
        listener.accept().unwrap();
        client.join().unwrap();
    });
}

#[test]
fn clones_share_the_nonblocking_mode() {
    deadline(60, || {
        let (client, _server) = pair();
        let mut clone = client.try_clone().unwrap();
        client.set_nonblocking(true).unwrap();
        assert_eq!(clone.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(is_nonblocking(&clone));
        clone.set_nonblocking(false).unwrap();
        assert!(!is_nonblocking(&client));
    });
}

#[test]
fn descriptors_are_blocking_and_closed_on_exec() {
    deadline(60, || {
        let (client, server) = pair();
        for stream in [client.try_clone().unwrap(), client, server] {
            assert!(!is_nonblocking(&stream));
            assert_eq!(descriptor_flags(&stream), libc::FD_CLOEXEC);
        }
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        assert_eq!(descriptor_flags(&listener), libc::FD_CLOEXEC);
        assert_eq!(descriptor_flags(&listener.try_clone().unwrap()), libc::FD_CLOEXEC);
    });
}

#[test]
fn a_descriptor_is_given_away_in_its_users_mode() {
    deadline(60, || {
        for on in [false, true] {
            let (client, _server) = pair();
            client.set_nonblocking(on).unwrap();
            assert_eq!(is_nonblocking(&OwnedFd::from(client)), on);
            let listener = TcpListener::bind(ANY_PORT).unwrap();
            listener.set_nonblocking(on).unwrap();
            assert_eq!(is_nonblocking(&OwnedFd::from(listener)), on);
        }
    });
}

#[test]
fn a_descriptor_is_taken_in_its_mode() {
    deadline(60, || {
        let (client, mut server) = pair();
        client.set_nonblocking(true).unwrap();
        let number = client.as_raw_fd();
        let fd = client.into_raw_fd();
        assert_eq!(fd, number);
        // SAFETY: nobody else owns it now.
        let mut client = unsafe { TcpStream::from_raw_fd(fd) };
        assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        client.set_nonblocking(false).unwrap();
        client.set_read_timeout(Some(SHORT)).unwrap();
        let mut client = TcpStream::from(OwnedFd::from(client));
        assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        server.write_all(b"data").unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 4);

        let listener = TcpListener::bind(ANY_PORT).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from(OwnedFd::from(listener));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        listener.set_nonblocking(false).unwrap();
        assert!(!is_nonblocking(&OwnedFd::from(listener)));
    });
}

#[test]
fn a_listeners_time_limit_holds_for_accept_and_is_inherited() {
    deadline(60, || {
        // std has no method for it, but the kernel has the option.
        let listener = OwnedFd::from(TcpListener::bind(ANY_PORT).unwrap());
        let limit = libc::timeval { tv_sec: 0, tv_usec: SHORT.subsec_micros() as _ };
        set_option(&listener, libc::SO_RCVTIMEO, &limit);
        let listener = TcpListener::from(listener);
        let start = Instant::now();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(start.elapsed() >= SHORT);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read_timeout().unwrap().is_some());
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

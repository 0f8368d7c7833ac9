//! Datagrams, options and conversions.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use super::net::{self, UdpSocket};
use super::thread;
use crate::common::deadline;
use crate::sockets::{descriptor_flags, is_nonblocking, set_option_at};

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const SHORT: Duration = Duration::from_millis(60);

fn socket() -> UdpSocket {
    UdpSocket::bind(ANY_PORT).unwrap()
}

/// Two sockets that are connected to each other.
fn pair() -> (UdpSocket, UdpSocket) {
    let (a, b) = (socket(), socket());
    a.connect(b.local_addr().unwrap()).unwrap();
    b.connect(a.local_addr().unwrap()).unwrap();
    (a, b)
}

#[test]
fn a_datagram_arrives_whole_with_its_sender() {
    deadline(60, || {
        let (a, b) = (socket(), socket());
        let (to, from) = (b.local_addr().unwrap(), a.local_addr().unwrap());
        let receiver = thread::spawn(move || {
            let mut buf = [0; 100];
            for text in [&b"first"[..], b"", b"third"] {
                assert_eq!(b.recv_from(&mut buf).unwrap(), (text.len(), from));
                assert_eq!(&buf[..text.len()], text);
            }
        });
        thread::sleep(Duration::from_millis(20)); // the receiver waits
        assert_eq!(a.send_to(b"first", to).unwrap(), 5);
        assert_eq!(a.send_to(b"", to).unwrap(), 0);
        assert_eq!(a.send_to(b"third", to.to_string()).unwrap(), 5);
        receiver.join().unwrap();
    });
}

#[test]
fn ipv6_works_with_its_addresses() {
    deadline(60, || {
        let Ok(a) = UdpSocket::bind("[::1]:0") else { return }; // a machine without IPv6
        let b = UdpSocket::bind("[::1]:0").unwrap();
        a.send_to(b"six", b.local_addr().unwrap()).unwrap();
        let mut buf = [0; 8];
        assert_eq!(b.recv_from(&mut buf).unwrap(), (3, a.local_addr().unwrap()));
        a.set_multicast_loop_v6(false).unwrap();
        assert!(!a.multicast_loop_v6().unwrap());
        assert!(a.join_multicast_v6(&Ipv6Addr::LOCALHOST, 0).is_err());
        assert!(a.leave_multicast_v6(&Ipv6Addr::LOCALHOST, 0).is_err());
    });
}

#[test]
fn what_does_not_fit_is_cut() {
    deadline(60, || {
        let (a, b) = pair();
        let mut buf = [0; 4];
        for _ in 0..3 {
            a.send(b"abcdefgh").unwrap();
        }
        a.send(b"next").unwrap();
        assert_eq!(b.recv(&mut buf).unwrap(), 4);
        assert_eq!(&buf, b"abcd");
        assert_eq!(b.recv_from(&mut buf[..2]).unwrap().0, 2);
        assert_eq!(b.recv(&mut []).unwrap(), 0);
        assert_eq!(b.recv(&mut buf).unwrap(), 4);
        assert_eq!(&buf, b"next");
    });
}

#[test]
fn peek_leaves_the_datagram() {
    deadline(60, || {
        let (a, b) = pair();
        let from = a.local_addr().unwrap();
        let sender = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            a.send(b"abcd").unwrap();
            a
        });
        let mut buf = [0; 10];
        assert_eq!(b.peek(&mut buf).unwrap(), 4); // waits
        assert_eq!(b.peek(&mut buf[..2]).unwrap(), 2);
        assert_eq!(b.peek_from(&mut buf).unwrap(), (4, from));
        assert_eq!(b.recv_from(&mut buf).unwrap(), (4, from));
        drop(sender.join().unwrap());
        b.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(b.peek(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(b.peek_from(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_connected_socket_hears_its_peer_only() {
    deadline(60, || {
        let (a, b) = pair();
        let stranger = socket();
        assert_eq!(a.peer_addr().unwrap(), b.local_addr().unwrap());
        stranger.send_to(b"psst", b.local_addr().unwrap()).unwrap();
        a.send(b"hello").unwrap();
        let mut buf = [0; 8];
        assert_eq!(b.recv(&mut buf).unwrap(), 5);
        b.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(b.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn without_a_peer_there_is_nobody_to_send_to() {
    deadline(60, || {
        let socket = socket();
        let error = socket.send(b"hello?").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EDESTADDRREQ));
        assert_eq!(socket.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        let none: &[SocketAddr] = &[];
        let error = socket.send_to(b"hello?", none).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::InvalidInput, "no addresses to send data to".into())
        );
        let error = socket.connect(none).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::InvalidInput, "could not resolve to any addresses".into())
        );
        assert_eq!(UdpSocket::bind(none).unwrap_err().to_string(), error.to_string());
        assert_eq!(UdpSocket::bind("nonsense").unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn nobody_at_the_other_end_is_an_error_of_a_connected_socket() {
    deadline(60, || {
        let (a, b) = pair();
        drop(b);
        let mut buf = [0; 8];
        a.send(b"anybody?").unwrap();
        let error = a.recv(&mut buf).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        a.send(b"anybody?").unwrap();
        let error = a.send(b"anybody?").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // The error ends a wait that has begun.
        let waiting = a.try_clone().unwrap();
        let waiter = thread::spawn(move || waiting.recv(&mut [0; 8]));
        thread::sleep(Duration::from_millis(20));
        a.send(b"anybody?").unwrap();
        let error = waiter.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        a.send(b"anybody?").unwrap();
        thread::sleep(Duration::from_millis(20));
        let error = a.take_error().unwrap().unwrap();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(a.take_error().unwrap().is_none());
    });
}

#[test]
fn a_datagram_that_is_too_long_is_an_error() {
    deadline(60, || {
        let (a, b) = pair();
        let error = a.send(&[0; 65_508]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(a.send(&[7; 65_507]).unwrap(), 65_507);
        let mut buf = vec![0; 65_536];
        assert_eq!(b.recv(&mut buf).unwrap(), 65_507);
    });
}

#[test]
fn bind_and_connect_try_each_address() {
    deadline(60, || {
        let first = socket();
        let taken = first.local_addr().unwrap();
        assert_eq!(UdpSocket::bind(taken).unwrap_err().kind(), ErrorKind::AddrInUse);
        let other = UdpSocket::bind(&[taken, SocketAddr::from(([127, 0, 0, 1], 0))][..]).unwrap();
        assert_ne!(other.local_addr().unwrap(), taken);
        // An address of another family cannot be connected to.
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
        other.connect(&[six, taken][..]).unwrap();
        assert_eq!(other.peer_addr().unwrap(), taken);
        assert!(other.connect(six).is_err());
    });
}

#[test]
fn a_receive_gives_up_after_its_time() {
    deadline(60, || {
        let (a, b) = pair();
        assert_eq!(b.read_timeout().unwrap(), None);
        b.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(b.read_timeout().unwrap(), Some(SHORT));
        let mut buf = [0; 8];
        let start = Instant::now();
        let error = b.recv(&mut buf).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        let error = b.recv_from(&mut buf).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        assert!(start.elapsed() >= 2 * SHORT);
        a.send(b"late").unwrap();
        assert_eq!(b.recv(&mut buf).unwrap(), 4);
        let error = b.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = b.set_write_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        b.set_write_timeout(Some(Duration::from_secs(4))).unwrap();
        assert_eq!(b.write_timeout().unwrap(), Some(Duration::from_secs(4)));
        b.set_write_timeout(None).unwrap();
        assert_eq!(b.write_timeout().unwrap(), None);
    });
}

#[test]
fn a_nonblocking_socket_does_not_wait() {
    deadline(60, || {
        let (a, b) = pair();
        let clone = b.try_clone().unwrap();
        b.set_nonblocking(true).unwrap();
        let mut buf = [0; 8];
        for socket in [&b, &clone] {
            assert_eq!(socket.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(socket.recv_from(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(socket.peek(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(is_nonblocking(socket));
        }
        a.send(b"now").unwrap();
        assert_eq!(b.recv(&mut buf).unwrap(), 3);
        clone.set_nonblocking(false).unwrap();
        let sender = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            a.send(b"later").unwrap();
            a
        });
        assert_eq!(b.recv(&mut buf).unwrap(), 5);
        sender.join().unwrap();
    });
}

#[test]
fn simple_options_are_the_kernels() {
    deadline(60, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert!(!socket.broadcast().unwrap());
        socket.set_broadcast(true).unwrap();
        assert!(socket.broadcast().unwrap());
        socket.set_ttl(42).unwrap();
        assert_eq!(socket.ttl().unwrap(), 42);
        assert!(socket.multicast_loop_v4().unwrap());
        socket.set_multicast_loop_v4(false).unwrap();
        assert!(!socket.multicast_loop_v4().unwrap());
        assert_eq!(socket.multicast_ttl_v4().unwrap(), 1);
        socket.set_multicast_ttl_v4(3).unwrap();
        assert_eq!(socket.multicast_ttl_v4().unwrap(), 3);
        assert!(socket.take_error().unwrap().is_none());
    });
}

#[test]
fn a_group_is_joined_and_left() {
    deadline(60, || {
        let group = Ipv4Addr::new(239, 71, 3, 9);
        let receiver = UdpSocket::bind("0.0.0.0:0").unwrap();
        let on = Ipv4Addr::LOCALHOST;
        receiver.join_multicast_v4(&group, &on).unwrap();
        let again = receiver.join_multicast_v4(&group, &on).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AddrInUse);
        // To be heard on the loopback interface, which is where everything here stays.
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        set_option_at(libc::IPPROTO_IP, &sender, libc::IP_MULTICAST_IF, &on.octets());
        sender.send_to(b"all", (group, receiver.local_addr().unwrap().port())).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut buf = [0; 8];
        assert_eq!(receiver.recv_from(&mut buf).unwrap(), (3, sender.local_addr().unwrap()));
        receiver.leave_multicast_v4(&group, &on).unwrap();
        let error = receiver.leave_multicast_v4(&group, &on).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    });
}

#[test]
fn clones_share_what_comes() {
    deadline(60, || {
        let (a, b) = pair();
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let b = b.try_clone().unwrap();
                thread::spawn(move || b.recv(&mut [0; 8]).unwrap())
            })
            .collect();
        thread::sleep(Duration::from_millis(20));
        for _ in 0..4 {
            a.send(b"x").unwrap();
        }
        for receiver in receivers {
            assert_eq!(receiver.join().unwrap(), 1);
        }
    });
}

#[test]
fn conversions_keep_descriptor_and_mode() {
    deadline(60, || {
        let (a, b) = pair();
        b.set_nonblocking(true).unwrap();
        assert_ne!(descriptor_flags(&b) & libc::FD_CLOEXEC, 0);
        let raw = b.as_raw_fd();
        assert_eq!(b.as_fd().as_raw_fd(), raw);
        let fd = OwnedFd::from(b);
        assert!(is_nonblocking(&fd));
        let b = UdpSocket::from(fd);
        assert_eq!(b.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        b.set_nonblocking(false).unwrap();
        b.set_read_timeout(Some(SHORT)).unwrap();
        let raw = b.into_raw_fd();
        // SAFETY: the descriptor is ours, by `into_raw_fd`.
        let b = unsafe { UdpSocket::from_raw_fd(raw) };
        assert_eq!(b.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        a.send(b"still").unwrap();
        assert_eq!(b.recv(&mut [0; 8]).unwrap(), 5);
        let text = format!("UdpSocket {{ addr: {:?}, fd: {raw} }}", b.local_addr().unwrap());
        let open = text.trim_end_matches(" }").to_owned();
        assert!(format!("{b:?}").starts_with(open.split(", fd").next().unwrap()), "{b:?}");
    });
}

#[test]
fn names_are_looked_up() {
    deadline(60, || {
        let socket = UdpSocket::bind("localhost:0").unwrap();
        assert!(socket.local_addr().unwrap().ip().is_loopback());
        let name = format!("localhost:{}", socket.local_addr().unwrap().port());
        let client = UdpSocket::bind((socket.local_addr().unwrap().ip(), 0)).unwrap();
        client.send_to(b"x", &name).unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
        client.connect(name).unwrap();
    });
}

#[test]
fn auto_traits_are_those_of_a_descriptor() {
    fn check<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + std::fmt::Debug>() {}
    check::<UdpSocket>();
    // And it has the trait by which addresses are named.
    fn addr<A: net::ToSocketAddrs>(addr: A) -> Vec<SocketAddr> {
        addr.to_socket_addrs().unwrap().collect()
    }
    assert_eq!(addr("127.0.0.1:7"), [SocketAddr::from(([127, 0, 0, 1], 7))]);
}

//! Streams, listeners and datagrams; addresses, options and conversions.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use super::thread;
use crate::common::deadline;
use crate::sockets::{descriptor_flags, is_nonblocking, set_option};

const SHORT: Duration = Duration::from_millis(60);

/// A path for a socket, that is gone afterwards.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let module = module_path!().replace(':', "");
        let name = format!("greenling-{}-{module}-{n}", std::process::id());
        Place(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

fn abstract_addr() -> SocketAddr {
    let place = Place::new();
    SocketAddr::from_abstract_name(place.0.file_name().unwrap().as_encoded_bytes()).unwrap()
}

#[test]
fn what_is_written_is_read() {
    deadline(60, || {
        let place = Place::new();
        let listener = UnixListener::bind(&place).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            assert!(peer.is_unnamed());
            io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap()
        });
        let mut client = UnixStream::connect(&place).unwrap();
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*place.0));
        assert!(client.local_addr().unwrap().is_unnamed());
        for size in [1, 64, 4096, 100_000] {
            let sent: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
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
fn abstract_names_need_no_file() {
    deadline(60, || {
        let addr = abstract_addr();
        let listener = UnixListener::bind_addr(&addr).unwrap();
        let name = listener.local_addr().unwrap();
        assert_eq!(name.as_abstract_name(), addr.as_abstract_name());
        assert_eq!(UnixListener::bind_addr(&addr).unwrap_err().kind(), ErrorKind::AddrInUse);
        let mut client = UnixStream::connect_addr(&addr).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        let mut got = [0; 5];
        server.read_exact(&mut got).unwrap();
        drop(listener);
        let error = UnixStream::connect_addr(&addr).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn bad_paths_are_errors() {
    deadline(60, || {
        let long = "x".repeat(200);
        for path in ["with\0null", &long] {
            let error = UnixStream::connect(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = error.to_string();
            assert_eq!(text, SocketAddr::from_pathname(path).unwrap_err().to_string());
            assert_eq!(UnixListener::bind(path).unwrap_err().to_string(), text);
            assert_eq!(UnixDatagram::bind(path).unwrap_err().to_string(), text);
            let socket = UnixDatagram::unbound().unwrap();
            assert_eq!(socket.connect(path).unwrap_err().to_string(), text);
            assert_eq!(socket.send_to(b"x", path).unwrap_err().to_string(), text);
        }
        let place = Place::new();
        assert_eq!(UnixStream::connect(&place).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(UnixStream::connect("").unwrap_err().raw_os_error(), Some(libc::EINVAL));
        let listener = UnixListener::bind(&place).unwrap();
        assert_eq!(UnixListener::bind(&place).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listener);
        let error = UnixStream::connect(&place).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn incoming_yields_connections() {
    deadline(60, || {
        let place = Place::new();
        let listener = UnixListener::bind(&place).unwrap();
        assert_eq!(listener.incoming().size_hint(), (usize::MAX, None));
        let clone = listener.try_clone().unwrap();
        drop(listener);
        let clients = thread::spawn(move || {
            for n in 0..3 {
                UnixStream::connect(&place).unwrap().write_all(&[n]).unwrap();
            }
        });
        for (n, stream) in (&clone).into_iter().take(3).enumerate() {
            let mut text = Vec::new();
            stream.unwrap().read_to_end(&mut text).unwrap();
            assert_eq!(text, [n as u8]);
        }
        clients.join().unwrap();
        assert!(clone.take_error().unwrap().is_none());
    });
}

#[test]
fn a_full_queue_makes_connecting_wait() {
    deadline(60, || {
        let place = Place::new();
        let listener = UnixListener::bind(&place).unwrap();
        // SAFETY: no pointers are passed. It replaces the backlog with the shortest.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let clients: Vec<_> = (0..5)
            .map(|_| {
                let path = place.0.clone();
                thread::spawn(move || UnixStream::connect(path).unwrap())
            })
            .collect();
        thread::sleep(Duration::from_millis(50));
        let waiting = clients.iter().filter(|client| !client.is_finished()).count();
        assert!(waiting >= 3, "{waiting}");
        for _ in 0..5 {
            listener.accept().unwrap();
        }
        for client in clients {
            client.join().unwrap();
        }
    });
}

#[test]
fn a_nonblocking_listener_does_not_wait() {
    deadline(60, || {
        let place = Place::new();
        let listener = UnixListener::bind(&place).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let _client = UnixStream::connect(&place).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(!is_nonblocking(&stream));
        assert_ne!(descriptor_flags(&stream) & libc::FD_CLOEXEC, 0);
        listener.set_nonblocking(false).unwrap();
        let fd = OwnedFd::from(listener);
        assert!(!is_nonblocking(&fd));
        let listener = UnixListener::from(fd);
        let path = place.0.clone();
        let client = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            UnixStream::connect(path).unwrap()
        });
        listener.accept().unwrap();
        client.join().unwrap();
    });
}

#[test]
fn a_pair_is_connected_both_ways() {
    deadline(60, || {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        assert!(a.peer_addr().unwrap().is_unnamed());
        let data = vec![7; 4 << 20];
        let writer = thread::spawn({
            let data = data.clone();
            move || {
                assert_eq!(a.write(&data).unwrap(), data.len());
                let halves: Vec<_> = data.chunks(data.len() / 2).map(IoSlice::new).collect();
                assert_eq!(a.write_vectored(&halves).unwrap(), data.len());
                a.write_all(b"ab").unwrap();
                a
            }
        });
        let mut got = vec![0; 2 * data.len()];
        b.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|byte| *byte == 7));
        let (mut head, mut tail) = ([0; 1], [0; 8]);
        let mut bufs = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
        assert_eq!(b.read_vectored(&mut bufs).unwrap(), 2);
        drop(writer.join().unwrap());
        assert_eq!(b.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(b.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        b.flush().unwrap();
    });
}

#[test]
fn a_read_gives_up_after_its_time() {
    deadline(60, || {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        a.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(a.read_timeout().unwrap(), Some(SHORT));
        let clone = a.try_clone().unwrap();
        let start = Instant::now();
        assert_eq!((&clone).read(&mut [0; 8]).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        assert!(start.elapsed() >= SHORT);
        b.write_all(b"late").unwrap();
        assert_eq!(a.read(&mut [0; 8]).unwrap(), 4);
        a.set_write_timeout(Some(SHORT)).unwrap();
        let data = vec![0; 16 << 20];
        let sent = a.write(&data).unwrap();
        assert!(0 < sent && sent < data.len());
        let error = loop {
            if let Err(error) = a.write(&data) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let error = a.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(a.take_error().unwrap().is_none());
    });
}

#[test]
fn a_nonblocking_stream_does_not_wait() {
    deadline(60, || {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        assert_eq!(a.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let sent = a.write(&vec![0; 16 << 20]).unwrap();
        assert!(sent < 16 << 20);
        b.write_all(b"now").unwrap();
        assert_eq!(a.read(&mut [0; 8]).unwrap(), 3);
        let raw = a.into_raw_fd();
        // SAFETY: the descriptor is ours, by `into_raw_fd`.
        let mut a = unsafe { UnixStream::from_raw_fd(raw) };
        assert_eq!(a.as_fd().as_raw_fd(), raw);
        assert_eq!(a.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn shutdown_ends_a_waiting_read() {
    deadline(60, || {
        let (a, _b) = UnixStream::pair().unwrap();
        let mut clone = a.try_clone().unwrap();
        let reader = thread::spawn(move || clone.read(&mut [0; 8]).unwrap());
        thread::sleep(Duration::from_millis(20));
        a.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reader.join().unwrap(), 0);
    });
}

#[test]
fn unread_data_at_close_resets_the_connection() {
    deadline(60, || {
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(b"unread").unwrap();
        drop(b);
        assert_eq!(a.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(a.read(&mut [0; 8]).unwrap(), 0);
    });
}

#[test]
fn what_is_behind_passed_descriptors_is_read_too() {
    deadline(60, || {
        let (a, mut b) = UnixStream::pair().unwrap();
        let reader = thread::spawn(move || {
            let mut got = Vec::new();
            while got.len() < 6 {
                let mut buf = [0; 100];
                let count = b.read(&mut buf).unwrap();
                got.extend_from_slice(&buf[..count]);
            }
            got
        });
        thread::sleep(Duration::from_millis(20)); // it waits, and is known to have been empty
        send_with_descriptor(&a, b"abc");
        (&a).write_all(b"def").unwrap();
        assert_eq!(reader.join().unwrap(), b"abcdef");
    });
}

/// Sends a descriptor along, where a read ends.
fn send_with_descriptor(to: &impl AsFd, data: &[u8]) {
    let fd = to.as_fd().as_raw_fd();
    let mut iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let mut control = [0u64; 8];
    // SAFETY: all zeros is a message; what it refers to lives through the call; the control buffer has
    // room for one descriptor and is aligned for its header.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<i32>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<i32>() as u32) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        assert_eq!(libc::sendmsg(fd, &message, 0), data.len() as isize);
    }
}

#[test]
fn datagrams_arrive_whole_with_their_sender() {
    deadline(60, || {
        let (here, there) = (Place::new(), Place::new());
        let a = UnixDatagram::bind(&here).unwrap();
        let b = UnixDatagram::bind(&there).unwrap();
        assert_eq!(a.local_addr().unwrap().as_pathname(), Some(&*here.0));
        let from = here.0.clone();
        let receiver = thread::spawn(move || {
            let mut buf = [0; 8];
            let (len, sender) = b.recv_from(&mut buf).unwrap();
            assert_eq!((&buf[..len], sender.as_pathname()), (&b"first"[..], Some(&*from)));
            assert_eq!(b.recv_from(&mut buf).unwrap().0, 0);
            assert_eq!(b.recv(&mut buf[..2]).unwrap(), 2);
            let (len, sender) = b.recv_from(&mut buf).unwrap();
            assert!(len == 4 && sender.is_unnamed());
            let (len, sender) = b.recv_from(&mut buf).unwrap();
            assert_eq!((len, sender.as_abstract_name().is_some()), (2, true));
        });
        thread::sleep(Duration::from_millis(20)); // the receiver waits
        assert_eq!(a.send_to(b"first", &there).unwrap(), 5);
        assert_eq!(a.send_to(b"", &there).unwrap(), 0);
        a.send_to(b"cut off", &there).unwrap();
        let unnamed = UnixDatagram::unbound().unwrap();
        assert!(unnamed.local_addr().unwrap().is_unnamed());
        unnamed.connect(&there).unwrap();
        assert_eq!(unnamed.peer_addr().unwrap().as_pathname(), Some(&*there.0));
        assert_eq!(unnamed.send(b"hush").unwrap(), 4);
        let named = UnixDatagram::bind_addr(&abstract_addr()).unwrap();
        let to = SocketAddr::from_pathname(&there).unwrap();
        named.send_to_addr(b"ok", &to).unwrap();
        receiver.join().unwrap();
        assert_eq!(a.send(b"x").unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(a.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        let error = a.send_to(b"x", &there).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        a.connect_addr(&SocketAddr::from_pathname(&here).unwrap()).unwrap();
    });
}

#[test]
fn senders_wait_while_the_receiver_is_full() {
    for connected in [false, true] {
        deadline(60, move || {
            let place = Place::new();
            let receiver = UnixDatagram::bind(&place).unwrap();
            let path = place.0.clone();
            let sender = thread::spawn(move || {
                let socket = UnixDatagram::unbound().unwrap();
                if connected {
                    socket.connect(&path).unwrap();
                }
                for n in 0..2000u32 {
                    let sent = match connected {
                        true => socket.send(&n.to_ne_bytes()),
                        false => socket.send_to(&n.to_ne_bytes(), &path),
                    };
                    assert_eq!(sent.unwrap(), 4);
                }
            });
            thread::sleep(Duration::from_millis(30));
            assert!(!sender.is_finished());
            for n in 0..2000u32 {
                let mut got = [0; 4];
                assert_eq!(receiver.recv(&mut got).unwrap(), 4);
                assert_eq!(u32::from_ne_bytes(got), n);
            }
            sender.join().unwrap();
        });
    }
}

#[test]
fn sending_to_a_full_receiver_gives_up_in_time() {
    for connected in [false, true] {
        deadline(60, move || {
            let place = Place::new();
            let _receiver = UnixDatagram::bind(&place).unwrap();
            let socket = UnixDatagram::unbound().unwrap();
            if connected {
                socket.connect(&place).unwrap();
            }
            let send = || match connected {
                true => socket.send(b"x"),
                false => socket.send_to(b"x", &place),
            };
            socket.set_nonblocking(true).unwrap();
            while send().is_ok() {}
            assert_eq!(send().unwrap_err().raw_os_error(), Some(libc::EAGAIN));
            socket.set_nonblocking(false).unwrap();
            socket.set_write_timeout(Some(SHORT)).unwrap();
            let start = Instant::now();
            assert_eq!(send().unwrap_err().raw_os_error(), Some(libc::EAGAIN));
            assert!(start.elapsed() >= SHORT);
        });
    }
}

#[test]
fn a_pair_with_small_buffers_loses_nothing() {
    deadline(60, || {
        let (a, b) = UnixDatagram::pair().unwrap();
        set_option(&a, libc::SO_SNDBUF, &8192);
        let sender = thread::spawn(move || {
            for n in 0..500u32 {
                let mut datagram = [0; 1000];
                datagram[..4].copy_from_slice(&n.to_ne_bytes());
                assert_eq!(a.send(&datagram).unwrap(), 1000);
            }
            a
        });
        for n in 0..500u32 {
            let mut got = [0; 2000];
            assert_eq!(b.recv(&mut got).unwrap(), 1000);
            assert_eq!(got[..4], n.to_ne_bytes());
        }
        drop(sender.join().unwrap());
        assert_eq!(b.send(b"x").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn datagrams_have_time_limits_and_modes() {
    deadline(60, || {
        let (a, b) = UnixDatagram::pair().unwrap();
        a.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(a.read_timeout().unwrap(), Some(SHORT));
        let start = Instant::now();
        assert_eq!(a.recv(&mut [0; 8]).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        assert!(start.elapsed() >= SHORT);
        a.set_read_timeout(None).unwrap();
        a.set_write_timeout(Some(SHORT)).unwrap();
        assert_eq!(a.write_timeout().unwrap(), Some(SHORT));
        a.set_nonblocking(true).unwrap();
        let clone = a.try_clone().unwrap();
        assert_eq!(clone.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let a = UnixDatagram::from(OwnedFd::from(a));
        assert_eq!(a.recv_from(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        a.set_nonblocking(false).unwrap();
        b.send(b"x").unwrap();
        assert_eq!(a.recv(&mut [0; 8]).unwrap(), 1);
        assert!(a.take_error().unwrap().is_none());
    });
}

#[test]
fn a_datagram_socket_that_is_shut_down_receives_what_came_and_then_nothing() {
    deadline(60, || {
        let (a, b) = UnixDatagram::pair().unwrap();
        let waiting: Vec<_> = (0..3)
            .map(|n| {
                let a = a.try_clone().unwrap();
                thread::spawn(move || match n {
                    0 => a.recv(&mut [0; 8]).unwrap(),
                    _ => a.recv_from(&mut [0; 8]).unwrap().0,
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(30));
        a.shutdown(Shutdown::Read).unwrap();
        for waiter in waiting {
            assert_eq!(waiter.join().unwrap(), 0);
        }
        let (len, sender) = a.recv_from(&mut [0; 8]).unwrap();
        assert!(len == 0 && sender.is_unnamed());
        assert_eq!(a.recv(&mut [0; 8]).unwrap(), 0);
        assert_eq!(b.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        a.set_nonblocking(true).unwrap();
        assert_eq!(a.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);

        let (a, b) = UnixDatagram::pair().unwrap();
        b.send(b"last").unwrap();
        a.shutdown(Shutdown::Both).unwrap();
        assert_eq!(a.recv(&mut [0; 8]).unwrap(), 4);
        assert_eq!(a.recv(&mut [0; 8]).unwrap(), 0);
        assert_eq!(a.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn debug_shows_what_stds_shows() {
    deadline(60, || {
        let (a, _b) = UnixStream::pair().unwrap();
        let text = format!("{a:?}");
        assert!(text.starts_with("UnixStream { fd: "), "{text}");
        assert!(text.ends_with(", local: (unnamed), peer: (unnamed) }"), "{text}");
        let place = Place::new();
        let listener = UnixListener::bind(&place).unwrap();
        assert!(format!("{listener:?}").starts_with("UnixListener { fd: "));
        let socket = UnixDatagram::unbound().unwrap();
        assert!(format!("{socket:?}").starts_with("UnixDatagram { fd: "));
    });
}

#[test]
fn auto_traits_are_those_of_a_descriptor() {
    fn check<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + std::fmt::Debug>() {}
    check::<UnixStream>();
    check::<UnixListener>();
    check::<UnixDatagram>();
    check::<super::net::Incoming<'static>>();
}

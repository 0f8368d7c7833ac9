//! Patched sockets do what the kernel's own calls do, and block nobody.

#![cfg(feature = "patch")]

mod common;
#[path = "common/native.rs"]
mod native;

use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use common::deadline;
use greenling::{patch, spawn};
use native::{WAIT, both, outcome, same};

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Calls recv(2) as it is.
fn recv(fd: &impl AsRawFd, len: usize, flags: i32) -> (i64, Vec<u8>) {
    let mut buf = vec![0_u8; len];
    // SAFETY: the buffer has this length.
    let count = unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), len, flags) };
    let count = outcome(count as i64);
    buf.truncate(count.max(0) as usize);
    (count, buf)
}

#[test]
fn a_read_waits_for_data_and_for_the_end() {
    deadline(30, || {
        let seen = same(|| {
            let (mut a, mut b) = tcp_pair();
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                b.write_all(b"hello").unwrap();
                thread::sleep(WAIT);
            });
            let mut buf = [0; 16];
            let first = a.read(&mut buf).unwrap();
            let text = buf[..first].to_vec();
            let end = a.read(&mut buf).unwrap();
            peer.join().unwrap();
            (text, end)
        });
        assert_eq!(seen, (b"hello".to_vec(), 0));
    });
}

/// So many bytes, made by copying: to compute them takes so long, without optimization, that it counts as blocking.
fn much(len: usize) -> Vec<u8> {
    let piece: Vec<u8> = (0..1009_u32).map(|n| (n >> 2) as u8).collect();
    let mut all = piece.repeat(len.div_ceil(piece.len()));
    all.truncate(len);
    all
}

#[test]
fn a_blocking_send_sends_everything() {
    deadline(30, || {
        let sent = same(|| {
            let (mut a, mut b) = UnixStream::pair().unwrap();
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                let mut all = Vec::new();
                b.read_to_end(&mut all).unwrap();
                all.iter().map(|&byte| u64::from(byte)).sum::<u64>()
            });
            let data = much(4_000_000);
            let single = a.write(&data).unwrap();
            let halves = [std::io::IoSlice::new(&data[..7]), std::io::IoSlice::new(&data[7..])];
            let vectored = a.write_vectored(&halves).unwrap();
            drop(a);
            (single, vectored, peer.join().unwrap())
        });
        assert_eq!((sent.0, sent.1), (4_000_000, 4_000_000));
    });
}

#[test]
fn a_broken_pipe_and_a_reset_are_errors() {
    deadline(30, || {
        same(|| {
            let (mut a, b) = UnixStream::pair().unwrap();
            drop(b);
            let broken = a.write(b"x").unwrap_err().raw_os_error();
            let (mut c, mut d) = tcp_pair();
            c.write_all(b"unread").unwrap();
            thread::sleep(Duration::from_millis(20));
            let mut one = [0];
            d.read_exact(&mut one).unwrap();
            drop(d); // with unread data: a reset
            thread::sleep(Duration::from_millis(20));
            let reset = c.read(&mut one).unwrap_err().raw_os_error();
            (broken, reset)
        });
    });
}

#[test]
fn waitall_and_peek() {
    deadline(30, || {
        same(|| {
            let (a, mut b) = tcp_pair();
            let peer = thread::spawn(move || {
                for piece in [&b"ab"[..], b"cd", b"efgh"] {
                    thread::sleep(WAIT / 2);
                    b.write_all(piece).unwrap();
                }
            });
            let peeked = recv(&a, 8, libc::MSG_PEEK);
            let all_peeked = recv(&a, 4, libc::MSG_PEEK | libc::MSG_WAITALL);
            let all = recv(&a, 6, libc::MSG_WAITALL);
            let cut = recv(&a, 100, libc::MSG_WAITALL); // the end comes first
            let end = recv(&a, 1, libc::MSG_WAITALL);
            peer.join().unwrap();
            (peeked, all_peeked, all, cut, end)
        });
        same(|| {
            let (a, b) = UnixDatagram::pair().unwrap();
            b.send(b"short").unwrap();
            recv(&a, 100, libc::MSG_WAITALL) // one datagram is all
        });
    });
}

#[test]
fn time_limits_of_sockets_are_kept() {
    deadline(30, || {
        let (native, patched) = both(|| {
            let (a, b) = tcp_pair();
            a.set_read_timeout(Some(WAIT)).unwrap();
            let start = Instant::now();
            let read = recv(&a, 1, 0);
            let read_took = start.elapsed();
            b.set_write_timeout(Some(WAIT)).unwrap();
            let start = Instant::now();
            let mut last = 0;
            // In the end the buffers are full, and a send takes no byte in time.
            while start.elapsed() < Duration::from_secs(20) && last >= 0 {
                // SAFETY: the buffer has this length.
                last = outcome(unsafe {
                    libc::send(b.as_raw_fd(), [7_u8; 65536].as_ptr().cast(), 65536, 0)
                } as i64);
            }
            (read, read_took, last)
        });
        assert_eq!((&native.0, native.2), (&patched.0, patched.2));
        assert_eq!(native.2, -i64::from(libc::EAGAIN));
        assert!(patched.1 >= WAIT && patched.1 < WAIT + Duration::from_secs(3), "{:?}", patched.1);
    });
}

#[test]
fn nonblocking_sockets_never_wait() {
    deadline(30, || {
        same(|| {
            let (mut a, _b) = tcp_pair();
            a.set_nonblocking(true).unwrap();
            let read = recv(&a, 1, 0).0;
            let mut buf = [0; 1];
            let by_std = a.read(&mut buf).unwrap_err().kind();
            let flagged = recv(&_b, 1, libc::MSG_DONTWAIT).0;
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let accepted = listener.accept().unwrap_err().kind();
            // And the flag is as the program has left it.
            // SAFETY: no pointers.
            let flags = unsafe {
                [a.as_raw_fd(), _b.as_raw_fd(), listener.as_raw_fd()]
                    .map(|fd| libc::fcntl(fd, libc::F_GETFL) & libc::O_NONBLOCK)
            };
            (read, by_std, flagged, accepted, flags)
        });
    });
}

#[test]
fn the_flag_of_a_blocking_socket_is_left_alone() {
    deadline(30, || {
        patch::all();
        spawn(|| {
            let (mut a, mut b) = tcp_pair();
            let peer = spawn(move || {
                greenling::sleep(Duration::from_millis(20));
                b.write_all(b"x").unwrap();
            });
            a.read_exact(&mut [0]).unwrap();
            // SAFETY: no pointers.
            let flags = unsafe { libc::fcntl(a.as_raw_fd(), libc::F_GETFL) };
            assert_eq!(flags & libc::O_NONBLOCK, 0);
            peer.join().unwrap();
        })
        .join()
        .unwrap();
    });
}

#[test]
fn connecting_succeeds_is_refused_and_is_done_once() {
    deadline(30, || {
        same(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let stream = TcpStream::connect(addr).unwrap();
            let _peer = listener.accept().unwrap();
            drop(listener);
            let refused = TcpStream::connect(addr).unwrap_err().raw_os_error();
            // SAFETY: plain data; the name is that long.
            let again = unsafe {
                let mut name: libc::sockaddr_in = mem::zeroed();
                name.sin_family = libc::AF_INET as u16;
                name.sin_port = addr.port().to_be();
                name.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
                let len = size_of_val(&name) as u32;
                outcome(libc::connect(stream.as_raw_fd(), (&raw const name).cast(), len))
            };
            (refused, again)
        });
    });
}

/// To a listener whose queue is full, who does not answer.
#[test]
fn connecting_keeps_its_time_limit() {
    deadline(60, || {
        let (native, patched) = both(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            // SAFETY: no pointers: a queue of one.
            unsafe { libc::listen(listener.as_raw_fd(), 0) };
            let addr = listener.local_addr().unwrap();
            let _in_queue = TcpStream::connect(addr).unwrap();
            // SAFETY: plain data, of the lengths that are given; the descriptor is ours.
            unsafe {
                let mut name: libc::sockaddr_in = mem::zeroed();
                name.sin_family = libc::AF_INET as u16;
                name.sin_port = addr.port().to_be();
                name.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
                let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
                let stream = TcpStream::from_raw_fd(fd);
                stream.set_write_timeout(Some(WAIT)).unwrap();
                let connect = || {
                    let len = size_of_val(&name) as u32;
                    outcome(libc::connect(fd, (&raw const name).cast(), len))
                };
                let start = Instant::now();
                let first = connect();
                (first, start.elapsed(), connect())
            }
        });
        assert_eq!((native.0, native.2), (patched.0, patched.2));
        assert_eq!(native.0, -i64::from(libc::EINPROGRESS));
        assert!(patched.1 >= WAIT && patched.1 < WAIT + Duration::from_secs(3), "{:?}", patched.1);
    });
}

fn abstract_name(name: &str) -> SocketAddr {
    SocketAddr::from_abstract_name(format!("greenling-{name}-{}", std::process::id())).unwrap()
}

#[test]
fn connecting_waits_for_room_in_a_unix_listeners_queue() {
    deadline(30, || {
        let count = same(|| {
            let name = abstract_name(&format!("{:?}", thread::current().id()));
            let listener = UnixListener::bind_addr(&name).unwrap();
            // SAFETY: no pointers: a queue of one.
            unsafe { libc::listen(listener.as_raw_fd(), 0) };
            let server = thread::spawn(move || {
                thread::sleep(WAIT);
                let accepted: Vec<_> = (0..3).map(|_| listener.accept().unwrap()).collect();
                accepted.len()
            });
            let _clients: Vec<_> =
                (0..3).map(|_| UnixStream::connect_addr(&name).unwrap()).collect();
            server.join().unwrap()
        });
        assert_eq!(count, 3);
    });
}

#[test]
fn datagrams_wait_for_room_at_their_receiver() {
    deadline(30, || {
        same(|| {
            let name = abstract_name(&format!("dgram-{:?}", thread::current().id()));
            let receiver = UnixDatagram::bind_addr(&name).unwrap();
            let sender = UnixDatagram::unbound().unwrap();
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                let mut buf = [0; 8];
                (0..100).map(|_| receiver.recv(&mut buf).unwrap()).sum::<usize>()
            });
            // More than fit into the queue (net.unix.max_dgram_qlen).
            let sent: usize = (0..100).map(|_| sender.send_to_addr(b"x", &name).unwrap()).sum();
            (sent, peer.join().unwrap())
        });
    });
}

#[test]
fn accepting_waits_and_keeps_its_time_limit() {
    deadline(30, || {
        same(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                TcpStream::connect(addr).unwrap()
            });
            let accepted = listener.accept().is_ok();
            drop(peer.join().unwrap());
            let time = libc::timeval { tv_sec: 0, tv_usec: 300_000 };
            // SAFETY: the option is that long; no address is wanted.
            let late = unsafe {
                libc::setsockopt(
                    listener.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_RCVTIMEO,
                    (&raw const time).cast(),
                    size_of_val(&time) as u32,
                );
                outcome(libc::accept(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut()))
            };
            (accepted, late)
        });
    });
}

#[test]
fn batches_of_datagrams() {
    deadline(30, || {
        let (got, texts) = same(|| {
            let (a, b) = UnixDatagram::pair().unwrap();
            let peer = thread::spawn(move || {
                for text in [&b"one"[..], b"three", b"seven"] {
                    thread::sleep(WAIT / 2);
                    b.send(text).unwrap();
                }
            });
            let mut bufs = [[0_u8; 16]; 3];
            let mut iovs = bufs
                .each_mut()
                .map(|buf| libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: 16 });
            // SAFETY: plain data; each message has one buffer.
            let mut messages = iovs.each_mut().map(|iov| unsafe {
                let mut message: libc::mmsghdr = mem::zeroed();
                message.msg_hdr.msg_iov = iov;
                message.msg_hdr.msg_iovlen = 1;
                message
            });
            // SAFETY: three messages; no time limit.
            let got = outcome(unsafe {
                libc::recvmmsg(a.as_raw_fd(), messages.as_mut_ptr(), 3, 0, ptr::null_mut())
            });
            peer.join().unwrap();
            (got, messages.map(|message| message.msg_len))
        });
        assert_eq!((got, texts), (3, [3, 5, 5]));
    });
}

#[test]
fn sendfile_sends_all_of_a_file() {
    deadline(30, || {
        same(|| {
            let data = much(3_000_000);
            // SAFETY: a C string; the descriptor is ours.
            let mut file =
                unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"data".as_ptr(), 0)) };
            file.write_all(&data).unwrap();
            file.rewind().unwrap();
            let (mut a, mut b) = tcp_pair();
            let peer = thread::spawn(move || {
                thread::sleep(WAIT);
                let mut all = Vec::new();
                b.read_to_end(&mut all).unwrap();
                all
            });
            let mut offset = 1000;
            // SAFETY: the offset is valid.
            let part = unsafe { libc::sendfile(a.as_raw_fd(), file.as_raw_fd(), &mut offset, 500) };
            let by_std = std::io::copy(&mut file, &mut a).unwrap(); // sendfile64, from the start
            drop(a);
            let got = peer.join().unwrap();
            assert_eq!(got.len(), 3_000_500);
            assert_eq!((&got[..500], &got[500..]), (&data[1000..1500], &data[..]));
            (part, offset, by_std)
        });
    });
}

#[test]
fn closing_wakes_those_who_wait() {
    deadline(30, || {
        patch::all();
        let (a, _b) = tcp_pair();
        let fd = a.into_raw_fd();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                spawn(move || {
                    // SAFETY: the number stays closed while it is used here, or so the test has it.
                    let socket = mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd) });
                    recv(&*socket, 1, 0).0
                })
            })
            .collect();
        greenling::sleep(Duration::from_millis(20));
        // From another thread, which has no hub.
        // SAFETY: ours.
        thread::spawn(move || unsafe { libc::close(fd) }).join().unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), -i64::from(libc::EBADF));
        }
    });
}

#[test]
fn a_reused_number_starts_clean() {
    deadline(30, || {
        patch::all();
        let work = spawn(|| {
            for round in 0..50 {
                let (mut a, mut b) = UnixStream::pair().unwrap();
                let peer = spawn(move || {
                    greenling::yield_now();
                    b.write_all(b"x").unwrap();
                    b
                });
                a.read_exact(&mut [0]).unwrap(); // registered by now
                let b = peer.join().unwrap();
                if round % 3 == 0 {
                    // Behind our back, as the C library's own fclose does it.
                    let fd = a.into_raw_fd();
                    // SAFETY: ours; the call has no pointers.
                    unsafe { libc::syscall(libc::SYS_close, fd) };
                } else if round % 3 == 1 {
                    // SAFETY: both are ours, and the numbers stay owned.
                    unsafe { libc::dup2(b.as_raw_fd(), a.as_raw_fd()) };
                }
            }
        });
        work.join().unwrap();
    });
}

#[test]
fn a_duplicate_goes_on_when_the_first_is_closed() {
    deadline(30, || {
        patch::all();
        let work = spawn(|| {
            let (a, mut b) = tcp_pair();
            let mut copy = a.try_clone().unwrap();
            let waiting = spawn(move || {
                let mut a = a;
                a.read_exact(&mut [0]).unwrap(); // registers this number, which is closed then
            });
            greenling::yield_now();
            b.write_all(b"x").unwrap();
            waiting.join().unwrap();
            let reader = spawn(move || {
                let mut buf = [0; 2];
                copy.read_exact(&mut buf).unwrap();
                buf
            });
            greenling::sleep(Duration::from_millis(10));
            b.write_all(b"yz").unwrap();
            assert_eq!(reader.join().unwrap(), *b"yz");
        });
        work.join().unwrap();
    });
}

#[test]
fn descriptors_from_before_are_adopted() {
    deadline(30, || {
        // Opened by a thread that knows nothing of us.
        let (mut a, b) = thread::spawn(tcp_pair).join().unwrap();
        let (udp, port) = thread::spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let addr = socket.local_addr().unwrap();
            (socket, addr)
        })
        .join()
        .unwrap();
        patch::all();
        let reader = spawn(move || a.read(&mut [0; 4]).unwrap());
        let packet = spawn(move || udp.recv(&mut [0; 4]).unwrap());
        greenling::sleep(Duration::from_millis(10));
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"abc", port).unwrap();
        let mut b = b;
        b.write_all(b"x").unwrap();
        assert_eq!((reader.join().unwrap(), packet.join().unwrap()), (1, 3));
    });
}

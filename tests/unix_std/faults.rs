//! What std cannot do, or does by blocking its thread: close, kill, limits.

use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use greenling::error::Killed;
use greenling::os::linux::net::SocketAddrExt;
use greenling::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use greenling::{JoinHandle, sleep, spawn, timeout};

use crate::child::{self, On};
use crate::common::deadline;

fn assert_closed<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
}

fn addr(name: &str) -> SocketAddr {
    let name = format!("greenling-{}-{name}", std::process::id());
    SocketAddr::from_abstract_name(name).unwrap()
}

/// A listener whose queue is full.
fn full_listener(addr: &SocketAddr) -> (UnixListener, Vec<std::os::unix::net::UnixStream>) {
    use std::os::fd::{AsRawFd, FromRawFd};
    let listener = UnixListener::bind_addr(addr).unwrap();
    // SAFETY: no pointers are passed. It replaces the backlog with the shortest.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let mut queued = Vec::new();
    let limit = libc::timeval { tv_sec: 0, tv_usec: 1000 };
    loop {
        // SAFETY: no pointers are passed; nobody else owns the new descriptor.
        let stream = unsafe {
            let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
            assert!(fd >= 0);
            std::os::unix::net::UnixStream::from_raw_fd(fd)
        };
        crate::sockets::set_option(&stream, libc::SO_SNDTIMEO, &limit);
        let name = addr.as_abstract_name().unwrap();
        // SAFETY: all zeros is an address; the name fits; it lives through the call.
        let result = unsafe {
            let mut un: libc::sockaddr_un = std::mem::zeroed();
            un.sun_family = libc::AF_UNIX as _;
            for (to, from) in un.sun_path[1..].iter_mut().zip(name) {
                *to = *from as _;
            }
            let len = std::mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
            libc::connect(stream.as_raw_fd(), (&raw const un).cast(), len as _)
        };
        if result != 0 {
            return (listener, queued);
        }
        queued.push(stream);
    }
}

fn wait<T: 'static, R: 'static>(
    socket: &Rc<T>,
    operation: fn(&T) -> io::Result<R>,
) -> JoinHandle<io::Result<R>> {
    let socket = socket.clone();
    spawn(move || operation(&socket))
}

#[test]
fn close_wakes_whoever_waits() {
    deadline(60, || {
        let (stream, mut peer) = UnixStream::pair().unwrap();
        let stream = Rc::new(stream);
        let datagram = Rc::new(UnixDatagram::pair().unwrap().0);
        let listener = Rc::new(UnixListener::bind_addr(&addr("close")).unwrap());
        let waiting = [
            wait(&stream, |mut stream| stream.read(&mut [0; 8])),
            wait(&stream, |mut stream| stream.write(&vec![0; 16 << 20]).map(|_| 0)),
            wait(&datagram, |socket| socket.recv(&mut [0; 8])),
            wait(&datagram, |socket| socket.recv_from(&mut [0; 8]).map(|(len, _)| len)),
            wait(&listener, |listener| listener.accept().map(|_| 0)),
        ];
        sleep(Duration::from_millis(5));
        assert!(waiting.iter().all(|waiter| !waiter.is_finished()));
        stream.close();
        datagram.close();
        listener.close();
        for (n, waiter) in waiting.into_iter().enumerate() {
            let result = waiter.join().unwrap();
            // A write that has sent something says so.
            if n == 1 { assert!(result.is_ok()) } else { assert_closed(result) }
        }
        assert_closed((&*stream).read(&mut [0; 8]));
        assert_closed((&*stream).write(b"x"));
        assert_closed(datagram.send(b"x"));
        assert_closed(datagram.shutdown(std::net::Shutdown::Both));
        assert_closed(listener.accept());
        assert_closed(listener.set_nonblocking(true));
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).unwrap();
        let error = UnixStream::connect_addr(&addr("close")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn close_of_datagram_sockets_reaches_other_threads() {
    deadline(120, || {
        for round in 0..200 {
            let (socket, _peer) = UnixDatagram::pair().unwrap();
            let socket = Arc::new(socket);
            let thread = std::thread::spawn({
                let socket = socket.clone();
                move || assert_closed(socket.recv(&mut [0; 8]))
            });
            for _ in 0..round * 40 {
                std::hint::spin_loop();
            }
            socket.close();
            thread.join().unwrap();
        }
    });
}

#[test]
fn kills_and_limits_end_every_wait() {
    deadline(60, || {
        let place = addr("full");
        let (listener, queued) = full_listener(&place);
        let (stream, _peer) = UnixStream::pair().unwrap();
        let stream = Rc::new(stream);
        let (datagram, receiver) = UnixDatagram::pair().unwrap();
        let datagram = Rc::new(datagram);
        let full = addr("full-datagram");
        let full_receiver = UnixDatagram::bind_addr(&full).unwrap();
        let sender = Rc::new(UnixDatagram::unbound().unwrap());
        let quiet = Rc::new(UnixListener::bind_addr(&addr("quiet")).unwrap());
        #[allow(clippy::type_complexity, reason = "a list of names and what they stand for")]
        let operations: [(&str, Rc<dyn Fn()>); 6] = [
            ("connect", Rc::new(move || drop(UnixStream::connect_addr(&place).unwrap()))),
            ("accept", Rc::new(move || drop(quiet.accept().unwrap()))),
            (
                "read",
                Rc::new({
                    let stream = stream.clone();
                    move || assert_eq!((&*stream).read(&mut [0; 8]).unwrap(), 1)
                }),
            ),
            ("write", Rc::new(move || (&*stream).write_all(&vec![0; 16 << 20]).unwrap())),
            (
                "send",
                Rc::new({
                    let datagram = datagram.clone();
                    move || {
                        loop {
                            datagram.send(&[0; 1000]).unwrap();
                        }
                    }
                }),
            ),
            (
                "send_to",
                Rc::new(move || {
                    loop {
                        sender.send_to_addr(b"x", &full).unwrap();
                    }
                }),
            ),
        ];
        for (name, operation) in operations {
            let limited = timeout(Duration::from_millis(10), || operation());
            assert!(limited.is_err(), "{name}");
            let waiter = spawn({
                let operation = operation.clone();
                move || operation()
            });
            sleep(Duration::from_millis(2));
            assert!(!waiter.is_finished(), "{name}");
            waiter.kill();
            assert!(waiter.join().unwrap_err().is::<Killed>(), "{name}");
        }
        // Nothing is the worse for it.
        assert_eq!(full_receiver.recv(&mut [0; 8]).unwrap(), 1);
        assert_eq!(receiver.recv(&mut [0; 1000]).unwrap(), 1000);
        for _ in &queued {
            listener.accept().unwrap();
        }
        UnixStream::connect_addr(&listener.local_addr().unwrap()).unwrap();
    });
}

#[test]
fn close_ends_a_wait_for_a_full_receiver() {
    deadline(60, || {
        let full = addr("full-close");
        let _receiver = UnixDatagram::bind_addr(&full).unwrap();
        let sender = Rc::new(UnixDatagram::unbound().unwrap());
        let waiter = spawn({
            let sender = sender.clone();
            move || {
                loop {
                    if let Err(error) = sender.send_to_addr(b"x", &full) {
                        return error.raw_os_error();
                    }
                }
            }
        });
        sleep(Duration::from_millis(5));
        assert!(!waiter.is_finished());
        sender.close();
        assert_eq!(waiter.join().unwrap(), Some(libc::EBADF));
    });
}

#[test]
fn without_descriptors_there_is_an_error() {
    child::run(On::OtherThread, 60, || {
        let place = addr("none-left");
        let listener = UnixListener::bind_addr(&place).unwrap();
        let client = UnixStream::connect_addr(&place).unwrap();
        let limit = libc::rlimit { rlim_cur: 40, rlim_max: 40 };
        // SAFETY: `limit` is valid for reading.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        let hoard: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        let is_lack = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        is_lack(UnixStream::connect_addr(&place).unwrap_err());
        is_lack(listener.accept().unwrap_err());
        is_lack(client.try_clone().unwrap_err());
        is_lack(UnixStream::pair().unwrap_err());
        is_lack(UnixDatagram::unbound().unwrap_err());
        drop(hoard);
        listener.accept().unwrap();
    })
    .succeeded();
}

#[test]
fn a_hundred_connections_at_once() {
    deadline(60, || {
        let place = addr("many");
        let listener = UnixListener::bind_addr(&place).unwrap();
        let server = spawn(move || {
            let handlers: Vec<_> = listener
                .incoming()
                .take(100)
                .map(|stream| {
                    let mut stream = stream.unwrap();
                    spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap())
                })
                .collect();
            handlers.into_iter().map(|handler| handler.join().unwrap()).sum::<u64>()
        });
        let clients: Vec<_> = (0..100u32)
            .map(|n| {
                let place = place.clone();
                spawn(move || {
                    let mut stream = UnixStream::connect_addr(&place).unwrap();
                    for round in 0..5 {
                        let sent = (n + round).to_ne_bytes();
                        stream.write_all(&sent).unwrap();
                        let mut got = [0; 4];
                        stream.read_exact(&mut got).unwrap();
                        assert_eq!(got, sent);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        assert_eq!(server.join().unwrap(), 100 * 5 * 4);
    });
}

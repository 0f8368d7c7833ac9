//! What std cannot do, or does by blocking its thread: close, kill, limits, looking up beside others.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use greenling::error::Killed;
use greenling::net::{TcpStream, UdpSocket};
use greenling::{sleep, spawn, timeout, yield_now};

use crate::child::{self, On};
use crate::common::deadline;
use crate::sockets::set_option;

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn assert_closed<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn close_wakes_whoever_waits_and_leaves_the_clones_alone() {
    deadline(60, || {
        let socket = Rc::new(socket());
        let clone = socket.try_clone().unwrap();
        let wait = |operation: fn(&UdpSocket) -> io::Result<usize>| {
            let socket = socket.clone();
            spawn(move || operation(&socket))
        };
        let waiting = [
            wait(|socket| socket.recv(&mut [0; 8])),
            wait(|socket| socket.recv_from(&mut [0; 8]).map(|(len, _)| len)),
            wait(|socket| socket.peek(&mut [0; 8])),
            wait(|socket| socket.peek_from(&mut [0; 8]).map(|(len, _)| len)),
        ];
        sleep(Duration::from_millis(2));
        assert!(waiting.iter().all(|waiter| !waiter.is_finished()));
        socket.close();
        socket.close();
        for waiter in waiting {
            assert_closed(waiter.join().unwrap());
        }
        assert_closed(socket.recv(&mut [0; 8]));
        assert_closed(socket.send_to(b"x", "127.0.0.1:9"));
        assert_closed(socket.send(b"x"));
        assert_closed(socket.connect("127.0.0.1:9"));
        assert_closed(socket.local_addr());
        assert_closed(socket.try_clone());
        assert_closed(socket.set_read_timeout(None));
        assert_closed(socket.set_nonblocking(true));
        let addr = clone.local_addr().unwrap();
        clone.send_to(b"self", addr).unwrap();
        assert_eq!(clone.recv(&mut [0; 8]).unwrap(), 4);
    });
}

#[test]
fn close_wakes_those_on_other_threads() {
    deadline(120, || {
        for round in 0..200 {
            let socket = Arc::new(socket());
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let socket = socket.clone();
                    std::thread::spawn(move || {
                        let beside = socket.clone();
                        let other = spawn(move || assert_closed(beside.recv(&mut [0; 8])));
                        assert_closed(socket.recv_from(&mut [0; 8]));
                        other.join().unwrap();
                    })
                })
                .collect();
            // From before they wait to after.
            for _ in 0..round * 40 {
                std::hint::spin_loop();
            }
            socket.close();
            for thread in threads {
                thread.join().unwrap();
            }
        }
    });
}

#[test]
fn kills_and_limits_end_a_wait_and_nothing_else() {
    deadline(60, || {
        let socket = Rc::new(socket());
        let addr = socket.local_addr().unwrap();
        let dropped = Rc::new(Cell::new(false));
        struct Mark(Rc<Cell<bool>>);
        impl Drop for Mark {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let waiter = spawn({
            let (socket, mark) = (socket.clone(), Mark(dropped.clone()));
            move || {
                let _mark = mark;
                socket.recv(&mut [0; 8])
            }
        });
        yield_now();
        waiter.kill();
        assert!(dropped.get());
        assert!(waiter.join().unwrap_err().is::<Killed>());
        assert!(timeout(Duration::from_millis(5), || socket.recv_from(&mut [0; 8])).is_err());
        socket.send_to(b"well", addr).unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 4);
    });
}

#[test]
fn without_descriptors_there_is_an_error() {
    child::run(On::OtherThread, 60, || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let limit = libc::rlimit { rlim_cur: 40, rlim_max: 40 };
        // SAFETY: `limit` is valid for reading.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        let mut hoard: Vec<_> =
            std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        let socket = UdpSocket::from(socket);
        // There is none for the epoll instance.
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        assert_eq!(socket.try_clone().unwrap_err().raw_os_error(), Some(libc::EMFILE));
        // One is enough for a socket, but not for waiting.
        hoard.pop();
        let error = UdpSocket::bind("127.0.0.1:0").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        drop(hoard);
        assert!(timeout(Duration::from_millis(5), || socket.recv(&mut [0; 8])).is_err());
        socket.send_to(b"fine", socket.local_addr().unwrap()).unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 4);
    })
    .succeeded();
}

#[test]
fn a_flood_lets_the_others_run() {
    deadline(60, || {
        let (a, b) = (socket(), socket());
        set_option(&a, libc::SO_SNDBUF, &4096);
        a.connect(b.local_addr().unwrap()).unwrap();
        let sleeper = spawn(|| sleep(Duration::from_millis(20)));
        while !sleeper.is_finished() {
            a.send(&[0; 1000]).unwrap();
        }
        let sleeper = spawn(|| sleep(Duration::from_millis(20)));
        b.set_nonblocking(true).unwrap();
        while !sleeper.is_finished() {
            let _ = b.recv(&mut [0; 1000]);
        }
    });
}

#[test]
fn datagrams_cross_threads() {
    deadline(60, || {
        let server = Arc::new(socket());
        let addr = server.local_addr().unwrap();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let server = server.clone();
                std::thread::spawn(move || {
                    let mut buf = [0; 8];
                    loop {
                        match server.recv_from(&mut buf) {
                            Ok((len, peer)) => drop(server.send_to(&buf[..len], peer).unwrap()),
                            Err(error) => return assert_closed::<()>(Err(error)),
                        }
                    }
                })
            })
            .collect();
        let clients: Vec<_> = (0..50u32)
            .map(|n| {
                spawn(move || {
                    let client = socket();
                    client.connect(addr).unwrap();
                    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    for round in 0..20 {
                        let sent = (n * 100 + round).to_ne_bytes();
                        client.send(&sent).unwrap();
                        let mut got = [0; 8];
                        assert_eq!(client.recv(&mut got).unwrap(), 4);
                        assert_eq!(got[..4], sent);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        server.close();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_name_that_is_none_has_stds_error() {
    deadline(60, || {
        use std::net::ToSocketAddrs;
        // Names for which no server is asked: too long for one, and no text for C.
        for name in [&format!("{}:1", "x".repeat(300)), "with\0null:1"] {
            let theirs = name.to_socket_addrs().map(drop).unwrap_err();
            let ours = TcpStream::connect(name).unwrap_err();
            assert_eq!(ours.kind(), theirs.kind(), "{name}");
            assert_eq!(ours.to_string(), theirs.to_string());
            assert_eq!(ours.raw_os_error(), theirs.raw_os_error());
        }
    });
}

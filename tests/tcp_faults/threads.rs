//! Sockets and several threads, each with a hub of its own.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use greenling::net::{TcpListener, TcpStream};
use greenling::{sleep, spawn, yield_now};

use crate::common::deadline;
use crate::{pair, pair_with_peer};

/// Registers the stream with this thread's hub, and leaves it drained there.
fn register(stream: &TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut io = stream;
    assert_eq!(io.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    stream.set_read_timeout(None).unwrap();
}

#[test]
fn a_stream_may_move_to_another_thread() {
    deadline(60, || {
        for registered in [false, true] {
            let (mut peer, mut stream) = pair_with_peer();
            if registered {
                register(&stream);
            }
            let mover = thread::spawn(move || {
                let reader = spawn(move || {
                    let mut buf = [0; 8];
                    let count = stream.read(&mut buf).unwrap();
                    stream.write_all(&buf[..count]).unwrap();
                    stream
                });
                reader.join().unwrap()
            });
            thread::sleep(Duration::from_millis(10));
            peer.write_all(b"there").unwrap();
            peer.read_exact(&mut [0; 5]).unwrap();
            // And back.
            let mut stream = mover.join().unwrap();
            let reader = spawn(move || stream.read(&mut [0; 8]).unwrap());
            yield_now();
            peer.write_all(b"back").unwrap();
            assert_eq!(reader.join().unwrap(), 4);
        }
    });
}

#[test]
fn two_threads_may_share_a_stream() {
    const ROUNDS: u32 = 2000;
    deadline(60, || {
        let (client, server) = pair();
        let client = Arc::new(client);
        let echo = spawn(move || {
            let mut buf = [0; 1024];
            loop {
                match (&server).read(&mut buf).unwrap() {
                    0 => return,
                    count => (&server).write_all(&buf[..count]).unwrap(),
                }
            }
        });
        // One writes, the other reads, on the same descriptor.
        let reader = thread::spawn({
            let client = client.clone();
            move || {
                for round in 0..ROUNDS {
                    let mut got = [0; 4];
                    (&*client).read_exact(&mut got).unwrap();
                    assert_eq!(u32::from_ne_bytes(got), round);
                }
            }
        });
        for round in 0..ROUNDS {
            (&*client).write_all(&round.to_ne_bytes()).unwrap();
            if round % 16 == 0 {
                yield_now();
            }
        }
        while !reader.is_finished() {
            sleep(Duration::from_millis(1));
        }
        reader.join().unwrap();
        client.close();
        echo.join().unwrap();
    });
}

#[test]
fn readers_on_two_threads_both_see_the_end() {
    deadline(60, || {
        for round in 0..20 {
            let (peer, stream) = pair_with_peer();
            let stream = Arc::new(stream);
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let stream = stream.clone();
                    thread::spawn(move || (&*stream).read(&mut [0; 8]).unwrap())
                })
                .collect();
            thread::sleep(Duration::from_micros(100 * round));
            drop(peer);
            for thread in threads {
                assert_eq!(thread.join().unwrap(), 0);
            }
        }
    });
}

#[test]
fn threads_that_share_a_listener_serve_everybody() {
    const CLIENTS: usize = 200;
    deadline(60, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = Arc::new(listener);
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let shared = listener.clone();
                let own = listener.try_clone().unwrap();
                thread::spawn(move || {
                    // Some by one descriptor, some by one of their own.
                    let listener = if n == 0 { &own } else { &*shared };
                    let mut served = 0;
                    while let Ok((mut stream, _)) = listener.accept() {
                        stream.write_all(b"served").unwrap();
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                spawn(move || {
                    let mut text = String::new();
                    TcpStream::connect(addr).unwrap().read_to_string(&mut text).unwrap();
                    assert_eq!(text, "served");
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        listener.close();
        let served: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(served, CLIENTS);
    });
}

#[test]
fn a_stream_may_be_dropped_on_another_thread_while_a_clone_lives() {
    deadline(60, || {
        for _ in 0..20 {
            let (mut peer, stream) = pair_with_peer();
            let mut clone = stream.try_clone().unwrap();
            register(&stream);
            thread::spawn(move || drop(stream)).join().unwrap();
            // The number is free, and the next to come gets it.
            let (mut next_peer, mut next) = pair_with_peer();
            let readers = [
                spawn(move || clone.read(&mut [0; 8]).unwrap()),
                spawn(move || next.read(&mut [0; 8]).unwrap()),
            ];
            yield_now();
            peer.write_all(b"to the clone").unwrap();
            next_peer.write_all(b"next").unwrap();
            let counts = readers.map(|reader| reader.join().unwrap());
            assert_eq!(counts, [8, 4]);
        }
    });
}

#[test]
fn a_clone_that_std_has_taken_does_not_block_the_thread() {
    deadline(60, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        // std's user expects a blocking listener.
        let std_listener = std::net::TcpListener::from(listener.try_clone().unwrap());
        assert!(!crate::sockets::is_nonblocking(&std_listener));
        let acceptor = spawn(move || (listener.accept().unwrap(), listener));
        for _ in 0..10 {
            sleep(Duration::from_millis(1)); // nothing would run if it blocked
        }
        assert!(!acceptor.is_finished());
        let client = TcpStream::connect(addr).unwrap();
        let ((_, peer), listener) = acceptor.join().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        // The last of the kind restores the mode of its user as well.
        listener.set_nonblocking(true).unwrap();
        assert!(crate::sockets::is_nonblocking(&std::net::TcpListener::from(listener)));
        drop(std_listener);
    });
}

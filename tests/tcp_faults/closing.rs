//! `close`, kills, and what destructors do.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use greenling::error::Killed;
use greenling::net::{TcpListener, TcpStream};
use greenling::{hub, sleep, spawn, yield_now};

use crate::common::deadline;
use crate::sockets::Full;
use crate::{pair, pair_with_peer};

fn assert_closed<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn close_wakes_whoever_waits_for_the_stream() {
    deadline(60, || {
        for _ in 0..20 {
            let (_peer, stream) = pair_with_peer();
            let stream = Rc::new(stream);
            let wait = |operation: fn(&TcpStream) -> io::Result<usize>| {
                let stream = stream.clone();
                spawn(move || operation(&stream))
            };
            let waiting = [
                wait(|mut stream| stream.read(&mut [0; 8])),
                wait(|mut stream| stream.read(&mut [0; 8])),
                wait(|stream| stream.peek(&mut [0; 8])),
                wait(|mut stream| {
                    let all = vec![0; 1 << 20];
                    loop {
                        stream.write_all(&all)?;
                    }
                }),
            ];
            sleep(Duration::from_millis(2));
            assert!(waiting.iter().all(|waiter| !waiter.is_finished()));
            stream.close();
            for waiter in waiting {
                assert_closed(waiter.join().unwrap());
            }
        }
    });
}

#[test]
fn after_close_every_operation_fails() {
    deadline(60, || {
        let (mut peer, stream) = pair_with_peer();
        let mut clone = stream.try_clone().unwrap();
        stream.close();
        stream.close();
        let mut io = &stream;
        assert_closed(io.read(&mut [0; 8]));
        assert_closed(io.read_vectored(&mut []));
        assert_closed(io.write(b"x"));
        assert_closed(io.write_vectored(&[]));
        assert_closed(stream.peek(&mut [0; 8]));
        assert_closed(stream.peer_addr());
        assert_closed(stream.local_addr());
        assert_closed(stream.shutdown(Shutdown::Both));
        assert_closed(stream.try_clone());
        assert_closed(stream.set_read_timeout(None));
        assert_closed(stream.set_nonblocking(true));
        assert_closed(stream.take_error());
        // The peer and the clone see the end of the connection.
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(clone.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(clone.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn what_was_written_before_close_arrives() {
    deadline(60, || {
        let (mut peer, mut stream) = pair_with_peer();
        stream.write_all(b"last words").unwrap();
        stream.close();
        drop(stream);
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words");
    });
}

#[test]
fn close_wakes_whoever_accepts() {
    deadline(60, || {
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let addr = listener.local_addr().unwrap();
        let accepting: Vec<_> = (0..3)
            .map(|_| {
                let listener = listener.clone();
                spawn(move || listener.accept())
            })
            .collect();
        yield_now();
        listener.close();
        for acceptor in accepting {
            assert_closed(acceptor.join().unwrap());
        }
        assert_closed(listener.accept());
        assert_closed(listener.local_addr());
        let error = TcpStream::connect(addr).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn close_wakes_those_on_other_threads() {
    deadline(60, || {
        for round in 0..50 {
            let (_peer, stream) = pair_with_peer();
            let stream = Arc::new(stream);
            let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let (stream, listener) = (stream.clone(), listener.clone());
                    std::thread::spawn(move || {
                        let reader = spawn(move || (&*stream).read(&mut [0; 8]));
                        let acceptor = spawn(move || listener.accept());
                        assert_closed(reader.join().unwrap());
                        assert_closed(acceptor.join().unwrap());
                    })
                })
                .collect();
            // From before they wait to long after.
            sleep(Duration::from_micros(40 * round));
            stream.close();
            listener.close();
            for thread in threads {
                thread.join().unwrap();
            }
        }
    });
}

#[test]
fn an_operation_that_meets_close_fails_as_all_later_ones() {
    deadline(60, || {
        for _ in 0..300 {
            let (_peer, stream) = pair_with_peer();
            stream.set_nonblocking(true).unwrap();
            let stream = Arc::new(stream);
            // Most of the time it is inside of a read or write, so close comes in the midst of one.
            let busy = [true, false].map(|reads| {
                let stream = stream.clone();
                std::thread::spawn(move || {
                    loop {
                        let mut stream = &*stream;
                        let result =
                            if reads { stream.read(&mut [0; 8]) } else { stream.write(b"x") };
                        match result {
                            Ok(count) => assert_eq!(count, 1, "the end of the stream"),
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                            Err(error) => return error.raw_os_error(),
                        }
                    }
                })
            });
            std::thread::sleep(Duration::from_micros(200));
            stream.close();
            for thread in busy {
                assert_eq!(thread.join().unwrap(), Some(libc::EBADF));
            }
        }
    });
}

#[test]
fn a_number_that_is_used_again_starts_clean() {
    deadline(60, || {
        // Each stream has the numbers of the one before, which was registered and drained.
        for round in 0..50 {
            let (mut peer, stream) = pair_with_peer();
            let stream = Rc::new(stream);
            let reader = spawn({
                let stream = stream.clone();
                move || (&*stream).read(&mut [0; 64])
            });
            yield_now();
            if round % 3 == 0 {
                stream.close();
                assert_closed(reader.join().unwrap());
            } else {
                peer.write_all(b"hello").unwrap();
                assert_eq!(reader.join().unwrap().unwrap(), 5);
            }
        }
    });
}

#[test]
fn a_kill_ends_every_kind_of_wait() {
    deadline(60, || {
        let full = Full::new();
        let addr = full.addr;
        let (_reader_peer, reader) = pair();
        let (_writer_peer, writer) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let victims = [
            spawn(move || drop((&reader).read(&mut [0; 8]))),
            spawn(move || drop((&writer).write(&vec![0; 64 << 20]))),
            spawn(move || drop(listener.accept())),
            spawn(move || drop(TcpStream::connect(addr))),
        ];
        sleep(Duration::from_millis(5));
        for victim in victims {
            assert!(!victim.is_finished());
            victim.kill();
            assert!(victim.join().unwrap_err().is::<Killed>());
        }
    });
}

#[test]
fn a_destructor_may_use_a_socket_during_unwinding() {
    struct Farewell(TcpStream);
    impl Drop for Farewell {
        fn drop(&mut self) {
            self.0.write_all(b"goodbye").unwrap();
            let mut answer = [0; 4];
            self.0.read_exact(&mut answer).unwrap(); // has to wait
            assert_eq!(&answer, b"bye!");
        }
    }
    deadline(60, || {
        let (mut peer, stream) = pair_with_peer();
        let peer = std::thread::spawn(move || {
            let mut text = [0; 7];
            peer.read_exact(&mut text).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            peer.write_all(b"bye!").unwrap();
            text
        });
        let farewell = Farewell(stream);
        let victim = spawn(move || {
            let _farewell = farewell;
            sleep(Duration::from_secs(3600));
        });
        yield_now();
        // Nobody may run meanwhile, who would find the thread panicking.
        let ended = Rc::new(Cell::new(false));
        let witness = spawn({
            let ended = ended.clone();
            move || {
                while !ended.get() {
                    assert!(!std::thread::panicking());
                    yield_now();
                }
            }
        });
        victim.kill();
        assert!(victim.join().unwrap_err().is::<Killed>());
        ended.set(true);
        witness.join().unwrap();
        assert_eq!(&peer.join().unwrap(), b"goodbye");
    });
}

#[test]
fn two_readers_of_one_stream_both_wake() {
    deadline(60, || {
        let (mut peer, stream) = pair_with_peer();
        let stream = Rc::new(stream);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let stream = stream.clone();
                spawn(move || {
                    let mut byte = [0];
                    (&*stream).read(&mut byte).map(|count| (count, byte[0]))
                })
            })
            .collect();
        yield_now();
        peer.write_all(b"ab").unwrap();
        let mut got: Vec<_> = readers.into_iter().map(|r| r.join().unwrap().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, [(1, b'a'), (1, b'b')]);
        // The end is for everybody.
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let stream = stream.clone();
                spawn(move || (&*stream).read(&mut [0; 8]))
            })
            .collect();
        yield_now();
        drop(peer);
        for reader in readers {
            assert_eq!(reader.join().unwrap().unwrap(), 0);
        }
    });
}

#[test]
fn a_dropped_stream_is_not_watched_any_more() {
    deadline(60, || {
        let (mut peer, stream) = pair_with_peer();
        // The connection lives on in a clone, and with it what epoll knows of it.
        let clone = stream.try_clone().unwrap();
        let reader = spawn(move || (&stream).read(&mut [0; 8]));
        yield_now();
        peer.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 1); // and the stream is dropped
        let before = hub::stats().events;
        for _ in 0..20 {
            peer.write_all(b"x").unwrap();
            sleep(Duration::from_millis(1));
        }
        assert_eq!(hub::stats().events, before);
        (&clone).read_exact(&mut [0; 20]).unwrap();
    });
}

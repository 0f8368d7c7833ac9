//! Peers that misbehave.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::net::{TcpListener, TcpStream};
use greenling::{hub, sleep, spawn, yield_now};

use crate::common::deadline;
use crate::sockets::{Full, reset_at_close};
use crate::{pair, pair_with_peer};

/// Reads until the end of the stream or an error, in pieces that are never filled, so that after each the
/// socket counts as drained.
fn read_all(mut stream: &TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    loop {
        let mut buf = [0; 512];
        match stream.read(&mut buf) {
            Ok(0) => return (all, Ok(())),
            Ok(count) => all.extend_from_slice(&buf[..count]),
            Err(error) => return (all, Err(error)),
        }
    }
}

/// How the end of a connection may lie in time to the data before it and to the reader.
const ORDERS: [&str; 5] = [
    "all before the first read",
    "all while the reader waits",
    "the end when the reader has been woken but has not read",
    "the end when the reader waits again",
    "a pause between",
];

/// Plays `end` behind data in every order, and gives what the reader made of it to `check`.
fn behind_data(end: fn(std::net::TcpStream), check: fn(&str, Vec<u8>, io::Result<()>)) {
    for (order, name) in ORDERS.iter().enumerate() {
        for first_waits in [false, true] {
            let (mut peer, stream) = pair_with_peer();
            if first_waits {
                // From here on it is registered, and drained.
                peer.write_all(b"0").unwrap();
                assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 1);
                stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                (&stream).read(&mut [0; 8]).unwrap_err();
                stream.set_read_timeout(None).unwrap();
            }
            let spawn_reader = || spawn(move || read_all(&stream));
            let reader = if order == 0 {
                peer.write_all(b"data").unwrap();
                end(peer);
                spawn_reader()
            } else {
                let reader = spawn_reader();
                yield_now();
                peer.write_all(b"data").unwrap();
                match order {
                    1 => {}
                    2 => yield_now(),
                    3 => (0..200).for_each(|_| yield_now()),
                    _ => sleep(Duration::from_millis(5)),
                }
                end(peer);
                reader
            };
            let (data, result) = reader.join().unwrap();
            check(name, data, result);
        }
    }
}

#[test]
fn a_reset_behind_data_does_not_hang_the_reader() {
    deadline(60, || {
        behind_data(
            |peer| reset_at_close(&peer),
            |order, data, result| {
                assert_eq!(data, b"data", "{order}");
                let error = result.expect_err(order);
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{order}");
            },
        );
    });
}

#[test]
fn the_end_of_the_stream_behind_data_is_found() {
    deadline(60, || {
        behind_data(drop, |order, data, result| {
            assert_eq!(data, b"data", "{order}");
            result.expect(order);
        });
    });
}

#[test]
fn a_half_close_behind_data_is_found_and_answered() {
    deadline(60, || {
        for _ in 0..20 {
            let (mut peer, stream) = pair_with_peer();
            let reader = spawn(move || {
                let (data, result) = read_all(&stream);
                result.unwrap();
                (&stream).write_all(&data).unwrap();
            });
            yield_now();
            peer.write_all(b"request").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            reader.join().unwrap();
            let mut answer = String::new();
            peer.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "request");
        }
    });
}

fn send_urgent(peer: &std::net::TcpStream) {
    let flags = libc::MSG_OOB | libc::MSG_NOSIGNAL;
    // SAFETY: the buffer is one byte long.
    let sent = unsafe { libc::send(peer.as_raw_fd(), b"!".as_ptr().cast(), 1, flags) };
    assert_eq!(sent, 1, "{}", io::Error::last_os_error());
}

#[test]
fn urgent_data_in_mid_stream_does_not_hang_the_reader() {
    deadline(60, || {
        // A read stops short at the urgent byte although there is more behind it.
        let pauses: [fn(); 3] = [|| {}, yield_now, || sleep(Duration::from_millis(1))];
        for (before, behind) in pauses.iter().flat_map(|p| pauses.iter().map(move |q| (p, q))) {
            for reads_first in [false, true] {
                let (peer, stream) = pair_with_peer();
                let spawn_reader = || spawn(move || read_all(&stream));
                let write = move || {
                    let mut peer = peer;
                    for _ in 0..10 {
                        peer.write_all(b"abc").unwrap();
                        before();
                        send_urgent(&peer);
                        behind();
                        peer.write_all(b"def").unwrap();
                    }
                };
                let reader = if reads_first {
                    let reader = spawn_reader();
                    yield_now();
                    write();
                    reader
                } else {
                    write();
                    spawn_reader()
                };
                let (data, result) = reader.join().unwrap();
                result.unwrap();
                // An urgent byte that another overtakes becomes ordinary data.
                let text = String::from_utf8(data).unwrap().replace('!', "");
                assert_eq!(text, "abcdef".repeat(10));
            }
        }
    });
}

#[test]
fn what_is_behind_urgent_data_is_read_while_the_peer_waits() {
    deadline(60, || {
        let (mut peer, stream) = pair_with_peer();
        let reader = spawn(move || {
            let mut text: Vec<u8> = Vec::new();
            while text.len() < 6 * 20 {
                let mut buf = [0; 64];
                let count = (&stream).read(&mut buf).unwrap();
                text.extend(buf[..count].iter().filter(|&&byte| byte != b'!'));
            }
            text
        });
        for _ in 0..20 {
            yield_now(); // the reader waits
            peer.write_all(b"abc").unwrap();
            send_urgent(&peer);
            peer.write_all(b"def").unwrap();
            sleep(Duration::from_millis(1));
        }
        assert_eq!(reader.join().unwrap(), b"abcdef".repeat(20));
    });
}

#[test]
fn a_peer_that_never_reads_harms_nobody_else() {
    deadline(60, || {
        let (peer, stuck) = pair_with_peer();
        let writer = spawn(move || (&stuck).write_all(&vec![7; 64 << 20]));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = spawn(move || {
            for stream in listener.incoming().take(50) {
                let mut stream = stream.unwrap();
                spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap());
            }
        });
        let clients: Vec<_> = (0..50u8)
            .map(|n| {
                spawn(move || {
                    let mut stream = TcpStream::connect(addr).unwrap();
                    for round in 0..20 {
                        let sent = [n, round];
                        stream.write_all(&sent).unwrap();
                        let mut got = [0; 2];
                        stream.read_exact(&mut got).unwrap();
                        assert_eq!(got, sent);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        server.join().unwrap();
        assert!(!writer.is_finished());
        reset_at_close(&peer);
        drop(peer);
        assert!(writer.join().unwrap().is_err());
    });
}

#[test]
fn a_peer_that_reads_slowly_gets_everything() {
    deadline(60, || {
        let (client, mut server) = pair();
        let block: Vec<u8> = (0..249).collect();
        let data: Rc<[u8]> = block.repeat(30_000).into();
        let sent = data.clone();
        let writer = spawn(move || {
            assert_eq!((&client).write(&sent).unwrap(), sent.len());
        });
        let mut got = Vec::new();
        let mut buf = vec![0; 100_000];
        loop {
            match server.read(&mut buf).unwrap() {
                0 => break,
                count => got.extend_from_slice(&buf[..count]),
            }
            yield_now();
        }
        writer.join().unwrap();
        assert!(got[..] == data[..]);
    });
}

#[test]
fn connecting_waits_cooperatively_until_the_queue_has_room() {
    deadline(60, || {
        let full = Full::new();
        let addr = full.addr;
        let ticks = hub::stats().switches;
        let connecting = spawn(move || TcpStream::connect(addr));
        for _ in 0..20 {
            sleep(Duration::from_millis(5));
        }
        assert!(hub::stats().switches > ticks + 20);
        assert!(!connecting.is_finished());
        // The system sends the request again after a second or three.
        let listener = full.accept_all();
        connecting.join().unwrap().unwrap();
        drop(listener);
    });
}

#[test]
fn a_connect_timeout_lets_the_others_run() {
    deadline(60, || {
        let full = Full::new();
        let addr = full.addr;
        let start = Instant::now();
        let attempts: Vec<_> = (0..10)
            .map(|_| spawn(move || TcpStream::connect_timeout(&addr, Duration::from_millis(200))))
            .collect();
        for attempt in attempts {
            let error = attempt.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        assert!(start.elapsed() < Duration::from_secs(1), "one after the other");
    });
}

#[test]
fn data_in_time_counts_even_if_the_hub_was_busy_past_the_deadline() {
    deadline(60, || {
        let (mut peer, stream) = pair_with_peer();
        stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        let reader = spawn(move || (&stream).read(&mut [0; 8]));
        yield_now();
        peer.write_all(b"early").unwrap();
        std::thread::sleep(Duration::from_millis(60)); // blocks the thread, as long computing does
        assert_eq!(reader.join().unwrap().unwrap(), 5);
    });
}

#[test]
fn a_stream_that_is_always_ready_lets_others_run() {
    deadline(60, || {
        let (mut peer, stream) = pair_with_peer();
        let feeder = std::thread::spawn(move || while peer.write_all(&[1; 65536]).is_ok() {});
        let reader = spawn(move || {
            let mut buf = vec![0; 4096];
            loop {
                if (&stream).read(&mut buf).unwrap() == 0 {
                    return;
                }
            }
        });
        let start = Instant::now();
        for _ in 0..20 {
            sleep(Duration::from_millis(1));
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(!reader.is_finished());
        reader.kill();
        assert!(reader.join().is_err());
        feeder.join().unwrap();
    });
}

//! Unmodified blocking code waits as coroutines do.

#![cfg(feature = "patch")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::deadline;
use greenling::{join_all, patch, spawn};

#[test]
fn std_sockets_echo_on_one_thread() {
    deadline(30, || {
        patch::all();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                spawn(move || {
                    let mut buf = [0; 1024];
                    loop {
                        let count = stream.read(&mut buf).unwrap();
                        if count == 0 {
                            return;
                        }
                        stream.write_all(&buf[..count]).unwrap();
                    }
                });
            }
        });
        let clients = (0..100).map(|n: u32| {
            spawn(move || {
                let mut stream = TcpStream::connect(addr).unwrap();
                for round in 0..20 {
                    let sent = (n * 1000 + round).to_le_bytes();
                    stream.write_all(&sent).unwrap();
                    let mut got = [0; 4];
                    stream.read_exact(&mut got).unwrap();
                    assert_eq!(sent, got);
                }
            })
        });
        for result in join_all(clients) {
            result.unwrap();
        }
    });
}

#[test]
fn sleeps_overlap() {
    deadline(30, || {
        patch::all();
        let start = Instant::now();
        let sleepers = (0..100).map(|_| spawn(|| std::thread::sleep(Duration::from_millis(100))));
        for result in join_all(sleepers) {
            result.unwrap();
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(3), "{took:?}");
    });
}

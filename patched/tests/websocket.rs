//! tungstenite, at both ends.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use greenling::{patch, spawn};
use greenling_patched::{deadline, overlapping};
use tungstenite::{Message, WebSocket};

const DELAY: Duration = Duration::from_millis(20);
const ROUNDS: usize = 10;

/// Sends each message back after a while, until the peer closes.
fn serve(stream: TcpStream) {
    let mut socket = tungstenite::accept(stream).unwrap();
    loop {
        match socket.read() {
            Ok(message) if message.is_text() || message.is_binary() => {
                thread::sleep(DELAY);
                socket.send(message).unwrap();
            }
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn client(addr: SocketAddr, n: usize) -> usize {
    let stream = TcpStream::connect(addr).unwrap();
    let (mut socket, _): (WebSocket<TcpStream>, _) =
        tungstenite::client(format!("ws://{addr}/"), stream).unwrap();
    let mut bytes = 0;
    for round in 0..ROUNDS {
        let message = Message::text(format!("{n} {round} ").repeat(2000));
        socket.send(message.clone()).unwrap();
        let answer = socket.read().unwrap();
        assert!(answer == message);
        bytes += answer.len();
    }
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    bytes
}

#[test]
fn clients_overlap() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    let serial = DELAY * 100 * ROUNDS as u32;
    overlapping("tungstenite client: 10 echoes of 20 ms", 100, serial, move |n| client(addr, n));
}

#[test]
fn servers_and_clients_share_a_thread() {
    deadline(60, || {
        patch::all();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let acceptor = spawn(move || {
            let serving =
                listener.incoming().take(50).map(|stream| spawn(|| serve(stream.unwrap())));
            for one in serving.collect::<Vec<_>>() {
                one.join().unwrap();
            }
        });
        let clients: Vec<_> = (0..50).map(|n| spawn(move || client(addr, n))).collect();
        for one in clients {
            assert!(one.join().unwrap() > 0);
        }
        acceptor.join().unwrap();
    });
}

//! minreq as a client; tiny_http as a server, whose threads are not patched while its clients are.

use std::io::Read;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use greenling::{patch, spawn};
use greenling_patched::{deadline, overlapping, slow_http_server};
use tiny_http::{Response, Server};

#[test]
fn minreq_overlaps() {
    let addr = slow_http_server(Duration::from_millis(100));
    let serial = Duration::from_secs(20);
    overlapping("minreq: requests of 100 ms", 200, serial, move |_| {
        let answer = minreq::get(format!("http://{addr}/")).send().unwrap();
        answer.as_str().unwrap().to_owned()
    });
}

/// Its time limit is a socket's; it holds for connecting and for reading.
#[test]
fn the_time_limit_of_minreq_is_kept() {
    let addr = slow_http_server(Duration::from_secs(60));
    overlapping("minreq: time limit of 1 s", 20, Duration::from_secs(20), move |_| {
        minreq::get(format!("http://{addr}/")).with_timeout(1).send().is_err()
    });
}

/// Its requests are taken from a queue by coroutines, a hundred at once, of one thread.
#[test]
fn tiny_http_serves_from_coroutines() {
    deadline(60, || {
        patch::all();
        let server = std::sync::Arc::new(Server::http("127.0.0.1:0").unwrap());
        let addr = server.server_addr().to_ip().unwrap();
        let taking = spawn(move || {
            let mut serving = Vec::new();
            for _ in 0..100 {
                let request = server.recv().unwrap();
                serving.push(spawn(move || {
                    thread::sleep(Duration::from_millis(100));
                    let text = format!("you want {}", request.url());
                    request.respond(Response::from_string(text)).unwrap();
                }));
            }
            serving.into_iter().for_each(|one| one.join().unwrap());
        });
        let start = std::time::Instant::now();
        let clients: Vec<_> = (0..100)
            .map(|n| {
                spawn(move || {
                    let answer = minreq::get(format!("http://{addr}/{n}")).send().unwrap();
                    assert_eq!(answer.as_str().unwrap(), format!("you want /{n}"));
                })
            })
            .collect();
        clients.into_iter().for_each(|one| one.join().unwrap());
        taking.join().unwrap();
        let took = start.elapsed();
        println!("| tiny_http: requests of 100 ms, answered by coroutines | 100 | {took:.2?} | |");
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
}

/// A client that hangs up in the middle is an error for its coroutine alone.
#[test]
fn tiny_http_survives_a_client_that_goes() {
    deadline(60, || {
        patch::all();
        let server = Server::http("127.0.0.1:0").unwrap();
        let addr = server.server_addr().to_ip().unwrap();
        let serving = spawn(move || {
            for _ in 0..2 {
                let request = server.recv().unwrap();
                let size = 10_000_000;
                let endless = std::io::repeat(b'x').take(size);
                let _ = request.respond(Response::new(
                    200.into(),
                    Vec::new(),
                    endless,
                    Some(size as usize),
                    None,
                ));
            }
        });
        let gone = spawn(move || {
            use std::io::Write;
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 100]).unwrap();
        });
        gone.join().unwrap();
        let stays = spawn(move || minreq::get(format!("http://{addr}/")).send().unwrap());
        assert_eq!(stays.join().unwrap().as_bytes().len(), 10_000_000);
        serving.join().unwrap();
    });
}

//! `web_proxy`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::example::{DEADLINE, Example, connect};
use super::{Dir, have, noise, play, reset, run, succeed, until};

fn proxy(options: &[&str]) -> (Example, SocketAddr) {
    Example::serve("web_proxy", options)
}

/// curl by way of the proxy; quiet, but for errors.
fn curl(proxy: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "50", "--noproxy", "", "-x", &format!("http://{proxy}")]);
    command.args(arguments).env_remove("no_proxy").env_remove("NO_PROXY");
    command
}

/// Reads a request up to its empty line.
fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A server that answers each request with this, and closes.
fn answering(answer: &'static [u8]) -> String {
    play(move |mut stream| {
        read_head(&mut stream)?;
        stream.write_all(answer)
    })
}

/// A server that answers with the head of the request.
fn telling() -> String {
    play(|mut stream| {
        let head = read_head(&mut stream)?;
        let length = head.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}")
    })
}

/// Sends a request as it stands; gives all that comes until the end.
fn ask(proxy: SocketAddr, request: &str) -> String {
    let mut stream = connect(proxy);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Python's web server over a directory; and how to end it.
struct Origin {
    child: std::process::Child,
    address: String,
    dir: Dir,
}

impl Origin {
    fn start() -> Origin {
        let dir = Dir::new();
        // The port was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1", &address.port().to_string()])
            .current_dir(&dir.0)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let origin = Origin { child, address: address.to_string(), dir };
        until("the web server listens", || TcpStream::connect(address).is_ok());
        origin
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn curl_gets_files_plainly_and_through_a_tunnel() {
    if !have("curl") || !have("python3") {
        return;
    }
    let origin = Origin::start();
    let data = noise(2_000_000);
    std::fs::write(origin.dir.path("large"), &data).unwrap();
    std::fs::write(origin.dir.path("small"), "hello\n").unwrap();
    let (server, address) = proxy(&[]);
    let (large, small) =
        (format!("http://{}/large", origin.address), format!("http://{}/small", origin.address));

    assert!(run(&mut curl(address, &[&large]), b"").stdout == data, "the file is another");
    assert!(run(&mut curl(address, &["-p", &large]), b"").stdout == data, "the file is another");
    let head = succeed(&mut curl(address, &["-I", &large]), b"");
    assert!(head.contains("Content-Length: 2000000"), "{head}");

    // Several at once, over one connection: the client sees that it is kept.
    let verbose = run(&mut curl(address, &["-v", &small, &small, &small]), b"");
    assert_eq!(verbose.stdout, b"hello\nhello\nhello\n");
    let said = String::from_utf8_lossy(&verbose.stderr);
    assert_eq!(said.matches("e-using").count(), 2, "{said}");

    let missing = format!("http://{}/missing", origin.address);
    let code = ["-o", "/dev/null", "-w", "%{http_code}"];
    let status = succeed(&mut curl(address, &[&code[..], &[&missing]].concat()), b"");
    assert_eq!(status, "404");
    server.signal(libc::SIGTERM);
    let output = server.succeed();
    assert!(output.contains("served 5 clients, 7 requests"), "{output}");
}

#[test]
fn bodies_go_up_with_their_length_or_in_chunks_and_when_the_server_asks_for_them() {
    if !have("curl") {
        return;
    }
    // A server that says what it got, and that it will have the body.
    let origin = play(|mut stream| {
        let head = read_head(&mut stream)?;
        let lower = head.to_lowercase();
        if lower.contains("expect: 100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = Vec::new();
        match lower.split("content-length: ").nth(1) {
            Some(rest) => {
                let length = rest.split("\r\n").next().unwrap().parse().unwrap();
                (&mut stream).take(length).read_to_end(&mut body)?;
            }
            None => {
                assert!(lower.contains("transfer-encoding: chunked"), "{head}");
                while !body.ends_with(b"0\r\n\r\n") {
                    let mut byte = [0; 1];
                    stream.read_exact(&mut byte)?;
                    body.push(byte[0]);
                }
            }
        }
        let answer = format!("{} bytes, {}", body.len(), lower.contains("expect"));
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
    });
    let (_server, address) = proxy(&[]);
    let url = format!("http://{origin}/");
    let data = vec![b'x'; 3_000_000];
    let sized = ["--data-binary", "@-", "-H", "Expect: 100-continue", &url];
    let start = Instant::now();
    assert_eq!(succeed(&mut curl(address, &sized), &data), "3000000 bytes, true");
    assert!(start.elapsed() < Duration::from_secs(30));
    let chunked = ["-X", "POST", "-T", "-", "-H", "Expect:", &url];
    assert_eq!(succeed(&mut curl(address, &chunked), b"12345"), "15 bytes, false");
}

#[test]
fn a_server_that_answers_before_it_has_the_body_is_heard() {
    if !have("curl") {
        return;
    }
    let origin = play(|mut stream| {
        read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")?;
        stream.shutdown(Shutdown::Write)?;
        std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
    });
    let (_server, address) = proxy(&[]);
    let url = format!("http://{origin}/");
    let arguments = ["--data-binary", "@-", "-H", "Expect:", "-w", "%{http_code}", &url];
    let output = run(&mut curl(address, &arguments), &vec![b'x'; 20_000_000]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "no!413");
}

#[test]
fn what_is_for_the_proxy_does_not_reach_the_server() {
    let (_server, address) = proxy(&[]);
    let origin = telling();
    let answer = ask(
        address,
        &format!(
            "GET http://{origin}/path?query HTTP/1.1\r\nHost: other.example\r\nProxy-Connection: close\r\n\
             Proxy-Authorization: Basic c2VjcmV0\r\nConnection: X-Private\r\nX-Private: 1\r\n\
             X-Public: 2\r\n\r\n"
        ),
    );
    let told = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(told.starts_with("GET /path?query HTTP/1.1\r\n"), "{told}");
    assert!(told.contains(&format!("Host: {origin}\r\n")), "{told}");
    assert!(told.contains("X-Public: 2") && told.contains("Via: 1.1 greenling-"), "{told}");
    for gone in ["other.example", "X-Private", "Proxy-", "c2VjcmV0"] {
        assert!(!told.contains(gone), "{gone} in {told}");
    }
}

#[test]
fn answers_of_unknown_length_end_with_the_connection_and_old_clients_get_no_chunks() {
    let (_server, address) = proxy(&[]);
    let endless = answering(b"HTTP/1.1 200 OK\r\n\r\nuntil the end");
    let answer = ask(address, &format!("GET http://{endless}/ HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(answer.contains("Connection: close") && answer.ends_with("until the end"), "{answer}");

    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        3;extension=1\r\nabc\r\n4\r\ndefg\r\n0\r\nTrailer: 1\r\n\r\n";
    let chunked = answering(chunked);
    let request = format!("GET http://{chunked}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = ask(address, &request);
    assert!(answer.contains("Transfer-Encoding: chunked"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"), "{answer}");
    let answer = ask(address, &format!("GET http://{chunked}/ HTTP/1.0\r\n\r\n"));
    assert!(!answer.contains("chunked") && answer.ends_with("\r\n\r\nabcdefg"), "{answer}");
}

#[test]
fn what_can_be_understood_in_two_ways_is_refused() {
    let (server, address) = proxy(&[]);
    let origin = telling();
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: \r\n",
        "Content-Length: 5,\r\n",
        "Transfer-Encoding: \r\nContent-Length: 5\r\n",
        "Transfer-Encoding: \u{a0}chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 5\r\n",
        "X: y\r\n Content-Length: 5\r\n",
        "X: y\nContent-Length: 5\r\n",
        "X: y\rContent-Length: 5\r\n",
        "X: \0\r\n",
        "Host: y\r\n",
        "Broken field: 1\r\n",
    ] {
        let answer = ask(
            address,
            &format!("POST http://{origin}/ HTTP/1.1\r\nHost: x\r\n{fields}\r\nhello"),
        );
        assert!(answer.starts_with("HTTP/1.1 400 "), "{fields}: {answer}");
    }
    for target in [
        "/path",
        "https://x/",
        "http://",
        "http:///",
        "http://user@x/",
        "http://x:99999/",
        "http://[::1/",
        "http://*/",
        "*",
    ] {
        let answer = ask(address, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    let answer = ask(address, &format!("GET http://{origin}/ HTTP/1.1\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 400 "), "no Host: {answer}");
    for target in [
        "example.org",
        "example.org:0",
        "example.org:+443",
        "example.org:",
        ":443",
        "[::1:443",
        "[]:443",
        "::1:443",
        "a b:443",
        "*:443",
        "http://example.org:443/",
    ] {
        let answer = ask(address, &format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    // What is no chunk ends the request, and the server misses the rest of it.
    for chunks in ["5\nhello\r\n0\r\n\r\n", "-5\r\nhello", "5\r\nhelloX", "10000000000000000\r\n"] {
        let fields = "Host: x\r\nTransfer-Encoding: chunked";
        let head = format!("POST http://{origin}/ HTTP/1.1\r\n{fields}\r\n\r\n");
        let answer = ask(address, &format!("{head}{chunks}GET http://{origin}/2 HTTP/1.1\r\n\r\n"));
        assert!(!answer.contains("GET /2"), "{chunks:?}: {answer}");
    }
    let long = format!("GET http://{origin}/ HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    assert!(ask(address, &long).starts_with("HTTP/1.1 400 "));
    let plain = |target: &str, fields: &str| {
        let close = "Host: x\r\nConnection: close";
        ask(address, &format!("GET {target} HTTP/1.1\r\n{close}\r\n{fields}\r\n"))
    };
    let answer = plain(&format!("http://{address}/"), "");
    assert!(answer.starts_with("HTTP/1.1 400 "), "the proxy is no server: {answer}");
    // What it has sent on once, it knows again.
    let told = plain(&format!("http://{origin}/"), "");
    let via = told.lines().rfind(|line| line.starts_with("Via: ")).unwrap();
    let answer = plain(&format!("http://{origin}/"), &format!("{via}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 508 "), "{answer}");
    server.signal(libc::SIGINT);
    server.succeed();
}

#[test]
fn servers_that_fail_are_reported_and_half_answers_are_cut_visibly() {
    let (server, address) = proxy(&[]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for method in ["GET http://", "CONNECT "] {
        let end = if method == "CONNECT " { "" } else { "/" };
        let answer = ask(address, &format!("{method}{nobody}{end} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    }
    for nonsense in [&b"nonsense\r\n\r\n"[..], b"", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
    {
        let origin = answering(nonsense);
        let answer = ask(address, &format!("GET http://{origin}/ HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    }
    for half in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
    ] {
        let origin = answering(half);
        let mut stream = connect(address);
        write!(stream, "GET http://{origin}/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let error = stream.read_to_end(&mut Vec::new()).expect_err("half is not all");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let torn = play(|mut stream| {
        read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf")?;
        thread::sleep(Duration::from_millis(50));
        reset(stream);
        Ok(())
    });
    let mut stream = connect(address);
    write!(stream, "GET http://{torn}/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(stream.read_to_end(&mut Vec::new()).is_err(), "a reset is no end");
    server.signal(libc::SIGTERM);
    server.succeed();
}

#[test]
fn slow_and_silent_peers_are_given_up_and_nothing_leaks() {
    let (server, address) = proxy(&["--idle-timeout", "1"]);
    drop(ask(address, "GET / HTTP/1.1\r\n\r\n"));
    let before = server.descriptors();
    let silent = play(|mut stream| {
        read_head(&mut stream)?;
        stream.read(&mut [0; 1]).map(drop)
    });
    let answer = ask(address, &format!("GET http://{silent}/ HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    // A tunnel on which nothing moves, and clients that say nothing, or stop in the middle.
    let mut tunnel = connect(address);
    write!(tunnel, "CONNECT {silent} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_head(&mut tunnel).unwrap();
    let mut quiet = connect(address);
    let mut half = connect(address);
    half.write_all(b"GET http://exam").unwrap();
    for stream in [&mut tunnel, &mut quiet, &mut half] {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    until("all is closed", || server.descriptors() <= before);
}

#[test]
fn requests_may_follow_each_other_without_waiting_and_tunnels_may_begin_at_once() {
    let (_server, address) = proxy(&[]);
    let origin = telling();
    let one = |n: u32| format!("GET http://{origin}/{n} HTTP/1.1\r\nHost: x\r\n\r\n");
    let last = format!("GET http://{origin}/3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = ask(address, &[one(1), one(2), last].concat());
    for n in 1..=3 {
        assert_eq!(answer.matches(&format!("GET /{n} HTTP/1.1")).count(), 1, "{answer}");
    }
    let answer = ask(
        address,
        &format!("CONNECT {origin} HTTP/1.1\r\nHost: x\r\n\r\nGET /inside HTTP/1.1\r\n\r\n"),
    );
    assert!(answer.contains("200 Connection established"), "{answer}");
    assert!(answer.ends_with("GET /inside HTTP/1.1\r\n\r\n"), "{answer}");
}

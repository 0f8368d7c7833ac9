//! What RFC 9110 and 9112 ask of a server of files.

mod common;

use std::fs;

use common::{Server, large_file};

#[test]
fn files_have_types_lengths_and_versions() {
    let server = Server::start(&[]);
    let answer = server.get("/hello.txt", "");
    assert_eq!((answer.status, answer.text()), (200, "Hello, world!\n"));
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(answer.header("content-length"), "14");
    assert_eq!(answer.header("accept-ranges"), "bytes");
    assert!(
        answer.header("date").ends_with(" GMT") && answer.header("last-modified").ends_with(" GMT")
    );
    assert!(answer.header("etag").starts_with('"'));
    assert_eq!(
        server.get("/page/index.html", "").header("content-type"),
        "text/html; charset=utf-8"
    );
    assert_eq!(server.get("/large.bin", "").body, large_file(4 << 20));
    assert_eq!(server.get("/empty", "").body, b"");
    let absolute = server.get(&format!("http://{}/digits?x=/../..", server.addr), "");
    assert_eq!(absolute.text(), "0123456789");
    server.stop();
}

#[test]
fn a_connection_serves_many_requests_also_those_that_do_not_wait() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for _ in 0..3 {
        let answer = client.ask("GET /digits HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((answer.text(), answer.header("connection")), ("0123456789", "keep-alive"));
    }
    // Pipelined: all at once, with one that fails, a body, and an end.
    client.send(
        "GET /digits HTTP/1.1\r\nHost: a\r\n\r\n\
         HEAD /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /none HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /digits HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
         GET /digits HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: x\r\n\r\n\
         GET /list/ HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /hello.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
         GET /digits HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(client.answer("GET").text(), "0123456789");
    let head = client.answer("HEAD");
    assert_eq!((head.status, head.header("content-length")), (200, "14"));
    assert_eq!(client.answer("GET").status, 404);
    assert_eq!(client.answer("GET").text(), "0123456789");
    assert_eq!(client.answer("GET").text(), "0123456789");
    assert_eq!(client.answer("GET").status, 200);
    let last = client.answer("GET");
    assert_eq!((last.text(), last.header("connection")), ("Hello, world!\n", "close"));
    client.is_closed();
    server.stop();
}

#[test]
fn http_1_0_closes_unless_it_is_asked_not_to() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let answer = client.ask("GET /digits HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert_eq!(answer.header("connection"), "keep-alive");
    let answer = client.ask("GET /digits HTTP/1.0\r\n\r\n");
    assert_eq!((answer.text(), answer.header("connection")), ("0123456789", "close"));
    client.is_closed();
    // It does not know chunks.
    let listing = server.connect().ask("GET /list/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(listing.find("transfer-encoding").is_none() && listing.text().ends_with("</html>\n"));
    server.stop();
}

#[test]
fn one_part_several_parts_and_none() {
    let server = Server::start(&[]);
    for (range, body, content_range) in [
        ("0-0", "0", "bytes 0-0/10"),
        ("2-4", "234", "bytes 2-4/10"),
        ("7-", "789", "bytes 7-9/10"),
        ("-2", "89", "bytes 8-9/10"),
        ("5-500", "56789", "bytes 5-9/10"),
    ] {
        let answer = server.get("/digits", &format!("Range: bytes={range}\r\n"));
        assert_eq!((answer.status, answer.text()), (206, body), "{range}");
        assert_eq!(answer.header("content-range"), content_range);
    }
    for whole in ["bytes=x", "bytes=4-2", "pages=1-2", "bytes=0-5,3-7"] {
        let answer = server.get("/digits", &format!("Range: {whole}\r\n"));
        assert_eq!((answer.status, answer.text()), (200, "0123456789"), "{whole}");
    }
    let beyond = server.get("/digits", "Range: bytes=10-\r\n");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */10"));
    let head = server.connect().ask("HEAD /digits HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n");
    assert_eq!((head.status, head.header("content-length")), (200, "10"));

    let several = server.get("/digits", "Range: bytes=0-1, -1\r\n");
    assert_eq!(several.status, 206);
    let kind = several.header("content-type").to_owned();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, body: &str| {
        format!(
            "--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/10\r\n\r\n{body}\r\n"
        )
    };
    assert_eq!(
        several.text(),
        part("0-1", "01") + &part("9-9", "9") + &format!("--{boundary}--\r\n")
    );

    let large = large_file(4 << 20);
    let part = server.get("/large.bin", "Range: bytes=1000000-3000000\r\n");
    assert_eq!(part.body, large[1_000_000..=3_000_000]);
    server.stop();
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let server = Server::start(&[]);
    let first = server.get("/digits", "");
    let (tag, date) = (first.header("etag").to_owned(), first.header("last-modified").to_owned());
    for condition in [
        format!("If-None-Match: {tag}\r\n"),
        format!("If-None-Match: \"x\", W/{tag}\r\n"),
        "If-None-Match: *\r\n".to_owned(),
        format!("If-Modified-Since: {date}\r\n"),
    ] {
        let answer = server.get("/digits", &condition);
        assert_eq!((answer.status, answer.header("etag")), (304, &*tag), "{condition}");
        assert!(answer.find("content-length").is_none());
    }
    assert_eq!(server.get("/digits", "If-Match: \"x\"\r\n").status, 412);
    let old = "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(server.get("/digits", old).status, 412);
    let part = |condition: &str| {
        server.get("/digits", &format!("Range: bytes=0-1\r\nIf-Range: {condition}\r\n")).status
    };
    assert_eq!((part(&tag), part(&date), part("\"x\"")), (206, 206, 200));
    fs::write(server.root.path().join("digits"), "other").unwrap();
    let changed = server.get("/digits", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((changed.status, changed.text()), (200, "other"));
    server.stop();
}

#[test]
fn directories_redirect_show_their_index_or_what_is_in_them() {
    let server = Server::start(&[]);
    let redirected = server.get("/page", "");
    assert_eq!((redirected.status, redirected.header("location")), (301, "/page/"));
    assert_eq!(server.get("//page", "").header("location"), "/page/", "never another host");
    assert!(server.get("/page/", "").text().ends_with("index\n"));
    assert_eq!(server.get("/hello.txt/", "").status, 404);
    let listing = server.get("/list/", "");
    assert_eq!(listing.header("transfer-encoding"), "chunked");
    let text = listing.text();
    assert!(text.contains("<a href=\"./a%20%26%20b.html\">a &amp; b.html</a>"), "{text}");
    assert!(text.contains("<a href=\"./sub/\">sub/</a>") && text.contains("../"), "{text}");
    assert!(!text.contains("hidden"));
    let many = server.root.path().join("many");
    fs::create_dir(&many).unwrap();
    for n in 0..3000 {
        fs::write(many.join(format!("file-{n}")), "").unwrap();
    }
    assert_eq!(server.get("/many/", "").text().matches("<li>").count(), 3001);
    server.stop();
    let silent = Server::start(&["--no-listing"]);
    assert_eq!(silent.get("/list/", "").status, 403);
    silent.stop();
}

#[test]
fn nothing_leads_out_of_the_root() {
    let server = Server::start(&[]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(outside.path(), server.root.path().join("link")).unwrap();
    for path in [
        "/../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/page/../../etc/passwd",
        "/%2e%2e%5cetc",
        "/hello.txt%00.html",
        "/%",
        "/%zz",
        "/.%2e/",
        "/..",
        "/page/..;/x",
        "/link/secret",
        "/link",
        "/link/",
        "/list/.hidden",
        "/%2ehidden",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/\\..\\..",
    ] {
        let answer = server.get(path, "");
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        assert!(!answer.text().contains("secret") && !answer.text().contains("root:"));
    }
    server.stop();
}

#[test]
fn other_methods_are_told_which_there_are() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "get"] {
        let answer = client.ask(&format!("{method} /digits HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD, OPTIONS"));
    }
    for target in ["*", "/digits"] {
        let answer = client.ask(&format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((answer.status, answer.header("allow")), (204, "GET, HEAD, OPTIONS"));
    }
    assert_eq!(client.ask("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n").status, 405);
    // A body that nobody wants is not read, and so nothing can follow it.
    let answer = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /");
    assert_eq!((answer.status, answer.header("connection")), (405, "close"));
    client.is_closed();
    server.stop();
}

#[test]
fn a_client_that_asks_before_it_sends_is_told() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let head = "GET /digits HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
    let go_on = client.ask(&format!("{head}Content-Length: 3\r\n\r\n"));
    assert_eq!(go_on.status, 100);
    client.send("abc");
    assert_eq!(client.answer("GET").text(), "0123456789");
    let head = head.replace("GET", "PUT");
    let refused = client.ask(&format!("{head}Content-Length: 3\r\n\r\n"));
    assert_eq!((refused.status, refused.header("connection")), (405, "close"));
    let answer = server.get("/digits", "Expect: more\r\n");
    assert_eq!(answer.status, 417);
    server.stop();
}

#[test]
fn what_could_be_smuggled_is_refused_and_the_connection_closed() {
    let server = Server::start(&[]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 4\r\n\r\nabcd", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd", 400),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\nabcd\r\n0\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcdX", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n", 413),
    ] {
        let mut client = server.connect();
        client.send(request);
        client.send("GET /digits HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer("GET");
        assert_eq!((answer.status, answer.header("connection")), (status, "close"), "{request:?}");
        assert!(answer.text().contains(&status.to_string()));
        client.is_closed();
    }
    server.stop();
}

#[test]
fn too_much_is_refused() {
    let server = Server::start(&["--max-requests", "3"]);
    let long = "x".repeat(9000);
    assert_eq!(server.get(&format!("/{long}"), "").status, 414);
    assert_eq!(server.get("/", &format!("A: {long}\r\nB: {long}\r\n")).status, 431);
    assert_eq!(server.get("/", &"A: b\r\n".repeat(101)).status, 431);
    let mut endless = server.connect();
    endless.send("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    endless.send("1000\r\n");
    for _ in 0..17 {
        endless.send(vec![b'x'; 0x1000]);
        endless.send("\r\n1000\r\n");
    }
    let answer = endless.answer("GET");
    assert_eq!((answer.status, answer.header("connection")), (413, "close"));
    let mut client = server.connect();
    for n in 1..=3 {
        let answer = client.ask("GET /digits HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(answer.header("connection"), if n < 3 { "keep-alive" } else { "close" });
    }
    client.is_closed();
    server.stop();
}

#[test]
fn each_answer_is_in_the_log_and_nobody_writes_there_but_us() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let server = Server::start(&["--access-log", log.to_str().unwrap()]);
    server.get("/digits?a=\"b", "");
    server.connect().ask("HEAD /none HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut client = server.connect();
    client.send(b"GET /\x1b\xff HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer("GET").status, 400);
    server.stop();
    let text = fs::read_to_string(log).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.split_once("] ").unwrap()).collect();
    assert!(lines.iter().all(|(start, _)| start.starts_with("127.0.0.1 - - [")), "{text}");
    assert_eq!(lines[0].1, r#""GET /digits?a=\"b HTTP/1.1" 200 10"#);
    assert_eq!(lines[1].1, r#""HEAD /none HTTP/1.1" 404 0"#);
    assert!(lines[2].1.starts_with(r#""GET /\x1b\xff HTTP/1.1" 400 "#), "{text}");
    assert_eq!(lines.len(), 3);
}

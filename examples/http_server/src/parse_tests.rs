//! What is a request, and what is refused.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::{fuzz, fuzz_http};

/// The head, if there is one, as both parts of the parser see it.
fn status(input: &str) -> Result<Body, u16> {
    let range = HeadScan::default().find(input.as_bytes()).map_err(|refusal| refusal.status)?;
    let range = range.expect("the head is complete");
    parse(&input.as_bytes()[range]).map(|request| request.body).map_err(|refusal| refusal.status)
}

fn with(headers: &str) -> Result<Body, u16> {
    status(&format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n"))
}

#[test]
fn a_request_is_understood() {
    let head = b"GET /a%20b?c=d HTTP/1.1\r\nhOST: example.org:80\r\nRange: bytes=0-1\r\n\
        Connection: x, Close\r\nIf-None-Match: \"1\"\r\nIf-None-Match: \"2\"\r\n\r\n";
    let request = parse(head).unwrap();
    assert_eq!((request.method, request.path), ("GET", "/a%20b"));
    assert!(!request.is_old && !request.keep_alive && !request.expects_continue);
    assert_eq!(request.body, Body::None);
    assert_eq!(request.conditions.range, Some(&b"bytes=0-1"[..]));
    assert_eq!(request.conditions.if_none_match.len(), 2);
}

#[test]
fn targets() {
    let path = |target: &str, method: &str| {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        parse(head.as_bytes()).map(|request| request.path.to_owned()).map_err(|r| r.status)
    };
    for (target, expected) in [
        ("/", "/"),
        ("/x?/..", "/x"),
        ("http://a/b", "/b"),
        ("HTTPS://a:443", "/"),
        ("http://[::1]:80?x", "/"),
    ] {
        assert_eq!(path(target, "GET").as_deref(), Ok(expected), "{target}");
    }
    assert_eq!(path("*", "OPTIONS").as_deref(), Ok("*"));
    assert_eq!(path("a:443", "CONNECT").as_deref(), Ok("*"));
    for target in
        ["*", "a", "a/b", "ftp://a/", "http:///x", "http://a@b/", "/#x", "/\u{e9}", "http://"]
    {
        assert_eq!(path(target, "GET"), Err(400), "{target}");
    }
}

#[test]
fn bodies_and_who_contradicts_himself() {
    assert_eq!(with(""), Ok(Body::None));
    assert_eq!(with("Content-Length: 0\r\n"), Ok(Body::None));
    assert_eq!(with("Content-Length: 17\r\n"), Ok(Body::Length(17)));
    assert_eq!(with("Transfer-Encoding: Chunked\r\n"), Ok(Body::Chunked));
    for wrong in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\ncontent-length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(with(wrong), Err(400), "{wrong:?}");
    }
    for unknown in ["gzip", "gzip, chunked", "chunked, identity", "xchunked", "\"chunked\""] {
        assert_eq!(with(&format!("Transfer-Encoding: {unknown}\r\n")), Err(501), "{unknown}");
    }
    let old = "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status(old), Err(400));
}

#[test]
fn hosts() {
    let host = |host: &str| status(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for fine in ["a", "a.b-c:80", "127.0.0.1:8080", "[::1]", "[::1]:443", "a:"] {
        assert_eq!(host(fine), Ok(Body::None), "{fine}");
    }
    for wrong in [
        "", "a b", "a/b", "a@b", "a,b", ":80", "a:b", "a:123456", "[::1", "[::1]x", "[]",
        "a:80:80", "<a>",
    ] {
        let wanted = if wrong == "a,b" { Ok(Body::None) } else { Err(400) };
        assert_eq!(host(wrong), wanted, "{wrong}");
    }
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), Err(400), "none");
    assert_eq!(with("Host: a\r\n"), Err(400), "two");
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), Ok(Body::None));
}

#[test]
fn lines_that_are_not_lines() {
    for wrong in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tfolded\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX(: y\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(status(wrong), Err(400), "{wrong:?}");
    }
    assert_eq!(status("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Body::None));
    assert_eq!(status("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Err(505));
    assert_eq!(status("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), Err(505));
}

#[test]
fn expectations() {
    let head = |expect: &str| {
        format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: {expect}\r\n\r\n")
    };
    assert!(parse(head("100-Continue").as_bytes()).unwrap().expects_continue);
    assert_eq!(status(&head("the unexpected")), Err(417));
    let without_body = "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n";
    assert!(!parse(without_body.as_bytes()).unwrap().expects_continue);
}

#[test]
fn limits() {
    let long = "x".repeat(MAX_LINE);
    assert_eq!(status(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), Err(414));
    assert_eq!(with(&format!("X: {long}{long}\r\n")), Err(431));
    assert_eq!(with(&"X: y\r\n".repeat(MAX_HEADERS - 1)), Ok(Body::None));
    assert_eq!(with(&"X: y\r\n".repeat(MAX_HEADERS)), Err(431));
    // Without an end, too, and before more is kept than may be.
    let refused = |input: &[u8]| HeadScan::default().find(input).unwrap_err().status;
    assert_eq!(refused(format!("GET /{long}").as_bytes()), 414);
    assert_eq!(refused(format!("GET / HTTP/1.1\r\nX: {long}{long}").as_bytes()), 431);
    assert_eq!(refused(b"\x16\x03\x01"), 400, "somebody speaks TLS");
}

#[test]
fn the_head_is_found_however_it_comes() {
    let input = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\n";
    let end = input.len() - b"GET /next HTTP/1.1\r\n".len();
    for step in 1..input.len() {
        let mut scan = HeadScan::default();
        let found = (1..).map(|n| (n * step).min(input.len())).find_map(|arrived| {
            let found = scan.find(&input[..arrived]).unwrap();
            assert!(found.is_some() || arrived < end);
            found
        });
        assert_eq!(found, Some(2..end), "in steps of {step}");
    }
}

/// What becomes of a request that arrives in these pieces, and where its head was.
fn arrive<'i>(
    input: &'i [u8],
    pieces: &[&[u8]],
) -> Result<Option<(Range<usize>, Request<'i>)>, Refusal> {
    let (mut scan, mut arrived) = (HeadScan::default(), 0);
    for piece in pieces {
        arrived += piece.len();
        if let Some(place) = scan.find(&input[..arrived])? {
            return Ok(Some((place.clone(), parse(&input[place])?)));
        }
    }
    Ok(None)
}

/// A request that says the same as this one.
fn print(request: &Request<'_>) -> Vec<u8> {
    let Request { method, path, is_old, keep_alive, body, expects_continue, conditions } = request;
    let connection = if *keep_alive { "keep-alive" } else { "close" };
    let minor = if *is_old { 0 } else { 1 };
    let mut bytes =
        format!("{method} {path} HTTP/1.{minor}\r\nHost: a\r\nConnection: {connection}\r\n");
    match body {
        Body::None => {}
        Body::Length(length) => bytes.push_str(&format!("Content-Length: {length}\r\n")),
        Body::Chunked => bytes.push_str("Transfer-Encoding: chunked\r\n"),
    }
    bytes.push_str(if *expects_continue { "Expect: 100-continue\r\n" } else { "" });
    let mut bytes = bytes.into_bytes();
    let mut add = |name: &str, values: &[&[u8]]| {
        for value in values {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
    };
    add("If-Match", &conditions.if_match);
    add("If-None-Match", &conditions.if_none_match);
    add("If-Modified-Since", conditions.if_modified_since.as_slice());
    add("If-Unmodified-Since", conditions.if_unmodified_since.as_slice());
    add("If-Range", conditions.if_range.as_slice());
    add("Range", conditions.range.as_slice());
    bytes.extend(b"\r\n");
    bytes
}

#[test]
fn malformed_requests_are_refused_or_understood_in_one_way_only() {
    let (understood, refused) = (Cell::new(0), Cell::new(0));
    let inputs = (fuzz_http::requests(fuzz_http::for_files()), fuzz::cuts());
    fuzz::check(10_000, inputs, |(input, cuts)| {
        let whole = arrive(&input, &[&input]);
        // A part may be refused for another reason than the whole.
        let in_pieces = arrive(&input, &fuzz::pieces(&input, &cuts));
        prop_assert_eq!(whole.as_ref().ok(), in_pieces.as_ref().ok());
        let (place, request) = match whole {
            Ok(Some(whole)) => whole,
            Ok(None) => return Ok(()),
            Err(_) => {
                refused.set(refused.get() + 1);
                return Ok(());
            }
        };
        understood.set(understood.get() + 1);
        // Nobody finds another end of it.
        let lengths = fuzz_http::values_carelessly(&input[place.clone()], "content-length");
        let codings = fuzz_http::values_carelessly(&input[place], "transfer-encoding");
        let body = match (&lengths[..], &codings[..]) {
            ([], []) => Body::None,
            ([length], []) => match length.parse().unwrap() {
                0 => Body::None,
                length => Body::Length(length),
            },
            ([], [coding]) if coding == "chunked" => Body::Chunked,
            other => return Err(TestCaseError::fail(format!("it was understood: {other:?}"))),
        };
        prop_assert_eq!(body, request.body);
        let printed = print(&request);
        prop_assert_eq!(parse(&printed), Ok(request));
        Ok(())
    });
    let (understood, refused) = (understood.get(), refused.get());
    assert!(understood > 200 && refused > 2_500, "{understood} {refused}");
}

//! Requests over HTTP that are malformed, or that two programs may understand in two ways.

#![allow(dead_code, reason = "not every test program needs all of it")]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::fuzz::{Bytes, mutate, mutated, mutations, noise};

/// What requests begin with.
#[derive(Clone, Debug)]
pub(crate) struct Begin {
    pub(crate) text: String,
    /// It stays as it is, so that a proxy asks nobody but those whom the test knows.
    pub(crate) fixed: bool,
}

const VERSIONS: &[&str] = &[
    " HTTP/1.1",
    " HTTP/1.1",
    " HTTP/1.1",
    " HTTP/1.1",
    " HTTP/1.0",
    " HTTP/2.0",
    "",
    " HTTP/1.1 ",
];

const FIELDS: &[&str] = &[
    "Host: a",
    "Host: ",
    "Host: a b",
    "hOST: [::1]:80",
    "Content-Length: 0",
    "Content-Length: 5",
    "Content-Length: 6",
    "Content-Length: ",
    "Content-Length: +5",
    "Content-Length: -5",
    "Content-Length: 0x5",
    "Content-Length: 5, 5",
    "Content-Length: 5, 6",
    "Content-Length: 5\t",
    "Content-Length : 5",
    "Content-Length: 100000",
    "Content-Length: 18446744073709551615",
    "Content-Length: 99999999999999999999",
    "Content_Length: 5",
    "Transfer-Encoding: chunked",
    "transfer-encoding: Chunked",
    "Transfer-Encoding: \tchunked\t",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: ,",
    "Transfer-Encoding: ",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding:\r\n chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "Expect: 100-continue",
    "Expect: the unexpected",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: close, Content-Length",
    "Connection: Host, ,",
    "Range: bytes=0-",
    "Range: bytes=-1,0-0,3-",
    "Range: bytes=9-1",
    "If-Range: \"x\"",
    "If-None-Match: *",
    "If-Match: \"",
    "If-Modified-Since: yesterday",
    " folded",
    "\tfolded",
    ": nameless",
    "nothing",
    "X: \0",
    "X: \u{fffd}",
];

/// A field, or many, or one that is very long.
fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        30 => select(FIELDS).prop_map(str::to_owned),
        2 => any::<u32>().prop_map(|length| format!("Content-Length: {length}")),
        1 => (1..150_usize).prop_map(|count| ["X: y"; 150][..count].join("\r\n")),
        1 => (0..70_000_usize).prop_map(|length| format!("X: {}", "y".repeat(length))),
    ]
}

/// Chunks, most of which are right.
fn chunks() -> impl Strategy<Value = Vec<u8>> {
    const SIZES: &[&str] = &[
        "5",
        "5",
        "5",
        "05",
        "5;x=y",
        "5;\n",
        "5;\n0",
        "5\r",
        "5 ",
        "4",
        "6",
        "0",
        "-1",
        "+5",
        "0x5",
        "",
        ";",
        "g",
        "ffffffffffffffff",
        "fffffffffffffffff",
        "10000000000000005",
    ];
    const ENDS: &[&str] =
        &["0\r\n\r\n", "0\r\n\r\n", "00\r\nX: y\r\n\r\n", "0\r\n", "0\n\n", "0\r\nX: y\n\r\n", ""];
    (vec(select(SIZES), 0..5), select(ENDS)).prop_map(|(sizes, end)| {
        let chunk = |size: &&str| format!("{size}\r\nhello\r\n");
        (sizes.iter().map(chunk).collect::<String>() + end).into_bytes()
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => Just(Vec::new()),
        2 => Just(b"hello".to_vec()),
        1 => (0..100_000_usize).prop_map(|length| vec![b'z'; length]),
        3 => chunks(),
        // One that is to be taken for a request of somebody else.
        1 => Just(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        1 => Just(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
    ]
}

/// Bodies in chunks, most of them malformed.
pub(crate) fn chunked_bodies() -> impl Strategy<Value = Bytes> {
    prop_oneof![6 => mutated(chunks(), 3), 1 => noise(100)]
}

/// Fields, and a body that often is what they say.
fn frame() -> impl Strategy<Value = (Vec<String>, Vec<u8>)> {
    let said = |field: &'static str, body| {
        (vec(self::field(), 0..2), body).prop_map(move |(mut fields, body)| {
            fields.push(field.to_owned());
            (fields, body)
        })
    };
    prop_oneof![
        3 => (vec(field(), 0..4), body()),
        2 => said("Transfer-Encoding: chunked", chunks().boxed()),
        1 => said("Content-Length: 5", Just(b"hello".to_vec()).boxed()),
    ]
}

/// What comes behind the beginning of a request, nearly right.
fn rest() -> impl Strategy<Value = Vec<u8>> {
    let end = prop_oneof![8 => Just("\r\n"), 1 => Just(""), 1 => Just("\n")];
    let (has_host, closes) = (prop::bool::weighted(0.8), any::<bool>());
    (select(VERSIONS), has_host, closes, frame(), end).prop_map(
        |(version, has_host, closes, (fields, body), end)| {
            let mut head = format!("{version}\r\n");
            head.push_str(if has_host { "Host: a\r\n" } else { "" });
            fields.iter().for_each(|field| head.push_str(&format!("{field}\r\n")));
            head.push_str(if closes { "Connection: close\r\n" } else { "" });
            head.push_str(end);
            [head.as_bytes(), &body].concat()
        },
    )
}

/// Requests, most of them malformed.
pub(crate) fn requests(begins: Vec<Begin>) -> impl Strategy<Value = Bytes> {
    let request = (select(begins), rest(), mutations(4)).prop_map(|(begin, rest, mutations)| {
        let begin_bytes = begin.text.into_bytes();
        Bytes(match begin.fixed {
            true => [begin_bytes, mutate(rest, &mutations)].concat(),
            false => mutate([begin_bytes, rest].concat(), &mutations),
        })
    });
    prop_oneof![12 => request, 1 => noise(300)]
}

/// Beginnings for a server that serves files.
pub(crate) fn for_files() -> Vec<Begin> {
    [
        "GET /digits",
        "GET /",
        "HEAD /digits",
        "POST /digits",
        "OPTIONS *",
        "GET http://a/digits",
        "GET /list/",
        "GET /%2e%2e/x",
        "GET /../x",
        "GET /a%2fb?c=d",
        "GET /digits#x",
        "CONNECT a:443",
        "\r\nGET /digits",
        "G(T /",
        "GET  /",
        "GET *",
    ]
    .map(|text| Begin { text: text.to_owned(), fixed: false })
    .to_vec()
}

/// All values of a field, as a program finds them that takes anything for the end of a line, and for a space.
pub(crate) fn values_carelessly(head: &[u8], name: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(head);
    let fields = text.split(['\r', '\n']).skip(1).filter_map(|line| line.split_once(':'));
    fields
        .filter(|(found, _)| found.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_ascii_lowercase())
        .collect()
}

/// Where a body in chunks ends for a program that takes a lone LF for the end of a line, and reads a size as far as
/// it goes.
pub(crate) fn end_carelessly(body: &[u8]) -> Option<usize> {
    fn line<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let (line, behind) = rest.split_at(end);
        *rest = &behind[1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
    let mut rest = body;
    loop {
        let text = String::from_utf8_lossy(line(&mut rest)?);
        let size = usize::from_str_radix(text.split([';', ' ', '\t']).next()?, 16).ok()?;
        if size == 0 {
            while !line(&mut rest)?.is_empty() {}
            return Some(body.len() - rest.len());
        }
        rest = rest.get(size..)?;
        rest = rest.strip_prefix(b"\r").unwrap_or(rest);
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
}

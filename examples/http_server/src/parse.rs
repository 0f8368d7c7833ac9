//! From bytes to a request, strictly: what two programs could understand in two ways is refused, because
//! a proxy in front of us might understand it in the other one (request smuggling).
//!
//! httparse has the grammar. What it lets pass and we do not: line ends without CR, a CR by itself, bytes
//! outside of ASCII in the target, headers that contradict each other.

use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{Header, Status};

use crate::respond::Refusal;

/// The longest request line.
const MAX_LINE: usize = 8 * 1024;
/// The longest request line and headers together.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
/// The most headers.
const MAX_HEADERS: usize = 100;
/// The most empty lines before a request (RFC 9112, 2.2, asks to ignore at least one).
const MAX_BLANK_LINES: usize = 2;

/// Looks for the end of a request's head in what has arrived so far.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    /// Where the request line begins, after empty lines.
    begin: usize,
    /// Where the current line begins.
    line: usize,
    /// Everything before was looked at.
    seen: usize,
    blank: usize,
}

impl HeadScan {
    /// The place of the head in `input`, once it is complete. To be called whenever `input` has grown.
    pub(crate) fn find(&mut self, input: &[u8]) -> Result<Option<Range<usize>>, Refusal> {
        while let Some(offset) = input[self.seen..].iter().position(|&byte| byte == b'\n') {
            let lf = self.seen + offset;
            if lf == self.line || input[lf - 1] != b'\r' {
                return Err(Refusal::bad("a line does not end with CR LF"));
            }
            let is_empty = lf - 1 == self.line;
            let is_first = self.line == self.begin;
            if is_first && !is_empty && lf - self.begin > MAX_LINE {
                return Err(Refusal::new(414, "the request line is too long"));
            }
            (self.seen, self.line) = (lf + 1, lf + 1);
            if is_empty && is_first {
                self.begin = self.line;
                self.blank += 1;
                if self.blank > MAX_BLANK_LINES {
                    return Err(Refusal::bad("there is no request"));
                }
            } else if is_empty {
                check_head_length(self.line - self.begin)?;
                return Ok(Some(self.begin..self.line));
            }
        }
        self.seen = input.len();
        match input.get(self.begin) {
            Some(&byte) if byte != b'\r' && !is_token(byte) => {
                return Err(Refusal::bad("this is not HTTP"));
            }
            _ => {}
        }
        if self.line == self.begin && input.len() - self.begin > MAX_LINE {
            return Err(Refusal::new(414, "the request line is too long"));
        }
        check_head_length(input.len() - self.begin)?;
        Ok(None)
    }
}

fn check_head_length(length: usize) -> Result<(), Refusal> {
    match length {
        0..=MAX_HEAD => Ok(()),
        _ => Err(Refusal::new(431, "the headers are too long")),
    }
}

/// What comes after the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(u64),
    Chunked,
}

/// A request's head, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'h> {
    pub(crate) method: &'h str,
    /// The path, still encoded, without the query; `*` for the server as a whole.
    pub(crate) path: &'h str,
    /// HTTP/1.0 rather than 1.1.
    pub(crate) is_old: bool,
    pub(crate) keep_alive: bool,
    pub(crate) body: Body,
    /// The client waits for `100 Continue` before it sends its body.
    pub(crate) expects_continue: bool,
    pub(crate) conditions: Conditions<'h>,
}

/// The headers that make the answer depend on what the client has already.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions<'h> {
    pub(crate) if_match: Vec<&'h [u8]>,
    pub(crate) if_none_match: Vec<&'h [u8]>,
    pub(crate) if_modified_since: Option<&'h [u8]>,
    pub(crate) if_unmodified_since: Option<&'h [u8]>,
    pub(crate) if_range: Option<&'h [u8]>,
    pub(crate) range: Option<&'h [u8]>,
}

/// Understands a head that [`HeadScan`] has found.
pub(crate) fn parse(head: &[u8]) -> Result<Request<'_>, Refusal> {
    let lone = |pair: &[u8]| pair[0] == b'\r' && pair[1] != b'\n';
    if head.windows(2).any(lone) {
        return Err(Refusal::bad("there is a CR within a line"));
    }
    // Not filled in beforehand: it would be three kilobytes of each connection's own stack for each request.
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut headers) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Refusal::bad("the request is cut")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, "there are too many headers"));
        }
        Err(httparse::Error::Version) => {
            return Err(Refusal::new(505, "this server speaks HTTP/1.1 and HTTP/1.0"));
        }
        Err(_) => return Err(Refusal::bad("the request does not follow the grammar")),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Refusal::bad("the request line is incomplete"));
    };
    let is_old = version == 0;
    let fields = Fields::collect(parsed.headers)?;
    let (path, authority) = split_target(method, target)?;
    check_host(&fields, authority, is_old)?;
    let body = fields.body(is_old)?;
    let expects_continue = match fields.expect {
        Some(value) if !is_old => {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal::new(417, "this expectation is unknown"));
            }
            body != Body::None
        }
        _ => false,
    };
    let keep_alive = match is_old {
        true => fields.has_connection(b"keep-alive") && !fields.has_connection(b"close"),
        false => !fields.has_connection(b"close"),
    };
    let conditions = fields.conditions;
    Ok(Request { method, path, is_old, keep_alive, body, expects_continue, conditions })
}

/// The headers that matter here.
#[derive(Default)]
struct Fields<'h> {
    host: Option<&'h [u8]>,
    content_length: Option<&'h [u8]>,
    transfer_encoding: Option<&'h [u8]>,
    expect: Option<&'h [u8]>,
    connection: Vec<&'h [u8]>,
    conditions: Conditions<'h>,
}

impl<'h> Fields<'h> {
    fn collect(headers: &[Header<'h>]) -> Result<Fields<'h>, Refusal> {
        let mut fields = Fields::default();
        for &Header { name, value } in headers {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let conditions = &mut fields.conditions;
            let single = match () {
                () if is("host") => &mut fields.host,
                () if is("content-length") => &mut fields.content_length,
                () if is("transfer-encoding") => &mut fields.transfer_encoding,
                () if is("expect") => &mut fields.expect,
                () if is("range") => &mut conditions.range,
                () if is("if-range") => &mut conditions.if_range,
                () if is("if-modified-since") => &mut conditions.if_modified_since,
                () if is("if-unmodified-since") => &mut conditions.if_unmodified_since,
                () if is("connection") => {
                    fields.connection.push(value);
                    continue;
                }
                () if is("if-match") => {
                    conditions.if_match.push(value);
                    continue;
                }
                () if is("if-none-match") => {
                    conditions.if_none_match.push(value);
                    continue;
                }
                () => continue,
            };
            if single.replace(value).is_some() {
                return Err(Refusal::bad("a header that may be there once is there twice"));
            }
        }
        Ok(fields)
    }

    fn has_connection(&self, option: &[u8]) -> bool {
        let mut options = self.connection.iter().flat_map(|value| value.split(|&b| b == b','));
        options.any(|found| found.trim_ascii().eq_ignore_ascii_case(option))
    }

    fn body(&self, is_old: bool) -> Result<Body, Refusal> {
        match (self.transfer_encoding, self.content_length) {
            (None, None) => Ok(Body::None),
            (Some(_), Some(_)) => {
                Err(Refusal::bad("Transfer-Encoding and Content-Length contradict each other"))
            }
            (Some(_), None) if is_old => {
                Err(Refusal::bad("HTTP/1.0 does not know Transfer-Encoding"))
            }
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunked),
            (Some(_), None) => Err(Refusal::new(501, "this transfer coding is not supported")),
            (None, Some(length)) => match decimal(length) {
                Some(0) => Ok(Body::None),
                Some(length) => Ok(Body::Length(length)),
                None => Err(Refusal::bad("Content-Length is not a number")),
            },
        }
    }
}

/// A number of digits only: no sign, no space, no list.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The path of a target, and the authority if there is one.
fn split_target<'h>(method: &str, target: &'h str) -> Result<(&'h str, Option<&'h str>), Refusal> {
    if !target.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) || target.contains('#') {
        return Err(Refusal::bad("the target contains what has to be encoded"));
    }
    let without_query = |path: &'h str| path.split_once('?').map_or(path, |(path, _)| path);
    if target == "*" && method == "OPTIONS" {
        return Ok((target, None));
    }
    // Whatever it is, it is refused, and the target of a CONNECT is an authority.
    if method == "CONNECT" {
        return Ok(("*", None));
    }
    if target.starts_with('/') {
        return Ok((without_query(target), None));
    }
    let absolute = ["http://", "https://"].into_iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| &target[scheme.len()..])
    });
    let Some(rest) = absolute else {
        return Err(Refusal::bad("the target is neither a path nor a URL"));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = without_query(path);
    Ok((if path.is_empty() { "/" } else { path }, Some(authority)))
}

/// RFC 9112, 3.2: a request without a valid Host, or with several, is a bad one.
fn check_host(fields: &Fields<'_>, authority: Option<&str>, is_old: bool) -> Result<(), Refusal> {
    match fields.host {
        None if is_old => {}
        None => return Err(Refusal::bad("there is no Host")),
        Some(host) if is_authority(host) => {}
        Some(_) => return Err(Refusal::bad("Host is not valid")),
    }
    match authority {
        Some(authority) if !is_authority(authority.as_bytes()) => {
            Err(Refusal::bad("the URL's host is not valid"))
        }
        _ => Ok(()),
    }
}

/// `host`, `host:port`, `[address]`, `[address]:port`.
fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', rest @ ..] => match rest.iter().position(|&byte| byte == b']') {
            Some(end) => {
                let address = |&byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(&byte);
                if end == 0 || !rest[..end].iter().all(address) {
                    return false;
                }
                (&b"ok"[..], &rest[end + 1..])
            }
            None => return false,
        },
        _ => text.split_at(text.iter().position(|&byte| byte == b':').unwrap_or(text.len())),
    };
    let of_a_name =
        |&byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    let port_is_fine = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !host.is_empty() && host.iter().all(of_a_name) && port_is_fine
}

/// Of which methods and names of headers consist.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;

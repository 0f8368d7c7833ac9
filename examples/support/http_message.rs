//! HTTP/1.1 messages as a proxy sees them: a head that is parsed strictly, and a body that is passed on as
//! it comes, in the same frame.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::mem::MaybeUninit;

/// The longest head that is read.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// The longest line between the parts of a chunked body.
const MAX_LINE: u64 = 8 * 1024;

/// The first line of a message, and its fields.
pub(crate) struct Head {
    pub(crate) start: Start,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub(crate) minor_version: u8,
}

pub(crate) enum Start {
    Request { method: String, target: String },
    Response { status: u16, reason: String },
}

/// How the end of a body is found (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Fields that are for the next hop only (RFC 9110, 7.6.1), and those that older software uses so.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(crate) fn malformed(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Reads the head of a request; `None` if the connection has ended before one begins.
pub(crate) fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let Some(bytes) = read_head(reader)? else { return Ok(None) };
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(&bytes, &mut fields) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(malformed("the request is malformed")),
    }
    let (Some(method), Some(target), Some(minor_version)) =
        (request.method, request.path, request.version)
    else {
        return Err(malformed("the request is malformed"));
    };
    let start = Start::Request { method: method.to_owned(), target: target.to_owned() };
    Ok(Some(Head { start, minor_version, fields: copy(request.headers) }))
}

/// Reads the head of a response.
pub(crate) fn read_response(reader: &mut impl BufRead) -> io::Result<Head> {
    let bytes = read_head(reader)?.ok_or_else(|| malformed("no response"))?;
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, &bytes, &mut fields) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(malformed("the response is malformed")),
    }
    let (Some(status), Some(minor_version)) = (response.code, response.version) else {
        return Err(malformed("the response is malformed"));
    };
    let reason = response.reason.unwrap_or_default().to_owned();
    let start = Start::Response { status, reason };
    Ok(Head { start, minor_version, fields: copy(response.headers) })
}

fn copy(fields: &[httparse::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|field| (field.name.to_owned(), field.value.to_owned())).collect()
}

/// Everything up to and with the empty line. A line ends with CR and LF: who takes a lone LF for an end sees other
/// lines than who does not.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    loop {
        let left = (MAX_HEAD - head.len()) as u64;
        let begin = head.len();
        let length = reader.take(left).read_until(b'\n', &mut head)?;
        if length == 0 || head.last() != Some(&b'\n') {
            return match head.len() {
                0 => Ok(None),
                MAX_HEAD => Err(malformed("the head is too long")),
                _ => Err(ErrorKind::UnexpectedEof.into()),
            };
        }
        if !head.ends_with(b"\r\n") {
            return Err(malformed("a line ends without a carriage return"));
        }
        if &head[begin..] == b"\r\n" {
            // Empty lines before a message are to be ignored (RFC 9112, 2.2).
            match begin {
                0 => head.clear(),
                _ => return Ok(Some(head)),
            }
        }
    }
}

impl Head {
    /// The values of all fields of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let same = move |field: &&(String, Vec<u8>)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|field| field.1.as_slice())
    }

    /// The elements of a field that is a list, in lower case; those that are empty are not left out.
    fn elements(&self, name: &str) -> Vec<String> {
        let values = self.all(name).flat_map(|value| value.split(|&byte| byte == b','));
        let text = |value: &[u8]| String::from_utf8_lossy(value.trim_ascii()).to_ascii_lowercase();
        values.map(text).collect()
    }

    /// The elements of a field that is a list, in lower case.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let mut elements = self.elements(name);
        elements.retain(|text| !text.is_empty());
        elements
    }

    /// Whether the sender will use the connection again.
    pub(crate) fn keeps_alive(&self) -> bool {
        let named = [self.list("connection"), self.list("proxy-connection")].concat();
        let asks = |what: &str| named.iter().any(|name| name == what);
        !asks("close") && (self.minor_version >= 1 || asks("keep-alive"))
    }

    /// How long the body is, if the fields say so. What can be read in two ways is malformed: that is how
    /// requests are smuggled past a proxy.
    fn declared_body(&self) -> io::Result<Option<Body>> {
        // An empty element is one that somebody else may understand in another way.
        let codings = self.elements("transfer-encoding");
        let lengths = self.elements("content-length");
        if !codings.is_empty() {
            if !lengths.is_empty() || self.minor_version == 0 {
                return Err(malformed("the length of the body is ambiguous"));
            }
            return match codings.as_slice() {
                [coding] if coding == "chunked" => Ok(Some(Body::Chunked)),
                _ => Err(malformed("an unknown transfer coding")),
            };
        }
        let Some(first) = lengths.first() else { return Ok(None) };
        let digits = first.bytes().all(|byte| byte.is_ascii_digit());
        match first.parse() {
            Ok(length) if digits && lengths.iter().all(|other| other == first) => {
                Ok(Some(Body::Length(length)))
            }
            _ => Err(malformed("the length of the body is malformed")),
        }
    }

    /// What follows the head of a request.
    pub(crate) fn request_body(&self) -> io::Result<Body> {
        Ok(self.declared_body()?.unwrap_or(Body::Length(0)))
    }

    /// What follows the head of a response to a request with this method.
    pub(crate) fn response_body(&self, status: u16, method: &str) -> io::Result<Body> {
        let declared = self.declared_body()?;
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(Body::Length(0));
        }
        Ok(declared.unwrap_or(Body::UntilClose))
    }

    /// Leaves out what was for this hop only. How a body is framed is said anew.
    pub(crate) fn remove_hop_by_hop(&mut self) {
        let named = self.list("connection");
        self.fields.retain(|(name, _)| {
            let name = name.to_ascii_lowercase();
            // A sender cannot have the frame of the body taken off by calling it hop-by-hop.
            let kept = name == "content-length" || name == "host";
            kept || (!HOP_BY_HOP.contains(&name.as_str()) && !named.contains(&name))
        });
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.fields.retain(|field| !field.0.eq_ignore_ascii_case(name));
    }

    pub(crate) fn add(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.fields.push((name.to_owned(), value.into()));
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = match &self.start {
            Start::Request { method, target } => format!("{method} {target} HTTP/1.1\r\n"),
            Start::Response { status, reason } => format!("HTTP/1.1 {status} {reason}\r\n"),
        }
        .into_bytes();
        for (name, value) in &self.fields {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        bytes
    }
}

/// Passes a body on. With `chunks`, a chunked one stays chunked; without, only its contents are written.
pub(crate) fn copy_body(
    body: Body,
    reader: &mut impl BufRead,
    writer: &mut impl Write,
    chunks: bool,
) -> io::Result<()> {
    match body {
        Body::Length(length) => copy_exactly(length, reader, writer),
        Body::UntilClose => io::copy(reader, writer).map(drop),
        Body::Chunked => copy_chunks(reader, writer, chunks),
    }
}

/// Not `io::copy`, which may collect before it writes: what has come is sent on at once.
fn copy_exactly(
    mut length: u64,
    reader: &mut impl BufRead,
    writer: &mut impl Write,
) -> io::Result<()> {
    while length > 0 {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let count = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        writer.write_all(&bytes[..count])?;
        reader.consume(count);
        length -= count as u64;
    }
    Ok(())
}

fn copy_chunks(reader: &mut impl BufRead, writer: &mut impl Write, chunks: bool) -> io::Result<()> {
    loop {
        let line = read_line(reader)?;
        let length =
            chunk_size(&line).ok_or_else(|| malformed("the size of a chunk is malformed"))?;
        if length == 0 {
            break;
        }
        if chunks {
            write!(writer, "{length:x}\r\n")?;
        }
        copy_exactly(length, reader, writer)?;
        if read_line(reader)? != b"\r\n" {
            return Err(malformed("a chunk does not end where it says"));
        }
        if chunks {
            writer.write_all(b"\r\n")?;
        }
    }
    // Trailers may be dropped (RFC 9110, 6.5.1).
    while read_line(reader)? != b"\r\n" {}
    if chunks { writer.write_all(b"0\r\n\r\n") } else { Ok(()) }
}

/// Not httparse's, which takes an empty line for the size of the last chunk. Spaces behind the digits are what some
/// servers fill up to a fixed width with.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r\n")?;
    let end = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(end);
    let extension = rest.trim_ascii_start();
    let is_fine = (extension.is_empty() || extension.starts_with(b";"))
        && rest.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control());
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_fine)?;
    u64::from_str_radix(digits, 16).ok()
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
    match line.ends_with(b"\r\n") {
        true => Ok(line),
        false if line.len() as u64 == MAX_LINE => Err(malformed("a line is too long")),
        false if line.ends_with(b"\n") => Err(malformed("a line ends without a carriage return")),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

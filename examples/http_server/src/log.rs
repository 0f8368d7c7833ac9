//! The access log, in the Common Log Format.

use std::cell::{Cell, RefCell};
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;

use crate::respond::push_now;

/// Where lines go: collected, and written once in a while.
pub(crate) struct AccessLog {
    out: RefCell<BufWriter<Box<dyn Write>>>,
    /// Writing has failed, and that was said.
    is_broken: Cell<bool>,
}

impl AccessLog {
    /// Appends to the file; `-` is standard output.
    pub(crate) fn open(path: &Path) -> io::Result<AccessLog> {
        let out: Box<dyn Write> = match path.to_str() {
            Some("-") => Box::new(io::stdout()),
            _ => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        };
        let out = RefCell::new(BufWriter::with_capacity(64 * 1024, out));
        Ok(AccessLog { out, is_broken: Cell::new(false) })
    }

    /// Notes one answer: `bytes` of its body were sent.
    pub(crate) fn note(&self, peer: SocketAddr, request_line: &[u8], status: u16, bytes: u64) {
        let line = line(peer, request_line, status, bytes);
        let written = self.out.borrow_mut().write_all(line.as_bytes());
        self.check(written);
    }

    pub(crate) fn flush(&self) {
        let flushed = self.out.borrow_mut().flush();
        self.check(flushed);
    }

    /// A full disk does not keep a server from serving.
    fn check(&self, result: io::Result<()>) {
        match result {
            Ok(()) => self.is_broken.set(false),
            Err(error) => {
                if !self.is_broken.replace(true) {
                    ::log::error!("access log: {error}");
                }
            }
        }
    }
}

fn line(peer: SocketAddr, request_line: &[u8], status: u16, bytes: u64) -> String {
    let mut date = String::new();
    push_now(&mut date);
    // Sun, 06 Nov 1994 08:49:37 GMT
    let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
    let ip = peer.ip();
    let request = escape(request_line);
    format!("{ip} - - [{day}/{month}/{year}:{time} +0000] \"{request}\" {status} {bytes}\n")
}

/// What a client has sent must not look like a line, or the end of a field.
fn escape(text: &[u8]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'"' | b'\\' => escaped.extend(['\\', char::from(byte)]),
            b' '..=b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("\\x{byte:02x}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_common_form() {
        let peer = "127.0.0.1:5".parse().unwrap();
        let line = line(peer, b"GET / HTTP/1.1", 200, 17);
        let (start, rest) = line.split_once('[').unwrap();
        let (date, end) = rest.split_once(']').unwrap();
        assert_eq!((start, end), ("127.0.0.1 - - ", " \"GET / HTTP/1.1\" 200 17\n"));
        assert!(date.len() == 26 && date.ends_with(" +0000") && &date[2..3] == "/", "{date}");
    }

    #[test]
    fn nobody_writes_lines_but_us() {
        assert_eq!(escape(b"a\" 200\r\n\\\x1b\xff"), "a\\\" 200\\x0d\\x0a\\\\\\x1b\\xff");
    }
}

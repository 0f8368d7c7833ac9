//! The work that all of our servers do in the same way: a request is parsed by httparse, and the answer written.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is answered.
pub(crate) const BODY: &str = "Hello, World!";

/// Answers all requests that are complete in `input`, one behind the other in `output`, and returns how
/// many bytes of the input they were.
pub(crate) fn answer_all(input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
    let mut at = 0;
    loop {
        // Not filled in beforehand: a kilobyte, on each connection's own stack, is a kilobyte of cache misses.
        let mut headers = [const { MaybeUninit::uninit() }; 32];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(&input[at..], &mut headers);
        match parsed.map_err(io::Error::other)? {
            httparse::Status::Partial => return Ok(at),
            httparse::Status::Complete(length) => at += length,
        }
        if request.method != Some("GET") {
            return Err(io::Error::other("only GET is answered here"));
        }
        output.extend_from_slice(b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: ");
        push_date(output);
        output.extend_from_slice(b"\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n");
        output.extend_from_slice(BODY.as_bytes());
    }
}

/// The time as HTTP writes it, made once a second.
fn push_date(output: &mut Vec<u8>) {
    thread_local!(static NOW: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    NOW.with_borrow_mut(|(second, written)| {
        if *second != now {
            *second = now;
            *written = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
        }
        output.extend_from_slice(written.as_bytes());
    });
}

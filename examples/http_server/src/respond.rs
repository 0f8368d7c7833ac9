//! Answers: the head's bytes, and the pages of errors.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A request that is answered with an error, after which the connection is closed: nobody knows what its
/// rest means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) why: &'static str,
}

impl Refusal {
    pub(crate) fn new(status: u16, why: &'static str) -> Refusal {
        Refusal { status, why }
    }

    pub(crate) fn bad(why: &'static str) -> Refusal {
        Refusal::new(400, why)
    }
}

/// What a status code is called.
pub(crate) fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// The head of an answer, while it is being written.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    text: String,
}

impl Head {
    /// With the headers that every answer has.
    pub(crate) fn new(status: u16) -> Head {
        let mut text = String::with_capacity(512);
        let _ = write!(text, "HTTP/1.1 {status} {}\r\nServer: greenling\r\nDate: ", phrase(status));
        push_now(&mut text);
        text.push_str("\r\n");
        Head { status, text }
    }

    /// Adds a header. `value` is ours, or was checked: it contains no line end.
    pub(crate) fn header(&mut self, name: &str, value: &str) -> &mut Head {
        debug_assert!(!value.contains(['\r', '\n']), "{value:?}");
        let _ = write!(self.text, "{name}: {value}\r\n");
        self
    }

    pub(crate) fn length(&mut self, length: u64) -> &mut Head {
        let _ = write!(self.text, "Content-Length: {length}\r\n");
        self
    }

    /// Ends the head.
    pub(crate) fn finish(mut self, keep_alive: bool) -> Vec<u8> {
        // HTTP/1.0's clients want to be told, and HTTP/1.1's do not mind.
        let connection = if keep_alive { "keep-alive" } else { "close" };
        self.header("Connection", connection);
        self.text.push_str("\r\n");
        self.text.into_bytes()
    }
}

/// A page that says what went wrong.
pub(crate) fn error_page(status: u16, why: &str) -> String {
    let phrase = phrase(status);
    let why = escape_html(why);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{status} {phrase}</title>\n\
         <h1>{status} {phrase}</h1>\n<p>{why}</p>\n</html>\n"
    )
}

pub(crate) fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The time as HTTP writes it, made once a second.
pub(crate) fn push_now(text: &mut String) {
    thread_local!(static NOW: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) });
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    NOW.with_borrow_mut(|(second, written)| {
        if *second != since || written.is_empty() {
            *second = since;
            *written = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(since));
        }
        text.push_str(written);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_what_http_wants() {
        let mut head = Head::new(206);
        head.header("Content-Type", "text/plain").length(7);
        let text = String::from_utf8(head.finish(true)).unwrap();
        assert!(text.starts_with("HTTP/1.1 206 Partial Content\r\n"), "{text}");
        assert!(text.ends_with("Content-Length: 7\r\nConnection: keep-alive\r\n\r\n"), "{text}");
        assert!(text.contains(" GMT\r\n"), "{text}");
    }

    #[test]
    fn what_a_client_says_is_text_on_a_page() {
        let page = error_page(404, "<script>alert('&\"')</script>");
        assert!(page.contains("&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;"));
    }
}

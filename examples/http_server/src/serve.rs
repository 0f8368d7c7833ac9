//! A connection's life: requests, one after the other, and their answers.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::server::Handle;
use slab::Slab;

use crate::answer::{Answer, Content};
use crate::body::Chunks;
use crate::files::Root;
use crate::listing::Listing;
use crate::log::AccessLog;
use crate::parse::{Body, HeadScan, MAX_HEAD, Request, parse};
use crate::range::Part;
use crate::respond::Refusal;
use crate::socket::{Socket, Stream};

/// The longest body that is read and thrown away; a longer one costs the client its connection.
const MAX_BODY: u64 = 64 * 1024;
/// Files up to this size are sent together with their heads, by one system call.
const SMALL: u64 = 32 * 1024;
/// About how much of a page is sent in a chunk.
const CHUNK: usize = 8 * 1024;
/// How long a client that is refused may take to stop sending.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a connection may take for a request's first byte that begins to wait for it while the server stops: it
/// has just been accepted, or was just told that it may go on.
const LAST_CALL: Duration = Duration::from_millis(200);

/// What connections share.
pub(crate) struct Site {
    pub(crate) root: Root,
    pub(crate) log: Option<AccessLog>,
    pub(crate) may_list: bool,
    /// From a request's first byte to the end of its head, or of its body.
    pub(crate) header_timeout: Duration,
    /// Between requests.
    pub(crate) idle_timeout: Duration,
    pub(crate) max_requests: u32,
    pub(crate) idle: Idle,
}

/// The connections that wait for a request: they need not be waited for when the server stops.
#[derive(Default)]
pub(crate) struct Idle {
    sockets: RefCell<Slab<Rc<Socket>>>,
}

impl Idle {
    fn enter(&self, socket: &Rc<Socket>) -> Seat<'_> {
        Seat { idle: self, key: self.sockets.borrow_mut().insert(socket.clone()) }
    }

    pub(crate) fn dismiss_all(&self) {
        for (_, socket) in self.sockets.borrow().iter() {
            socket.stop_reading();
        }
    }
}

struct Seat<'i> {
    idle: &'i Idle,
    key: usize,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.idle.sockets.borrow_mut().remove(self.key);
    }
}

/// Why there is no further request.
enum Stop {
    /// The client has gone, or has had nothing to say.
    Gone,
    Refused(Refusal),
    Failed(io::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

/// Serves a client until it or we have had enough.
pub(crate) fn serve(
    site: &Site,
    server: &Handle,
    stream: Stream,
    peer: SocketAddr,
) -> io::Result<()> {
    let mut connection = Connection {
        site,
        server,
        stream,
        peer,
        input: Vec::new(),
        requests: 0,
        client_is_done: false,
        scan: HeadScan::default(),
    };
    loop {
        let head = match connection.next_head() {
            Ok(head) => head,
            Err(stop) => return connection.end(stop, &[]),
        };
        match connection.answer(&head) {
            Ok(true) => {}
            Ok(false) => {
                connection.part();
                return Ok(());
            }
            Err(stop) => return connection.end(stop, &head),
        }
    }
}

struct Connection<'s> {
    site: &'s Site,
    server: &'s Handle,
    stream: Stream,
    peer: SocketAddr,
    /// What has arrived and was not used yet.
    input: Vec<u8>,
    scan: HeadScan,
    requests: u32,
    /// The client has said that it will send nothing more, and was believed.
    client_is_done: bool,
}

impl Connection<'_> {
    // ---- reading ------------------------------------------------------------------------------

    /// Waits for a request's head.
    fn next_head(&mut self) -> Result<Vec<u8>, Stop> {
        self.scan = HeadScan::default();
        let start = Instant::now();
        let mut head_by = start + self.site.header_timeout;
        if self.input.is_empty() {
            // A connection that waits should not cost more than its stack.
            self.input = Vec::new();
            let is_first = self.requests == 0;
            let patience = match (is_first, self.server.is_stopping()) {
                (_, true) => LAST_CALL,
                (true, false) => self.site.header_timeout,
                (false, false) => self.site.idle_timeout,
            };
            self.stream.socket().read_by(start + patience);
            let socket = self.stream.socket().clone();
            let site = self.site;
            let seat = site.idle.enter(&socket);
            self.fill().map_err(|stop| match stop {
                Stop::Failed(error) if error.kind() == io::ErrorKind::TimedOut => Stop::Gone,
                stop => stop,
            })?;
            drop(seat);
            if !is_first {
                head_by = Instant::now() + self.site.header_timeout;
            }
        }
        self.stream.socket().read_by(head_by);
        loop {
            if let Some(place) = self.scan.find(&self.input)? {
                let head = self.input[place.clone()].to_vec();
                self.input.drain(..place.end);
                self.requests += 1;
                return Ok(head);
            }
            self.fill_in_time()?;
        }
    }

    /// Waits for more.
    fn fill(&mut self) -> Result<(), Stop> {
        let length = self.input.len();
        self.input.resize(length + 4096, 0);
        let received = self.stream.read(&mut self.input[length..]);
        self.input.truncate(length + received.as_ref().copied().unwrap_or(0));
        match received {
            Ok(0) => Err(Stop::Gone),
            Ok(_) => Ok(()),
            Err(error) => Err(Stop::Failed(error)),
        }
    }

    fn fill_in_time(&mut self) -> Result<(), Stop> {
        self.fill().map_err(|stop| match stop {
            Stop::Failed(error) if error.kind() == io::ErrorKind::TimedOut => {
                Refusal::new(408, "the request took too long").into()
            }
            stop => stop,
        })
    }

    /// Reads the body and throws it away, so that the next request begins where it begins.
    fn skip_body(&mut self, request: &Request<'_>) -> Result<(), Stop> {
        let too_long = Refusal::new(413, "the body is too long");
        match request.body {
            Body::None => return Ok(()),
            Body::Length(length) if length > MAX_BODY => return Err(too_long.into()),
            _ => {}
        }
        if request.expects_continue && self.input.is_empty() {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n", false)?;
        }
        self.stream.socket().read_by(Instant::now() + self.site.header_timeout);
        if let Body::Length(length) = request.body {
            let mut left = length as usize;
            loop {
                let here = left.min(self.input.len());
                self.input.drain(..here);
                left -= here;
                if left == 0 {
                    return Ok(());
                }
                self.fill_in_time()?;
            }
        }
        let (mut chunks, mut seen) = (Chunks::new(), 0);
        loop {
            let here = chunks.pass(&self.input)?;
            self.input.drain(..here);
            seen += here as u64;
            if chunks.is_done() {
                return Ok(());
            }
            if seen > MAX_BODY {
                return Err(too_long.into());
            }
            self.fill_in_time()?;
        }
    }

    // ---- answering ----------------------------------------------------------------------------

    /// Answers a request. Says whether another one may follow.
    fn answer(&mut self, head: &[u8]) -> Result<bool, Stop> {
        let request = parse(head)?;
        let wants_no_body = !matches!(request.method, "GET" | "HEAD" | "OPTIONS");
        let leaves_body = wants_no_body && request.body != Body::None;
        if !leaves_body {
            self.skip_body(&request)?;
        }
        let answer = Answer::to(&request, &self.site.root, self.site.may_list);
        self.client_is_done = !request.keep_alive && !leaves_body;
        let last = self.requests >= self.site.max_requests || self.server.is_stopping();
        let mut keep_alive = request.keep_alive && !last && !leaves_body;
        // Without chunks, the end of the connection is the end of the page.
        keep_alive &= !(request.is_old && matches!(answer.content, Content::Listing(_)));
        let (status, mut sent) = (answer.head.status, 0);
        let delivered = self.deliver(answer, &request, keep_alive, &mut sent);
        self.note(head, status, sent);
        delivered.map_err(Stop::Failed)?;
        Ok(keep_alive)
    }

    /// Sends an answer, and counts in `sent` how much of its body.
    fn deliver(
        &mut self,
        answer: Answer,
        request: &Request<'_>,
        keep_alive: bool,
        sent: &mut u64,
    ) -> io::Result<()> {
        let Answer { mut head, content } = answer;
        match &content {
            Content::None => {}
            Content::Page(page) => drop(head.length(page.len() as u64)),
            Content::File(_, part) => drop(head.length(part.length)),
            Content::Parts(_, parts, end) => {
                let length: u64 =
                    parts.iter().map(|(text, part)| text.len() as u64 + part.length).sum();
                head.length(length + end.len() as u64);
            }
            Content::Listing(_) if request.is_old => {}
            Content::Listing(_) => drop(head.header("Transfer-Encoding", "chunked")),
        }
        let mut bytes = head.finish(keep_alive);
        if request.method == "HEAD" {
            return self.stream.send(&bytes, false);
        }
        match content {
            Content::None => self.stream.send(&bytes, false),
            Content::Page(page) => {
                bytes.extend_from_slice(page.as_bytes());
                self.stream.send(&bytes, false)?;
                *sent = page.len() as u64;
                Ok(())
            }
            Content::File(file, Part { start, length }) if length <= SMALL => {
                let head = bytes.len();
                bytes.resize(head + length as usize, 0);
                file.read_exact_at(&mut bytes[head..], start)?;
                self.stream.send(&bytes, false)?;
                *sent = length;
                Ok(())
            }
            Content::File(file, Part { start, length }) => {
                self.stream.send(&bytes, true)?;
                self.stream.send_file(&file, start, length, sent)
            }
            Content::Parts(file, parts, end) => {
                for (text, part) in parts {
                    bytes.extend_from_slice(text.as_bytes());
                    self.stream.send(&bytes, true)?;
                    self.stream.send_file(&file, part.start, part.length, sent)?;
                    bytes.clear();
                }
                self.stream.send(end.as_bytes(), false)
            }
            Content::Listing(page) => self.deliver_page(bytes, page, request.is_old, sent),
        }
    }

    /// Sends a page of unknown length: in chunks, or, for HTTP/1.0, up to the end of the connection.
    fn deliver_page(
        &mut self,
        mut bytes: Vec<u8>,
        page: Listing,
        is_old: bool,
        sent: &mut u64,
    ) -> io::Result<()> {
        let mut page = page.peekable();
        let mut chunk = String::new();
        while let Some(piece) = page.next() {
            chunk.push_str(&piece);
            let is_last = page.peek().is_none();
            if chunk.len() < CHUNK && !is_last {
                continue;
            }
            if is_old {
                bytes.extend_from_slice(chunk.as_bytes());
            } else {
                bytes.extend_from_slice(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes());
                if is_last {
                    bytes.extend_from_slice(b"0\r\n\r\n");
                }
            }
            self.stream.send(&bytes, false)?;
            *sent += chunk.len() as u64;
            bytes.clear();
            chunk.clear();
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8], more: bool) -> Result<(), Stop> {
        self.stream.send(bytes, more).map_err(Stop::Failed)
    }

    // ---- ending -------------------------------------------------------------------------------

    /// Ends the connection after its last answer.
    fn part(&mut self) {
        if self.client_is_done && self.input.is_empty() {
            self.stream.finish();
        } else {
            self.stream.finish_slowly(FAREWELL);
        }
    }

    /// Ends the connection. `head` is the request's, if it is complete.
    fn end(&mut self, stop: Stop, head: &[u8]) -> io::Result<()> {
        let refusal = match stop {
            Stop::Gone => {
                self.stream.finish();
                return Ok(());
            }
            Stop::Failed(error) => return Err(error),
            Stop::Refused(refusal) => refusal,
        };
        let Answer { head: mut answer, content } = Answer::error(refusal.status, refusal.why);
        let Content::Page(page) = content else { return Ok(()) };
        answer.length(page.len() as u64);
        let mut bytes = answer.finish(false);
        bytes.extend_from_slice(page.as_bytes());
        let sent = self.stream.send(&bytes, false);
        let request = if head.is_empty() { self.input.clone() } else { head.to_vec() };
        self.note(&request, refusal.status, if sent.is_ok() { page.len() as u64 } else { 0 });
        sent?;
        self.stream.finish_slowly(FAREWELL);
        Ok(())
    }

    fn note(&self, request: &[u8], status: u16, sent: u64) {
        if let Some(log) = &self.site.log {
            let line = request.split(|&byte| byte == b'\n').find(|line| line.len() > 1);
            let line = line.unwrap_or_default().trim_ascii_end();
            log.note(self.peer, &line[..line.len().min(MAX_HEAD / 8)], status, sent);
        }
    }
}

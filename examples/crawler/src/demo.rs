//! A small web site with everything that goes wrong on the web, served by this program to itself.
//!
//! Plain std::net, like the crawler.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::workers::Workers;

/// What a page takes, and a slow one.
const USUAL: Duration = Duration::from_millis(20);
const SLOW: Duration = Duration::from_millis(250);

struct Site {
    pages: usize,
    /// How often each of the unreliable pages was asked for.
    asked: Mutex<HashMap<String, u32>>,
    requests: AtomicU32,
}

/// Begins to serve, and returns the address of the first page.
pub(crate) fn serve(workers: Workers, pages: usize) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let site = Arc::new(Site { pages, asked: Mutex::default(), requests: AtomicU32::new(0) });
    workers.spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                thread::sleep(Duration::from_millis(10)); // out of descriptors, for now
                continue;
            };
            let site = site.clone();
            // A connection that cannot be served is closed.
            let _ = workers.spawn(move || {
                let _ = site.connection(stream);
            });
        }
    })?;
    Ok(format!("http://{address}/"))
}

enum Reply {
    Page(String),
    Status(u16, &'static str, String),
    Redirect(String),
    /// Written to the connection as it stands, which is closed then.
    Raw(Vec<u8>),
    Hang,
}

impl Site {
    fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut buffer = Vec::new();
        loop {
            // The head of a request; a GET has no body.
            let end = loop {
                if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break at + 4;
                }
                let mut part = [0; 4096];
                match stream.read(&mut part)? {
                    0 => return Ok(()),
                    n => buffer.extend_from_slice(&part[..n]),
                }
                if buffer.len() > 64 << 10 {
                    return Ok(());
                }
            };
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end);
            let target = head.split(' ').nth(1).unwrap_or("/");
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            match self.reply(target) {
                Reply::Page(html) => {
                    let packed = number % 3 == 0;
                    stream.write_all(&page(
                        200,
                        "OK",
                        "text/html; charset=utf-8",
                        html.as_bytes(),
                        packed,
                    ))?;
                }
                Reply::Status(status, reason, headers) => {
                    let html = format!("<title>{reason}</title>{reason}");
                    let mut answer = format!(
                        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/html\r\n{headers}Content-Length: {}\r\n\r\n",
                        html.len()
                    );
                    answer.push_str(&html);
                    stream.write_all(answer.as_bytes())?;
                }
                Reply::Redirect(target) => {
                    let answer = format!(
                        "HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
                    );
                    stream.write_all(answer.as_bytes())?;
                }
                Reply::Raw(bytes) => return stream.write_all(&bytes),
                Reply::Hang => {
                    // Until the client gives up.
                    while stream.read(&mut [0; 4096])? > 0 {}
                    return Ok(());
                }
            }
        }
    }

    fn reply(&self, target: &str) -> Reply {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            [] => Reply::Page(home()),
            ["robots.txt"] => Reply::Raw(page(
                200,
                "OK",
                "text/plain",
                b"User-agent: *\nDisallow: /private/\nSitemap: /sitemap.xml\n",
                false,
            )),
            ["sitemap.xml"] => Reply::Raw(page(
                200,
                "OK",
                "application/xml",
                b"<urlset><url><loc>/only-in-the-site-map</loc></url></urlset>",
                false,
            )),
            ["page", number] => match number.parse() {
                Ok(number) if (1..=self.pages).contains(&number) => {
                    thread::sleep(if number % 10 == 0 { SLOW } else { USUAL });
                    Reply::Page(numbered(number, self.pages))
                }
                _ => Reply::Status(404, "Not Found", String::new()),
            },
            ["only-in-the-site-map"] => Reply::Page("<title>Found</title>".to_owned()),
            ["error"] => Reply::Status(500, "Internal Server Error", String::new()),
            ["flaky"] => {
                let mut asked = self.asked.lock().unwrap();
                let times = asked.entry(path.to_owned()).or_default();
                *times += 1;
                if *times == 1 {
                    Reply::Status(503, "Service Unavailable", "Retry-After: 0\r\n".to_owned())
                } else {
                    Reply::Page("<title>At last</title>".to_owned())
                }
            }
            ["moved"] => Reply::Redirect("/page/1#there".to_owned()),
            ["loop", "a"] => Reply::Redirect("/loop/b".to_owned()),
            ["loop", "b"] => Reply::Redirect("a".to_owned()),
            ["chain", number] => {
                Reply::Redirect(format!("/chain/{}", number.parse::<u64>().unwrap_or(0) + 1))
            }
            ["calendar"] => {
                let month: u64 = query.rsplit('=').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                Reply::Page(format!("<a href='?month={}'>next month</a>", month + 1))
            }
            ["circle", ..] => Reply::Page("<a href='circle/'>round and round</a>".to_owned()),
            ["hang"] => Reply::Hang,
            ["reset"] => Reply::Raw(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\n\r\n<title>half a page".to_vec(),
            ),
            ["malformed"] => Reply::Raw(b"HTTP/1.1 200 OK\r\nContent Type\x01 text\r\n\r\n".to_vec()),
            ["bomb"] => {
                let zeros = vec![b' '; 64 << 20];
                Reply::Raw(page(200, "OK", "text/html", &zeros, true))
            }
            ["big"] => {
                let mut html = b"<title>Big</title>".to_vec();
                html.resize(10 << 20, b' ');
                Reply::Raw(page(200, "OK", "text/html", &html, false))
            }
            ["charset"] => Reply::Raw(page(
                200,
                "OK",
                "text/html; charset=utf-8",
                b"<title>caf\xe9</title><a href='/page/2'>\xff</a>",
                false,
            )),
            ["image.png"] => Reply::Raw(page(200, "OK", "image/png", b"\x89PNG", false)),
            _ => Reply::Status(404, "Not Found", String::new()),
        }
    }
}

fn page(status: u16, reason: &str, media_type: &str, body: &[u8], packed: bool) -> Vec<u8> {
    let packed = packed.then(|| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).and_then(|()| encoder.finish()).unwrap_or_default()
    });
    let (body, encoding) = match &packed {
        Some(packed) => (&**packed, "Content-Encoding: gzip\r\n"),
        None => (body, ""),
    };
    let mut answer = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {media_type}\r\n{encoding}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn home() -> String {
    let mut html = String::from(
        "<!doctype html><title>A small site with everything that goes wrong</title><h1>Welcome</h1>\
         <a href=http://example.invalid/>elsewhere</a> <a href='mailto:nobody@example.invalid'>mail</a>",
    );
    for target in [
        "page/1",
        "missing",
        "error",
        "flaky",
        "moved",
        "loop/a",
        "chain/0",
        "calendar?month=1",
        "circle/",
        "hang",
        "reset",
        "malformed",
        "bomb",
        "big",
        "charset",
        "private/secret",
        "image.png",
    ] {
        html.push_str(&format!("<li><a href='/{target}'>{target}</a>"));
    }
    html
}

/// A tree of pages, three children each, with links back up and across.
fn numbered(number: usize, pages: usize) -> String {
    let mut html = format!(
        "<!doctype html><title>Page {number}</title><a href='/'>home</a> <a href=1>first</a>"
    );
    for child in (3 * number - 1..=3 * number + 1).filter(|child| *child <= pages) {
        html.push_str(&format!("<p><a href='{child}#top'>page {child}</a>"));
    }
    if number % 50 == 7 {
        html.push_str("<a href='/missing'>this was here once</a>");
    }
    html.push_str(&"<p>Nothing much to read here.".repeat(20));
    html
}

//! A site of many pages, each answered after a while: what crawlers are measured with.
//!
//! Run with: cargo run --release -p crawler --example slow_site -- --pages 2000 --delay 100

use std::io::{Read, Write};
use std::time::Duration;

use clap::Parser;
use greenling::net::{TcpListener, TcpStream};
use greenling::{sleep, spawn};

#[derive(Clone, Copy, Debug, Parser)]
struct Options {
    /// How many pages there are, besides the first
    #[arg(long, default_value_t = 2000)]
    pages: usize,
    /// Milliseconds until a page is answered; the first is answered at once
    #[arg(long, default_value_t = 100)]
    delay: u64,
    /// How many links a page has to pages that no other links to
    #[arg(long, default_value_t = 2000)]
    width: usize,
}

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        drop(spawn(move || serve(stream, options)));
    }
}

fn serve(mut stream: TcpStream, options: Options) -> Option<()> {
    let mut request = Vec::new();
    let mut part = [0; 2048];
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut part).ok()? {
                0 => return None,
                n => request.extend_from_slice(&part[..n]),
            }
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        request.clear();
        let target = text.split(' ').nth(1)?;
        let (status, body) = page(target, options);
        if target != "/" {
            sleep(Duration::from_millis(options.delay));
        }
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).ok()?;
    }
}

fn page(target: &str, options: Options) -> (&'static str, String) {
    let number = match target {
        "/" => Some(0),
        _ => target.strip_prefix("/p").and_then(|number| number.parse::<usize>().ok()),
    };
    let Some(number) = number.filter(|number| *number <= options.pages) else {
        return ("404 Not Found", String::new());
    };
    let first = number * options.width + 1;
    let mut body = format!(
        "<!doctype html><title>Page {number}</title><p>Some words to read. <a href=/>home</a>"
    );
    for child in (first..first + options.width).take_while(|child| *child <= options.pages) {
        body.push_str(&format!("<a href=/p{child}>page {child}</a>\n"));
    }
    ("200 OK", body)
}

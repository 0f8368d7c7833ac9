//! A web server that counts, and the crawler as a person runs it.

#![allow(dead_code, reason = "not every test program needs all of it")]

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What a request is answered with: a function from the target to the bytes of an answer.
pub(crate) type Handler = dyn Fn(&str) -> Vec<u8> + Send + Sync;

pub(crate) struct Site {
    pub(crate) url: String,
    hits: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Site {
    /// Serves on loopback, a thread for each connection, until the test ends.
    pub(crate) fn serve(handler: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let hits: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
        let handler: Arc<Handler> = Arc::new(handler);
        let counted = hits.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let (handler, hits) = (handler.clone(), counted.clone());
                let builder = thread::Builder::new().stack_size(256 << 10);
                let _ = builder.spawn(move || connection(stream, &*handler, &hits));
            }
        });
        Site { url, hits }
    }

    pub(crate) fn hits(&self) -> BTreeMap<String, u32> {
        self.hits.lock().unwrap().clone()
    }

    /// How many requests there were, robots.txt not counted.
    pub(crate) fn requests(&self) -> u32 {
        self.hits().iter().filter(|(path, _)| *path != "/robots.txt").map(|(_, n)| n).sum()
    }
}

fn connection(
    stream: TcpStream,
    handler: &Handler,
    hits: &Mutex<BTreeMap<String, u32>>,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).ok()? == 0 {
            return None;
        }
        let target = request.split(' ').nth(1)?.to_owned();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? <= 2 {
                break;
            }
        }
        *hits.lock().unwrap().entry(target.clone()).or_default() += 1;
        let answer = handler(&target);
        if answer.is_empty() {
            return None; // closes the connection
        }
        writer.write_all(&answer).ok()?;
    }
}

pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    if !headers.contains("Content-Type") {
        answer.insert_str(answer.len() - 2, "Content-Type: text/html\r\n");
    }
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(body);
    answer
}

pub(crate) fn html(body: &str) -> Vec<u8> {
    answer("200 OK", "", body.as_bytes())
}

pub(crate) fn not_found() -> Vec<u8> {
    answer("404 Not Found", "", b"")
}

/// A tree: page n links to `width` others, up to page `count`.
pub(crate) fn tree_page(target: &str, count: usize, width: usize) -> Vec<u8> {
    let number = match target {
        "/" => 0,
        _ => match target.trim_start_matches("/p").parse::<usize>() {
            Ok(number) => number,
            Err(_) => return not_found(),
        },
    };
    let mut page = format!("<title>{number}</title><a href=/>up</a>");
    for child in (number * width + 1..=number * width + width).filter(|child| *child < count) {
        page.push_str(&format!("<a href=/p{child}>{child}</a> "));
    }
    html(&page)
}

/// A folder of the test's own, removed in the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("crawler-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn crawler(folder: &Folder, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crawler"));
    command.current_dir(&folder.0).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the crawler to its end, which must come in time.
pub(crate) fn run(folder: &Folder, args: &[&str]) -> Output {
    finish(crawler(folder, args).spawn().unwrap(), Duration::from_secs(100))
}

pub(crate) fn finish(mut child: Child, limit: Duration) -> Output {
    let drain = |pipe: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut text = Vec::new();
            pipe.map(|mut pipe| pipe.read_to_end(&mut text));
            text
        })
    };
    let stdout = drain(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = drain(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!(
                "the crawler hangs: {}{}",
                String::from_utf8_lossy(&stdout.join().unwrap()),
                String::from_utf8_lossy(&stderr.join().unwrap())
            );
        }
        thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

pub(crate) fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[track_caller]
pub(crate) fn succeeded(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The lines of an output, by path.
pub(crate) fn pages(path: &Path) -> HashMap<String, serde_json::Value> {
    let mut pages = HashMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let page: serde_json::Value = serde_json::from_str(line).unwrap();
        let url = url::Url::parse(page["url"].as_str().unwrap()).unwrap();
        let name = url[url::Position::BeforePath..].to_owned();
        assert!(pages.insert(name.clone(), page).is_none(), "{name} is there twice");
    }
    pages
}

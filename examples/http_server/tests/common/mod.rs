//! A server with a site, and clients that no one here has to trust.

#![allow(dead_code, reason = "not every test program needs all of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Long enough that only a fault uses it up.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A large file's bytes: each part of it is different.
pub(crate) fn large_file(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(size as u64);
    let mut bytes = vec![0; size];
    random.fill(&mut bytes);
    bytes
}

/// A directory with something of everything.
pub(crate) fn site() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put("hello.txt", b"Hello, world!\n");
    put("empty", b"");
    put("digits", b"0123456789");
    put("page/index.html", b"<!DOCTYPE html><title>page</title><p>index\n");
    put("list/a & b.html", b"x");
    put("list/sub/x", b"x");
    put("list/.hidden", b"x");
    put("large.bin", &large_file(4 << 20));
    dir
}

pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
    stderr: thread::JoinHandle<String>,
    pub(crate) root: TempDir,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Server {
        Server::with_root(site(), arguments)
    }

    pub(crate) fn with_root(root: TempDir, arguments: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_http_server"))
            .args(["--addr", "127.0.0.1:0", "--root"])
            .arg(root.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = drain(child.stderr.take().unwrap());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        drain(stdout);
        let addr = line.strip_prefix("listening on ").expect("it listens").trim().parse().unwrap();
        Server { child, addr, stderr, root }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// One request on a connection of its own.
    pub(crate) fn get(&self, path: &str, headers: &str) -> Answer {
        self.connect().ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n"))
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: no pointers; the process is our child and was not waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Waits until it has no more descriptors open than `count`.
    #[track_caller]
    pub(crate) fn settles_at(&self, count: usize) {
        let start = Instant::now();
        while self.descriptors() > count {
            let now = self.descriptors();
            assert!(start.elapsed() < LONG, "{now} descriptors are open, {count} were before");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Waits for its end, which has to be a good one.
    #[track_caller]
    pub(crate) fn ended_well(mut self) -> String {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if start.elapsed() > LONG => panic!("it does not end"),
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        let stderr = std::mem::replace(&mut self.stderr, thread::spawn(String::new));
        let stderr = stderr.join().unwrap();
        assert!(status.success(), "{status}: {stderr}");
        stderr
    }

    /// Asks it to end, and makes sure that it has not panicked meanwhile.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.signal(libc::SIGTERM);
        let stderr = self.ended_well();
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A client by hand.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

/// What it has got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let first = all.next();
        assert!(all.next().is_none(), "two of {name}");
        first.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        self.answer(request.split(' ').next().unwrap())
    }

    /// The next answer, to a request of this method.
    #[track_caller]
    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        let mut answer = self.head();
        let has_body = method != "HEAD" && !matches!(answer.status, 100 | 204 | 304);
        if !has_body {
            return answer;
        }
        if answer.find("transfer-encoding").is_some() {
            assert_eq!(answer.header("transfer-encoding"), "chunked");
            loop {
                let line = self.line();
                let size = usize::from_str_radix(&line, 16).unwrap();
                let mut chunk = vec![0; size];
                self.stream.read_exact(&mut chunk).unwrap();
                assert_eq!(self.line(), "");
                answer.body.extend(chunk);
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = answer.find("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body).unwrap();
            answer.body = body;
        } else {
            assert_eq!(answer.header("connection"), "close");
            self.stream.read_to_end(&mut answer.body).unwrap();
        }
        answer
    }

    #[track_caller]
    pub(crate) fn head(&mut self) -> Answer {
        let line = self.line();
        let status = line.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{line:?}"));
        let status = status[..3].parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return Answer { status, headers, body: Vec::new() };
            }
            let (name, value) = line.split_once(": ").unwrap();
            headers.push((name.to_owned(), value.to_owned()));
        }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("a line is cut: {line:?}")).to_owned()
    }

    /// The server has nothing more to say and has closed the connection.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

/// Runs a program that has to succeed; `None` if it is not installed.
pub(crate) fn tool(name: &str, arguments: &[&str]) -> Option<Output> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    if !found {
        eprintln!("skipped: {name} is not installed");
        return None;
    }
    let child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id() as i32;
    let (done, is_done) = mpsc::channel();
    let waiter = thread::spawn(move || {
        let output = child.wait_with_output();
        let _ = done.send(());
        output
    });
    if is_done.recv_timeout(4 * LONG).is_err() {
        // SAFETY: no pointers; it is our child and was not waited for.
        unsafe { libc::kill(id, libc::SIGKILL) };
        panic!("{name} hangs");
    }
    let output = waiter.join().unwrap().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
    Some(output)
}

/// A certificate for localhost and its key; `None` without openssl.
pub(crate) fn certificate(dir: &Path) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    tool(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
            key.to_str()?,
            "-out",
            cert.to_str()?,
        ],
    )?;
    Some((cert, key))
}

//! The small servers of `examples/` do what they say, with clients that no one here wrote, and survive what
//! goes wrong.

#[path = "small_servers/chat.rs"]
mod chat;
#[path = "common/example.rs"]
mod example;
#[path = "small_servers/forwarder.rs"]
mod forwarder;
#[path = "common/fuzz.rs"]
mod fuzz;
#[path = "common/fuzz_http.rs"]
mod fuzz_http;
#[path = "small_servers/grace.rs"]
mod grace;
#[allow(dead_code, reason = "the tests need only some of what the proxy does")]
#[path = "../examples/support/http_message.rs"]
mod http_message;
#[path = "small_servers/malformed.rs"]
mod malformed;
#[path = "small_servers/poll_echo.rs"]
mod poll_echo;
#[path = "small_servers/proxy.rs"]
mod proxy;
#[path = "small_servers/records.rs"]
mod records;
#[path = "small_servers/soak.rs"]
mod soak;
#[path = "small_servers/soak_more.rs"]
mod soak_more;
#[path = "small_servers/unix_log.rs"]
mod unix_log;

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use example::DEADLINE;

/// Whether a client is installed; says so if the test is passed over.
fn have(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|dir| dir.join(tool).is_file());
    if !found {
        println!("skipped: {tool} is not installed");
    }
    found
}

/// Runs a client under a time limit, with what it is to read.
#[track_caller]
fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A client that ends early does not read it all.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let id = child.id();
    let waiting = thread::spawn(move || child.wait_with_output().unwrap());
    let start = Instant::now();
    while !waiting.is_finished() {
        if start.elapsed() > DEADLINE {
            // SAFETY: no pointers; the process is our child, whom nobody has waited for yet.
            unsafe { libc::kill(id as libc::pid_t, libc::SIGKILL) };
            panic!("{command:?} hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
    writer.join().unwrap();
    waiting.join().unwrap()
}

/// As [`run`]; the client must succeed. Gives what it has printed.
#[track_caller]
fn succeed(command: &mut Command, input: &[u8]) -> String {
    let output = run(command, input);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{stdout}\n{stderr}",
        output.status
    );
    stdout
}

/// A server that the test plays itself: each connection has a thread that calls `serve`.
fn play(serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.unwrap(), serve.clone());
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            thread::spawn(move || serve(stream));
        }
    });
    address.to_string()
}

/// Closes a connection by a reset.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the kernel reads a valid `linger` of the size that it is told.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Waits until something has come true.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "it does not come true: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A directory that is removed with its contents.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("greenling-small-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Dir(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Bytes of which each part is different.
fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(size as u64).fill(&mut bytes);
    bytes
}

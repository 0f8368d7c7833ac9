//! The server in a process of its own, and a client that says exactly what a test wants said.

#![allow(dead_code, reason = "no test program needs all of it")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long any one thing may take on a busy machine. What takes longer hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    root: TempDir,
    log: Arc<Mutex<String>>,
}

impl Server {
    pub(crate) fn start(options: &[&str]) -> Server {
        Server::start_in(tempfile::tempdir().unwrap(), options)
    }

    pub(crate) fn start_in(root: TempDir, options: &[&str]) -> Server {
        Server::run(root, Command::new(env!("CARGO_BIN_EXE_ftp_server")), options)
    }

    /// In a shell that has set a limit.
    pub(crate) fn start_limited(limit: &str, options: &[&str]) -> Server {
        let mut command = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_ftp_server");
        command.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\""), program]);
        Server::run(tempfile::tempdir().unwrap(), command, options)
    }

    fn run(root: TempDir, mut command: Command, options: &[&str]) -> Server {
        command.args(["--addr", "127.0.0.1:0", "--log", "--root"]).arg(root.path()).args(options);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").map(|address| address.trim().parse());
        let address = address.unwrap_or_else(|| panic!("it does not listen: {line:?}")).unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, lines) = (child.stderr.take().unwrap(), Arc::clone(&log));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = lines.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Server { child, address, root, log }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// All names in the root, those that clients do not see too.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ftp://{}/{path}", self.address)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Waits until so many files are open, as at a time when nobody was connected.
    pub(crate) fn wait_for_open_files(&self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.open_files() > count {
            assert!(Instant::now() < deadline, "{} are open, {count} were", self.open_files());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: the process is our child and was not waited for, so the id is still its own.
        let result = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child, "the server")
    }

    /// It still serves, and nothing in it has panicked.
    #[track_caller]
    pub(crate) fn check(&self) {
        let mut client = self.login();
        client.ask("NOOP", 200);
        client.ask("QUIT", 221);
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }

    pub(crate) fn connect(&self) -> Client {
        let mut client = Client::new(self.address);
        client.expect(220);
        client
    }

    pub(crate) fn login(&self) -> Client {
        let mut client = self.connect();
        client.ask("USER anonymous", 331);
        client.ask("PASS tests@", 230);
        client.ask("TYPE I", 200);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child, who: &str) -> ExitStatus {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("{who} does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Client {
        let stream = connect(address);
        let input = BufReader::new(stream.try_clone().unwrap());
        Client { stream, input }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The next reply, with all of its lines.
    pub(crate) fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            let n = self.input.read_line(&mut reply).unwrap();
            assert!(n > 0, "the server has closed the connection after {reply:?}");
            let line = &reply[start..];
            assert!(line.ends_with("\r\n"), "{line:?}");
            if line[..3].parse::<u16>().is_ok() && line[3..].starts_with(' ') {
                return reply;
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, code: u16) -> String {
        let reply = self.reply();
        assert!(reply.starts_with(&code.to_string()), "{code} was expected, not {reply:?}");
        reply
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str, code: u16) -> String {
        self.send(format!("{command}\r\n"));
        self.expect(code)
    }

    /// The server has closed the connection.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        let end = self.input.read_to_end(&mut rest);
        assert!(end.is_ok() || is_reset(&end), "{end:?}");
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    /// Where the server listens for the next data connection.
    pub(crate) fn passive(&mut self) -> SocketAddr {
        let reply = self.ask("EPSV", 229);
        let (_, rest) = reply.split_once("(|||").unwrap();
        let (port, _) = rest.split_once("|)").unwrap();
        SocketAddr::new(self.stream.peer_addr().unwrap().ip(), port.parse().unwrap())
    }

    /// Begins a transfer, with the data connection open.
    pub(crate) fn begin(&mut self, command: &str) -> TcpStream {
        let data = connect(self.passive());
        self.ask(command, 150);
        data
    }

    pub(crate) fn get(&mut self, command: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.begin(command).read_to_end(&mut bytes).unwrap();
        self.expect(226);
        bytes
    }

    pub(crate) fn put(&mut self, command: &str, bytes: &[u8]) {
        self.begin(command).write_all(bytes).unwrap();
        self.expect(226);
    }
}

pub(crate) fn is_reset<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Closes a connection by a reset.
pub(crate) fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// Whether a program is installed; a test that cannot do without it says so and passes.
pub(crate) fn have(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    if !found.status.success() {
        println!("skipped: {program} is not installed");
    }
    found.status.success()
}

/// Runs a real client and gives what it has printed.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env("HOME", directory);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let (id, watched) = (child.id() as libc::pid_t, Arc::clone(&done));
    thread::spawn(move || {
        let deadline = Instant::now() + 2 * DEADLINE;
        while Instant::now() < deadline {
            if watched.load(Ordering::Acquire) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        // SAFETY: the process is our child and has not been waited for, since `done` is not set.
        unsafe { libc::kill(id, libc::SIGKILL) };
    });
    let read = |stream: &mut dyn Read| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let mut stderr = child.stderr.take().unwrap();
    let stderr = thread::spawn(move || read(&mut stderr));
    let stdout = read(&mut child.stdout.take().unwrap());
    let stderr = stderr.join().unwrap();
    done.store(true, Ordering::Release);
    Output { status: child.wait().unwrap(), stdout, stderr }
}

#[track_caller]
pub(crate) fn succeed(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = run(program, arguments, directory);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{stdout}\n{stderr}",
        output.status
    );
    stdout
}

/// Bytes that are the same at each call and compress badly.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

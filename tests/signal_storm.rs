//! A storm of signals, to every thread of the process, with a handler that lets every system call fail with `EINTR`:
//! whatever waits goes on as if nothing had happened, no wait is shorter, and no byte is lost.

#[path = "common/child.rs"]
mod child;
mod common;

use std::io::{BufRead, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use child::{On, run};
use greenling::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use greenling::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use greenling::{fs, io, join_all, process, sleep, spawn, sync, thread, threadpool};

/// Enough that buffers are full over and over.
const MUCH: usize = 2_000_000;

static CAUGHT: AtomicU64 = AtomicU64::new(0);

/// Sends a signal to every thread but its own, over and over, until it is dropped.
struct Storm {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Storm {
    fn begin() -> Storm {
        extern "C" fn count(_: libc::c_int) {
            CAUGHT.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: all fields may be zero. There is no SA_RESTART, so that slow calls fail with EINTR; the
        // handler does nothing that a handler may not do.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    strike();
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
        });
        Storm { stop, thread: Some(thread) }
    }
}

fn strike() {
    // SAFETY: passes nothing.
    let (process, me) = unsafe { (libc::getpid(), libc::gettid()) };
    // Fails while there are no descriptors left; then whichever thread the kernel chooses has to do.
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        // SAFETY: to ourselves, who have a handler.
        unsafe { libc::kill(process, libc::SIGUSR1) };
        return;
    };
    for thread in threads.flatten() {
        let thread: i32 = thread.file_name().to_str().unwrap().parse().unwrap();
        if thread != me {
            // SAFETY: to a thread of ours, or to none if it has ended.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        assert!(CAUGHT.load(Ordering::Relaxed) > 20, "there was no storm");
    }
}

fn in_a_storm(body: impl FnOnce()) {
    run(On::OtherThread, 120, || {
        let _storm = Storm::begin();
        body();
    })
    .succeeded();
}

/// What comes out at the other end is what was written.
fn transfer(mut into: impl Write + 'static, mut from: impl Read) {
    let data: Vec<u8> = (0..MUCH).map(|n| (n % 251) as u8).collect();
    let sent = data.clone();
    let writer = spawn(move || {
        into.write_all(&sent).unwrap();
        into.flush().unwrap();
    });
    let mut received = Vec::new();
    let mut buffer = vec![0; 10_000];
    while received.len() < MUCH {
        // Not `read_to_end`, which would try again by itself.
        let count = from.read(&mut buffer).unwrap();
        assert!(count > 0);
        received.extend_from_slice(&buffer[..count]);
    }
    assert!(received == data);
    writer.join().unwrap();
}

/// It is one: a call of std's fails.
#[test]
fn a_thread_that_blocks_is_disturbed() {
    in_a_storm(|| {
        let (mut stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        for _ in 0..50 {
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::Interrupted);
        }
    });
}

#[test]
fn connections() {
    in_a_storm(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = spawn(move || {
            for stream in listener.incoming().take(50) {
                sleep(Duration::from_millis(1));
                stream.unwrap().write_all(b"x").unwrap();
            }
            listener.accept().unwrap().0
        });
        for n in 0..50 {
            let mut stream = match n % 3 {
                0 => TcpStream::connect(addr),
                1 => TcpStream::connect_timeout(&addr, Duration::from_secs(60)),
                _ => TcpStream::connect(("localhost", addr.port())),
            }
            .unwrap();
            assert_eq!(stream.peek(&mut [0; 8]).unwrap(), 1);
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
        }
        let client = TcpStream::connect(addr).unwrap();
        transfer(client, server.join().unwrap());
    });
}

#[test]
fn unix_sockets() {
    in_a_storm(|| {
        let path = std::env::temp_dir().join(format!("greenling-storm-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let server = spawn(move || {
            sleep(Duration::from_millis(20));
            (0..300).map(|_| listener.accept().unwrap().0).collect::<Vec<_>>()
        });
        // More than the queue of a listener holds, for which connect has to wait.
        let clients: Vec<_> = (0..300).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert_eq!(server.join().unwrap().len(), clients.len());
        std::fs::remove_file(&path).unwrap();
        let (a, b) = UnixStream::pair().unwrap();
        transfer(a, b);
    });
}

#[test]
fn datagrams() {
    in_a_storm(|| {
        let (a, b) = UnixDatagram::pair().unwrap();
        let sender =
            spawn(move || (0..1000).for_each(|_| assert_eq!(a.send(&[7; 100]).unwrap(), 100)));
        (0..1000).for_each(|_| assert_eq!(b.recv(&mut [0; 200]).unwrap(), 100));
        sender.join().unwrap();

        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        let sender = spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..100 {
                socket.send_to(b"hello", to).unwrap();
                sleep(Duration::from_micros(300));
            }
        });
        for _ in 0..100 {
            assert_eq!(socket.recv_from(&mut [0; 8]).unwrap().0, 5);
        }
        sender.join().unwrap();
        // A limit of time is as long as ever.
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let since = Instant::now();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(since.elapsed() >= Duration::from_millis(50));
    });
}

#[test]
fn pipes_and_standard_streams() {
    in_a_storm(|| {
        let (reader, writer) = io::pipe().unwrap();
        transfer(writer, reader);

        let (reader, mut writer) = io::pipe().unwrap();
        // SAFETY: both are open.
        assert_eq!(unsafe { libc::dup2(reader.as_raw_fd(), 0) }, 0);
        let types = spawn(move || {
            for n in 0..50 {
                sleep(Duration::from_millis(1));
                writeln!(writer, "line {n}").unwrap();
            }
        });
        let mut stdin = io::stdin().lock();
        for n in 0..50 {
            let mut line = String::new();
            stdin.read_line(&mut line).unwrap();
            assert_eq!(line, format!("line {n}\n"));
        }
        types.join().unwrap();

        let (reader, writer) = io::pipe().unwrap();
        // SAFETY: all are open; it is put back below.
        let before = unsafe { libc::dup(1) };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::dup2(writer.as_raw_fd(), 1) }, 1);
        transfer(io::stdout(), reader);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::dup2(before, 1) }, 1);
    });
}

#[test]
fn children() {
    in_a_storm(|| {
        let jobs = (0..5).map(|n| {
            spawn(move || {
                let script = format!("head -c 200000 /dev/zero; sleep 0.05; exit {n}");
                let output = process::Command::new("sh").args(["-c", &script]).output().unwrap();
                assert_eq!((output.stdout.len(), output.status.code()), (200_000, Some(n)));
            })
        });
        join_all(jobs).into_iter().for_each(|result| result.unwrap());

        let mut child = process::Command::new("cat")
            .stdin(process::Stdio::piped())
            .stdout(process::Stdio::piped())
            .spawn()
            .unwrap();
        transfer(child.stdin.take().unwrap(), child.stdout.take().unwrap());
        assert!(child.wait().unwrap().success());

        // Without descriptors a thread waits for the child.
        let mut child = process::Command::new("sleep").arg("0.1").spawn().unwrap();
        let hoard: Vec<_> = {
            let limit = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
            // SAFETY: `limit` is valid for reading.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
            std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
        };
        assert!(child.wait().unwrap().success());
        drop(hoard);
    });
}

#[test]
fn files_and_their_locks() {
    in_a_storm(|| {
        let dir = std::env::temp_dir().join(format!("greenling-storm-fs-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("file");
        for n in 0..30 {
            fs::write(&path, vec![n; 100_000]).unwrap();
            let mut file = fs::File::options().read(true).append(true).open(&path).unwrap();
            file.write_all(&[n; 1000]).unwrap();
            file.sync_all().unwrap();
            let mut all = Vec::new();
            file.read_to_end(&mut all).unwrap();
            assert!(fs::read(&path).unwrap() == vec![n; 101_000]);
            // std's own copy_file_range(2) gives up, and so do we: what it has written so far cannot be told.
            let copied = loop {
                match fs::copy(&path, dir.join("copy")) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    copied => break copied.unwrap(),
                }
            };
            assert_eq!(copied, 101_000);
            assert_eq!(
                fs::read_dir(&dir).unwrap().inspect(|entry| assert!(entry.is_ok())).count(),
                2
            );
        }
        let (first, second) = (fs::File::open(&path).unwrap(), fs::File::open(&path).unwrap());
        first.lock().unwrap();
        let waiter = spawn(move || second.lock().unwrap());
        sleep(Duration::from_millis(30));
        assert!(!waiter.is_finished());
        first.unlock().unwrap();
        waiter.join().unwrap();
        fs::remove_dir_all(&dir).unwrap();
    });
}

#[test]
fn names() {
    in_a_storm(|| {
        for _ in 0..30 {
            let mut addrs = ("localhost", 80).to_socket_addrs().unwrap();
            assert!(addrs.all(|addr| addr.ip().is_loopback() && addr.port() == 80));
            let error = ("name.invalid.", 80).to_socket_addrs().map(drop).unwrap_err();
            assert_ne!(error.kind(), ErrorKind::Interrupted);
        }
    });
}

#[test]
fn locks_channels_and_pauses() {
    const PAUSE: Duration = Duration::from_millis(30);
    in_a_storm(|| {
        let at_least = |what: fn()| {
            let since = Instant::now();
            what();
            assert!(since.elapsed() >= PAUSE);
        };
        at_least(|| sleep(PAUSE));
        at_least(|| thread::park_timeout(PAUSE));
        at_least(|| {
            let (_sender, receiver) = sync::mpsc::channel::<()>();
            assert!(receiver.recv_timeout(PAUSE).is_err());
        });
        at_least(|| {
            let mutex = sync::Mutex::new(());
            let waited = sync::Condvar::new().wait_timeout(mutex.lock().unwrap(), PAUSE);
            assert!(waited.unwrap().1.timed_out());
        });
        at_least(|| threadpool::unblock(|| std::thread::sleep(PAUSE)));

        // Threads without coroutines, which sleep in the kernel, and coroutines among them.
        let total = Arc::new(sync::Mutex::new(0));
        let (sender, receiver) = sync::mpsc::sync_channel(1);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (total, sender) = (total.clone(), sender.clone());
                std::thread::spawn(move || {
                    for n in 0..200 {
                        *total.lock().unwrap() += 1;
                        sender.send(n).unwrap();
                    }
                })
            })
            .collect();
        drop(sender);
        let counts = {
            let total = total.clone();
            spawn(move || (0..200).for_each(|_| *total.lock().unwrap() += 1))
        };
        assert_eq!(receiver.iter().count(), 800);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        counts.join().unwrap();
        assert_eq!(*total.lock().unwrap(), 1000);
    });
}

#[test]
fn waits_for_other_descriptors() {
    in_a_storm(|| {
        let (reader, mut writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let writes = spawn(move || {
            sleep(Duration::from_millis(30));
            writer.write_all(b"x").unwrap();
            writer
        });
        io::wait_readable(&reader, None).unwrap();
        assert_eq!((&reader).read(&mut [0; 8]).unwrap(), 1);
        let _writer = writes.join().unwrap();
        let since = Instant::now();
        let mut fds = [io::PollFd::readable(&reader)];
        assert_eq!(io::poll(&mut fds, Some(Duration::from_millis(30))).unwrap(), 0);
        assert!(since.elapsed() >= Duration::from_millis(30));
    });
}

// Included twice, where `root` is std and where it is greenling. Each module has its globs, and nothing else.

mod net {
    use super::root::io::prelude::*;
    use super::root::net::*;
    use super::root::thread::*;
    use super::root::time::*;

    #[test]
    fn streams_and_datagrams() {
        crate::common::deadline(60, || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let addr: SocketAddr = listener.local_addr().unwrap();
            assert!(matches!(addr.ip(), IpAddr::V4(_)));
            let server = spawn(move || {
                let mut incoming: Incoming<'_> = listener.incoming();
                incoming.next().unwrap().unwrap().write_all(b"hello").unwrap();
            });
            let addr = addr.to_socket_addrs().unwrap().next().unwrap();
            let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(50)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            let _ = stream.shutdown(Shutdown::Both);
            assert_eq!(text, "hello");
            server.join().unwrap();
            let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
            assert!("::x".parse::<Ipv6Addr>().is_err_and(|error: AddrParseError| error.to_string() != ""));
        });
    }
}

mod sync {
    use super::root::sync::atomic::*;
    use super::root::sync::mpsc::*;
    use super::root::sync::*;
    use super::root::thread::*;
    use super::root::time::*;

    #[test]
    fn locks_and_channels() {
        crate::common::deadline(60, || {
            static ONCE: Once = Once::new();
            static VALUE: OnceLock<u32> = OnceLock::new();
            static LAZY: LazyLock<u32> = LazyLock::new(|| 3);
            ONCE.call_once(|| ());
            VALUE.set(*LAZY).unwrap();
            let shared = Arc::new((Mutex::new(false), Condvar::new(), RwLock::new(0), AtomicU32::new(0)));
            let weak: Weak<_> = Arc::downgrade(&shared);
            let barrier = Arc::new(Barrier::new(2));
            let (sender, receiver) = channel();
            let (bounded, results) = sync_channel::<u32>(1);
            let handle = {
                let (shared, barrier): (Arc<_>, Arc<_>) = (shared.clone(), barrier.clone());
                Builder::new().name("one".into()).spawn(move || {
                    barrier.wait();
                    *shared.0.lock().unwrap() = true;
                    shared.1.notify_all();
                    *shared.2.write().unwrap() += 1;
                    shared.3.fetch_add(1, Ordering::SeqCst);
                    let sum: u32 = receiver.iter().sum();
                    bounded.send(sum).unwrap();
                    current().name().map(String::from)
                })
            };
            barrier.wait();
            let mut done = shared.0.lock().unwrap();
            while !*done {
                done = shared.1.wait(done).unwrap();
            }
            drop(done);
            (1..=4).for_each(|n| sender.send(n).unwrap());
            drop(sender);
            let limit = Duration::from_secs(50);
            assert_eq!(results.recv_timeout(limit), Ok(10));
            assert_eq!(results.recv_timeout(limit), Err(RecvTimeoutError::Disconnected));
            assert!(matches!(results.try_recv(), Err(TryRecvError::Disconnected)));
            assert_eq!(handle.unwrap().join().unwrap().unwrap(), "one");
            assert_eq!((*shared.2.read().unwrap(), shared.3.load(Ordering::SeqCst)), (1, 1));
            assert!(weak.upgrade().is_some() && VALUE.get() == Some(&3));
            let locked = shared.0.lock().unwrap();
            assert!(matches!(shared.0.try_lock(), Err(TryLockError::WouldBlock)));
            drop(locked);
        });
    }
}

mod thread {
    use super::root::thread::*;
    use super::root::time::*;

    #[test]
    fn threads_and_time() {
        crate::common::deadline(60, || {
            let since = Instant::now();
            let handle: JoinHandle<()> = spawn(|| park_timeout(Duration::from_millis(2)));
            let _: (&Thread, ThreadId) = (handle.thread(), handle.thread().id());
            yield_now();
            sleep(Duration::from_millis(2));
            assert!(scope(|scope| scope.spawn(panicking).join()).is_ok_and(|panics| !panics));
            let result: Result<()> = handle.join();
            assert!(result.is_ok() && since.elapsed() >= Duration::from_millis(2));
            assert!(SystemTime::now() > UNIX_EPOCH && available_parallelism().is_ok());
        });
    }
}

mod process {
    use super::root::io::prelude::*;
    use super::root::os::fd::*;
    use super::root::os::unix::process::*;
    use super::root::process::*;

    #[test]
    fn children() {
        crate::common::deadline(60, || {
            let mut command = Command::new("cat");
            command.arg0("another").stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child: Child = command.spawn().unwrap();
            let mut stdin: ChildStdin = child.stdin.take().unwrap();
            assert!(stdin.as_raw_fd() > 2 && id() == parent_of(&child));
            stdin.write_all(b"meow").unwrap();
            drop(stdin);
            let Output { status, stdout, .. } = child.wait_with_output().unwrap();
            assert_eq!((status.code(), &stdout[..]), (Some(0), &b"meow"[..]));
            let status: ExitStatus = Command::new("sh").args(["-c", "kill $$"]).status().unwrap();
            assert_eq!(status.signal(), Some(15));
        });
    }

    fn parent_of(_: &Child) -> u32 {
        id()
    }
}

mod files {
    use super::root::fs::*;
    use super::root::os::unix::fs::*;
    use super::root::os::unix::prelude::*;
    use super::root::io::prelude::*;

    #[test]
    fn files_and_directories() {
        crate::common::deadline(60, || {
            let dir = std::env::temp_dir().join(format!(
                "greenling-glob-{}-{}",
                std::process::id(),
                module_path!().replace("::", "-")
            ));
            create_dir_all(&dir).unwrap();
            let path = dir.join("file");
            let mut file: File =
                OpenOptions::new().mode(0o600).create_new(true).write(true).open(&path).unwrap();
            file.write_all(b"text").unwrap();
            assert_eq!(file.write_at(b"T", 0).unwrap(), 1);
            symlink(&path, dir.join("link")).unwrap();
            assert_eq!(read_to_string(dir.join("link")).unwrap(), "Text");
            let data: Metadata = metadata(&path).unwrap();
            assert_eq!((data.len(), data.permissions().mode() & 0o777), (4, 0o600));
            assert!(data.ino() > 0 && !data.file_type().is_socket());
            let mut entries: ReadDir = read_dir(&dir).unwrap();
            assert!(entries.all(|entry: std::io::Result<DirEntry>| entry.unwrap().ino() > 0));
            remove_dir_all(&dir).unwrap();
        });
    }
}

mod input_and_output {
    use super::root::io::*;

    #[test]
    fn readers_and_writers() {
        crate::common::deadline(60, || {
            let _: (Stdin, Stdout, Stderr) = (stdin(), stdout(), stderr());
            let mut text = String::new();
            let mut reader = BufReader::new(Cursor::new(b"one\ntwo\n".to_vec()));
            reader.read_line(&mut text).unwrap();
            let lines: Lines<_> = reader.lines();
            assert_eq!(lines.map(|line: Result<String>| line.unwrap()).collect::<Vec<_>>(), ["two"]);
            let mut writer = LineWriter::new(BufWriter::new(Vec::new()));
            assert_eq!(copy(&mut repeat(b'x').take(5).chain(empty()), &mut writer).unwrap(), 5);
            writer.flush().unwrap();
            assert_eq!(writer.get_ref().get_ref(), b"xxxxx");
            let error = Error::other("why");
            assert_eq!(error.kind(), ErrorKind::Other);
            assert_eq!(copy(&mut &b"x"[..], &mut sink()).unwrap(), 1);
            let mut cursor = Cursor::new([0; 4]);
            assert_eq!(cursor.seek(SeekFrom::End(-1)).unwrap(), 3);
            assert_eq!(read_to_string(&b"all"[..]).unwrap(), "all");
        });
    }
}

mod unix_sockets {
    use super::root::io::prelude::*;
    use super::root::os::linux::net::*;
    use super::root::os::unix::net::*;
    use super::root::thread::*;

    #[test]
    fn of_all_kinds() {
        crate::common::deadline(60, || {
            let name = format!("greenling-glob-{}-{}", std::process::id(), module_path!());
            let addr: SocketAddr = SocketAddr::from_abstract_name(name).unwrap();
            let listener = UnixListener::bind_addr(&addr).unwrap();
            let client = spawn(move || UnixStream::connect_addr(&addr).unwrap().write_all(b"hi"));
            let mut incoming: Incoming<'_> = listener.incoming();
            let mut text = String::new();
            incoming.next().unwrap().unwrap().read_to_string(&mut text).unwrap();
            client.join().unwrap().unwrap();
            assert_eq!(text, "hi");
            let (a, b) = UnixDatagram::pair().unwrap();
            a.send(b"x").unwrap();
            assert_eq!(b.recv(&mut [0; 8]).unwrap(), 1);
        });
    }
}

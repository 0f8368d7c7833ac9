// Every type of std's modules that we have as our own, with the arguments that tell traits apart: `Shared` may go anywhere,
// `Moved` is not `Sync`, `Local` is not even `Send`, `Fragile` is not unwind safe. Included twice, as `functions.rs`.
// `#[1.89]` as there.

types! {
    thread::Builder;
    thread::JoinHandle<Shared>;
    thread::JoinHandle<Moved>;
    thread::Scope<'static, 'static>;
    thread::ScopedJoinHandle<'static, Shared>;
    thread::Thread;
    thread::ThreadId;

    sync::Barrier;
    sync::BarrierWaitResult;
    sync::Condvar;
    sync::WaitTimeoutResult;
    sync::LazyLock<Shared>;
    sync::LazyLock<Moved>;
    sync::LazyLock<Local>;
    sync::LazyLock<Fragile>;
    sync::Mutex<Shared>;
    sync::Mutex<Moved>;
    sync::Mutex<Local>;
    sync::Mutex<Fragile>;
    sync::Mutex<[u8]>;
    sync::MutexGuard<'static, Shared>;
    sync::MutexGuard<'static, Moved>;
    sync::MutexGuard<'static, Local>;
    sync::MutexGuard<'static, Fragile>;
    sync::Once;
    sync::OnceState;
    sync::OnceLock<Shared>;
    sync::OnceLock<Moved>;
    sync::OnceLock<Local>;
    sync::OnceLock<Fragile>;
    sync::RwLock<Shared>;
    sync::RwLock<Moved>;
    sync::RwLock<Local>;
    sync::RwLock<Fragile>;
    sync::RwLockReadGuard<'static, Shared>;
    sync::RwLockReadGuard<'static, Moved>;
    sync::RwLockReadGuard<'static, Local>;
    sync::RwLockReadGuard<'static, Fragile>;
    sync::RwLockWriteGuard<'static, Shared>;
    sync::RwLockWriteGuard<'static, Moved>;
    sync::RwLockWriteGuard<'static, Local>;
    sync::RwLockWriteGuard<'static, Fragile>;

    sync::mpsc::Sender<Shared>;
    sync::mpsc::Sender<Moved>;
    sync::mpsc::Sender<Local>;
    sync::mpsc::Sender<Fragile>;
    sync::mpsc::SyncSender<Shared>;
    sync::mpsc::SyncSender<Moved>;
    sync::mpsc::SyncSender<Local>;
    sync::mpsc::SyncSender<Fragile>;
    sync::mpsc::Receiver<Shared>;
    sync::mpsc::Receiver<Moved>;
    sync::mpsc::Receiver<Local>;
    sync::mpsc::Receiver<Fragile>;
    &'static sync::mpsc::Receiver<Shared>;
    sync::mpsc::Iter<'static, Shared>;
    sync::mpsc::TryIter<'static, Shared>;
    sync::mpsc::IntoIter<Shared>;

    net::TcpListener;
    net::Incoming<'static>;
    net::TcpStream;
    &'static net::TcpStream;
    net::UdpSocket;
    unix::net::Incoming<'static>;
    unix::net::UnixDatagram;
    unix::net::UnixListener;
    &'static unix::net::UnixListener;
    unix::net::UnixStream;
    &'static unix::net::UnixStream;

    process::Child;
    process::ChildStdin;
    &'static process::ChildStdin;
    process::ChildStdout;
    process::ChildStderr;
    process::Command;

    #[1.87] io::PipeReader;
    #[1.87] &'static io::PipeReader;
    #[1.87] io::PipeWriter;
    #[1.87] &'static io::PipeWriter;
    io::Stdin;
    &'static io::Stdin;
    io::StdinLock<'static>;
    io::Stdout;
    &'static io::Stdout;
    io::StdoutLock<'static>;
    io::Stderr;
    &'static io::Stderr;
    io::StderrLock<'static>;

    fs::DirBuilder;
    fs::DirEntry;
    fs::File;
    &'static fs::File;
    sync::Arc<fs::File>;
    fs::OpenOptions;
    fs::ReadDir;
    #[1.89] fs::TryLockError;
}

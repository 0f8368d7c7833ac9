// Every function and method of std's modules that we have as our own: included once where `root` is std and once where
// it is greenling. The types on the right are resolved in the same place, so a signature that differs does not compile.
//
// `#["1.89"]`: stable since that Rust; without it, since before 1.85.

functions! {
    // ---- thread
    fn thread::available_parallelism => fn() -> io::Result<NonZeroUsize>;
    fn thread::current => fn() -> thread::Thread;
    fn thread::panicking => fn() -> bool;
    fn thread::park => fn();
    fn thread::park_timeout => fn(Duration);
    fn thread::park_timeout_ms => fn(u32);
    fn thread::scope => fn(for<'s> fn(&'s thread::Scope<'s, 'static>) -> u8) -> u8;
    fn thread::sleep => fn(Duration);
    fn thread::sleep_ms => fn(u32);
    fn thread::spawn => fn(fn() -> u8) -> thread::JoinHandle<u8>;
    fn thread::yield_now => fn();
    fn thread::Builder::new => fn() -> thread::Builder;
    fn thread::Builder::name => fn(thread::Builder, String) -> thread::Builder;
    fn thread::Builder::stack_size => fn(thread::Builder, usize) -> thread::Builder;
    fn thread::Builder::spawn => fn(thread::Builder, fn() -> u8) -> io::Result<thread::JoinHandle<u8>>;
    fn thread::Builder::spawn_scoped => fn(thread::Builder, &'static thread::Scope<'static, 'static>, fn() -> u8)
        -> io::Result<thread::ScopedJoinHandle<'static, u8>>;
    fn thread::Builder::spawn_unchecked => unsafe fn(thread::Builder, fn() -> u8) -> io::Result<thread::JoinHandle<u8>>;
    fn thread::JoinHandle::<u8>::join => fn(thread::JoinHandle<u8>) -> thread::Result<u8>;
    fn thread::JoinHandle::<u8>::is_finished => fn(&thread::JoinHandle<u8>) -> bool;
    fn thread::JoinHandle::<u8>::thread => fn(&thread::JoinHandle<u8>) -> &thread::Thread;
    fn thread::Scope::spawn => fn(&'static thread::Scope<'static, 'static>, fn() -> u8) -> thread::ScopedJoinHandle<'static, u8>;
    fn thread::ScopedJoinHandle::<u8>::join => fn(thread::ScopedJoinHandle<'static, u8>) -> thread::Result<u8>;
    fn thread::ScopedJoinHandle::<u8>::is_finished => fn(&thread::ScopedJoinHandle<'static, u8>) -> bool;
    fn thread::ScopedJoinHandle::<u8>::thread => fn(&'static thread::ScopedJoinHandle<'static, u8>) -> &'static thread::Thread;
    fn thread::Thread::id => fn(&thread::Thread) -> thread::ThreadId;
    fn thread::Thread::name => fn(&thread::Thread) -> Option<&str>;
    fn thread::Thread::unpark => fn(&thread::Thread);

    // ---- sync
    fn sync::Barrier::new => fn(usize) -> sync::Barrier;
    fn sync::Barrier::wait => fn(&sync::Barrier) -> sync::BarrierWaitResult;
    fn sync::BarrierWaitResult::is_leader => fn(&sync::BarrierWaitResult) -> bool;
    fn sync::Condvar::new => fn() -> sync::Condvar;
    fn sync::Condvar::notify_all => fn(&sync::Condvar);
    fn sync::Condvar::notify_one => fn(&sync::Condvar);
    fn sync::Condvar::wait => fn(&sync::Condvar, sync::MutexGuard<'static, u8>) -> sync::LockResult<sync::MutexGuard<'static, u8>>;
    fn sync::Condvar::wait_timeout => fn(&sync::Condvar, sync::MutexGuard<'static, u8>, Duration)
        -> sync::LockResult<(sync::MutexGuard<'static, u8>, sync::WaitTimeoutResult)>;
    fn sync::Condvar::wait_timeout_ms => fn(&sync::Condvar, sync::MutexGuard<'static, u8>, u32)
        -> sync::LockResult<(sync::MutexGuard<'static, u8>, bool)>;
    fn sync::Condvar::wait_timeout_while => fn(&sync::Condvar, sync::MutexGuard<'static, u8>, Duration, fn(&mut u8) -> bool)
        -> sync::LockResult<(sync::MutexGuard<'static, u8>, sync::WaitTimeoutResult)>;
    fn sync::Condvar::wait_while => fn(&sync::Condvar, sync::MutexGuard<'static, u8>, fn(&mut u8) -> bool)
        -> sync::LockResult<sync::MutexGuard<'static, u8>>;
    fn sync::WaitTimeoutResult::timed_out => fn(&sync::WaitTimeoutResult) -> bool;
    fn sync::LazyLock::<u8>::new => fn(fn() -> u8) -> sync::LazyLock<u8>;
    fn sync::LazyLock::<u8>::force => fn(&sync::LazyLock<u8>) -> &u8;
    #["1.94"] fn sync::LazyLock::<u8>::force_mut => fn(&mut sync::LazyLock<u8>) -> &mut u8;
    #["1.94"] fn sync::LazyLock::<u8>::get => fn(&sync::LazyLock<u8>) -> Option<&u8>;
    #["1.94"] fn sync::LazyLock::<u8>::get_mut => fn(&mut sync::LazyLock<u8>) -> Option<&mut u8>;
    fn sync::Mutex::<u8>::new => fn(u8) -> sync::Mutex<u8>;
    fn sync::Mutex::<u8>::clear_poison => fn(&sync::Mutex<u8>);
    fn sync::Mutex::<u8>::get_mut => fn(&mut sync::Mutex<u8>) -> sync::LockResult<&mut u8>;
    fn sync::Mutex::<u8>::into_inner => fn(sync::Mutex<u8>) -> sync::LockResult<u8>;
    fn sync::Mutex::<u8>::is_poisoned => fn(&sync::Mutex<u8>) -> bool;
    fn sync::Mutex::<u8>::lock => fn(&sync::Mutex<u8>) -> sync::LockResult<sync::MutexGuard<'_, u8>>;
    fn sync::Mutex::<[u8]>::lock => fn(&sync::Mutex<[u8]>) -> sync::LockResult<sync::MutexGuard<'_, [u8]>>;
    fn sync::Mutex::<u8>::try_lock => fn(&sync::Mutex<u8>) -> sync::TryLockResult<sync::MutexGuard<'_, u8>>;
    fn sync::Once::new => fn() -> sync::Once;
    fn sync::Once::call_once => fn(&sync::Once, fn());
    fn sync::Once::call_once_force => fn(&sync::Once, fn(&sync::OnceState));
    fn sync::Once::is_completed => fn(&sync::Once) -> bool;
    #["1.86"] fn sync::Once::wait => fn(&sync::Once);
    #["1.86"] fn sync::Once::wait_force => fn(&sync::Once);
    fn sync::OnceState::is_poisoned => fn(&sync::OnceState) -> bool;
    fn sync::OnceLock::<u8>::new => fn() -> sync::OnceLock<u8>;
    fn sync::OnceLock::<u8>::get => fn(&sync::OnceLock<u8>) -> Option<&u8>;
    fn sync::OnceLock::<u8>::get_mut => fn(&mut sync::OnceLock<u8>) -> Option<&mut u8>;
    fn sync::OnceLock::<u8>::get_or_init => fn(&sync::OnceLock<u8>, fn() -> u8) -> &u8;
    fn sync::OnceLock::<u8>::into_inner => fn(sync::OnceLock<u8>) -> Option<u8>;
    fn sync::OnceLock::<u8>::set => fn(&sync::OnceLock<u8>, u8) -> Result<(), u8>;
    fn sync::OnceLock::<u8>::take => fn(&mut sync::OnceLock<u8>) -> Option<u8>;
    #["1.86"] fn sync::OnceLock::<u8>::wait => fn(&sync::OnceLock<u8>) -> &u8;
    fn sync::RwLock::<u8>::new => fn(u8) -> sync::RwLock<u8>;
    fn sync::RwLock::<u8>::clear_poison => fn(&sync::RwLock<u8>);
    fn sync::RwLock::<u8>::get_mut => fn(&mut sync::RwLock<u8>) -> sync::LockResult<&mut u8>;
    fn sync::RwLock::<u8>::into_inner => fn(sync::RwLock<u8>) -> sync::LockResult<u8>;
    fn sync::RwLock::<u8>::is_poisoned => fn(&sync::RwLock<u8>) -> bool;
    fn sync::RwLock::<u8>::read => fn(&sync::RwLock<u8>) -> sync::LockResult<sync::RwLockReadGuard<'_, u8>>;
    fn sync::RwLock::<u8>::try_read => fn(&sync::RwLock<u8>) -> sync::TryLockResult<sync::RwLockReadGuard<'_, u8>>;
    fn sync::RwLock::<u8>::try_write => fn(&sync::RwLock<u8>) -> sync::TryLockResult<sync::RwLockWriteGuard<'_, u8>>;
    fn sync::RwLock::<u8>::write => fn(&sync::RwLock<u8>) -> sync::LockResult<sync::RwLockWriteGuard<'_, u8>>;
    #["1.92"] fn sync::RwLockWriteGuard::<u8>::downgrade => fn(sync::RwLockWriteGuard<'static, u8>) -> sync::RwLockReadGuard<'static, u8>;

    // ---- sync::mpsc
    fn sync::mpsc::channel => fn() -> (sync::mpsc::Sender<u8>, sync::mpsc::Receiver<u8>);
    fn sync::mpsc::sync_channel => fn(usize) -> (sync::mpsc::SyncSender<u8>, sync::mpsc::Receiver<u8>);
    fn sync::mpsc::Receiver::<u8>::iter => fn(&sync::mpsc::Receiver<u8>) -> sync::mpsc::Iter<'_, u8>;
    fn sync::mpsc::Receiver::<u8>::recv => fn(&sync::mpsc::Receiver<u8>) -> Result<u8, sync::mpsc::RecvError>;
    fn sync::mpsc::Receiver::<u8>::recv_timeout => fn(&sync::mpsc::Receiver<u8>, Duration) -> Result<u8, sync::mpsc::RecvTimeoutError>;
    fn sync::mpsc::Receiver::<u8>::try_iter => fn(&sync::mpsc::Receiver<u8>) -> sync::mpsc::TryIter<'_, u8>;
    fn sync::mpsc::Receiver::<u8>::try_recv => fn(&sync::mpsc::Receiver<u8>) -> Result<u8, sync::mpsc::TryRecvError>;
    fn sync::mpsc::Sender::<u8>::send => fn(&sync::mpsc::Sender<u8>, u8) -> Result<(), sync::mpsc::SendError<u8>>;
    fn sync::mpsc::SyncSender::<u8>::send => fn(&sync::mpsc::SyncSender<u8>, u8) -> Result<(), sync::mpsc::SendError<u8>>;
    fn sync::mpsc::SyncSender::<u8>::try_send => fn(&sync::mpsc::SyncSender<u8>, u8) -> Result<(), sync::mpsc::TrySendError<u8>>;

    // ---- net: TCP
    fn net::TcpListener::bind => fn(Text) -> io::Result<net::TcpListener>;
    fn net::TcpListener::accept => fn(&net::TcpListener) -> io::Result<(net::TcpStream, SocketAddr)>;
    fn net::TcpListener::incoming => fn(&net::TcpListener) -> net::Incoming<'_>;
    fn net::TcpListener::local_addr => fn(&net::TcpListener) -> io::Result<SocketAddr>;
    fn net::TcpListener::only_v6 => fn(&net::TcpListener) -> io::Result<bool>;
    fn net::TcpListener::set_nonblocking => fn(&net::TcpListener, bool) -> io::Result<()>;
    fn net::TcpListener::set_only_v6 => fn(&net::TcpListener, bool) -> io::Result<()>;
    fn net::TcpListener::set_ttl => fn(&net::TcpListener, u32) -> io::Result<()>;
    fn net::TcpListener::take_error => fn(&net::TcpListener) -> io::Result<Option<io::Error>>;
    fn net::TcpListener::try_clone => fn(&net::TcpListener) -> io::Result<net::TcpListener>;
    fn net::TcpListener::ttl => fn(&net::TcpListener) -> io::Result<u32>;
    fn net::TcpStream::connect => fn(Text) -> io::Result<net::TcpStream>;
    fn net::TcpStream::connect::<(&str, u16)> => fn((Text, u16)) -> io::Result<net::TcpStream>;
    fn net::TcpStream::connect::<&[SocketAddr]> => fn(&'static [SocketAddr]) -> io::Result<net::TcpStream>;
    fn net::TcpStream::connect_timeout => fn(&SocketAddr, Duration) -> io::Result<net::TcpStream>;
    fn net::TcpStream::local_addr => fn(&net::TcpStream) -> io::Result<SocketAddr>;
    fn net::TcpStream::nodelay => fn(&net::TcpStream) -> io::Result<bool>;
    fn net::TcpStream::peek => fn(&net::TcpStream, &mut [u8]) -> io::Result<usize>;
    fn net::TcpStream::peer_addr => fn(&net::TcpStream) -> io::Result<SocketAddr>;
    fn net::TcpStream::read_timeout => fn(&net::TcpStream) -> io::Result<Option<Duration>>;
    fn net::TcpStream::set_nodelay => fn(&net::TcpStream, bool) -> io::Result<()>;
    fn net::TcpStream::set_nonblocking => fn(&net::TcpStream, bool) -> io::Result<()>;
    fn net::TcpStream::set_read_timeout => fn(&net::TcpStream, Option<Duration>) -> io::Result<()>;
    fn net::TcpStream::set_ttl => fn(&net::TcpStream, u32) -> io::Result<()>;
    fn net::TcpStream::set_write_timeout => fn(&net::TcpStream, Option<Duration>) -> io::Result<()>;
    fn net::TcpStream::shutdown => fn(&net::TcpStream, net::Shutdown) -> io::Result<()>;
    fn net::TcpStream::take_error => fn(&net::TcpStream) -> io::Result<Option<io::Error>>;
    fn net::TcpStream::try_clone => fn(&net::TcpStream) -> io::Result<net::TcpStream>;
    fn net::TcpStream::ttl => fn(&net::TcpStream) -> io::Result<u32>;
    fn net::TcpStream::write_timeout => fn(&net::TcpStream) -> io::Result<Option<Duration>>;

    // ---- net: UDP (here), os::unix::net (below): to come, see `later` in `others.rs`

    // ---- process
    fn process::abort => fn() -> !;
    fn process::exit => fn(i32) -> !;
    fn process::id => fn() -> u32;
    fn process::Child::id => fn(&process::Child) -> u32;
    fn process::Child::kill => fn(&mut process::Child) -> io::Result<()>;
    fn process::Child::try_wait => fn(&mut process::Child) -> io::Result<Option<process::ExitStatus>>;
    fn process::Child::wait => fn(&mut process::Child) -> io::Result<process::ExitStatus>;
    fn process::Child::wait_with_output => fn(process::Child) -> io::Result<process::Output>;
    fn process::Command::new => fn(Text) -> process::Command;
    fn process::Command::arg => fn(&mut process::Command, Text) -> &mut process::Command;
    fn process::Command::args => fn(&mut process::Command, [Text; 2]) -> &mut process::Command;
    fn process::Command::current_dir => fn(&mut process::Command, Text) -> &mut process::Command;
    fn process::Command::env => fn(&mut process::Command, Text, Text) -> &mut process::Command;
    fn process::Command::env_clear => fn(&mut process::Command) -> &mut process::Command;
    fn process::Command::env_remove => fn(&mut process::Command, Text) -> &mut process::Command;
    fn process::Command::envs => fn(&mut process::Command, [(Text, Text); 2]) -> &mut process::Command;
    fn process::Command::get_args => fn(&process::Command) -> process::CommandArgs<'_>;
    fn process::Command::get_current_dir => fn(&process::Command) -> Option<&Path>;
    fn process::Command::get_envs => fn(&process::Command) -> process::CommandEnvs<'_>;
    fn process::Command::get_program => fn(&process::Command) -> &OsStr;
    fn process::Command::output => fn(&mut process::Command) -> io::Result<process::Output>;
    fn process::Command::spawn => fn(&mut process::Command) -> io::Result<process::Child>;
    fn process::Command::status => fn(&mut process::Command) -> io::Result<process::ExitStatus>;
    fn process::Command::stderr => fn(&mut process::Command, process::Stdio) -> &mut process::Command;
    fn process::Command::stdin => fn(&mut process::Command, process::Stdio) -> &mut process::Command;
    fn process::Command::stdout => fn(&mut process::Command, process::Stdio) -> &mut process::Command;
    fn <process::Command as unix::process::CommandExt>::arg0 => fn(&mut process::Command, Text) -> &mut process::Command;
    fn <process::Command as unix::process::CommandExt>::before_exec => unsafe fn(&mut process::Command, fn() -> io::Result<()>) -> &mut process::Command;
    fn <process::Command as unix::process::CommandExt>::exec => fn(&mut process::Command) -> io::Error;
    fn <process::Command as unix::process::CommandExt>::gid => fn(&mut process::Command, u32) -> &mut process::Command;
    fn <process::Command as unix::process::CommandExt>::pre_exec => unsafe fn(&mut process::Command, fn() -> io::Result<()>) -> &mut process::Command;
    fn <process::Command as unix::process::CommandExt>::process_group => fn(&mut process::Command, i32) -> &mut process::Command;
    fn <process::Command as unix::process::CommandExt>::uid => fn(&mut process::Command, u32) -> &mut process::Command;
    fn unix::process::parent_id => fn() -> u32;

    // ---- io: pipes and standard streams
    #["1.87"] fn io::pipe => fn() -> io::Result<(io::PipeReader, io::PipeWriter)>;
    #["1.87"] fn io::PipeReader::try_clone => fn(&io::PipeReader) -> io::Result<io::PipeReader>;
    #["1.87"] fn io::PipeWriter::try_clone => fn(&io::PipeWriter) -> io::Result<io::PipeWriter>;
    fn io::stdin => fn() -> io::Stdin;
    fn io::stdout => fn() -> io::Stdout;
    fn io::stderr => fn() -> io::Stderr;
    fn io::Stdin::lines => fn(io::Stdin) -> io::Lines<io::StdinLock<'static>>;
    fn io::Stdin::lock => fn(&io::Stdin) -> io::StdinLock<'static>;
    fn io::Stdin::read_line => fn(&io::Stdin, &mut String) -> io::Result<usize>;
    fn io::Stdout::lock => fn(&io::Stdout) -> io::StdoutLock<'static>;
    fn io::Stderr::lock => fn(&io::Stderr) -> io::StderrLock<'static>;
    fn io::copy => fn(&mut net::TcpStream, &mut net::TcpStream) -> io::Result<u64>;
    fn io::read_to_string => fn(net::TcpStream) -> io::Result<String>;

    // ---- fs
    fn fs::canonicalize => fn(Text) -> io::Result<PathBuf>;
    fn fs::copy => fn(Text, Text) -> io::Result<u64>;
    fn fs::create_dir => fn(Text) -> io::Result<()>;
    fn fs::create_dir_all => fn(Text) -> io::Result<()>;
    fn fs::exists => fn(Text) -> io::Result<bool>;
    fn fs::hard_link => fn(Text, Text) -> io::Result<()>;
    fn fs::metadata => fn(Text) -> io::Result<fs::Metadata>;
    fn fs::read => fn(Text) -> io::Result<Vec<u8>>;
    fn fs::read_dir => fn(Text) -> io::Result<fs::ReadDir>;
    fn fs::read_link => fn(Text) -> io::Result<PathBuf>;
    fn fs::read_to_string => fn(Text) -> io::Result<String>;
    fn fs::remove_dir => fn(Text) -> io::Result<()>;
    fn fs::remove_dir_all => fn(Text) -> io::Result<()>;
    fn fs::remove_file => fn(Text) -> io::Result<()>;
    fn fs::rename => fn(Text, Text) -> io::Result<()>;
    fn fs::set_permissions => fn(Text, fs::Permissions) -> io::Result<()>;
    fn fs::soft_link => fn(Text, Text) -> io::Result<()>;
    fn fs::symlink_metadata => fn(Text) -> io::Result<fs::Metadata>;
    fn fs::write => fn(Text, Text) -> io::Result<()>;
    fn fs::DirBuilder::create => fn(&fs::DirBuilder, Text) -> io::Result<()>;
    fn fs::DirBuilder::new => fn() -> fs::DirBuilder;
    fn fs::DirBuilder::recursive => fn(&mut fs::DirBuilder, bool) -> &mut fs::DirBuilder;
    fn fs::DirEntry::file_name => fn(&fs::DirEntry) -> OsString;
    fn fs::DirEntry::file_type => fn(&fs::DirEntry) -> io::Result<fs::FileType>;
    fn fs::DirEntry::metadata => fn(&fs::DirEntry) -> io::Result<fs::Metadata>;
    fn fs::DirEntry::path => fn(&fs::DirEntry) -> PathBuf;
    fn fs::File::create => fn(Text) -> io::Result<fs::File>;
    fn fs::File::create_new => fn(Text) -> io::Result<fs::File>;
    #["1.89"] fn fs::File::lock => fn(&fs::File) -> io::Result<()>;
    #["1.89"] fn fs::File::lock_shared => fn(&fs::File) -> io::Result<()>;
    fn fs::File::metadata => fn(&fs::File) -> io::Result<fs::Metadata>;
    fn fs::File::open => fn(Text) -> io::Result<fs::File>;
    fn fs::File::options => fn() -> fs::OpenOptions;
    fn fs::File::set_len => fn(&fs::File, u64) -> io::Result<()>;
    fn fs::File::set_modified => fn(&fs::File, SystemTime) -> io::Result<()>;
    fn fs::File::set_permissions => fn(&fs::File, fs::Permissions) -> io::Result<()>;
    fn fs::File::set_times => fn(&fs::File, fs::FileTimes) -> io::Result<()>;
    fn fs::File::sync_all => fn(&fs::File) -> io::Result<()>;
    fn fs::File::sync_data => fn(&fs::File) -> io::Result<()>;
    fn fs::File::try_clone => fn(&fs::File) -> io::Result<fs::File>;
    #["1.89"] fn fs::File::try_lock => fn(&fs::File) -> Result<(), fs::TryLockError>;
    #["1.89"] fn fs::File::try_lock_shared => fn(&fs::File) -> Result<(), fs::TryLockError>;
    #["1.89"] fn fs::File::unlock => fn(&fs::File) -> io::Result<()>;
    fn fs::OpenOptions::append => fn(&mut fs::OpenOptions, bool) -> &mut fs::OpenOptions;
    fn fs::OpenOptions::create => fn(&mut fs::OpenOptions, bool) -> &mut fs::OpenOptions;
    fn fs::OpenOptions::create_new => fn(&mut fs::OpenOptions, bool) -> &mut fs::OpenOptions;
    fn fs::OpenOptions::new => fn() -> fs::OpenOptions;
    fn fs::OpenOptions::open => fn(&fs::OpenOptions, Text) -> io::Result<fs::File>;
    fn fs::OpenOptions::read => fn(&mut fs::OpenOptions, bool) -> &mut fs::OpenOptions;
    fn fs::OpenOptions::truncate => fn(&mut fs::OpenOptions, bool) -> &mut fs::OpenOptions;
    fn fs::OpenOptions::write => fn(&mut fs::OpenOptions, bool) -> &mut fs::OpenOptions;
    fn unix::fs::chown => fn(Text, Option<u32>, Option<u32>) -> io::Result<()>;
    fn unix::fs::chroot => fn(Text) -> io::Result<()>;
    fn unix::fs::fchown => fn(net::TcpStream, Option<u32>, Option<u32>) -> io::Result<()>;
    fn unix::fs::lchown => fn(Text, Option<u32>, Option<u32>) -> io::Result<()>;
    fn unix::fs::symlink => fn(Text, Text) -> io::Result<()>;
}

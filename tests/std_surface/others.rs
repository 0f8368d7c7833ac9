//! What is std's own under our path, and what is not here.

use std::io::Sink;

/// Types that must be the very same.
macro_rules! reexported_types {
    ($($path:ident $(::$more:ident)* $(<$($argument:tt),*>)?;)*) => {
        pub(crate) fn types() -> Vec<String> {
            // A function whose argument is std's and whose result is ours compiles only if they are one type.
            $({
                fn _same(x: std::$path$(::$more)* $(<$($argument),*>)?) -> greenling::$path$(::$more)* $(<$($argument),*>)? {
                    x
                }
            })*
            vec![$(stringify!($path$(::$more)*).replace(' ', "")),*]
        }
    };
}

/// Traits that must be the very same.
macro_rules! reexported_traits {
    ($($path:ident $(::$more:ident)*;)*) => {
        pub(crate) fn traits() -> Vec<String> {
            $({
                fn _ours<T: ?Sized + greenling::$path$(::$more)*>() {}
                fn _stds<T: ?Sized + std::$path$(::$more)*>() {
                    _ours::<T>();
                }
            })*
            vec![$(stringify!($path$(::$more)*).replace(' ', "")),*]
        }
    };
}

/// Functions and constants that are there under both paths.
macro_rules! reexported_functions {
    ($($path:ident $(::$more:ident)* => $type:ty;)*) => {
        pub(crate) fn functions() -> Vec<String> {
            $({
                let _: [$type; 2] = [std::$path$(::$more)*, greenling::$path$(::$more)*];
            })*
            vec![$(stringify!($path$(::$more)*).replace(' ', "")),*]
        }
    };
}

reexported_types! {
    thread::AccessError;
    thread::LocalKey<u8>;
    thread::Result<u8>;

    os::fd::BorrowedFd<'static>;
    os::fd::OwnedFd;
    os::fd::RawFd;
    os::unix::io::OwnedFd;
    os::unix::net::SocketAddr;
    os::unix::prelude::BorrowedFd<'static>;
    os::unix::prelude::OwnedFd;
    os::unix::prelude::RawFd;

    sync::Arc<u8>;
    sync::LockResult<u8>;
    sync::PoisonError<u8>;
    sync::TryLockError<u8>;
    sync::TryLockResult<u8>;
    sync::Weak<u8>;
    sync::atomic::AtomicBool;
    sync::atomic::AtomicI16;
    sync::atomic::AtomicI32;
    sync::atomic::AtomicI64;
    sync::atomic::AtomicI8;
    sync::atomic::AtomicIsize;
    sync::atomic::AtomicPtr<u8>;
    sync::atomic::AtomicU16;
    sync::atomic::AtomicU32;
    sync::atomic::AtomicU64;
    sync::atomic::AtomicU8;
    sync::atomic::AtomicUsize;
    sync::atomic::Ordering;
    sync::mpsc::RecvError;
    sync::mpsc::RecvTimeoutError;
    sync::mpsc::SendError<u8>;
    sync::mpsc::TryRecvError;
    sync::mpsc::TrySendError<u8>;

    net::AddrParseError;
    net::IpAddr;
    net::Ipv4Addr;
    net::Ipv6Addr;
    net::Shutdown;
    net::SocketAddr;
    net::SocketAddrV4;
    net::SocketAddrV6;

    process::CommandArgs<'static>;
    process::CommandEnvs<'static>;
    process::ExitCode;
    process::ExitStatus;
    process::Output;
    process::Stdio;

    io::BufReader<u8>;
    io::BufWriter<Sink>;
    io::Bytes<u8>;
    io::Chain<u8, u8>;
    io::Cursor<u8>;
    io::Empty;
    io::Error;
    io::ErrorKind;
    io::IntoInnerError<u8>;
    io::IoSlice<'static>;
    io::IoSliceMut<'static>;
    io::LineWriter<Sink>;
    io::Lines<u8>;
    io::Repeat;
    io::Result<u8>;
    io::SeekFrom;
    io::Sink;
    io::Split<u8>;
    io::Take<u8>;
    io::WriterPanicked;

    fs::FileTimes;
    fs::FileType;
    fs::Metadata;
    fs::Permissions;

    time::Duration;
    time::Instant;
    time::SystemTime;
    time::SystemTimeError;
    time::TryFromFloatSecsError;
}

reexported_traits! {
    process::Termination;
    io::BufRead;
    io::prelude::BufRead;
    io::prelude::Read;
    io::prelude::Seek;
    io::prelude::Write;
    io::IsTerminal;
    io::Read;
    io::Seek;
    io::Write;
    os::unix::fs::DirBuilderExt;
    os::unix::fs::DirEntryExt;
    os::unix::fs::FileExt;
    os::unix::fs::FileTypeExt;
    os::unix::fs::MetadataExt;
    os::unix::fs::OpenOptionsExt;
    os::unix::fs::PermissionsExt;
    os::linux::fs::MetadataExt;
    os::linux::net::SocketAddrExt;
    os::unix::ffi::OsStrExt;
    os::unix::ffi::OsStringExt;
    os::unix::prelude::AsFd;
    os::unix::prelude::AsRawFd;
    os::unix::prelude::DirEntryExt;
    os::unix::prelude::ExitStatusExt;
    os::unix::prelude::FileExt;
    os::unix::prelude::FileTypeExt;
    os::unix::prelude::FromRawFd;
    os::unix::prelude::IntoRawFd;
    os::unix::prelude::MetadataExt;
    os::unix::prelude::OpenOptionsExt;
    os::unix::prelude::OsStrExt;
    os::unix::prelude::OsStringExt;
    os::unix::prelude::PermissionsExt;
    os::unix::process::ExitStatusExt;
    os::fd::AsFd;
    os::fd::AsRawFd;
    os::fd::FromRawFd;
    os::fd::IntoRawFd;
}

reexported_functions! {
    io::empty => fn() -> std::io::Empty;
    io::repeat => fn(u8) -> std::io::Repeat;
    io::sink => fn() -> std::io::Sink;
    sync::atomic::ATOMIC_BOOL_INIT => std::sync::atomic::AtomicBool;
    sync::atomic::ATOMIC_ISIZE_INIT => std::sync::atomic::AtomicIsize;
    sync::atomic::ATOMIC_USIZE_INIT => std::sync::atomic::AtomicUsize;
    sync::atomic::compiler_fence => fn(std::sync::atomic::Ordering);
    sync::atomic::fence => fn(std::sync::atomic::Ordering);
    sync::atomic::spin_loop_hint => fn();
    time::UNIX_EPOCH => std::time::SystemTime;
}

/// Traits that std lets nobody implement, or that we have for a reason of our own.
pub(crate) const OWN_TRAITS: &[(&str, &str)] = &[
    (
        "net::ToSocketAddrs",
        "a trait of its own, so that names are looked up beside other coroutines; for all types of std's",
    ),
    ("os::linux::net::TcpStreamExt", "sealed in std, so one of our own for our `TcpStream`"),
    ("os::unix::prelude::CommandExt", "that of `os::unix::process`"),
    ("os::unix::process::CommandExt", "sealed in std, so one of our own for our `Command`"),
];

/// What std has under its path and we do not, and why.
pub(crate) const ABSENT: &[(&str, &str)] = &[
    (
        "thread_local!",
        "`greenling::local!` is its counterpart; std's own goes on to mean the thread's",
    ),
    (
        "print!, println!, eprint!, eprintln!, dbg!",
        "write by std's streams: they block the thread while nobody reads them; `writeln!(io::stdout(), …)` waits",
    ),
    (
        "os::unix::thread, os::unix::thread::JoinHandleExt, os::unix::prelude::JoinHandleExt, os::unix::thread::RawPthread",
        "give a `pthread_t`, which a coroutine does not have",
    ),
    ("os::linux::raw, os::unix::raw", "deprecated in std since 1.8"),
    (
        "net::ToSocketAddrs for what others have implemented std's trait for",
        "ours is a trait of its own",
    ),
    (
        "os::unix::process::ChildExt, os::linux::process, os::linux::net::UnixSocketExt",
        "not stable in std",
    ),
    ("fs::File: From<std::process::ChildStdin> and the like", "descriptors go through `OwnedFd`"),
    (
        "io::IsTerminal for our types",
        "sealed in std; each has `is_terminal` as a method of its own",
    ),
    ("env, path, ffi, collections, …", "nothing in them waits"),
];

/// What is being added.
pub(crate) const LATER: &[(&str, &str)] = &[];

//! Makes unmodified blocking code cooperative: std's own sockets, any crate, any C library (feature `patch`).
//!
//! With the feature on, the program itself defines `recv`, `connect`, `poll`, `clock_nanosleep` and the C
//! library's other blocking functions, so that whoever calls them is bound to these. They do what they always
//! did until [`all`] is called, and after that, too, on a thread that has no coroutines. Called in a coroutine
//! (or on a thread's own stack beside coroutines), they let the others run while they wait.
//! (gevent's `monkey`.)
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{TcpListener, TcpStream};
//!
//! greenling::patch::all();
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! // Both ends on one thread, with nothing but std.
//! let server = greenling::spawn(move || listener.accept()?.0.write_all(b"hello"));
//! let mut text = String::new();
//! TcpStream::connect(addr)?.read_to_string(&mut text)?;
//! assert_eq!(text, "hello");
//! # server.join().unwrap()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Kills and time limits
//! Nothing unwinds through a redefined function, since C may be on the stack. A kill or a time limit that
//! arrives in one makes it return −1 with `ECANCELED`, and the unwinding begins at the coroutine's next wait in
//! a function of this crate. Sleeps and `Condvar::wait_timeout` end early instead, and std's locks are acquired
//! first. Code that ignores the error and never calls this crate is not ended by it.
//!
//! `docs/patching.md` has what is cooperative for whom, and what cannot be.

#[cfg(target_feature = "crt-static")]
compile_error!(
    "greenling's feature `patch` cannot be linked statically: the C library's own functions would be defined twice. \
     Build with `-C target-feature=-crt-static`, or without the feature"
);

#[cfg(target_env = "gnu")]
mod checked;
mod close;
mod connect;
mod control;
mod dns;
mod file;
mod futex;
mod insist;
mod notice;
mod offload;
mod per_thread;
mod policy;
mod poll;
mod process;
mod report;
mod settings;
mod socket;
mod sources;
mod splice;
mod time;

use std::ffi::c_int;

use crate::rt::hooked;
use crate::rt::real::set_errno;
use policy::Family;

pub use report::{Object, Report, Symbol};

/// Every function that is redefined, with our address. The table is also what makes a linker keep them.
static SYMBOLS: &[(&str, Family, Address)] = &[
    ("recv", policy::SOCKETS, Address(socket::recv as *const ())),
    ("recvfrom", policy::SOCKETS, Address(socket::recvfrom as *const ())),
    ("recvmsg", policy::SOCKETS, Address(socket::recvmsg as *const ())),
    ("recvmmsg", policy::SOCKETS, Address(socket::recvmmsg as *const ())),
    ("send", policy::SOCKETS, Address(socket::send as *const ())),
    ("sendto", policy::SOCKETS, Address(socket::sendto as *const ())),
    ("sendmsg", policy::SOCKETS, Address(socket::sendmsg as *const ())),
    ("sendmmsg", policy::SOCKETS, Address(socket::sendmmsg as *const ())),
    ("sendfile", policy::SOCKETS, Address(splice::sendfile as *const ())),
    ("sendfile64", policy::SOCKETS, Address(splice::sendfile64 as *const ())),
    ("connect", policy::SOCKETS, Address(connect::connect as *const ())),
    ("accept", policy::SOCKETS, Address(connect::accept as *const ())),
    ("accept4", policy::SOCKETS, Address(connect::accept4 as *const ())),
    ("read", policy::FDS, Address(file::read as *const ())),
    ("readv", policy::FDS, Address(file::readv as *const ())),
    ("write", policy::FDS, Address(file::write as *const ())),
    ("writev", policy::FDS, Address(file::writev as *const ())),
    ("close", policy::FDS, Address(close::close as *const ())),
    ("dup2", policy::FDS, Address(close::dup2 as *const ())),
    ("dup3", policy::FDS, Address(close::dup3 as *const ())),
    ("close_range", policy::FDS, Address(close::close_range as *const ())),
    ("dup", policy::FDS, Address(control::dup as *const ())),
    ("fcntl", policy::FDS, Address(control::fcntl as *const ())),
    ("fcntl64", policy::FDS, Address(control::fcntl64 as *const ())),
    ("ioctl", policy::FDS, Address(control::ioctl as *const ())),
    ("setsockopt", policy::SOCKETS, Address(control::setsockopt as *const ())),
    ("flock", policy::FDS, Address(control::flock as *const ())),
    ("splice", policy::FDS, Address(splice::splice as *const ())),
    ("tee", policy::FDS, Address(splice::tee as *const ())),
    ("vmsplice", policy::FDS, Address(splice::vmsplice as *const ())),
    ("poll", policy::POLL, Address(poll::poll as *const ())),
    ("ppoll", policy::POLL, Address(poll::ppoll as *const ())),
    ("select", policy::POLL, Address(poll::select as *const ())),
    ("pselect", policy::POLL, Address(poll::pselect as *const ())),
    ("epoll_wait", policy::POLL, Address(poll::epoll_wait as *const ())),
    ("epoll_pwait", policy::POLL, Address(poll::epoll_pwait as *const ())),
    ("epoll_pwait2", policy::POLL, Address(poll::epoll_pwait2 as *const ())),
    #[cfg(target_env = "gnu")]
    ("__read_chk", policy::FDS, Address(checked::__read_chk as *const ())),
    #[cfg(target_env = "gnu")]
    ("__recv_chk", policy::SOCKETS, Address(checked::__recv_chk as *const ())),
    #[cfg(target_env = "gnu")]
    ("__recvfrom_chk", policy::SOCKETS, Address(checked::__recvfrom_chk as *const ())),
    #[cfg(target_env = "gnu")]
    ("__poll_chk", policy::POLL, Address(checked::__poll_chk as *const ())),
    #[cfg(target_env = "gnu")]
    ("__ppoll_chk", policy::POLL, Address(checked::__ppoll_chk as *const ())),
    ("syscall", policy::LOCKS, Address(futex::syscall as *const ())),
    ("nanosleep", policy::TIME, Address(time::nanosleep as *const ())),
    ("clock_nanosleep", policy::TIME, Address(time::clock_nanosleep as *const ())),
    ("usleep", policy::TIME, Address(time::usleep as *const ())),
    ("sleep", policy::TIME, Address(time::sleep as *const ())),
    ("getaddrinfo", policy::DNS, Address(dns::getaddrinfo as *const ())),
    ("getnameinfo", policy::DNS, Address(dns::getnameinfo as *const ())),
    ("gethostbyname", policy::DNS, Address(dns::gethostbyname as *const ())),
    ("gethostbyname2", policy::DNS, Address(dns::gethostbyname2 as *const ())),
    ("gethostbyaddr", policy::DNS, Address(dns::gethostbyaddr as *const ())),
    ("gethostbyname_r", policy::DNS, Address(dns::gethostbyname_r as *const ())),
    ("gethostbyname2_r", policy::DNS, Address(dns::gethostbyname2_r as *const ())),
    ("gethostbyaddr_r", policy::DNS, Address(dns::gethostbyaddr_r as *const ())),
    ("waitpid", policy::PROCESSES, Address(process::waitpid as *const ())),
    ("wait4", policy::PROCESSES, Address(process::wait4 as *const ())),
    ("wait", policy::PROCESSES, Address(process::wait as *const ())),
    ("waitid", policy::PROCESSES, Address(process::waitid as *const ())),
    ("pthread_join", policy::PROCESSES, Address(process::pthread_join as *const ())),
];

/// A function's address, of whatever signature.
struct Address(*const ());

// SAFETY: an address is plain data.
unsafe impl Sync for Address {}

/// Reports a failure as the C library does.
#[cold]
fn fail(error: c_int) -> isize {
    set_errno(error);
    -1
}

/// Ends an operation that has succeeded: a coroutine whose operations always do lets others run once in a
/// while. `errno` is as it was.
#[inline]
fn settled<T>(errno: c_int, value: T) -> T {
    hooked::charge();
    set_errno(errno);
    value
}

/// Makes every blocking function cooperative that can be: to be called at the beginning of `main`.
///
/// From then on, whatever a coroutine (or a thread's own stack beside coroutines) calls waits in the hub, be it
/// std, a crate or a C library. Threads without coroutines notice nothing. Calling it again is harmless.
/// (gevent's `monkey.patch_all`.)
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
///
/// greenling::patch::all();
/// let start = Instant::now();
/// // std's sleep, in ten coroutines of one thread, at once.
/// let naps = (0..10).map(|_| greenling::spawn(|| std::thread::sleep(Duration::from_millis(200))));
/// greenling::join_all(naps);
/// assert!(start.elapsed() < Duration::from_millis(1500));
/// ```
pub fn all() {
    Builder::new().apply();
}

/// Whether any function is cooperative in this process.
pub fn is_active() -> bool {
    policy::active() != 0
}

/// Says of each function whether it is in force, and which loaded objects do not reach it: a plugin that was
/// opened with `RTLD_DEEPBIND`, a linker that has dropped or hidden the symbols.
///
/// It reads the tables of the loaded objects, so it takes some milliseconds.
///
/// # Examples
/// ```
/// let report = greenling::patch::report();
/// assert!(report.symbols.iter().any(|symbol| symbol.name == "recv" && symbol.exported));
/// println!("{report}");
/// ```
pub fn report() -> Report {
    report::report()
}

/// Calls `f`, in which the calling coroutine's calls are the C library's own and block the thread.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::patch;
///
/// patch::all();
/// let other = greenling::spawn(|| panic!("it has run meanwhile"));
/// patch::unpatched(|| std::thread::sleep(Duration::from_millis(5)));
/// other.kill();
/// ```
pub fn unpatched<T>(f: impl FnOnce() -> T) -> T {
    /// Takes it back, also when `f` unwinds.
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            hooked::unpatch(-1);
        }
    }
    hooked::unpatch(1);
    let _guard = Guard;
    f()
}

/// Chooses what [`all`] turns on altogether.
///
/// # Examples
/// ```
/// greenling::patch::Builder::new().processes(false).locks(false).apply();
/// assert!(greenling::patch::is_active());
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it applies"]
pub struct Builder {
    families: u32,
}

impl Builder {
    /// What [`all`] has: everything but standard input, output and error.
    pub fn new() -> Builder {
        let all = [
            policy::SOCKETS,
            policy::FDS,
            policy::POLL,
            policy::TIME,
            policy::DNS,
            policy::LOCKS,
            policy::PROCESSES,
        ];
        Builder { families: all.iter().fold(0, |families, family| families | family.0) }
    }

    fn set(mut self, family: Family, on: bool) -> Builder {
        self.families = if on { self.families | family.0 } else { self.families & !family.0 };
        self
    }

    /// Sockets: `recv`, `send`, `connect`, `accept` and their relatives; `read` and `write` of sockets.
    pub fn sockets(self, on: bool) -> Builder {
        self.set(policy::SOCKETS, on)
    }

    /// `read` and `write` of pipes, terminals and whatever else can be waited for.
    pub fn fds(self, on: bool) -> Builder {
        self.set(policy::FDS, on)
    }

    /// `poll`, `select` and `epoll_wait`.
    pub fn poll(self, on: bool) -> Builder {
        self.set(policy::POLL, on)
    }

    /// `nanosleep` and its relatives.
    pub fn time(self, on: bool) -> Builder {
        self.set(policy::TIME, on)
    }

    /// `getaddrinfo` and its relatives.
    pub fn dns(self, on: bool) -> Builder {
        self.set(policy::DNS, on)
    }

    /// std's `Mutex`, `RwLock`, `Condvar`, `Once` and `Barrier` (`futex`).
    pub fn locks(self, on: bool) -> Builder {
        self.set(policy::LOCKS, on)
    }

    /// `waitpid` and its relatives, and the joining of threads.
    pub fn processes(self, on: bool) -> Builder {
        self.set(policy::PROCESSES, on)
    }

    /// Standard input, output and error like other descriptors; off unless it is asked for.
    ///
    /// std locks its standard streams by thread: while one coroutine waits inside of `println!`, for a pipe
    /// that is full, another one of the same thread gets into the lock and panics. So only for programs that
    /// use the three descriptors by other means.
    pub fn stdio(self, on: bool) -> Builder {
        self.set(policy::STDIO, on)
    }

    /// Makes it so, from now on, for the whole process. The last call holds.
    pub fn apply(self) {
        std::hint::black_box(SYMBOLS);
        sources::set_process();
        futex::prepare();
        policy::activate(self.families);
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

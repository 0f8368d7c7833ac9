//! Code that was not linked with the program: shared objects that are opened at run time, one in C, one in Rust.
//! Their blocking calls reach ours. What the compilers for them are missing for is passed over.

#![cfg(feature = "patch")]

#[path = "common/child.rs"]
mod child;
mod common;

use std::ffi::{CString, c_char, c_int, c_void};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{mem, thread};

use child::On;
use greenling::{join_all, patch, spawn};

const MS: Duration = Duration::from_millis(1);

/// A directory of its own, which goes with it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("greenling-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Compiles `text` to a shared object; `None` without a compiler.
fn compiled(dir: &Dir, source: &str, text: &str, compiler: &str, args: &[&str]) -> Option<PathBuf> {
    let (source, object) = (dir.0.join(source), dir.0.join("plugin.so"));
    std::fs::write(&source, text).unwrap();
    let output = Command::new(compiler).args(args).arg("-o").arg(&object).arg(&source).output();
    let Ok(output) = output else {
        println!("skipped: there is no {compiler}");
        return None;
    };
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} fails: {messages}");
    Some(object)
}

struct Plugin {
    handle: *mut c_void,
}

impl Plugin {
    fn open(path: &Path, flags: c_int) -> Plugin {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a C string; what is opened has no constructors.
        let handle = unsafe { libc::dlopen(path.as_ptr(), flags) };
        assert!(!handle.is_null());
        Plugin { handle }
    }

    /// # Safety
    /// `F` must be the type of the function of that name.
    unsafe fn function<F: Copy>(&self, name: &str) -> F {
        let c_name = CString::new(name).unwrap();
        // SAFETY: C strings, and the caller's promise.
        unsafe {
            let address = libc::dlsym(self.handle, c_name.as_ptr());
            assert!(!address.is_null(), "{name}");
            mem::transmute_copy(&address)
        }
    }
}

const C_SOURCE: &str = r#"
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int do_nanosleep(int millis) {
    struct timespec time = {millis / 1000, millis % 1000 * 1000000L};
    return nanosleep(&time, 0);
}
int do_read(int fd) { char c; return read(fd, &c, 1) == 1 ? c : -errno; }
int do_recv(int fd) { char c; return recv(fd, &c, 1, MSG_WAITALL) == 1 ? c : -errno; }
int do_poll(int fd) {
    struct pollfd entry = {fd, POLLIN, 0};
    return poll(&entry, 1, 20000) == 1 ? do_read(fd) : -errno;
}
int do_select(int fd) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return select(fd + 1, &set, 0, 0, 0) == 1 ? do_read(fd) : -errno;
}
/* With sizes that the compiler does not know, so that it checks them at run time. */
int do_checked(int fd, volatile int *one) {
    char buf[4];
    int got = read(fd, buf, *one);
    if (got != 1) return -errno;
    struct pollfd entries[2] = {{fd, POLLIN, 0}, {-1, 0, 0}};
    if (poll(entries, *one, 20000) != 1) return -errno;
    got = recv(fd, buf, *one, 0);
    return got == 1 ? buf[0] : -errno;
}
/* A client: connects, asks, is answered. */
int do_connect(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {0};
    addr.sin_family = AF_INET;
    addr.sin_port = htons(port);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr)) return -errno;
    if (send(fd, "?", 1, 0) != 1) return -errno;
    int answer = do_recv(fd);
    close(fd);
    return answer;
}
int do_getaddrinfo(const char *name) {
    struct addrinfo *list, hints = {0};
    hints.ai_socktype = SOCK_STREAM;
    int failed = getaddrinfo(name, "80", &hints, &list);
    if (failed) return failed;
    int family = list->ai_family;
    freeaddrinfo(list);
    return family;
}
int do_waitpid(int pid) {
    int status;
    return waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : -errno;
}
"#;

type Call = extern "C" fn(c_int) -> c_int;

/// Calls `call` for each of many pairs, whose other ends speak up later; they all wait at once.
fn many_wait(name: &str, call: impl Fn(c_int) -> c_int + Copy + 'static, bytes: &'static [u8]) {
    let (near, far): (Vec<_>, Vec<_>) = (0..30).map(|_| UnixStream::pair().unwrap()).unzip();
    let waiters: Vec<_> =
        near.into_iter().map(|near| spawn(move || call(near.as_raw_fd()))).collect();
    greenling::sleep(20 * MS); // nobody has blocked the thread, or this would not come
    for mut far in far {
        far.write_all(bytes).unwrap();
        mem::forget(far);
    }
    let last = c_int::from(bytes[bytes.len() - 1]);
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), last, "{name}");
    }
}

/// Answers many clients, each after some time; the clients run on the same thread.
fn many_connect(call: impl Fn(c_int) -> c_int + Copy + 'static) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = c_int::from(listener.local_addr().unwrap().port());
    let server = spawn(move || {
        let answers = (0..30).map(|_| {
            let mut stream = listener.accept().unwrap().0;
            spawn(move || {
                stream.read_exact(&mut [0]).unwrap();
                thread::sleep(50 * MS);
                stream.write_all(b"!").unwrap();
            })
        });
        join_all(answers.collect::<Vec<_>>()).into_iter().for_each(|one| one.unwrap());
    });
    let clients = join_all((0..30).map(|_| spawn(move || call(port))));
    clients.into_iter().for_each(|client| assert_eq!(client.unwrap(), c_int::from(b'!')));
    server.join().unwrap();
}

/// In `work`, others run: how often another coroutine got to run.
fn others_run(work: impl FnOnce()) -> u32 {
    let count = std::rc::Rc::new(std::cell::Cell::new(0));
    let counting = count.clone();
    let other = spawn(move || {
        loop {
            greenling::sleep(MS);
            counting.set(counting.get() + 1);
        }
    });
    greenling::yield_now();
    work();
    other.kill();
    count.get()
}

fn c_plugin_is_cooperative(plugin: &Plugin) {
    // SAFETY: these are their types.
    unsafe {
        let nanosleep: Call = plugin.function("do_nanosleep");
        let start = Instant::now();
        let naps = join_all((0..100).map(|_| spawn(move || nanosleep(100))));
        naps.into_iter().for_each(|nap| assert_eq!(nap.unwrap(), 0));
        assert!(start.elapsed() >= 100 * MS && start.elapsed() < 5000 * MS);
        for name in ["do_read", "do_recv", "do_poll", "do_select"] {
            let call: Call = plugin.function(name);
            many_wait(name, move |fd| call(fd), b"a");
        }
        let checked: extern "C" fn(c_int, *const c_int) -> c_int = plugin.function("do_checked");
        many_wait("do_checked", move |fd| checked(fd, &1), b"ab");
        let connect: Call = plugin.function("do_connect");
        many_connect(move |port| connect(port));
        let lookup: extern "C" fn(*const c_char) -> c_int = plugin.function("do_getaddrinfo");
        // The other one runs while a thread of the pool looks it up, unless that has done so before anybody waits.
        let other = spawn(|| ());
        for _ in 0..100 {
            assert!([libc::AF_INET, libc::AF_INET6].contains(&lookup(c"localhost".as_ptr())));
            if other.is_finished() {
                break;
            }
        }
        assert!(other.is_finished());
        let waitpid: Call = plugin.function("do_waitpid");
        let pid = Command::new("sh").args(["-c", "sleep 0.2; exit 7"]).spawn().unwrap().id();
        assert!(others_run(|| assert_eq!(waitpid(pid as c_int), 7)) > 3);
    }
}

/// The objects whose calls do not reach ours, of those with this name.
fn bypassing(path: &Path) -> Vec<&'static str> {
    let path = path.to_str().unwrap();
    let symbols = patch::report().symbols;
    let is_bypassed = |symbol: &&patch::Symbol| {
        symbol.objects.iter().any(|object| object.path == path && !object.live)
    };
    symbols.iter().filter(is_bypassed).map(|symbol| symbol.name).collect()
}

/// The objects whose calls do reach ours.
fn reaching(path: &Path) -> Vec<&'static str> {
    let path = path.to_str().unwrap();
    let symbols = patch::report().symbols;
    let reaches = |symbol: &&patch::Symbol| {
        symbol.objects.iter().any(|object| object.path == path && object.live)
    };
    symbols.iter().filter(reaches).map(|symbol| symbol.name).collect()
}

/// With functions that are bound at once and at their first call, and with and without the checks that
/// distributions compile with.
#[test]
fn a_c_plugin_waits_as_coroutines_do() {
    let cases = [
        (libc::RTLD_NOW, "-O0"),
        (libc::RTLD_LAZY, "-O2"),
        (libc::RTLD_NOW | libc::RTLD_GLOBAL, "-O2 -D_FORTIFY_SOURCE=2"),
    ];
    let ended = child::run_each(On::OtherThread, 120, &cases, |&(flags, options)| {
        let dir = Dir::new("c-plugin");
        let mut args = vec!["-shared", "-fPIC", "-pthread"];
        args.extend(options.split(' '));
        let Some(object) = compiled(&dir, "plugin.c", C_SOURCE, "cc", &args) else { return };
        patch::all();
        let plugin = Plugin::open(&object, flags);
        c_plugin_is_cooperative(&plugin);
        assert_eq!(bypassing(&object), [""; 0], "{}", patch::report());
        let found = reaching(&object);
        let names = ["connect", "getaddrinfo", "nanosleep", "poll", "read", "recv", "waitpid"];
        for name in names {
            let checked = format!("__{name}_chk");
            assert!(
                found.contains(&name) || found.contains(&checked.as_str()),
                "{name}: {found:?}"
            );
        }
        if options.contains("FORTIFY") && cfg!(target_env = "gnu") {
            for name in ["__read_chk", "__recv_chk", "__poll_chk"] {
                assert!(found.contains(&name), "{name}: {found:?}");
            }
        }
    });
    ended.iter().for_each(|ended| ended.succeeded());
}

/// One that insists on the C library's own blocks the thread, and the report says for which functions.
#[test]
fn a_plugin_that_is_bound_deeply_is_told_of() {
    let ended = child::run(On::OtherThread, 60, || {
        let dir = Dir::new("deep-plugin");
        let args = ["-shared", "-fPIC"];
        let Some(object) = compiled(&dir, "plugin.c", C_SOURCE, "cc", &args) else { return };
        patch::all();
        assert!(patch::report().is_complete());
        let plugin = Plugin::open(&object, libc::RTLD_NOW | libc::RTLD_DEEPBIND);
        // SAFETY: this is its type.
        let nanosleep: Call = unsafe { plugin.function("do_nanosleep") };
        assert_eq!(others_run(|| assert_eq!(nanosleep(50), 0)), 0);
        let report = patch::report();
        assert!(!report.is_complete());
        let names = bypassing(&object);
        let all = ["recv", "send", "connect", "read", "close", "poll", "select", "nanosleep"];
        assert!(all.iter().all(|name| names.contains(name)), "{names:?}");
        assert_eq!(reaching(&object), [""; 0]);
        let poll = report.symbols.iter().find(|symbol| symbol.name == "poll").unwrap();
        assert!(poll.exported && !poll.is_live());
        let bound_to = poll.objects.iter().find_map(|object| object.bound_to.as_ref()).unwrap();
        assert!(bound_to.contains("libc"), "{bound_to}");
        let text = report.to_string();
        assert!(text.contains(object.to_str().unwrap()) && text.contains("bypassed by some"));
    });
    ended.succeeded();
}

const RUST_SOURCE: &str = r#"
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;

static LOCK: Mutex<u32> = Mutex::new(0);

#[unsafe(no_mangle)]
pub extern "C" fn do_sleep(millis: i32) -> i32 {
    std::thread::sleep(Duration::from_millis(millis as u64));
    0
}
#[unsafe(no_mangle)]
pub extern "C" fn do_read(fd: i32) -> i32 {
    let mut stream = std::mem::ManuallyDrop::new(unsafe { UnixStream::from_raw_fd(fd) });
    let mut byte = [0];
    stream.read_exact(&mut byte).map_or(-1, |()| byte[0].into())
}
#[unsafe(no_mangle)]
pub extern "C" fn do_connect(port: i32) -> i32 {
    let mut stream = TcpStream::connect(("localhost", port as u16)).unwrap();
    stream.write_all(b"?").unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    byte[0].into()
}
/// Waits while the lock is held.
#[unsafe(no_mangle)]
pub extern "C" fn do_lock(millis: i32) -> i32 {
    let mut count = LOCK.lock().unwrap();
    std::thread::sleep(Duration::from_millis(millis as u64));
    *count += 1;
    *count as i32
}
"#;

/// With a std of its own, as a cdylib has.
#[test]
fn a_rust_plugin_waits_as_coroutines_do() {
    let ended = child::run(On::OtherThread, 120, || {
        let dir = Dir::new("rust-plugin");
        let args = ["--crate-type", "cdylib", "--edition", "2024", "-Copt-level=1"];
        let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let Some(object) = compiled(&dir, "plugin.rs", RUST_SOURCE, &compiler, &args) else {
            return;
        };
        patch::all();
        let plugin = Plugin::open(&object, libc::RTLD_NOW);
        // SAFETY: these are their types.
        unsafe {
            let sleep: Call = plugin.function("do_sleep");
            let start = Instant::now();
            join_all((0..100).map(|_| spawn(move || sleep(100))));
            assert!(start.elapsed() >= 100 * MS && start.elapsed() < 5000 * MS);
            let read: Call = plugin.function("do_read");
            many_wait("do_read", move |fd| read(fd), b"a");
            let connect: Call = plugin.function("do_connect");
            many_connect(move |port| connect(port));
            let lock: Call = plugin.function("do_lock");
            let counts = join_all((0..5).map(|_| spawn(move || lock(2))));
            let counts: Vec<_> = counts.into_iter().map(|count| count.unwrap()).collect();
            assert_eq!(counts, [1, 2, 3, 4, 5]);
        }
        assert_eq!(bypassing(&object), [""; 0]);
        assert!(reaching(&object).contains(&"recv"));
    });
    ended.succeeded();
}

const PRELOADED: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>

int preloaded_calls;
ssize_t recv(int fd, void *buf, size_t len, int flags) {
    ssize_t (*next)(int, void *, size_t, int) = dlsym(RTLD_NEXT, "recv");
    preloaded_calls++;
    return next(fd, buf, len, flags);
}
"#;

/// What is preloaded stays in the chain behind ours.
#[test]
fn a_preloaded_library_is_still_called() {
    const MARK: &str = "GREENLING_TEST_PRELOADED";
    let ended = child::run(On::OtherThread, 120, || {
        if std::env::var(MARK).is_err() {
            let dir = Dir::new("preload");
            let args = ["-shared", "-fPIC"];
            let Some(object) = compiled(&dir, "plugin.c", PRELOADED, "cc", &args) else { return };
            let own = std::env::current_exe().unwrap();
            let name = thread::current().name().unwrap().to_owned();
            let mut again = Command::new(own);
            again.args([&name, "--exact", "--nocapture"]).env(MARK, "1").env("LD_PRELOAD", object);
            assert!(again.status().unwrap().success());
            return;
        }
        patch::all();
        let work = spawn(|| {
            let (mut a, mut b) = UnixStream::pair().unwrap();
            let peer = spawn(move || {
                greenling::sleep(5 * MS);
                b.write_all(b"x").unwrap();
            });
            a.read_exact(&mut [0]).unwrap();
            peer.join().unwrap();
        });
        work.join().unwrap();
        // SAFETY: a C string; the count is only read.
        let calls = unsafe {
            let place = libc::dlsym(libc::RTLD_DEFAULT, c"preloaded_calls".as_ptr());
            assert!(!place.is_null());
            *place.cast::<c_int>()
        };
        assert!(calls >= 2, "{calls}");
        assert!(patch::report().symbols.iter().all(|symbol| symbol.exported));
    });
    ended.succeeded();
}

/// What std itself imports is redefined: a connection of a plain client and server.
#[test]
fn std_reaches_ours() {
    let ended = child::run(On::OtherThread, 60, || {
        patch::all();
        many_connect(|port| {
            let mut stream = TcpStream::connect(("127.0.0.1", port as u16)).unwrap();
            stream.write_all(b"?").unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            byte[0].into()
        });
    });
    ended.succeeded();
}

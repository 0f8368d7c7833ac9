//! Sleeping, names, processes, interruption, errno, and where nothing is patched.

#![cfg(feature = "patch")]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/native.rs"]
mod native;

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use child::On;
use common::deadline;
use greenling::{join_all, patch, spawn};
use native::{WAIT, both, outcome, same};

const MS: Duration = Duration::from_millis(1);

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

// ---- time -----------------------------------------------------------------------------------------

#[test]
fn all_kinds_of_sleep() {
    deadline(60, || {
        let (native, patched) = both(|| {
            let start = Instant::now();
            let mut results = Vec::new();
            // SAFETY: times are valid.
            unsafe {
                let time = libc::timespec { tv_sec: 0, tv_nsec: 300_000_000 };
                results.push(outcome(libc::nanosleep(&time, ptr::null_mut())));
                let clock = libc::CLOCK_MONOTONIC;
                results.push(libc::clock_nanosleep(clock, 0, &time, ptr::null_mut()).into());
                let mut end: libc::timespec = mem::zeroed();
                libc::clock_gettime(libc::CLOCK_REALTIME, &mut end);
                end.tv_sec += 1;
                let clock = libc::CLOCK_REALTIME;
                let absolute = libc::TIMER_ABSTIME;
                results.push(libc::clock_nanosleep(clock, absolute, &end, ptr::null_mut()).into());
                let wrong = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
                results.push(outcome(libc::nanosleep(&wrong, ptr::null_mut())));
                results.push(outcome(libc::usleep(300_000)));
                results.push(libc::sleep(1).into());
            }
            thread::sleep(WAIT);
            (results, start.elapsed())
        });
        assert_eq!(native.0, patched.0);
        assert!(patched.1 >= 3200 * MS && patched.1 < native.1 + 5000 * MS, "{patched:?}");
    });
}

// ---- names ----------------------------------------------------------------------------------------

#[test]
fn names_are_looked_up_beside_others() {
    deadline(60, || {
        let native = thread::spawn(|| {
            ("localhost", 80).to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap()
        })
        .join()
        .unwrap();
        patch::all();
        let lookups = (0..50).map(|_| {
            spawn(|| ("localhost", 80).to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap())
        });
        for found in join_all(lookups) {
            assert_eq!(found.unwrap(), native); // and std has freed the list
        }
        same(|| {
            // SAFETY: C strings; the list goes back to where it came from.
            unsafe {
                let (numeric, bad) = (c"127.0.0.1", c"256.0.0.1.invalid");
                let mut hints: libc::addrinfo = mem::zeroed();
                hints.ai_flags = libc::AI_NUMERICHOST;
                let mut list = ptr::null_mut();
                let found = libc::getaddrinfo(numeric.as_ptr(), c"81".as_ptr(), &hints, &mut list);
                let family = (*list).ai_family;
                libc::freeaddrinfo(list);
                let refused = libc::getaddrinfo(bad.as_ptr(), ptr::null(), &hints, &mut list);
                (found, family, refused)
            }
        });
    });
}

#[test]
fn addresses_get_names() {
    deadline(60, || {
        same(|| {
            // SAFETY: the address and the buffers have these lengths.
            unsafe {
                let mut addr: libc::sockaddr_in = mem::zeroed();
                addr.sin_family = libc::AF_INET as u16;
                addr.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
                addr.sin_port = 80_u16.to_be();
                let (mut host, mut service) = ([0_u8; 256], [0_u8; 32]);
                let result = libc::getnameinfo(
                    (&raw const addr).cast(),
                    size_of_val(&addr) as u32,
                    host.as_mut_ptr().cast(),
                    256,
                    service.as_mut_ptr().cast(),
                    32,
                    libc::NI_NUMERICSERV,
                );
                (result, host, service)
            }
        });
    });
}

// ---- processes ------------------------------------------------------------------------------------

#[test]
fn children_are_waited_for() {
    deadline(60, || {
        let codes = same(|| {
            let shell = |script: &str| Command::new("sh").args(["-c", script]).spawn().unwrap();
            let by_std = shell("sleep 0.4; exit 3").wait().unwrap().code();
            let output = Command::new("sh")
                .args(["-c", "cat; echo error >&2; sleep 0.4"])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let pid = shell("sleep 0.4; exit 5").id();
            let mut status = 0;
            // SAFETY: the status is valid.
            let waited = unsafe { libc::waitpid(pid as i32, &mut status, 0) } == pid as i32;
            // SAFETY: as above.
            let again = outcome(unsafe { libc::waitpid(pid as i32, &mut status, 0) });
            let pid = shell("sleep 0.4; exit 7").id();
            // SAFETY: plain data.
            let info = unsafe {
                let mut info: libc::siginfo_t = mem::zeroed();
                libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED);
                (info.si_status(), info.si_pid() == pid as i32)
            };
            (by_std, output, waited, libc::WEXITSTATUS(status), again, info)
        });
        assert_eq!(codes.0, Some(3));
        assert_eq!(codes.1.stderr, b"error\n");
    });
}

/// In a process that has no other children.
#[test]
fn any_child_is_waited_for() {
    let ended = child::run(On::OtherThread, 60, || {
        patch::all();
        // It ends when its input does, which another coroutine sees to.
        let mut command = Command::new("sh");
        command.args(["-c", "cat; exit 9"]);
        #[expect(clippy::zombie_processes, reason = "libc::wait is what is tested")]
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (id, input) = (child.id(), child.stdin.take());
        let waiter = spawn(move || {
            let mut status = 0;
            // SAFETY: the status is valid.
            let pid = unsafe { libc::wait(&mut status) };
            assert_eq!((pid as u32, libc::WEXITSTATUS(status)), (id, 9));
            // SAFETY: as above.
            let none = unsafe { libc::waitpid(-1, &mut status, 0) };
            assert_eq!((none, errno()), (-1, libc::ECHILD));
        });
        greenling::sleep(10 * MS);
        drop(input);
        waiter.join().unwrap();
    });
    ended.succeeded();
}

#[test]
fn a_forked_child_goes_on() {
    let ended = child::run(On::OtherThread, 60, || {
        patch::all();
        let work = spawn(|| {
            let (mut a, mut b) = UnixStream::pair().unwrap();
            let other = spawn(move || {
                greenling::sleep(MS);
                b.write_all(b"x").unwrap();
                b
            });
            a.read_exact(&mut [0]).unwrap();
            let mut b = other.join().unwrap();
            // SAFETY: the child only uses what a forked child may.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // The same descriptors, on a hub of its own.
                let reader = spawn(move || a.read_exact(&mut [0]).is_ok());
                greenling::sleep(MS);
                b.write_all(b"y").unwrap();
                let fine = reader.join().unwrap();
                // SAFETY: ends the child.
                unsafe { libc::_exit(if fine { 0 } else { 1 }) };
            }
            drop((a, b));
            let mut status = 0;
            // SAFETY: the status is valid.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert_eq!(status, 0);
        });
        work.join().unwrap();
    });
    ended.succeeded();
}

#[test]
fn threads_are_joined_beside_others() {
    deadline(30, || {
        let joined = same(|| {
            thread::spawn(|| {
                thread::sleep(WAIT);
                7
            })
            .join()
            .unwrap()
        });
        assert_eq!(joined, 7);
    });
}

// ---- interruption ---------------------------------------------------------------------------------

#[test]
fn a_kill_is_an_error_and_unwinds_at_the_next_wait_of_ours() {
    deadline(30, || {
        patch::all();
        let (a, _b) = UnixStream::pair().unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        let victim = spawn(move || {
            let mut buf = [0; 4];
            // SAFETY: the buffer has this length.
            let count = unsafe { libc::read(a.as_raw_fd(), buf.as_mut_ptr().cast(), 4) };
            send.send((count, errno())).unwrap();
            // Again, at once.
            let by_std = (&a).read(&mut buf).unwrap_err().raw_os_error();
            send.send((-1, by_std.unwrap())).unwrap();
            greenling::sleep(MS);
            send.send((0, 0)).unwrap(); // never
        });
        greenling::sleep(5 * MS);
        victim.kill();
        assert!(victim.join().is_err());
        let seen: Vec<_> = receive.iter().collect();
        assert_eq!(seen, [(-1, libc::ECANCELED), (-1, libc::ECANCELED)]);
    });
}

#[test]
fn a_time_limit_passes_through_unmodified_code() {
    deadline(30, || {
        patch::all();
        let work = spawn(|| {
            let (mut a, _b) = UnixStream::pair().unwrap();
            let start = Instant::now();
            let limited = greenling::timeout(20 * MS, || {
                let error = a.read(&mut [0; 4]).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                greenling::sleep(10_000 * MS);
            });
            assert!(limited.is_err());
            // std's sleep just ends.
            let limited = greenling::timeout(20 * MS, || {
                thread::sleep(10_000 * MS);
                greenling::sleep(MS);
            });
            assert!(limited.is_err());
            assert!(start.elapsed() < 5000 * MS);
        });
        work.join().unwrap();
    });
}

#[test]
fn a_thread_that_panics_blocks() {
    struct OnDrop(UnixStream);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            assert!(thread::panicking());
            thread::sleep(50 * MS);
            self.0.read_exact(&mut [0]).unwrap();
        }
    }
    let ended = child::run(On::OtherThread, 30, || {
        patch::all();
        std::panic::set_hook(Box::new(|_| {}));
        let (a, mut b) = UnixStream::pair().unwrap();
        let victim = spawn(move || {
            let _on_drop = OnDrop(a);
            panic!("on purpose");
        });
        let other = spawn(|| assert!(!thread::panicking(), "it was let in"));
        // From a thread: our own is blocked.
        let writer = thread::spawn(move || {
            thread::sleep(100 * MS);
            b.write_all(b"x").unwrap();
        });
        assert!(victim.join().is_err());
        other.join().unwrap();
        writer.join().unwrap();
    });
    ended.succeeded();
}

#[test]
fn errno_survives_every_switch() {
    deadline(30, || {
        patch::all();
        let workers = (1..20).map(|n| {
            spawn(move || {
                for _ in 0..50 {
                    // SAFETY: the location is the thread's own.
                    unsafe { *libc::__errno_location() = n };
                    greenling::yield_now();
                    assert_eq!(errno(), n);
                    thread::sleep(Duration::from_micros(10));
                    assert_eq!(errno(), n);
                    greenling::sleep(Duration::from_micros(10));
                    assert_eq!(errno(), n);
                }
            })
        });
        join_all(workers).into_iter().for_each(|result| result.unwrap());
    });
}

// ---- where nothing is patched ---------------------------------------------------------------------

#[test]
fn nothing_waits_in_the_hub_before_all() {
    let ended = child::run(On::OtherThread, 30, || {
        assert!(!patch::is_active());
        let other = spawn(|| panic!("it has run"));
        thread::sleep(20 * MS);
        other.kill();
        patch::Builder::new().time(false).apply();
        assert!(patch::is_active());
        let other = spawn(|| panic!("it has run"));
        thread::sleep(20 * MS);
        other.kill();
        patch::all();
        let other = spawn(|| ());
        patch::unpatched(|| thread::sleep(20 * MS));
        assert!(!other.is_finished());
        thread::sleep(MS);
        assert!(other.is_finished());
    });
    ended.succeeded();
}

#[test]
fn standard_output_is_left_alone() {
    let ended = child::run(On::OtherThread, 30, || {
        patch::all();
        // Standard output becomes a pipe that is full.
        let (mut reader, writer) = common::pipe().unwrap();
        // SAFETY: descriptors are valid; the copy keeps the real one.
        let real = unsafe { libc::dup(1) };
        // SAFETY: as above.
        unsafe { libc::dup2(writer.as_raw_fd(), 1) };
        let drain = thread::spawn(move || {
            thread::sleep(50 * MS);
            let mut buf = vec![0; 1 << 16];
            let mut count = 0;
            while count < 2 * 200_000 {
                count += reader.read(&mut buf).unwrap();
            }
        });
        let text = "x".repeat(200_000);
        let printers: Vec<_> = (0..2)
            .map(|_| {
                let text = text.clone();
                // If one waited inside of std's lock, the other would panic in there.
                spawn(move || print!("{text}"))
            })
            .collect();
        join_all(printers).into_iter().for_each(|result| result.unwrap());
        io::stdout().flush().unwrap();
        // SAFETY: as above.
        unsafe { libc::dup2(real, 1) };
        drop(writer);
        drain.join().unwrap();
    });
    ended.succeeded();
}

#[test]
fn main_is_cooperative_beside_coroutines() {
    deadline(30, || {
        patch::all();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = spawn(move || listener.accept().unwrap().0.write_all(b"hi").unwrap());
        let mut text = String::new();
        TcpStream::connect(addr).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
        server.join().unwrap();
    });
}

// ---- symbols --------------------------------------------------------------------------------------

#[test]
fn the_report_finds_the_symbols() {
    let report = patch::report();
    for symbol in &report.symbols {
        assert!(symbol.exported && symbol.has_original, "{symbol:?}\n{report}");
    }
    assert!(report.is_complete(), "{report}");
    assert!(report.to_string().contains("recv"));
}

/// A C library that is compiled here and opened at run time: its calls reach ours.
#[test]
fn a_c_library_binds_to_ours() {
    let ended = child::run(On::OtherThread, 60, || {
        let dir = std::env::temp_dir().join(format!("greenling-plugin-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (source, library) = (dir.join("plugin.c"), dir.join("plugin.so"));
        std::fs::write(
            &source,
            "#include <unistd.h>\n#include <poll.h>\n#include <errno.h>\n\
         int nap(void) { return usleep(50000); }\n\
         int take(int fd, char *buf) { struct pollfd p = {fd, POLLIN, 0}; \
         if (poll(&p, 1, -1) != 1) return -errno; return read(fd, buf, 1); }\n",
        )
        .unwrap();
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        if !compiled.is_ok_and(|status| status.success()) {
            println!("skipped: no C compiler");
            return;
        }
        patch::all();
        let open = |flags| {
            let path = CString::new(library.to_str().unwrap()).unwrap();
            // SAFETY: C strings; the library has no constructors.
            let handle = unsafe { libc::dlopen(path.as_ptr(), flags) };
            assert!(!handle.is_null());
            handle
        };
        let handle = open(libc::RTLD_NOW);
        // SAFETY: these are the functions' signatures.
        let (nap, take) = unsafe {
            (
                mem::transmute::<*mut libc::c_void, extern "C" fn() -> i32>(libc::dlsym(
                    handle,
                    c"nap".as_ptr(),
                )),
                mem::transmute::<*mut libc::c_void, extern "C" fn(i32, *mut u8) -> i32>(
                    libc::dlsym(handle, c"take".as_ptr()),
                ),
            )
        };
        let start = Instant::now();
        let naps = (0..200).map(|_| spawn(move || assert_eq!(nap(), 0)));
        join_all(naps).into_iter().for_each(|result| result.unwrap());
        assert!(start.elapsed() < 5000 * MS, "{:?}", start.elapsed());
        let (a, mut b) = UnixStream::pair().unwrap();
        let taker = spawn(move || take(a.as_raw_fd(), &mut 0));
        greenling::sleep(5 * MS);
        b.write_all(b"x").unwrap();
        assert_eq!(taker.join().unwrap(), 1);
        // A kill comes through C without harm.
        let (a, _b) = UnixStream::pair().unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        let victim = spawn(move || {
            send.send(take(a.as_raw_fd(), &mut 0)).unwrap();
            greenling::sleep(MS);
        });
        greenling::sleep(5 * MS);
        victim.kill();
        assert_eq!(receive.recv().unwrap(), -libc::ECANCELED);
        assert!(patch::report().is_complete());
        // SAFETY: nothing of it is in use.
        unsafe { libc::dlclose(handle) };
        // One that insists on the C library's own is told of.
        open(libc::RTLD_NOW | libc::RTLD_DEEPBIND);
        let report = patch::report();
        let poll = report.symbols.iter().find(|symbol| symbol.name == "poll").unwrap();
        assert!(!poll.is_live(), "{report}");
        assert!(poll.objects.iter().any(|object| object.path.ends_with("plugin.so")));
        std::fs::remove_dir_all(&dir).unwrap();
    });
    ended.succeeded();
}

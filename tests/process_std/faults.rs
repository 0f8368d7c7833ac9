//! Limits and faults, each in a process of its own.

use std::io;
use std::time::Duration;

use greenling::os::unix::process::CommandExt;
use greenling::process::{Command, Stdio};
use greenling::{join_all, spawn, timeout};

use crate::child::{On, run};

fn limit(resource: libc::__rlimit_resource_t, count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: the kernel reads a valid rlimit.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0, "{}", io::Error::last_os_error());
}

fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1
}

/// Zombies included.
fn has_children() -> bool {
    // SAFETY: a null pointer says that no status is wanted.
    unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) != -1 }
}

#[test]
fn a_thousand_children_at_once() {
    run(On::OtherThread, 300, || {
        const COUNT: usize = 1000;
        let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes a whole rlimit.
        unsafe { libc::getrlimit(libc::RLIMIT_NPROC, &mut limits) };
        if limits.rlim_cur < 2 * COUNT as u64 {
            println!("skipped: only {} processes are allowed here", limits.rlim_cur);
            return;
        }
        // Alive until the last one has been started: they wait for the end of their input.
        let mut inputs = Vec::new();
        let waiters: Vec<_> = (0..COUNT)
            .map(|n| {
                let mut command = Command::new("sh");
                command.args(["-c", "read x; exit $((x % 251))"]).stdin(Stdio::piped());
                let mut child = command.spawn().unwrap();
                inputs.push((n, child.stdin.take().unwrap()));
                spawn(move || child.wait().unwrap().code().unwrap() as usize)
            })
            .collect();
        for (n, mut input) in inputs {
            io::Write::write_all(&mut input, format!("{n}\n").as_bytes()).unwrap();
        }
        for (n, code) in join_all(waiters).into_iter().enumerate() {
            assert_eq!(code.unwrap(), n % 251);
        }
        assert!(!has_children(), "zombies are left");
    })
    .succeeded();
}

#[test]
fn without_descriptors_a_start_fails_and_a_wait_works() {
    run(On::OtherThread, 60, || {
        let mut child =
            Command::new("sh").args(["-c", "read x"]).stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        // Not a single one: neither for a pidfd nor for the hub's epoll instance.
        limit(libc::RLIMIT_NOFILE, 3.max(open_files()));
        let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        let error = Command::new("true").stdin(Stdio::piped()).spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        assert!(Command::new("true").output().is_err());
        assert!(timeout(Duration::from_millis(30), || child.wait()).is_err());
        let other = spawn(move || drop(input));
        assert!(child.wait().is_ok());
        other.join().unwrap();
        drop(files);
        assert!(!has_children(), "zombies are left");
    })
    .succeeded();
}

#[test]
fn exec_that_fails_returns_and_one_that_does_not_replaces_the_process() {
    // In a process of its own: exec changes what it is called in.
    let ended = run(On::OtherThread, 60, || {
        let error = Command::new("/no/such/program").exec();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = Command::new("sh").args(["-c", "echo replaced; exit 9"]).exec();
        unreachable!("{error}");
    });
    assert_eq!(ended.status.code(), Some(9), "{ended:#?}");
    assert!(ended.stdout.contains("replaced"), "{ended:#?}");
}

#[test]
fn a_storm_of_signals_disturbs_nothing() {
    run(On::OtherThread, 60, || {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: all fields may be zero; without SA_RESTART every slow call fails with EINTR.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as *const () as usize;
        let every = libc::timeval { tv_sec: 0, tv_usec: 200 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        // SAFETY: the handler does nothing; both calls read valid structures.
        unsafe {
            assert_eq!(libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()), 0);
            assert_eq!(libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()), 0);
        }
        let jobs = (0..10).map(|n| {
            spawn(move || {
                let script = format!("head -c 200000 /dev/zero; sleep 0.05; exit {n}");
                let output = Command::new("sh").args(["-c", &script]).output().unwrap();
                (output.stdout.len(), output.status.code())
            })
        });
        for (n, result) in join_all(jobs).into_iter().enumerate() {
            assert_eq!(result.unwrap(), (200_000, Some(n as i32)));
        }
        let path = std::env::temp_dir().join(format!("greenling-storm-{}", std::process::id()));
        for _ in 0..50 {
            greenling::fs::write(&path, vec![1; 100_000]).unwrap();
            assert_eq!(greenling::fs::read(&path).unwrap().len(), 100_000);
        }
        greenling::fs::remove_file(&path).unwrap();
        // SAFETY: a timer of zeros stops it.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &std::mem::zeroed(), std::ptr::null_mut()) };
    })
    .succeeded();
}

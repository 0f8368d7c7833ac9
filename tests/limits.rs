//! When the system has no more to give: an error, nothing leaks, and what is there goes on.
//!
//! Each in a process of its own, since limits are the process's.

#[path = "common/child.rs"]
mod child;
#[allow(dead_code, reason = "limits are the process's: these tests run in children")]
mod common;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use child::On;
use common::pipe;
use greenling::hub::{self, Config};
use greenling::io::Adapter;
use greenling::thread::{self, Builder, JoinHandle};
use greenling::{spawn, yield_now};

fn set_limit(resource: libc::__rlimit_resource_t, limit: u64) {
    let mut both = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is valid.
    unsafe {
        assert_eq!(libc::getrlimit(resource, &mut both), 0);
        both.rlim_cur = limit.min(both.rlim_max);
        assert_eq!(libc::setrlimit(resource, &both), 0);
    }
}

/// A field of /proc/self/status, in KiB.
fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn maps() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// Makes a system call fail with `errno` for this thread from now on, as on another kernel or in a container.
/// With `argument` only if the argument of that number has that value.
fn deny(number: libc::c_long, argument: Option<(u32, u32)>, errno: i32) {
    let load = |offset: u32| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset };
    let skip_unless =
        |value: u32, skip: u8| libc::sock_filter { code: 0x15, jt: 0, jf: skip, k: value };
    let ret = |value: u32| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: value };
    let mut program = match argument {
        // The number lies at offset 0 of seccomp_data, the arguments at 16, 8 bytes each.
        Some((which, value)) => vec![
            load(0),
            skip_unless(number as u32, 3),
            load(16 + 8 * which),
            skip_unless(value, 1),
        ],
        None => vec![load(0), skip_unless(number as u32, 1)],
    };
    program.push(ret(libc::SECCOMP_RET_ERRNO | errno as u32));
    program.push(ret(libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program is valid through the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter), 0);
    }
}

/// Coroutines that park, as many as there can be.
fn fill(most: usize) -> (Vec<JoinHandle<()>>, Option<std::io::Error>) {
    let mut parked = Vec::with_capacity(most);
    while parked.len() < most {
        match Builder::new().spawn(thread::park) {
            Ok(child) => parked.push(child),
            Err(error) => return (parked, Some(error)),
        }
    }
    (parked, None)
}

/// A spawn fails, without any trace, and all that was there before goes on.
fn failed_spawns_leave_nothing(parked: Vec<JoinHandle<()>>) {
    yield_now();
    let before = (hub::stats(), maps());
    let probe = Arc::new(());
    for _ in 0..100 {
        let own = probe.clone();
        let error = Builder::new().name("none".into()).spawn(move || drop(own)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert_eq!(Arc::strong_count(&probe), 1, "the closure is dropped");
    }
    let own = probe.clone();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| spawn(move || drop(own))));
    let payload = panic.expect_err("there is no stack");
    assert!(payload.downcast_ref::<String>().unwrap().contains("failed to spawn"));
    assert_eq!(Arc::strong_count(&probe), 1);
    let after = (hub::stats(), maps());
    assert_eq!(after.0.spawned, before.0.spawned);
    assert_eq!((after.0.live, after.0.parked), (before.0.live, before.0.parked));
    assert_eq!(after.0.stacks_in_use, before.0.stacks_in_use);
    assert_eq!(after.0.stack_bytes_reserved, before.0.stack_bytes_reserved);
    assert!(after.1.abs_diff(before.1) < 5, "{before:?} {after:?}");
    // One ends, and the next one finds its stack.
    let mut parked = parked;
    let first = parked.pop().unwrap();
    first.thread().unpark();
    first.join().unwrap();
    assert_eq!(spawn(|| 1).join().unwrap(), 1);
    thread::sleep(Duration::from_millis(1));
    parked.iter().for_each(|child| child.thread().unpark());
    let count = parked.len();
    parked.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!((hub::stats().live, hub::stats().stacks_in_use), (0, 0));
    // All of them again.
    let (again, error) = fill(count);
    assert!(error.is_none());
    hub::shutdown(Duration::from_secs(10)).unwrap();
    drop(again);
}

#[test]
fn a_limited_address_space_is_an_error_at_spawn() {
    let ended = child::run(On::OtherThread, 60, || {
        spawn(|| ()).join().unwrap();
        set_limit(libc::RLIMIT_AS, (status("VmSize") as u64 + 64 * 1024) * 1024);
        let (parked, error) = fill(100_000);
        assert_eq!(error.unwrap().kind(), ErrorKind::OutOfMemory);
        // Smaller and smaller regions use up what there is.
        assert!(parked.len() > 100, "{}", parked.len());
        failed_spawns_leave_nothing(parked);
        set_limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
        let (more, error) = fill(2000);
        assert!(error.is_none());
        drop(more);
    });
    ended.succeeded();
}

#[test]
fn a_first_spawn_that_fails_can_be_repeated() {
    let ended = child::run(On::OtherThread, 60, || {
        let used = status("VmSize") as u64 * 1024;
        // Room for what malloc wants, but not for a stack of this size.
        set_limit(libc::RLIMIT_AS, used + (4 << 20));
        let builder = || Builder::new().stack_size(16 << 20);
        let error = builder().spawn(|| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert_eq!(hub::stats().live, 0);
        thread::sleep(Duration::from_millis(1));
        set_limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
        builder().spawn(|| ()).unwrap().join().unwrap();
    });
    ended.succeeded();
}

#[test]
fn too_large_a_stack_is_an_error() {
    let ended = child::run(On::OtherThread, 60, || {
        for size in [usize::MAX, usize::MAX / 2, (1 << 40) + 1] {
            let error = Builder::new().stack_size(size).spawn(|| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{size}");
        }
        assert_eq!(hub::stats().spawned, 0);
        // A stack of 64 GiB is nothing but address space.
        let huge = Builder::new().stack_size(64 << 30).spawn(|| 1).unwrap();
        assert_eq!(huge.join().unwrap(), 1);
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
    ended.succeeded();
}

#[test]
fn fifty_thousand_coroutines_need_few_maps() {
    let ended = child::run(On::OtherThread, 60, || {
        let before = maps();
        let (parked, error) = fill(50_000);
        assert!(error.is_none(), "{error:?}");
        yield_now();
        assert_eq!(hub::stats().parked, 50_000);
        let used = maps() - before;
        assert!(used < 100, "{used} maps for 50,000 coroutines");
        parked.iter().for_each(|child| child.thread().unpark());
        parked.into_iter().for_each(|child| child.join().unwrap());
        assert_eq!(hub::stats().live, 0);
    });
    ended.succeeded();
}

#[test]
#[ignore = "a soak: takes 5 GB of memory and some seconds"]
fn a_million_coroutines_fit_under_the_usual_limits() {
    let ended = child::run(On::OtherThread, 600, || {
        const COUNT: usize = 1_000_000;
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
        let limit: usize = limit.trim().parse().unwrap();
        let (before, resident) = (maps(), status("VmRSS"));
        let sleepers: Vec<_> = (0..COUNT as u64)
            .map(|n| {
                spawn(move || {
                    if n % 2 == 0 {
                        thread::park();
                    } else {
                        thread::sleep(Duration::from_secs(3600));
                    }
                    n
                })
            })
            .collect();
        yield_now();
        let stats = hub::stats();
        assert_eq!((stats.live, stats.parked, stats.timers), (COUNT, COUNT, COUNT / 2));
        assert!(maps() - before < 1000, "{} maps; the limit is {limit}", maps());
        let each = (status("VmRSS") - resident) * 1024 / COUNT;
        let most = if cfg!(debug_assertions) { 9_500 } else { 4_800 };
        assert!(each < most, "{each} bytes for each");
        println!("{each} bytes for each, {} maps", maps() - before);
        for sleeper in sleepers.iter().step_by(2) {
            sleeper.thread().unpark();
        }
        yield_now();
        assert_eq!(hub::stats().live, COUNT / 2);
        hub::shutdown(Duration::from_secs(100)).unwrap();
        assert_eq!((hub::stats().live, hub::stats().timers), (0, 0));
        let ended = sleepers.into_iter().filter(|sleeper| sleeper.is_finished()).count();
        assert_eq!(ended, COUNT);
        hub::trim();
        let left = status("VmRSS").saturating_sub(resident) * 1024 / COUNT;
        assert!(left < 600, "{left} bytes for each remain");
    });
    println!("{}", ended.stdout);
    ended.succeeded();
}

#[test]
fn guards_by_mprotect_end_at_the_number_of_maps() {
    let ended = child::run(On::OtherThread, 120, || {
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
        let limit: usize = limit.trim().parse().unwrap();
        if limit > 300_000 {
            return; // whoever has raised it that far would wait long
        }
        Config::new().mprotect_guards().apply();
        let (parked, error) = fill(limit);
        assert_eq!(error.unwrap().kind(), ErrorKind::OutOfMemory);
        assert!(parked.len() > limit / 2 - 2000, "{} under a limit of {limit}", parked.len());
        failed_spawns_leave_nothing(parked);
    });
    ended.succeeded();
}

const MADV_GUARD_INSTALL: u32 = 102;

#[test]
fn a_kernel_without_guard_regions_gets_guards_by_mprotect() {
    let ended = child::run(On::OtherThread, 60, || {
        deny(libc::SYS_madvise, Some((2, MADV_GUARD_INSTALL)), libc::EINVAL);
        let before = maps();
        let (parked, error) = fill(200);
        assert!(error.is_none());
        yield_now();
        assert!(maps() >= before + 300, "{before} {}", maps());
        hub::shutdown(Duration::from_secs(10)).unwrap();
        drop(parked);
        fn recurse(depth: usize) -> usize {
            let mut frame = [depth; 32];
            std::hint::black_box(&mut frame);
            if depth == usize::MAX { 0 } else { recurse(depth + 1) + frame[0] }
        }
        Builder::new().name("old kernel".into()).spawn(|| recurse(0)).unwrap().join().unwrap();
    });
    ended.died_of(libc::SIGABRT);
    assert!(ended.stderr.contains("'old kernel' has overflowed"), "{ended:#?}");
}

#[test]
fn locked_memory_gets_guards_by_mprotect() {
    let ended = child::run(On::OtherThread, 60, || {
        // SAFETY: passes no pointers.
        let locked =
            unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
        if locked != 0 {
            return; // not allowed here
        }
        let children: Vec<_> = (0..50)
            .map(|n| Builder::new().stack_size(64 << 10).spawn(move || n).unwrap())
            .collect();
        assert_eq!(children.into_iter().map(|child| child.join().unwrap()).sum::<i32>(), 1225);
        hub::trim();
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
    ended.succeeded();
}

#[test]
fn a_guard_that_cannot_be_made_is_an_error() {
    let ended = child::run(On::OtherThread, 60, || {
        let (parked, error) = fill(20);
        assert!(error.is_none());
        deny(libc::SYS_madvise, Some((2, MADV_GUARD_INSTALL)), libc::ENOMEM);
        // Those with a guard are still there to be used.
        let (more, error) = fill(10_000);
        assert_eq!(error.unwrap().kind(), ErrorKind::OutOfMemory);
        assert!(more.len() < 100);
        failed_spawns_leave_nothing(parked.into_iter().chain(more).collect());
    });
    ended.succeeded();
}

#[test]
fn without_epoll_pwait2_timeouts_are_rounded_up() {
    let ended = child::run_each(On::OtherThread, 60, &[libc::ENOSYS, libc::EPERM], |&errno| {
        deny(libc::SYS_epoll_pwait2, None, errno);
        let (reader, mut writer) = pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        let receiver = spawn(move || reader.read(&mut [0; 4]).unwrap());
        yield_now(); // from now on it sleeps in epoll
        let polls = hub::stats().polls;
        for micros in [100, 1500, 5000] {
            let began = Instant::now();
            thread::sleep(Duration::from_micros(micros));
            assert!(began.elapsed() >= Duration::from_micros(micros));
        }
        assert!(hub::stats().polls - polls < 30, "it does not spin");
        writer.write_all(b"x").unwrap();
        assert_eq!(receiver.join().unwrap(), 1);
    });
    ended.iter().for_each(child::Ended::succeeded);
}

/// A sandbox or an emulator may not have the calls that are told not to wait.
#[test]
fn without_preadv2_and_pwritev2_pipes_and_files_go_on() {
    let ended = child::run_each(On::OtherThread, 60, &[libc::ENOSYS, libc::EPERM], |&errno| {
        deny(libc::SYS_preadv2, None, errno);
        deny(libc::SYS_pwritev2, None, errno);
        let (mut reader, mut writer) = greenling::io::pipe().unwrap();
        let receiver = spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        yield_now(); // it waits now
        let data: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        writer.write_all(&data).unwrap();
        drop(writer);
        assert_eq!(receiver.join().unwrap(), data);
        let output = greenling::process::Command::new("echo").arg("text").output().unwrap();
        assert_eq!(output.stdout, b"text\n");
        let name = std::env::temp_dir().join(format!("greenling-{}", std::process::id()));
        greenling::fs::write(&name, &data).unwrap();
        let read = greenling::fs::read(&name);
        std::fs::remove_file(&name).unwrap();
        assert_eq!(read.unwrap(), data);
    });
    ended.iter().for_each(child::Ended::succeeded);
}

#[test]
fn without_descriptors_io_is_an_error_and_the_rest_goes_on() {
    let ended = child::run(On::OtherThread, 60, || {
        let (reader, mut writer) = pipe().unwrap();
        let reader = Adapter::new(reader).unwrap();
        set_limit(libc::RLIMIT_NOFILE, 0);
        for _ in 0..3 {
            let error = (&reader).read(&mut [0]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        }
        thread::sleep(Duration::from_millis(2));
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
        let main = thread::current();
        let other = std::thread::spawn(move || main.unpark());
        thread::park();
        other.join().unwrap();
        // What does not have to wait works.
        writer.write_all(b"x").unwrap();
        assert_eq!((&reader).read(&mut [0]).unwrap(), 1);
        // And with descriptors, everything does.
        set_limit(libc::RLIMIT_NOFILE, 100);
        let receiver = spawn(move || (&reader).read(&mut [0]).unwrap());
        yield_now();
        writer.write_all(b"x").unwrap();
        assert_eq!(receiver.join().unwrap(), 1);
    });
    ended.succeeded();
}

//! A stack that is too small is reported by name; every other fault goes where it would have gone without
//! the crate.

#[path = "common/child.rs"]
mod child;

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::AsRawFd;
use std::ptr;

use child::{Ended, On};
use greenling::hub::Config;
use greenling::thread::{self, Builder};
use greenling::{spawn, yield_now};

/// Calls itself until the stack is used up.
#[inline(never)]
fn recurse(depth: usize) -> usize {
    let mut frame = [depth; 32];
    black_box(&mut frame);
    if depth == usize::MAX {
        return 0;
    }
    recurse(depth + 1) + frame[depth % 32]
}

/// The report names what has overflowed, says how large it was and what to do, all in one line.
#[track_caller]
fn assert_reported(ended: &Ended, who: &str, size: usize) {
    ended.died_of(libc::SIGABRT);
    let lines: Vec<_> = ended.stderr.lines().filter(|line| line.contains("greenling")).collect();
    assert_eq!(lines.len(), 1, "{ended:#?}");
    let line = lines[0];
    assert!(line.starts_with(&format!("greenling: coroutine {who} ")), "{line}");
    assert!(line.contains(&format!("{size} bytes")), "{line}");
    assert!(line.contains("Builder::stack_size") && line.contains("Config::stack_size"), "{line}");
    // Nobody else reports it as well.
    assert!(!ended.stderr.contains("SIGSEGV") && !ended.stderr.contains("thread '"), "{ended:#?}");
}

/// The fault was not taken for an overflow.
#[track_caller]
fn assert_not_claimed(ended: &Ended) {
    assert!(!ended.stderr.contains("greenling"), "{ended:#?}");
}

fn named(name: &str) -> Builder {
    Builder::new().name(name.into())
}

#[test]
fn an_overflow_is_reported() {
    let ended = child::run(On::OtherThread, 20, || {
        named("deep one").spawn(|| recurse(0)).unwrap().join().unwrap();
    });
    assert_reported(&ended, "'deep one'", 256 * 1024);
}

#[test]
fn an_overflow_on_the_main_thread_is_reported() {
    let ended = child::run(On::MainThread, 20, || {
        named("deep two").spawn(|| recurse(0)).unwrap().join().unwrap();
    });
    assert_reported(&ended, "'deep two'", 256 * 1024);
}

#[test]
fn an_overflow_is_reported_with_guards_by_mprotect() {
    let ended = child::run(On::OtherThread, 20, || {
        Config::new().mprotect_guards().apply();
        named("deep three").spawn(|| recurse(0)).unwrap().join().unwrap();
    });
    assert_reported(&ended, "'deep three'", 256 * 1024);
}

#[test]
fn the_guards_are_made_as_was_asked_for() {
    let ended = child::run_each(On::OtherThread, 20, &[false, true], |&by_mprotect| {
        if by_mprotect {
            Config::new().mprotect_guards().apply();
        }
        let inaccessible = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().filter(|line| line.contains(" ---p ")).count()
        };
        let before = inaccessible();
        (0..100).for_each(|_| drop(spawn(thread::park)));
        yield_now();
        let made = inaccessible() - before;
        assert!(if by_mprotect { made >= 100 } else { made == 0 }, "{made}");
    });
    ended.iter().for_each(Ended::succeeded);
}

#[test]
fn the_report_says_the_size_that_was_asked_for_rounded_up() {
    const KIB: usize = 1024;
    let cases = [(1, 16 * KIB), (64 * KIB, 64 * KIB), (100_000, 128 * KIB), (KIB * KIB, KIB * KIB)];
    let ended = child::run_each(On::OtherThread, 20, &cases, |&(asked, _)| {
        named("sized").stack_size(asked).spawn(|| recurse(0)).unwrap().join().unwrap();
    });
    for (ended, (_, size)) in ended.iter().zip(cases) {
        assert_reported(ended, "'sized'", size);
    }
}

#[test]
fn the_report_says_the_size_that_is_the_hubs_default() {
    let ended = child::run(On::OtherThread, 20, || {
        Config::new().stack_size(32 << 10).apply();
        named("default").spawn(|| recurse(0)).unwrap().join().unwrap();
    });
    assert_reported(&ended, "'default'", 32 << 10);
}

#[test]
fn a_coroutine_without_a_name_is_reported_by_its_id() {
    let ended = child::run(On::OtherThread, 20, || {
        let child = spawn(|| recurse(0));
        println!("id {:?}", child.thread().id());
        child.join().unwrap();
    });
    let (_, id) = ended.stdout.split_once("id ThreadId(").expect("the id was printed");
    let id = id.split(')').next().unwrap();
    assert_reported(&ended, &format!("<unnamed> #{id}"), 256 * 1024);
}

#[test]
fn a_long_name_does_not_hide_the_rest() {
    let ended = child::run(On::OtherThread, 20, || {
        named(&"long".repeat(1000)).spawn(|| recurse(0)).unwrap().join().unwrap();
    });
    ended.died_of(libc::SIGABRT);
    let line = ended.stderr.lines().find(|line| line.contains("greenling")).unwrap();
    assert!(line.contains("longlonglong") && line.contains("262144 bytes"), "{line}");
    assert!(line.contains("Config::stack_size"), "{line}");
}

#[test]
fn the_report_is_about_the_one_that_has_overflowed() {
    // Many stacks, in several regions and of several sizes; the stack has been used by others before.
    let ended = child::run(On::OtherThread, 20, || {
        for n in 0..100 {
            let builder = Builder::new().name(format!("bystander {n}"));
            builder.stack_size(16 << (10 + n % 4)).spawn(thread::park).unwrap();
        }
        yield_now();
        for n in 0..10 {
            Builder::new().name(format!("earlier {n}")).spawn(|| ()).unwrap().join().unwrap();
        }
        let culprit = named("culprit").spawn(|| {
            yield_now();
            recurse(0)
        });
        (0..3).for_each(|n| drop(Builder::new().name(format!("later {n}")).spawn(yield_now)));
        culprit.unwrap().join().unwrap();
    });
    assert_reported(&ended, "'culprit'", 256 * 1024);
}

#[test]
fn a_frame_larger_than_the_guard_is_caught_too() {
    #[inline(never)]
    fn large_frame() -> u8 {
        let mut frame = MaybeUninit::<[u8; 1 << 20]>::uninit();
        black_box(&mut frame);
        // SAFETY: writes into the frame, at its low end.
        unsafe {
            frame.as_mut_ptr().cast::<u8>().write_volatile(1);
            frame.as_ptr().cast::<u8>().read()
        }
    }
    let ended = child::run(On::OtherThread, 20, || {
        // A neighbour that must not be written to.
        spawn(thread::park);
        named("large frame").spawn(large_frame).unwrap().join().unwrap();
    });
    assert_reported(&ended, "'large frame'", 256 * 1024);
}

#[test]
fn an_overflow_with_c_on_the_stack_is_reported() {
    extern "C" fn compare(_: *const c_void, _: *const c_void) -> c_int {
        sort();
        0
    }
    fn sort() {
        let mut items = [2, 1];
        // SAFETY: two items of the given size; the function does not look at them.
        unsafe { libc::qsort(items.as_mut_ptr().cast(), 2, size_of::<i32>(), Some(compare)) };
        black_box(&items);
    }
    let ended = child::run(On::OtherThread, 20, || {
        named("sorts").spawn(sort).unwrap().join().unwrap();
    });
    assert_reported(&ended, "'sorts'", 256 * 1024);
}

struct Deep;

impl Drop for Deep {
    fn drop(&mut self) {
        recurse(0);
    }
}

#[test]
fn an_overflow_in_a_destructor_is_reported() {
    let ended = child::run(On::OtherThread, 20, || {
        let child = named("unwinds").spawn(|| {
            let _deep = Deep;
            thread::park();
        });
        yield_now();
        child.as_ref().unwrap().kill();
        let _ = child.unwrap().join();
    });
    assert_reported(&ended, "'unwinds'", 256 * 1024);
}

/// When std has already taken down the thread's own signal stack.
#[test]
fn an_overflow_at_the_end_of_a_thread_is_reported() {
    let ended = child::run(On::OtherThread, 20, || {
        let thread = std::thread::spawn(|| {
            let child = named("at exit").spawn(|| {
                let _deep = Deep;
                thread::park();
            });
            yield_now();
            drop(child);
        });
        thread.join().unwrap();
    });
    assert_reported(&ended, "'at exit'", 256 * 1024);
}

/// Runs `body` on a thread that libc has made, without any alternate signal stack.
fn on_bare_thread(body: extern "C" fn(*mut c_void) -> *mut c_void) {
    let mut thread = 0;
    // SAFETY: the function fits, and the thread is joined.
    unsafe {
        assert_eq!(libc::pthread_create(&mut thread, ptr::null(), body, ptr::null_mut()), 0);
        assert_eq!(libc::pthread_join(thread, ptr::null_mut()), 0);
    }
}

#[test]
fn a_thread_without_a_signal_stack_gets_one() {
    extern "C" fn overflows(_: *mut c_void) -> *mut c_void {
        // SAFETY: only asks.
        unsafe {
            let mut stack = zeroed::<libc::stack_t>();
            libc::sigaltstack(ptr::null(), &mut stack);
            assert_ne!(stack.ss_flags & libc::SS_DISABLE, 0, "there is one already");
        }
        named("on a bare thread").spawn(|| recurse(0)).unwrap().join().unwrap();
        ptr::null_mut()
    }
    let ended = child::run(On::MainThread, 20, || on_bare_thread(overflows));
    assert_reported(&ended, "'on a bare thread'", 256 * 1024);
}

#[test]
fn a_signal_stack_that_a_thread_has_is_left_alone() {
    extern "C" fn uses_its_own(_: *mut c_void) -> *mut c_void {
        let mut memory = vec![0_u8; 64 * 1024];
        let own =
            libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.len() };
        // SAFETY: the memory outlives its use: it is disabled below.
        unsafe {
            assert_eq!(libc::sigaltstack(&own, ptr::null_mut()), 0);
            spawn(|| ()).join().unwrap();
            let mut now = zeroed::<libc::stack_t>();
            libc::sigaltstack(ptr::null(), &mut now);
            assert_eq!(now.ss_sp, own.ss_sp);
            let disable = libc::stack_t { ss_flags: libc::SS_DISABLE, ..own };
            libc::sigaltstack(&disable, ptr::null_mut());
        }
        ptr::null_mut()
    }
    let ended = child::run(On::MainThread, 20, || on_bare_thread(uses_its_own));
    ended.succeeded();
}

// ---- what is not ours -----------------------------------------------------------------------------

/// Writes to an address that nobody may write to.
fn fault_at(address: usize) {
    let nowhere: *mut u8 = ptr::without_provenance_mut(black_box(address));
    // SAFETY: it is not; that is the point.
    unsafe { nowhere.write_volatile(1) };
}

#[test]
fn a_wild_pointer_is_no_overflow() {
    let faults: [fn(); 3] = [
        || fault_at(8),
        || spawn(|| fault_at(8)).join().unwrap(),
        || std::thread::spawn(|| fault_at(8)).join().unwrap(), // without a hub
    ];
    let ended = child::run_each(On::OtherThread, 20, &faults, |fault| {
        spawn(|| ()).join().unwrap();
        fault();
    });
    for ended in ended {
        ended.died_of(libc::SIGSEGV);
        assert_not_claimed(&ended);
    }
}

/// An address in the guard of a coroutine that is parked.
fn somebodys_guard() -> usize {
    thread_local!(static TOP: Cell<usize> = const { Cell::new(0) });
    let child = spawn(|| {
        let local = 0_u8;
        TOP.set(&raw const local as usize);
        thread::park();
    });
    yield_now();
    drop(child);
    TOP.get() - 256 * 1024 - 8 * 1024
}

#[test]
fn a_fault_in_the_guard_of_somebody_else_is_not_claimed() {
    let faults: [fn(); 2] = [
        || fault_at(somebodys_guard()),
        || {
            let guard = somebodys_guard();
            // Neither by a neighbour nor by one far away.
            let others: Vec<_> = (0..100).map(|_| spawn(thread::park)).collect();
            yield_now();
            spawn(move || fault_at(guard)).join().unwrap();
            drop(others);
        },
    ];
    let ended = child::run_each(On::MainThread, 20, &faults, |fault| fault());
    for ended in ended {
        ended.died_of(libc::SIGSEGV);
        assert_not_claimed(&ended);
    }
}

#[test]
fn std_still_reports_the_overflow_of_a_thread() {
    let ended = child::run(On::OtherThread, 20, || {
        let deep = std::thread::Builder::new().name("of std".into()).stack_size(128 * 1024);
        let thread = deep.spawn(|| {
            spawn(|| ()).join().unwrap();
            recurse(0)
        });
        thread.unwrap().join().unwrap();
    });
    ended.died_of(libc::SIGABRT);
    assert!(ended.stderr.contains("thread 'of std'"), "{ended:#?}");
    assert!(ended.stderr.contains("has overflowed its stack"), "{ended:#?}");
    assert_not_claimed(&ended);
}

/// Reads a mapping behind the end of its file.
fn bus_error() {
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let len = file.metadata().unwrap().len() as usize;
    let far = len.next_multiple_of(4096) + 4096;
    let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
    // SAFETY: a new mapping, which is read where there is nothing.
    unsafe {
        let map = libc::mmap(ptr::null_mut(), far + 4096, read, private, file.as_raw_fd(), 0);
        black_box(map.cast::<u8>().add(far).read_volatile());
    }
}

fn send(signal: c_int) {
    // SAFETY: passes no pointers.
    unsafe { libc::kill(libc::getpid(), signal) };
    std::thread::sleep(std::time::Duration::from_secs(5));
}

#[test]
fn other_faults_kill_as_ever() {
    let faults: [(fn(), c_int); 3] = [
        (bus_error, libc::SIGBUS),
        (|| send(libc::SIGSEGV), libc::SIGSEGV),
        (|| send(libc::SIGBUS), libc::SIGBUS),
    ];
    let ended = child::run_each(On::MainThread, 20, &faults, |(fault, signal)| {
        // Away with std's handler, which lets the first signal pass that was sent and is no fault.
        // SAFETY: passes no pointers.
        unsafe { libc::signal(*signal, libc::SIG_DFL) };
        spawn(|| ()).join().unwrap();
        spawn(*fault).join().unwrap();
    });
    for (ended, (_, signal)) in ended.iter().zip(faults) {
        ended.died_of(signal);
        assert_not_claimed(ended);
    }
}

// ---- handlers of the program's own ---------------------------------------------------------------

fn handle(signal: c_int, flags: c_int, handler: usize) {
    // SAFETY: the handlers below fit the flags and are async-signal-safe.
    unsafe {
        let mut action = zeroed::<libc::sigaction>();
        action.sa_flags = flags;
        action.sa_sigaction = handler;
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

extern "C" fn plain(_: c_int) {
    // SAFETY: async-signal-safe.
    unsafe { libc::_exit(41) };
}

extern "C" fn with_info(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's, handed through.
    let address = unsafe { (*info).si_addr() } as usize;
    let code = if address == 8 && !context.is_null() { 42 } else { 43 };
    // SAFETY: async-signal-safe.
    unsafe { libc::_exit(code) };
}

/// The handler, its flags, and with which status it ends the process.
const HANDLERS: [(Handler, c_int, i32); 4] = [
    (Handler::Plain, libc::SA_ONSTACK, 41),
    (Handler::Plain, 0, 41),
    (Handler::WithInfo, libc::SA_SIGINFO | libc::SA_ONSTACK, 42),
    (Handler::WithInfo, libc::SA_SIGINFO, 42),
];

#[derive(Clone, Copy)]
enum Handler {
    Plain,
    WithInfo,
}

fn install(&(handler, flags, _): &(Handler, c_int, i32)) {
    let handler = match handler {
        Handler::Plain => plain as *const () as usize,
        Handler::WithInfo => with_info as *const () as usize,
    };
    handle(libc::SIGSEGV, flags, handler);
}

#[test]
fn a_handler_that_was_there_before_gets_what_is_not_ours() {
    let ended = child::run_each(On::MainThread, 20, &HANDLERS, |handler| {
        install(handler);
        spawn(|| ()).join().unwrap();
        fault_at(8);
    });
    for (ended, (_, _, code)) in ended.iter().zip(HANDLERS) {
        assert_eq!(ended.status.code(), Some(code), "{ended:#?}");
    }
}

#[test]
fn a_handler_that_was_there_before_gets_what_a_coroutine_does() {
    let ended = child::run_each(On::OtherThread, 20, &HANDLERS, |handler| {
        install(handler);
        spawn(|| fault_at(8)).join().unwrap();
    });
    for (ended, (_, _, code)) in ended.iter().zip(HANDLERS) {
        assert_eq!(ended.status.code(), Some(code), "{ended:#?}");
    }
}

#[test]
fn a_handler_that_was_there_before_does_not_get_what_is_ours() {
    let ended = child::run_each(On::OtherThread, 20, &HANDLERS, |handler| {
        install(handler);
        named("handled").spawn(|| recurse(0)).unwrap().join().unwrap();
    });
    ended.iter().for_each(|ended| assert_reported(ended, "'handled'", 256 * 1024));
}

/// A handler may repair the fault and return, as garbage collectors and emulators do, any number of times.
#[test]
fn a_handler_that_repairs_faults_goes_on_working() {
    extern "C" fn repair(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
        // SAFETY: the kernel's, handed through; the page is the test's.
        unsafe {
            let page = ((*info).si_addr() as usize & !4095) as *mut c_void;
            libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_WRITE);
        }
    }
    let ended = child::run(On::OtherThread, 20, || {
        handle(libc::SIGSEGV, libc::SA_SIGINFO | libc::SA_ONSTACK, repair as *const () as usize);
        let work = || {
            // SAFETY: a new mapping, which the handler makes accessible.
            unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let map = libc::mmap(ptr::null_mut(), 40 * 4096, libc::PROT_NONE, flags, -1, 0);
                for page in 0..40 {
                    let byte = map.cast::<u8>().add(page * 4096 + 17);
                    byte.write_volatile(page as u8);
                    assert_eq!(byte.read_volatile(), page as u8);
                    if page % 10 == 0 {
                        yield_now();
                    }
                }
            }
        };
        let children = [0, 1, 2].map(|_| spawn(work));
        work();
        children.into_iter().for_each(|child| child.join().unwrap());
    });
    ended.succeeded();
}

#[test]
fn an_ignored_signal_that_is_sent_stays_ignored() {
    let signals = [libc::SIGSEGV, libc::SIGBUS];
    let ended = child::run_each(On::MainThread, 20, &signals, |&signal| {
        // SAFETY: ignores the signal, and sends it to this process.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
            spawn(|| ()).join().unwrap();
            libc::kill(libc::getpid(), signal);
            libc::raise(signal);
        }
        spawn(|| ()).join().unwrap();
    });
    ended.iter().for_each(Ended::succeeded);
}

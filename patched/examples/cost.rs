//! What a redefined function costs a caller that nothing is to change for, and what a wait costs.
//!
//! Run with: cargo run --release -p greenling-patched --example cost, or with `-- echo` for the last part only

use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::io::{Read, Write};
use std::mem::transmute;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use greenling::{patch, spawn};

const CALLS: u32 = 2_000_000;

/// Nanoseconds a call.
fn measure(mut call: impl FnMut()) -> f64 {
    let best = (0..5).map(|_| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    });
    best.fold(f64::INFINITY, f64::min)
}

type Recv = unsafe extern "C" fn(c_int, *mut c_void, usize, c_int) -> isize;

type Plain = unsafe extern "C" fn(c_int, c_int, usize) -> c_int;
type Option4 = unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, u32) -> c_int;

/// What acts for every caller, and not only for those who wait.
fn others() {
    let null = std::ptr::null();
    let name = |name: &std::ffi::CStr| {
        // SAFETY: a C string.
        unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
    };
    // SAFETY: the C library's own functions, with their signatures.
    let (close, fcntl, setsockopt) = unsafe {
        (
            transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> c_int>(name(c"close")),
            transmute::<*mut c_void, Plain>(name(c"fcntl")),
            transmute::<*mut c_void, Option4>(name(c"setsockopt")),
        )
    };
    let line = |name: &str, own: f64, ours: f64| println!("  {name:34} {own:6.1} {ours:6.1}");
    println!("the C library's own and ours, for every caller, nanoseconds a call:");
    // SAFETY: a descriptor that is none, in all of them.
    unsafe {
        line(
            "close(-1)",
            measure(|| _ = black_box(close(-1))),
            measure(|| _ = black_box(libc::close(-1))),
        );
        line(
            "fcntl(-1, F_SETFL)",
            measure(|| _ = black_box(fcntl(-1, libc::F_SETFL, 0))),
            measure(|| _ = black_box(libc::fcntl(-1, libc::F_SETFL, 0))),
        );
        line(
            "setsockopt(-1)",
            measure(|| _ = black_box(setsockopt(-1, libc::SOL_SOCKET, libc::SO_RCVTIMEO, null, 0))),
            measure(|| {
                _ = black_box(libc::setsockopt(-1, libc::SOL_SOCKET, libc::SO_RCVTIMEO, null, 0));
            }),
        );
    }
}

fn main() {
    // For strace -c, and the like.
    if std::env::args().nth(1).as_deref() == Some("echo") {
        patch::all();
        return echo();
    }
    calls();
}

fn calls() {
    // SAFETY: the C library's own function, with its signature.
    let own: Recv = unsafe { transmute(libc::dlsym(libc::RTLD_NEXT, c"recv".as_ptr())) };
    // SAFETY: a descriptor that is none: the shortest call there is.
    let own = || unsafe {
        black_box(own(-1, std::ptr::null_mut(), 0, 0));
    };
    // SAFETY: as above.
    let ours = || unsafe {
        black_box(libc::recv(-1, std::ptr::null_mut(), 0, 0));
    };
    measure(own); // the processor wakes up
    println!("recv(-1), nanoseconds a call:");
    println!("  the C library's own                {:6.1}", measure(own));
    println!("  ours, before all()                 {:6.1}", measure(ours));
    patch::all();
    println!("  ours, on a thread without a hub    {:6.1}", measure(ours));
    greenling::yield_now();
    println!("  ours, on a hub with only main      {:6.1}", measure(ours));
    others();

    echo();
}

fn echo() {
    let (mut a, mut b) = UnixStream::pair().unwrap();
    let echo = spawn(move || {
        let mut byte = [0];
        while b.read(&mut byte).unwrap() == 1 {
            b.write_all(&byte).unwrap();
        }
    });
    let rounds = 200_000;
    let start = Instant::now();
    for _ in 0..rounds {
        a.write_all(&[7]).unwrap();
        a.read_exact(&mut [0]).unwrap();
    }
    let patched = start.elapsed().as_nanos() as f64 / f64::from(rounds);
    drop(a);
    echo.join().unwrap();

    let (mut a, mut b) = UnixStream::pair().unwrap();
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while b.read(&mut byte).unwrap() == 1 {
            b.write_all(&byte).unwrap();
        }
    });
    let start = Instant::now();
    for _ in 0..rounds / 4 {
        a.write_all(&[7]).unwrap();
        a.read_exact(&mut [0]).unwrap();
    }
    let threads = start.elapsed().as_nanos() as f64 / f64::from(rounds / 4);
    drop(a);
    echo.join().unwrap();
    println!("a byte there and back over std's UnixStream, nanoseconds:");
    println!("  two coroutines                     {patched:6.0}");
    println!("  two threads                        {threads:6.0}");
}

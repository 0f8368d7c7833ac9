//! Is this program patched? Plain std in coroutines of one thread: sleeps, sockets and a lock held across a wait.
//! It ends with status 1 if anything has blocked the thread, so that a build with other settings (link-time
//! optimization, another linker, another target) can be tried with it.
//!
//! Run with: cargo run --features patch --example patched_std

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use greenling::{join_all, patch, spawn};

const WAIT: Duration = Duration::from_millis(100);
const COUNT: u32 = 20;

/// Runs `work` in many coroutines at once; whether their waits have overlapped.
fn overlap(name: &str, work: impl Fn() + Clone + 'static) -> bool {
    let start = Instant::now();
    let all = join_all((0..COUNT).map(|_| spawn(work.clone())));
    let took = start.elapsed();
    // One after the other they would take all of it.
    let fine = all.into_iter().all(|one| one.is_ok()) && took >= WAIT && took < WAIT * COUNT / 2;
    println!("{name:<10} {COUNT} waits of {WAIT:?} took {took:.2?}: {}", verdict(fine));
    fine
}

fn verdict(fine: bool) -> &'static str {
    if fine { "cooperative" } else { "BLOCKING" }
}

/// A server of std's on the same thread, which answers late.
fn request(listener: &TcpListener) {
    let mut client =
        TcpStream::connect(listener.local_addr().expect("it is bound")).expect("a connection");
    let mut server = listener.accept().expect("the connection").0;
    let answer = spawn(move || {
        let mut byte = [0];
        server.read_exact(&mut byte).expect("a byte");
        thread::sleep(WAIT);
        server.write_all(&byte).expect("a peer that reads");
    });
    client.write_all(&[42]).expect("a peer that reads");
    let mut byte = [0];
    client.read_exact(&mut byte).expect("the answer");
    assert_eq!(byte, [42]);
    answer.join().expect("the server has not failed");
}

/// The lock is held by somebody who waits. Whoever wants it meanwhile must let the holder go on.
fn lock() -> bool {
    let word = Arc::new(Mutex::new(0));
    let holders = (0..5).map(|_| {
        let word = word.clone();
        spawn(move || {
            let mut word = word.lock().expect("nobody has panicked");
            thread::sleep(WAIT / 10);
            *word += 1;
        })
    });
    let fine = join_all(holders).into_iter().all(|one| one.is_ok())
        && *word.lock().expect("as above") == 5;
    println!("{:<10} {}", "locks", verdict(fine));
    fine
}

fn main() -> ExitCode {
    patch::all();
    let report = patch::report();
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").expect("a port"));
    let fine = [
        overlap("sleep", || thread::sleep(WAIT)),
        overlap("TCP", move || request(&listener)),
        lock(),
    ];
    if report.is_complete() {
        println!("report     every function is in force for every loaded object");
    } else {
        print!("{report}");
    }
    if fine.iter().all(|fine| *fine) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

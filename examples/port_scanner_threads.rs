//! Which ports of this machine answer? A pool of threads connects to all of them on loopback.
//!
//! The original, on threads, of what `port_scanner` is on coroutines; see docs/std-surface.md.
//!
//! Run with: cargo run --release --example port_scanner_threads -- 1 65535 100

use std::env;
use std::ops::RangeInclusive;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// On loopback an answer comes at once; a listener with a full backlog gives none.
const PATIENCE: Duration = Duration::from_millis(500);

/// Takes ports from the common list until there is none left, and reports those that answer.
fn work(ports: &Mutex<Receiver<u16>>, open: &Sender<u16>) {
    loop {
        // Unlocked again before the connection: the others go on taking.
        let port = ports.lock().unwrap().recv();
        let Ok(port) = port else { return };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpStream::connect_timeout(&address, PATIENCE).is_ok() {
            open.send(port).expect("somebody collects them");
        }
    }
}

fn scan(range: RangeInclusive<u16>, workers: usize) -> Vec<u16> {
    let (give, ports) = mpsc::channel();
    let (open, found) = mpsc::channel();
    let ports = Arc::new(Mutex::new(ports));
    let pool: Vec<_> = (0..workers)
        .map(|number| {
            let (ports, open) = (ports.clone(), open.clone());
            thread::Builder::new()
                .name(format!("worker {number}"))
                .spawn(move || work(&ports, &open))
                .expect("there is memory for a worker")
        })
        .collect();
    drop(open); // the workers' are the only ones
    for port in range {
        give.send(port).expect("the workers are there");
    }
    drop(give); // no more will come
    let mut found: Vec<u16> = found.iter().collect();
    for worker in pool {
        worker.join().expect("a worker does not panic");
    }
    found.sort_unstable();
    found
}

fn main() {
    let mut numbers = env::args().skip(1).map(|number| number.parse::<u16>());
    let mut next = |default| numbers.next().transpose().map(|number| number.unwrap_or(default));
    let (Ok(first), Ok(last), Ok(workers)) = (next(1), next(u16::MAX), next(100)) else {
        eprintln!("usage: port_scanner [FIRST [LAST [WORKERS]]]");
        std::process::exit(2);
    };
    for port in scan(first..=last, usize::from(workers).max(1)) {
        println!("{port} is open");
    }
}

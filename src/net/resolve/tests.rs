//! Look-ups by functions that count, hang, fail and panic.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::*;
use crate::{spawn, timeout, yield_now};

fn on_a_thread(body: impl FnOnce() + Send + 'static) {
    let (ended, end) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        body();
        ended.send(()).unwrap();
    });
    let in_time = end.recv_timeout(Duration::from_secs(60));
    assert!(!matches!(in_time, Err(std::sync::mpsc::RecvTimeoutError::Timeout)), "it hangs");
    test.join().unwrap();
}

/// Hangs until it is let go.
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    calls: AtomicUsize,
}

impl Gate {
    const fn new() -> Gate {
        Gate { open: Mutex::new(false), changed: Condvar::new(), calls: AtomicUsize::new(0) }
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.changed.wait_while(open, |open| !*open).unwrap());
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn answer() -> io::Result<Vec<SocketAddr>> {
    Ok(vec![SocketAddr::from(([10, 1, 2, 3], 0)), SocketAddr::from(([10, 1, 2, 4], 0))])
}

#[test]
fn a_name_is_looked_up_once_at_a_time() {
    static GATE: Gate = Gate::new();
    on_a_thread(|| {
        let lookups = Lookups::new(
            |_| {
                GATE.pass();
                answer()
            },
            4,
        );
        let ask = |name: &'static str| {
            let lookups = lookups.clone();
            spawn(move || lookups.look_up(name).unwrap())
        };
        let askers: Vec<_> = (0..10).map(|_| ask("one")).chain([ask("two")]).collect();
        while GATE.calls() < 2 {
            yield_now();
        }
        // From another thread, too.
        let outside = std::thread::spawn({
            let lookups = lookups.clone();
            move || lookups.look_up("one").unwrap()
        });
        std::thread::sleep(Duration::from_millis(10));
        assert!(askers.iter().all(|asker| !asker.is_finished()));
        GATE.open();
        for asker in askers {
            assert_eq!(asker.join().unwrap(), answer().unwrap());
        }
        outside.join().unwrap();
        // The one outside may have come late.
        assert!((2..=3).contains(&GATE.calls()));
        let before = GATE.calls();
        lookups.look_up("one").unwrap();
        assert_eq!(GATE.calls(), before + 1, "nothing is remembered");
        assert!(lookups.running().lock().is_empty());
    });
}

#[test]
fn kills_and_limits_leave_a_hanging_look_up() {
    static GATE: Gate = Gate::new();
    on_a_thread(|| {
        let lookups = Lookups::new(
            |_| {
                GATE.pass();
                answer()
            },
            1,
        );
        assert!(timeout(Duration::from_millis(10), || lookups.look_up("slow")).is_err());
        let asker = spawn({
            let lookups = lookups.clone();
            move || lookups.look_up("slow")
        });
        // The pool is full: it waits for a thread.
        let next = spawn({
            let lookups = lookups.clone();
            move || lookups.look_up("next")
        });
        yield_now();
        asker.kill();
        assert!(asker.join().is_err());
        assert!(timeout(Duration::from_millis(10), || lookups.look_up("next")).is_err());
        assert!(!next.is_finished());
        assert_eq!(GATE.calls(), 1);
        GATE.open();
        assert!(next.join().unwrap().is_ok());
        assert!(lookups.look_up("slow").is_ok());
    });
}

#[test]
fn everybody_gets_the_error() {
    static GATE: Gate = Gate::new();
    on_a_thread(|| {
        let lookups = Lookups::new(
            |name| {
                GATE.pass();
                match name {
                    "code" => Err(io::Error::from_raw_os_error(libc::EMFILE)),
                    _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
                }
            },
            4,
        );
        let askers: Vec<_> = ["code", "text"]
            .into_iter()
            .cycle()
            .take(6)
            .map(|name| {
                let lookups = lookups.clone();
                (name, spawn(move || lookups.look_up(name).unwrap_err()))
            })
            .collect();
        yield_now();
        GATE.open();
        for (name, asker) in askers {
            let error = asker.join().unwrap();
            match name {
                "code" => assert_eq!(error.raw_os_error(), Some(libc::EMFILE)),
                _ => assert_eq!(
                    (error.kind(), error.to_string()),
                    (io::ErrorKind::NotFound, "no such name".into())
                ),
            }
        }
    });
}

#[test]
fn a_look_up_that_panics_is_an_error() {
    on_a_thread(|| {
        let lookups = Lookups::new(|_| std::panic::resume_unwind(Box::new("oh")), 4);
        for _ in 0..2 {
            let error = lookups.look_up("name").unwrap_err();
            assert!(error.to_string().starts_with("failed to lookup address information"));
        }
        assert!(lookups.running().lock().is_empty());
    });
}

#[test]
fn literal_addresses_ask_nobody() {
    on_a_thread(|| {
        let lookups = Lookups::new(|_| unreachable!("somebody was asked"), 1);
        for literal in ["127.0.0.1:80", "[::1]:80", "::1:80", "[fe80::1%3]:7"] {
            let ours = lookups.of_text(literal).unwrap();
            let theirs: Vec<_> = net::ToSocketAddrs::to_socket_addrs(literal).unwrap().collect();
            assert_eq!(ours, theirs, "{literal}");
        }
        for wrong in ["127.0.0.1", "", "name", "name:", "name:65536", "name:http", "[::1]"] {
            let theirs = net::ToSocketAddrs::to_socket_addrs(wrong).unwrap_err();
            let ours = lookups.of_text(wrong).unwrap_err();
            assert_eq!(ours.to_string(), theirs.to_string(), "{wrong}");
            assert_eq!(ours.kind(), theirs.kind(), "{wrong}");
        }
        assert_eq!(
            lookups.of_host("::1", 7).unwrap(),
            [SocketAddr::from((Ipv6Addr::LOCALHOST, 7))]
        );
        assert_eq!(lookups.of_host("1.2.3.4", 7).unwrap(), ["1.2.3.4:7".parse().unwrap()]);
        assert_eq!(lookups.pool.threads(), 0);
    });
}

#[test]
fn the_port_is_the_askers() {
    on_a_thread(|| {
        let lookups = Lookups::new(|_| answer(), 1);
        let addrs = lookups.of_text("name:99").unwrap();
        assert_eq!(addrs, ["10.1.2.3:99".parse().unwrap(), "10.1.2.4:99".parse().unwrap()]);
        assert_eq!(lookups.of_host("name", 1).unwrap()[1].port(), 1);
    });
}

#[test]
fn localhost_is_found_as_by_std() {
    on_a_thread(|| {
        let ours: Vec<_> = "localhost:80".to_socket_addrs().unwrap().collect();
        let theirs: Vec<_> = net::ToSocketAddrs::to_socket_addrs("localhost:80").unwrap().collect();
        assert_eq!(ours, theirs);
    });
}

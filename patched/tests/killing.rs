//! Kills and time limits in the middle of other people's code: nothing aborts, hangs or leaks.
//!
//! One test at a time, since each counts the descriptors of the process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use greenling::{patch, spawn};
use greenling_patched::{RedisServer, assert_descriptors, deadline, descriptors, silent_server};

const LONG: Duration = Duration::from_secs(60);

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Opens what is opened once: a hub's own descriptors are kept for the next hub.
fn warm_up() {
    let (mut a, mut b) = UnixStream::pair().unwrap();
    let other = spawn(move || b.write_all(b"x").unwrap());
    a.read_exact(&mut [0]).unwrap();
    other.join().unwrap();
}

/// Kills fifty coroutines that wait in `work`, lets a time limit end another fifty, at moments of all kinds, and
/// sees that all end soon, that what they own is dropped, and that their descriptors are closed.
#[track_caller]
fn ended_in_the_middle(name: &'static str, work: impl Fn() + Clone + Send + 'static) {
    patch::all();
    deadline(60, warm_up);
    let before = descriptors();
    deadline(100, move || {
        let start = Instant::now();
        let owned = Rc::new(());
        let mut random = fastrand::Rng::new();
        println!("{name}: seed {}", random.get_seed());
        let coroutines: Vec<_> = (0..100)
            .map(|n| {
                let (work, owned) = (work.clone(), owned.clone());
                let limit =
                    if n % 2 == 0 { LONG } else { Duration::from_micros(random.u64(0..200_000)) };
                greenling::spawn(move || {
                    let _owned = owned;
                    let _ = greenling::timeout(limit, || {
                        work();
                        // A kill or time limit that was an error in there takes effect here.
                        greenling::sleep(LONG);
                    });
                })
            })
            .collect();
        for one in coroutines.iter().step_by(2) {
            greenling::sleep(Duration::from_micros(random.u64(0..4000)));
            one.kill();
        }
        for one in coroutines {
            let _ = one.join();
        }
        assert_eq!(Rc::strong_count(&owned), 1, "{name}: not all was dropped");
        assert!(start.elapsed() < LONG / 2, "{name}: {:?}", start.elapsed());
    });
    assert_descriptors(&before);
}

#[test]
fn ureq_ends() {
    let _alone = alone();
    let addr = silent_server();
    ended_in_the_middle("ureq", move || {
        let _ = ureq::get(format!("http://{addr}/")).call();
    });
}

#[test]
fn ureq_to_a_name_ends() {
    let _alone = alone();
    let port = silent_server().port();
    ended_in_the_middle("ureq, name", move || {
        let _ = ureq::get(format!("http://localhost:{port}/")).call();
    });
}

#[test]
fn minreq_ends() {
    let _alone = alone();
    let addr = silent_server();
    ended_in_the_middle("minreq", move || {
        let _ = minreq::get(format!("http://{addr}/")).send();
    });
}

#[test]
fn redis_ends() {
    let _alone = alone();
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    ended_in_the_middle("redis", move || {
        let client = redis::Client::open(&*url).unwrap();
        let Ok(mut connection) = client.get_connection() else { return };
        let _: redis::RedisResult<()> =
            redis::cmd("BLPOP").arg("never").arg(0).query(&mut connection);
    });
}

/// A kill that comes while a reply is on its way: the connection goes with its coroutine, and the others' go on.
#[test]
fn other_connections_go_on() {
    let _alone = alone();
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    deadline(60, move || {
        patch::all();
        let connect = move || redis::Client::open(&*url).unwrap().get_connection();
        let other = connect.clone();
        let steady = spawn(move || {
            let mut connection = other().unwrap();
            for n in 0..500_u32 {
                let echoed: u32 = redis::cmd("ECHO").arg(n).query(&mut connection).unwrap();
                assert_eq!(echoed, n);
            }
        });
        for n in 0..100 {
            let connect = connect.clone();
            let busy = spawn(move || {
                let Ok(mut connection) = connect() else { return };
                loop {
                    let echoed: redis::RedisResult<String> =
                        redis::cmd("ECHO").arg("x".repeat(100_000)).query(&mut connection);
                    if echoed.is_err() {
                        greenling::sleep(LONG);
                    }
                }
            });
            greenling::sleep(Duration::from_micros(n * 37));
            busy.kill();
            let _ = busy.join();
        }
        steady.join().unwrap();
    });
}

#[test]
fn a_websocket_ends() {
    let _alone = alone();
    let addr = silent_server();
    ended_in_the_middle("tungstenite", move || {
        if let Ok(stream) = TcpStream::connect(addr) {
            let _ = tungstenite::client(format!("ws://{addr}/"), stream);
        }
    });
}

#[test]
fn mail_ends() {
    let _alone = alone();
    use lettre::{SmtpTransport, Transport};
    let addr = silent_server();
    ended_in_the_middle("lettre", move || {
        let to = || "someone@example.org".parse().unwrap();
        let letter = lettre::Message::builder().from(to()).to(to()).body(String::new()).unwrap();
        let transport = SmtpTransport::builder_dangerous("127.0.0.1").port(addr.port());
        let _ = transport.timeout(Some(LONG)).build().send(&letter);
    });
}

/// A read and a write at once, neither of which ever comes to an end.
#[test]
fn std_ends() {
    let _alone = alone();
    // Nobody accepts, so nobody reads.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    ended_in_the_middle("std::net", move || {
        let Ok(stream) = TcpStream::connect(addr) else { return };
        let _ = greenling::scope(|scope| {
            scope.spawn(|| while (&stream).write_all(&[7; 100_000]).is_ok() {});
            (&stream).read(&mut [0])
        });
    });
    drop(listener);
}

#[test]
fn locks_of_std_are_left_whole() {
    let _alone = alone();
    let shared = std::sync::Arc::new(Mutex::new(0_u32));
    let counted = shared.clone();
    ended_in_the_middle("std::sync::Mutex", move || {
        for _ in 0..3 {
            let mut guard = counted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            std::thread::sleep(Duration::from_millis(1));
            *guard += 1;
        }
    });
    let _free = shared.try_lock().unwrap_or_else(|error| match error {
        std::sync::TryLockError::Poisoned(poisoned) => poisoned.into_inner(),
        std::sync::TryLockError::WouldBlock => panic!("it is still locked"),
    });
}

#[test]
fn children_are_not_lost() {
    let _alone = alone();
    ended_in_the_middle("std::process", || {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let _ = child.wait();
        child.kill().unwrap();
        greenling::patch::unpatched(|| child.wait()).unwrap();
    });
}

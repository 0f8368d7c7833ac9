//! Kills and time limits while libcurl has the processor: it gets an error and frees what it has.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use curl::easy::Easy;
use greenling::{patch, spawn};
use greenling_patched::{assert_descriptors, deadline, descriptors, silent_server};

const LONG: Duration = Duration::from_secs(60);

/// Opens what is opened once: a hub's own descriptors are kept for the next hub.
fn warm_up() {
    let (mut a, mut b) = UnixStream::pair().unwrap();
    let other = spawn(move || b.write_all(b"x").unwrap());
    a.read_exact(&mut [0]).unwrap();
    other.join().unwrap();
}

fn ended_in_the_middle(url: String) {
    patch::all();
    curl::init();
    deadline(60, warm_up);
    let before = descriptors();
    deadline(100, move || {
        let start = Instant::now();
        let owned = Rc::new(());
        let mut random = fastrand::Rng::new();
        println!("seed {}", random.get_seed());
        let coroutines: Vec<_> = (0..100)
            .map(|n| {
                let (url, owned) = (url.clone(), owned.clone());
                let limit =
                    if n % 2 == 0 { LONG } else { Duration::from_micros(random.u64(0..200_000)) };
                spawn(move || {
                    let _owned = owned;
                    let _ = greenling::timeout(limit, || {
                        let mut easy = Easy::new();
                        easy.url(&url).unwrap();
                        assert!(easy.perform().is_err());
                        // The kill or time limit takes effect here.
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
        assert_eq!(Rc::strong_count(&owned), 1, "not all was dropped");
        assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    });
    assert_descriptors(&before);
}

/// One test, since it counts the descriptors of the process.
#[test]
fn libcurl_ends() {
    let addr = silent_server();
    ended_in_the_middle(format!("http://{addr}/"));
    ended_in_the_middle(format!("http://localhost:{}/", addr.port()));
}

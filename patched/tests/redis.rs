//! The redis crate against a real server.

use std::time::{Duration, Instant};

use greenling::{patch, spawn};
use greenling_patched::{RedisServer, deadline, overlapping};
use redis::{Client, Commands, Connection};

fn connect(url: &str) -> Connection {
    Client::open(url).unwrap().get_connection().unwrap()
}

#[test]
fn a_hundred_blocking_pops_overlap() {
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    overlapping("redis: BLPOP of 1 s", 100, Duration::from_secs(100), move |n| {
        let start = Instant::now();
        let popped: Option<(String, String)> =
            connect(&url).blpop(format!("nothing-{n}"), 1.0).unwrap();
        (popped, start.elapsed() >= Duration::from_millis(900))
    });
}

#[test]
fn pipelines_keep_their_order() {
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    let sums = overlapping("redis: 20 pipelines of 100", 50, Duration::MAX, move |n| {
        let mut connection = connect(&url);
        let key = format!("counter-{n}");
        let () = connection.del(&key).unwrap();
        let mut seen = Vec::new();
        for _ in 0..20 {
            let mut pipe = redis::pipe();
            for _ in 0..100 {
                pipe.incr(&key, 1);
            }
            let part: Vec<u64> = pipe.query(&mut connection).unwrap();
            seen.extend(part);
        }
        assert!(seen.iter().copied().eq(1..=2000));
        seen.len()
    });
    assert_eq!(sums.0, [2000; 50]);
}

/// Fifty subscribers and their publisher, all on one thread.
#[test]
fn subscribers_and_publisher_share_a_thread() {
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    deadline(60, move || {
        patch::all();
        let subscribers: Vec<_> = (0..50)
            .map(|_| {
                let url = url.clone();
                spawn(move || {
                    let mut connection = connect(&url);
                    let mut subscription = connection.as_pubsub();
                    subscription.subscribe("news").unwrap();
                    let texts = (0..10).map(|_| subscription.get_message().unwrap());
                    texts.map(|text| text.get_payload::<u32>().unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut publisher = connect(&url);
        let listeners = |publisher: &mut Connection| -> u32 {
            let (_, count): (String, u32) =
                redis::cmd("PUBSUB").arg("NUMSUB").arg("news").query(publisher).unwrap();
            count
        };
        while listeners(&mut publisher) < 50 {
            std::thread::sleep(Duration::from_millis(5));
        }
        for n in 0..10 {
            let reached: u32 = publisher.publish("news", n).unwrap();
            assert_eq!(reached, 50);
        }
        for subscriber in subscribers {
            assert!(subscriber.join().unwrap().into_iter().eq(0..10));
        }
    });
}

/// One pops what another pushes: both wait on the same thread.
#[test]
fn who_pops_waits_for_who_pushes() {
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    deadline(60, move || {
        patch::all();
        let popping = url.clone();
        let popper = spawn(move || {
            let mut connection = connect(&popping);
            let items = (0..100).map(|_| connection.blpop("queue", 0.0).unwrap());
            items.map(|(_, n): (String, u32)| n).collect::<Vec<_>>()
        });
        let mut connection = connect(&url);
        for n in 0..100_u32 {
            let () = connection.rpush("queue", n).unwrap();
        }
        assert!(popper.join().unwrap().into_iter().eq(0..100));
    });
}

/// The crate's own time limit, which is a socket's, ends the wait at its time.
#[test]
fn the_time_limit_of_a_connection_is_kept() {
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    overlapping("redis: read limit of 200 ms", 20, Duration::from_secs(4), move |_| {
        let mut connection = connect(&url);
        connection.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let start = Instant::now();
        let failed = connection.blpop::<_, Option<(String, String)>>("never", 30.0).unwrap_err();
        (failed.is_timeout(), start.elapsed() >= Duration::from_millis(190))
    });
}

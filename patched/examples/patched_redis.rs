//! A thousand clients that block in a real Redis server, by the plain redis crate, on one thread.
//!
//! Run with: cargo run --release -p greenling-patched --example patched_redis [CLIENTS]
//!
//! Needs `redis-server`; it is started on a port of its own, with nothing on the disk. Each client waits by
//! BLPOP for a letter of its own; one more coroutine sends them all.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use greenling::{patch, spawn};
use greenling_patched::RedisServer;
use redis::{Client, Commands, Connection};

#[path = "../../examples/support/limits.rs"]
mod limits;

/// How long the clients have to wait for their letters.
const WAIT: Duration = Duration::from_secs(1);

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let clients: usize = std::env::args().nth(1).map_or(Ok(1000), |arg| arg.parse())?;
    let needed = clients as u64 + 64;
    // The server inherits the limit.
    if limits::raise_open_files(needed)? < needed {
        return Err(format!("{clients} clients need a limit of {needed} open files").into());
    }
    patch::all();
    let Some(server) = RedisServer::start() else { return Ok(()) };
    let url = server.url();

    println!("{clients} clients, each of which waits {WAIT:?} in BLPOP:");
    println!("                     time");
    let report = |name: &str, start: Instant| {
        println!("{name:14} {:8.2} s", start.elapsed().as_secs_f64());
    };

    let started = Instant::now();
    let waiting: Vec<_> = (0..clients)
        .map(|n| {
            let url = url.clone();
            spawn(move || wait_for_letter(&url, n))
        })
        .collect();
    send_letters(&url, clients)?;
    for one in waiting {
        one.join().map_err(|_| "a client panicked")??;
    }
    report("one thread", started);

    let started = Instant::now();
    let waiting: Vec<_> = (0..clients)
        .map(|n| {
            let url = url.clone();
            thread::spawn(move || wait_for_letter(&url, n))
        })
        .collect();
    send_letters(&url, clients)?;
    for one in waiting {
        one.join().map_err(|_| "a client panicked")??;
    }
    report("a thread each", started);
    Ok(())
}

fn connect(url: &str) -> redis::RedisResult<Connection> {
    Client::open(url)?.get_connection()
}

fn wait_for_letter(url: &str, n: usize) -> Outcome {
    let key = format!("client-{n}");
    let (from, letter): (String, usize) = connect(url)?.blpop(&key, 0.0)?;
    if (from, letter) == (key, n) { Ok(()) } else { Err("another one's letter".into()) }
}

fn send_letters(url: &str, clients: usize) -> redis::RedisResult<()> {
    let mut connection = connect(url)?;
    thread::sleep(WAIT);
    let mut letters = redis::pipe();
    for n in 0..clients {
        letters.rpush(format!("client-{n}"), n).ignore();
    }
    letters.query(&mut connection)
}

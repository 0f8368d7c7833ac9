//! What gevent's users rely on, by gevent's documentation, in our own words and for our own API. Where the
//! two differ on purpose, the test says so; `docs/from-gevent.md` has the table.

mod common;

#[path = "gevent_semantics/events.rs"]
mod events;
#[path = "gevent_semantics/joining.rs"]
mod joining;
#[path = "gevent_semantics/killing.rs"]
mod killing;
#[path = "gevent_semantics/links.rs"]
mod links;
#[path = "gevent_semantics/map.rs"]
mod map;
#[path = "gevent_semantics/pools.rs"]
mod pools;
#[path = "gevent_semantics/queues.rs"]
mod queues;
#[path = "gevent_semantics/semaphores.rs"]
mod semaphores;
#[path = "gevent_semantics/timeouts.rs"]
mod timeouts;
#[path = "gevent_semantics/traits.rs"]
mod traits;
#[path = "gevent_semantics/traps.rs"]
mod traps;

use std::time::Duration;

const SHORT: Duration = Duration::from_millis(10);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// What a coroutine that was joined has come to.
#[derive(Debug, PartialEq)]
enum Ended<T> {
    Returned(T),
    Killed,
    Panicked(&'static str),
}

fn outcome<T>(result: std::thread::Result<T>) -> Ended<T> {
    match result {
        Ok(value) => Ended::Returned(value),
        Err(payload) if payload.is::<greenling::Killed>() => Ended::Killed,
        Err(payload) => Ended::Panicked(payload.downcast_ref::<&str>().expect("a text")),
    }
}

/// A panic without a message on standard error.
fn fail(text: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(text))
}

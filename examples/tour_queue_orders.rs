//! The three orders of queues, and the three ways to deal with one that is full or empty: wait, wait for a
//! while, do not wait.
//!
//! Run with: cargo run --release --example tour_queue_orders

use std::cmp::Reverse;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::queue::{
    GetTimeoutError, LifoQueue, PriorityQueue, PutTimeoutError, Queue, TryGetError, TryPutError,
};
use greenling::spawn_later;

const WHILE: Duration = Duration::from_millis(20);

fn main() {
    orders();
    blocking();
}

fn orders() {
    let fifo: Queue<_> = ["a", "b", "c"].into_iter().collect();
    let lifo: LifoQueue<_> = ["a", "b", "c"].into_iter().collect();
    let priority = PriorityQueue::new();
    for job in [(2, "tidy up"), (1, "put out the fire"), (3, "rest"), (2, "write the report")] {
        priority.put(job).unwrap();
    }
    let greatest: PriorityQueue<_> = [5, 9, 7].into_iter().map(Reverse).collect();

    let in_order = fifo.drain();
    let reversed = lifo.drain();
    let by_urgency: Vec<&str> = priority.drain().into_iter().map(|(_, job)| job).collect();
    println!("{in_order:?} {reversed:?} {by_urgency:?}");
    assert_eq!(in_order, ["a", "b", "c"]);
    assert_eq!(reversed, ["c", "b", "a"]);
    // A tuple's second part decides between equals, here by the alphabet.
    assert_eq!(by_urgency, ["put out the fire", "tidy up", "write the report", "rest"]);
    assert_eq!(greatest.get(), Ok(Reverse(9)));
}

fn blocking() {
    let queue = Rc::new(Queue::bounded(1));

    // Without waiting: the item comes back if there is no room.
    assert_eq!(queue.try_get(), Err(TryGetError::Empty));
    assert_eq!(queue.try_put("one"), Ok(()));
    assert_eq!(queue.try_put("two"), Err(TryPutError::Full("two")));

    // Waiting for a while.
    let start = Instant::now();
    assert_eq!(queue.put_timeout("two", WHILE), Err(PutTimeoutError::Timeout("two")));
    assert_eq!(queue.get_timeout(WHILE), Ok("one")); // it is there: no wait
    assert_eq!(queue.get_timeout(WHILE), Err(GetTimeoutError::Timeout));
    assert!(start.elapsed() >= 2 * WHILE);

    // Waiting for as long as it takes.
    let later = queue.clone();
    let start = Instant::now();
    spawn_later(WHILE, move || later.put("at last").unwrap());
    assert_eq!(queue.get(), Ok("at last"));
    println!("it took {} ms to come", start.elapsed().as_millis());
    assert!(start.elapsed() >= WHILE);
}

//! Random programs on one hub and on three: nothing is lost, nothing comes twice, order is kept, and
//! everyone who can go on does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use greenling::queue::{JoinableQueue, PutError, PutTimeoutError, Queue, TryPutError};
use greenling::{JoinHandle, sleep, spawn, yield_now};

use super::with_seeds;
use crate::common::deadline;

/// What has happened to an item.
#[derive(Default)]
struct Fate {
    accepted: AtomicBool,
    returned: AtomicBool,
    delivered: AtomicU8,
    dropped: AtomicU8,
}

/// One of a producer's items, which notes its own end.
struct Item {
    producer: usize,
    number: usize,
    fates: Arc<Vec<Vec<Fate>>>,
}

impl Item {
    fn fate(&self) -> &Fate {
        &self.fates[self.producer][self.number]
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.fate().dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn produce(queue: &Queue<Item>, producer: usize, fates: &Arc<Vec<Vec<Fate>>>, mut rng: Rng) {
    for number in 0..fates[producer].len() {
        let item = Item { producer, number, fates: fates.clone() };
        let refused = match rng.u8(..4) {
            0 => match queue.put_timeout(item, Duration::from_micros(rng.u64(..100))) {
                Ok(()) => None,
                Err(PutTimeoutError::Timeout(item) | PutTimeoutError::Closed(item)) => Some(item),
            },
            1 => match queue.try_put(item) {
                Ok(()) => None,
                Err(TryPutError::Full(item) | TryPutError::Closed(item)) => Some(item),
            },
            _ => match queue.put(item) {
                Ok(()) => None,
                Err(PutError(item)) => Some(item),
            },
        };
        let fate = &fates[producer][number];
        match &refused {
            None => fate.accepted.store(true, Ordering::Relaxed),
            Some(item) => {
                assert_eq!(
                    (item.producer, item.number),
                    (producer, number),
                    "another item came back"
                );
                fate.returned.store(true, Ordering::Relaxed);
            }
        }
        if rng.u8(..8) == 0 {
            yield_now();
        }
    }
}

/// Takes items until the queue is closed, and checks that those of each producer come in order.
fn consume(queue: &Queue<Item>, mut rng: Rng) {
    let mut last: Vec<Option<usize>> = Vec::new();
    loop {
        let item = if rng.bool() {
            match queue.get() {
                Ok(item) => item,
                Err(_) => return,
            }
        } else {
            match queue.get_timeout(Duration::from_micros(rng.u64(..100))) {
                Ok(item) => item,
                Err(_) if queue.is_closed() && queue.is_empty() => return,
                Err(_) => continue,
            }
        };
        item.fate().delivered.fetch_add(1, Ordering::Relaxed);
        last.resize(item.fates.len(), None);
        let last = &mut last[item.producer];
        assert!(*last < Some(item.number), "{:?} before {}", last, item.number);
        *last = Some(item.number);
        if rng.u8(..8) == 0 {
            yield_now();
        }
    }
}

fn run_program(hubs: usize, rng: &mut Rng) {
    let capacity = rng.choice([0, 1, 3, 16, usize::MAX]).unwrap();
    let (producers, consumers) = (rng.usize(1..4), rng.usize(1..4)); // on each hub
    let fates: Vec<Vec<Fate>> = (0..hubs * producers)
        .map(|_| (0..rng.usize(20..150)).map(|_| Fate::default()).collect())
        .collect();
    let fates = Arc::new(fates);
    let queue = Arc::new(Queue::bounded(capacity));
    let producing = Arc::new(AtomicUsize::new(hubs));

    let threads: Vec<_> = (0..hubs)
        .map(|hub| {
            let (fates, queue, producing) = (fates.clone(), queue.clone(), producing.clone());
            let mut rng = rng.fork();
            std::thread::spawn(move || {
                // This one is never killed: so all that is put will be taken.
                let mut consuming: Vec<JoinHandle<()>> = (0..=consumers)
                    .map(|_| {
                        let (queue, rng) = (queue.clone(), rng.fork());
                        spawn(move || consume(&queue, rng))
                    })
                    .collect();
                let immortal = consuming.pop().unwrap();
                let mut making: Vec<JoinHandle<()>> = (0..producers)
                    .map(|number| {
                        let (queue, fates, rng) = (queue.clone(), fates.clone(), rng.fork());
                        spawn(move || produce(&queue, hub * producers + number, &fates, rng))
                    })
                    .collect();
                let mut killed = Vec::new();
                while making.iter().any(|producer| !producer.is_finished()) {
                    match rng.u8(..20) {
                        0 if consuming.len() > 1 => {
                            let victim = consuming.swap_remove(rng.usize(..consuming.len()));
                            victim.kill_timeout(Duration::ZERO);
                            killed.push(victim);
                        }
                        1 if making.len() > 1 => {
                            let victim = making.swap_remove(rng.usize(..making.len()));
                            victim.kill_timeout(Duration::ZERO);
                            killed.push(victim);
                        }
                        2 => sleep(Duration::from_micros(rng.u64(..200))),
                        _ => yield_now(),
                    }
                    assert!(capacity == usize::MAX || queue.len() <= capacity);
                }
                making.into_iter().for_each(|producer| producer.join().unwrap());
                for victim in killed {
                    // It may have come to its end before the kill.
                    if let Err(payload) = victim.join() {
                        assert!(payload.is::<greenling::Killed>(), "it panicked");
                    }
                }
                producing.fetch_sub(1, Ordering::SeqCst);
                // Nobody is woken by this wait: the consumers must come to the last item by themselves.
                while producing.load(Ordering::SeqCst) > 0 || !queue.is_empty() {
                    sleep(Duration::from_micros(50));
                }
                queue.close();
                immortal.join().unwrap();
                consuming.into_iter().for_each(|consumer| consumer.join().unwrap());
            })
        })
        .collect();
    for thread in threads {
        if let Err(payload) = thread.join() {
            std::panic::resume_unwind(payload);
        }
    }
    assert!(queue.drain().is_empty());

    for (producer, fates) in fates.iter().enumerate() {
        for (number, fate) in fates.iter().enumerate() {
            let at = format!("item {number} of producer {producer}");
            let delivered = fate.delivered.load(Ordering::Relaxed);
            let (accepted, returned) =
                (fate.accepted.load(Ordering::Relaxed), fate.returned.load(Ordering::Relaxed));
            assert!(delivered <= 1, "{at} was delivered {delivered} times");
            assert!(!accepted || delivered == 1, "{at} was accepted and is lost");
            assert!(!returned || delivered == 0, "{at} came back and was delivered");
            assert!(!(accepted && returned), "{at} was accepted and came back");
            // Those that a killed producer never made have no end.
            let dropped = fate.dropped.load(Ordering::Relaxed);
            let made = accepted || returned || delivered > 0;
            assert!(dropped == 1 || (dropped == 0 && !made), "{at} was dropped {dropped} times");
        }
    }
}

#[test]
fn on_one_hub_nothing_is_lost_or_doubled_and_order_is_kept() {
    deadline(120, || with_seeds(150, |_, mut rng| run_program(1, &mut rng)));
}

#[test]
fn across_three_hubs_nothing_is_lost_or_doubled_and_order_is_kept() {
    deadline(120, || with_seeds(100, |_, mut rng| run_program(3, &mut rng)));
}

#[test]
fn join_of_a_joinable_queue_waits_for_all_tasks_of_all_threads() {
    deadline(60, || {
        for _ in 0..100 {
            let queue = Arc::new(JoinableQueue::bounded(4));
            let done = Arc::new(AtomicUsize::new(0));
            let workers: Vec<_> = (0..3)
                .map(|_| {
                    let (queue, done) = (queue.clone(), done.clone());
                    std::thread::spawn(move || {
                        for _ in queue.iter() {
                            done.fetch_add(1, Ordering::SeqCst);
                            queue.task_done();
                        }
                    })
                })
                .collect();
            for round in 1..=10 {
                for item in 0..10 {
                    queue.put(item).unwrap();
                }
                queue.join();
                assert_eq!(done.load(Ordering::SeqCst), 10 * round);
                assert_eq!(queue.unfinished_tasks(), 0);
            }
            queue.close();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
        }
    });
}

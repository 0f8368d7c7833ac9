//! crossbeam-channel and parking_lot, which keep their waiting state per thread, over the feature `patch`: what
//! works, and that the rest fails loudly.

#[path = "../../tests/common/child.rs"]
mod child;
#[path = "../../tests/common/logger.rs"]
mod logger;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use child::On;
use crossbeam_channel as channel;
use greenling::{patch, sleep, spawn};
use greenling_patched::deadline;
use parking_lot::{Condvar, Mutex, RwLock};

const MS: Duration = Duration::from_millis(1);

/// Each of many coroutines waits for the answers of another thread, by channels of all three kinds.
#[test]
fn crossbeam_channels_from_another_thread() {
    patch::all();
    deadline(60, || {
        for capacity in [None, Some(0), Some(3)] {
            let make = move || capacity.map_or_else(channel::unbounded, channel::bounded);
            let (ask, asked) = channel::unbounded::<(u32, channel::Sender<u32>)>();
            let server = thread::spawn(move || {
                asked.iter().for_each(|(n, answer)| answer.send(n + 1).unwrap());
            });
            let clients: Vec<_> = (0..20)
                .map(|_| {
                    let ask = ask.clone();
                    spawn(move || {
                        for n in 0..50 {
                            let (answer, answered) = make();
                            ask.send((n, answer)).unwrap();
                            assert_eq!(answered.recv().unwrap(), n + 1);
                        }
                    })
                })
                .collect();
            drop(ask);
            clients.into_iter().for_each(|client| client.join().unwrap());
            server.join().unwrap();
        }
    });
}

/// A coroutine that sends to another thread, which is slow: it waits for room, and others run.
#[test]
fn crossbeam_channels_wait_for_room_and_by_time() {
    patch::all();
    deadline(60, || {
        let (sender, receiver) = channel::bounded(1);
        let other = thread::spawn(move || {
            let mut sum = 0;
            while let Ok(n) = receiver.recv() {
                thread::sleep(5 * MS);
                sum += n;
            }
            sum
        });
        let producers: Vec<_> = (0..5_u32)
            .map(|n| {
                let sender = sender.clone();
                spawn(move || (0..4).for_each(|_| sender.send(n).unwrap()))
            })
            .collect();
        let ticks = spawn(|| (0..20).for_each(|_| sleep(MS)));
        ticks.join().unwrap();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        drop(sender);
        assert_eq!(other.join().unwrap(), 40);

        let start = Instant::now();
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                spawn(|| {
                    let (_sender, receiver) = channel::bounded::<()>(0);
                    let by_time = receiver.recv_timeout(100 * MS);
                    assert_eq!(by_time, Err(channel::RecvTimeoutError::Timeout));
                    channel::select! {
                        recv(receiver) -> _ => unreachable!(),
                        recv(channel::after(100 * MS)) -> _ => {}
                    }
                })
            })
            .collect();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(start.elapsed() >= 200 * MS && start.elapsed() < 10_000 * MS);
    });
}

/// A sender wakes only receivers of other threads, as std's: told of in the log after ten seconds. With a time
/// limit the message is there at the end of that.
#[test]
fn crossbeam_messages_of_the_same_thread_are_not_heard_of() {
    let ended = child::run(On::OtherThread, 60, || {
        logger::install();
        patch::all();
        let (sender, receiver) = channel::unbounded::<u32>();
        let (to_limited, limited) = channel::unbounded::<u32>();
        let limited = spawn(move || limited.recv_timeout(50 * MS).unwrap());
        sleep(5 * MS);
        to_limited.send(2).unwrap();
        assert_eq!(limited.join().unwrap(), 2);
        let consumer = spawn(move || receiver.recv().unwrap());
        sleep(5 * MS);
        sender.send(1).unwrap();
        sleep(11_000 * MS);
        assert!(!consumer.is_finished(), "crossbeam-channel has changed: docs/patching.md");
        assert_eq!(logger::records_with("never for those from coroutines of its own").len(), 1);
        drop(sender);
        assert_eq!(consumer.join().unwrap(), 1);
    });
    ended.succeeded();
}

/// One coroutine of a thread waits, whoever holds the lock: another of its thread, or another thread.
#[test]
fn parking_lot_for_one_waiter_of_a_thread() {
    patch::all();
    deadline(60, || {
        let lock = Arc::new(Mutex::new(0));
        for _ in 0..20 {
            let held = lock.clone();
            let holder = spawn(move || {
                let mut guard = held.lock();
                thread::sleep(2 * MS);
                *guard += 1;
            });
            greenling::yield_now();
            *lock.lock() += 1; // main waits
            holder.join().unwrap();
        }
        assert_eq!(*lock.lock(), 40);

        let threads: Vec<_> = (0..3)
            .map(|_| {
                let lock = lock.clone();
                thread::spawn(move || {
                    spawn(move || {
                        for _ in 0..50 {
                            let mut guard = lock.lock();
                            let before = *guard;
                            sleep(Duration::from_micros(100));
                            *guard = before + 1;
                        }
                    })
                    .join()
                    .unwrap();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*lock.lock(), 190);

        let table = Arc::new(RwLock::new(1));
        let reader = table.read();
        let shared = table.clone();
        let writer = spawn(move || *shared.write() += 1);
        sleep(5 * MS);
        drop(reader);
        writer.join().unwrap();
        assert_eq!(*table.read(), 2);

        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let waited = pair.clone();
        let waiter = spawn(move || {
            let mut ready = waited.0.lock();
            assert!(waited.1.wait_for(&mut ready, 20 * MS).timed_out());
            while !*ready {
                waited.1.wait(&mut ready);
            }
        });
        sleep(100 * MS);
        *pair.0.lock() = true;
        pair.1.notify_one();
        waiter.join().unwrap();
    });
}

/// A second one would damage the queue, which has one entry for the thread: a ring that is walked for ever, and
/// two who believe that they have the lock. That ends the process, with a message.
#[test]
fn parking_lot_with_two_waiters_of_a_thread_ends_the_process_loudly() {
    let ended = child::run(On::OtherThread, 60, || {
        patch::all();
        let lock = Arc::new(Mutex::new(()));
        let guard = lock.lock();
        let waiters = [(); 2].map(|()| {
            let lock = lock.clone();
            spawn(move || drop(lock.lock()))
        });
        sleep(5 * MS);
        drop(guard);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
    ended.died_of(libc::SIGABRT);
    assert!(ended.stderr.contains("wait for locks of parking_lot"), "{}", ended.stderr);
    assert!(ended.stderr.contains("greenling::sync"), "{}", ended.stderr);
}

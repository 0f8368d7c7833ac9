//! What std has one of for each thread (thread::park, and mpsc by it), used by coroutines: one waits as it
//! ought to; two of one thread make progress, and are told of in the log.

#![cfg(feature = "patch")]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/logger.rs"]
mod logger;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use child::On;
use common::deadline;
use greenling::{patch, sleep, spawn};

const MS: Duration = Duration::from_millis(1);
const LOGGED: &str = "of the same thread wait by what the thread has only one of";

#[test]
fn park_waits_for_its_unpark() {
    deadline(60, || {
        patch::all();
        for by_thread in [false, true] {
            let flag = Arc::new(AtomicBool::new(false));
            let (seen, parks) = (flag.clone(), Arc::new(AtomicU32::new(0)));
            let counted = parks.clone();
            let parked = spawn(move || {
                while !seen.load(Ordering::SeqCst) {
                    thread::park();
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            });
            let this = thread::current();
            let notify = move || {
                sleep(50 * MS);
                flag.store(true, Ordering::SeqCst);
                this.unpark();
            };
            if by_thread {
                thread::spawn(notify).join().unwrap()
            } else {
                spawn(notify).join().unwrap()
            }
            parked.join().unwrap();
            assert!(parks.load(Ordering::SeqCst) <= 3, "{parks:?}");
        }
    });
}

/// Processor time of the calling thread.
fn busy() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: valid for the write.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_receiver_costs_nothing_while_it_waits() {
    deadline(60, || {
        patch::all();
        let (sender, receiver) = mpsc::channel::<u32>();
        let consumer = spawn(move || receiver.recv().unwrap());
        sleep(5 * MS);
        let before = busy();
        sleep(500 * MS);
        assert!(busy() - before < 100 * MS, "{:?}", busy() - before);
        // std wakes only receivers of other threads than the sender's.
        thread::spawn(move || sender.send(1).unwrap()).join().unwrap();
        assert_eq!(consumer.join().unwrap(), 1);
    });
}

#[test]
fn two_receivers_of_a_thread_get_everything_and_are_told_of() {
    let ended = child::run(On::OtherThread, 60, || {
        logger::install();
        patch::all();
        let (to_first, first) = mpsc::channel::<u32>();
        let (to_second, second) = mpsc::channel::<u32>();
        let consumers = [first, second].map(|receiver| spawn(move || receiver.iter().sum::<u32>()));
        sleep(20 * MS);
        assert_eq!(logger::records_with(LOGGED).len(), 1);
        for n in 0..50 {
            to_first.send(n).unwrap();
            sleep(MS);
        }
        let other = thread::spawn(move || {
            for n in 0..50 {
                to_second.send(n).unwrap();
                thread::sleep(MS);
            }
        });
        drop(to_first);
        for consumer in consumers {
            assert_eq!(consumer.join().unwrap(), 1225);
        }
        other.join().unwrap();
        assert_eq!(logger::records_with(LOGGED).len(), 1);
    });
    ended.succeeded();
}

/// Questions of many coroutines to one other thread, by std's channel, and an answer to each by one of its own.
#[test]
fn questions_to_another_thread_and_their_answers() {
    deadline(60, || {
        patch::all();
        let (ask, asked) = mpsc::channel::<(u32, mpsc::SyncSender<u32>)>();
        let server = thread::spawn(move || {
            asked.iter().for_each(|(n, answer)| answer.send(n + 1).unwrap());
        });
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let ask = ask.clone();
                spawn(move || {
                    for n in 0..100 {
                        let (answer, answered) = mpsc::sync_channel(1);
                        ask.send((n, answer)).unwrap();
                        assert_eq!(answered.recv().unwrap(), n + 1);
                    }
                })
            })
            .collect();
        drop(ask);
        clients.into_iter().for_each(|client| client.join().unwrap());
        server.join().unwrap();
    });
}

/// std wakes no receiver of the sender's own thread. That cannot be helped; it is told of.
#[test]
fn a_message_from_a_coroutine_of_the_same_thread_is_not_heard_of() {
    let ended = child::run(On::OtherThread, 60, || {
        logger::install();
        patch::all();
        let (sender, receiver) = mpsc::channel::<u32>();
        let consumer = spawn(move || receiver.recv().unwrap());
        sleep(5 * MS);
        sender.send(1).unwrap();
        sleep(1000 * MS);
        assert!(!consumer.is_finished(), "std has changed: docs/patching.md");
        assert_eq!(logger::records_with("never for those from coroutines of its own").len(), 0);
        sleep(9500 * MS);
        assert_eq!(logger::records_with("never for those from coroutines of its own").len(), 1);
        drop(sender);
        assert_eq!(consumer.join().unwrap(), 1);
    });
    ended.succeeded();
}

#[test]
fn two_that_park_let_others_run_and_end_by_time() {
    deadline(60, || {
        patch::all();
        let start = Instant::now();
        let pair = [(); 2].map(|()| {
            spawn(|| {
                let end = Instant::now() + 200 * MS;
                while let Some(left) = end.checked_duration_since(Instant::now()) {
                    thread::park_timeout(left);
                }
            })
        });
        let other = spawn(|| (0..20).for_each(|_| sleep(MS)));
        other.join().unwrap();
        pair.into_iter().for_each(|one| one.join().unwrap());
        assert!(start.elapsed() >= 200 * MS && start.elapsed() < 20_000 * MS);
    });
}

/// With no other thread there is nobody who could wake it: not a hang, but a deadlock, which says who waits and
/// for what. That is after the ten seconds that it is given before somebody is told.
#[test]
fn a_message_that_is_never_heard_of_in_a_process_of_one_thread_is_a_deadlock() {
    let ended = child::run(On::MainThread, 60, || {
        patch::all();
        let (sender, receiver) = mpsc::channel();
        let receiving = spawn(move || receiver.recv());
        greenling::yield_now(); // it waits now
        sender.send(1).unwrap();
        println!("heard of: {:?}", receiving.join());
    });
    assert!(ended.stderr.contains("deadlock: nothing can ever run again"), "{ended:?}");
    assert!(ended.stderr.contains("a channel that is not greenling::sync::mpsc"), "{ended:?}");
    assert!(!ended.stdout.contains("heard of"), "{ended:?}");
}

/// Several of them, too: they look again for as long as somebody new comes to wait by the token, and then are as one.
#[test]
fn messages_that_several_never_hear_of_in_a_process_of_one_thread_are_a_deadlock() {
    let ended = child::run(On::MainThread, 60, || {
        patch::all();
        let channels = [(); 3].map(|()| mpsc::channel());
        let (senders, receiving): (Vec<_>, Vec<_>) = channels
            .into_iter()
            .map(|(sender, receiver)| (sender, spawn(move || receiver.recv())))
            .unzip();
        sleep(100 * MS); // they wait now, and look again
        senders.iter().for_each(|sender| sender.send(1).unwrap());
        println!("heard of: {:?}", greenling::join_all(receiving).len());
    });
    assert!(ended.stderr.contains("deadlock: nothing can ever run again"), "{ended:?}");
    assert!(ended.stderr.contains("a channel that is not greenling::sync::mpsc"), "{ended:?}");
    assert!(!ended.stdout.contains("heard of"), "{ended:?}");
}

/// Those that have shared the token do not look again for ever, and hear of another thread all the same.
#[test]
fn those_who_have_shared_the_token_come_to_rest() {
    let ended = child::run(On::OtherThread, 60, || {
        logger::install();
        patch::all();
        let parks = Arc::new(AtomicU32::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let parked = [(); 2].map(|()| {
            let (parks, over) = (parks.clone(), over.clone());
            spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    thread::park();
                    parks.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        sleep(1000 * MS);
        let looks = parks.load(Ordering::SeqCst);
        assert!((4..100).contains(&looks), "{looks} looks in a second");
        assert_eq!(logger::records_with("waiting by std::thread::park").len(), 0);
        sleep(10_000 * MS);
        let (looks, before) = (parks.load(Ordering::SeqCst), busy());
        sleep(1000 * MS);
        assert!(parks.load(Ordering::SeqCst) - looks <= 2, "{parks:?} after {looks}");
        assert!(busy() - before < 100 * MS);
        assert_eq!(logger::records_with("waiting by std::thread::park").len(), 1);
        // Somebody new: all look again.
        let third = spawn(|| thread::park_timeout(300 * MS));
        sleep(400 * MS);
        assert!(parks.load(Ordering::SeqCst) - looks >= 4, "{parks:?} after {looks}");
        third.join().unwrap();
        over.store(true, Ordering::SeqCst);
        let this = thread::current();
        thread::spawn(move || this.unpark()).join().unwrap();
        parked.into_iter().for_each(|one| one.join().unwrap());
    });
    ended.succeeded();
}

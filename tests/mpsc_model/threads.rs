//! Random programs on several threads at once: coroutines and plain threads that send and receive on shared
//! channels, while others are killed and run out of time. What was sent must have arrived, once, and from each
//! sender in order.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use greenling::sync::mpsc::{RecvTimeoutError, SyncSender, channel, sync_channel};
use greenling::{join_all, sleep, spawn, timeout, yield_now};

use super::{from_environment, with_seed};
use crate::common::deadline;

/// Sender and number.
type Message = (u64, u64);

/// What became of the messages of one sender.
struct Sent {
    who: u64,
    /// Those that the channel has taken.
    accepted: Vec<u64>,
}

/// Sends with waits, limits and refusals; notes what was accepted.
fn send(who: u64, sender: &SyncSender<Message>, count: u64, rng: &mut Rng) -> Sent {
    let mut accepted = Vec::new();
    for number in 0..count {
        let message = (who, number);
        let was_accepted = match rng.u8(..8) {
            0 => sender.try_send(message).is_ok(),
            1 => {
                let limit = Duration::from_micros(rng.u64(..50));
                timeout(limit, || sender.send(message)).is_ok()
            }
            _ => {
                sender.send(message).unwrap();
                true
            }
        };
        if was_accepted {
            accepted.push(number);
        }
        if rng.u8(..8) == 0 {
            yield_now();
        }
    }
    Sent { who, accepted }
}

/// A hub with coroutines that send, and some that are killed while they do.
fn sending_hub(thread: u64, sender: SyncSender<Message>, mut rng: Rng) -> Vec<Sent> {
    let coroutines = 2 + rng.u64(..4);
    let senders: Vec<_> = (0..coroutines)
        .map(|n| {
            let (sender, mut rng) = (sender.clone(), rng.fork());
            spawn(move || send(thread * 100 + n, &sender, 200, &mut rng))
        })
        .collect();
    // Victims send nothing that counts: each has a message only while it waits.
    let noted = Rc::new(std::cell::RefCell::new(Vec::new()));
    let mut number = 0;
    while senders.iter().any(|sender| !sender.is_finished()) {
        number += 1;
        let victim = spawn({
            let (sender, noted) = (sender.clone(), noted.clone());
            let message = (thread * 100 + 99, number);
            move || {
                if sender.send(message).is_ok() {
                    noted.borrow_mut().push(message.1);
                }
            }
        });
        if rng.bool() {
            yield_now();
        } else {
            sleep(Duration::from_micros(rng.u64(..30)));
        }
        // Killed before it has started, while it waits, or when it has ended.
        victim.kill();
        drop(victim.join());
    }
    let mut all: Vec<Sent> = join_all(senders).into_iter().map(|sent| sent.unwrap()).collect();
    all.push(Sent { who: thread * 100 + 99, accepted: noted.take() });
    all
}

/// Receives in coroutines of one hub that are killed and run out of time, until all senders are gone.
fn receive_all(receiver: greenling::sync::mpsc::Receiver<Message>, mut rng: Rng) -> Vec<Message> {
    let receiver = Rc::new(receiver);
    let got = Rc::new(std::cell::RefCell::new(Vec::new()));
    loop {
        let limit = Duration::from_micros(rng.u64(..100));
        let receiving = spawn({
            let (receiver, got) = (receiver.clone(), got.clone());
            move || loop {
                match receiver.recv_timeout(limit) {
                    Ok(message) => got.borrow_mut().push(message),
                    Err(error) => return error,
                }
            }
        });
        if rng.u8(..4) == 0 {
            sleep(Duration::from_micros(rng.u64(..50)));
            receiving.kill();
        }
        match receiving.join() {
            Ok(RecvTimeoutError::Disconnected) => return got.take(),
            Ok(RecvTimeoutError::Timeout) | Err(_) => {}
        }
    }
}

/// One program on a few threads.
fn run_program(mut rng: Rng) {
    let bound = rng.choice([0, 0, 1, 3, 50]).unwrap();
    let (sender, receiver) = sync_channel(bound);
    let mut threads: Vec<_> = (0..2 + rng.u64(..2))
        .map(|thread| {
            let (sender, rng) = (sender.clone(), rng.fork());
            std::thread::spawn(move || sending_hub(thread, sender, rng))
        })
        .collect();
    // One that has no coroutines.
    let (plain, mut plain_rng) = (sender.clone(), rng.fork());
    threads.push(std::thread::spawn(move || vec![send(999, &plain, 200, &mut plain_rng)]));
    drop(sender);
    let got = receive_all(receiver, rng);
    let mut arrived: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (who, number) in got {
        arrived.entry(who).or_default().push(number);
    }
    for sent in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
        let arrived = arrived.remove(&sent.who).unwrap_or_default();
        // Of victims, too: a hand-over is a fact, so whoever was killed in that moment has noted it.
        assert_eq!(arrived, sent.accepted, "sender {} with a bound of {bound}", sent.who);
    }
    assert!(arrived.is_empty(), "from nobody: {arrived:?}");
}

/// A channel without a bound, whose receiver wanders from thread to thread.
fn run_wandering_receiver(mut rng: Rng) {
    const SENDERS: u64 = 3;
    const EACH: u64 = 2_000;
    let (sender, mut receiver) = channel();
    let threads: Vec<_> = (0..SENDERS)
        .map(|who| {
            let (sender, mut rng) = (sender.clone(), rng.fork());
            std::thread::spawn(move || {
                for number in 0..EACH {
                    sender.send((who, number)).unwrap();
                    if rng.u16(..200) == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    drop(sender);
    let next = Arc::new(std::sync::Mutex::new([0; SENDERS as usize]));
    loop {
        let (next, steps) = (next.clone(), rng.u32(1..2_000));
        let wandering = std::thread::spawn(move || {
            let mut next = next.lock().unwrap();
            for _ in 0..steps {
                let Ok((who, number)) = receiver.recv() else { return None };
                assert_eq!(number, std::mem::replace(&mut next[who as usize], number + 1));
            }
            Some(receiver)
        });
        match wandering.join().unwrap() {
            Some(back) => receiver = back,
            None => break,
        }
    }
    assert_eq!(*next.lock().unwrap(), [EACH; SENDERS as usize]);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn run_for(time: Duration) {
    let began = Instant::now();
    loop {
        let seed = from_environment("MPSC_SEED").unwrap_or_else(|| fastrand::u64(..));
        with_seed(seed, run_program);
        with_seed(seed, run_wandering_receiver);
        if began.elapsed() >= time {
            return;
        }
    }
}

#[test]
fn threads_lose_nothing_for_a_second() {
    deadline(120, || run_for(Duration::from_secs(1)));
}

#[test]
#[ignore = "a soak: five minutes, or MPSC_SECONDS"]
fn threads_lose_nothing_for_minutes() {
    let seconds = from_environment("MPSC_SECONDS").unwrap_or(300);
    deadline(seconds + 120, move || run_for(Duration::from_secs(seconds)));
}

//! Wakes, spawns and joins from other OS threads: none is lost, whatever else goes on.
//!
//! Every test here is a race, so each runs many rounds; a lost wake-up is a hang, which `deadline` turns into
//! a failure.

mod common;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use common::deadline;
use greenling::error::Killed;
use greenling::io::Adapter;
use greenling::net::{TcpListener, TcpStream};
use greenling::thread::{self, Builder};
use greenling::{hub, spawn, yield_now};

/// Fewer where the build is slow.
const fn count(release: usize, debug: usize) -> usize {
    if cfg!(debug_assertions) { debug } else { release }
}

const STORMERS: usize = 8;

/// Eight threads wake the coroutines of one hub, each wake for a count that the sleeper has to see. `io`
/// makes the hub sleep in epoll instead of in a futex.
fn storm(coroutines: usize, wakes: usize, io: bool) {
    let keep_epoll = io.then(|| {
        let (reader, writer) = crate::common::pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        (spawn(move || reader.read(&mut [0]).unwrap()), writer)
    });
    let counts: Arc<Vec<AtomicU32>> =
        Arc::new((0..coroutines).map(|_| AtomicU32::new(0)).collect());
    let each = wakes / STORMERS / coroutines;
    let total = (each * STORMERS) as u32;
    let sleepers: Vec<_> = (0..coroutines)
        .map(|n| {
            let counts = counts.clone();
            let sleeper = Builder::new().stack_size(16 * 1024).spawn(move || {
                while counts[n].load(Ordering::Acquire) < total {
                    thread::park();
                }
            });
            sleeper.unwrap()
        })
        .collect();
    let threads: Vec<thread::Thread> =
        sleepers.iter().map(|sleeper| sleeper.thread().clone()).collect();
    let threads = Arc::new(threads);
    let start = Arc::new(Barrier::new(STORMERS));
    let stormers: Vec<_> = (0..STORMERS)
        .map(|seed| {
            let (counts, threads, start) = (counts.clone(), threads.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                for round in 0..each {
                    for n in 0..threads.len() {
                        let n = (n + seed + round) % threads.len();
                        counts[n].fetch_add(1, Ordering::Release);
                        threads[n].unpark();
                    }
                }
            })
        })
        .collect();
    sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    stormers.into_iter().for_each(|stormer| stormer.join().unwrap());
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == total));
    if let Some((reader, writer)) = keep_epoll {
        drop(writer);
        assert_eq!(reader.join().unwrap(), 0);
    }
}

#[test]
fn a_storm_on_one_coroutine() {
    deadline(60, || storm(1, count(1_000_000, 100_000), false));
}

#[test]
fn a_storm_on_a_thousand_coroutines() {
    deadline(60, || storm(1000, count(1_000_000, 200_000), false));
}

#[test]
fn a_storm_on_a_hub_that_sleeps_in_epoll() {
    deadline(60, || storm(1, count(500_000, 50_000), true));
    deadline(60, || storm(100, count(500_000, 100_000), true));
}

/// The sleeper must have gone to sleep before every wake, so that each one is needed.
#[test]
fn no_wake_of_a_ping_pong_is_lost() {
    for io in [false, true] {
        deadline(60, move || {
            let rounds = count(50_000, 10_000);
            let keep_epoll = io.then(|| {
                let (reader, writer) = crate::common::pipe().unwrap();
                let mut reader = Adapter::new(reader).unwrap();
                spawn(move || reader.read(&mut [0]).unwrap());
                yield_now();
                writer
            });
            let turn = Arc::new(AtomicU64::new(0));
            let here = thread::current();
            let (sender, receiver) = mpsc::channel();
            let theirs = turn.clone();
            let other = std::thread::spawn(move || {
                sender.send(thread::current()).unwrap();
                for round in 0..rounds as u64 {
                    while theirs.load(Ordering::Acquire) != 2 * round + 1 {
                        thread::park();
                    }
                    theirs.store(2 * round + 2, Ordering::Release);
                    here.unpark();
                }
            });
            let there = receiver.recv().unwrap();
            for round in 0..rounds as u64 {
                turn.store(2 * round + 1, Ordering::Release);
                there.unpark();
                while turn.load(Ordering::Acquire) != 2 * round + 2 {
                    thread::park();
                }
            }
            other.join().unwrap();
            drop(keep_epoll);
        });
    }
}

/// std's own threads, without a hub, wake a hub's main coroutine and the other way round.
#[test]
fn a_plain_thread_can_wake_without_having_a_hub() {
    deadline(60, || {
        for _ in 0..count(3000, 500) {
            let main = thread::current();
            let other = std::thread::spawn(move || main.unpark());
            thread::park();
            other.join().unwrap();
        }
    });
}

#[test]
fn wakes_and_deadlines_race_without_losing_either() {
    deadline(60, || {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicU32::new(0));
        let sent = Arc::new(AtomicU32::new(0));
        let sleeper = {
            let (stop, seen, sent) = (stop.clone(), seen.clone(), sent.clone());
            spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    thread::park_timeout(Duration::from_micros(30));
                    seen.store(sent.load(Ordering::Acquire), Ordering::Release);
                }
                // What was sent is seen by now or after one more park.
                thread::park_timeout(Duration::from_millis(50));
                seen.store(sent.load(Ordering::Acquire), Ordering::Release);
            })
        };
        let target = sleeper.thread().clone();
        let (flag, total) = (stop.clone(), sent.clone());
        let stormer = std::thread::spawn(move || {
            for n in 0..count(100_000, 20_000) {
                total.fetch_add(1, Ordering::Release);
                target.unpark();
                if n % 64 == 0 {
                    std::thread::sleep(Duration::from_micros(40));
                }
            }
            flag.store(true, Ordering::Release);
            target.unpark();
        });
        sleeper.join().unwrap();
        stormer.join().unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), sent.load(Ordering::Relaxed));
    });
}

#[test]
fn joins_from_other_threads_race_with_the_end() {
    deadline(60, || {
        for n in 0..count(5000, 1000) {
            let child = spawn(move || {
                for _ in 0..n % 5 {
                    yield_now();
                }
                n
            });
            let joiner = std::thread::spawn(move || child.join().unwrap());
            // The hub has to run for the child to end.
            while !joiner.is_finished() {
                yield_now();
            }
            assert_eq!(joiner.join().unwrap(), n);
        }
    });
}

#[test]
fn handles_dropped_on_other_threads_race_with_the_end() {
    deadline(60, || {
        let probe = Arc::new(());
        let (sender, receiver) = mpsc::channel::<thread::JoinHandle<Arc<()>>>();
        let dropper = std::thread::spawn(move || receiver.iter().for_each(drop));
        for n in 0..count(50_000, 5000) {
            let own = probe.clone();
            let child = spawn(move || {
                for _ in 0..n % 3 {
                    yield_now();
                }
                own
            });
            sender.send(child).unwrap();
            yield_now();
        }
        drop(sender);
        while !dropper.is_finished() || hub::stats().live > 0 {
            yield_now();
        }
        dropper.join().unwrap();
        assert_eq!(Arc::strong_count(&probe), 1, "every result was dropped exactly once");
    });
}

#[test]
fn kills_from_other_threads_race_with_wakes_and_the_end() {
    deadline(60, || {
        let mut killed = 0;
        for n in 0..count(3000, 600) {
            let child = spawn(move || {
                match n % 10 {
                    // However long the killer takes to begin, it comes in time for these.
                    0 => thread::sleep(Duration::from_secs(1000)),
                    1..4 => thread::park_timeout(Duration::from_micros(50)),
                    4..7 => thread::sleep(Duration::from_micros(20)),
                    _ => (0..20).for_each(|_| yield_now()),
                }
                n
            });
            let target = child.thread().clone();
            let killer = std::thread::spawn(move || {
                child.kill();
                target.unpark();
                child.join()
            });
            while !killer.is_finished() {
                yield_now();
            }
            match killer.join().unwrap() {
                Ok(value) => assert_eq!(value, n),
                Err(payload) => {
                    assert!(payload.is::<Killed>());
                    killed += 1;
                }
            }
        }
        assert_eq!((hub::stats().live, hub::stats().stacks_in_use), (0, 0));
        assert!(killed > 0);
    });
}

/// Hubs send each other work in a ring; each hop is a spawn onto the next thread, joined there and back.
#[test]
fn work_goes_around_a_ring_of_hubs() {
    fn hop(ring: Arc<Vec<hub::Handle>>, at: usize, left: usize) -> usize {
        if left == 0 {
            return 0;
        }
        let next = (at + 1) % ring.len();
        let rest = ring.clone();
        let child = ring[next].spawn(move || hop(rest, next, left - 1)).unwrap();
        child.join().unwrap() + 1
    }
    deadline(60, || {
        let (sender, receiver) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (sender, stop) = (sender.clone(), stop.clone());
                std::thread::spawn(move || {
                    sender.send((hub::handle(), thread::current())).unwrap();
                    while !stop.load(Ordering::Acquire) {
                        thread::park();
                    }
                })
            })
            .collect();
        let (ring, mains): (Vec<_>, Vec<_>) = receiver.iter().take(4).unzip();
        let ring = Arc::new(ring);
        let walks: Vec<_> = (0..20)
            .map(|n| {
                let rest = ring.clone();
                let child = ring[n % 4].spawn(move || hop(rest, n % 4, count(500, 100)));
                child.unwrap()
            })
            .collect();
        for walk in walks {
            assert_eq!(walk.join().unwrap(), count(500, 100));
        }
        stop.store(true, Ordering::Release);
        mains.iter().for_each(thread::Thread::unpark);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Hubs come and go while others send to them: none may get, or lose, what belongs to another.
#[test]
fn hubs_that_come_and_go_do_not_get_each_others_messages() {
    deadline(120, || {
        let began = Instant::now();
        let rounds = count(400, 100);
        let churn: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    for _ in 0..rounds {
                        // A hub that needs a wake from outside to come to its end.
                        let (sender, receiver) = mpsc::channel();
                        let short = std::thread::spawn(move || {
                            let token = Arc::new(AtomicBool::new(false));
                            sender.send((hub::handle(), thread::current(), token.clone())).unwrap();
                            while !token.load(Ordering::Acquire) {
                                thread::park();
                            }
                            spawn(|| std::thread::current().id()).join().unwrap()
                        });
                        let there = short.thread().id();
                        let (handle, main, token) = receiver.recv().unwrap();
                        let child = handle.spawn(|| std::thread::current().id()).unwrap();
                        assert_eq!(child.join().unwrap(), there);
                        token.store(true, Ordering::Release);
                        main.unpark();
                        // Too late, or just in time; never on another thread.
                        match handle.spawn(|| std::thread::current().id()) {
                            Ok(late) => assert!(late.join().map_or(true, |id| id == there)),
                            Err(error) => {
                                assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
                            }
                        }
                        assert_eq!(short.join().unwrap(), there);
                        main.unpark();
                    }
                })
            })
            .collect();
        churn.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(began.elapsed() < Duration::from_secs(100));
    });
}

/// More hubs than a source has bits to remember them by: a close wakes the waiters on all of them.
#[test]
fn a_close_wakes_waiters_on_seventy_hubs() {
    deadline(60, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Arc::new(listener.accept().unwrap().0);
        let waiting: Vec<_> = (0..70)
            .map(|_| {
                let stream = stream.clone();
                std::thread::spawn(move || (&*stream).read(&mut [0]).is_err())
            })
            .collect();
        thread::sleep(Duration::from_millis(200));
        stream.close();
        for waiting in waiting {
            assert!(waiting.join().unwrap());
        }
    });
}

#[test]
fn descriptors_used_on_several_hubs_wake_all_of_them() {
    deadline(60, || {
        let (reader, mut writer) = crate::common::pipe().unwrap();
        let reader = Arc::new(Adapter::new(reader).unwrap());
        let total = Arc::new(AtomicU32::new(0));
        let bytes = count(20_000, 4000) as u32;
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (reader, total) = (reader.clone(), total.clone());
                std::thread::spawn(move || {
                    let both = [0, 1].map(|_| {
                        let (reader, total) = (reader.clone(), total.clone());
                        spawn(move || {
                            while (&*reader)
                                .read(&mut [0; 3])
                                .inspect(|n| {
                                    total.fetch_add(*n as u32, Ordering::Relaxed);
                                })
                                .unwrap()
                                > 0
                            {}
                        })
                    });
                    both.into_iter().for_each(|one| one.join().unwrap());
                })
            })
            .collect();
        for n in 0..bytes {
            writer.write_all(b"x").unwrap();
            if n % 100 == 0 {
                thread::sleep(Duration::from_micros(200));
            }
        }
        drop(writer);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(total.load(Ordering::Relaxed), bytes);
    });
}

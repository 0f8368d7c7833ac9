//! Whoever can run gets a turn, however busy the others are.

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greenling::hub::{self, Config};
use greenling::io::Adapter;
use greenling::thread::{self, JoinHandle};
use greenling::{spawn, yield_now};

use crate::common::deadline;

/// Coroutines that do nothing but yield, until they are told to stop.
fn busy(count: usize, stop: &Rc<Cell<bool>>) -> Vec<JoinHandle<()>> {
    (0..count)
        .map(|_| {
            let stop = stop.clone();
            spawn(move || {
                while !stop.get() {
                    yield_now();
                }
            })
        })
        .collect()
}

/// A timer, a pipe and another thread's wake come through within a reasonable time.
fn everything_comes_through() {
    let began = Instant::now();
    let timer = spawn(|| thread::sleep(Duration::from_millis(5)));
    let (reader, mut writer) = crate::common::pipe().unwrap();
    let mut reader = Adapter::new(reader).unwrap();
    let io = spawn(move || reader.read(&mut [0; 8]).unwrap());
    let parked = spawn(thread::park);
    let to_unpark = parked.thread().clone();
    let here = hub::handle();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        writer.write_all(b"x").unwrap();
        to_unpark.unpark();
        here.spawn(|| 5).unwrap().join().unwrap()
    });
    timer.join().unwrap();
    assert_eq!(io.join().unwrap(), 1);
    parked.join().unwrap();
    while !other.is_finished() {
        thread::sleep(Duration::from_micros(100));
    }
    assert_eq!(other.join().unwrap(), 5);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn yielding_loops_let_timers_and_io_and_other_threads_through() {
    for count in [1, 2, 100] {
        deadline(20, move || {
            let stop = Rc::new(Cell::new(false));
            let busy = busy(count, &stop);
            everything_comes_through();
            stop.set(true);
            busy.into_iter().for_each(|one| one.join().unwrap());
        });
    }
}

#[test]
fn a_main_that_only_yields_lets_everything_through() {
    deadline(20, || {
        let work = spawn(everything_comes_through);
        while !work.is_finished() {
            yield_now();
        }
        work.join().unwrap();
    });
}

#[test]
fn two_that_wake_each_other_let_everything_through() {
    deadline(20, || {
        let stop = Rc::new(Cell::new(false));
        let partner: Rc<Cell<Option<thread::Thread>>> = Rc::default();
        let (flag, slot) = (stop.clone(), partner.clone());
        let ping = spawn(move || {
            thread::park();
            let partner = slot.take().unwrap();
            while !flag.get() {
                partner.unpark();
                thread::park();
            }
            partner.unpark();
        });
        let (flag, other) = (stop.clone(), ping.thread().clone());
        let pong = spawn(move || {
            while !flag.get() {
                other.unpark();
                thread::park();
            }
            other.unpark();
        });
        partner.set(Some(pong.thread().clone()));
        everything_comes_through();
        stop.set(true);
        ping.thread().unpark();
        ping.join().unwrap();
        pong.join().unwrap();
    });
}

#[test]
fn a_storm_of_timers_lets_everything_through() {
    deadline(20, || {
        let stop = Rc::new(Cell::new(false));
        let sleepers: Vec<_> = (0..500)
            .map(|_| {
                let stop = stop.clone();
                spawn(move || {
                    while !stop.get() {
                        thread::sleep(Duration::from_nanos(1));
                    }
                })
            })
            .collect();
        everything_comes_through();
        stop.set(true);
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    });
}

#[test]
fn a_reader_that_never_waits_lets_the_others_run() {
    deadline(20, || {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let zero = Adapter::new(zero).unwrap();
        let reader = spawn(move || {
            let mut reads = 0_u64;
            while !flag.load(Ordering::Relaxed) {
                assert_eq!((&zero).read(&mut [0; 64]).unwrap(), 64);
                reads += 1;
            }
            reads
        });
        everything_comes_through();
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 100);
    });
}

#[test]
fn a_pipe_that_is_kept_full_does_not_starve_the_others() {
    deadline(20, || {
        let stop = Arc::new(AtomicBool::new(false));
        let (reader, mut writer) = crate::common::pipe().unwrap();
        let flag = stop.clone();
        let feeder = std::thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) && writer.write_all(&[7; 4096]).is_ok() {}
        });
        let reader = Adapter::new(reader).unwrap();
        let flag = stop.clone();
        let drain = spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                let _ = (&reader).read(&mut [0; 16]).unwrap();
            }
        });
        everything_comes_through();
        stop.store(true, Ordering::Relaxed);
        drain.join().unwrap();
        feeder.join().unwrap();
    });
}

#[test]
fn the_io_budget_is_what_it_says() {
    deadline(20, || {
        Config::new().io_budget(8).apply();
        let zero = Adapter::new(std::fs::File::open("/dev/zero").unwrap()).unwrap();
        let reads = Rc::new(Cell::new(0));
        let count = reads.clone();
        let reader = spawn(move || {
            for _ in 0..80 {
                (&zero).read_exact(&mut [0]).unwrap();
                count.set(count.get() + 1);
            }
        });
        let mut largest = 0;
        while !reader.is_finished() {
            let before = reads.get();
            yield_now();
            largest = largest.max(reads.get() - before);
        }
        reader.join().unwrap();
        assert!((4..=8).contains(&largest), "{largest} operations in one turn");
    });
}

#[test]
fn the_poll_interval_is_what_it_says() {
    for interval in [1_u32, 10, 1000] {
        deadline(20, move || {
            Config::new().poll_interval(interval).apply();
            // Somebody has to wait for I/O, or there is nothing to poll.
            let (reader, writer) = crate::common::pipe().unwrap();
            let mut reader = Adapter::new(reader).unwrap();
            let waiting = spawn(move || reader.read(&mut [0]).unwrap());
            let stop = Rc::new(Cell::new(false));
            let busy = busy(2, &stop);
            yield_now();
            let before = hub::stats();
            for _ in 0..2000 {
                yield_now();
            }
            let after = hub::stats();
            let polls = (after.polls - before.polls) as f64;
            let switches = (after.switches - before.switches) as f64;
            let ratio = switches / polls / f64::from(interval);
            assert!((0.4..2.5).contains(&ratio), "{switches} switches, {polls} polls: {ratio}");
            stop.set(true);
            drop(writer);
            busy.into_iter().for_each(|one| one.join().unwrap());
            assert_eq!(waiting.join().unwrap(), 0);
        });
    }
}

#[test]
fn those_that_yield_get_equal_shares() {
    deadline(20, || {
        let counts: Rc<[Cell<u32>]> = (0..20).map(|_| Cell::new(0)).collect();
        let stop = Rc::new(Cell::new(false));
        let workers: Vec<_> = (0..20)
            .map(|n| {
                let (counts, stop) = (counts.clone(), stop.clone());
                spawn(move || {
                    while !stop.get() {
                        counts[n].set(counts[n].get() + 1);
                        yield_now();
                    }
                })
            })
            .collect();
        for _ in 0..1000 {
            yield_now();
        }
        stop.set(true);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert!(counts.iter().all(|count| count.get() == 1000), "{counts:?}");
    });
}

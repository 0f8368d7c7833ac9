//! `mpsc::channel`: a message there and one back, many in one direction, and from one thread to another.
//!
//! Run with: `cargo bench -p greenling-micro-benches --bench channel`
//!
//! The reference for the round trip between two coroutines is what two switches cost at the least:
//! corosensei's resume and suspend, of two coroutines in turn. Everything else is compared with
//! `std::sync::mpsc` in the same place.

use std::time::{Duration, Instant};

use corosensei::{Coroutine, CoroutineResult};
use greenling::spawn;
use greenling_micro_benches::{Comparison, Timed, criterion};

fn main() {
    let mut criterion = criterion();
    Comparison::new(
        "channel, round trip between two coroutines",
        ("greenling", Box::new(round_trips)),
        ("corosensei, two switches", bare_pairs_of_switches()),
    )
    .at_most(Duration::from_nanos(50))
    .run(&mut criterion);
    Comparison::new(
        "sync_channel(0), round trip between two coroutines",
        ("greenling", Box::new(rendezvous)),
        ("corosensei, two switches", bare_pairs_of_switches()),
    )
    .run(&mut criterion);
    Comparison::new(
        "channel, a thousand messages in, then out",
        ("greenling", Box::new(in_and_out_of_ours)),
        ("std", Box::new(in_and_out_of_stds)),
    )
    .operations(1000)
    .run(&mut criterion);
    Comparison::new(
        "channel, from thread to thread",
        ("greenling", Box::new(across_with_ours)),
        ("std", Box::new(across_with_stds)),
    )
    .run(&mut criterion);
    Comparison::new(
        "channel, round trip between two threads",
        ("greenling", Box::new(round_trips_across_with_ours)),
        ("std", Box::new(round_trips_across_with_stds)),
    )
    .run(&mut criterion);
    criterion.final_summary();
}

/// Two coroutines send a number to and fro.
fn round_trips(count: u64) -> Duration {
    use greenling::sync::mpsc::channel;
    let (there, at_the_other) = channel();
    let (back, at_the_one) = channel();
    let other = spawn(move || {
        for n in at_the_other {
            back.send(n).expect("somebody waits for it");
        }
    });
    let one = spawn(move || {
        let begin = Instant::now();
        for n in 0..count {
            there.send(n).expect("somebody waits for it");
            assert_eq!(at_the_one.recv(), Ok(n));
        }
        begin.elapsed()
    });
    let time = one.join().expect("it does not panic");
    other.join().expect("it does not panic");
    time
}

/// The same with channels that have no room.
fn rendezvous(count: u64) -> Duration {
    use greenling::sync::mpsc::sync_channel;
    let (there, at_the_other) = sync_channel(0);
    let (back, at_the_one) = sync_channel(0);
    let other = spawn(move || {
        for n in at_the_other {
            back.send(n).expect("somebody waits for it");
        }
    });
    let one = spawn(move || {
        let begin = Instant::now();
        for n in 0..count {
            there.send(n).expect("somebody waits for it");
            assert_eq!(at_the_one.recv(), Ok(n));
        }
        begin.elapsed()
    });
    let time = one.join().expect("it does not panic");
    other.join().expect("it does not panic");
    time
}

/// Resumes two coroutines in turn, each so many times.
fn bare_pairs_of_switches() -> Timed {
    let mut coroutines = [(), ()].map(|()| {
        Coroutine::new(|yielder, mut go_on: bool| {
            while go_on {
                go_on = yielder.suspend(())
            }
        })
    });
    Box::new(move |pairs| {
        let begin = Instant::now();
        for _ in 0..pairs {
            for coroutine in &mut coroutines {
                assert!(matches!(coroutine.resume(true), CoroutineResult::Yield(())));
            }
        }
        begin.elapsed()
    })
}

/// The same program for both kinds of channels.
macro_rules! programs {
    ($mpsc:path, $in_and_out:ident, $across:ident, $round_trips_across:ident) => {
        /// A thousand messages pile up, and are taken then; so many times.
        fn $in_and_out(count: u64) -> Duration {
            use $mpsc as mpsc;
            let (sender, receiver) = mpsc::channel();
            let begin = Instant::now();
            for _ in 0..count {
                for n in 0..1000 {
                    sender.send(n).expect("the receiver is there");
                }
                for n in 0..1000 {
                    assert_eq!(receiver.recv(), Ok(n));
                }
            }
            begin.elapsed()
        }

        /// So many messages from one thread to another.
        fn $across(count: u64) -> Duration {
            use $mpsc as mpsc;
            let (sender, receiver) = mpsc::channel();
            let begin = Instant::now();
            let thread = std::thread::spawn(move || {
                (0..count).for_each(|n| sender.send(n).expect("the receiver is there"));
            });
            assert!(receiver.iter().eq(0..count));
            let time = begin.elapsed();
            thread.join().expect("it does not panic");
            time
        }

        /// Two threads send a number to and fro.
        fn $round_trips_across(count: u64) -> Duration {
            use $mpsc as mpsc;
            let (there, at_the_other) = mpsc::channel();
            let (back, at_the_one) = mpsc::channel();
            let begin = Instant::now();
            let other = std::thread::spawn(move || {
                for n in at_the_other {
                    back.send(n).expect("somebody waits for it");
                }
            });
            for n in 0..count {
                there.send(n).expect("somebody waits for it");
                assert_eq!(at_the_one.recv(), Ok(n));
            }
            let time = begin.elapsed();
            drop(there);
            other.join().expect("it does not panic");
            time
        }
    };
}

programs!(
    greenling::sync::mpsc,
    in_and_out_of_ours,
    across_with_ours,
    round_trips_across_with_ours
);
programs!(std::sync::mpsc, in_and_out_of_stds, across_with_stds, round_trips_across_with_stds);

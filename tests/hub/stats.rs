//! `hub::stats` counts what it says.

use std::io::{Read, Write};
use std::time::Duration;

use greenling::hub::{self, Config};
use greenling::io::Adapter;
use greenling::thread::{self, Builder};
use greenling::{spawn, yield_now};

use crate::child;
use crate::common::deadline;

#[test]
fn a_new_hub_has_nothing() {
    deadline(20, || {
        let stats = hub::stats();
        assert_eq!(stats, hub::Stats::default());
    });
}

#[test]
fn live_and_parked_follow_the_coroutines() {
    deadline(20, || {
        let state = || {
            let stats = hub::stats();
            (stats.spawned, stats.live, stats.parked)
        };
        let children: Vec<_> = (0..10).map(|_| spawn(thread::park)).collect();
        assert_eq!(state(), (10, 10, 0));
        yield_now();
        assert_eq!(state(), (10, 10, 10));
        children[0].thread().unpark();
        children[1].thread().unpark();
        assert_eq!(state(), (10, 10, 8));
        yield_now();
        assert_eq!(state(), (10, 8, 8));
        // Main is parked while it joins, and the one that asks is not.
        let asks = spawn(state);
        assert_eq!(asks.join().unwrap(), (11, 9, 9));
        for child in &children[2..] {
            child.thread().unpark();
        }
        children.into_iter().for_each(|child| child.join().unwrap());
        assert_eq!(state(), (11, 0, 0));
    });
}

#[test]
fn switches_are_counted() {
    deadline(20, || {
        let before = hub::stats().switches;
        let workers = [0, 1].map(|_| {
            spawn(|| {
                for _ in 0..1000 {
                    yield_now();
                }
            })
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        let switches = hub::stats().switches - before;
        assert!((2000..2200).contains(&switches), "{switches}");
    });
}

#[test]
fn timers_polls_events_and_remote_wakes_are_counted() {
    deadline(20, || {
        let sleepers: Vec<_> =
            (0..5).map(|_| spawn(|| thread::sleep(Duration::from_secs(3600)))).collect();
        yield_now();
        assert_eq!(hub::stats().timers, 5);
        for sleeper in sleepers {
            sleeper.kill();
            assert!(sleeper.join().is_err());
        }
        assert_eq!(hub::stats().timers, 0);

        let before = hub::stats();
        let (reader, mut writer) = crate::common::pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        let receiver = spawn(move || {
            for _ in 0..10 {
                assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
            }
        });
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(1));
            writer.write_all(b"x").unwrap();
        }
        receiver.join().unwrap();
        let after = hub::stats();
        assert!((10..20).contains(&(after.events - before.events)), "{before:?} {after:?}");
        assert!(after.polls - before.polls >= 10, "{before:?} {after:?}");

        let main = thread::current();
        for _ in 0..10 {
            let main = main.clone();
            let other = std::thread::spawn(move || main.unpark());
            thread::park();
            other.join().unwrap();
        }
        let wakes = hub::stats().remote_wakes - after.remote_wakes;
        assert!((1..=10).contains(&wakes), "{wakes}");
    });
}

#[test]
fn a_hub_that_has_nothing_to_do_makes_no_system_calls() {
    deadline(20, || {
        let before = hub::stats();
        thread::sleep(Duration::from_millis(50));
        let after = hub::stats();
        assert!(after.polls - before.polls <= 2, "{before:?} {after:?}");
        // SAFETY: the struct is filled by the call.
        let cpu = || unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
            usage.ru_utime.tv_usec
                + usage.ru_stime.tv_usec
                + 1_000_000 * (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        };
        let (_reader, writer) = crate::common::pipe().unwrap();
        let before = cpu();
        let mut reader = Adapter::new(_reader).unwrap();
        let waiting = spawn(move || reader.read(&mut [0]).unwrap());
        thread::sleep(Duration::from_millis(200));
        let used = cpu() - before;
        assert!(used < 50_000, "{used} µs of processor time in 200 ms of idleness");
        drop(writer);
        waiting.join().unwrap();
    });
}

#[test]
fn stacks_are_counted() {
    deadline(20, || {
        let children: Vec<_> = (0..10).map(|_| spawn(thread::park)).collect();
        let small = Builder::new().stack_size(16 * 1024).spawn(thread::park).unwrap();
        yield_now();
        let stats = hub::stats();
        assert_eq!(stats.stacks_in_use, 11);
        assert!(stats.stack_bytes_reserved >= 10 * 256 * 1024 + 16 * 1024, "{stats:?}");
        for child in children.iter().chain([&small]) {
            child.thread().unpark();
        }
        children.into_iter().chain([small]).for_each(|child| child.join().unwrap());
        let stats = hub::stats();
        assert_eq!((stats.stacks_in_use, stats.stacks_cached), (0, 11));
        hub::trim();
        assert_eq!(hub::stats().stacks_cached, 0);
        spawn(|| ()).join().unwrap();
        assert_eq!(hub::stats().stacks_cached, 1);
    });
}

#[test]
fn settings_for_later_hubs_leave_this_one_alone() {
    // For the whole process, hence in one of its own.
    let ended = child::run(child::On::MainThread, 20, || {
        fn room() -> bool {
            // More than the default.
            let mut frame = [1u8; 300 * 1024];
            std::hint::black_box(&mut frame);
            frame[5] == 1
        }
        spawn(|| ()).join().unwrap();
        let here = hub::stats().stack_bytes_reserved;
        Config::new().stack_size(1 << 20).cached_stacks(1).apply_default();
        spawn(|| ()).join().unwrap();
        assert_eq!(hub::stats().stack_bytes_reserved, here);
        std::thread::spawn(|| {
            assert!(spawn(room).join().unwrap());
            let children: Vec<_> = (0..3).map(|_| spawn(yield_now)).collect();
            children.into_iter().for_each(|child| child.join().unwrap());
            assert_eq!(hub::stats().stacks_cached, 1);
            // And this hub can have other ones again.
            Config::new().stack_size(64 * 1024).apply();
            spawn(|| ()).join().unwrap();
        })
        .join()
        .unwrap();
        std::thread::spawn(|| assert!(spawn(room).join().unwrap())).join().unwrap();
    });
    ended.succeeded();
}

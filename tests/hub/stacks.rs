//! What stacks cost, and what becomes of them.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use greenling::hub::{self, Config};
use greenling::thread::{self, Builder};
use greenling::{spawn, yield_now};

use crate::child;
use crate::common::deadline;

/// An address near the top of the calling coroutine's stack.
fn here() -> usize {
    let local = black_box(0_u8);
    black_box(&raw const local) as usize
}

/// Memory in use, in KiB, of the whole process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4
}

/// Uses this many bytes of stack below `top`. Returns the number of frames.
fn descend(top: usize, bytes: usize) -> u32 {
    let mut frame = [0_u8; 256];
    black_box(&mut frame);
    if top - (&raw const frame as usize) < bytes {
        return 1 + descend(top, bytes) + u32::from(frame[0]);
    }
    1
}

#[test]
fn the_stack_that_was_freed_last_is_used_first() {
    deadline(20, || {
        let first = spawn(here).join().unwrap();
        for _ in 0..10 {
            assert_eq!(spawn(here).join().unwrap(), first);
        }
        // Two in use at the same time: what the later one leaves is what the next one gets.
        let two = [(), ()].map(|()| {
            spawn(|| {
                let at = here();
                thread::park();
                at
            })
        });
        yield_now();
        let [a, b] = two;
        a.thread().unpark();
        let a = a.join().unwrap();
        b.thread().unpark();
        let b = b.join().unwrap();
        assert_ne!(a, b);
        let next = [(), ()].map(|()| {
            spawn(|| {
                let at = here();
                thread::park();
                at
            })
        });
        yield_now();
        next.iter().for_each(|child| child.thread().unpark());
        assert_eq!(next.map(|child| child.join().unwrap()), [b, a]);
    });
}

#[test]
fn the_tops_of_stacks_do_not_share_cache_sets() {
    deadline(20, || {
        let children: Vec<_> = (0..64)
            .map(|_| {
                spawn(|| {
                    let at = here();
                    thread::park();
                    at
                })
            })
            .collect();
        yield_now();
        children.iter().for_each(|child| child.thread().unpark());
        let mut sets: HashMap<usize, u32> = HashMap::new();
        let mut stacks = HashSet::new();
        for child in children {
            let at = child.join().unwrap();
            stacks.insert(at & !(64 * 1024 - 1));
            *sets.entry(at / 64 % 64).or_default() += 1;
        }
        assert_eq!(stacks.len(), 64, "every coroutine has a stack of its own");
        assert!(sets.len() >= 16, "64 stacks begin in {} cache sets", sets.len());
        assert!(sets.values().all(|&count| count <= 4), "{sets:?}");
    });
}

#[test]
fn frames_are_aligned_as_the_abi_wants() {
    #[repr(align(64))]
    struct Line([u8; 64]);
    deadline(20, || {
        let children: Vec<_> = (0..20)
            .map(|_| {
                spawn(|| {
                    let line = black_box(Line([1; 64]));
                    yield_now();
                    (&raw const line as usize % 64, line.0[3])
                })
            })
            .collect();
        for child in children {
            assert_eq!(child.join().unwrap(), (0, 1));
        }
    });
}

#[test]
fn a_stack_is_as_large_as_was_asked_for() {
    deadline(20, || {
        for size in [16, 17, 64, 256, 300, 1024, 8192].map(|kib| kib * 1024) {
            // A quarter is plenty for what surrounds the recursion.
            let child =
                Builder::new().stack_size(size).spawn(move || descend(here(), size / 4 * 3));
            assert!(child.unwrap().join().unwrap() > 10);
        }
        // And with the hub's default.
        Config::new().stack_size(1 << 20).apply();
        assert!(spawn(|| descend(here(), 3 << 18)).join().unwrap() > 10);
    });
}

#[test]
fn trim_gives_memory_back() {
    // The resident size is the whole process's.
    let ended = child::run(child::On::OtherThread, 60, || {
        let before = resident();
        let deep: Vec<_> = (0..200)
            .map(|_| {
                spawn(|| {
                    let mut frame = [1_u8; 128 * 1024];
                    black_box(&mut frame);
                    yield_now();
                    frame[1000]
                })
            })
            .collect();
        let sum: u32 = deep.into_iter().map(|child| u32::from(child.join().unwrap())).sum();
        assert_eq!(sum, 200);
        let peak = resident();
        assert!(peak - before > 20_000, "{before} {peak}");
        hub::trim();
        let after = resident();
        assert!(after < before + 4_000, "{before} KiB before, {peak} at the peak, {after} after");
        // The stacks are usable all the same.
        let again: Vec<_> = (0..200).map(|_| spawn(|| descend(here(), 20_000))).collect();
        assert!(again.into_iter().all(|child| child.join().unwrap() > 1));
        // Without a cache, it is given back at once.
        hub::trim();
        Config::new().cached_stacks(0).apply();
        for _ in 0..200 {
            let child = spawn(|| {
                let mut frame = [1_u8; 128 * 1024];
                black_box(&mut frame);
                frame[1000]
            });
            assert_eq!(child.join().unwrap(), 1);
        }
        assert_eq!(hub::stats().stacks_cached, 0);
        let after = resident();
        assert!(after < before + 4_000, "{before} KiB before, {after} without a cache");
    });
    ended.succeeded();
}

#[test]
fn an_idle_coroutine_costs_about_a_page() {
    let ended = child::run(child::On::OtherThread, 60, || {
        const COUNT: usize = 10_000;
        let before = resident();
        for _ in 0..COUNT {
            spawn(thread::park);
        }
        yield_now();
        let each = (resident() - before) * 1024 / COUNT;
        // A debug build's frames may need a second page.
        let most = if cfg!(debug_assertions) { 9_500 } else { 4_800 };
        assert!(each < most, "{each} bytes for each");
    });
    ended.succeeded();
}

#[test]
fn what_was_never_finished_is_never_reused() {
    deadline(30, || {
        // A thread ends with a coroutine on it that does not let itself be killed, and which another
        // thread still knows how to reach: by the pointer that it has given away.
        static SUM: AtomicU64 = AtomicU64::new(0);
        let (sender, receiver) = mpsc::channel();
        let ending = std::thread::spawn(move || {
            spawn(move || {
                let local = AtomicU64::new(0x5eed);
                sender.send(&raw const local as usize).unwrap();
                loop {
                    let _ = catch_unwind(thread::park);
                    SUM.fetch_add(local.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            });
            yield_now();
        });
        let address = receiver.recv().unwrap();
        ending.join().unwrap();
        // Others come and use as many stacks as they can.
        for _ in 0..20 {
            std::thread::spawn(|| {
                let children: Vec<_> =
                    (0..200).map(|_| spawn(|| descend(here(), 20_000))).collect();
                assert!(children.into_iter().all(|child| child.join().unwrap() > 1));
            })
            .join()
            .unwrap();
        }
        let local: *const AtomicU64 = std::ptr::with_exposed_provenance(address);
        // SAFETY: this is the promise: the frame of a coroutine that never finished stays as it is.
        assert_eq!(unsafe { &*local }.load(Ordering::Relaxed), 0x5eed);
    });
}

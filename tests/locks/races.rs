//! Threads, coroutines, kills and time limits, all at once: never two inside, nothing lost, nothing doubled.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use greenling::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Semaphore};
use greenling::{JoinHandle, sleep, spawn, timeout, yield_now};

use crate::common::deadline;

/// What all the threads share.
#[derive(Default)]
struct Shared {
    mutex: Mutex<u64>,
    /// How often the mutex was locked, counted outside of it.
    locked: AtomicU64,
    in_mutex: AtomicI64,
    lock: RwLock<u64>,
    written: AtomicU64,
    /// -1000: a writer.
    in_lock: AtomicI64,
    condvar: Condvar,
    /// Tokens to be had, under a mutex of their own.
    tokens: Mutex<u64>,
    made: AtomicU64,
    taken: AtomicU64,
    in_semaphore: AtomicI64,
}

const PERMITS: usize = 3;

/// A place that only so many may be in at a time.
struct Inside<'a>(&'a AtomicI64, i64);

impl<'a> Inside<'a> {
    fn enter(place: &'a AtomicI64, weight: i64, allowed: std::ops::RangeInclusive<i64>) -> Self {
        let before = place.fetch_add(weight, Ordering::SeqCst);
        assert!(allowed.contains(&before), "{before} are inside");
        Inside(place, weight)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}

/// A holder that is killed poisons; that is not what is tested here.
fn whole<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

fn maybe_wait(random: &mut fastrand::Rng) {
    match random.u8(..12) {
        0 => yield_now(),
        1 => sleep(Duration::from_micros(random.u64(..200))),
        _ => {}
    }
}

fn step(shared: &Shared, semaphore: &Arc<Semaphore>, random: &mut fastrand::Rng) {
    match random.u8(..8) {
        0 | 1 => {
            let mut guard: MutexGuard<'_, u64> = whole(shared.mutex.lock());
            // Counted before anything can interrupt.
            shared.locked.fetch_add(1, Ordering::SeqCst);
            *guard += 1;
            let _inside = Inside::enter(&shared.in_mutex, 1, 0..=0);
            maybe_wait(random);
        }
        2 => {
            let mut guard = whole(shared.lock.write());
            shared.written.fetch_add(1, Ordering::SeqCst);
            *guard += 1;
            let _inside = Inside::enter(&shared.in_lock, -1000, 0..=0);
            maybe_wait(random);
        }
        3 | 4 => {
            let guard = whole(shared.lock.read());
            let _inside = Inside::enter(&shared.in_lock, 1, 0..=900);
            let seen = *guard;
            maybe_wait(random);
            assert_eq!(seen, *guard);
        }
        5 => {
            let wanted = random.usize(1..=PERMITS);
            let limit = Duration::from_micros(random.u64(..300));
            let permit = match random.u8(..3) {
                0 => Some(semaphore.acquire_many(wanted)),
                1 => semaphore.acquire_many_timeout(wanted, limit),
                _ => semaphore.try_acquire_many(wanted),
            };
            if permit.is_some() {
                let most = PERMITS as i64 - wanted as i64;
                let _inside = Inside::enter(&shared.in_semaphore, wanted as i64, 0..=most);
                maybe_wait(random);
            }
        }
        6 => {
            let mut tokens = whole(shared.tokens.lock());
            shared.made.fetch_add(1, Ordering::SeqCst);
            *tokens += 1;
            shared.condvar.notify_one();
        }
        _ => {
            let limit = Duration::from_micros(random.u64(..2000));
            let guard = whole(shared.tokens.lock());
            let waited = shared.condvar.wait_timeout_while(guard, limit, |tokens| *tokens == 0);
            let (mut tokens, _) = whole(waited);
            if *tokens > 0 {
                *tokens -= 1;
                shared.taken.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// `threads` threads, the first of them without coroutines, each with `coroutines` of them, for so many steps.
fn storm(seed: u64, threads: u64, coroutines: u64, steps: u64, kills: bool) {
    let shared = Arc::new(Shared::default());
    let semaphore = Arc::new(Semaphore::bounded(PERMITS));
    let start = Arc::new(Barrier::new(threads as usize));
    let all: Vec<_> = (0..threads)
        .map(|thread| {
            let (shared, semaphore, start) = (shared.clone(), semaphore.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                let work = |number: u64| {
                    let (shared, semaphore) = (shared.clone(), semaphore.clone());
                    let mut random = fastrand::Rng::with_seed(seed ^ (thread << 32) ^ number);
                    move || {
                        for _ in 0..steps {
                            if kills && random.u8(..5) == 0 {
                                let limit = Duration::from_micros(random.u64(..200));
                                let _ = timeout(limit, || step(&shared, &semaphore, &mut random));
                            } else {
                                step(&shared, &semaphore, &mut random);
                            }
                        }
                    }
                };
                if thread == 0 {
                    return work(0)();
                }
                let handles: Vec<JoinHandle<()>> =
                    (1..=coroutines).map(|n| spawn(work(n))).collect();
                let mut random = fastrand::Rng::with_seed(seed + thread);
                for handle in handles {
                    if kills && random.u8(..3) == 0 {
                        sleep(Duration::from_micros(random.u64(..500)));
                        handle.kill();
                    }
                    if let Err(payload) = handle.join() {
                        assert!(payload.is::<greenling::Killed>(), "seed {seed}");
                    }
                }
            })
        })
        .collect();
    for thread in all {
        thread.join().unwrap_or_else(|_| panic!("seed {seed}"));
    }
    let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
    assert_eq!(
        *whole(shared.mutex.try_lock().map_err(poisoned)),
        count(&shared.locked),
        "seed {seed}"
    );
    assert_eq!(
        *whole(shared.lock.try_write().map_err(poisoned)),
        count(&shared.written),
        "seed {seed}"
    );
    let left = *whole(shared.tokens.try_lock().map_err(poisoned));
    assert_eq!(count(&shared.made), count(&shared.taken) + left, "seed {seed}");
    assert_eq!(semaphore.available_permits(), PERMITS, "seed {seed}");
    // Nobody is left in any queue: all of it can be had.
    assert!(semaphore.try_acquire_many(PERMITS).is_some(), "seed {seed}");
}

/// Everybody has gone, so that nothing may be locked.
fn poisoned<T>(error: greenling::sync::TryLockError<T>) -> PoisonError<T> {
    match error {
        greenling::sync::TryLockError::Poisoned(error) => error,
        greenling::sync::TryLockError::WouldBlock => panic!("somebody holds it still"),
    }
}

fn seed() -> u64 {
    std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..))
}

#[test]
fn one_hub() {
    let seed = seed();
    deadline(120, move || storm(seed, 2, 40, 60, true));
}

#[test]
fn several_hubs_and_a_plain_thread() {
    let seed = seed();
    deadline(120, move || storm(seed, 4, 25, 60, false));
}

#[test]
fn several_hubs_a_plain_thread_kills_and_time_limits() {
    let seed = seed();
    deadline(120, move || storm(seed, 4, 25, 60, true));
}

#[test]
#[ignore = "a soak: five minutes of the races above"]
fn soak() {
    let end = Instant::now() + Duration::from_secs(300);
    let mut seed = seed();
    while Instant::now() < end {
        seed = seed.wrapping_add(1);
        println!("seed {seed}");
        deadline(120, move || storm(seed, 5, 30, 200, seed % 3 > 0));
    }
}

/// Whether the grant or the kill comes first: one of them counts, and the next in the queue gets it in any case.
#[test]
fn a_kill_races_with_the_very_unlock_that_it_competes_with() {
    deadline(120, || {
        let mutex = Arc::new(Mutex::new(0_u64));
        for round in 0..3000 {
            let guard = whole(mutex.lock());
            let start = Arc::new(Barrier::new(2));
            let victim = spawn({
                let mutex = mutex.clone();
                move || *whole(mutex.lock()) += 1
            });
            let next = spawn({
                let mutex = mutex.clone();
                move || *whole(mutex.lock()) += 1
            });
            yield_now();
            let _ = &start;
            if round % 2 == 0 {
                drop(guard);
                victim.kill();
            } else {
                assert!(!victim.kill_timeout(Duration::ZERO) || victim.is_finished());
                drop(guard);
            }
            next.join().unwrap();
            let _ = victim.join();
            assert!(mutex.try_lock().is_ok() || mutex.is_poisoned());
        }
    });
}

/// The same between two hubs, where it is a race indeed.
#[test]
fn a_time_limit_races_with_a_grant_from_another_thread() {
    deadline(120, || {
        let semaphore = Arc::new(Semaphore::bounded(1));
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let giver = std::thread::spawn({
            let (semaphore, stop) = (semaphore.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let permit = semaphore.acquire();
                    for _ in 0..fastrand::u32(..2000) {
                        std::hint::spin_loop();
                    }
                    drop(permit);
                }
            }
        });
        let (mut had, mut missed) = (0, 0);
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            let limit = Duration::from_micros(fastrand::u64(..60));
            let result = catch_unwind(AssertUnwindSafe(|| {
                timeout(limit, || semaphore.acquire_timeout(limit).is_some())
            }));
            match result.unwrap() {
                Ok(true) => had += 1,
                _ => missed += 1,
            }
            assert!(semaphore.available_permits() <= 1);
        }
        stop.store(true, Ordering::Relaxed);
        giver.join().unwrap();
        assert_eq!(semaphore.available_permits(), 1, "{had} had it, {missed} did not");
    });
}

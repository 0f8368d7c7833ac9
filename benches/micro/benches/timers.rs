//! Sleeps and timeouts.
//!
//! Run with: `cargo bench -p greenling-micro-benches --bench timers`
//!
//! A plain program for the sleeps, since what counts there is processor time: 100,000 coroutines
//! sleep 10 ms twenty times each. Most of that is the memory that so many touch, so the reference is
//! as many bare corosensei coroutines, resumed in turn. What a timeout that never fires adds to a
//! wait is compared in turns, as elsewhere.
//!
//! The wheel by itself, with a million timers in it, is measured by a test of the kernel's:
//! `cargo test --release --lib -- --ignored --nocapture a_million_live_timers`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corosensei::{Coroutine, CoroutineResult};
use greenling::thread::{park, park_timeout, sleep};
use greenling::{spawn, yield_now};
use greenling_micro_benches::system::{BareStack, cpu_time};
use greenling_micro_benches::{Comparison, is_bench_run};

const SLEEPERS: u64 = 100_000;
const SLEEPS: u64 = 20;
const ROUNDS: usize = 5;

fn main() {
    // A timeout that never fires.
    const LONG: Duration = Duration::from_secs(60);
    Comparison::new(
        "park and unpark with a timeout, there and back",
        ("park_timeout", Box::new(|times| there_and_back(times, || park_timeout(LONG)))),
        ("park", Box::new(|times| there_and_back(times, park))),
    )
    .compare();

    if is_bench_run("sleep") {
        sleeps();
    }
}

/// Two coroutines wake each other in turn, each waiting by `wait`.
fn there_and_back(times: u64, wait: fn()) -> Duration {
    let waiting = spawn(move || {
        for _ in 0..times {
            wait();
        }
    });
    let other = waiting.thread().clone();
    let waking = spawn(move || {
        let begin = Instant::now();
        for _ in 0..times {
            other.unpark();
            yield_now();
        }
        begin.elapsed()
    });
    let elapsed = waking.join().expect("it does not panic");
    waiting.join().expect("it does not panic");
    elapsed
}

fn sleeps() {
    let mut bare = bare_switches();
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| (cpu_of_each(|| sleep(Duration::from_millis(10))), cpu_of_each(yield_now), bare()))
        .collect();
    rounds.sort_by(|a, b| (a.0 / a.2).total_cmp(&(b.0 / b.2)));
    for (sleep, switch, bare) in &rounds {
        println!("  sleep {sleep:.0} ns, yield_now {switch:.0} ns, corosensei {bare:.0} ns");
    }
    let (sleep, switch, bare) = rounds[ROUNDS / 2];
    println!(
        "sleep, {SLEEPERS} coroutines × {SLEEPS} of 10 ms: {sleep:.0} ns of processor time each, to \
         reach: 300 ns; yield_now {switch:.0} ns, corosensei {bare:.0} ns; ratio {:.2}",
        sleep / bare
    );
}

/// Processor time in nanoseconds of a bare switch among as many coroutines.
fn bare_switches() -> impl FnMut() -> f64 {
    let stacks = BareStack::many(SLEEPERS as usize).expect("there is address space");
    let mut coroutines: Vec<_> = stacks
        .into_iter()
        .map(|on| {
            Coroutine::with_stack(on, |yielder, mut go_on: bool| {
                while go_on {
                    go_on = yielder.suspend(())
                }
            })
        })
        .collect();
    let mut all = move || {
        for coroutine in &mut coroutines {
            assert!(matches!(coroutine.resume(true), CoroutineResult::Yield(())));
        }
    };
    all();
    move || {
        let begin = cpu_time();
        (0..SLEEPS).for_each(|_| all());
        (cpu_time() - begin).as_nanos() as f64 / (SLEEPERS * SLEEPS) as f64
    }
}

/// Processor time in nanoseconds that `wait` takes, with all coroutines doing it. Neither their
/// beginning nor their end is in it.
fn cpu_of_each(wait: fn()) -> f64 {
    let (done, begin, end) =
        (Rc::new(Cell::new(0)), Rc::new(Cell::default()), Rc::new(Cell::default()));
    let sleepers: Vec<_> = (0..SLEEPERS)
        .map(|_| {
            let (done, begin, end) = (Rc::clone(&done), Rc::clone(&begin), Rc::clone(&end));
            spawn(move || {
                // The first time is not counted: it touches the stack.
                wait();
                done.set(done.get() + 1);
                if done.get() == SLEEPERS {
                    begin.set(cpu_time());
                }
                (0..SLEEPS).for_each(|_| wait());
                done.set(done.get() + 1);
                if done.get() == 2 * SLEEPERS {
                    end.set(cpu_time());
                }
                park();
            })
        })
        .collect();
    while done.get() < 2 * SLEEPERS {
        sleep(Duration::from_millis(1));
    }
    for sleeper in sleepers {
        sleeper.thread().unpark();
        sleeper.join().expect("it does not panic");
    }
    (end.get() - begin.get()).as_nanos() as f64 / (SLEEPERS * SLEEPS) as f64
}

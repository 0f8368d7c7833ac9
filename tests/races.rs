//! Kills and time limits against the very wake that they compete with, for each thing that can be waited for.
//!
//! Every race has a batch of waiters. Some are killed and some run out of time while they are woken, by the same
//! hub or by another thread; the others, the survivors, are left alone. Whoever is interrupted must leave
//! everything to those who are not: no wake is lost (or a survivor hangs), nothing is given twice, nothing
//! disappears with the one that it was given to.
//!
//! `RACES=n` sets the number of races, `SEED=n` repeats one run. The soaks run a million each:
//! `cargo test --release --test races -- --ignored`.

mod common;
#[path = "races/more.rs"]
mod more;

use std::cell::{Cell, RefCell};
use std::hint::spin_loop;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc as plain};
use std::time::{Duration, Instant};

use common::deadline;
use fastrand::Rng;
use greenling::event::Event;
use greenling::queue::Queue;
use greenling::sync::{Condvar, Mutex, MutexGuard, Semaphore, mpsc};
use greenling::thread::{self, Thread};
use greenling::{JoinHandle, sleep, spawn, timeout, yield_now};

/// How many waiters there are in a round, and how many wakes.
const BATCH: usize = 32;

#[derive(Clone, Copy, PartialEq)]
enum Place {
    OneHub,
    TwoThreads,
}

#[derive(Clone, Copy)]
struct Setting {
    place: Place,
    races: usize,
    seed: u64,
}

/// What becomes of a waiter.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Killed,
    Limited(Duration),
    Survives,
}

/// The waker's part of a round.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    /// Before the waiters come.
    Prepare,
    /// The wake with this number.
    Wake(usize),
}

fn spin(rng: &mut Rng, limit: u32) {
    (0..rng.u32(..=limit)).for_each(|_| spin_loop());
}

/// How much a thread dawdles in this round.
fn pace(rng: &mut Rng) -> u32 {
    rng.choice([0, 10, 100, 400]).unwrap()
}

/// A second thread that wakes.
struct Rival {
    /// The round that it may prepare for, the one that it is prepared for, the one that it may begin, and the
    /// one that it has done.
    round: Arc<AtomicUsize>,
    ready: Arc<AtomicUsize>,
    go: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Rival {
    fn new(seed: u64, mut turn: impl FnMut(Turn) + Send + 'static) -> Rival {
        let [round, ready, go, done] = [(); 4].map(|()| Arc::new(AtomicUsize::new(0)));
        let all = (round.clone(), ready.clone(), go.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            let (round, ready, go, done) = all;
            let mut rng = Rng::with_seed(!seed);
            for next in 1.. {
                while round.load(Ordering::Acquire) < next {
                    std::thread::yield_now();
                }
                if round.load(Ordering::Acquire) == usize::MAX {
                    return;
                }
                turn(Turn::Prepare);
                ready.store(next, Ordering::Release);
                for spins in 0.. {
                    if go.load(Ordering::Acquire) >= next {
                        break;
                    }
                    // Hot, so that both begin at once; but the other may have lost its processor.
                    if spins < 20_000 { spin_loop() } else { std::thread::yield_now() }
                }
                let pace = pace(&mut rng);
                for number in 0..BATCH {
                    spin(&mut rng, pace);
                    turn(Turn::Wake(number));
                }
                done.store(next, Ordering::Release);
            }
        });
        Rival { round, ready, go, done, thread: Some(thread) }
    }

    fn prepare(&self) {
        let round = self.round.fetch_add(1, Ordering::Release) + 1;
        while self.ready.load(Ordering::Acquire) < round {
            std::thread::yield_now();
        }
    }

    /// Returns in the moment in which it begins.
    fn start(&self) {
        self.go.store(self.round.load(Ordering::Relaxed), Ordering::Release);
    }

    fn wait(&self) {
        while self.done.load(Ordering::Acquire) < self.round.load(Ordering::Relaxed) {
            yield_now();
            std::thread::yield_now();
        }
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // it may wait for what will never come
        }
        self.round.store(usize::MAX, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn fate(rng: &mut Rng) -> Fate {
    match rng.u8(..3) {
        0 => Fate::Killed,
        1 => Fate::Limited(Duration::from_nanos(rng.u64(..60_000))),
        _ => Fate::Survives,
    }
}

/// The waiters of a round, all of them in their wait.
fn waiters(wait: &Rc<impl Fn() + 'static>, rng: &mut Rng) -> Vec<(Fate, JoinHandle<bool>)> {
    let enter = |_| {
        let (fate, wait) = (fate(rng), wait.clone());
        let waiter = spawn(move || match fate {
            Fate::Limited(limit) => timeout(limit, || wait()).is_ok(),
            _ => {
                wait();
                true
            }
        });
        (fate, waiter)
    };
    let waiters = (0..BATCH).map(enter).collect();
    yield_now();
    waiters
}

/// How many waiters have got what they waited for.
fn winners(waiters: Vec<(Fate, JoinHandle<bool>)>) -> usize {
    let won = |(fate, waiter): (Fate, JoinHandle<bool>)| match waiter.join() {
        Ok(won) => {
            assert!(won || fate != Fate::Survives);
            won
        }
        Err(payload) => {
            assert!(payload.is::<greenling::Killed>() && fate == Fate::Killed);
            false
        }
    };
    waiters.into_iter().map(won).filter(|won| *won).count()
}

/// Tells the seed of a failure.
struct Tell(u64);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failure came from SEED={}", self.0);
        }
    }
}

/// Runs the races. `settle` gets the number of winners of a round.
fn race(
    setting: Setting,
    wait: impl Fn() + 'static,
    mut turn: impl FnMut(Turn) + Send + 'static,
    mut settle: impl FnMut(usize),
) {
    let _tell = Tell(setting.seed);
    let (wait, mut rng) = (Rc::new(wait), Rng::with_seed(setting.seed));
    let rounds = setting.races.div_ceil(BATCH);
    if setting.place == Place::OneHub {
        for _ in 0..rounds {
            turn(Turn::Prepare);
            let waiters = waiters(&wait, &mut rng);
            let mut victims = waiters.iter().filter(|(fate, _)| *fate == Fate::Killed);
            for number in 0..BATCH {
                let kill_first = rng.bool();
                if !kill_first {
                    turn(Turn::Wake(number));
                }
                if let Some((_, victim)) = victims.next() {
                    victim.kill_timeout(Duration::ZERO);
                }
                if kill_first {
                    turn(Turn::Wake(number));
                }
                match rng.u8(..8) {
                    0 => yield_now(),
                    1 => spin(&mut rng, 1000), // limits pass meanwhile
                    _ => {}
                }
            }
            settle(winners(waiters));
        }
        return;
    }
    let rival = Rival::new(setting.seed, turn);
    for _ in 0..rounds {
        rival.prepare();
        let waiters = waiters(&wait, &mut rng);
        rival.start();
        let pace = pace(&mut rng);
        for (_, victim) in waiters.iter().filter(|(fate, _)| *fate == Fate::Killed) {
            match rng.u8(..4) {
                0 => yield_now(),
                _ => spin(&mut rng, pace),
            }
            victim.kill_timeout(Duration::ZERO);
        }
        let won = winners(waiters);
        rival.wait();
        settle(won);
    }
}

/// For things that have to be there for all threads, for as long as the test.
fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

// ---- what is waited for -------------------------------------------------------------------------

fn a_mutex(setting: Setting) {
    struct Held(Option<MutexGuard<'static, usize>>);
    // SAFETY: made on one thread, and then used only on the one that it is moved to, where it is filled.
    unsafe impl Send for Held {}
    impl Held {
        fn turn(&mut self, mutex: &'static Mutex<usize>, turn: Turn) {
            match turn {
                Turn::Prepare => self.0 = Some(mutex.lock().unwrap()),
                Turn::Wake(0) => self.0 = None,
                Turn::Wake(_) => drop(mutex.lock().unwrap()),
            }
        }
    }
    let mutex = leak(Mutex::new(0));
    let mut held = Held(None);
    let wait = || *mutex.lock().unwrap() += 1;
    race(
        setting,
        wait,
        move |turn| held.turn(mutex, turn),
        |won| {
            let mut count = mutex.try_lock().expect("free, and not poisoned");
            assert_eq!(std::mem::take(&mut *count), won);
        },
    );
}

fn a_semaphore(setting: Setting) {
    let semaphore = leak(Semaphore::new(0));
    let turn = |turn| {
        if turn != Turn::Prepare {
            semaphore.add_permits(1).unwrap();
        }
    };
    race(
        setting,
        || semaphore.acquire().forget(),
        turn,
        |won| {
            assert_eq!(semaphore.available_permits() + won, BATCH);
            semaphore.try_acquire_many(BATCH - won).expect("just seen").forget();
        },
    );
}

fn a_condvar(setting: Setting) {
    let (tokens, condvar) = leak((Mutex::new(0), Condvar::new()));
    let wait = || *condvar.wait_while(tokens.lock().unwrap(), |left| *left == 0).unwrap() -= 1;
    let turn = |turn| {
        if turn != Turn::Prepare {
            *tokens.lock().unwrap() += 1;
            condvar.notify_one();
        }
    };
    race(setting, wait, turn, |won| {
        let mut left = tokens.try_lock().expect("free, and not poisoned");
        assert_eq!(std::mem::take(&mut *left) + won, BATCH);
    });
}

fn a_channel(setting: Setting) {
    let (sender, receiver) = mpsc::channel();
    let (receiver, got) = (Rc::new(receiver), Rc::new(RefCell::new(Vec::new())));
    let wait = {
        let (receiver, got) = (receiver.clone(), got.clone());
        move || {
            let message = receiver.recv().unwrap();
            got.borrow_mut().push(message);
        }
    };
    let turn = move |turn| {
        if let Turn::Wake(number) = turn {
            sender.send(number).unwrap();
        }
    };
    race(setting, wait, turn, |won| {
        let mut all = got.take();
        assert_eq!(all.len(), won);
        all.extend(receiver.try_iter());
        all.sort_unstable();
        assert!(all.into_iter().eq(0..BATCH), "a message is lost or doubled");
    });
}

fn a_get(setting: Setting) {
    let queue = leak(Queue::new());
    let got = Rc::new(RefCell::new(Vec::new()));
    let items = got.clone();
    let wait = move || {
        let item = queue.get().unwrap();
        items.borrow_mut().push(item);
    };
    let turn = |turn| {
        if let Turn::Wake(number) = turn {
            queue.put(number).unwrap();
        }
    };
    race(setting, wait, turn, |won| {
        let mut all = got.take();
        assert_eq!(all.len(), won);
        all.extend(queue.drain());
        all.sort_unstable();
        assert!(all.into_iter().eq(0..BATCH), "an item is lost or doubled");
    });
}

fn a_put(setting: Setting) {
    let (queue, taken) = leak((Queue::bounded(0), Queue::new()));
    let put = Rc::new(RefCell::new(Vec::new()));
    let (items, next) = (put.clone(), Cell::new(0));
    let wait = move || {
        let item = next.replace(next.get() + 1);
        queue.put(item).unwrap();
        items.borrow_mut().push(item);
    };
    let turn = |turn| {
        if let (Turn::Wake(_), Ok(item)) = (turn, queue.try_get()) {
            taken.put(item).unwrap();
        }
    };
    race(setting, wait, turn, |won| {
        let (mut put, mut taken) = (put.take(), taken.drain());
        assert_eq!(put.len(), won);
        put.sort_unstable();
        taken.sort_unstable();
        assert_eq!(put, taken, "what was put is not what was taken");
    });
}

/// All who wait go on, even if the event is cleared at once.
fn an_event(setting: Setting) {
    let event = leak(Event::new());
    let turn = |turn| match turn {
        Turn::Wake(0) => event.set(),
        Turn::Wake(1) => event.clear(),
        _ => {}
    };
    race(setting, || event.wait(), turn, |_| assert!(!event.is_set()));
}

/// Every result goes to whoever joins, or is dropped.
fn a_join(setting: Setting) {
    let (hand_over, handles) = plain::channel::<JoinHandle<Arc<()>>>();
    let result = Arc::new(());
    let own = result.clone();
    let mut children: Vec<Thread> = Vec::new();
    let turn = move |turn| match turn {
        Turn::Prepare => {
            let child = |_| {
                let result = own.clone();
                let handle = spawn(move || {
                    thread::park();
                    result
                });
                let child = handle.thread().clone();
                hand_over.send(handle).unwrap();
                child
            };
            children = (0..BATCH).map(child).collect();
            yield_now();
        }
        Turn::Wake(number) => {
            children[number].unpark();
            yield_now();
        }
    };
    let wait = move || drop(handles.recv().unwrap().join().unwrap());
    // One is ours and one the waker's.
    race(setting, wait, turn, |_| {
        yield_now();
        assert_eq!(Arc::strong_count(&result), 2, "a result is lost or doubled");
    });
}

/// Here the wake is the clock's.
fn a_sleep(setting: Setting) {
    let rng = RefCell::new(Rng::with_seed(setting.seed));
    let wait = move || {
        let pause = Duration::from_nanos(rng.borrow_mut().u64(1..60_000));
        let began = Instant::now();
        sleep(pause);
        assert!(began.elapsed() >= pause);
    };
    race(setting, wait, |_| (), |_| ());
}

// ---- the tests ----------------------------------------------------------------------------------

fn run(place: Place, races: usize, secs: u64, test: fn(Setting)) {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().unwrap());
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    let races = number("RACES").map_or(races, |races| races as usize);
    deadline(secs, move || test(Setting { place, races, seed }));
}

macro_rules! races {
    ($($test:ident),*) => {
        mod on_one_hub {
            $(#[test] fn $test() { super::run(super::Place::OneHub, 20_000, 120, super::$test); })*
        }
        mod between_threads {
            $(#[test] fn $test() { super::run(super::Place::TwoThreads, 6_000, 120, super::$test); })*
        }
        mod soak {
            $(
                #[test]
                #[ignore = "a soak: a million races on one hub, and a million between two threads"]
                fn $test() {
                    super::run(super::Place::OneHub, 1_000_000, 1800, super::$test);
                    super::run(super::Place::TwoThreads, 1_000_000, 1800, super::$test);
                }
            )*
        }
    };
}

use more::*;

races!(
    a_mutex,
    a_rwlock,
    a_semaphore,
    a_condvar,
    a_channel,
    a_get,
    a_put,
    a_select,
    an_event,
    a_result,
    a_join,
    an_end,
    a_join_of_a_queue,
    a_slot,
    a_group,
    a_sleep,
    a_park,
    a_future,
    a_read
);

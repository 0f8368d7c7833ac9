//! What is waited for in `sync` and `event` against a model of what it promises: random programs of locking and
//! unlocking, taking and giving, kills and time limits, one step at a time. After each step the model says exactly
//! who has gone on, in which order, and who still waits.
//!
//! Every failure tells the seed that it came from; `SYNC_SEED=n` runs that one alone, `SYNC_PROGRAMS=n` says how many
//! programs there are of each kind.

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use common::deadline;
use fastrand::Rng;
use greenling::event::Event;
use greenling::queue::Queue;
use greenling::sync::{Barrier, Condvar, Mutex, ReentrantMutex, RwLock, Semaphore};
use greenling::{JoinHandle, Killed, spawn, timeout, yield_now};

/// A coroutine of a program. Each is numbered by the step in which it began.
type Who = usize;

/// How a wait has ended that got nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Elapsed,
    Killed,
}

/// Who has gone on in a step, in that order, except for those who were killed or ran out of time: when those go on
/// is nobody's promise.
#[derive(Debug, Default, PartialEq)]
struct Step {
    /// With how much of it, or what it was told.
    got: Vec<(Who, usize)>,
    ended: BTreeMap<Who, End>,
}

/// What every thing that is waited for has to offer to the programs.
trait Thing {
    /// In words, for a failure.
    const NAME: &'static str;
    type Model: Model;

    fn new(rng: &mut Rng) -> (Self, Self::Model)
    where
        Self: Sized;

    /// Waits as asked, tells `got` of it, and holds what it has until it is told to `let_go`.
    fn wait(&self, wish: usize, got: &dyn Fn(usize), let_go: &dyn Fn());

    /// Something that does not wait. `what` is what the model has chosen.
    fn act(&self, what: usize);

    /// What can be seen from outside, to be compared with the model's.
    fn state(&self) -> String;
}

trait Model {
    /// What somebody who comes now may wish for.
    fn wish(&self, rng: &mut Rng) -> usize;
    /// Somebody comes.
    fn come(&mut self, who: Who, wish: usize, step: &mut Step);
    /// Somebody who waits gives up.
    fn give_up(&mut self, who: Who, step: &mut Step);
    /// Somebody who holds something lets go.
    fn let_go(&mut self, who: Who, step: &mut Step);
    /// What is to be done that does not wait.
    fn act(&mut self, rng: &mut Rng, step: &mut Step) -> Option<usize>;
    fn waiting(&self) -> Vec<Who>;
    fn holding(&self) -> Vec<Who>;
    fn state(&self) -> String;
    /// Whether those who are left at the end can go on by letting go alone.
    fn ends_by_itself(&self) -> bool {
        true
    }
}

// ---- the programs -------------------------------------------------------------------------------

/// What `Step::got` is to be.
type Log = RefCell<Vec<(Who, usize)>>;

struct World<T> {
    thing: Rc<T>,
    log: Rc<Log>,
    running: BTreeMap<Who, (JoinHandle<bool>, Rc<Queue<()>>)>,
}

impl<T: Thing + 'static> World<T> {
    fn start(&mut self, who: Who, wish: usize, limit: Option<Duration>) {
        let (thing, log, go) = (self.thing.clone(), self.log.clone(), Rc::new(Queue::new()));
        let let_go = go.clone();
        let body = move || {
            let got = Rc::new(RefCell::new(false));
            let wait = || {
                let tell = |what| {
                    log.borrow_mut().push((who, what));
                    *got.borrow_mut() = true;
                };
                // The limit is for the wait: who holds something, holds it.
                let hold = || greenling::time::shield(|| let_go.get().unwrap());
                thing.wait(wish, &tell, &hold);
            };
            match limit {
                Some(limit) => timeout(limit, wait).is_ok() || *got.borrow(),
                None => {
                    wait();
                    true
                }
            }
        };
        self.running.insert(who, (spawn(body), go));
    }

    /// Lets everything happen that can.
    fn settle(&mut self) -> Step {
        for _ in 0..4 {
            yield_now();
        }
        let done = |(_, (handle, _)): &(&Who, &(JoinHandle<bool>, _))| handle.is_finished();
        let finished: Vec<Who> = self.running.iter().filter(done).map(|(who, _)| *who).collect();
        let mut step = Step { got: self.log.take(), ended: BTreeMap::new() };
        for who in finished {
            match self.running.remove(&who).unwrap().0.join() {
                Ok(true) => {}
                Ok(false) => drop(step.ended.insert(who, End::Elapsed)),
                Err(payload) => {
                    assert!(payload.is::<Killed>(), "a panic in {who}");
                    step.ended.insert(who, End::Killed);
                }
            }
        }
        step
    }
}

fn run_program<T: Thing + 'static>(steps: usize, rng: &mut Rng) {
    let (thing, mut model) = T::new(rng);
    let mut world = World { thing: Rc::new(thing), log: Rc::default(), running: BTreeMap::new() };
    // Those who come and those who go prevail in turn, so that queues grow and become empty.
    let mut comers = 50;
    for number in 0..steps {
        if number % 40 == 0 {
            comers = rng.u32(20..80);
        }
        let mut expected = Step::default();
        match rng.u32(..100) {
            n if n < 12 => {
                if let Some(&who) = rng.choice(&model.waiting()) {
                    world.running[&who].0.kill();
                    model.give_up(who, &mut expected);
                    expected.ended.insert(who, End::Killed);
                }
            }
            n if n < 24 => {
                // A limit that has passed when the wait begins.
                let wish = model.wish(rng);
                world.start(number, wish, Some(Duration::ZERO));
                model.come(number, wish, &mut expected);
                if model.waiting().contains(&number) {
                    model.give_up(number, &mut expected);
                    expected.ended.insert(number, End::Elapsed);
                    while !world.running[&number].0.is_finished() {
                        greenling::sleep(Duration::from_micros(1));
                    }
                }
            }
            n if n < 40 => {
                if let Some(what) = model.act(rng, &mut expected) {
                    world.thing.act(what);
                }
            }
            n if n % 60 < comers * 60 / 100 => {
                let wish = model.wish(rng);
                world.start(number, wish, None);
                model.come(number, wish, &mut expected);
            }
            _ => {
                if let Some(&who) = rng.choice(&model.holding()) {
                    world.running[&who].1.put(()).unwrap();
                    model.let_go(who, &mut expected);
                }
            }
        }
        assert_eq!(world.settle(), expected, "{}, in step {number}", T::NAME);
        assert_eq!(world.thing.state(), model.state(), "{}, in step {number}", T::NAME);
        let mut there = [model.waiting(), model.holding()].concat();
        there.sort_unstable();
        assert_eq!(world.running.keys().copied().collect::<Vec<_>>(), there);
    }
    // Everybody can go home.
    while !world.running.is_empty() {
        let mut expected = Step::default();
        match (model.holding().first().copied(), model.waiting().first().copied()) {
            (Some(who), _) => {
                world.running[&who].1.put(()).unwrap();
                model.let_go(who, &mut expected);
            }
            (None, Some(who)) => {
                assert!(!model.ends_by_itself(), "somebody waits for what nobody holds");
                world.running[&who].0.kill();
                model.give_up(who, &mut expected);
                expected.ended.insert(who, End::Killed);
            }
            (None, None) => unreachable!("the model knows all who are there"),
        }
        assert_eq!(world.settle(), expected, "{}, at the end", T::NAME);
    }
}

fn run_programs<T: Thing + 'static>() {
    struct Tell(u64);
    impl Drop for Tell {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the failure came from SYNC_SEED={}", self.0);
            }
        }
    }
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().unwrap());
    let programs = number("SYNC_PROGRAMS").unwrap_or(60);
    deadline(120 + programs / 10, move || {
        let run = |seed: u64| {
            let _tell = Tell(seed);
            run_program::<T>(300, &mut Rng::with_seed(seed));
        };
        match number("SYNC_SEED") {
            Some(seed) => run(seed),
            None => (0..programs).for_each(|_| run(fastrand::u64(..))),
        }
    });
}

// ---- locks --------------------------------------------------------------------------------------

/// Readers and writers, served in the order in which they came. A mutex is one that is only written to.
#[derive(Default)]
struct Locked {
    may_read: bool,
    queue: VecDeque<(Who, bool)>,
    writer: Option<Who>,
    readers: Vec<Who>,
}

const READ: usize = 0;
const WRITE: usize = 1;

impl Locked {
    fn admit(&mut self, step: &mut Step) {
        while let Some(&(who, writes)) = self.queue.front() {
            if self.writer.is_some() || (writes && !self.readers.is_empty()) {
                return;
            }
            self.queue.pop_front();
            if writes {
                self.writer = Some(who);
            } else {
                self.readers.push(who);
            }
            step.got.push((who, usize::from(writes)));
        }
    }
}

impl Model for Locked {
    fn wish(&self, rng: &mut Rng) -> usize {
        if self.may_read && rng.u8(..3) > 0 { READ } else { WRITE }
    }

    fn come(&mut self, who: Who, wish: usize, step: &mut Step) {
        self.queue.push_back((who, wish == WRITE));
        self.admit(step);
    }

    fn give_up(&mut self, who: Who, step: &mut Step) {
        self.queue.retain(|(waiter, _)| *waiter != who);
        self.admit(step);
    }

    fn let_go(&mut self, who: Who, step: &mut Step) {
        self.readers.retain(|reader| *reader != who);
        self.writer = self.writer.filter(|writer| *writer != who);
        self.admit(step);
    }

    fn act(&mut self, _: &mut Rng, _: &mut Step) -> Option<usize> {
        None
    }

    fn waiting(&self) -> Vec<Who> {
        self.queue.iter().map(|(who, _)| *who).collect()
    }

    fn holding(&self) -> Vec<Who> {
        self.writer.iter().chain(&self.readers).copied().collect()
    }

    fn state(&self) -> String {
        let can_write = self.writer.is_none() && self.readers.is_empty();
        // Nobody overtakes one who waits.
        let can_read = self.may_read && self.writer.is_none() && self.queue.is_empty();
        format!("{can_read} {can_write}")
    }
}

impl Thing for Mutex<()> {
    const NAME: &'static str = "a mutex";
    type Model = Locked;

    fn new(_: &mut Rng) -> (Self, Locked) {
        (Mutex::new(()), Locked::default())
    }

    fn wait(&self, _: usize, got: &dyn Fn(usize), let_go: &dyn Fn()) {
        let _guard = self.lock().unwrap();
        got(WRITE);
        let_go();
    }

    fn act(&self, _: usize) {}

    fn state(&self) -> String {
        format!("false {}", self.try_lock().is_ok())
    }
}

impl Thing for ReentrantMutex<()> {
    const NAME: &'static str = "a reentrant mutex";
    type Model = Locked;

    fn new(_: &mut Rng) -> (Self, Locked) {
        (ReentrantMutex::new(()), Locked::default())
    }

    fn wait(&self, _: usize, got: &dyn Fn(usize), let_go: &dyn Fn()) {
        let _guard = self.lock();
        let again = self.lock();
        got(WRITE);
        drop(again);
        let_go();
    }

    fn act(&self, _: usize) {}

    fn state(&self) -> String {
        format!("false {}", self.try_lock().is_some())
    }
}

impl Thing for RwLock<()> {
    const NAME: &'static str = "a rwlock";
    type Model = Locked;

    fn new(_: &mut Rng) -> (Self, Locked) {
        (RwLock::new(()), Locked { may_read: true, ..Locked::default() })
    }

    fn wait(&self, wish: usize, got: &dyn Fn(usize), let_go: &dyn Fn()) {
        if wish == READ {
            let _guard = self.read().unwrap();
            got(READ);
            let_go();
        } else {
            let _guard = self.write().unwrap();
            got(WRITE);
            let_go();
        }
    }

    fn act(&self, _: usize) {}

    fn state(&self) -> String {
        let can_read = self.try_read().is_ok();
        let can_write = self.try_write().is_ok();
        format!("{can_read} {can_write}")
    }
}

// ---- semaphore ----------------------------------------------------------------------------------

#[derive(Default)]
struct Permits {
    there: usize,
    held: BTreeMap<Who, usize>,
    queue: VecDeque<(Who, usize)>,
}

impl Permits {
    fn admit(&mut self, step: &mut Step) {
        while let Some(&(who, wanted)) = self.queue.front().filter(|(_, n)| *n <= self.there) {
            self.queue.pop_front();
            self.there -= wanted;
            self.held.insert(who, wanted);
            step.got.push((who, wanted));
        }
    }
}

impl Model for Permits {
    fn wish(&self, rng: &mut Rng) -> usize {
        rng.usize(1..=4)
    }

    fn come(&mut self, who: Who, wish: usize, step: &mut Step) {
        self.queue.push_back((who, wish));
        self.admit(step);
    }

    fn give_up(&mut self, who: Who, step: &mut Step) {
        self.queue.retain(|(waiter, _)| *waiter != who);
        self.admit(step);
    }

    fn let_go(&mut self, who: Who, step: &mut Step) {
        self.there += self.held.remove(&who).unwrap();
        self.admit(step);
    }

    /// Adds some, or takes some off that nobody waits for.
    fn act(&mut self, rng: &mut Rng, step: &mut Step) -> Option<usize> {
        if self.there > 4 && self.queue.is_empty() {
            self.there -= 4;
            return Some(0);
        }
        let added = rng.usize(1..=2);
        self.there += added;
        self.admit(step);
        Some(added)
    }

    fn waiting(&self) -> Vec<Who> {
        self.queue.iter().map(|(who, _)| *who).collect()
    }

    fn holding(&self) -> Vec<Who> {
        self.held.keys().copied().collect()
    }

    fn state(&self) -> String {
        format!("{} {}", self.there, self.there > 0 && self.queue.is_empty())
    }

    fn ends_by_itself(&self) -> bool {
        false // there may be fewer than somebody wants
    }
}

impl Thing for Semaphore {
    const NAME: &'static str = "a semaphore";
    type Model = Permits;

    fn new(rng: &mut Rng) -> (Self, Permits) {
        let there = rng.usize(..4);
        (Semaphore::new(there), Permits { there, ..Permits::default() })
    }

    fn wait(&self, wish: usize, got: &dyn Fn(usize), let_go: &dyn Fn()) {
        let permit = self.acquire_many(wish);
        got(permit.permits());
        let_go();
    }

    fn act(&self, added: usize) {
        match added {
            0 => self.try_acquire_many(4).expect("there are more").forget(),
            _ => self.add_permits(added).unwrap(),
        }
    }

    fn state(&self) -> String {
        format!("{} {}", self.available_permits(), self.try_acquire().is_some())
    }
}

// ---- event, condvar, barrier ----------------------------------------------------------------------

/// Those who wait to be told something. Nobody holds anything.
#[derive(Default)]
struct Told {
    queue: VecDeque<Who>,
    kind: Kind,
    set: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Kind {
    #[default]
    Event,
    Condvar,
    /// For so many.
    Barrier(usize),
}

const ALL: usize = 0;
const ONE: usize = 1;
const CLEAR: usize = 2;
const ALL_AND_CLEAR: usize = 3;

impl Told {
    fn tell(&mut self, count: usize, step: &mut Step) {
        let count = count.min(self.queue.len());
        step.got.extend(self.queue.drain(..count).map(|who| (who, 0)));
    }
}

impl Model for Told {
    fn wish(&self, _: &mut Rng) -> usize {
        0
    }

    fn come(&mut self, who: Who, _: usize, step: &mut Step) {
        if self.set {
            step.got.push((who, 0));
            return;
        }
        if self.kind == Kind::Barrier(self.queue.len() + 1) {
            // The last one leads, and does not wait.
            step.got.push((who, 1));
            self.tell(usize::MAX, step);
            return;
        }
        self.queue.push_back(who);
    }

    fn give_up(&mut self, who: Who, _: &mut Step) {
        self.queue.retain(|waiter| *waiter != who);
    }

    fn let_go(&mut self, _: Who, _: &mut Step) {
        unreachable!("nobody holds anything");
    }

    fn act(&mut self, rng: &mut Rng, step: &mut Step) -> Option<usize> {
        let what = match self.kind {
            Kind::Event => rng.choice([ALL, CLEAR, CLEAR, ALL_AND_CLEAR])?,
            Kind::Condvar => rng.choice([ALL, ONE, ONE, ONE])?,
            Kind::Barrier(_) => return None,
        };
        match what {
            CLEAR => self.set = false,
            ONE => self.tell(1, step),
            _ => {
                // One that is set already has nobody who waits.
                self.tell(usize::MAX, step);
                self.set = self.kind == Kind::Event && what == ALL;
            }
        }
        Some(what)
    }

    fn waiting(&self) -> Vec<Who> {
        self.queue.iter().copied().collect()
    }

    fn holding(&self) -> Vec<Who> {
        Vec::new()
    }

    fn state(&self) -> String {
        format!("{}", self.set)
    }

    fn ends_by_itself(&self) -> bool {
        false
    }
}

impl Thing for Event {
    const NAME: &'static str = "an event";
    type Model = Told;

    fn new(_: &mut Rng) -> (Self, Told) {
        (Event::new(), Told::default())
    }

    fn wait(&self, _: usize, got: &dyn Fn(usize), _: &dyn Fn()) {
        self.wait();
        got(0);
    }

    fn act(&self, what: usize) {
        if what != CLEAR {
            self.set();
        }
        if what != ALL {
            self.clear();
        }
    }

    fn state(&self) -> String {
        format!("{}", self.is_set())
    }
}

impl Thing for (Mutex<()>, Condvar) {
    const NAME: &'static str = "a condvar";
    type Model = Told;

    fn new(_: &mut Rng) -> (Self, Told) {
        let model = Told { kind: Kind::Condvar, ..Told::default() };
        ((Mutex::new(()), Condvar::new()), model)
    }

    fn wait(&self, _: usize, got: &dyn Fn(usize), _: &dyn Fn()) {
        let _guard = self.1.wait(self.0.lock().unwrap()).unwrap();
        got(0);
    }

    fn act(&self, what: usize) {
        match what {
            ONE => self.1.notify_one(),
            _ => self.1.notify_all(),
        }
    }

    fn state(&self) -> String {
        assert!(
            self.0.try_lock().is_ok(),
            "who waits has let go of the mutex, and poisons nothing"
        );
        "false".to_owned()
    }
}

impl Thing for Barrier {
    const NAME: &'static str = "a barrier";
    type Model = Told;

    fn new(rng: &mut Rng) -> (Self, Told) {
        let count = rng.usize(1..6);
        (Barrier::new(count), Told { kind: Kind::Barrier(count), ..Told::default() })
    }

    fn wait(&self, _: usize, got: &dyn Fn(usize), _: &dyn Fn()) {
        got(usize::from(self.wait().is_leader()));
    }

    fn act(&self, _: usize) {}

    fn state(&self) -> String {
        "false".to_owned()
    }
}

// ---- the tests ----------------------------------------------------------------------------------

#[test]
fn a_mutex_does_what_the_model_says() {
    run_programs::<Mutex<()>>();
}

#[test]
fn a_reentrant_mutex_does_what_the_model_says() {
    run_programs::<ReentrantMutex<()>>();
}

#[test]
fn a_rwlock_does_what_the_model_says() {
    run_programs::<RwLock<()>>();
}

#[test]
fn a_semaphore_does_what_the_model_says() {
    run_programs::<Semaphore>();
}

#[test]
fn an_event_does_what_the_model_says() {
    run_programs::<Event>();
}

#[test]
fn a_condvar_does_what_the_model_says() {
    run_programs::<(Mutex<()>, Condvar)>();
}

#[test]
fn a_barrier_does_what_the_model_says() {
    run_programs::<Barrier>();
}

//! Random programs of greenlets, generators and coroutines: whatever they do to each other, nothing is lost,
//! nothing ends twice, and everybody can be ended in the end.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use fastrand::Rng;
use greenling::error::KillError;
use greenling::generator::Generator;
use greenling::greenlet::{Greenlet, State, SwitchError};
use greenling::{spawn, yield_now};

use crate::common::deadline;

/// What the greenlets of one program share.
struct World {
    random: RefCell<Rng>,
    /// Some of them, by handles that come and go.
    handles: RefCell<Vec<Greenlet<u32>>>,
    /// All of them, if nobody is to be dropped before the end.
    all: Option<RefCell<Vec<Greenlet<u32>>>>,
    /// Guards that live on some stack.
    guards: Cell<i32>,
    /// Whether destructors switch.
    wild: bool,
    steps: Cell<u32>,
}

/// Counts itself, and in a wild world does more than destructors should.
struct Guard(Rc<World>);

impl Guard {
    fn new(world: &Rc<World>) -> Guard {
        world.guards.set(world.guards.get() + 1);
        Guard(world.clone())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.guards.set(self.0.guards.get() - 1);
        if self.0.wild && self.0.below(4) == 0 {
            let target = self.0.pick();
            // It may return an error. It must not unwind out of here, but it may be left here.
            let _ = catch_unwind(AssertUnwindSafe(|| target.switch(0).map(|_| ())));
        }
    }
}

impl World {
    fn new(seed: u64, keep: bool, wild: bool) -> Rc<World> {
        Rc::new(World {
            random: RefCell::new(Rng::with_seed(seed)),
            handles: RefCell::default(),
            all: keep.then(RefCell::default),
            guards: Cell::new(0),
            wild,
            steps: Cell::new(0),
        })
    }

    fn below(&self, limit: usize) -> usize {
        self.random.borrow_mut().usize(..limit)
    }

    fn pick(&self) -> Greenlet<u32> {
        let handles = self.handles.borrow();
        match self.random.borrow_mut().usize(..=handles.len()) {
            n if n < handles.len() => handles[n].clone(),
            _ => Greenlet::base(),
        }
    }

    fn add(self: &Rc<World>) {
        let world = self.clone();
        let guard = Guard::new(self);
        let greenlet = Greenlet::new(move |n| {
            let _guard = guard;
            world.live(n)
        });
        if let Some(all) = &self.all {
            all.borrow_mut().push(greenlet.clone());
        }
        self.handles.borrow_mut().push(greenlet);
    }

    fn remove(&self) {
        let mut handles = self.handles.borrow_mut();
        if handles.len() > 1 {
            let n = self.random.borrow_mut().usize(..handles.len());
            let handle = handles.swap_remove(n);
            drop(handles); // its end may come right here
            drop(handle);
        }
    }

    /// What a greenlet does until it ends.
    fn live(self: &Rc<World>, mut n: u32) -> u32 {
        let _guard = Guard::new(self);
        while self.step() {
            match self.below(12) {
                0 => return n,
                1 => resume_unwind(Box::new(n)),
                2 => {
                    let caught = catch_unwind(AssertUnwindSafe(|| self.act(n)));
                    n = caught.unwrap_or(0);
                }
                3 => n = self.inside_of_a_generator(n),
                _ => n = self.act(n),
            }
        }
        n
    }

    fn step(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        self.steps.get() < 400
    }

    fn act(self: &Rc<World>, n: u32) -> u32 {
        match self.below(14) {
            0 => self.add(),
            1 => self.remove(),
            2 => drop(self.pick().set_parent(&self.pick())),
            3 => yield_now(),
            4 => {
                if let Ok(n) = self.pick().throw(Box::new(n)) {
                    return n;
                }
            }
            5 => {
                if let Err(KillError::Survived(Some(n))) = self.pick().kill() {
                    return n;
                }
            }
            _ => return self.switch(n),
        }
        n
    }

    fn switch(&self, n: u32) -> u32 {
        match self.pick().switch(n + 1) {
            Ok(n) => n,
            Err(SwitchError::Killed) => 0,
            Err(error) => error.into_inner().unwrap(),
        }
    }

    fn inside_of_a_generator(self: &Rc<World>, n: u32) -> u32 {
        let world = self.clone();
        let mut generator = Generator::new(move |out, mut n: u32| {
            let _guard = Guard::new(&world);
            for _ in 0..world.below(4) {
                n = world.act(n);
                n = out.yield_(n);
            }
            n
        });
        let mut last = n;
        for _ in 0..self.below(4) {
            match generator.send(last) {
                Ok(n) => last = n,
                Err(_) => return generator.take_return().unwrap(),
            }
        }
        last
    }

    /// What the base does: until the steps are used up, whatever happens.
    fn drive(self: &Rc<World>) {
        while self.step() {
            let _ = catch_unwind(AssertUnwindSafe(|| self.act(0)));
        }
    }
}

/// Several coroutines share a world, each with a base of its own. Returns the guards that are left.
fn program(seed: u64, keep: bool, wild: bool) -> i32 {
    let world = World::new(seed, keep, wild);
    for _ in 0..4 {
        world.add();
    }
    let coroutines: Vec<_> = (0..3)
        .map(|_| {
            let world = world.clone();
            spawn(move || world.drive())
        })
        .collect();
    world.drive();
    for coroutine in coroutines {
        // In a wild world one may be waiting in a destructor of somebody who is never resumed.
        coroutine.join().unwrap();
    }
    world.steps.set(1000);
    if let Some(all) = &world.all {
        for greenlet in all.take() {
            end(&greenlet);
            assert_eq!(greenlet.state(), State::Dead);
        }
    }
    // Dropped outside of the borrow.
    drop(world.handles.take());
    world.guards.get()
}

/// Ends a greenlet, even if it catches a kill or is in the middle of unwinding.
fn end(greenlet: &Greenlet<u32>) {
    for _ in 0..1000 {
        let step = AssertUnwindSafe(|| {
            if let Err(KillError::Unwinding) = greenlet.kill() {
                drop(greenlet.switch(0));
            }
        });
        let _ = catch_unwind(step);
        if greenlet.is_dead() {
            return;
        }
    }
    panic!("{greenlet:?} does not end");
}

#[test]
fn nothing_is_lost_when_all_are_killed() {
    deadline(120, || {
        for seed in 0..150 {
            assert_eq!(program(seed, true, false), 0, "seed {seed}");
            assert!(!std::thread::panicking(), "seed {seed}");
        }
    });
}

#[test]
fn drops_may_come_at_any_time() {
    deadline(120, || {
        for seed in 0..150 {
            // Handles on stacks may form cycles, which leak as those of `Rc` do.
            assert!(program(seed, false, false) >= 0, "seed {seed}");
            assert!(!std::thread::panicking(), "seed {seed}");
        }
    });
}

#[test]
fn destructors_may_switch() {
    for seed in 0..100 {
        // Each on a thread of its own: one that is left in the middle of unwinding leaves its mark there.
        deadline(60, move || {
            assert!(program(seed, seed % 2 == 0, true) >= 0, "seed {seed}");
        });
    }
}

//! Random programs on one hub, one step at a time. After each step the model says exactly who has
//! finished, and with what.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use greenling::error::Killed;
use greenling::queue::{
    GetError, GetTimeoutError, LifoQueue, PriorityQueue, PutError, PutTimeoutError, Queue,
    TryGetError, TryPutError,
};
use greenling::{JoinHandle, spawn, yield_now};

use super::with_seeds;
use crate::common::deadline;

/// Priority and number: compared by the first alone, so that the order among equals can be seen.
#[derive(Clone, Copy, Debug)]
struct Item(u8, u32);

impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        self.0 == other.0
    }
}
impl Eq for Item {}
impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Item) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Item {
    fn cmp(&self, other: &Item) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// What the three kinds have in common.
enum AnyQueue {
    Fifo(Queue<Item>),
    Lifo(LifoQueue<Item>),
    Priority(PriorityQueue<Item>),
}

macro_rules! delegate {
    ($($name:ident($($argument:ident: $Type:ty),*) -> $Result:ty;)*) => {
        impl AnyQueue {
            $(fn $name(&self $(, $argument: $Type)*) -> $Result {
                match self {
                    AnyQueue::Fifo(queue) => queue.$name($($argument),*),
                    AnyQueue::Lifo(queue) => queue.$name($($argument),*),
                    AnyQueue::Priority(queue) => queue.$name($($argument),*),
                }
            })*
        }
    };
}

delegate! {
    put(item: Item) -> Result<(), PutError<Item>>;
    try_put(item: Item) -> Result<(), TryPutError<Item>>;
    put_timeout(item: Item, timeout: Duration) -> Result<(), PutTimeoutError<Item>>;
    get() -> Result<Item, GetError>;
    try_get() -> Result<Item, TryGetError>;
    get_timeout(timeout: Duration) -> Result<Item, GetTimeoutError>;
    peek() -> Result<Item, GetError>;
    try_peek() -> Result<Item, TryGetError>;
    len() -> usize;
    is_full() -> bool;
    is_closed() -> bool;
    close() -> ();
    drain() -> Vec<Item>;
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Fifo,
    Lifo,
    Priority,
}

/// How an operation has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Put,
    Got(u32),
    Closed,
    /// With the item that came back, if it was a put.
    Refused(Option<u32>),
    Timeout(Option<u32>),
    ClosedPut(u32),
    Killed,
}

/// What a queue promises, without any concurrency.
struct Model {
    kind: Kind,
    capacity: usize,
    closed: bool,
    items: Vec<Item>,
    getters: VecDeque<usize>,
    putters: VecDeque<(usize, Item)>,
    peekers: Vec<usize>,
    /// Who has finished in this step.
    ended: BTreeMap<usize, End>,
}

impl Model {
    /// The place of the item that leaves next.
    fn next(&self) -> Option<usize> {
        match self.kind {
            Kind::Fifo => (!self.items.is_empty()).then_some(0),
            Kind::Lifo => self.items.len().checked_sub(1),
            Kind::Priority => {
                let key = |&(place, item): &(usize, &Item)| (item.0, place);
                self.items.iter().enumerate().min_by_key(key).map(|(place, _)| place)
            }
        }
    }

    fn store(&mut self, item: Item) {
        self.items.push(item);
        // Those who peek see it before anybody takes it: nobody waits for it.
        let next = self.items[self.next().unwrap()].1;
        for peeker in std::mem::take(&mut self.peekers) {
            self.ended.insert(peeker, End::Got(next));
        }
    }

    /// Whether the item was taken.
    fn accept(&mut self, item: Item) -> bool {
        if let Some(getter) = self.getters.pop_front() {
            self.ended.insert(getter, End::Got(item.1));
        } else if self.items.len() < self.capacity {
            self.store(item);
        } else {
            return false;
        }
        true
    }

    fn take(&mut self) -> Option<Item> {
        let taken = self.next().map(|place| self.items.remove(place));
        let offer =
            if taken.is_some() || self.capacity == 0 { self.putters.pop_front() } else { None };
        if let Some((putter, item)) = offer {
            self.ended.insert(putter, End::Put);
            if taken.is_none() {
                return Some(item);
            }
            self.items.push(item);
        }
        taken
    }

    fn put(&mut self, who: usize, item: Item, end_if_full: Option<End>) {
        let end = if self.closed {
            End::ClosedPut(item.1)
        } else if self.accept(item) {
            End::Put
        } else if let Some(end) = end_if_full {
            end
        } else {
            self.putters.push_back((who, item));
            return;
        };
        self.ended.insert(who, end);
    }

    fn get(&mut self, who: usize, end_if_empty: Option<End>) {
        let end = match self.take() {
            Some(item) => End::Got(item.1),
            None if self.closed => End::Closed,
            None => match end_if_empty {
                Some(end) => end,
                None => return self.getters.push_back(who),
            },
        };
        self.ended.insert(who, end);
    }

    fn peek(&mut self, who: usize) {
        let end = match self.next() {
            Some(place) => End::Got(self.items[place].1),
            None if self.closed => End::Closed,
            None => return self.peekers.push(who),
        };
        self.ended.insert(who, end);
    }

    fn close(&mut self) {
        self.closed = true;
        for (who, item) in std::mem::take(&mut self.putters) {
            self.ended.insert(who, End::ClosedPut(item.1));
        }
        for who in
            std::mem::take(&mut self.getters).into_iter().chain(std::mem::take(&mut self.peekers))
        {
            self.ended.insert(who, End::Closed);
        }
    }

    fn kill(&mut self, who: usize) {
        self.getters.retain(|getter| *getter != who);
        self.peekers.retain(|peeker| *peeker != who);
        self.putters.retain(|(putter, _)| *putter != who);
        self.ended.insert(who, End::Killed);
    }

    fn drain(&mut self) -> Vec<u32> {
        (0..self.items.len()).map_while(|_| self.take()).map(|item| item.1).collect()
    }

    fn waiting(&self) -> Vec<usize> {
        let putters = self.putters.iter().map(|(who, _)| *who);
        self.getters.iter().copied().chain(putters).chain(self.peekers.iter().copied()).collect()
    }
}

/// The queue under test and the coroutines that use it.
struct World {
    queue: Rc<AnyQueue>,
    running: BTreeMap<usize, JoinHandle<()>>,
    ended: Rc<RefCell<BTreeMap<usize, End>>>,
}

impl World {
    /// Has a coroutine do `operation`.
    fn start(&mut self, who: usize, operation: impl FnOnce(&AnyQueue) -> End + 'static) {
        let (queue, ended) = (self.queue.clone(), self.ended.clone());
        let handle = spawn(move || {
            let end = operation(&queue);
            ended.borrow_mut().insert(who, end);
        });
        self.running.insert(who, handle);
    }

    /// Lets everything happen that can, and says who has finished.
    fn settle(&mut self) -> BTreeMap<usize, End> {
        // A wake leads to at most one more: two rounds are enough, four are certainly.
        for _ in 0..4 {
            yield_now();
        }
        let finished: Vec<usize> = self
            .running
            .iter()
            .filter(|(_, handle)| handle.is_finished())
            .map(|(who, _)| *who)
            .collect();
        let mut ended = self.ended.take();
        for who in finished {
            if let Err(payload) = self.running.remove(&who).unwrap().join() {
                assert!(payload.is::<Killed>(), "a panic in {who}");
                assert_eq!(ended.insert(who, End::Killed), None);
            }
        }
        ended
    }
}

fn run_program(kind: Kind, steps: usize, rng: &mut Rng) {
    let capacity = rng.choice([0, 1, 2, 5, usize::MAX]).unwrap();
    let queue = Rc::new(match kind {
        Kind::Fifo => AnyQueue::Fifo(Queue::bounded(capacity)),
        Kind::Lifo => AnyQueue::Lifo(LifoQueue::bounded(capacity)),
        Kind::Priority => AnyQueue::Priority(PriorityQueue::bounded(capacity)),
    });
    let mut world = World { queue: queue.clone(), running: BTreeMap::new(), ended: Rc::default() };
    let mut model = Model {
        kind,
        capacity,
        closed: false,
        items: Vec::new(),
        getters: VecDeque::new(),
        putters: VecDeque::new(),
        peekers: Vec::new(),
        ended: BTreeMap::new(),
    };
    // Getting and putting prevail in turn, so that both kinds of waiters pile up.
    let mut puts = 50;
    for step in 0..steps {
        if step % 40 == 0 {
            puts = rng.u32(20..80);
        }
        let item = Item(rng.u8(..4), step as u32);
        match rng.u32(..1000) {
            // Few programs get to their end with an open queue, and few are closed early.
            n if n < 3 => {
                queue.close();
                model.close();
            }
            n if n < 20 => {
                let drained: Vec<u32> = queue.drain().iter().map(|item| item.1).collect();
                assert_eq!(drained, model.drain());
            }
            n if n < 120 => {
                let waiting = model.waiting();
                if let Some(&who) = rng.choice(&waiting) {
                    world.running[&who].kill();
                    model.kill(who);
                }
            }
            n if n < 150 => {
                world.start(step, |queue| match queue.peek() {
                    Ok(item) => End::Got(item.1),
                    Err(GetError) => End::Closed,
                });
                model.peek(step);
            }
            n if n < 180 => {
                let expected = model.next().map(|place| model.items[place].1);
                assert_eq!(queue.try_peek().ok().map(|item| item.1), expected);
            }
            n if n % 100 < puts => match rng.u8(..10) {
                0 | 1 => {
                    world.start(step, move |queue| match queue.try_put(item) {
                        Ok(()) => End::Put,
                        Err(TryPutError::Full(item)) => End::Refused(Some(item.1)),
                        Err(TryPutError::Closed(item)) => End::ClosedPut(item.1),
                    });
                    model.put(step, item, Some(End::Refused(Some(item.1))));
                }
                2 | 3 => {
                    world.start(step, move |queue| match queue.put_timeout(item, Duration::ZERO) {
                        Ok(()) => End::Put,
                        Err(PutTimeoutError::Timeout(item)) => End::Timeout(Some(item.1)),
                        Err(PutTimeoutError::Closed(item)) => End::ClosedPut(item.1),
                    });
                    model.put(step, item, Some(End::Timeout(Some(item.1))));
                    wait_for(&world.running[&step]);
                }
                _ => {
                    world.start(step, move |queue| match queue.put(item) {
                        Ok(()) => End::Put,
                        Err(PutError(item)) => End::ClosedPut(item.1),
                    });
                    model.put(step, item, None);
                }
            },
            _ => match rng.u8(..10) {
                0 | 1 => {
                    world.start(step, |queue| match queue.try_get() {
                        Ok(item) => End::Got(item.1),
                        Err(TryGetError::Empty) => End::Refused(None),
                        Err(TryGetError::Closed) => End::Closed,
                    });
                    model.get(step, Some(End::Refused(None)));
                }
                2 | 3 => {
                    world.start(step, |queue| match queue.get_timeout(Duration::ZERO) {
                        Ok(item) => End::Got(item.1),
                        Err(GetTimeoutError::Timeout) => End::Timeout(None),
                        Err(GetTimeoutError::Closed) => End::Closed,
                    });
                    model.get(step, Some(End::Timeout(None)));
                    wait_for(&world.running[&step]);
                }
                _ => {
                    world.start(step, |queue| match queue.get() {
                        Ok(item) => End::Got(item.1),
                        Err(GetError) => End::Closed,
                    });
                    model.get(step, None);
                }
            },
        }
        assert_eq!(world.settle(), std::mem::take(&mut model.ended), "in step {step}");
        assert_eq!(queue.len(), model.items.len());
        assert_eq!(queue.is_full(), model.items.len() >= capacity);
        assert_eq!(queue.is_closed(), model.closed);
        assert_eq!(world.running.keys().copied().collect::<Vec<_>>(), {
            let mut waiting = model.waiting();
            waiting.sort_unstable();
            waiting
        });
    }
    queue.close();
    model.close();
    assert_eq!(world.settle(), model.ended);
    assert!(world.running.is_empty());
}

fn wait_for(handle: &JoinHandle<()>) {
    while !handle.is_finished() {
        greenling::sleep(Duration::from_micros(1));
    }
}

fn run_programs(kind: Kind) {
    deadline(120, move || {
        with_seeds(60, |_, mut rng| run_program(kind, 400, &mut rng));
    });
}

#[test]
fn a_queue_does_what_the_model_says() {
    run_programs(Kind::Fifo);
}

#[test]
fn a_lifo_queue_does_what_the_model_says() {
    run_programs(Kind::Lifo);
}

#[test]
fn a_priority_queue_does_what_the_model_says() {
    run_programs(Kind::Priority);
}

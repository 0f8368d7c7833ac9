//! `Select`: the first of several things, without losing what the others have.

mod common;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::deadline;
use greenling::event::{AsyncResult, Event};
use greenling::queue::{GetError, JoinableQueue, LifoQueue, PriorityQueue, Queue};
use greenling::select::Select;
use greenling::sync::mpsc;
use greenling::{sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq)]
enum Out {
    A(Result<u32, GetError>),
    B(Result<u32, GetError>),
    Event,
    Time,
}

#[test]
fn what_is_ready_is_taken_at_once_and_the_rest_is_left() {
    deadline(20, || {
        let (a, b) = (Queue::new(), Queue::new());
        b.put(1).unwrap();
        b.put(2).unwrap();
        let next = || Select::new().on(&a, Out::A).on(&b, Out::B).on(LONG, |()| Out::Time);
        assert_eq!(next().wait(), Out::B(Ok(1)));
        assert_eq!((a.len(), b.len()), (0, 1));
        assert_eq!(next().try_wait(), Some(Out::B(Ok(2))));
        assert_eq!(next().try_wait(), None);
        a.close();
        assert_eq!(next().wait(), Out::A(Err(GetError)));
    });
}

#[test]
fn the_first_that_comes_ends_the_wait() {
    deadline(20, || {
        let (a, b, event) = (Rc::new(Queue::new()), Rc::new(Queue::new()), Rc::new(Event::new()));
        let next = || {
            let (a, b, event) = (a.clone(), b.clone(), event.clone());
            let waiting = spawn(move || {
                let select = Select::new().on(&*a, Out::A).on(&*b, Out::B);
                select.on(&*event, |()| Out::Event).on(LONG, |()| Out::Time).wait()
            });
            yield_now();
            assert!(!waiting.is_finished());
            waiting
        };
        let waiting = next();
        a.put(1).unwrap();
        assert_eq!(waiting.join().unwrap(), Out::A(Ok(1)));
        let waiting = next();
        b.put(2).unwrap();
        a.put(3).unwrap(); // second: it stays
        assert_eq!(waiting.join().unwrap(), Out::B(Ok(2)));
        assert_eq!(a.try_get(), Ok(3));
        let waiting = next();
        event.set();
        event.clear();
        assert_eq!(waiting.join().unwrap(), Out::Event);
        let waiting = next();
        b.close();
        assert_eq!(waiting.join().unwrap(), Out::B(Err(GetError)));
    });
}

#[test]
fn time_is_something_to_wait_for() {
    deadline(20, || {
        let queue = Queue::<u32>::new();
        let began = Instant::now();
        let late =
            Select::new().on(&queue, Out::A).on(SHORT, |()| Out::Time).on(LONG, |()| Out::Event);
        assert_eq!(late.wait(), Out::Time);
        assert!(began.elapsed() >= SHORT);
        let at = Instant::now() + SHORT;
        Select::new().on(&queue, |_| unreachable!()).on(at, |()| ()).wait();
        assert!(Instant::now() >= at);

        let began = Instant::now();
        assert_eq!(Select::new().on(&queue, Out::A).wait_timeout(SHORT), None);
        assert!(began.elapsed() >= SHORT);
        assert_eq!(Select::<()>::new().wait_timeout(SHORT), None);
        // What is there counts, even if time is up.
        queue.put(1).unwrap();
        let both = Select::new().on(Duration::ZERO, |()| Out::Time).on(&queue, Out::A);
        assert_eq!(both.wait(), Out::A(Ok(1)));
    });
}

#[test]
fn every_kind_of_thing_can_be_waited_for() {
    deadline(20, || {
        fn later(f: impl FnOnce() + 'static) {
            drop(greenling::spawn_later(Duration::from_millis(1), f));
        }
        let lifo = Rc::new(LifoQueue::new());
        later({
            let lifo = lifo.clone();
            move || lifo.put(1).unwrap()
        });
        assert_eq!(Select::new().on(&*lifo, |got| got).wait(), Ok(1));

        let priority = Rc::new(PriorityQueue::bounded(1));
        later({
            let priority = priority.clone();
            move || priority.put(2).unwrap()
        });
        assert_eq!(Select::new().on(&*priority, |got| got).wait(), Ok(2));

        let joinable = Rc::new(JoinableQueue::bounded(0));
        later({
            let joinable = joinable.clone();
            move || joinable.put(3).unwrap()
        });
        assert_eq!(Select::new().on(&*joinable, |got| got).wait(), Ok(3));
        joinable.task_done();

        let result = Arc::new(AsyncResult::<_, String>::new());
        later({
            let result = result.clone();
            move || result.set(4).unwrap()
        });
        assert_eq!(Select::new().on(&*result, |got| got).wait(), Ok(&4));
        let failed = AsyncResult::<u8, _>::from(Err("no"));
        assert_eq!(Select::new().on(&failed, |got| got).wait(), Err(&"no"));

        let child = spawn(|| {
            sleep(Duration::from_millis(1));
            5
        });
        Select::new().on(&child, |()| ()).wait();
        assert!(child.is_finished());
        Select::new().on(&child, |()| ()).wait();
        assert_eq!(child.join().unwrap(), 5);
    });
}

#[test]
fn a_handle_is_taken_only_if_its_coroutine_has_won() {
    deadline(20, || {
        let mut slow = Some(spawn(|| {
            sleep(2 * SHORT);
            "slow"
        }));
        let mut fast = Some(spawn(|| {
            sleep(SHORT);
            "fast"
        }));
        let mut none = None;
        let first = Select::new()
            .on(&mut slow, |result| result.unwrap())
            .on(&mut fast, |result| result.unwrap())
            .on(&mut none, |result| result.unwrap())
            .wait();
        assert_eq!(first, "fast");
        assert!(fast.is_none());
        assert_eq!(slow.unwrap().join().unwrap(), "slow");

        let mut broken = Some(spawn(|| std::panic::resume_unwind(Box::new(17))));
        let payload =
            Select::new().on(&mut broken, |result: Result<(), _>| result.unwrap_err()).wait();
        assert_eq!(payload.downcast_ref(), Some(&17));
    });
}

#[test]
fn it_is_served_in_the_order_in_which_it_came_like_anybody() {
    deadline(20, || {
        let queue = Rc::new(Queue::new());
        let order = Rc::new(RefCell::new(Vec::new()));
        for number in 0..6 {
            let (queue, order) = (queue.clone(), order.clone());
            spawn(move || {
                let item = match number % 2 {
                    0 => queue.get(),
                    _ => Select::new().on(&*queue, |item| item).on(LONG, |()| Err(GetError)).wait(),
                };
                order.borrow_mut().push((number, item.unwrap()));
            });
        }
        yield_now();
        (0..6).for_each(|item| queue.put(item).unwrap());
        yield_now();
        assert!(order.borrow().iter().all(|(number, item)| number == item), "{order:?}");
        assert_eq!(order.borrow().len(), 6);
    });
}

#[test]
fn it_takes_what_a_putter_offers() {
    deadline(20, || {
        for capacity in [0, 1] {
            let queue = Rc::new(Queue::bounded(capacity));
            let putters = [0, 1, 2].map(|item| {
                let queue = queue.clone();
                spawn(move || queue.put(item))
            });
            yield_now();
            for item in 0..3 {
                let got =
                    Select::new().on(&*queue, |item| item).on(LONG, |()| Err(GetError)).wait();
                assert_eq!(got, Ok(item));
            }
            putters.into_iter().for_each(|putter| putter.join().unwrap().unwrap());
        }
    });
}

#[test]
fn what_is_always_ready_does_not_starve_the_others() {
    deadline(20, || {
        let (a, b, event) = (Queue::new(), Queue::new(), Event::new());
        event.set();
        let mut seen = [0; 3];
        for _ in 0..3000 {
            let _ = (a.put(()), b.put(()));
            let select = Select::new().on(&a, |_| 0).on(&b, |_| 1).on(&event, |()| 2);
            seen[select.wait()] += 1;
        }
        assert!(seen.iter().all(|&times| times > 600), "{seen:?}");
    });
}

/// Each has the same chance, wherever the idle ones stand between them, and whether its messages are still in
/// the channel or have been taken by the receiver in one go.
#[test]
fn receivers_that_are_ready_have_the_same_chance() {
    deadline(20, || {
        const ROUNDS: usize = 6000;
        let channels: Vec<_> = (0..6).map(|_| mpsc::channel::<usize>()).collect();
        let busy = [0, 1, 2, 5];
        for place in busy {
            (0..ROUNDS).for_each(|_| channels[place].0.send(place).unwrap());
        }
        let mut seen = [0; 6];
        for round in 0..ROUNDS {
            let mut select = Select::new();
            for (_, receiver) in &channels {
                select = select.on(receiver, Result::unwrap);
            }
            seen[if round % 2 == 0 { select.wait() } else { select.try_wait().unwrap() }] += 1;
        }
        // Far beyond what chance makes of 1500.
        assert!(busy.iter().all(|&place| (1300..=1700).contains(&seen[place])), "{seen:?}");
    });
}

/// One whose sender never pauses, and one that gets a message now and then: that one is not kept waiting.
#[test]
fn a_busy_receiver_does_not_starve_a_quiet_one() {
    deadline(20, || {
        let (busy, quiet) = (mpsc::sync_channel(4), mpsc::channel());
        let talker = std::thread::spawn(move || while busy.0.send(()).is_ok() {});
        for _ in 0..200 {
            quiet.0.send(()).unwrap();
            let mut turns = 0;
            let next = || Select::new().on(&busy.1, |_| false).on(&quiet.1, |_| true).wait();
            while !next() {
                turns += 1;
                assert!(turns < 100, "the quiet one has been passed over so often");
            }
        }
        drop(busy.1);
        talker.join().unwrap();
    });
}

/// One source may be in a select more than once, and several selects may wait for the same sources.
#[test]
fn the_same_source_again() {
    deadline(20, || {
        let sources = Rc::new((Queue::new(), Queue::new(), Event::new()));
        let select = |sources: &Rc<(Queue<u8>, Queue<u8>, Event)>| {
            let sources = sources.clone();
            spawn(move || {
                let first = Select::new()
                    .on(&sources.0, Result::unwrap)
                    .on(&sources.1, Result::unwrap)
                    .on(&sources.0, Result::unwrap)
                    .wait();
                (first, Select::new().on(&sources.2, |()| 7).on(&sources.2, |()| 7).wait())
            })
        };
        let both = [select(&sources), select(&sources)];
        yield_now();
        sources.0.put(1).unwrap();
        sources.1.put(2).unwrap();
        yield_now();
        sources.0.put(3).unwrap();
        assert_eq!((sources.0.len(), sources.1.len()), (1, 0), "each has taken one, and no more");
        sources.2.set();
        let results = both.map(|select| select.join().unwrap());
        assert_eq!(results, [(1, 7), (2, 7)]);
    });
}

/// Queues without room: who puts meets one select, and the other putter is not taken for met.
#[test]
fn meetings() {
    deadline(20, || {
        let queues = Rc::new([Queue::bounded(0), Queue::bounded(0)]);
        let select = |queues: &[Queue<usize>; 2]| {
            Select::new().on(&queues[0], Result::unwrap).on(&queues[1], Result::unwrap).wait()
        };
        let putters = [0, 1].map(|n| {
            let queues = queues.clone();
            spawn(move || queues[n].put(n).unwrap())
        });
        yield_now();
        assert_eq!(select(&queues) + select(&queues), 1);
        putters.into_iter().for_each(|putter| putter.join().unwrap());

        let waiting = spawn({
            let queues = queues.clone();
            move || select(&queues)
        });
        yield_now();
        queues[0].try_put(5).unwrap();
        assert!(queues[1].try_put(6).is_err(), "nobody waits any more");
        assert_eq!(waiting.join().unwrap(), 5);
    });
}

#[test]
fn a_kill_or_a_time_limit_takes_nothing() {
    deadline(20, || {
        let (a, b) = (Rc::new(Queue::new()), Rc::new(Queue::new()));
        let waiting = spawn({
            let (a, b) = (a.clone(), b.clone());
            move || Select::new().on(&*a, |item| item).on(&*b, |item| item).wait()
        });
        yield_now();
        waiting.kill();
        assert!(timeout(SHORT, || Select::new().on(&*a, |i| i).on(&*b, |i| i).wait()).is_err());
        a.put(1).unwrap();
        b.put(2).unwrap();
        assert_eq!((a.try_get(), b.try_get()), (Ok(1), Ok(2)));

        // In the same moment: the grant counts.
        let waiting = spawn({
            let (a, b) = (a.clone(), b.clone());
            move || Select::new().on(&*a, |item| item).on(&*b, |item| item).wait()
        });
        yield_now();
        a.put(3).unwrap();
        waiting.kill_timeout(Duration::ZERO);
        b.put(4).unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(3));
        assert_eq!(b.try_get(), Ok(4));
    });
}

#[test]
fn an_event_that_was_set_for_others_does_not_end_a_later_wait() {
    deadline(20, || {
        let event = Rc::new(Event::new());
        event.set();
        event.clear();
        assert_eq!(Select::new().on(&*event, |()| true).wait_timeout(SHORT), None);
    });
}

#[test]
fn a_panic_in_a_comparison_leaves_all_queues() {
    #[derive(PartialEq, Eq)]
    struct Odd(u8);
    thread_local! {
        static BROKEN: Cell<bool> = const { Cell::new(false) };
    }
    impl PartialOrd for Odd {
        fn partial_cmp(&self, other: &Odd) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Odd {
        fn cmp(&self, other: &Odd) -> std::cmp::Ordering {
            if BROKEN.get() {
                std::panic::resume_unwind(Box::new("no order"));
            }
            self.0.cmp(&other.0)
        }
    }
    deadline(20, || {
        let (quiet, odd) = (Queue::<u8>::new(), PriorityQueue::new());
        (1..=3).for_each(|n| odd.put(Odd(n)).unwrap());
        BROKEN.set(true);
        for _ in 0..20 {
            let select = Select::new().on(&quiet, |_| ()).on(&odd, |_| ()).on(LONG, |()| ());
            assert!(catch_unwind(AssertUnwindSafe(|| select.wait())).is_err());
        }
        BROKEN.set(false);
        quiet.put(1).unwrap();
        assert_eq!((quiet.len(), odd.len()), (1, 3));
    });
}

/// Producers on several threads, and selecting consumers beside plain ones, of which some are killed or
/// lose patience: every item comes out once.
#[test]
fn nothing_is_lost_between_several_queues_and_threads() {
    const EACH: usize = 1_000;
    const QUEUES: usize = 3;
    deadline(120, || {
        for capacity in [0, 2, usize::MAX] {
            let queues: Arc<[Queue<usize>; QUEUES]> =
                Arc::new([(); QUEUES].map(|()| Queue::bounded(capacity)));
            let seen: Arc<Vec<AtomicUsize>> =
                Arc::new((0..EACH * QUEUES).map(|_| AtomicUsize::new(0)).collect());
            let left = Arc::new(AtomicUsize::new(EACH * QUEUES));
            let producers: Vec<_> = (0..QUEUES)
                .map(|number| {
                    let queues = queues.clone();
                    std::thread::spawn(move || {
                        for item in 0..EACH {
                            queues[number].put(number * EACH + item).unwrap();
                        }
                    })
                })
                .collect();
            let consumers: Vec<_> = (0..3)
                .map(|thread| {
                    let (queues, seen, left) = (queues.clone(), seen.clone(), left.clone());
                    std::thread::spawn(move || {
                        let note = {
                            let left = left.clone();
                            move |item: Result<usize, GetError>| {
                                seen[item.unwrap()].fetch_add(1, Ordering::SeqCst);
                                left.fetch_sub(1, Ordering::SeqCst);
                            }
                        };
                        let consume = move |patience: u64| {
                            let queues = queues.clone();
                            let note = note.clone();
                            move || loop {
                                let mut select = Select::new();
                                for queue in queues.iter() {
                                    select = select.on(queue, &note);
                                }
                                select.wait_timeout(Duration::from_micros(patience));
                            }
                        };
                        let mut running: Vec<_> = (0..4).map(|n| spawn(consume(n * 30))).collect();
                        while left.load(Ordering::SeqCst) > 0 {
                            let victim = fastrand::usize(..running.len());
                            running.swap_remove(victim).kill_timeout(Duration::ZERO);
                            running.push(spawn(consume(20 * thread)));
                            sleep(Duration::from_micros(fastrand::u64(..300)));
                        }
                        running.iter().for_each(|handle| handle.kill());
                    })
                })
                .collect();
            producers.into_iter().chain(consumers).for_each(|thread| thread.join().unwrap());
            assert!(seen.iter().all(|times| times.load(Ordering::SeqCst) == 1));
        }
    });
}

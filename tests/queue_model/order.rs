//! Who is served first, and what happens in the corners.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenling::queue::{
    GetError, GetTimeoutError, JoinableQueue, LifoQueue, PriorityQueue, PutError, PutTimeoutError,
    Queue, TryGetError, TryPutError,
};
use greenling::{sleep, spawn, yield_now};

use crate::common::deadline;

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn getters_are_served_in_the_order_in_which_they_came() {
    deadline(20, || {
        let queue = Rc::new(Queue::new());
        let got = Rc::new(RefCell::new(Vec::new()));
        for number in 0..5 {
            let (queue, got) = (queue.clone(), got.clone());
            spawn(move || {
                let item = queue.get().unwrap();
                got.borrow_mut().push((number, item));
            });
        }
        yield_now();
        for item in 0..5 {
            queue.put(item).unwrap();
            // An item that has been handed over is not for one who comes later.
            assert_eq!(queue.try_get(), Err(TryGetError::Empty));
        }
        yield_now();
        assert_eq!(*got.borrow(), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]);
    });
}

#[test]
fn putters_are_served_in_the_order_in_which_they_came() {
    deadline(20, || {
        let queue = Rc::new(Queue::bounded(1));
        queue.put(0).unwrap();
        let putters: Vec<_> = (1..5)
            .map(|item| {
                let queue = queue.clone();
                spawn(move || queue.put(item))
            })
            .collect();
        yield_now();
        for item in 0..5 {
            assert_eq!(queue.get(), Ok(item));
            // The room went to the next in line in the same moment.
            let room = if item < 4 { Err(TryPutError::Full(9)) } else { Ok(()) };
            assert_eq!(queue.try_put(9), room);
        }
        putters.into_iter().for_each(|putter| putter.join().unwrap().unwrap());
    });
}

#[test]
fn one_who_gives_up_leaves_its_place_to_the_next() {
    deadline(20, || {
        let queue = Rc::new(Queue::new());
        let getters: Vec<_> =
            (0..4)
                .map(|number| {
                    let queue = queue.clone();
                    spawn(move || {
                        if number == 1 { queue.get_timeout(SHORT).ok() } else { queue.get().ok() }
                    })
                })
                .collect();
        yield_now();
        getters[0].kill();
        sleep(2 * SHORT);
        queue.put('a').unwrap();
        queue.put('b').unwrap();
        let got: Vec<_> = getters.into_iter().map(|getter| getter.join().ok().flatten()).collect();
        assert_eq!(got, [None, None, Some('a'), Some('b')]);
    });
}

#[test]
fn a_queue_without_room_is_a_meeting() {
    deadline(20, || {
        let queue = Rc::new(Queue::bounded(0));
        assert_eq!(queue.try_put(1), Err(TryPutError::Full(1)));
        assert_eq!(queue.try_get(), Err(TryGetError::Empty));
        assert!(queue.is_empty() && queue.is_full());
        assert_eq!(queue.capacity(), Some(0));

        // `put` ends when the item is taken, and not before.
        let put = Rc::new(Cell::new(false));
        let putter = spawn({
            let (queue, put) = (queue.clone(), put.clone());
            move || {
                queue.put(2).unwrap();
                put.set(true);
            }
        });
        sleep(SHORT);
        assert!(!put.get() && queue.is_empty());
        assert_eq!(queue.try_get(), Ok(2));
        putter.join().unwrap();

        let getter = spawn({
            let queue = queue.clone();
            move || queue.get()
        });
        yield_now();
        assert_eq!(queue.try_put(3), Ok(()));
        assert_eq!(getter.join().unwrap(), Ok(3));
    });
}

#[test]
fn closing_gives_items_back_to_those_who_wait_and_lets_the_rest_be_taken() {
    deadline(20, || {
        let queue = Rc::new(Queue::bounded(2));
        queue.put(1).unwrap();
        queue.put(2).unwrap();
        let putter = spawn({
            let queue = queue.clone();
            move || queue.put(3)
        });
        yield_now();
        queue.close();
        queue.close();
        assert_eq!(putter.join().unwrap(), Err(PutError(3)));
        assert_eq!(queue.put(4), Err(PutError(4)));
        assert_eq!(queue.try_put(4), Err(TryPutError::Closed(4)));
        assert_eq!(queue.put_timeout(4, LONG), Err(PutTimeoutError::Closed(4)));
        assert_eq!((queue.len(), queue.try_peek()), (2, Ok(1)));
        assert_eq!(queue.iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(queue.get(), Err(GetError));
        assert_eq!(queue.try_get(), Err(TryGetError::Closed));
        assert_eq!(queue.get_timeout(LONG), Err(GetTimeoutError::Closed));
        assert_eq!(queue.try_peek(), Err(TryGetError::Closed));
    });
}

#[test]
fn closing_wakes_all_who_wait_for_an_item() {
    deadline(20, || {
        let queue = Rc::new(Queue::<u8>::new());
        let waiting: Vec<_> = (0..6)
            .map(|number| {
                let queue = queue.clone();
                spawn(move || match number % 3 {
                    0 => queue.get(),
                    1 => queue.peek(),
                    _ => queue.get_timeout(LONG).map_err(|error| {
                        assert_eq!(error, GetTimeoutError::Closed);
                        GetError
                    }),
                })
            })
            .collect();
        yield_now();
        queue.close();
        for handle in waiting {
            assert_eq!(handle.join().unwrap(), Err(GetError));
        }
    });
}

#[test]
fn peeking_takes_nothing_and_waits_if_there_is_nothing() {
    deadline(20, || {
        let queue = Rc::new(PriorityQueue::new());
        let peeker = spawn({
            let queue = queue.clone();
            move || queue.peek()
        });
        assert_eq!(queue.peek_timeout(SHORT), Err(GetTimeoutError::Timeout));
        queue.put(5).unwrap();
        assert_eq!(peeker.join().unwrap(), Ok(5));
        queue.put(3).unwrap();
        assert_eq!((queue.peek(), queue.peek_timeout(LONG), queue.len()), (Ok(3), Ok(3), 2));
    });
}

#[test]
fn a_killed_peeker_takes_nothing_with_it() {
    deadline(20, || {
        let queue = Rc::new(Queue::new());
        let peekers = [(); 3].map(|()| {
            let queue = queue.clone();
            spawn(move || queue.peek().unwrap())
        });
        yield_now();
        peekers[0].kill();
        queue.put(1).unwrap();
        let seen: Vec<_> = peekers.into_iter().map(|peeker| peeker.join().ok()).collect();
        assert_eq!(seen, [None, Some(1), Some(1)]);
        assert_eq!(queue.try_get(), Ok(1));
    });
}

#[test]
fn times_are_kept() {
    deadline(20, || {
        let queue = Queue::bounded(1);
        let began = Instant::now();
        assert_eq!(queue.get_timeout(SHORT), Err(GetTimeoutError::Timeout));
        assert!(began.elapsed() >= SHORT);
        queue.put(1).unwrap();
        let began = Instant::now();
        assert_eq!(queue.put_timeout(2, SHORT), Err(PutTimeoutError::Timeout(2)));
        assert!(began.elapsed() >= SHORT);
        // What is there, or fits, needs no time, not even that of a wait of no length.
        assert_eq!(queue.get_timeout(Duration::ZERO), Ok(1));
        assert_eq!(queue.put_timeout(2, Duration::ZERO), Ok(()));
    });
}

#[test]
fn draining_takes_what_is_there_and_makes_room() {
    deadline(20, || {
        let queue = Rc::new(Queue::bounded(2));
        queue.put(1).unwrap();
        queue.put(2).unwrap();
        let putters = [3, 4, 5].map(|item| {
            let queue = queue.clone();
            spawn(move || queue.put(item).unwrap())
        });
        yield_now();
        assert_eq!(queue.drain(), [1, 2]);
        assert_eq!(queue.drain(), [3, 4]);
        assert_eq!(queue.drain(), [5]);
        assert!(queue.drain().is_empty());
        putters.into_iter().for_each(|putter| putter.join().unwrap());
    });
}

#[test]
fn orders_are_what_the_names_say() {
    deadline(20, || {
        let items = [3, 1, 2, 1];
        assert_eq!(items.into_iter().collect::<Queue<_>>().drain(), [3, 1, 2, 1]);
        assert_eq!(items.into_iter().collect::<LifoQueue<_>>().drain(), [1, 2, 1, 3]);
        assert_eq!(items.into_iter().collect::<PriorityQueue<_>>().drain(), [1, 1, 2, 3]);
        assert_eq!(items.into_iter().collect::<JoinableQueue<_>>().drain(), [3, 1, 2, 1]);
    });
}

#[test]
fn a_queue_can_be_a_static() {
    static JOBS: Queue<u32> = Queue::new();
    deadline(20, || {
        let other = std::thread::spawn(|| JOBS.get());
        JOBS.put(7).unwrap();
        assert_eq!(other.join().unwrap(), Ok(7));
    });
}

#[test]
fn what_is_left_in_a_queue_is_dropped_with_it() {
    let item = Rc::new(());
    let queue = Queue::new();
    queue.put(item.clone()).unwrap();
    assert_eq!(Rc::strong_count(&item), 2);
    drop(queue);
    assert_eq!(Rc::strong_count(&item), 1);
}

#[test]
fn debug_and_errors_need_no_debug_of_the_item() {
    struct Opaque;
    let queue = Queue::bounded(1);
    assert_eq!(format!("{queue:?}"), "Queue { len: 0, capacity: Some(1), closed: false, .. }");
    queue.put(Opaque).unwrap();
    let full = queue.try_put(Opaque).unwrap_err();
    assert_eq!(
        (format!("{full:?}"), full.to_string()),
        ("Full(..)".into(), "the queue is full".into())
    );
    assert!(full.is_full() && !full.is_closed());
    queue.close();
    let closed = queue.put(Opaque).unwrap_err();
    assert_eq!(closed.to_string(), "the queue is closed");
    let _: Opaque = closed.into_inner();
    let timeout = Queue::<Opaque>::new().get_timeout(Duration::ZERO).err().unwrap();
    assert_eq!(timeout.to_string(), "timed out waiting for an item of the queue");
}

// ---- joinable ---------------------------------------------------------------------------------

#[test]
fn join_ends_when_the_last_task_is_done_even_if_more_comes() {
    deadline(20, || {
        let queue = Rc::new(JoinableQueue::new());
        queue.join(); // nothing was ever put
        queue.put('a').unwrap();
        queue.put('b').unwrap();
        let joiners = [(); 2].map(|()| {
            let queue = queue.clone();
            spawn(move || queue.join())
        });
        assert!(!queue.join_timeout(SHORT));
        queue.get().unwrap();
        queue.task_done();
        yield_now();
        assert!(!joiners[0].is_finished());
        queue.get().unwrap();
        assert_eq!(queue.unfinished_tasks(), 1);
        queue.task_done();
        queue.put('c').unwrap(); // before the joiners have had their turn
        joiners.into_iter().for_each(|joiner| joiner.join().unwrap());
        assert!(!queue.join_timeout(Duration::ZERO));
    });
}

#[test]
fn a_task_counts_from_the_moment_in_which_it_is_taken_from_the_putter() {
    deadline(20, || {
        let queue = Rc::new(JoinableQueue::bounded(1));
        queue.put(1).unwrap();
        let putter = spawn({
            let queue = queue.clone();
            move || queue.put(2)
        });
        yield_now();
        assert_eq!(queue.unfinished_tasks(), 1);
        queue.get().unwrap();
        assert_eq!(queue.unfinished_tasks(), 2);
        putter.join().unwrap().unwrap();

        // Handed directly to one who waits.
        queue.get().unwrap();
        let getter = spawn({
            let queue = queue.clone();
            move || queue.get()
        });
        yield_now();
        queue.put(3).unwrap();
        assert_eq!(queue.unfinished_tasks(), 3);
        getter.join().unwrap().unwrap();
    });
}

#[test]
fn task_done_once_too_often_is_a_panic() {
    let queue = JoinableQueue::new();
    queue.put(1).unwrap();
    queue.task_done();
    assert!(catch_unwind(|| queue.task_done()).is_err());
    queue.put(2).unwrap();
    queue.task_done();
    queue.join();
}

// ---- code of the items --------------------------------------------------------------------------

/// An item whose comparison does something first.
struct Odd(u8, Rc<dyn Fn()>);

impl PartialEq for Odd {
    fn eq(&self, other: &Odd) -> bool {
        self.0 == other.0
    }
}
impl Eq for Odd {}
impl PartialOrd for Odd {
    fn partial_cmp(&self, other: &Odd) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Odd {
    fn cmp(&self, other: &Odd) -> std::cmp::Ordering {
        (self.1)();
        self.0.cmp(&other.0)
    }
}

#[test]
fn no_item_is_lost_if_a_comparison_panics() {
    deadline(60, || {
        for round in 0..500 {
            let fuse = Rc::new(Cell::new(u32::MAX));
            let burn: Rc<dyn Fn()> = Rc::new({
                let fuse = fuse.clone();
                move || {
                    if fuse.replace(fuse.get().wrapping_sub(1)) == 0 {
                        std::panic::resume_unwind(Box::new("no order"));
                    }
                }
            });
            let queue = Rc::new(PriorityQueue::bounded(4));
            let putters: Vec<_> = (0..8)
                .map(|number| {
                    let (queue, burn) = (queue.clone(), burn.clone());
                    spawn(move || queue.put(Odd(number * 5 % 7, burn)).unwrap())
                })
                .collect();
            yield_now();
            let mut taken = 0;
            fuse.set(round % 25);
            loop {
                match catch_unwind(AssertUnwindSafe(|| queue.try_get())) {
                    Ok(Ok(_)) => taken += 1,
                    Ok(Err(_)) => break,
                    Err(_) => {}
                }
            }
            assert_eq!(taken, 8);
            // Whoever's item has been taken has been told so.
            putters.into_iter().for_each(|putter| putter.join().unwrap());
        }
    });
}

#[test]
fn a_comparison_that_waits_or_uses_the_queue_is_found_out() {
    deadline(20, || {
        let queue: Rc<PriorityQueue<Odd>> = Rc::default();
        let nothing: Rc<dyn Fn()> = Rc::new(|| ());
        let wait: Rc<dyn Fn()> = Rc::new(|| sleep(SHORT));
        queue.put(Odd(1, wait)).unwrap();
        let putter = spawn({
            let queue = queue.clone();
            move || queue.put(Odd(2, nothing))
        });
        yield_now();
        // It sleeps and has the queue's lock: to wait for that would be the end.
        let payload = catch_unwind(AssertUnwindSafe(|| queue.len())).unwrap_err();
        let text = payload.downcast_ref::<&str>().unwrap();
        assert!(text.contains("comparison or clone"), "{text}");
        putter.join().unwrap().unwrap();
        assert_eq!(queue.len(), 2);

        let reenter: Rc<dyn Fn()> = Rc::new({
            let queue = queue.clone();
            move || queue.close()
        });
        queue.drain();
        queue.put(Odd(1, reenter)).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| queue.put(Odd(2, Rc::new(|| ())))));
        assert!(result.is_err());
        assert!(queue.len() == 2 && !queue.is_closed());
    });
}

#[test]
fn items_may_be_shared_by_plain_threads() {
    deadline(60, || {
        let (to, back) = (Arc::new(Queue::bounded(3)), Arc::new(Queue::bounded(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (to, back) = (to.clone(), back.clone());
                std::thread::spawn(move || to.iter().for_each(|n: u32| back.put(2 * n).unwrap()))
            })
            .collect();
        let feeder = spawn({
            let to = to.clone();
            move || {
                (0..1000).for_each(|n| to.put(n).unwrap());
                to.close();
            }
        });
        let mut doubled: Vec<u32> = back.iter().take(1000).collect();
        doubled.sort_unstable();
        assert!(doubled.into_iter().eq((0..1000).map(|n| 2 * n)));
        feeder.join().unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

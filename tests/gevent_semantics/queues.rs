//! Queues as gevent's users know them. (What they promise beyond that is in `queue_model.rs`.)

use std::rc::Rc;
use std::time::Duration;

use greenling::queue::{GetTimeoutError, JoinableQueue, Queue, TryGetError, TryPutError};
use greenling::{sleep, spawn, yield_now};

use crate::common::deadline;
use crate::{LONG, SHORT};

#[test]
fn get_nowait_and_put_nowait_never_wait() {
    deadline(20, || {
        let queue = Queue::bounded(1);
        assert_eq!(queue.try_get(), Err(TryGetError::Empty));
        assert_eq!(queue.try_put(1), Ok(()));
        assert_eq!(queue.try_put(2), Err(TryPutError::Full(2)));
        assert_eq!(queue.try_get(), Ok(1));
    });
}

#[test]
fn put_nowait_succeeds_for_one_who_waits() {
    deadline(20, || {
        // gevent's rule for a queue of no room, which it calls Channel.
        let queue = Rc::new(Queue::bounded(0));
        let getter = spawn({
            let queue = queue.clone();
            move || queue.get()
        });
        assert_eq!(queue.try_put(1), Err(TryPutError::Full(1)), "it has not come to its get yet");
        yield_now();
        assert_eq!(queue.try_put(2), Ok(()));
        assert_eq!(queue.try_put(3), Err(TryPutError::Full(3)));
        assert_eq!(getter.join().unwrap(), Ok(2));
    });
}

#[test]
fn a_timeout_of_a_getter_loses_nothing_that_comes_after() {
    deadline(20, || {
        let queue = Rc::new(Queue::new());
        assert_eq!(queue.get_timeout(SHORT), Err(GetTimeoutError::Timeout));
        let putter = queue.clone();
        greenling::spawn_later(SHORT, move || putter.put("late").unwrap());
        assert_eq!(queue.get_timeout(LONG), Ok("late"));
    });
}

#[test]
fn a_put_wakes_one_and_only_one() {
    deadline(20, || {
        let queue = Rc::new(Queue::new());
        let getters: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                spawn(move || queue.get_timeout(3 * SHORT))
            })
            .collect();
        yield_now();
        queue.put(1).unwrap();
        let got: Vec<_> = getters.into_iter().map(|getter| getter.join().unwrap()).collect();
        assert_eq!(got, [Ok(1), Err(GetTimeoutError::Timeout), Err(GetTimeoutError::Timeout)]);
    });
}

#[test]
fn iteration_ends_with_the_queue() {
    deadline(20, || {
        // gevent's StopIteration item, or shutdown(), is close() here.
        let queue = Rc::new(Queue::new());
        let reader = spawn({
            let queue = queue.clone();
            move || queue.iter().sum::<u32>()
        });
        for n in 1..=4 {
            queue.put(n).unwrap();
            yield_now();
        }
        queue.close();
        assert_eq!(reader.join().unwrap(), 10);
        assert_eq!((&*queue).into_iter().next(), None);
    });
}

#[test]
fn shutting_down_at_once_throws_away_what_is_left() {
    deadline(20, || {
        // gevent's shutdown(immediate=True).
        let queue = Rc::new(Queue::bounded(1));
        queue.put(1).unwrap();
        let putter = spawn({
            let queue = queue.clone();
            move || queue.put(2).map_err(|error| error.into_inner())
        });
        yield_now();
        queue.close();
        assert_eq!(queue.drain(), [1]);
        assert_eq!(putter.join().unwrap(), Err(2));
    });
}

#[test]
fn workers_on_a_joinable_queue() {
    deadline(20, || {
        let queue = Rc::new(JoinableQueue::bounded(3));
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                spawn(move || {
                    let mut count = 0;
                    for pause in queue.iter() {
                        sleep(Duration::from_micros(pause));
                        queue.task_done();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for n in 0..50 {
            queue.put(n * 7 % 50).unwrap();
        }
        queue.join();
        assert_eq!(queue.unfinished_tasks(), 0);
        assert!(queue.is_empty());
        queue.close();
        let counts: Vec<u32> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        assert_eq!(counts.iter().sum::<u32>(), 50);
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    });
}

//! Where the pieces meet: what gevent's users fall into, and must not fall into here.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use greenling::event::Event;
use greenling::generator::Generator;
use greenling::greenlet::Greenlet;
use greenling::pool::Pool;
use greenling::queue::Queue;
use greenling::select::Select;
use greenling::{block_on, sleep, spawn, timeout, yield_now};

use crate::common::deadline;
use crate::{LONG, SHORT};

/// An always-ready reader does not starve the rest.
#[test]
fn a_select_that_never_waits_lets_others_run() {
    deadline(20, || {
        let stop = Rc::new(Cell::new(false));
        let flag = stop.clone();
        greenling::spawn_later(SHORT, move || flag.set(true));
        let queue = Queue::new();
        while !stop.get() {
            (0..2).for_each(|_| queue.try_put(()).unwrap());
            Select::new().on(&queue, |item| item).wait().unwrap();
            Select::new().on(&queue, |item| item).wait_timeout(LONG).unwrap().unwrap();
        }
    });
}

#[test]
fn a_select_over_what_refills_itself_lets_others_run() {
    deadline(20, || {
        let stop = Rc::new(Cell::new(false));
        let flag = stop.clone();
        spawn(move || flag.set(true));
        let event = Event::new();
        event.set();
        while !stop.get() {
            Select::new().on(&event, |()| ()).wait();
        }
    });
}

/// A future that wakes itself gives way in the manner of async code.
#[test]
fn a_future_that_wakes_itself_lets_others_run() {
    deadline(20, || {
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        spawn(move || flag.set(true));
        block_on(poll_fn(|context| {
            context.waker().wake_by_ref();
            if done.get() { Poll::Ready(()) } else { Poll::Pending }
        }));
        // And it can be killed.
        let endless = spawn(|| {
            block_on(poll_fn(|context| {
                context.waker().wake_by_ref();
                Poll::<()>::Pending
            }));
        });
        yield_now();
        endless.kill();
    });
}

/// A time limit around one step of an iteration takes nothing from it.
#[test]
fn a_time_limit_around_the_next_result_loses_no_result() {
    deadline(20, || {
        let pool = Pool::new(2);
        let slow = |n: u32| {
            sleep(2 * SHORT);
            n
        };
        let mut results = pool.imap(0..4, slow);
        assert!(timeout(Duration::from_millis(1), || results.next()).is_err());
        assert!(results.map(Result::unwrap).eq(0..4));

        let mut results = pool.imap_unordered(0..4, slow);
        assert!(timeout(Duration::from_millis(1), || results.next()).is_err());
        let mut all: Vec<u32> = results.map(|(_, result)| result.unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    });
}

/// The same in the order of completion.
#[test]
fn a_time_limit_around_the_next_to_end_loses_no_result() {
    deadline(20, || {
        let pool = Pool::new(2);
        let mut results = pool.imap_unordered(0..4, |n: usize| {
            sleep(2 * SHORT);
            n
        });
        let mut got = Vec::new();
        loop {
            match timeout(SHORT / 5, || results.next()) {
                Ok(Some((number, result))) => {
                    assert_eq!(result.unwrap(), number);
                    got.push(number);
                }
                Ok(None) => break,
                Err(_) => {}
            }
        }
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 3]);
    });
}

/// The same for greenlets, which may be left in the middle of one.
#[test]
fn a_limit_inside_a_greenlet_that_is_left_ends_nobody_else() {
    deadline(20, || {
        let base = Greenlet::<u32>::current();
        let limited = Greenlet::new(move |first: u32| {
            let ended = timeout(SHORT, || {
                base.switch(first + 1).unwrap();
                sleep(LONG); // the time is up by now
            });
            u32::from(ended.is_err())
        });
        assert_eq!(limited.switch(1).unwrap(), 2);
        sleep(3 * SHORT); // not ours
        assert_eq!(limited.switch(0).unwrap(), 1, "but its own");
        // A limit from outside is in force inside.
        let endless = Greenlet::new(|_: u32| {
            sleep(LONG);
            0
        });
        assert!(timeout(SHORT, || endless.switch(0)).is_err());
    });
}

/// Whose time limit was it? That of the scope that has set it, and nobody else's: a generator that is
/// suspended inside of one does not take it to whoever has resumed it.
#[test]
fn a_limit_inside_a_suspended_generator_ends_nobody_else() {
    deadline(20, || {
        let mut limited = Generator::new(|yielder, ()| {
            let ended = timeout(SHORT, || {
                yielder.yield_(1);
                sleep(LONG); // the time is up by now
            });
            ended.is_err()
        });
        assert_eq!(limited.send(()), Ok(1));
        sleep(3 * SHORT); // not ours
        assert!(timeout(LONG, || sleep(SHORT)).is_ok());
        assert!(limited.send(()).is_err());
        assert_eq!(limited.take_return(), Some(true));
        sleep(2 * SHORT);
    });
}

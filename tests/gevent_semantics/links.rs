//! Links: what is called when a coroutine has ended, or a result is there.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use greenling::event::AsyncResult;
use greenling::{sleep, spawn, yield_now};

use crate::common::deadline;
use crate::{LONG, SHORT, fail};

/// Lets everything happen that can.
fn settle() {
    for _ in 0..5 {
        yield_now();
    }
}

#[test]
fn links_run_in_order_each_once_however_it_ends() {
    deadline(20, || {
        let ends: [fn(); 3] = [|| (), || fail("no matter"), || sleep(LONG)];
        for end in ends {
            let calls = Rc::new(RefCell::new(Vec::new()));
            let child = spawn(end);
            for number in 0..4 {
                let calls = calls.clone();
                child.on_exit(move |_| calls.borrow_mut().push(number));
            }
            settle();
            child.kill();
            let _ = child.join();
            settle();
            assert_eq!(*calls.borrow(), [0, 1, 2, 3]);
        }
    });
}

#[test]
fn a_link_that_panics_does_not_stop_the_next() {
    deadline(20, || {
        let called = Rc::new(Cell::new(0));
        let child = spawn(|| ());
        for number in 0..3 {
            let called = called.clone();
            child.on_exit(move |_| {
                if number == 1 {
                    fail("in a link");
                }
                called.set(called.get() + 1);
            });
        }
        child.join().unwrap();
        settle();
        assert_eq!(called.get(), 2);
    });
}

#[test]
fn a_link_to_one_that_has_ended_is_called() {
    deadline(20, || {
        let child = spawn(|| ());
        settle();
        let called = Rc::new(Cell::new(false));
        let flag = called.clone();
        let id = child.thread().id();
        child.on_exit(move |thread| {
            assert_eq!(thread.id(), id);
            flag.set(true);
        });
        settle();
        assert!(called.get());
    });
}

#[test]
fn a_link_may_wait_and_join_others() {
    deadline(20, || {
        let child = spawn(|| ());
        let result = Arc::new(AsyncResult::<u32, ()>::new());
        let sum = result.clone();
        child.on_exit(move |_| {
            sleep(SHORT);
            sum.set(spawn(|| 4).join().unwrap() + 1).unwrap();
        });
        assert_eq!(result.get(), Ok(&5));
    });
}

#[test]
fn a_coroutine_can_be_linked_to_a_result() {
    deadline(20, || {
        // gevent's `greenlet.link(async_result)`: here the value goes through a join in a link's place.
        let outcome = Arc::new(AsyncResult::<u32, String>::new());
        let child = spawn(|| 6);
        let to = outcome.clone();
        spawn(move || to.complete(child.join().map_err(|_| "broken".to_owned())));
        assert_eq!(outcome.get(), Ok(&6));
    });
}

#[test]
fn links_to_a_result_run_in_order_each_once() {
    deadline(20, || {
        for is_set_before in [false, true] {
            let calls = Rc::new(RefCell::new(Vec::new()));
            let result = Arc::new(AsyncResult::<_, ()>::new());
            if is_set_before {
                result.set("value").unwrap();
            }
            let links: Vec<_> = (0..3)
                .map(|number| {
                    let calls = calls.clone();
                    result.link(move |result| {
                        calls.borrow_mut().push((number, *result.unwrap()));
                        if number == 0 {
                            fail("in a link");
                        }
                    })
                })
                .collect();
            if !is_set_before {
                settle();
                assert!(calls.borrow().is_empty());
                result.set("value").unwrap();
            }
            settle();
            assert!(links.iter().all(greenling::JoinHandle::is_finished));
            assert_eq!(*calls.borrow(), [(0, "value"), (1, "value"), (2, "value")]);
        }
    });
}

#[test]
fn a_link_can_be_taken_back() {
    deadline(20, || {
        let result = Arc::new(AsyncResult::<(), _>::new());
        let called = Rc::new(Cell::new(false));
        let flag = called.clone();
        let link = result.link(move |_| flag.set(true));
        settle();
        link.kill();
        result.set_error("too late").unwrap();
        settle();
        assert!(!called.get());
    });
}

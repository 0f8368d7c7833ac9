//! join, joinall, iwait, wait.

use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::event::Event;
use greenling::thread::join_each;
use greenling::{join_all, join_any, sleep, spawn, timeout, yield_now};

use crate::common::deadline;
use crate::{Ended, LONG, SHORT, fail, outcome};

fn after<T: 'static>(ms: u64, value: T) -> greenling::JoinHandle<T> {
    spawn(move || {
        sleep(Duration::from_millis(ms));
        value
    })
}

#[test]
fn join_with_a_timeout_gives_the_handle_back() {
    deadline(20, || {
        let child = after(30, "done");
        let began = Instant::now();
        let child = child.join_timeout(SHORT).unwrap_err();
        assert!(began.elapsed() >= SHORT && !child.is_finished());
        assert_eq!(child.join_timeout(LONG).unwrap().unwrap(), "done");
        // Zero is a look, for one that has ended.
        let child = after(0, 5);
        yield_now();
        sleep(Duration::from_millis(1));
        assert_eq!(child.join_timeout(Duration::ZERO).unwrap().unwrap(), 5);
    });
}

#[test]
fn join_all_keeps_the_order_of_the_handles_and_every_result() {
    deadline(20, || {
        let handles = [after(20, 1), spawn(|| fail("second")), after(1, 3), after(10, 4)];
        let results: Vec<_> = join_all(handles).into_iter().map(outcome).collect();
        assert_eq!(
            results,
            [Ended::Returned(1), Ended::Panicked("second"), Ended::Returned(3), Ended::Returned(4)]
        );
        assert!(join_all(Vec::<greenling::JoinHandle<()>>::new()).is_empty());
    });
}

#[test]
fn join_all_under_a_time_limit_leaves_the_others_running() {
    deadline(20, || {
        let event = Rc::new(Event::new());
        let late = spawn({
            let event = event.clone();
            move || {
                sleep(3 * SHORT);
                event.set();
            }
        });
        assert!(timeout(SHORT, || join_all([late])).is_err());
        event.wait(); // it was detached, not killed
    });
}

#[test]
fn join_any_is_the_first_to_end_and_gives_the_others_back() {
    deadline(20, || {
        let (place, first, others) =
            join_any([after(30, 'a'), after(5, 'b'), after(20, 'c')]).unwrap();
        assert_eq!((place, first.unwrap()), (1, 'b'));
        let (place, second, others) = join_any(others).unwrap();
        assert_eq!((place, second.unwrap()), (1, 'c'));
        assert_eq!(join_all(others).into_iter().map(Result::unwrap).collect::<Vec<_>>(), ['a']);
        assert!(join_any(Vec::<greenling::JoinHandle<()>>::new()).is_none());
    });
}

#[test]
fn those_who_ended_before_come_first_in_the_order_of_the_handles() {
    deadline(20, || {
        let slow = after(2, 'x');
        let quick = after(1, 'y');
        sleep(SHORT);
        let order: Vec<char> =
            join_each([slow, quick, after(1, 'z')]).map(|(_, result)| result.unwrap()).collect();
        // As gevent does: of those that have ended already, the order of the ends is not known any more.
        assert_eq!(order, ['x', 'y', 'z']);
    });
}

#[test]
fn iteration_in_the_order_of_completion_may_wait_between_two_items() {
    deadline(20, || {
        let handles = (0..20).map(|n| after(20 - n, n));
        let mut seen = Vec::new();
        for (place, result) in join_each(handles) {
            assert_eq!(place as u64, result.unwrap());
            seen.push(place);
            sleep(Duration::from_millis(3)); // others end meanwhile
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..20));
    });
}

#[test]
fn iteration_that_is_broken_off_leaves_nothing_behind() {
    deadline(20, || {
        let mut each = join_each([after(1, 1), after(15, 2), after(15, 3)]);
        assert_eq!(each.next().unwrap().1.unwrap(), 1);
        assert!(timeout(Duration::from_millis(2), || each.next()).is_err());
        // The time limit took nothing from it.
        let rest: Vec<_> = each.map(|(_, result)| result.unwrap()).collect();
        assert_eq!(rest, [2, 3]);
    });
}

#[test]
fn a_coroutine_that_joins_itself_waits_until_it_is_killed() {
    deadline(20, || {
        // gevent refuses that; here the handle's owner can do it, and the deadlock report names it.
        let slot: Rc<std::cell::RefCell<Option<greenling::JoinHandle<()>>>> = Rc::default();
        let ended = Rc::new(Event::new());
        struct Set(Rc<Event>);
        impl Drop for Set {
            fn drop(&mut self) {
                self.0.set();
            }
        }
        let (own, set) = (slot.clone(), Set(ended.clone()));
        let child = spawn(move || {
            let _set = set;
            let own = own.borrow_mut().take().unwrap();
            assert!(own.join_timeout(SHORT).is_err());
        });
        *slot.borrow_mut() = Some(child);
        ended.wait();
    });
}

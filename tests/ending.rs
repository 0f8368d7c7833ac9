//! How others learn of a coroutine's end, and bring it about: kill and wait, join with a limit, links, and
//! waiting for many.

mod common;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::deadline;
use greenling::error::Killed;
use greenling::thread::{self, Builder, JoinHandle, join_each};
use greenling::time::shield;
use greenling::{hub, join_all, join_any, sleep, spawn, spawn_later, yield_now};

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

type Order = Rc<RefCell<Vec<u32>>>;

fn note(order: &Order, what: u32) {
    order.borrow_mut().push(what);
}

/// A coroutine whose destructors take their time.
fn slow_to_end() -> (JoinHandle<()>, Rc<Cell<bool>>) {
    struct Slow(Rc<Cell<bool>>);
    impl Drop for Slow {
        fn drop(&mut self) {
            spawn(|| sleep(SHORT)).join().unwrap();
            self.0.set(true);
        }
    }
    let ended = Rc::new(Cell::new(false));
    let slow = Slow(ended.clone());
    let child = spawn(move || {
        let _slow = slow;
        thread::park();
    });
    yield_now();
    (child, ended)
}

#[test]
fn kill_waits_for_the_end() {
    deadline(20, || {
        let (child, ended) = slow_to_end();
        child.kill();
        assert!(ended.get() && child.is_finished());
        child.kill();
        assert!(child.join().unwrap_err().is::<Killed>());
        // One that never began, too.
        let child = spawn(|| unreachable!("it has been killed"));
        child.kill();
        assert!(child.is_finished());
    });
}

#[test]
fn kill_timeout_says_whether_it_has_ended() {
    deadline(20, || {
        let (child, ended) = slow_to_end();
        let began = Instant::now();
        assert!(!child.kill_timeout(Duration::ZERO), "zero does not wait");
        assert!(!ended.get());
        assert!(!child.kill_timeout(Duration::from_millis(1)));
        assert!(child.kill_timeout(LONG));
        assert!(ended.get() && began.elapsed() < LONG);
        assert!(child.kill_timeout(Duration::ZERO), "it has ended");

        let shielded = spawn(|| shield(thread::park));
        yield_now();
        assert!(!shielded.kill_timeout(SHORT));
        shielded.thread().unpark();
        assert!(shielded.kill_timeout(LONG));
    });
}

#[test]
fn a_coroutine_that_kills_itself_unwinds_at_once() {
    deadline(20, || {
        let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let slot = own.clone();
        let child = spawn(move || {
            let handle = slot.take().unwrap();
            handle.kill();
            unreachable!("it has killed itself");
        });
        let thread = child.thread().clone();
        *own.borrow_mut() = Some(child);
        yield_now();
        thread.unpark();
        assert_eq!(hub::stats().live, 0);
    });
}

#[test]
fn two_that_kill_each_other_both_end() {
    deadline(20, || {
        let handles: Rc<RefCell<Vec<JoinHandle<()>>>> = Rc::default();
        let killers: Vec<_> = (0..2)
            .map(|n| {
                let handles = handles.clone();
                spawn(move || {
                    let other: *const JoinHandle<()> = &handles.borrow()[1 - n];
                    // SAFETY: the handles stay where they are until both have ended.
                    unsafe { &*other }.kill();
                    unreachable!("the other has killed this one meanwhile");
                })
            })
            .collect();
        *handles.borrow_mut() = killers;
        while hub::stats().live > 0 {
            yield_now();
        }
        let ended: Vec<_> = handles.take().into_iter().map(JoinHandle::join).collect();
        assert!(ended.into_iter().any(|end| end.unwrap_err().is::<Killed>()));
    });
}

#[test]
fn whoever_waits_for_a_kill_can_be_killed() {
    deadline(20, || {
        let victim = spawn(|| shield(thread::park));
        yield_now();
        let thread = victim.thread().clone();
        let killer = spawn(move || victim.kill());
        yield_now();
        killer.kill();
        assert!(killer.join().unwrap_err().is::<Killed>());
        thread.unpark();
        while hub::stats().live > 0 {
            yield_now();
        }
    });
}

#[test]
fn a_kill_from_another_thread_waits_as_well() {
    deadline(20, || {
        let (child, ended) = {
            let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let flag = ended.clone();
            let child = spawn(move || {
                let caught = catch_unwind(thread::park);
                shield(|| sleep(SHORT));
                flag.store(true, std::sync::atomic::Ordering::SeqCst);
                resume_unwind(caught.unwrap_err());
            });
            (child, ended)
        };
        yield_now();
        let (sender, receiver) = mpsc::channel();
        let killer = std::thread::spawn(move || {
            child.kill();
            sender.send(ended.load(std::sync::atomic::Ordering::SeqCst)).unwrap();
            let end: thread::Result<()> = child.join();
            end.unwrap_err().is::<Killed>()
        });
        while !killer.is_finished() {
            sleep(Duration::from_millis(1));
        }
        assert!(receiver.recv().unwrap() && killer.join().unwrap());
    });
}

#[test]
fn join_timeout_gives_the_handle_back() {
    deadline(20, || {
        let slow = spawn(|| {
            sleep(SHORT * 3);
            "done"
        });
        let slow = slow.join_timeout(Duration::ZERO).unwrap_err();
        let began = Instant::now();
        let slow = slow.join_timeout(SHORT).unwrap_err();
        assert!(began.elapsed() >= SHORT);
        assert_eq!(slow.join_timeout(LONG).unwrap().unwrap(), "done");
        let ended = spawn(|| 1);
        yield_now();
        assert_eq!(ended.join_timeout(Duration::ZERO).unwrap().unwrap(), 1);
        let broken = spawn(|| -> u8 { resume_unwind(Box::new("broken")) });
        let payload = broken.join_timeout(Duration::MAX).unwrap().unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"broken"));
    });
}

// ---- links ----------------------------------------------------------------------------------------

#[test]
fn links_run_in_their_order_each_once() {
    deadline(20, || {
        let order: Order = Rc::default();
        let worker = Builder::new().name("linked".into()).spawn(thread::park).unwrap();
        yield_now();
        for n in 0..5 {
            let order = order.clone();
            worker.on_exit(move |thread| {
                assert_eq!(thread.name(), Some("linked"));
                note(&order, n);
                if n == 2 {
                    resume_unwind(Box::new("one that panics does not stop the next"));
                }
            });
        }
        yield_now();
        assert!(order.borrow().is_empty());
        worker.thread().unpark();
        worker.join().unwrap();
        sleep(Duration::from_millis(1));
        assert_eq!(order.take(), [0, 1, 2, 3, 4]);
        sleep(Duration::from_millis(1));
        assert!(order.borrow().is_empty());
    });
}

#[test]
fn links_run_however_it_ends() {
    deadline(20, || {
        let count = Rc::new(Cell::new(0));
        let link = |worker: &JoinHandle<()>| {
            let count = count.clone();
            worker.on_exit(move |_| count.set(count.get() + 1));
        };
        let ends = spawn(|| ());
        link(&ends);
        let panics = spawn(|| resume_unwind(Box::new("end")));
        link(&panics);
        let killed = spawn(thread::park);
        link(&killed);
        killed.kill();
        let detached = spawn(|| ());
        link(&detached);
        drop(detached);
        assert!(ends.join().is_ok() && panics.join().is_err());
        let ended = spawn(|| ());
        while !ended.is_finished() {
            yield_now();
        }
        link(&ended); // at once
        drop(ended);
        sleep(Duration::from_millis(1));
        assert_eq!(count.get(), 5);
        assert_eq!(hub::stats().live, 0);
    });
}

#[test]
fn a_link_to_a_coroutine_of_another_thread_runs_here() {
    deadline(20, || {
        let (sender, receiver) = mpsc::channel();
        let other = std::thread::spawn(move || {
            let worker = spawn(|| sleep(SHORT));
            sender.send(worker).unwrap();
            sleep(SHORT * 3);
        });
        let worker = receiver.recv().unwrap();
        let here = std::thread::current().id();
        let ran = Rc::new(Cell::new(false));
        let flag = ran.clone();
        worker.on_exit(move |_| {
            assert_eq!(std::thread::current().id(), here);
            flag.set(true);
        });
        while !ran.get() {
            sleep(Duration::from_millis(1));
        }
        assert!(worker.is_finished());
        other.join().unwrap();
    });
}

// ---- later ----------------------------------------------------------------------------------------

#[test]
fn spawn_later_begins_after_its_delay() {
    deadline(20, || {
        let order: Order = Rc::default();
        let began = Instant::now();
        let later = |millis: u64, n: u32| {
            let order = order.clone();
            spawn_later(Duration::from_millis(millis), move || {
                note(&order, n);
                began.elapsed() >= Duration::from_millis(millis)
            })
        };
        let handles = [later(30, 3), later(10, 1), later(20, 2), later(0, 0)];
        assert!(order.borrow().is_empty());
        assert!(handles.into_iter().all(|handle| handle.join().unwrap()));
        assert_eq!(order.take(), [0, 1, 2, 3]);
    });
}

#[test]
fn spawn_later_without_delay_comes_after_what_is_there() {
    deadline(20, || {
        let order: Order = Rc::default();
        let add = |n: u32| {
            let order = order.clone();
            move || note(&order, n)
        };
        let handles = vec![spawn(add(0)), spawn_later(Duration::ZERO, add(1)), spawn(add(2))];
        join_all(handles).into_iter().for_each(Result::unwrap);
        let order = order.take();
        let place = |n: u32| order.iter().position(|other| *other == n).unwrap();
        assert!(place(0) < place(1), "{order:?}");
    });
}

#[test]
fn one_that_was_to_begin_later_can_be_killed_before() {
    deadline(20, || {
        let probe = Rc::new(());
        let own = probe.clone();
        let later = spawn_later(LONG, move || drop(own));
        sleep(Duration::from_millis(1));
        later.kill();
        assert!(later.join().unwrap_err().is::<Killed>());
        assert_eq!(Rc::strong_count(&probe), 1);
        assert_eq!((hub::stats().live, hub::stats().timers), (0, 0));
    });
}

// ---- many -----------------------------------------------------------------------------------------

#[test]
fn join_all_keeps_the_order_of_the_handles() {
    deadline(20, || {
        let handles = (0..50_u64).map(|n| {
            spawn(move || {
                sleep(Duration::from_millis((50 - n) % 7));
                if n == 20 {
                    resume_unwind(Box::new("the twentieth"));
                }
                n
            })
        });
        let results = join_all(handles);
        assert_eq!(results.len(), 50);
        for (n, result) in (0..).zip(results) {
            match result {
                Ok(value) => assert_eq!(value, n),
                Err(payload) => {
                    assert_eq!(payload.downcast_ref(), Some(&"the twentieth"));
                    assert_eq!(n, 20);
                }
            }
        }
        assert!(join_all(Vec::<JoinHandle<()>>::new()).is_empty());
    });
}

#[test]
fn join_any_returns_the_first_and_leaves_the_rest() {
    deadline(20, || {
        let racers = [40, 5, 20].map(|millis| {
            spawn(move || {
                sleep(Duration::from_millis(millis));
                millis
            })
        });
        let (place, result, rest) = join_any(racers).unwrap();
        assert_eq!((place, result.unwrap()), (1, 5));
        let (place, result, rest) = join_any(rest).unwrap();
        assert_eq!((place, result.unwrap()), (1, 20));
        let (place, result, rest) = join_any(rest).unwrap();
        assert_eq!((place, result.unwrap(), rest.len()), (0, 40, 0));
        assert!(join_any(rest).is_none());
    });
}

#[test]
fn join_each_yields_in_the_order_of_completion_and_loses_nothing() {
    deadline(20, || {
        let handles = [30_u64, 1, 20, 1, 10].map(|millis| {
            spawn(move || {
                sleep(Duration::from_millis(millis));
                millis
            })
        });
        let mut completed = join_each(handles);
        assert_eq!(completed.len(), 5);
        let mut order = Vec::new();
        // The caller waits for something else in between: meanwhile several end.
        while let Some((place, result)) = completed.next() {
            order.push((place, result.unwrap()));
            sleep(Duration::from_millis(12));
            assert_eq!(completed.len(), 5 - order.len());
        }
        assert_eq!(order, [(1, 1), (3, 1), (4, 10), (2, 20), (0, 30)]);
        assert!(completed.next().is_none());
    });
}

#[test]
fn join_each_takes_coroutines_of_several_threads_and_some_that_have_ended() {
    deadline(30, || {
        let (sender, receiver) = mpsc::channel();
        let others: Vec<_> = (0..3_u64)
            .map(|thread| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    let handles = (0..10_u64).map(|n| {
                        spawn(move || {
                            sleep(Duration::from_millis((n * 7 + thread) % 11));
                            thread * 10 + n
                        })
                    });
                    sender.send(handles.collect::<Vec<_>>()).unwrap();
                    sleep(Duration::from_millis(50));
                })
            })
            .collect();
        let mut handles: Vec<_> = receiver.iter().take(3).flatten().collect();
        handles.extend((30..40).map(|n| spawn(move || n)));
        while !handles.last().unwrap().is_finished() {
            yield_now();
        }
        let mut seen: Vec<_> = join_each(handles).map(|(_, result)| result.unwrap()).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..40));
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn a_dropped_iterator_detaches_what_is_left() {
    deadline(20, || {
        let count = Rc::new(Cell::new(0));
        let handles = (0..5_u64).map(|n| {
            let count = count.clone();
            spawn(move || {
                sleep(Duration::from_millis(1 + n));
                count.set(count.get() + 1);
            })
        });
        let mut completed = join_each(handles.collect::<Vec<_>>());
        completed.next().unwrap().1.unwrap();
        drop(completed);
        sleep(Duration::from_millis(30));
        assert_eq!((count.get(), hub::stats().live), (5, 0));
    });
}

#[test]
fn whoever_waits_for_many_can_be_killed() {
    deadline(20, || {
        let waits: [fn(Vec<JoinHandle<()>>); 3] = [
            |handles| _ = join_all(handles),
            |handles| _ = join_any(handles),
            |handles| join_each(handles).for_each(drop),
        ];
        for wait in waits {
            let children: Vec<_> = (0..3).map(|_| spawn(|| sleep(SHORT))).collect();
            let waiting = spawn(move || wait(children));
            yield_now();
            waiting.kill();
            assert!(waiting.join().unwrap_err().is::<Killed>());
            assert_eq!(hub::stats().live, 3, "the others go on, detached");
            sleep(SHORT * 2);
            assert_eq!(hub::stats().live, 0);
        }
    });
}

#[test]
fn a_link_may_do_anything() {
    deadline(20, || {
        let worker = spawn(|| ());
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        worker.on_exit(move |_| {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                sleep(Duration::from_millis(1));
                spawn(|| 1).join().unwrap()
            }));
            flag.set(caught.is_ok());
        });
        drop(worker);
        hub_is_idle();
        assert!(done.get());
    });
}

fn hub_is_idle() {
    while hub::stats().live > 0 {
        sleep(Duration::from_millis(1));
    }
}

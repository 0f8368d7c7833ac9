//! Who runs when.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greenling::io::Adapter;
use greenling::thread::{self, Builder, JoinHandle};
use greenling::{hub, spawn, yield_now};

use crate::common::deadline;

const LONG: Duration = Duration::from_secs(60);

/// What has happened, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<u32>>>);

impl Log {
    fn add(&self, what: u32) {
        self.0.borrow_mut().push(what);
    }

    fn take(&self) -> Vec<u32> {
        self.0.take()
    }
}

fn join_all(handles: Vec<JoinHandle<()>>) {
    handles.into_iter().for_each(|handle| handle.join().unwrap());
}

#[test]
fn what_a_coroutine_uses_and_returns_need_not_be_send() {
    deadline(20, || {
        let shared = Rc::new(Cell::new(1));
        let own = shared.clone();
        let child = spawn(move || {
            own.set(own.get() + 1);
            yield_now();
            own
        });
        let back = child.join().unwrap();
        back.set(back.get() + 1);
        assert_eq!(shared.get(), 3);
        assert_eq!(Rc::strong_count(&shared), 2);
    });
}

#[test]
fn a_coroutine_begins_only_when_its_parent_waits() {
    deadline(20, || {
        let began = Rc::new(Cell::new(false));
        let flag = began.clone();
        let child = spawn(move || flag.set(true));
        assert!(!began.get());
        child.join().unwrap();
        assert!(began.get());
    });
}

#[test]
fn coroutines_begin_in_the_order_in_which_they_were_spawned() {
    deadline(20, || {
        let log = Log::default();
        let handles = (0..1000)
            .map(|n| {
                let log = log.clone();
                spawn(move || log.add(n))
            })
            .collect();
        join_all(handles);
        assert!(log.take().into_iter().eq(0..1000));
    });
}

#[test]
fn what_a_coroutine_spawns_comes_after_what_is_there_already() {
    deadline(20, || {
        let log = Log::default();
        let (a, b) = (log.clone(), log.clone());
        let first = spawn(move || {
            a.add(1);
            let c = a.clone();
            spawn(move || c.add(3)).join().unwrap();
            a.add(4);
        });
        let second = spawn(move || b.add(2));
        join_all(vec![first, second]);
        assert_eq!(log.take(), [1, 2, 3, 4]);
    });
}

#[test]
fn those_that_yield_take_turns() {
    deadline(20, || {
        let log = Log::default();
        let handles = (0..3)
            .map(|n| {
                let log = log.clone();
                spawn(move || {
                    for _ in 0..4 {
                        log.add(n);
                        yield_now();
                    }
                })
            })
            .collect();
        join_all(handles);
        assert_eq!(log.take(), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
    });
}

#[test]
fn main_has_its_turn_like_the_others() {
    deadline(20, || {
        let log = Log::default();
        let child = spawn({
            let log = log.clone();
            move || {
                for _ in 0..3 {
                    log.add(1);
                    yield_now();
                }
            }
        });
        for _ in 0..3 {
            log.add(0);
            yield_now();
        }
        child.join().unwrap();
        assert_eq!(log.take(), [0, 1, 0, 1, 0, 1]);
    });
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    deadline(20, || {
        let log = Log::default();
        let now = Instant::now();
        let handles = [50, 10, 40, 20, 30]
            .map(|n| {
                let log = log.clone();
                spawn(move || {
                    thread::sleep_until(now + Duration::from_millis(u64::from(n)));
                    log.add(n);
                })
            })
            .into();
        join_all(handles);
        assert_eq!(log.take(), [10, 20, 30, 40, 50]);
        assert!(now.elapsed() >= Duration::from_millis(50));
    });
}

#[test]
fn a_deadline_in_the_past_has_been_reached() {
    deadline(20, || {
        let past = Instant::now();
        std::thread::sleep(Duration::from_millis(2));
        thread::sleep_until(past);
        thread::sleep_until(Instant::now());

        let (reader, _writer) = crate::common::pipe().unwrap();
        let reader = Adapter::new(reader).unwrap();
        let began = Instant::now();
        let read = reader.read_with_deadline(past, |mut io| io.read(&mut [0]));
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn what_is_ready_is_done_even_past_its_deadline() {
    deadline(20, || {
        let past = Instant::now();
        let (reader, mut writer) = crate::common::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let reader = Adapter::new(reader).unwrap();
        assert_eq!(reader.read_with_deadline(past, |mut io| io.read(&mut [0; 2])).unwrap(), 1);
    });
}

#[test]
fn an_endless_sleep_and_an_endless_park_can_be_ended() {
    deadline(20, || {
        let sleeper = spawn(|| thread::sleep(Duration::MAX));
        let parked = spawn(|| thread::park_timeout(Duration::MAX));
        thread::sleep(Duration::from_millis(5));
        assert!(!sleeper.is_finished() && !parked.is_finished());
        parked.thread().unpark();
        parked.join().unwrap();
        sleeper.kill();
        sleeper.join().unwrap_err();
    });
}

#[test]
fn sleep_zero_lets_others_run_and_timers_and_io_in() {
    deadline(20, || {
        let (timer, io) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let (reader, mut writer) = crate::common::pipe().unwrap();
        let mut reader = Adapter::new(reader).unwrap();
        let sleeper = spawn({
            let timer = timer.clone();
            move || {
                thread::sleep(Duration::from_millis(1));
                timer.set(true);
            }
        });
        let receiver = spawn({
            let io = io.clone();
            move || {
                assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
                io.set(true);
            }
        });
        yield_now();
        writer.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(2));
        // Not at once, since each look at the clock costs something; but soon.
        for _ in 0..1000 {
            thread::sleep(Duration::ZERO);
        }
        assert!(timer.get() && io.get());
        join_all(vec![sleeper, receiver]);
    });
}

#[test]
fn an_unpark_ends_neither_a_sleep_nor_a_join_nor_a_read() {
    deadline(20, || {
        let own = thread::current();
        let (reader, mut writer) = crate::common::pipe().unwrap();
        let child = spawn(move || {
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(1));
                own.unpark();
            }
            writer.write_all(b"x").unwrap();
        });
        let began = Instant::now();
        thread::sleep(Duration::from_millis(10));
        assert!(began.elapsed() >= Duration::from_millis(10));
        assert_eq!(Adapter::new(reader).unwrap().read(&mut [0; 8]).unwrap(), 1);
        child.join().unwrap();
        thread::park(); // the token is still there
    });
}

#[test]
fn a_wake_meant_for_an_earlier_wait_does_not_end_a_park() {
    deadline(20, || {
        let ended = Rc::new(Cell::new(false));
        let parked = spawn({
            let ended = ended.clone();
            move || {
                // Leaves an entry among the timers, which fires during the park.
                thread::park_timeout(Duration::from_millis(20));
                thread::park();
                ended.set(true);
            }
        });
        yield_now();
        parked.thread().unpark();
        thread::sleep(Duration::from_millis(50));
        assert!(!ended.get());
        parked.thread().unpark();
        parked.join().unwrap();
    });
}

#[test]
fn a_later_deadline_is_not_cut_short_by_an_earlier_one() {
    deadline(20, || {
        let child = spawn(|| {
            thread::park_timeout(Duration::from_millis(10)); // unparked at once
            let began = Instant::now();
            thread::park_timeout(Duration::from_millis(60));
            assert!(began.elapsed() >= Duration::from_millis(60));
            // And an earlier one is not drawn out by a later one.
            let handle = thread::current();
            spawn(move || handle.unpark());
            thread::park_timeout(LONG);
            let began = Instant::now();
            thread::sleep(Duration::from_millis(10));
            assert!(began.elapsed() < LONG / 2);
        });
        yield_now();
        child.thread().unpark();
        child.join().unwrap();
    });
}

#[test]
fn a_hundred_thousand_timers_are_cancelled_in_any_order() {
    let count: usize = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
    deadline(60, move || {
        let mut parked: Vec<_> = (0..count)
            .map(|n| {
                // Deadlines from one to three hours away, so that none is reached.
                let dur = Duration::from_micros(3_600_000_000 + fastrand::u64(..7_200_000_000));
                let child = Builder::new().stack_size(16 * 1024).spawn(move || {
                    thread::park_timeout(dur);
                    n
                });
                child.unwrap()
            })
            .collect();
        yield_now();
        assert_eq!(hub::stats().timers, count);
        fastrand::shuffle(&mut parked);
        for child in &parked {
            child.thread().unpark();
        }
        let mut sum = 0;
        for child in parked {
            sum += child.join().unwrap();
        }
        assert_eq!(sum, count * (count - 1) / 2);
        assert_eq!(hub::stats().timers, 0);
    });
}

#[test]
fn a_destructor_may_spawn() {
    struct Spawner(Rc<Cell<u32>>);
    impl Drop for Spawner {
        fn drop(&mut self) {
            let count = self.0.clone();
            spawn(move || count.set(count.get() + 1));
        }
    }
    deadline(20, || {
        let count = Rc::new(Cell::new(0));
        drop(Spawner(count.clone())); // on main
        let own = Spawner(count.clone());
        spawn(move || drop(own)).join().unwrap(); // in a coroutine
        let own = Spawner(count.clone());
        let result = spawn(move || own); // in a result that nobody takes
        drop(result);
        let own = Spawner(count.clone());
        let unwound = spawn(move || {
            let _own = own;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(unwound.join().is_err());
        let own = Spawner(count.clone());
        let killed = spawn(move || drop(own));
        killed.kill(); // drops a closure that never ran
        assert!(killed.join().is_err());
        for _ in 0..10 {
            yield_now();
        }
        assert_eq!(count.get(), 5);
    });
}

#[test]
fn coroutines_of_two_threads_do_not_mix() {
    static STOP: AtomicBool = AtomicBool::new(false);
    deadline(20, || {
        let work = || {
            let own = std::thread::current().id();
            let handles = (0..50)
                .map(|_| {
                    spawn(move || {
                        while !STOP.load(Ordering::Relaxed) {
                            assert_eq!(std::thread::current().id(), own);
                            yield_now();
                        }
                        thread::sleep(Duration::from_millis(1));
                        assert_eq!(std::thread::current().id(), own);
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(50));
            STOP.store(true, Ordering::Relaxed);
            join_all(handles);
        };
        let other = std::thread::spawn(work);
        work();
        other.join().unwrap();
    });
}

#[test]
fn current_is_the_coroutine_that_asks() {
    deadline(20, || {
        let main = thread::current().id();
        let children: Vec<_> = (0..10)
            .map(|_| {
                spawn(|| {
                    let before = thread::current().id();
                    yield_now();
                    thread::sleep(Duration::from_millis(1));
                    assert_eq!(thread::current().id(), before);
                    before
                })
            })
            .collect();
        yield_now();
        assert_eq!(thread::current().id(), main);
        for child in children {
            let id = child.thread().id();
            assert_eq!(child.join().unwrap(), id);
            assert_ne!(id, main);
        }
        assert_eq!(thread::current().id(), main);
    });
}

#[test]
fn a_coroutine_of_its_own_joins_ten_thousand() {
    deadline(60, || {
        let joined = spawn(|| {
            let children: Vec<_> = (0..10_000_u64).map(|n| spawn(move || n)).collect();
            children.into_iter().map(|child| child.join().unwrap()).sum::<u64>()
        });
        assert_eq!(joined.join().unwrap(), 10_000 * 9_999 / 2);
    });
}

//! The tests that std's threads and the crate's coroutines have to pass alike.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::thread::{self, Builder};
use crate::common::deadline;

const SHORT: Duration = Duration::from_millis(10);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Waits until `condition` holds, letting the others run.
fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn join_returns_what_the_closure_returns() {
    deadline(20, || {
        assert_eq!(thread::spawn(|| 6 * 7).join().unwrap(), 42);
        let text = String::from("moved in and out");
        assert_eq!(thread::spawn(move || text).join().unwrap(), "moved in and out");
        thread::spawn(|| ()).join().unwrap();
    });
}

#[test]
fn a_value_of_any_size_and_alignment_comes_out_whole() {
    #[derive(Debug, PartialEq)]
    #[repr(align(128))]
    struct Aligned([u64; 40]);

    deadline(20, || {
        let large = thread::spawn(|| [7u8; 20_000]).join().unwrap();
        assert!(large.iter().all(|&byte| byte == 7));
        let closure = Aligned(std::array::from_fn(|n| n as u64));
        let aligned = thread::spawn(move || {
            assert_eq!(&raw const closure as usize % 128, 0);
            closure
        });
        let aligned = aligned.join().unwrap();
        assert_eq!(&raw const aligned as usize % 128, 0);
        assert_eq!(aligned, Aligned(std::array::from_fn(|n| n as u64)));
    });
}

#[test]
fn join_returns_the_payload_of_a_panic() {
    deadline(20, || {
        let text = thread::spawn(|| -> () { resume_unwind(Box::new("static")) }).join();
        assert_eq!(text.unwrap_err().downcast_ref(), Some(&"static"));
        let number = fastrand::u8(1..2);
        let formatted = thread::spawn(move || panic!("expected: {number}")).join().unwrap_err();
        assert_eq!(formatted.downcast_ref(), Some(&String::from("expected: 1")));
        let any = thread::spawn(|| -> () { resume_unwind(Box::new(17_u16)) }).join();
        assert_eq!(*any.unwrap_err().downcast::<u16>().unwrap(), 17);
    });
}

#[test]
fn panicking_is_seen_by_the_one_that_panics_only() {
    struct Look(Arc<AtomicBool>);
    impl Drop for Look {
        fn drop(&mut self) {
            self.0.store(thread::panicking(), Ordering::SeqCst);
        }
    }
    deadline(20, || {
        let seen = Arc::new(AtomicBool::new(false));
        let look = Look(seen.clone());
        let broken = thread::spawn(move || {
            let _look = look;
            resume_unwind(Box::new(()));
        });
        assert!(broken.join().is_err());
        assert!(seen.load(Ordering::SeqCst));
        assert!(!thread::panicking());
        assert!(!thread::spawn(thread::panicking).join().unwrap());
    });
}

#[test]
fn is_finished_tells_whether_join_would_wait() {
    deadline(20, || {
        let child = thread::spawn(thread::park);
        thread::sleep(SHORT);
        assert!(!child.is_finished());
        child.thread().unpark();
        wait_until(|| child.is_finished());
        child.join().unwrap();

        let broken = thread::spawn(|| resume_unwind(Box::new("done for")));
        wait_until(|| broken.is_finished());
        assert!(broken.join().is_err());
    });
}

#[test]
fn a_dropped_handle_detaches() {
    deadline(20, || {
        let done = Arc::new(AtomicBool::new(false));
        let flag = done.clone();
        drop(thread::spawn(move || {
            thread::sleep(SHORT);
            flag.store(true, Ordering::SeqCst);
        }));
        wait_until(|| done.load(Ordering::SeqCst));
    });
}

#[test]
fn the_result_of_a_detached_one_is_dropped() {
    deadline(20, || {
        let probe = Arc::new(());
        let own = probe.clone();
        drop(thread::spawn(move || own));
        wait_until(|| Arc::strong_count(&probe) == 1);

        // The same if the handle goes after the end.
        let own = probe.clone();
        let child = thread::spawn(move || own);
        wait_until(|| child.is_finished());
        assert_eq!(Arc::strong_count(&probe), 2);
        drop(child);
        assert_eq!(Arc::strong_count(&probe), 1);
    });
}

#[test]
fn what_the_closure_has_captured_is_dropped_before_join_returns() {
    deadline(20, || {
        let probe = Arc::new(());
        let own = probe.clone();
        thread::spawn(move || drop(Arc::clone(&own))).join().unwrap();
        assert_eq!(Arc::strong_count(&probe), 1);
        let own = probe.clone();
        let broken = thread::spawn(move || -> () {
            let _own = own;
            resume_unwind(Box::new(()))
        });
        assert!(broken.join().is_err());
        assert_eq!(Arc::strong_count(&probe), 1);
    });
}

#[test]
fn names_are_what_the_builder_says() {
    deadline(20, || {
        let child = Builder::new()
            .name("a näme".into())
            .spawn(|| thread::current().name().map(str::to_owned))
            .unwrap();
        assert_eq!(child.thread().name(), Some("a näme"));
        assert_eq!(child.join().unwrap().as_deref(), Some("a näme"));
        let unnamed = thread::spawn(|| thread::current().name().map(str::to_owned));
        assert_eq!(unnamed.thread().name(), None);
        assert_eq!(unnamed.join().unwrap(), None);
        // Of a thread's own stack it is the thread's: `deadline` gives it the test's.
        let own = thread::current();
        assert!(own.name().unwrap().ends_with("names_are_what_the_builder_says"));
    });
}

#[test]
fn a_name_with_a_null_byte_is_a_panic() {
    deadline(20, || {
        let spawn = || Builder::new().name("a\0b".into()).spawn(|| ());
        assert!(catch_unwind(spawn).is_err());
    });
}

#[test]
fn ids_are_unique_and_stay() {
    deadline(20, || {
        let own = thread::current().id();
        assert_eq!(own, thread::current().id());
        let mut ids = HashSet::from([own]);
        for _ in 0..300 {
            let child = thread::spawn(|| thread::current().id());
            let id = child.thread().id();
            assert_eq!(child.join().unwrap(), id, "the handle and the child agree");
            assert!(ids.insert(id), "{id:?} was given out twice");
        }
        assert_eq!(own, thread::current().id());
    });
}

#[test]
fn debug_shows_what_a_handle_is() {
    deadline(20, || {
        let child = Builder::new().name("shown".into()).spawn(|| ()).unwrap();
        assert!(format!("{child:?}").starts_with("JoinHandle"), "{child:?}");
        let text = format!("{:?}", child.thread());
        assert!(text.starts_with("Thread {") && text.contains(r#"name: Some("shown")"#), "{text}");
        let id = format!("{:?}", child.thread().id());
        assert!(id.starts_with("ThreadId(") && text.contains(&id), "{id} {text}");
        child.join().unwrap();
        assert!(format!("{:?}", Builder::new().name("later".into())).contains("later"));
    });
}

#[test]
fn an_unpark_before_the_park_counts_once() {
    deadline(20, || {
        let own = thread::current();
        own.unpark();
        own.unpark();
        thread::park(); // returns at once
        let began = Instant::now();
        thread::park_timeout(SHORT); // the second unpark was the same token
        assert!(began.elapsed() >= SHORT);
    });
}

#[test]
fn unpark_ends_a_park() {
    deadline(20, || {
        let (to_main, main) = (thread::current(), Arc::new(AtomicBool::new(false)));
        let flag = main.clone();
        let child = thread::spawn(move || {
            flag.store(true, Ordering::SeqCst);
            to_main.unpark();
            thread::park();
            "unparked"
        });
        while !main.load(Ordering::SeqCst) {
            thread::park();
        }
        child.thread().unpark();
        assert_eq!(child.join().unwrap(), "unparked");
    });
}

#[test]
fn park_timeout_ends_by_token_or_by_time() {
    deadline(20, || {
        let began = Instant::now();
        thread::park_timeout(SHORT);
        assert!(began.elapsed() >= SHORT);

        let own = thread::current();
        let child = thread::spawn(move || own.unpark());
        thread::park_timeout(LONG);
        child.join().unwrap();
        assert!(began.elapsed() < LONG);

        thread::current().unpark();
        thread::park_timeout(LONG);
        thread::park_timeout(Duration::ZERO);
        assert!(began.elapsed() < LONG);
    });
}

#[test]
fn a_timed_out_park_leaves_a_later_token_alone() {
    deadline(20, || {
        thread::park_timeout(Duration::from_millis(1));
        thread::current().unpark();
        let began = Instant::now();
        thread::park_timeout(LONG);
        assert!(began.elapsed() < LONG);
    });
}

#[test]
fn unpark_of_one_that_has_ended_is_harmless() {
    deadline(20, || {
        let child = thread::spawn(|| ());
        let handle = child.thread().clone();
        child.join().unwrap();
        handle.unpark();
        handle.unpark();
        assert_eq!(thread::spawn(|| 1).join().unwrap(), 1);
        assert_eq!(handle.name(), None);
    });
}

#[test]
fn sleep_takes_at_least_its_time() {
    deadline(20, || {
        let began = Instant::now();
        thread::sleep(Duration::from_millis(20));
        assert!(began.elapsed() >= Duration::from_millis(20));
        thread::sleep(Duration::ZERO);
        assert!(began.elapsed() < LONG);
    });
}

#[test]
fn sleeps_of_many_run_at_the_same_time() {
    deadline(20, || {
        let began = Instant::now();
        let sleepers: Vec<_> =
            (0..50).map(|_| thread::spawn(|| thread::sleep(Duration::from_millis(100)))).collect();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        assert!(began.elapsed() < Duration::from_millis(50 * 100 / 2));
    });
}

#[test]
fn yield_now_lets_the_others_run() {
    deadline(20, || {
        let turn = Arc::new(AtomicUsize::new(0));
        let other = turn.clone();
        let child = thread::spawn(move || {
            for round in 0..100 {
                while other.load(Ordering::SeqCst) != 2 * round + 1 {
                    thread::yield_now();
                }
                other.fetch_add(1, Ordering::SeqCst);
            }
        });
        for round in 0..100 {
            while turn.load(Ordering::SeqCst) != 2 * round {
                thread::yield_now();
            }
            turn.fetch_add(1, Ordering::SeqCst);
        }
        child.join().unwrap();
        assert_eq!(turn.load(Ordering::SeqCst), 200);
    });
}

#[test]
fn a_child_may_spawn_and_join_children() {
    fn family(depth: u32) -> u32 {
        if depth == 0 {
            return 1;
        }
        let children = [0, 1].map(|_| thread::spawn(move || family(depth - 1)));
        children.into_iter().map(|child| child.join().unwrap()).sum()
    }
    deadline(20, || assert_eq!(family(6), 64));
}

#[test]
fn a_handle_may_be_joined_by_another() {
    deadline(20, || {
        let first = thread::spawn(|| {
            thread::sleep(SHORT);
            "first"
        });
        let second = thread::spawn(move || first.join().unwrap());
        assert_eq!(second.join().unwrap(), "first");
    });
}

#[test]
fn a_handle_may_be_joined_on_another_thread() {
    deadline(20, || {
        let child = thread::spawn(|| {
            thread::sleep(SHORT);
            vec![1, 2, 3]
        });
        let (sender, receiver) = mpsc::channel();
        let joiner = std::thread::spawn(move || sender.send(child.join().unwrap()));
        let result = loop {
            match receiver.try_recv() {
                Ok(result) => break result,
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        };
        assert_eq!(result, [1, 2, 3]);
        joiner.join().unwrap().unwrap();
    });
}

#[test]
fn a_caught_panic_does_no_harm() {
    deadline(20, || {
        let child = thread::spawn(|| {
            for _ in 0..10 {
                let caught = catch_unwind(AssertUnwindSafe(|| {
                    thread::sleep(Duration::from_millis(1));
                    resume_unwind(Box::new("caught"));
                }));
                assert!(caught.is_err());
                assert!(!thread::panicking());
                thread::yield_now();
            }
            "alive"
        });
        assert_eq!(child.join().unwrap(), "alive");
    });
}

#[test]
fn thread_locals_are_those_of_the_thread() {
    thread_local!(static LOCAL: std::cell::Cell<u32> = const { std::cell::Cell::new(1) });
    deadline(20, || {
        LOCAL.set(5);
        thread::sleep(SHORT);
        assert_eq!(LOCAL.get(), 5);
    });
}

//! Threads for what blocks: the hub goes on, results and panics come back, and whoever waits can be freed.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

use greenling::error::Killed;
use greenling::threadpool::{Builder, ThreadPool, unblock};
use greenling::{join_all, sleep, spawn, timeout, yield_now};

#[path = "common/child.rs"]
mod child;
mod common;

use child::On;
use common::deadline;

fn block(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// A gate at which jobs stand until it is opened: a job of an exact length, without a clock.
#[derive(Clone, Default)]
struct Gate {
    open: Arc<(Mutex<bool>, std::sync::Condvar)>,
}

impl Gate {
    fn pass(&self) {
        let (open, opened) = &*self.open;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

#[track_caller]
fn wait_for(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never comes");
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_hub_goes_on_while_a_job_blocks() {
    deadline(60, || {
        let gate = Gate::default();
        let turns = Rc::new(Cell::new(0));
        let other = spawn({
            let (turns, gate) = (turns.clone(), gate.clone());
            move || {
                for _ in 0..100 {
                    turns.set(turns.get() + 1);
                    yield_now();
                }
                gate.open();
            }
        });
        unblock(move || gate.pass());
        assert_eq!(turns.get(), 100);
        other.join().unwrap();
    });
}

#[test]
fn many_jobs_block_at_once() {
    deadline(60, || {
        let barrier = Arc::new(Barrier::new(100)); // nobody passes unless all are there
        let calls = (0..100).map(|n| {
            let barrier = barrier.clone();
            spawn(move || {
                unblock(move || {
                    barrier.wait();
                    n
                })
            })
        });
        let sum: i32 = join_all(calls).into_iter().map(Result::unwrap).sum();
        assert_eq!(sum, 4950);
    });
}

#[test]
fn a_panic_comes_back() {
    deadline(60, || {
        let caught =
            catch_unwind(|| unblock(|| -> () { resume_unwind(Box::new("broken")) })).unwrap_err();
        assert_eq!(*caught.downcast::<&str>().unwrap(), "broken");
        let pool = ThreadPool::new(1);
        let job = pool.spawn(|| -> () { resume_unwind(Box::new(7)) });
        assert_eq!(*job.join().unwrap_err().downcast::<i32>().unwrap(), 7);
        assert_eq!(pool.unblock(|| 8), 8, "the thread survives");
        assert_eq!(pool.threads(), 1);
    });
}

#[test]
fn a_result_that_panics_when_dropped_harms_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            resume_unwind(Box::new("boom"));
        }
    }
    deadline(60, || {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let pass = gate.clone();
        drop(pool.spawn(move || {
            pass.pass();
            Bomb
        }));
        gate.open();
        pool.join();
        assert_eq!(pool.unblock(|| 1), 1);
    });
}

#[test]
fn a_kill_frees_the_waiter_and_leaves_the_job() {
    deadline(60, || {
        let gate = Gate::default();
        let ended = Arc::new(AtomicBool::new(false));
        let waiter = spawn({
            let (gate, ended) = (gate.clone(), ended.clone());
            move || {
                unblock(move || {
                    gate.pass();
                    ended.store(true, Ordering::SeqCst);
                })
            }
        });
        yield_now();
        waiter.kill();
        assert!(waiter.join().unwrap_err().is::<Killed>());
        assert!(!ended.load(Ordering::SeqCst));
        gate.open();
        wait_for(|| ended.load(Ordering::SeqCst));
    });
}

#[test]
fn a_time_limit_frees_the_waiter_and_leaves_the_job() {
    deadline(60, || {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let pass = gate.clone();
        assert!(timeout(Duration::from_millis(5), || pool.unblock(move || pass.pass())).is_err());
        assert_eq!(pool.len(), 1);
        let job = pool.spawn(|| 5);
        let job = job.join_timeout(Duration::from_millis(5)).unwrap_err();
        assert!(!job.is_finished());
        gate.open();
        assert_eq!(job.join().unwrap(), 5);
        pool.join();
        assert!(pool.is_empty());
    });
}

#[test]
fn a_full_pool_queues_in_order() {
    deadline(60, || {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        let jobs: Vec<_> = (0..20)
            .map(|n| {
                let (gate, order) = (gate.clone(), order.clone());
                pool.spawn(move || {
                    gate.pass();
                    order.lock().unwrap().push(n);
                })
            })
            .collect();
        assert_eq!((pool.len(), pool.threads()), (20, 1));
        gate.open();
        jobs.into_iter().for_each(|job| job.join().unwrap());
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn never_more_threads_than_asked_for() {
    deadline(60, || {
        let pool = ThreadPool::new(3);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let count = running.clone();
        let max = most.clone();
        let results = pool.map(0..200, move |n| {
            max.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            count.fetch_sub(1, Ordering::SeqCst);
            n
        });
        let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
        assert_eq!(results, (0..200).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert!(pool.threads() <= 3);
    });
}

#[test]
fn jobs_may_wait_for_jobs_of_their_own_full_pool() {
    fn depth(pool: &ThreadPool, left: u32) -> u32 {
        if left == 0 {
            return 0;
        }
        let inner = pool.clone();
        pool.unblock(move || depth(&inner, left - 1)) + 1
    }
    deadline(60, || {
        let pool = ThreadPool::new(1);
        assert_eq!(depth(&pool, 20), 20);
        // And all threads at once.
        let pool = ThreadPool::new(4);
        let inner = pool.clone();
        let results = pool.map(0..40, move |_| depth(&inner, 5));
        assert!(results.into_iter().all(|result| result.unwrap() == 5));
    });
}

#[test]
fn threads_come_when_needed_and_leave_when_idle() {
    deadline(60, || {
        let pool = Builder::new().max_threads(1).idle_timeout(Duration::from_millis(20)).build();
        assert_eq!(pool.threads(), 0);
        let first = pool.unblock(|| std::thread::current().id());
        assert_eq!(pool.threads(), 1);
        assert_eq!(pool.unblock(|| std::thread::current().id()), first, "it is used again");
        wait_for(|| pool.threads() == 0);
        assert_ne!(pool.unblock(|| std::thread::current().id()), first);
        let none = Builder::new().idle_timeout(Duration::ZERO).build();
        none.unblock(|| ());
        wait_for(|| none.threads() == 0);
        let for_ever = Builder::new().idle_timeout(Duration::MAX).build();
        for_ever.unblock(|| ());
        assert_eq!(for_ever.unblock(|| 3), 3);
    });
}

#[test]
fn no_job_is_lost_to_a_thread_that_leaves() {
    deadline(120, || {
        let pool = Builder::new().max_threads(2).idle_timeout(Duration::from_micros(1)).build();
        for n in 0..2000 {
            assert_eq!(pool.unblock(move || n), n);
            if n % 7 == 0 {
                sleep(Duration::from_micros(n % 100));
            }
        }
    });
}

#[test]
fn jobs_that_are_left_behind_are_done_and_threads_end() {
    deadline(60, || {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..5 {
            let (gate, done) = (gate.clone(), done.clone());
            pool.spawn(move || {
                gate.pass();
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        drop(pool);
        gate.open();
        wait_for(|| done.load(Ordering::SeqCst) == 5);
        // What the threads hold is let go when they end.
        wait_for(|| Arc::strong_count(&gate.open) == 1);
    });
}

#[test]
fn settings_reach_the_threads() {
    deadline(60, || {
        let pool = Builder::new().thread_name("worker of mine").stack_size(16 << 20).build();
        let name = pool.unblock(|| {
            let mut deep = [0_u8; 8 << 20]; // would overflow std's 2 MiB
            std::hint::black_box(&mut deep);
            std::thread::current().name().map(str::to_owned)
        });
        assert_eq!(name.as_deref(), Some("worker of mine"));
        assert!(catch_unwind(|| ThreadPool::new(0)).is_err());
        assert!(catch_unwind(|| Builder::new().thread_name("a\0b")).is_err());
    });
}

#[test]
fn a_job_that_has_not_begun_can_be_cancelled() {
    deadline(60, || {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let pass = gate.clone();
        let running = pool.spawn(move || pass.pass());
        wait_for(|| pool.threads() == 1);
        let token = Arc::new(());
        let held = token.clone();
        let waiting = pool.spawn(move || drop(held));
        assert!(waiting.cancel());
        assert_eq!(Arc::strong_count(&token), 1, "its function is dropped at once");
        gate.open();
        running.join().unwrap();
        let done = pool.spawn(|| ());
        pool.join();
        assert!(done.is_finished());
        assert!(!done.cancel());
    });
}

#[test]
fn killing_a_map_takes_back_what_has_not_begun() {
    deadline(60, || {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let begun = Arc::new(AtomicUsize::new(0));
        let mapper = spawn({
            let (pool, gate, begun) = (pool.clone(), gate.clone(), begun.clone());
            move || {
                pool.map(0..10, move |_| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    gate.pass();
                })
            }
        });
        wait_for(|| begun.load(Ordering::SeqCst) == 1);
        mapper.kill();
        gate.open();
        pool.join();
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn plain_threads_and_several_hubs_share_a_pool() {
    deadline(60, || {
        let pool = ThreadPool::new(4);
        let users: Vec<_> = (0..4_u32)
            .map(|user| {
                let pool = pool.clone();
                std::thread::spawn(move || {
                    if user % 2 == 0 {
                        // Without a coroutine.
                        return (0..200).map(|n| pool.unblock(move || n)).sum();
                    }
                    let calls: Vec<_> = (0..200)
                        .map(|n| {
                            let pool = pool.clone();
                            spawn(move || pool.unblock(move || n))
                        })
                        .collect();
                    join_all(calls).into_iter().map(Result::unwrap).sum::<u32>()
                })
            })
            .collect();
        for user in users {
            assert_eq!(user.join().unwrap(), 19_900);
        }
    });
}

#[test]
fn a_job_is_joined_on_another_thread() {
    deadline(60, || {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let pass = gate.clone();
        let job = pool.spawn(move || pass.pass());
        let joiner = std::thread::spawn(move || job.join().is_ok());
        block(2);
        gate.open();
        assert!(joiner.join().unwrap());
    });
}

#[test]
fn a_job_may_use_coroutines() {
    deadline(60, || {
        let pool = ThreadPool::new(1);
        let (sent, received) = mpsc::channel();
        pool.unblock(move || {
            let inner = spawn(|| {
                sleep(Duration::from_millis(1));
                2
            });
            assert_eq!(inner.join().unwrap(), 2);
            // It outlives the job, and runs while the thread waits for the next.
            spawn(move || {
                sleep(Duration::from_millis(5));
                sent.send(3).unwrap();
            });
        });
        assert_eq!(received.recv_timeout(Duration::from_secs(20)).unwrap(), 3);
    });
}

#[test]
fn a_destructor_unblocks_in_place() {
    struct Last(Rc<Cell<bool>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let here = std::thread::current().id();
            self.0.set(unblock(move || std::thread::current().id() == here));
        }
    }
    deadline(60, || {
        let in_place = Rc::new(Cell::new(false));
        let last = Last(in_place.clone());
        let victim = spawn(move || {
            let _last = last;
            sleep(Duration::from_secs(3600));
        });
        yield_now();
        victim.kill();
        assert!(in_place.get());
    });
}

#[test]
fn without_threads_there_is_an_error() {
    let ended = child::run(On::MainThread, 30, || {
        let pool = ThreadPool::new(2);
        let none = libc::rlimit { rlim_cur: 1 << 20, rlim_max: libc::RLIM_INFINITY };
        let mut before = none;
        // SAFETY: both are valid for the calls.
        unsafe {
            libc::getrlimit(libc::RLIMIT_AS, &mut before);
            let set = libc::rlimit { rlim_max: before.rlim_max, ..none };
            assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &set), 0);
        }
        let refused = pool.try_spawn(|| 1).map(|_| ());
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_AS, &before) };
        refused.unwrap_err();
        assert!(pool.is_empty());
        assert_eq!(pool.threads(), 0);
        assert_eq!(pool.unblock(|| 2), 2, "it works again");
    });
    ended.succeeded();
}

#[test]
fn a_job_at_work_is_no_deadlock() {
    let ended = child::run(On::MainThread, 30, || {
        // Longer than the silence after which the hub looks for a deadlock.
        assert_eq!(unblock(|| (block(200), 1).1), 1);
        let pool = ThreadPool::new(1);
        let first = pool.spawn(|| block(150));
        let second = pool.spawn(|| block(150)); // waits for a thread
        second.join().unwrap();
        first.join().unwrap();
    });
    ended.succeeded();
}

#[test]
fn idle_threads_do_not_hide_a_deadlock() {
    let ended = child::run(On::MainThread, 30, || {
        unblock(|| ());
        let for_ever = Builder::new().idle_timeout(Duration::MAX).build();
        for_ever.unblock(|| ());
        let began = Instant::now();
        let panic = catch_unwind(greenling::thread::park).unwrap_err();
        assert!(panic.downcast_ref::<String>().unwrap().contains("deadlock"));
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(unblock(|| 1), 1);
    });
    ended.succeeded();
}

#[test]
fn a_forked_child_begins_without_threads() {
    let ended = child::run(On::MainThread, 60, || {
        let pool = ThreadPool::new(2);
        let gate = Gate::default();
        let pass = gate.clone();
        let running = pool.spawn(move || pass.pass());
        let pass = gate.clone();
        let other = pool.spawn(move || pass.pass());
        let waiting = pool.spawn(|| 1);
        let done = unblock(|| 5);
        let finished = ThreadPool::new(1).spawn(|| 6);
        wait_for(|| finished.is_finished());
        // SAFETY: what the child does afterwards is what is being tested.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let body = AssertUnwindSafe(|| {
                assert_eq!((pool.threads(), pool.len(), done), (0, 0, 5));
                assert_eq!(unblock(|| 2), 2);
                assert_eq!(pool.unblock(|| 3), 3);
                assert!(running.join().unwrap_err().is::<Killed>());
                assert!(waiting.join().unwrap_err().is::<Killed>());
                assert!(!other.cancel());
                assert_eq!(finished.join().unwrap(), 6);
                assert_eq!(pool.threads(), 1);
                // SAFETY: as above.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    let ok = pool.unblock(|| 4) == 4;
                    // SAFETY: ends the child at once.
                    unsafe { libc::_exit(i32::from(!ok)) };
                }
                assert_eq!(wait_child(pid), 0);
            });
            let ok = catch_unwind(body).is_ok();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!ok)) };
        }
        assert_eq!(unblock(move || wait_child(pid)), 0);
        gate.open();
        running.join().unwrap();
        other.join().unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
    });
    ended.succeeded();
}

fn wait_child(pid: i32) -> i32 {
    let mut status = -1;
    // SAFETY: `status` is valid for the write.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    status
}

//! Coroutines wait for futures, and futures for coroutines. The executors and timers here are made by hand,
//! so that every wake can be put where it hurts.

mod common;

use std::cell::Cell;
use std::future::{Future, IntoFuture, pending, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use common::deadline;
use greenling::{Killed, block_on, hub, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(10);

/// A future that another thread completes after a while.
struct Timer {
    shared: Arc<Mutex<(bool, Option<Waker>)>>,
}

impl Timer {
    fn new(after: Duration) -> Timer {
        let shared = Arc::new(Mutex::new((false, None::<Waker>)));
        let other = shared.clone();
        std::thread::spawn(move || {
            std::thread::sleep(after);
            let mut shared = other.lock().unwrap();
            shared.0 = true;
            let waker = shared.1.take();
            drop(shared);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        Timer { shared }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.shared.lock().unwrap();
        if shared.0 {
            return Poll::Ready(());
        }
        shared.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Runs a future on the calling thread without any coroutine: what an async runtime does.
fn run_as_an_executor<F: IntoFuture>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future.into_future());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_ready_future_needs_no_wait() {
    deadline(20, || {
        let switches = hub::stats().switches;
        assert_eq!(block_on(ready(1)), 1);
        assert_eq!(block_on(async { ready(1).await + ready(2).await }), 3);
        assert_eq!(hub::stats().switches, switches);
    });
}

#[test]
fn the_other_coroutines_run_meanwhile() {
    deadline(20, || {
        let turns = Rc::new(Cell::new(0));
        let other = spawn({
            let turns = turns.clone();
            move || loop {
                turns.set(turns.get() + 1);
                sleep(Duration::from_millis(1));
            }
        });
        block_on(Timer::new(2 * SHORT));
        assert!(turns.get() > 3);
        other.kill();

        // Many at once: as long as one.
        let began = Instant::now();
        let all = (0..20).map(|_| spawn(|| block_on(Timer::new(5 * SHORT))));
        greenling::join_all(all).into_iter().for_each(Result::unwrap);
        assert!(began.elapsed() < 10 * 5 * SHORT, "{:?}", began.elapsed());
    });
}

#[test]
fn a_wake_may_come_at_any_moment() {
    deadline(20, || {
        // In the poll itself.
        let mut polls = 0;
        block_on(poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            if polls == 100 { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert_eq!(polls, 100);

        // From a coroutine of the same hub, several times, and after the end.
        let (sender, wakers) = mpsc::channel::<Waker>();
        let waker = spawn(move || {
            let mut all: Vec<Waker> = Vec::new();
            for round in 0..1000 {
                if let Ok(waker) = wakers.try_recv() {
                    all.push(waker);
                }
                all.iter().for_each(Waker::wake_by_ref);
                if round % 3 == 0 { yield_now() } else { sleep(Duration::from_micros(1)) }
            }
        });
        for _ in 0..20 {
            let mut left = 3;
            block_on(poll_fn(|context| {
                sender.send(context.waker().clone()).unwrap();
                left -= 1;
                if left == 0 { Poll::Ready(()) } else { Poll::Pending }
            }));
        }
        waker.join().unwrap();
    });
}

#[test]
fn no_wake_of_another_thread_is_lost() {
    deadline(120, || {
        // The other thread wakes as soon as it is asked, that is, somewhere between poll and park.
        let (sender, wakers) = mpsc::channel::<(Waker, Arc<AtomicBool>)>();
        let other = std::thread::spawn(move || {
            for (waker, done) in wakers {
                for _ in 0..fastrand::u32(..300) {
                    std::hint::spin_loop();
                }
                done.store(true, Ordering::Release);
                waker.wake();
            }
        });
        let handles: Vec<_> = (0..4)
            .map(|_| {
                let sender = sender.clone();
                spawn(move || {
                    for _ in 0..10_000 {
                        let done = Arc::new(AtomicBool::new(false));
                        let mut asked = false;
                        block_on(poll_fn(|context| {
                            if done.load(Ordering::Acquire) {
                                return Poll::Ready(());
                            }
                            if !asked {
                                asked = true;
                                sender.send((context.waker().clone(), done.clone())).unwrap();
                            }
                            Poll::Pending
                        }));
                    }
                })
            })
            .collect();
        drop(sender);
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        other.join().unwrap();
    });
}

#[test]
fn a_poll_may_wait_as_coroutines_do() {
    deadline(20, || {
        let future = async {
            sleep(SHORT); // blocks this coroutine only
            Timer::new(SHORT).await;
            spawn(|| 5).join().unwrap() + block_on(async { 1 })
        };
        assert_eq!(block_on(future), 6);
    });
}

#[test]
fn a_kill_and_a_time_limit_drop_the_future() {
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    deadline(20, || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let endless = |count: Count| async move {
            let _count = count;
            pending::<()>().await
        };
        let child = spawn({
            let count = Count(dropped.clone());
            move || block_on(endless(count))
        });
        yield_now();
        child.kill();
        assert!(child.join().unwrap_err().is::<Killed>());
        assert_eq!(dropped.load(Ordering::SeqCst), 1);

        assert!(timeout(SHORT, || block_on(endless(Count(dropped.clone())))).is_err());
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
        // Only that: what has completed keeps its value.
        assert_eq!(timeout(SHORT, || block_on(async { 3 })), Ok(3));
    });
}

#[test]
fn a_panic_in_a_poll_is_the_coroutines_own() {
    deadline(20, || {
        let child = spawn(|| {
            block_on(async {
                Timer::new(Duration::from_millis(1)).await;
                std::panic::resume_unwind(Box::new("in a future"))
            })
        });
        assert_eq!(child.join().unwrap_err().downcast_ref(), Some(&"in a future"));
    });
}

// ---- the other way ----------------------------------------------------------------------------

#[test]
fn an_executor_on_another_thread_awaits_a_coroutine() {
    deadline(20, || {
        let (sender, handles) = mpsc::channel();
        let executor = std::thread::spawn(move || {
            run_as_an_executor(async move {
                let mut results = Vec::new();
                for handle in handles {
                    let handle: greenling::JoinHandle<u32> = handle;
                    results.push(handle.await.map_err(|payload| payload.is::<Killed>()));
                }
                results
            })
        });
        let slow = spawn(|| {
            sleep(2 * SHORT);
            1
        });
        let done = spawn(|| 2);
        let broken = spawn(|| -> u32 { std::panic::resume_unwind(Box::new("oh")) });
        let victim = spawn(|| -> u32 {
            sleep(Duration::from_secs(60));
            unreachable!()
        });
        yield_now();
        victim.kill();
        for handle in [slow, done, broken, victim] {
            sender.send(handle).unwrap();
        }
        drop(sender);
        while !executor.is_finished() {
            sleep(Duration::from_millis(1));
        }
        assert_eq!(executor.join().unwrap(), [Ok(1), Ok(2), Err(false), Err(true)]);
    });
}

#[test]
fn only_the_last_waker_is_woken() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    deadline(20, || {
        let child = spawn(|| sleep(SHORT));
        let mut future = child.into_future();
        let counts = [(); 2].map(|()| Arc::new(Count(AtomicUsize::new(0))));
        for count in &counts {
            let waker = Waker::from(count.clone());
            assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(Arc::strong_count(&counts[0]), 1, "the first has been let go");
        sleep(3 * SHORT);
        assert_eq!(counts.each_ref().map(|count| count.0.load(Ordering::SeqCst)), [0, 1]);
        let waker = Waker::noop();
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(waker)).is_ready());
    });
}

#[test]
fn dropping_the_future_detaches() {
    deadline(20, || {
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        let mut future = spawn(move || {
            sleep(SHORT);
            flag.set(true);
        })
        .into_future();
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(future);
        sleep(3 * SHORT);
        assert!(done.get());
    });
}

#[test]
fn a_waker_that_panics_harms_nobody() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("in a waker"));
        }
    }
    deadline(20, || {
        let mut future = spawn(|| 5).into_future();
        let waker = Waker::from(Arc::new(Panics));
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
        yield_now();
        match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => assert_eq!(result.unwrap(), 5),
            Poll::Pending => panic!("it has ended"),
        }
    });
}

#[test]
fn ends_and_polls_race_on_two_threads() {
    deadline(120, || {
        let (sender, futures) = mpsc::sync_channel(16);
        let executor = std::thread::spawn(move || {
            let mut total = 0;
            for (future, expected) in futures {
                let future: greenling::block_on::JoinFuture<u64> = future;
                assert_eq!(run_as_an_executor(future).unwrap(), expected);
                total += 1;
            }
            total
        });
        for number in 0..20_000_u64 {
            let child = spawn(move || {
                yield_now();
                number
            });
            if sender.try_send((child.into_future(), number)).is_err() {
                // The executor is behind: it cannot go on before our coroutines have ended.
                for _ in 0..20 {
                    yield_now();
                    std::thread::yield_now();
                }
            }
            if number % 3 == 0 {
                yield_now();
            }
        }
        drop(sender);
        while !executor.is_finished() {
            sleep(Duration::from_micros(100));
        }
        assert!(executor.join().unwrap() > 1000);
    });
}

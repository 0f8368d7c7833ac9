//! tokio: on one thread without its drivers (they cost a look at epoll each round, so only the timers have theirs), or
//! with several workers.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinHandle, yield_now};
use tokio::{spawn, time};

use super::{LIVE, LONG, MANY, Op, SHORT, SLEEPERS, SPAWNED, Span, Start, Timed, WAITS};

fn runtime(op: Op, workers: usize) -> Runtime {
    let mut builder = match workers {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    if matches!(op, Op::Timer | Op::Timer1m | Op::Sleep) {
        builder.enable_time();
    }
    builder.build().expect("there are threads")
}

pub(super) fn find(op: Op, workers: usize) -> Option<Timed> {
    match op {
        Op::Yield => Some(run(op, workers, |count| in_turn(2, count))),
        Op::Yield1000 => Some(run(op, workers, |count| in_turn(MANY, count))),
        Op::Spawn => Some(run(op, workers, one_at_a_time)),
        Op::Spawn10000 => Some(run(op, workers, many_at_once)),
        Op::Channel => Some(run(op, workers, round_trips)),
        Op::Mutex => Some(run(op, workers, uncontended)),
        Op::Mutex1000 | Op::Mutex4x250 => Some(run(op, workers, contended)),
        Op::Timer => Some(run(op, workers, timers)),
        Op::Timer1m => {
            let mut missing = LIVE;
            Some(run(op, workers, move |count| among_live(std::mem::take(&mut missing), count)))
        }
        Op::Sleep => Some(run(op, workers, sleeps)),
        Op::Idle => Some(run(op, workers, idle)),
        Op::Switch | Op::Next | Op::Chain => None,
    }
}

fn run<F>(op: Op, workers: usize, mut operation: impl FnMut(u64) -> F + 'static) -> Timed
where
    F: Future<Output = Duration> + Send + 'static,
{
    let runtime = runtime(op, workers);
    // In a task, as the others are: `block_on` itself is outside of the scheduler.
    Box::new(move |count| {
        let operation = operation(count);
        runtime.block_on(async move { spawn(operation).await }).expect("it does not panic")
    })
}

async fn join(all: Vec<JoinHandle<()>>) {
    for one in all {
        one.await.expect("it does not panic");
    }
}

async fn in_turn(among: u64, count: u64) -> Duration {
    let each = count.div_ceil(among);
    let begin = Start::now();
    let one = |_| {
        spawn(async move {
            for _ in 0..each {
                yield_now().await;
            }
        })
    };
    join((0..among).map(one).collect()).await;
    begin.elapsed()
}

async fn one_at_a_time(count: u64) -> Duration {
    let begin = Start::now();
    for _ in 0..count {
        black_box(spawn(async { black_box(1) }).await.expect("it does not panic"));
    }
    begin.elapsed()
}

async fn many_at_once(count: u64) -> Duration {
    let begin = Start::now();
    for _ in 0..count / SPAWNED {
        join((0..SPAWNED).map(|n| spawn(async move { _ = black_box(n) })).collect()).await;
    }
    begin.elapsed()
}

async fn round_trips(count: u64) -> Duration {
    let (there, mut at_the_other) = mpsc::unbounded_channel();
    let (back, mut at_the_one) = mpsc::unbounded_channel();
    let other = spawn(async move {
        while let Some(n) = at_the_other.recv().await {
            back.send(n).expect("it waits");
        }
    });
    let begin = Start::now();
    for n in 0..count {
        there.send(n).expect("it waits");
        assert_eq!(at_the_one.recv().await, Some(n));
    }
    let time = begin.elapsed();
    drop(there);
    other.await.expect("it does not panic");
    time
}

async fn uncontended(count: u64) -> Duration {
    let mutex = Mutex::new(0_u64);
    let begin = Start::now();
    for _ in 0..count {
        *black_box(&mutex).lock().await += 1;
    }
    begin.elapsed()
}

async fn contended(count: u64) -> Duration {
    let mutex = Arc::new(Mutex::new(0_u64));
    let begin = Start::now();
    let one = |_| {
        let mutex = Arc::clone(&mutex);
        spawn(async move {
            for n in 0..count / MANY {
                let mut guard = mutex.lock().await;
                *guard += 1;
                if n % WAITS == 0 {
                    yield_now().await;
                }
            }
        })
    };
    join((0..MANY).map(one).collect()).await;
    begin.elapsed()
}

async fn timers(count: u64) -> Duration {
    let begin = Start::now();
    for _ in 0..count {
        // It is set when it is first polled.
        let mut sleep = pin!(time::sleep(LONG));
        poll_fn(|context| Poll::Ready(black_box(sleep.as_mut().poll(context).is_ready()))).await;
    }
    begin.elapsed()
}

/// First sets so many timers, which stay.
async fn among_live(missing: u64, count: u64) -> Duration {
    for n in 0..missing {
        let mut live = Box::pin(time::sleep(LONG + Duration::from_millis(n)));
        poll_fn(|context| Poll::Ready(_ = live.as_mut().poll(context))).await;
        std::mem::forget(live);
    }
    timers(count).await
}

async fn sleeps(count: u64) -> Duration {
    let span = Span::new(SLEEPERS);
    let one = |_| {
        let span = Arc::clone(&span);
        spawn(async move {
            span.begin();
            while !span.all_have_begun() {
                time::sleep(SHORT).await;
            }
            for _ in 0..count / SLEEPERS {
                time::sleep(SHORT).await;
            }
            span.end();
        })
    };
    join((0..SLEEPERS).map(one).collect()).await;
    span.length()
}

async fn idle(count: u64) -> Duration {
    let begin = Start::now();
    for _ in 0..count {
        spawn(std::future::pending::<()>());
    }
    yield_now().await;
    begin.elapsed()
}

//! Coroutines and tokio, each on threads of its own: a coroutine waits for tokio's futures by `block_on`, and
//! tokio's tasks await coroutines.

use std::future::IntoFuture;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use greenling::{JoinHandle, Killed, block_on, join_all, sleep, spawn, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

const SHORT: Duration = Duration::from_millis(10);

/// Runs a test on a thread of its own. A hang is a failure.
fn deadline(secs: u64, test: impl FnOnce() + Send + 'static) {
    let (ended, end) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        ended.send(()).unwrap();
    });
    match end.recv_timeout(Duration::from_secs(secs)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the test hangs"),
        _ => thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload)),
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

// ---- coroutines wait for futures ------------------------------------------------------------------

#[test]
fn many_coroutines_wait_for_tokios_timers_at_once() {
    deadline(60, || {
        let runtime = runtime();
        let began = Instant::now();
        let all = (0..200).map(|_| {
            let handle = runtime.handle().clone();
            spawn(move || {
                // Its timers want to know their runtime when they are made.
                let timer = {
                    let _inside = handle.enter();
                    tokio::time::sleep(5 * SHORT)
                };
                block_on(timer);
            })
        });
        join_all(all).into_iter().for_each(Result::unwrap);
        assert!(began.elapsed() >= 5 * SHORT);
        assert!(began.elapsed() < 50 * 5 * SHORT, "one after the other?");
    });
}

#[test]
fn a_coroutine_talks_to_tokios_sockets_and_tasks() {
    deadline(60, || {
        let runtime = runtime();
        let (tell, address) = mpsc::channel();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut text = [0; 5];
                    while stream.read_exact(&mut text).await.is_ok() {
                        text.reverse();
                        stream.write_all(&text).await.unwrap();
                    }
                });
            }
        });
        let address = address.recv().unwrap();
        // By its sockets, in a task whose handle is awaited, and by ours.
        let by_tokio = runtime.spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let mut text = *b"abcde";
            stream.write_all(&text).await.unwrap();
            stream.read_exact(&mut text).await.unwrap();
            text
        });
        let by_ours = spawn(move || {
            use std::io::{Read, Write};
            let mut stream = greenling::net::TcpStream::connect(address).unwrap();
            let mut text = *b"12345";
            stream.write_all(&text).unwrap();
            stream.read_exact(&mut text).unwrap();
            text
        });
        assert_eq!(block_on(by_tokio).unwrap(), *b"edcba");
        assert_eq!(by_ours.join().unwrap(), *b"54321");
    });
}

#[test]
fn no_message_between_the_two_is_lost() {
    deadline(60, || {
        const COUNT: usize = 20_000;
        let runtime = runtime();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
        let (back, mut replies) = tokio::sync::mpsc::channel(8);
        runtime.spawn(async move {
            while let Some(n) = receiver.recv().await {
                back.send(n).await.unwrap();
            }
        });
        let putter = spawn(move || (0..COUNT).for_each(|n| block_on(sender.send(n)).unwrap()));
        let mut next = 0;
        while let Some(n) = block_on(replies.recv()) {
            assert_eq!(n, next);
            next += 1;
        }
        assert_eq!(next, COUNT);
        putter.join().unwrap();
    });
}

#[test]
fn a_kill_and_a_time_limit_drop_the_future() {
    deadline(60, || {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let victim = spawn(move || block_on(receiver));
        greenling::yield_now();
        victim.kill();
        assert!(sender.is_closed());
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        assert!(timeout(SHORT, || block_on(receiver)).is_err());
        assert!(sender.is_closed());
    });
}

// ---- tasks await coroutines -----------------------------------------------------------------------

/// Has tokio await handles on its own threads, while the hub here runs.
fn awaited<T: Send + 'static>(handles: Vec<JoinHandle<T>>) -> Vec<std::thread::Result<T>> {
    let other = std::thread::spawn(move || {
        runtime().block_on(async {
            let tasks: Vec<_> =
                handles.into_iter().map(|handle| tokio::spawn(handle.into_future())).collect();
            let mut results = Vec::new();
            for task in tasks {
                results.push(task.await.unwrap());
            }
            results
        })
    });
    while !other.is_finished() {
        sleep(Duration::from_micros(200));
    }
    other.join().unwrap()
}

#[test]
fn a_runtime_on_other_threads_awaits_coroutines_however_they_end() {
    deadline(60, || {
        let handles = (0..300_u64).map(|n| {
            spawn(move || {
                sleep(Duration::from_micros(n * 37 % 5000));
                if n % 10 == 3 {
                    std::panic::resume_unwind(Box::new(n));
                }
                n
            })
        });
        let handles: Vec<_> = handles.collect();
        for handle in handles.iter().skip(7).step_by(10) {
            handle.kill_timeout(Duration::ZERO);
        }
        for (n, result) in awaited(handles).into_iter().enumerate() {
            match (n % 10, result) {
                (3, Err(payload)) => assert_eq!(*payload.downcast::<u64>().unwrap(), n as u64),
                (7, Err(payload)) => assert!(payload.is::<Killed>()),
                // It may have ended before the kill.
                (_, Ok(value)) => assert_eq!(value, n as u64),
                (_, Err(_)) => panic!("{n} has failed"),
            }
        }
    });
}

/// A handle that is dropped as a future, by the runtime's own time limit, detaches its coroutine.
#[test]
fn a_future_that_is_given_up_detaches_its_coroutine() {
    deadline(60, || {
        let done = Arc::new(AtomicUsize::new(0));
        let count = done.clone();
        let slow = spawn(move || {
            sleep(20 * SHORT);
            count.fetch_add(1, Ordering::SeqCst);
        });
        let other = std::thread::spawn(move || {
            runtime().block_on(async {
                tokio::select! {
                    _ = slow.into_future() => false,
                    () = tokio::time::sleep(SHORT) => true,
                }
            })
        });
        while !other.is_finished() {
            sleep(Duration::from_millis(1));
        }
        assert!(other.join().unwrap(), "the timer was first");
        while done.load(Ordering::SeqCst) == 0 {
            sleep(Duration::from_millis(1));
        }
    });
}

/// There and back: a task awaits a coroutine that waits for a task.
#[test]
fn each_may_wait_for_the_other_in_turn() {
    deadline(60, || {
        let runtime = runtime();
        let handles: Vec<_> = (0..100)
            .map(|n| {
                let handle = runtime.handle().clone();
                spawn(move || {
                    let task = handle.spawn(async move {
                        tokio::task::yield_now().await;
                        n + 1
                    });
                    block_on(task).unwrap()
                })
            })
            .collect();
        let results = awaited(handles);
        assert!(results.into_iter().map(Result::unwrap).eq(1..=100));
    });
}

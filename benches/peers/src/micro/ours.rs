//! greenling.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use greenling::generator::Generator;
use greenling::greenlet::Greenlet;
use greenling::sync::{Mutex, mpsc};
use greenling::thread::{sleep, spawn_later};
use greenling::{JoinHandle, spawn, timeout, yield_now};

use super::bare::each_chain;
use super::{
    LIVE, LONG, MANY, Op, SHORT, SLEEPERS, SPAWNED, Span, Start, Timed, WAITS, each, timed,
};

pub(super) fn find(op: Op) -> Option<Timed> {
    Some(match op {
        Op::Switch => Box::new(between_two),
        Op::Next => {
            let mut numbers = Generator::new(|out, ()| {
                for n in 0_u64.. {
                    out.yield_(n);
                }
            });
            each(move || numbers.next())
        }
        Op::Chain => each_chain(chain),
        Op::Yield => Box::new(|count| in_turn(2, count)),
        Op::Yield1000 => Box::new(|count| in_turn(MANY, count)),
        Op::Spawn => each(|| spawn(|| black_box(1)).join().expect("it does not panic")),
        Op::Spawn10000 => Box::new(|count| {
            timed(|| {
                for _ in 0..count / SPAWNED {
                    join((0..SPAWNED).map(|n| spawn(move || _ = black_box(n))).collect());
                }
            })
        }),
        Op::Channel => Box::new(round_trips),
        Op::Mutex => {
            let mutex = Mutex::new(0_u64);
            each(move || *mutex.lock().expect("nobody panics") += 1)
        }
        Op::Mutex1000 => Box::new(|count| {
            let mutex = Arc::new(Mutex::new(0));
            timed(|| contend(MANY, count / MANY, &mutex))
        }),
        Op::Mutex4x250 => Box::new(|count| {
            let mutex = Arc::new(Mutex::new(0));
            timed(|| {
                thread::scope(|scope| {
                    for _ in 0..4 {
                        scope.spawn(|| contend(MANY / 4, count / MANY, &mutex));
                    }
                });
            })
        }),
        Op::Timer => each(|| timeout(LONG, || black_box(1))),
        Op::Timer1m => {
            // Neither has begun, so neither has memory for a stack.
            let later = |n| spawn_later(LONG + Duration::from_millis(n), || ());
            let live: Vec<_> = (0..LIVE).map(later).collect();
            each(move || timeout(LONG, || black_box(live.len())))
        }
        Op::Sleep => Box::new(|count| {
            let span = Span::new(SLEEPERS);
            let one = |_| {
                let span = Arc::clone(&span);
                spawn(move || {
                    span.begin();
                    while !span.all_have_begun() {
                        sleep(SHORT);
                    }
                    (0..count / SLEEPERS).for_each(|_| sleep(SHORT));
                    span.end();
                })
            };
            join((0..SLEEPERS).map(one).collect());
            span.length()
        }),
        Op::Idle => {
            let mut kept = Vec::new();
            Box::new(move |count| {
                timed(|| {
                    kept.extend((0..count).map(|_| spawn(greenling::thread::park)));
                    yield_now();
                })
            })
        }
    })
}

fn join(all: Vec<JoinHandle<()>>) {
    all.into_iter().for_each(|one| one.join().expect("it does not panic"));
}

fn between_two(count: u64) -> Duration {
    let first = Greenlet::new(move |count: u64| {
        let me = Greenlet::current();
        let second = Greenlet::<u64>::new(move |mut n| {
            loop {
                n = me.switch(n).expect("it waits");
            }
        });
        let begin = Start::now();
        for n in 0..count {
            black_box(second.switch(n).expect("it waits"));
        }
        begin.elapsed().as_nanos() as u64
    });
    Duration::from_nanos(first.switch(count).expect("it is new"))
}

enum Message {
    Next(Greenlet<Message>),
    Number(u64),
}

fn chain() -> u64 {
    use Message::{Next, Number};
    let mut head = Greenlet::base();
    for _ in 0..MANY {
        let before = Greenlet::new(|first: Message| {
            let Next(next) = first else { unreachable!("first who comes next") };
            let Ok(Number(n)) = Greenlet::base().switch(Number(0)) else {
                unreachable!("then a number")
            };
            next.switch(Number(n + 1)).expect("the next one waits")
        });
        before.switch(Next(head)).expect("it is new");
        head = before;
    }
    let Ok(Number(sum)) = head.switch(Number(0)) else { unreachable!("a number comes back") };
    sum
}

fn in_turn(among: u64, count: u64) -> Duration {
    let each = count.div_ceil(among);
    timed(|| join((0..among).map(|_| spawn(move || (0..each).for_each(|_| yield_now()))).collect()))
}

fn round_trips(count: u64) -> Duration {
    let (there, at_the_other) = mpsc::channel();
    let (back, at_the_one) = mpsc::channel();
    let other =
        spawn(move || at_the_other.iter().for_each(|n: u64| back.send(n).expect("it waits")));
    let one = spawn(move || {
        timed(|| {
            for n in 0..count {
                there.send(n).expect("it waits");
                assert_eq!(at_the_one.recv(), Ok(n));
            }
        })
    });
    let time = one.join().expect("it does not panic");
    other.join().expect("it does not panic");
    time
}

fn contend(among: u64, each: u64, mutex: &Arc<Mutex<u64>>) {
    let one = |_| {
        let mutex = Arc::clone(mutex);
        spawn(move || {
            for n in 0..each {
                let mut guard = mutex.lock().expect("nobody panics");
                *guard += 1;
                if n % WAITS == 0 {
                    yield_now();
                }
            }
        })
    };
    join((0..among).map(one).collect());
}

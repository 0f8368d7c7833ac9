//! The operations, each done as often as is asked.

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::ValueEnum;
use greenling::generator::Generator;
use greenling::greenlet::Greenlet;
use greenling::io::Adapter;
use greenling::sync::{Mutex, mpsc};
use greenling::thread::park;
use greenling::{sleep, spawn, timeout, yield_now};

/// A timer that does not fire.
const LONG: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Op {
    Yield,
    Spawn,
    Channel,
    Mutex,
    Sleep,
    Echo,
    Unpark,
    Timer,
    Switch,
    Next,
}

impl Op {
    pub(crate) const ALL: [Op; 10] = [
        Op::Yield,
        Op::Spawn,
        Op::Channel,
        Op::Mutex,
        Op::Sleep,
        Op::Echo,
        Op::Unpark,
        Op::Timer,
        Op::Switch,
        Op::Next,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Op::Yield => "yield",
            Op::Spawn => "spawn",
            Op::Channel => "channel",
            Op::Mutex => "mutex",
            Op::Sleep => "sleep",
            Op::Echo => "echo",
            Op::Unpark => "unpark",
            Op::Timer => "timer",
            Op::Switch => "switch",
            Op::Next => "next",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Op::Yield => "yield, two in turn, each",
            Op::Spawn => "spawn and join",
            Op::Channel => "mpsc::channel, there and back",
            Op::Mutex => "lock and unlock a Mutex, uncontended",
            Op::Sleep => "sleep for 200 µs, alone",
            Op::Echo => "64 bytes over a socket pair and back",
            Op::Unpark => "park, unpark and a yield",
            Op::Timer => "a timeout, set and cancelled",
            Op::Switch => "greenlet switch, from the base and back",
            Op::Next => "next value of a generator",
        }
    }

    /// How often it is done for the count.
    pub(crate) fn times(self) -> u64 {
        match self {
            Op::Echo | Op::Sleep => 2_000,
            _ => 10_000,
        }
    }

    pub(crate) fn run(self, times: u64) {
        match self {
            Op::Yield => yields(times),
            Op::Spawn => (0..times).for_each(|n| {
                assert_eq!(spawn(move || black_box(n)).join().expect("it does not panic"), n);
            }),
            Op::Channel => channel(times),
            Op::Mutex => {
                let mutex = black_box(Mutex::new(0));
                (0..times).for_each(|n| *mutex.lock().expect("nobody panics") += n);
            }
            // One alone: of several, how many wake at once is the clock's choice.
            Op::Sleep => (0..times).for_each(|_| sleep(Duration::from_micros(200))),
            Op::Echo => echo(times),
            Op::Unpark => unpark(times),
            Op::Timer => (0..times).for_each(|n| assert_eq!(timeout(LONG, || black_box(n)), Ok(n))),
            Op::Switch => {
                let echo = Greenlet::new(|mut n: u64| {
                    loop {
                        n = Greenlet::base().switch(n).expect("the base waits");
                    }
                });
                (0..times).for_each(|n| assert_eq!(echo.switch(n).expect("it waits"), n));
            }
            Op::Next => {
                let numbers = Generator::new(move |out, ()| (0..times).for_each(|n| out.yield_(n)));
                assert_eq!(numbers.map(black_box).sum::<u64>(), times * (times - 1) / 2);
            }
        }
    }
}

fn yields(times: u64) {
    let one = || spawn(move || (0..times / 2).for_each(|_| yield_now()));
    for one in [one(), one()] {
        one.join().expect("it does not panic");
    }
}

fn channel(times: u64) {
    let (there, at_the_other) = mpsc::channel();
    let (back, at_the_one) = mpsc::channel();
    let other = spawn(move || at_the_other.iter().for_each(|n| back.send(n).expect("it waits")));
    let one = spawn(move || {
        for n in 0..times {
            there.send(n).expect("it waits");
            assert_eq!(at_the_one.recv(), Ok(n));
        }
    });
    one.join().expect("it does not panic");
    other.join().expect("it does not panic");
}

fn echo(times: u64) {
    let (ours, theirs) = UnixStream::pair().expect("there are descriptors");
    let adapt = |stream| Adapter::new(stream).expect("a socket can be waited for");
    let (mut ours, mut theirs) = (adapt(ours), adapt(theirs));
    let echo = spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match theirs.read(&mut buffer).expect("it is open") {
                0 => break,
                length => theirs.write_all(&buffer[..length]).expect("it is open"),
            }
        }
    });
    let ask = spawn(move || {
        let (sent, mut answer) = ([7; 64], [0; 64]);
        for _ in 0..times {
            ours.write_all(&sent).expect("it is open");
            ours.read_exact(&mut answer).expect("it is open");
        }
        assert_eq!(sent, answer);
    });
    ask.join().expect("it does not panic");
    echo.join().expect("it does not panic");
}

fn unpark(times: u64) {
    let waiting = spawn(move || (0..times).for_each(|_| park()));
    let other = waiting.thread().clone();
    let waking = spawn(move || {
        for _ in 0..times {
            other.unpark();
            yield_now();
        }
    });
    waking.join().expect("it does not panic");
    waiting.join().expect("it does not panic");
}

//! Stacks: their size, their reuse, their number.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use greenling::generator::{Builder, Generator, Yielder};
use greenling::hub;

use crate::child::{self, On};
use crate::common::deadline;

/// Goes down so many levels, each of at least a kilobyte.
#[inline(never)]
fn deep(levels: u32) -> u32 {
    let frame = std::hint::black_box([levels; 256]);
    if levels == 0 {
        frame[0]
    } else {
        deep(levels - 1) + std::hint::black_box(frame)[255] / levels
    }
}

#[test]
fn a_builder_sets_the_size_of_the_stack() {
    deadline(20, || {
        // Eight times what fits by default.
        let mut generator = Builder::new()
            .stack_size(16 * 1024 * 1024)
            .build(|out, levels| out.yield_(deep(levels)))
            .unwrap();
        assert_eq!(generator.send(2000), Ok(2000));
    });
}

#[test]
fn a_stack_that_cannot_be_had_is_an_error() {
    deadline(10, || {
        let error = Builder::new()
            .stack_size(usize::MAX / 2)
            .build(|out: &Yielder<(), ()>, ()| out.yield_(()))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = Builder::new()
            .stack_size(usize::MAX / 2)
            .scope(|out: &Yielder<(), ()>, ()| out.yield_(()), |_| panic!("it is not called"));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn an_overflow_names_the_generator() {
    let ended = child::run(On::MainThread, 30, || {
        let mut generator = Builder::new()
            .name("bottomless".into())
            .stack_size(64 * 1024)
            .build(|out, levels| out.yield_(deep(levels)))
            .unwrap();
        let _ = generator.send(1_000_000);
    });
    ended.died_of(libc::SIGABRT);
    assert!(ended.stderr.contains("generator 'bottomless' has overflowed"), "{ended:?}");
    assert!(ended.stderr.contains("65536 bytes"), "{ended:?}");
}

#[test]
fn an_overflow_in_a_nested_one_names_the_nested_one() {
    let ended = child::run(On::OtherThread, 30, || {
        let mut outer = Builder::new()
            .name("outer".into())
            .build(|out: &Yielder<u32, u32>, levels| {
                let mut inner = Builder::new()
                    .name("inner".into())
                    .build(|out, levels| out.yield_(deep(levels)))
                    .unwrap();
                out.yield_(inner.send(levels).unwrap());
            })
            .unwrap();
        let _ = outer.send(1_000_000);
    });
    ended.died_of(libc::SIGABRT);
    assert!(ended.stderr.contains("generator 'inner' has overflowed"), "{ended:?}");
}

#[test]
fn stacks_are_used_again() {
    deadline(20, || {
        let one_life = |n| {
            let mut generator = Generator::new(|out, ()| {
                for k in 0.. {
                    out.yield_(k);
                }
            });
            assert_eq!(generator.next(), Some(0));
            // To the end, or dropped early.
            if n % 2 == 0 {
                drop(generator);
            } else {
                generator.close();
            }
        };
        (0..10).for_each(one_life);
        let before = hub::stats();
        (0..1000).for_each(one_life);
        let after = hub::stats();
        assert_eq!(after.stack_bytes_reserved, before.stack_bytes_reserved);
        assert_eq!(after.stacks_in_use, before.stacks_in_use);
    });
}

/// So many generators that are all suspended at once.
fn many(count: u64) {
    let begin = Instant::now();
    let mut generators: Vec<_> = (0..count)
        .map(|n| {
            let mut generator = Generator::new(move |out, ()| {
                out.yield_(n);
                out.yield_(n + 1);
            });
            assert_eq!(generator.next(), Some(n));
            generator
        })
        .collect();
    assert!(hub::stats().stacks_in_use as u64 >= count);
    let made = begin.elapsed();
    let sum: u64 = generators.iter_mut().map(|generator| generator.next().unwrap()).sum();
    assert_eq!(sum, count * (count + 1) / 2);
    drop(generators);
    println!("{count} generators: made in {made:?}, used and dropped {:?}", begin.elapsed() - made);
    assert!(begin.elapsed() < Duration::from_secs(300));
}

#[test]
fn twenty_thousand_live() {
    deadline(120, || many(20_000));
}

#[test]
#[ignore = "takes 5 GB of memory and half a minute"]
fn a_million_live() {
    deadline(600, || many(1_000_000));
}

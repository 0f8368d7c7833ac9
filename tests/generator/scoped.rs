//! Generators that borrow.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use greenling::generator::{self, Builder, Step, Yielder};

use crate::child::{self, On};
use crate::common::deadline;
use crate::{Log, panic_of};

#[test]
fn it_borrows_and_changes() {
    deadline(10, || {
        let text = String::from("some borrowed words");
        let mut seen = Vec::new();
        let mut count = 0;
        let total = generator::scope(
            |out, ()| {
                for word in text.split(' ') {
                    count += 1;
                    out.yield_(word);
                }
                count
            },
            |mut words| {
                seen.extend(words.by_ref());
                words.take_return()
            },
        );
        assert_eq!((seen, total, count), (vec!["some", "borrowed", "words"], Some(3), 3));
    });
}

#[test]
fn inputs_may_borrow_too() {
    deadline(10, || {
        let words = ["a".to_owned(), "bc".to_owned()];
        let lengths = generator::scope(
            |out, mut word: &str| {
                loop {
                    word = out.yield_(word.len());
                }
            },
            |mut lengths| words.iter().map(|word| lengths.send(word).unwrap()).collect::<Vec<_>>(),
        );
        assert_eq!(lengths, [1, 2]);
    });
}

#[test]
fn it_unwinds_at_the_end_of_its_scope() {
    deadline(10, || {
        let log = Log::default();
        let body = |out: &Yielder<(), u32>, ()| {
            let _guard = log.guard("on its stack");
            out.yield_(1);
            log.add("goes on");
        };
        generator::scope(body, |mut generator| assert_eq!(generator.next(), Some(1)));
        assert_eq!(log.take(), ["drop on its stack"]);

        // When the scope is left by a panic, too.
        let message = panic_of(|| {
            generator::scope(body, |mut generator| {
                generator.next();
                resume_unwind(Box::new("out of the scope"));
            });
        });
        assert_eq!(
            (message.as_str(), log.take()),
            ("out of the scope", vec!["drop on its stack".to_owned()])
        );

        // Whatever is done to the handle.
        generator::scope(body, |mut generator| {
            generator.next();
            std::mem::forget(Some(Box::new(generator)));
        });
        assert_eq!(log.take(), ["drop on its stack"]);

        // One that never ran.
        generator::scope(body, |_| ());
        assert!(log.take().is_empty());
    });
}

#[test]
fn its_panic_reaches_whoever_opened_the_scope() {
    deadline(10, || {
        let message = panic_of(|| {
            generator::scope(
                |out, ()| {
                    out.yield_(1);
                    resume_unwind(Box::new("inside"));
                },
                |generator| generator.count(),
            )
        });
        assert_eq!(message, "inside");
        // Also one that comes when it is unwound.
        let message = panic_of(|| {
            generator::scope(
                |out, ()| {
                    if catch_unwind(AssertUnwindSafe(|| out.yield_(1))).is_err() {
                        resume_unwind(Box::new("instead of ending"));
                    }
                },
                |mut generator| generator.next(),
            )
        });
        assert_eq!(message, "instead of ending");
    });
}

#[test]
fn inner_ones_yield_for_outer_ones() {
    deadline(10, || {
        let mut outer = generator::Generator::new(|out, ()| {
            generator::scope(
                |inner_out, first: u32| {
                    let got = inner_out.yield_(first + 1);
                    out.yield_(format!("from the inner one: {got}"));
                    out.yield_("once more".to_owned());
                    let got = inner_out.yield_(got + 1);
                    out.yield_(format!("and: {got}"));
                },
                |mut inner| {
                    assert_eq!(inner.resume(10), Step::Yielded(11));
                    out.yield_("from the outer one".to_owned());
                    assert_eq!(inner.resume(20), Step::Yielded(21));
                    assert_eq!(inner.resume(30), Step::Complete(()));
                },
            );
        });
        let expected = ["from the outer one", "from the inner one: 20", "once more", "and: 30"];
        assert_eq!(outer.by_ref().collect::<Vec<_>>(), expected);
    });
}

#[test]
fn yields_pass_over_many_levels() {
    fn descend(out: &Yielder<(), u32>, depth: u32) {
        out.yield_(depth);
        if depth > 0 {
            generator::scope(
                |_: &Yielder<(), ()>, ()| descend(out, depth - 1),
                |mut inner| assert_eq!(inner.resume(()), Step::Complete(())),
            );
        }
        out.yield_(depth);
    }
    deadline(20, || {
        let mut values = generator::Generator::new(|out, ()| descend(out, 50));
        // It may move between its resumptions.
        let mut boxed = Box::new(values.by_ref().take(30).collect::<Vec<_>>());
        let mut moved = Some(values).into_iter().collect::<Vec<_>>();
        boxed.extend(moved[0].by_ref());
        assert!(boxed.into_iter().eq((0..=50).rev().chain(0..=50)));
    });
}

#[test]
fn one_that_cannot_end_aborts_at_the_end_of_its_scope() {
    let ended = child::run(On::MainThread, 20, || {
        struct YieldsLate<'a>(&'a Yielder<(), u32>);
        impl Drop for YieldsLate<'_> {
            fn drop(&mut self) {
                self.0.yield_(99);
            }
        }
        let _ = Builder::new().name("clinging".into()).scope(
            |out, ()| {
                let _late = YieldsLate(out);
                out.yield_(1);
            },
            |mut generator| generator.next(),
        );
        println!("this must not be reached");
    });
    ended.died_of(libc::SIGABRT);
    assert!(ended.stderr.contains("generator 'clinging'"), "{ended:?}");
    assert!(ended.stderr.contains("cannot be unwound"), "{ended:?}");
    assert!(!ended.stdout.contains("this must not be reached"));
}

#[test]
fn a_coroutine_that_borrows_a_yielder_cannot_use_it() {
    deadline(10, || {
        let mut generator = generator::Generator::new(|out, ()| {
            out.yield_("before".to_owned());
            let message = greenling::scope(|scope| {
                // It runs on a stack of its own, which this generator has not resumed.
                let thief = scope.spawn(|| out.yield_("stolen".to_owned()));
                let payload = thief.join().unwrap_err();
                *payload.downcast::<&str>().unwrap()
            });
            out.yield_(message.to_owned());
        });
        let expected = ["before", "a generator's yielder was used outside of the generator"];
        assert_eq!(generator.by_ref().collect::<Vec<_>>(), expected);
    });
}

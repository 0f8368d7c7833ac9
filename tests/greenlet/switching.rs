//! Who runs when, and with which message.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use greenling::greenlet::{Builder, Greenlet, State, SwitchError};

use crate::Log;
use crate::common::deadline;

#[test]
fn one_three_two_four() {
    deadline(10, || {
        let log = Log::default();
        let second = Rc::new(Cell::new(None::<Greenlet<()>>));
        let first = {
            let (log, second) = (log.clone(), second.clone());
            Greenlet::new(move |()| {
                log.add("1");
                let second = second.take().unwrap();
                second.switch(()).unwrap();
                log.add("2");
                second.switch(()).unwrap();
                log.add("not reached: the end of the second lets its parent go on");
            })
        };
        second.set(Some({
            let (log, first) = (log.clone(), first.clone());
            Greenlet::new(move |()| {
                log.add("3");
                first.switch(()).unwrap();
                log.add("4");
            })
        }));
        first.switch(()).unwrap();
        assert_eq!(log.take(), ["1", "3", "2", "4"]);
        assert_eq!(first.state(), State::Suspended);
    });
}

#[test]
fn the_first_message_is_the_argument_and_the_later_ones_are_results() {
    deadline(10, || {
        let greenlet = Greenlet::new(|first: String| {
            let second = Greenlet::base().switch(format!("first: {first}")).unwrap();
            let third = Greenlet::base().switch(format!("second: {second}")).unwrap();
            format!("third: {third}")
        });
        assert_eq!(greenlet.switch("a".into()).unwrap(), "first: a");
        assert_eq!(greenlet.switch("b".into()).unwrap(), "second: b");
        assert_eq!(greenlet.switch("c".into()).unwrap(), "third: c");
        assert!(matches!(greenlet.switch("d".into()), Err(SwitchError::Dead(d)) if d == "d"));
    });
}

#[test]
fn messages_of_every_size_arrive() {
    deadline(10, || {
        fn there_and_back<T: Clone + PartialEq + std::fmt::Debug + 'static>(value: T) {
            let echo = Greenlet::new(|mut value: T| {
                loop {
                    value = Greenlet::base().switch(value).unwrap();
                }
            });
            // By way of a second one, so that both ways of passing are used.
            let relay = {
                let echo = echo.clone();
                Greenlet::new(move |mut value: T| {
                    loop {
                        value = echo.switch(value).unwrap();
                    }
                })
            };
            for _ in 0..3 {
                assert_eq!(echo.switch(value.clone()).unwrap(), value);
                assert_eq!(relay.switch(value.clone()).unwrap(), value);
            }
        }
        there_and_back(());
        there_and_back(7_u8);
        there_and_back(u64::MAX);
        there_and_back(u128::MAX);
        there_and_back([1_u16; 1000]);
        there_and_back(String::from("on the heap"));
        there_and_back(None::<Box<u32>>);
        there_and_back(Some(Some(Box::new(5))));
        there_and_back(Ok::<u8, String>(1));
    });
}

#[test]
fn any_may_switch_to_any() {
    deadline(10, || {
        // A ring of ten, each switches to the next but two, wherever it came from.
        let ring: Rc<RefCell<Vec<Greenlet<u32>>>> = Rc::default();
        let log = Log::default();
        for n in 0..10 {
            let (ring_, log) = (ring.clone(), log.clone());
            ring.borrow_mut().push(Greenlet::new(move |mut left: u32| {
                loop {
                    log.add(n.to_string());
                    let next = match left {
                        0 => Greenlet::base(),
                        _ => ring_.borrow()[(n + 3) % 10].clone(),
                    };
                    left = next.switch(left.saturating_sub(1)).unwrap();
                }
            }));
        }
        let first = ring.borrow()[0].clone();
        assert_eq!(first.switch(12).unwrap(), 0);
        let expected: Vec<_> = (0..13).map(|n| (3 * n % 10).to_string()).collect();
        assert_eq!(log.take(), expected);
        ring.borrow_mut().clear();
    });
}

#[test]
fn a_switch_to_oneself_returns_at_once() {
    deadline(10, || {
        let greenlet = Greenlet::new(|n: i32| Greenlet::current().switch(n + 1).unwrap());
        assert_eq!(greenlet.switch(1).unwrap(), 2);
    });
}

#[test]
fn a_switch_from_base_to_base_is_an_error() {
    deadline(10, || {
        assert!(matches!(Greenlet::base().switch(7), Err(SwitchError::AtBase(7))));
        assert!(matches!(Greenlet::current().switch(8), Err(SwitchError::AtBase(8))));
        // Else this would go unnoticed: the message is an i32, and so of another family.
        let greenlet = Greenlet::new(|n: u64| {
            assert!(matches!(Greenlet::base().switch(9), Err(SwitchError::AtBase(9_i32))));
            n
        });
        assert_eq!(greenlet.switch(1).unwrap(), 1);
    });
}

#[test]
fn the_state_says_what_it_does() {
    deadline(10, || {
        let seen = Rc::new(Cell::new(None));
        let own = seen.clone();
        let greenlet = Greenlet::new(move |()| {
            let me = Greenlet::<()>::current();
            own.set(Some((me.state(), Greenlet::<()>::base().state())));
            Greenlet::base().switch(()).unwrap();
        });
        assert_eq!(greenlet.state(), State::New);
        greenlet.switch(()).unwrap();
        assert_eq!(seen.take(), Some((State::Running, State::Suspended)));
        assert_eq!(greenlet.state(), State::Suspended);
        assert!(!greenlet.is_dead());
        greenlet.switch(()).unwrap();
        assert_eq!(greenlet.state(), State::Dead);
        assert!(greenlet.is_dead());
        assert_eq!(Greenlet::<()>::base().state(), State::Running);
    });
}

#[test]
fn current_is_whoever_runs() {
    deadline(10, || {
        assert!(Greenlet::<u8>::current().is_base());
        let other: Rc<Cell<Option<Greenlet<u8>>>> = Rc::default();
        let first = {
            let other = other.clone();
            Greenlet::new(move |_| {
                let me = Greenlet::<u8>::current();
                other.take().unwrap().switch(1).unwrap();
                assert_eq!(Greenlet::current(), me);
                0
            })
        };
        let own = first.clone();
        let second = Greenlet::new(move |_| {
            assert_ne!(Greenlet::current(), own);
            own.switch(2).unwrap()
        });
        other.set(Some(second.clone()));
        first.switch(0).unwrap();
        assert_eq!((first.state(), second.state()), (State::Dead, State::Suspended));
        assert!(Greenlet::<u8>::current().is_base());
    });
}

#[test]
fn handles_are_equal_and_hash_by_greenlet() {
    deadline(10, || {
        let (a, b) = (Greenlet::new(|()| ()), Greenlet::new(|()| ()));
        assert_eq!(a, a.clone());
        assert_ne!(a, b);
        assert_ne!(a, Greenlet::base());
        assert_eq!(Greenlet::<()>::base(), Greenlet::current());
        let set = std::collections::HashSet::from([a.clone(), a.clone(), b.clone()]);
        assert_eq!(set.len(), 2);
        assert_ne!(a.id(), b.id());
        assert_eq!(Greenlet::<()>::base().id(), 0);
    });
}

#[test]
fn the_location_is_that_of_the_last_switch() {
    deadline(10, || {
        let made = line!() + 1;
        let greenlet = Greenlet::new(|()| {
            Greenlet::base().switch(()).unwrap();
            Greenlet::base().switch(()).unwrap();
        });
        let line = || greenlet.location().unwrap().line();
        assert_eq!(line(), made);
        assert!(greenlet.location().unwrap().file().ends_with("switching.rs"));
        greenlet.switch(()).unwrap();
        assert_eq!(line(), made + 1);
        greenlet.switch(()).unwrap();
        assert_eq!(line(), made + 2);
        assert_eq!(Greenlet::<()>::base().location(), None);
        let text = format!("{greenlet:?}");
        assert!(text.contains("Suspended") && text.contains("switching.rs"), "{text}");
    });
}

#[test]
fn families_do_not_mix() {
    deadline(10, || {
        // Inside of a greenlet, whoever uses another family is at the base of that.
        let numbers = Greenlet::new(|n: u32| {
            assert!(Greenlet::<String>::current().is_base());
            assert!(!Greenlet::<u32>::current().is_base());
            let words = Greenlet::new(|word: String| {
                assert!(!Greenlet::<u32>::current().is_base());
                // Out of both at once: the inner one stays where it is, as any call does.
                let number = Greenlet::base().switch(word.len() as u32).unwrap();
                let again = Greenlet::base().switch(format!("{word}{number}")).unwrap();
                format!("{again}!")
            });
            let result = words.switch("word".repeat(n as usize)).unwrap();
            assert!(Greenlet::<String>::current().is_base());
            assert_eq!(result, "wordword5");
            assert_eq!(words.switch("end".into()).unwrap(), "end!");
            100
        });
        assert_eq!(numbers.switch(2).unwrap(), 8);
        assert_eq!(numbers.switch(5).unwrap(), 100);
    });
}

#[test]
fn a_million_switches_leave_nothing_behind() {
    deadline(60, || {
        let echo = Greenlet::new(|mut n: u64| {
            loop {
                n = Greenlet::base().switch(n + 1).unwrap();
            }
        });
        let mut n = 0;
        while n < 1_000_000 {
            n = echo.switch(n).unwrap();
        }
    });
}

#[test]
fn a_builder_names_it_and_sizes_its_stack() {
    #[inline(never)]
    fn deep(levels: u32) -> u32 {
        let frame = std::hint::black_box([levels; 256]);
        if levels == 0 {
            frame[0]
        } else {
            deep(levels - 1) + std::hint::black_box(frame)[255] / levels
        }
    }
    deadline(20, || {
        let big =
            Builder::new().name("big".into()).stack_size(16 * 1024 * 1024).build(deep).unwrap();
        assert_eq!(big.name(), Some("big"));
        assert_eq!(big.switch(2000).unwrap(), 2000);
        let error = Builder::new().stack_size(usize::MAX / 2).build(|()| ()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    });
}

#[test]
fn twenty_thousand_live() {
    deadline(120, || {
        let greenlets: Vec<_> = (0..20_000_u64)
            .map(|n| {
                let greenlet = Greenlet::new(move |m| {
                    let k = Greenlet::base().switch(n).unwrap();
                    k + m
                });
                assert_eq!(greenlet.switch(1).unwrap(), n);
                greenlet
            })
            .collect();
        let sum: u64 = greenlets.iter().map(|greenlet| greenlet.switch(1).unwrap()).sum();
        assert_eq!(sum, 40_000);
    });
}

/// What the links of a chain say to each other.
enum Link {
    Next(Greenlet<Link>),
    Count(u64),
}

/// greenlet's own benchmark: each link knows the next one, and adds one to what it gets.
fn chain(links: u64) -> u64 {
    let mut head = Greenlet::base();
    for _ in 0..links {
        let link = Greenlet::new(|message| {
            let Link::Next(next) = message else { unreachable!("first the next one") };
            let answer = Greenlet::base().switch(Link::Count(0)).unwrap();
            let Link::Count(count) = answer else { unreachable!("then the count") };
            next.switch(Link::Count(count + 1)).unwrap()
        });
        link.switch(Link::Next(head)).unwrap();
        head = link;
    }
    match head.switch(Link::Count(0)).unwrap() {
        Link::Count(count) => count,
        Link::Next(_) => unreachable!("the base is at the end"),
    }
    // Here the last handle of the first link goes, and each link has the last handle of the next.
}

#[test]
fn a_chain_of_a_hundred_thousand_links() {
    deadline(120, || {
        let in_use = greenling::hub::stats().stacks_in_use;
        assert_eq!(chain(100_000), 100_000);
        assert_eq!(greenling::hub::stats().stacks_in_use, in_use);
    });
}

#[test]
fn a_chain_of_parents_ends_without_recursion() {
    // Each is the child of the one before, and has the only handle to it but for the last.
    fn grow(left: u32) -> Greenlet<Option<Greenlet<()>>> {
        Greenlet::new(move |_| {
            if left > 0 {
                grow(left - 1).switch(None).unwrap();
            }
            None
        })
    }
    deadline(120, || {
        grow(1000).switch(None).unwrap();

        // From below: to set a parent takes a look at all its ancestors.
        let last = Greenlet::new(|()| ());
        let mut top = last.clone();
        for _ in 0..100_000 {
            let parent = Greenlet::new(|()| ());
            top.set_parent(&parent).unwrap();
            top = parent;
        }
        drop(top);
        drop(last);
    });
}

//! Values both ways, iteration, delegation.

use greenling::error::Finished;
use greenling::generator::{Generator, Resume, Step, Yielder};

use crate::common::deadline;
use crate::panic_of;

#[test]
fn values_go_both_ways() {
    deadline(10, || {
        let mut generator = Generator::new(|out, first: u32| {
            let second = out.yield_(format!("got {first}"));
            let third = out.yield_(format!("got {second}"));
            f64::from(first + second + third)
        });
        assert_eq!(generator.resume(1), Step::Yielded("got 1".to_owned()));
        assert_eq!(generator.resume(2), Step::Yielded("got 2".to_owned()));
        assert_eq!(generator.resume(3), Step::Complete(6.0));
        assert!(generator.is_finished());
    });
}

#[test]
fn a_generator_runs_only_when_it_is_asked() {
    deadline(10, || {
        let log = crate::Log::default();
        let mut generator = {
            let log = log.clone();
            Generator::new(move |out, ()| {
                log.add("begins");
                out.yield_(1);
                log.add("ends");
            })
        };
        assert!(log.take().is_empty());
        assert_eq!(generator.next(), Some(1));
        assert_eq!(log.take(), ["begins"]);
        assert_eq!(generator.next(), None);
        assert_eq!(log.take(), ["ends"]);
    });
}

#[test]
fn it_is_an_iterator_that_stays_at_its_end() {
    deadline(10, || {
        let mut generator = Generator::new(|out, ()| {
            (0..3).for_each(|n| out.yield_(n));
            "the end"
        });
        assert_eq!(generator.by_ref().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((generator.next(), generator.next()), (None, None));
        assert_eq!(generator.take_return(), Some("the end"));
        assert_eq!(generator.take_return(), None);
    });
}

#[test]
fn what_is_sent_to_a_finished_one_comes_back() {
    deadline(10, || {
        let mut generator = Generator::new(|out, first: String| {
            let second = out.yield_(first.len());
            second.len()
        });
        assert_eq!(generator.send("one".into()), Ok(3));
        // This one it takes, and ends.
        assert_eq!(generator.send("three".into()), Err(Finished { input: None }));
        assert_eq!(generator.send("late".into()), Err(Finished { input: Some("late".to_owned()) }));
        assert_eq!(generator.take_return(), Some(5));
        let message = panic_of(|| generator.resume("later".into()));
        assert!(message.contains("after its end"), "{message}");
    });
}

#[test]
fn values_of_every_size_arrive() {
    deadline(10, || {
        fn there_and_back<T: Clone + PartialEq + std::fmt::Debug + 'static>(value: T) {
            let mut echo = Generator::new(|out, mut value: T| {
                loop {
                    value = out.yield_(value);
                }
            });
            for _ in 0..3 {
                assert_eq!(echo.send(value.clone()), Ok(value.clone()));
            }
        }
        there_and_back(());
        there_and_back(7_u8);
        there_and_back(u64::MAX);
        there_and_back(u128::MAX);
        there_and_back([1_u16; 1000]);
        there_and_back(String::from("on the heap"));
        there_and_back(Some(Box::new(5)));
        there_and_back(vec![Vec::<()>::new()]);
    });
}

enum Tree {
    Leaf,
    Node(Box<Tree>, i32, Box<Tree>),
}

impl Tree {
    fn of(values: std::ops::Range<i32>) -> Tree {
        if values.is_empty() {
            return Tree::Leaf;
        }
        let middle = values.start + (values.end - values.start) / 2;
        let (left, right) = (Tree::of(values.start..middle), Tree::of(middle + 1..values.end));
        Tree::Node(Box::new(left), middle, Box::new(right))
    }

    fn walk(&self, out: &Yielder<(), i32>) {
        if let Tree::Node(left, value, right) = self {
            left.walk(out);
            out.yield_(*value);
            right.walk(out);
        }
    }

    /// The way in which a language without stacks has to do it: a generator at each level.
    fn walk_by_delegation(self) -> Generator<(), i32> {
        Generator::new(move |out, ()| {
            if let Tree::Node(left, value, right) = self {
                out.yield_from(&mut left.walk_by_delegation(), ());
                out.yield_(value);
                out.yield_from(&mut right.walk_by_delegation(), ());
            }
        })
    }
}

#[test]
fn a_recursion_yields_from_any_depth() {
    deadline(20, || {
        let tree = Tree::of(0..1000);
        let values = Generator::new(move |out, ()| tree.walk(out));
        assert!(values.eq(0..1000));
    });
}

#[test]
fn generators_delegate_recursively() {
    deadline(20, || assert!(Tree::of(0..1000).walk_by_delegation().eq(0..1000)));
}

#[test]
fn delegation_passes_values_in_and_the_result_out() {
    deadline(10, || {
        let mut inner = Generator::new(|out, first: i32| {
            let second = out.yield_(10 * first);
            let third = out.yield_(10 * second);
            100 * third
        });
        let mut outer = Generator::new(move |out, first: i32| {
            let result = out.yield_from(&mut inner, first);
            out.yield_(result)
        });
        assert_eq!(outer.send(1), Ok(10));
        assert_eq!(outer.send(2), Ok(20));
        assert_eq!(outer.send(3), Ok(300));
        assert_eq!(outer.resume(4), Step::Complete(4));
    });
}

#[test]
fn anything_that_can_be_resumed_can_be_delegated_to() {
    struct Countdown(u32);
    impl Resume<()> for Countdown {
        type Out = u32;
        type Ret = &'static str;
        fn resume(&mut self, (): ()) -> Step<u32, &'static str> {
            match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Step::Yielded(left)
                }
                None => Step::Complete("lift-off"),
            }
        }
    }
    deadline(10, || {
        let mut generator = Generator::new(|out, ()| out.yield_from(&mut Countdown(3), ()));
        assert_eq!(generator.by_ref().collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!(generator.take_return(), Some("lift-off"));
    });
}

#[test]
fn its_function_may_hold_what_is_not_send() {
    deadline(10, || {
        let shared = std::rc::Rc::new(std::cell::Cell::new(0));
        let own = shared.clone();
        let generator = Generator::new(move |out, ()| {
            for n in 0..4 {
                own.set(own.get() + n);
                out.yield_(own.get());
            }
        });
        assert_eq!(generator.collect::<Vec<_>>(), [0, 1, 3, 6]);
        assert_eq!(shared.get(), 6);
    });
}

#[test]
fn ten_thousand_levels_of_generators() {
    // Each is resumed by the one around it.
    fn nested(depth: u32) -> Generator<(), u32> {
        Generator::new(move |out, ()| {
            out.yield_(depth);
            if depth > 0 {
                nested(depth - 1).for_each(|value| out.yield_(value));
            }
        })
    }
    deadline(60, || {
        assert!(nested(300).eq((0..=300).rev()));
        // Not to its end, which would take the square of the depth.
        let mut deep = nested(10_000);
        assert!(deep.by_ref().take(100).eq((9_901..=10_000).rev()));
    });
}

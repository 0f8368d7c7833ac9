//! Where results go.

use std::cell::Cell;
use std::rc::Rc;

use greenling::error::ParentError;
use greenling::greenlet::{Greenlet, State, SwitchError};

use crate::common::deadline;
use crate::{Log, panic_of};

#[test]
fn the_parent_is_who_made_it() {
    deadline(10, || {
        let greenlet = Greenlet::new(|()| {
            let child = Greenlet::new(|()| ());
            assert_eq!(child.parent().unwrap(), Greenlet::current());
        });
        assert!(greenlet.parent().unwrap().is_base());
        assert_eq!(Greenlet::<()>::base().parent(), None);
        greenlet.switch(()).unwrap();
        // It stays so after its end.
        assert!(greenlet.parent().unwrap().is_base());
    });
}

#[test]
fn a_result_goes_to_the_parent_wherever_that_waits() {
    deadline(10, || {
        // The parent waits for the base, not for the child.
        let parent = Greenlet::new(|_: &str| {
            let got = Greenlet::base().switch("parent is ready").unwrap();
            assert_eq!(got, "child's result");
            "parent's result"
        });
        assert_eq!(parent.switch("").unwrap(), "parent is ready");
        let child = Greenlet::new(|_: &str| "child's result");
        child.set_parent(&parent).unwrap();
        assert_eq!(child.switch("").unwrap(), "parent's result");
        assert!(parent.is_dead() && child.is_dead());
    });
}

#[test]
fn a_result_starts_a_parent_that_is_new() {
    deadline(10, || {
        let parent = Greenlet::new(|message: String| format!("parent got {message}"));
        let child = Greenlet::new(|_| "a result".to_owned());
        child.set_parent(&parent).unwrap();
        assert_eq!(child.switch(String::new()).unwrap(), "parent got a result");
    });
}

#[test]
fn a_result_passes_over_dead_parents() {
    deadline(10, || {
        let (grandparent, parent) = (
            Greenlet::new(|n: u32| {
                let n = Greenlet::base().switch(n).unwrap();
                n + 100
            }),
            Greenlet::new(|n: u32| n),
        );
        grandparent.switch(0).unwrap();
        parent.switch(0).unwrap();
        parent.set_parent(&grandparent).unwrap();
        let child = Greenlet::new(|n: u32| n + 10);
        child.set_parent(&parent).unwrap();
        assert_eq!(child.switch(1).unwrap(), 111);
    });
}

#[test]
fn a_panic_goes_to_the_parent() {
    deadline(10, || {
        let greenlet = Greenlet::new(|()| {
            let child = Greenlet::new(|()| std::panic::resume_unwind(Box::new("the child's")));
            assert_eq!(panic_of(|| child.switch(())), "the child's");
            assert!(child.is_dead());
            std::panic::resume_unwind(Box::new("its own"));
        });
        assert_eq!(panic_of(|| greenlet.switch(())), "its own");
    });
}

#[test]
fn a_panic_crosses_three_levels() {
    deadline(10, || {
        let log = Log::default();
        fn level(log: Log, depth: u32) -> Greenlet<()> {
            Greenlet::new(move |()| {
                let _guard = log.guard(&depth.to_string());
                if depth == 0 {
                    panic!("from the bottom");
                }
                level(log.clone(), depth - 1).switch(()).unwrap();
                log.add("must not go on");
            })
        }
        let top = level(log.clone(), 2);
        assert_eq!(panic_of(|| top.switch(())), "from the bottom");
        assert_eq!(log.take(), ["drop 0", "drop 1", "drop 2"]);
    });
}

#[test]
fn a_panic_kills_parents_that_are_new() {
    deadline(10, || {
        let log = Log::default();
        let guard = log.guard("captured by the parent");
        let parent = Greenlet::new(move |()| {
            let _guard = &guard;
            panic!("it must not run");
        });
        let child = Greenlet::new(|()| std::panic::resume_unwind(Box::new("the child's")));
        child.set_parent(&parent).unwrap();
        assert_eq!(panic_of(|| child.switch(())), "the child's");
        assert_eq!(parent.state(), State::Dead);
        assert_eq!(log.take(), ["drop captured by the parent"]);
    });
}

#[test]
fn cycles_are_refused() {
    deadline(10, || {
        let (a, b, c) = (Greenlet::new(|()| ()), Greenlet::new(|()| ()), Greenlet::new(|()| ()));
        assert_eq!(a.set_parent(&a), Err(ParentError::Cycle));
        b.set_parent(&a).unwrap();
        assert_eq!(a.set_parent(&b), Err(ParentError::Cycle));
        c.set_parent(&b).unwrap();
        assert_eq!(a.set_parent(&c), Err(ParentError::Cycle));
        assert_eq!(Greenlet::base().set_parent(&a), Err(ParentError::Base));
        // Also by way of a dead one.
        b.switch(()).unwrap();
        assert_eq!(a.set_parent(&c), Err(ParentError::Cycle));
        // What was there has stayed.
        assert!(a.parent().unwrap().is_base());
        assert_eq!(c.parent().as_ref(), Some(&b));
        c.set_parent(&Greenlet::base()).unwrap();
        a.set_parent(&c).unwrap();
    });
}

#[test]
fn a_parent_lives_as_long_as_its_children() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let parent = Greenlet::new(move |n: u32| {
            let _guard = own.guard("parent");
            Greenlet::base().switch(n).unwrap() + 1
        });
        parent.switch(0).unwrap();
        let child = Greenlet::new(|n: u32| n + 10);
        child.set_parent(&parent).unwrap();
        drop(parent);
        assert!(log.take().is_empty());
        assert_eq!(child.switch(1).unwrap(), 12);
        assert_eq!(log.take(), ["drop parent"]);

        // The one that made them is not kept: it may well have handles of them on its stack.
        let own = log.clone();
        let maker = Greenlet::new(move |n: u32| {
            let _guard = own.guard("maker");
            let child = Greenlet::new(|n: u32| Greenlet::base().switch(n).unwrap());
            child.switch(n).unwrap()
        });
        maker.switch(0).unwrap();
        drop(maker);
        assert_eq!(log.take(), ["drop maker"]);

        // A parent that was set ends with the last of its children.
        let own = log.clone();
        let parent = Greenlet::new(move |n: u32| {
            let _guard = own.guard("parent");
            Greenlet::base().switch(n).unwrap()
        });
        parent.switch(0).unwrap();
        let child = Greenlet::new(|n: u32| n);
        child.set_parent(&parent).unwrap();
        drop(parent);
        drop(child);
        assert_eq!(log.take(), ["drop parent"]);
    });
}

#[test]
fn the_parent_may_change_while_it_runs() {
    deadline(10, || {
        let other = Greenlet::new(|_: &str| {
            let got = Greenlet::base().switch("ready").unwrap();
            assert_eq!(got, "for another");
            "by way of another"
        });
        other.switch("").unwrap();
        let own = other.clone();
        let greenlet = Greenlet::new(move |_: &str| {
            Greenlet::current().set_parent(&own).unwrap();
            "for another"
        });
        assert_eq!(greenlet.switch("").unwrap(), "by way of another");
    });
}

#[test]
fn its_own_kill_goes_to_the_parent() {
    deadline(10, || {
        let suicide = || {
            Greenlet::new(|_: u32| {
                let Err(error) = Greenlet::<u32>::current().kill() else {
                    unreachable!("it unwinds")
                };
                panic!("{error}");
            })
        };
        let greenlet = suicide();
        assert!(matches!(greenlet.switch(1), Err(SwitchError::Killed)));
        assert!(greenlet.is_dead());
        // A parent that is new cannot start with that.
        let parent = Greenlet::new(|n| n);
        let greenlet = suicide();
        greenlet.set_parent(&parent).unwrap();
        assert!(matches!(greenlet.switch(1), Err(SwitchError::Killed)));
        assert_eq!(parent.state(), State::New);
        assert_eq!(parent.switch(3).unwrap(), 3);
    });
}

#[test]
fn a_child_may_outlive_its_creators_frame() {
    deadline(10, || {
        let kept: Rc<Cell<Option<Greenlet<u32>>>> = Rc::default();
        let own = kept.clone();
        let creator = Greenlet::new(move |n| {
            own.set(Some(Greenlet::new(|n| 2 * n)));
            n
        });
        creator.switch(0).unwrap();
        let child = kept.take().unwrap();
        assert_eq!(child.parent().as_ref(), Some(&creator));
        // Its parent is dead, so the base gets it.
        assert_eq!(child.switch(21).unwrap(), 42);
    });
}

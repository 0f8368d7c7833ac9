//! What a tracer sees. The events are those of Python's greenlet.

use std::panic::{AssertUnwindSafe, catch_unwind};

use greenling::greenlet::{Builder, EventKind, Greenlet, set_tracer};

use crate::common::deadline;
use crate::{Log, panic_of};

/// Notes each event as `kind origin>target`, and who runs then.
fn trace(log: &Log) {
    let log = log.clone();
    set_tracer(Some(Box::new(move |event| {
        let kind = match event.kind() {
            EventKind::Switch => "switch",
            EventKind::Throw => "throw",
        };
        let name = |party: &greenling::greenlet::Party| party.name().unwrap_or("base").to_owned();
        assert_eq!(Greenlet::<u32>::current().id(), event.target().id());
        log.add(format!("{kind} {}>{}", name(event.origin()), name(event.target())));
    })));
}

fn named(name: &str, f: impl FnOnce(u32) -> u32 + 'static) -> Greenlet<u32> {
    Builder::new().name(name.into()).build(f).unwrap()
}

fn once(name: &str) -> Greenlet<u32> {
    named(name, |n| Greenlet::base().switch(n).unwrap())
}

#[test]
fn it_sees_switches_and_ends() {
    deadline(10, || {
        let log = Log::default();
        trace(&log);
        let a = once("a");
        a.switch(1).unwrap();
        a.switch(2).unwrap();
        assert_eq!(
            log.take(),
            ["switch base>a", "switch a>base", "switch base>a", "switch a>base"]
        );
        let b = once("b");
        let own = b.clone();
        let c = named("c", move |n| own.switch(n).unwrap());
        c.switch(1).unwrap();
        assert_eq!(log.take(), ["switch base>c", "switch c>b", "switch b>base"]);
        set_tracer(None);
        b.switch(1).unwrap();
        assert!(log.take().is_empty());
    });
}

#[test]
fn it_sees_throws_kills_and_drops() {
    deadline(10, || {
        let log = Log::default();
        trace(&log);
        let a = once("a");
        a.switch(1).unwrap();
        log.take();
        assert!(a.kill().is_ok());
        assert_eq!(log.take(), ["throw base>a", "switch a>base"]);
        let b = once("b");
        b.switch(1).unwrap();
        log.take();
        drop(b);
        assert_eq!(log.take(), ["throw base>b", "switch b>base"]);
        let c = once("c");
        c.switch(1).unwrap();
        log.take();
        panic_of(|| c.throw(Box::new("thrown")));
        assert_eq!(log.take(), ["throw base>c", "throw c>base"]);
    });
}

#[test]
fn the_origin_says_where_it_switched() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        set_tracer(Some(Box::new(move |event| {
            let place = |party: &greenling::greenlet::Party| match party.location() {
                Some(location) => location.line().to_string(),
                None => "-".to_owned(),
            };
            own.add(format!("{}>{}", place(event.origin()), place(event.target())));
        })));
        let made = line!() + 1;
        let greenlet = Greenlet::new(|n: u32| {
            Greenlet::base().switch(n).unwrap() // line `made + 1`
        });
        greenlet.switch(1).unwrap();
        greenlet.switch(1).unwrap();
        let there = made + 1;
        assert_eq!(
            log.take(),
            [format!("->{made}"), format!("{there}>-"), format!("->{there}"), format!("{there}>-"),]
        );
    });
}

#[test]
fn it_returns_the_one_before() {
    deadline(10, || {
        let log = Log::default();
        assert!(set_tracer(None).is_none());
        trace(&log);
        let first = set_tracer(Some(Box::new(|_| ()))).unwrap();
        Greenlet::new(|n: u32| n).switch(1).unwrap();
        assert!(log.take().is_empty());
        assert!(set_tracer(Some(first)).is_some());
        Greenlet::new(|n: u32| n).switch(1).unwrap();
        assert_eq!(log.take().len(), 2);
    });
}

#[test]
fn one_that_panics_is_removed_and_the_panic_is_the_targets() {
    deadline(10, || {
        let explode = || set_tracer(Some(Box::new(|_| panic!("the tracer's"))));
        // In a new greenlet: it never runs, and its parent gets the panic.
        explode();
        let greenlet = Greenlet::new(|n: u32| n);
        assert_eq!(panic_of(|| greenlet.switch(1)), "the tracer's");
        assert!(greenlet.is_dead());
        assert!(set_tracer(None).is_none());
        // In one that waits: it may catch it.
        let greenlet = Greenlet::new(|n: u32| {
            catch_unwind(|| Greenlet::base().switch(n).unwrap()).unwrap_or(9)
        });
        greenlet.switch(1).unwrap();
        explode();
        assert_eq!(greenlet.switch(1).unwrap(), 9);
        assert!(set_tracer(None).is_none());
        // In a drop it cannot get out.
        let greenlet = once("dropped");
        greenlet.switch(1).unwrap();
        explode();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(greenlet))).is_ok());
        assert!(set_tracer(None).is_none());
    });
}

#[test]
fn its_own_switches_are_not_traced() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        let helper = Greenlet::new(|mut n: u32| {
            loop {
                n = Greenlet::base().switch(n + 1).unwrap();
            }
        });
        // Only when it is called at the base, where it may switch on the base's behalf.
        set_tracer(Some(Box::new(move |event| {
            if event.target().id() == 0 {
                own.add(format!("{}", helper.switch(1).unwrap()));
            }
        })));
        Greenlet::new(|n: u32| n).switch(1).unwrap();
        assert_eq!(log.take(), ["2"]);
        set_tracer(None);
    });
}

#[test]
fn it_may_replace_or_remove_itself() {
    deadline(10, || {
        let log = Log::default();
        let own = log.clone();
        set_tracer(Some(Box::new(move |_| {
            own.add("first");
            let next = own.clone();
            set_tracer(Some(Box::new(move |_| next.add("second"))));
        })));
        Greenlet::new(|n: u32| n).switch(1).unwrap();
        assert_eq!(log.take(), ["first", "second"]);
        set_tracer(None);
    });
}

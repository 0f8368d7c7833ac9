//! Throwing and killing.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use greenling::error::KillError;
use greenling::greenlet::{Greenlet, Outcome, State, SwitchError};

use crate::common::deadline;
use crate::{Log, panic_of};

fn text(payload: Box<dyn Any + Send>) -> &'static str {
    *payload.downcast::<&'static str>().unwrap()
}

/// Waits in a switch to the base, with a guard on its stack.
fn waiting(log: &Log) -> Greenlet<u32> {
    let log = log.clone();
    let greenlet = Greenlet::new(move |n: u32| {
        let _guard = log.guard("on its stack");
        let got = Greenlet::base().switch(n).unwrap();
        log.add("goes on");
        got
    });
    greenlet.switch(0).unwrap();
    greenlet
}

#[test]
fn what_is_thrown_unwinds_and_goes_to_the_parent() {
    deadline(10, || {
        let log = Log::default();
        let greenlet = waiting(&log);
        assert_eq!(panic_of(|| greenlet.throw(Box::new("thrown"))), "thrown");
        assert_eq!(log.take(), ["drop on its stack"]);
        assert!(greenlet.is_dead());
    });
}

#[test]
fn what_is_thrown_may_be_caught() {
    deadline(10, || {
        let greenlet = Greenlet::new(|n: u32| {
            let caught = catch_unwind(|| Greenlet::base().switch(n).unwrap()).unwrap_err();
            let n = *caught.downcast::<u32>().unwrap();
            let n = Greenlet::base().switch(n + 1).unwrap();
            n + 2
        });
        assert_eq!(greenlet.switch(0).unwrap(), 0);
        assert_eq!(greenlet.throw(Box::new(10_u32)).unwrap(), 11);
        assert_eq!(greenlet.switch(20).unwrap(), 22);
    });
}

#[test]
fn one_that_is_new_dies_without_running() {
    deadline(10, || {
        let log = Log::default();
        let new = || {
            let guard = log.guard("captured");
            Greenlet::new(move |()| {
                let _guard = &guard;
                panic!("it must not run");
            })
        };
        let greenlet = new();
        assert_eq!(panic_of(|| greenlet.throw(Box::new("thrown"))), "thrown");
        assert_eq!((greenlet.state(), log.take()), (State::Dead, vec!["drop captured".to_owned()]));
        let greenlet = new();
        assert!(matches!(greenlet.kill(), Ok(Outcome::Killed)));
        assert_eq!((greenlet.state(), log.take()), (State::Dead, vec!["drop captured".to_owned()]));
        drop(new());
        assert_eq!(log.take(), ["drop captured"]);
    });
}

#[test]
fn what_is_thrown_at_a_new_one_goes_to_its_parent_wherever_that_waits() {
    deadline(10, || {
        let parent = Greenlet::new(|_: u32| {
            let caught = catch_unwind(|| Greenlet::base().switch(1_u32)).map(|_| ());
            assert_eq!(text(caught.unwrap_err()), "thrown");
            Greenlet::base().switch(2_u32).unwrap();
            3
        });
        assert_eq!(parent.switch(0).unwrap(), 1);
        let new = Greenlet::new(|n| n);
        new.set_parent(&parent).unwrap();
        assert_eq!(new.throw(Box::new("thrown")).unwrap(), 2);
        assert!(new.is_dead() && !parent.is_dead());
        // Thrown by its own parent, it stays there.
        let own = Greenlet::new(|_: u32| {
            let new = Greenlet::new(|n: u32| n);
            assert_eq!(panic_of(|| new.throw(Box::new("back"))), "back");
            7
        });
        assert_eq!(own.switch(0).unwrap(), 7);
    });
}

#[test]
fn what_cannot_be_thrown_comes_back() {
    deadline(10, || {
        let dead = Greenlet::new(|()| ());
        dead.switch(()).unwrap();
        let Err(SwitchError::Dead(payload)) = dead.throw(Box::new("late")) else { panic!() };
        assert_eq!(text(payload), "late");
        assert!(matches!(dead.kill(), Ok(Outcome::Killed)));
        assert!(matches!(Greenlet::<()>::base().kill(), Err(KillError::Base)));
    });
}

#[test]
fn a_throw_at_oneself_panics() {
    deadline(10, || {
        assert_eq!(panic_of(|| Greenlet::<()>::base().throw(Box::new("base"))), "base");
        let greenlet = Greenlet::new(|()| {
            assert_eq!(panic_of(|| Greenlet::<()>::current().throw(Box::new("me"))), "me");
        });
        greenlet.switch(()).unwrap();
    });
}

#[test]
fn a_greenlet_may_throw_at_the_base() {
    deadline(10, || {
        let greenlet = Greenlet::new(|()| {
            let back = Greenlet::<()>::base().throw(Box::new("at the base"));
            back.unwrap();
        });
        assert_eq!(panic_of(|| greenlet.switch(())), "at the base");
        assert_eq!(greenlet.state(), State::Suspended);
        greenlet.switch(()).unwrap();
        assert!(greenlet.is_dead());
    });
}

#[test]
fn a_kill_unwinds_and_comes_back_to_the_killer() {
    deadline(10, || {
        let log = Log::default();
        let greenlet = waiting(&log);
        assert!(matches!(greenlet.kill(), Ok(Outcome::Killed)));
        assert_eq!(log.take(), ["drop on its stack"]);
        // Twice is harmless.
        assert!(matches!(greenlet.kill(), Ok(Outcome::Killed)));

        // To the killer, not to the parent.
        let victim = waiting(&log);
        let own = log.clone();
        let killer = Greenlet::new(move |n| {
            assert!(matches!(victim.kill(), Ok(Outcome::Killed)));
            own.add("the killer goes on");
            n
        });
        assert_eq!(killer.switch(5).unwrap(), 5);
        assert_eq!(log.take(), ["drop on its stack", "the killer goes on"]);
    });
}

#[test]
fn a_kill_tells_what_came_of_it() {
    deadline(10, || {
        let catching = |then: fn() -> u32| {
            let greenlet = Greenlet::new(move |n: u32| {
                let caught = catch_unwind(|| Greenlet::base().switch(n)).map(|_| ());
                assert!(caught.is_err());
                then()
            });
            greenlet.switch(0).unwrap();
            greenlet
        };
        let greenlet = catching(|| 42);
        assert!(matches!(greenlet.kill(), Ok(Outcome::Done(42))));
        assert!(greenlet.is_dead());

        let greenlet = catching(|| resume_unwind(Box::new("its own")));
        let Ok(Outcome::Panicked(payload)) = greenlet.kill() else { panic!() };
        assert_eq!(text(payload), "its own");

        // One that passes the unwinding on has been killed.
        let greenlet =
            Greenlet::new(|n: u32| match catch_unwind(|| Greenlet::base().switch(n).unwrap()) {
                Ok(n) => n,
                Err(payload) => resume_unwind(payload),
            });
        greenlet.switch(0).unwrap();
        assert!(matches!(greenlet.kill(), Ok(Outcome::Killed)));
    });
}

#[test]
fn one_that_catches_its_kill_may_go_on() {
    deadline(10, || {
        let stubborn = || {
            let greenlet = Greenlet::new(|n: u32| {
                let caught = catch_unwind(|| Greenlet::base().switch(n)).map(|_| ());
                assert!(caught.is_err());
                let got = Greenlet::base().switch(100).unwrap();
                got + 1
            });
            greenlet.switch(0).unwrap();
            greenlet
        };
        let greenlet = stubborn();
        assert!(matches!(greenlet.kill(), Err(KillError::Survived(Some(100)))));
        assert_eq!(greenlet.state(), State::Suspended);
        assert_eq!(greenlet.switch(7).unwrap(), 8);
        // Killed again, it is.
        let greenlet = stubborn();
        assert!(matches!(greenlet.kill(), Err(KillError::Survived(Some(100)))));
        assert!(matches!(greenlet.kill(), Ok(Outcome::Killed)));
    });
}

#[test]
fn a_late_end_of_one_that_survived_goes_to_its_parent() {
    deadline(10, || {
        let log = Log::default();
        let victim = Greenlet::new(|n: &str| {
            let caught = catch_unwind(|| Greenlet::base().switch(n)).map(|_| ());
            assert!(caught.is_err());
            Greenlet::base().switch("alive").unwrap();
            "result"
        });
        victim.switch("").unwrap();
        let (own, its_victim) = (log.clone(), victim.clone());
        let killer = Greenlet::new(move |_: &str| {
            // It goes to the base with "alive", so the killer waits until the base switches to it.
            let Err(KillError::Survived(Some(message))) = its_victim.kill() else { panic!() };
            own.add(message);
            Greenlet::base().switch("killer waits").unwrap()
        });
        assert_eq!(killer.switch("").unwrap(), "alive");
        assert_eq!(killer.switch("woken by the base").unwrap(), "killer waits");
        assert_eq!(log.take(), ["woken by the base"]);
        // Nobody waits for its end any more.
        assert_eq!(victim.switch("").unwrap(), "result");
    });
}

#[test]
fn the_end_of_one_that_survived_ends_a_kill_that_still_waits() {
    deadline(10, || {
        let victim = Greenlet::new(|n: &str| {
            let caught = catch_unwind(|| Greenlet::base().switch(n)).map(|_| ());
            assert!(caught.is_err());
            Greenlet::base().switch("alive").unwrap();
            "result"
        });
        victim.switch("").unwrap();
        let its_victim = victim.clone();
        let killer = Greenlet::new(move |_: &str| {
            let Ok(Outcome::Done(message)) = its_victim.kill() else { panic!() };
            assert_eq!(message, "result");
            "killed it after all"
        });
        assert_eq!(killer.switch("").unwrap(), "alive");
        assert_eq!(victim.switch("").unwrap(), "killed it after all");
    });
}

#[test]
fn a_kill_may_be_interrupted_by_the_end_of_another() {
    deadline(10, || {
        // The killer's own child panics while the kill waits.
        let victim = Greenlet::new(|n: &str| {
            let caught = catch_unwind(|| Greenlet::base().switch(n)).map(|_| ());
            assert!(caught.is_err());
            Greenlet::base().switch("alive").unwrap()
        });
        victim.switch("").unwrap();
        let its_victim = victim.clone();
        let killer = Greenlet::new(move |_: &str| {
            assert_eq!(panic_of(|| its_victim.kill()), "the child's");
            "the killer ends"
        });
        assert_eq!(killer.switch("").unwrap(), "alive");
        let child = Greenlet::new(|_: &str| resume_unwind(Box::new("the child's")));
        child.set_parent(&killer).unwrap();
        assert_eq!(child.switch("").unwrap(), "the killer ends");
        // The other one does not remember the killer.
        assert_eq!(victim.switch("own end").unwrap(), "own end");
    });
}

#[test]
fn who_runs_cannot_be_killed_by_one_inside_of_it() {
    deadline(10, || {
        let outer: Greenlet<()> = Greenlet::new(|()| {
            let me = Greenlet::<()>::current();
            // In another family, so that the outer one runs on.
            let inner = Greenlet::new(move |_: u32| {
                // To the outer one it is a self-kill, which unwinds from here.
                let result = catch_unwind(AssertUnwindSafe(|| me.kill().map(|_| ())));
                assert!(result.is_err());
                resume_unwind(result.unwrap_err())
            });
            inner.switch(1).unwrap();
            unreachable!("it is killed");
        });
        assert!(matches!(outer.switch(()), Err(SwitchError::Killed)));
        assert!(outer.is_dead());
    });
}

#[test]
fn errors_say_what_is_wrong() {
    let errors: [(SwitchError<u8>, &str, &str); 6] = [
        (SwitchError::Dead(1), "Dead(..)", "the greenlet has finished"),
        (SwitchError::Busy(2), "Busy(..)", "the greenlet runs elsewhere"),
        (SwitchError::Unwinding(3), "Unwinding(..)", "the greenlet is unwinding"),
        (SwitchError::Dropped(4), "Dropped(..)", "the calling greenlet is being dropped"),
        (SwitchError::AtBase(5), "AtBase(..)", "the caller is the base of this family already"),
        (SwitchError::Killed, "Killed", "a greenlet was killed before it had a message"),
    ];
    for (n, (error, debug, display)) in (1..).zip(errors) {
        assert_eq!((format!("{error:?}").as_str(), error.to_string().as_str()), (debug, display));
        assert_eq!(error.into_inner(), (n < 6).then_some(n));
    }
    assert_eq!(format!("{:?}", KillError::<u8>::Busy), "Busy");
    assert_eq!(KillError::Survived(Some(1)).to_string(), "the greenlet has caught its kill");
}

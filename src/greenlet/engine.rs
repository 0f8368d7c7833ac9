//! Switching.
//!
//! A greenlet that switches suspends itself to the loop in [`run`], with whoever is to run next; the loop
//! resumes that one. So a switch from one greenlet to another is two switches of stacks. The loop runs on the
//! stack of the base, inside of its `switch`, and ends when something is sent to the base.
//!
//! ```text
//!   base --- switch(a) --- run --- resume --- a's stack: ... b.switch(m) ...
//!                               <-- b ---
//!                               --- resume --- b's stack: ... base.switch(m) ...
//!                               <-- base ---
//!        <-- m ------------
//! ```
//!
//! Mail lies in the body of the one who gets it; mail for the base, in the body of the one who sends it.

use std::any::TypeId;
use std::panic::{Location, resume_unwind};
use std::ptr::NonNull;
use std::thread;

use super::body::{Body, Mail, Odd, Target};
use super::release;
use super::trace::{self, EventKind, Party};
use super::{Greenlet, KillError, Outcome, Payload, State, SwitchError};
use crate::rt::{self, Caller, Level};

/// The greenlet that a level belongs to, if it is one of this family.
#[inline(always)]
fn body_of<'a, M: 'static>(level: &Level) -> Option<&'a Body<M>> {
    if level.family() != TypeId::of::<M>() {
        return None;
    }
    // SAFETY: only `body::make` makes levels of the family M, and gives each the address of its `Body<M>`.
    // The level was found in the chain of what runs, and a greenlet is not freed while it runs. The reference
    // is used by code that runs inside of it, or that comes back to it.
    Some(unsafe { &*level.owner().cast::<Body<M>>() })
}

/// The innermost greenlet of this family.
fn find<'a, M: 'static>(here: Caller) -> Option<&'a Body<M>> {
    // SAFETY: the levels of the chain are alive.
    here.levels().find_map(|level| body_of(unsafe { &*level }))
}

/// The greenlet of this family that runs.
pub(super) fn current<'a, M: 'static>() -> Option<&'a Body<M>> {
    find(Caller::here())
}

/// The greenlet of this family that is about to suspend itself.
fn find_switching<'a, M: 'static>(here: Caller) -> Option<&'a Body<M>> {
    let me = find(here);
    assert!(
        me.is_none() || here.is_confirmed(),
        "a greenlet cannot switch on a stack that is not one of greenling's"
    );
    me
}

/// See `Greenlet::switch`.
#[inline(always)]
#[track_caller]
pub(super) fn switch<M: 'static>(target: Target<M>, message: M) -> Result<M, SwitchError<M>> {
    let me = match rt::running_here().and_then(body_of::<M>) {
        Some(me) if !me.head.dropped.get() && !thread::panicking() => me,
        _ => return switch_anyhow(target, message, Location::caller()),
    };
    match target {
        Some(other) => {
            // SAFETY: alive: the caller has a handle.
            let other = unsafe { other.as_ref() };
            if !other.is_waiting() {
                return switch_anyhow(target, message, Location::caller());
            }
            other.put_message(message);
        }
        None => me.put_message(message),
    }
    me.set_location(Location::caller());
    // SAFETY: `running_here` says that we run on this greenlet's stack, so it has not finished.
    unsafe { me.suspender().suspend(target) };
    received(me.take_mail(), Some(me)).ok_or(SwitchError::Killed)
}

/// Switches where the caller is the base, or something is out of the ordinary.
#[inline(never)]
fn switch_anyhow<M: 'static>(
    target: Target<M>,
    message: M,
    location: &'static Location<'static>,
) -> Result<M, SwitchError<M>> {
    let here = Caller::here();
    let me = find_switching(here);
    match (target, me) {
        (None, None) => return Err(SwitchError::AtBase(message)),
        (Some(_), Some(me)) if me.is(target) => return Ok(message),
        (None, Some(_)) => {}
        (Some(other), _) => {
            // SAFETY: alive: the caller has a handle.
            match unsafe { other.as_ref() }.state() {
                State::New | State::Suspended => {}
                State::Dead => return Err(SwitchError::Dead(message)),
                State::Running => return Err(SwitchError::Busy(message)),
            }
        }
    }
    if is_stuck(me) {
        return Err(SwitchError::Dropped(message));
    }
    let mail = exchange(here, me, target, Ok(message), location);
    received(mail, me).ok_or(SwitchError::Killed)
}

/// Whether the caller must not switch, since it is being dropped and is unwinding. If it is being dropped and
/// is not unwinding, it has caught that, and unwinds again.
fn is_stuck<M: 'static>(me: Option<&Body<M>>) -> bool {
    let Some(me) = me.filter(|me| me.head.dropped.get()) else { return false };
    if !thread::panicking() {
        if !me.is_out_of_patience() {
            me.unwind();
        }
        // It does not give in. It suspends once more, and is left so: see `release.rs`.
        // SAFETY: as in `exchange`: the caller has looked for it in the chain.
        unsafe { me.suspender().suspend(None) };
        unreachable!("a greenlet that was left as it is runs again");
    }
    true
}

/// Gives `what` to `target`, lets it run, and waits for what the caller is sent. The target is waiting, or it
/// is the base of the caller, which is a greenlet. The caller is not stuck.
fn exchange<M: 'static>(
    here: Caller,
    me: Option<&Body<M>>,
    target: Target<M>,
    what: Mail<M>,
    location: &'static Location<'static>,
) -> Mail<M> {
    let Some(me) = me else {
        let first = target.expect("the base does not switch to itself");
        // SAFETY: alive: the caller has a handle, or has it from somebody who has.
        unsafe { first.as_ref() }.put_mail(what);
        if trace::is_on() {
            trace::left(Party::base());
        }
        return run(first, here);
    };
    match target {
        // SAFETY: as above.
        Some(other) => unsafe { other.as_ref() }.put_mail(what),
        None => me.put_mail(what),
    }
    me.set_location(location);
    me.head.level.note_unwinding();
    // SAFETY: the chain of levels leads from the stack that we run on to this greenlet's, so it has
    // not finished.
    unsafe { me.suspender().suspend(target) };
    me.head.level.note_calm();
    here.go_on();
    me.take_mail()
}

/// The loop of a base: runs greenlets, from `next` on, until something is sent to the base. Returns that.
#[inline(never)]
fn run<M: 'static>(mut next: NonNull<Body<M>>, here: Caller) -> Mail<M> {
    loop {
        // SAFETY: alive: it has been found by a handle which is still there, since nothing has run
        // since, or it is marked as running already. And it is not freed while it runs.
        let body = unsafe { next.as_ref() };
        body.set_state(State::Running);
        here.enter(&body.head.level);
        // SAFETY: it was waiting, and is marked.
        let step = unsafe { body.resume() };
        here.leave(&body.head.level);
        if trace::is_on() {
            trace::left(body.party());
        }
        let target = match step {
            rt::Step::Suspended(target) => {
                body.set_state(State::Suspended);
                target
            }
            rt::Step::Finished(()) => {
                let end = outcome(body.take_mail());
                let (heir, mail) = bequeath(body, end, None);
                // Only now: while it counts as running it is not freed.
                body.retire();
                match heir {
                    // SAFETY: alive, since it is marked as running.
                    Some(heir) => unsafe { heir.as_ref() }.put_mail(mail),
                    None => body.put_mail(mail),
                }
                heir
            }
        };
        let to_base = if target.is_none() { Some(body.take_mail()) } else { None };
        if body.handles.get() == 0 {
            if let Some(target) = target {
                // SAFETY: alive, as nothing has run since it was found. It is kept alive over the destructors
                // that run now by its mark.
                unsafe { target.as_ref() }.set_state(State::Running);
            }
            // SAFETY: it does not run, and has no handle.
            unsafe { release::release(next.cast()) };
        }
        match (target, to_base) {
            (Some(target), _) => next = target,
            (None, Some(mail)) => return mail,
            (None, None) => unreachable!("taken above"),
        }
    }
}

/// What a greenlet has ended with, from the mail that it has left.
pub(super) fn outcome<M: 'static>(mail: Mail<M>) -> Outcome<M> {
    match mail {
        Ok(message) => Outcome::Done(message),
        Err(odd) => match *odd {
            Odd::Ended(outcome, _) => outcome,
            Odd::Throw(payload) => Outcome::Panicked(payload),
        },
    }
}

/// Finds who is to go on after the end of `dead`, and with what. A greenlet that is found is marked as
/// running, so that it stays alive. `me` may be found, too, though it runs.
fn bequeath<M: 'static>(dead: &Body<M>, end: Outcome<M>, me: Target<M>) -> (Target<M>, Mail<M>) {
    let ended = |end| Err(Box::new(Odd::Ended(end, std::ptr::from_ref(dead))));
    if let Some(killer) = dead.killer.take() {
        let Some(pointer) = killer.body else { return (None, ended(end)) };
        // SAFETY: alive, by its handle.
        let body = unsafe { pointer.as_ref() };
        if body.state() == State::Suspended {
            body.set_state(State::Running);
            return (killer.body, ended(end));
        }
    }
    let mail = |end| match end {
        Outcome::Done(message) => Ok(message),
        other => ended(other),
    };
    let mut heir = dead.parent();
    while let Some(pointer) = heir.body {
        // SAFETY: alive, by `heir`.
        let body = unsafe { pointer.as_ref() };
        match (body.state(), &end) {
            (State::Running, _) if heir.body == me => return (me, mail(end)),
            // It could not take it without aborting the process.
            (State::Suspended, Outcome::Panicked(_))
                if body.head.level.is_suspended_unwinding() => {}
            (State::Suspended, _) | (State::New, Outcome::Done(_)) => {
                body.set_state(State::Running);
                return (Some(pointer), mail(end));
            }
            // It dies of it without having run.
            (State::New, Outcome::Panicked(_)) => body.retire(),
            (State::New, Outcome::Killed) | (State::Running | State::Dead, _) => {}
        }
        heir = body.parent();
    }
    (None, mail(end))
}

/// What a `switch` makes of what it got; `None` for an end by a kill.
#[inline]
fn received<M>(mail: Mail<M>, who: Option<&Body<M>>) -> Option<M> {
    match mail {
        Ok(message) if !trace::is_on() => Some(message),
        other => received_oddly(other, who),
    }
}

#[cold]
#[inline(never)]
fn received_oddly<M>(mail: Mail<M>, who: Option<&Body<M>>) -> Option<M> {
    let end = outcome(mail);
    if trace::is_on() {
        let thrown = matches!(end, Outcome::Panicked(_));
        trace::arrived(if thrown { EventKind::Throw } else { EventKind::Switch }, party(who));
    }
    match end {
        Outcome::Done(message) => Some(message),
        Outcome::Killed => None,
        Outcome::Panicked(payload) => resume_unwind(payload),
    }
}

fn party<M>(body: Option<&Body<M>>) -> Party {
    body.map_or(Party::base(), Body::party)
}

/// How whoever of this family runs at a place appears in a trace.
pub(super) fn party_at<M: 'static>(here: Caller) -> Party {
    party(find::<M>(here))
}

/// See `Greenlet::throw`.
#[track_caller]
pub(super) fn throw<M: 'static>(
    target: Target<M>,
    payload: Payload,
) -> Result<M, SwitchError<Payload>> {
    let here = Caller::here();
    let me = find_switching(here);
    let own = me.map(NonNull::from);
    if target == own {
        if thread::panicking() {
            return Err(SwitchError::Unwinding(payload));
        }
        resume_unwind(payload);
    }
    if is_stuck(me) {
        return Err(SwitchError::Dropped(payload));
    }
    let thrown = |payload| Err(Box::new(Odd::Throw(payload)));
    let (target, what) = match target {
        None => (None, thrown(payload)),
        Some(pointer) => {
            // SAFETY: alive: the caller has a handle.
            let body = unsafe { pointer.as_ref() };
            match body.state() {
                State::Dead => return Err(SwitchError::Dead(payload)),
                State::Running => return Err(SwitchError::Busy(payload)),
                State::Suspended if body.head.level.is_suspended_unwinding() => {
                    return Err(SwitchError::Unwinding(payload));
                }
                State::Suspended => (target, thrown(payload)),
                State::New => {
                    body.retire();
                    let (heir, mail) = bequeath(body, Outcome::Panicked(payload), own);
                    if heir == own {
                        return received(mail, me).ok_or(SwitchError::Killed);
                    }
                    (heir, mail)
                }
            }
        }
    };
    let mail = exchange(here, me, target, what, Location::caller());
    received(mail, me).ok_or(SwitchError::Killed)
}

/// See `Greenlet::kill`.
#[track_caller]
pub(super) fn kill<M: 'static>(target: Target<M>) -> Result<Outcome<M>, KillError<M>> {
    let Some(pointer) = target else { return Err(KillError::Base) };
    // SAFETY: alive: the caller has a handle.
    let body = unsafe { pointer.as_ref() };
    let here = Caller::here();
    let me = find_switching::<M>(here);
    match body.state() {
        State::Dead => return Ok(Outcome::Killed),
        State::New => {
            body.retire();
            return Ok(Outcome::Killed);
        }
        State::Running if me.is_some_and(|me| me.is(target)) => {
            if thread::panicking() {
                return Err(KillError::Unwinding);
            }
            body.unwind();
        }
        State::Running => return Err(KillError::Busy),
        State::Suspended if cfg!(panic = "abort") => {
            body.leave();
            return Ok(Outcome::Killed);
        }
        State::Suspended if body.head.level.is_suspended_unwinding() => {
            return Err(KillError::Unwinding);
        }
        State::Suspended => {}
    }
    if is_stuck(me) {
        return Err(KillError::Dropped);
    }
    /// Takes back who waits for the end, unless somebody else does by now.
    struct Waiting<'a, M: 'static>(&'a Body<M>, Target<M>);
    impl<M: 'static> Drop for Waiting<'_, M> {
        fn drop(&mut self) {
            let killer = self.0.killer.take();
            if killer.as_ref().is_some_and(|killer| killer.body != self.1) {
                self.0.killer.set(killer);
            }
        }
    }
    // A handle, since the last one of the killer may be on the stack that is unwound.
    let killer = me.map_or(Greenlet::base(), Body::handle);
    let _waiting = Waiting(body, killer.body);
    drop(body.killer.replace(Some(killer)));
    let what = Err(Box::new(Odd::Throw(body.unwinding())));
    let mail = exchange(here, me, target, what, Location::caller());
    let its_end = matches!(&mail, Err(odd) if
        matches!(&**odd, Odd::Ended(_, of) if body.is(NonNull::new(of.cast_mut()))));
    if !its_end {
        return Err(KillError::Survived(received(mail, me)));
    }
    if trace::is_on() {
        trace::arrived(EventKind::Switch, party(me));
    }
    Ok(outcome(mail))
}

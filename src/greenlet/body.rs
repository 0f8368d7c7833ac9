//! What is behind a handle: a greenlet's state, its mail slot and its coroutine.

use std::any::TypeId;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use super::engine;
use super::release::{self, Queue};
use super::trace::{self, Party};
use super::{Greenlet, Outcome, Payload, State};
use crate::rt::{self, Coroutine, Level, Stack, Suspender};

/// How often a greenlet that is being dropped, catches its unwinding and switches again is unwound once
/// more.
pub(super) const PATIENCE: u32 = 16;

/// Somebody who can be switched to: a greenlet, or `None` for the base.
pub(super) type Target<M> = Option<NonNull<Body<M>>>;

/// A greenlet finds its mail in its own fields, and suspends with whoever is to run next.
pub(super) type Strand<M> = Coroutine<(), Target<M>, ()>;

/// What somebody is sent: a message, or something out of the ordinary.
pub(super) type Mail<M> = Result<M, Box<Odd<M>>>;

pub(super) enum Odd<M: 'static> {
    /// To unwind with.
    Throw(Payload),
    /// A greenlet has ended, otherwise than with a message for whom it may concern. Its address only tells which
    /// one.
    Ended(Outcome<M>, *const Body<M>),
}

/// The part of a greenlet that does not depend on the type of its messages.
pub(super) struct Head {
    pub(super) level: Level,
    /// Whether it is being dropped: nobody can ever switch back to it.
    pub(super) dropped: Cell<bool>,
    /// See `release.rs`.
    pub(super) release: unsafe fn(NonNull<Head>, &Queue),
    /// Whether it is in a queue to be released, or is being released.
    pub(super) pending: Cell<bool>,
    pub(super) next: Cell<Option<NonNull<Head>>>,
    pub(super) deferred: Queue,
}

/// A greenlet.
///
/// The handles count its owners. When there are none left it ends, but never while it runs: the loop that
/// runs it (`engine::run`) sees to that, as soon as it comes back. So whoever runs in it, and whoever
/// switches to it, needs no count of its own. It is freed when it has ended and no child that it has made
/// refers to it any more.
#[repr(C)]
pub(super) struct Body<M: 'static> {
    /// First, so that a pointer to one is a pointer to the other.
    pub(super) head: Head,
    state: Cell<State>,
    /// Its mail: a message, or else something odd. It comes just before the greenlet runs, which then takes
    /// it. Mail for the base is left here by whoever sends it.
    // Not one field of type `Mail`: to copy a large enum whose parts were written one by one stalls the processor,
    // and a message in two registers need not be copied through memory at all.
    message: Cell<Option<M>>,
    odd: Cell<Option<Box<Odd<M>>>>,
    /// Once it has started.
    suspender: Cell<Option<Suspender<(), Target<M>>>>,
    location: Cell<&'static Location<'static>>,
    pub(super) handles: Cell<usize>,
    /// How many greenlets have it as their [`Parent::Maker`].
    pub(super) children: Cell<usize>,
    /// Until it is dead.
    coroutine: UnsafeCell<Option<Strand<M>>>,
    parent: Cell<Parent<M>>,
    /// Who waits in a `kill` for its end. That frame takes it back before it goes.
    pub(super) killer: Cell<Option<Greenlet<M>>>,
    /// How often it was told to unwind.
    unwound: Cell<u32>,
    id: u64,
    name: Option<Rc<str>>,
}

/// Where a greenlet's result goes.
pub(super) enum Parent<M: 'static> {
    Base,
    /// The greenlet that made it. Not a handle, or one that has its children's handles on its stack would
    /// never end; counted in `children`.
    Maker(NonNull<Body<M>>),
    /// One that was asked for, which may have no other handle.
    Chosen(Greenlet<M>),
}

/// The payload of the unwinding of the greenlet with this id.
struct Unwinding(u64);

/// Makes a greenlet.
pub(super) fn make<M: 'static>(
    name: Option<String>,
    stack_size: Option<usize>,
    f: impl FnOnce(M) -> M + 'static,
    location: &'static Location<'static>,
) -> io::Result<Greenlet<M>> {
    let stack = Stack::new(stack_size.unwrap_or_else(rt::default_stack_size))?;
    let body = NonNull::from(Box::leak(Box::new(Body {
        head: Head {
            level: Level::new(rt::bounds(&stack), TypeId::of::<M>()),
            dropped: Cell::new(false),
            release: release::release_one::<M>,
            pending: Cell::new(false),
            next: Cell::new(None),
            deferred: Queue::default(),
        },
        state: Cell::new(State::New),
        message: Cell::new(None),
        odd: Cell::new(None),
        suspender: Cell::new(None),
        location: Cell::new(location),
        handles: Cell::new(1),
        children: Cell::new(0),
        coroutine: UnsafeCell::new(None),
        parent: Cell::new(engine::current().map_or(Parent::Base, |maker: &Body<M>| {
            maker.children.set(maker.children.get() + 1);
            Parent::Maker(maker.pointer())
        })),
        killer: Cell::new(None),
        unwound: Cell::new(0),
        id: rt::fresh_id(),
        name: name.map(Rc::from),
    })));
    // SAFETY: just made.
    let fields = unsafe { body.as_ref() };
    fields.head.level.set_owner(body.as_ptr().cast());
    // SAFETY: the name belongs to the body, which outlives its use of the stack: `retire` gives that
    // back before the body is freed, and what is left as it is is not freed.
    unsafe { stack.set_label("greenlet", fields.id, fields.name()) };
    // SAFETY: nothing in it borrows: `f` and `M` are 'static. The body outlives the coroutine, as above.
    let coroutine = unsafe {
        Coroutine::borrowing(stack, move |suspender, ()| live(body.as_ref(), suspender, f))
    };
    // SAFETY: nobody else knows the body yet.
    unsafe { *fields.coroutine.get() = Some(coroutine) };
    Ok(Greenlet { body: Some(body) })
}

/// A greenlet's life on its stack.
fn live<M>(body: &Body<M>, suspender: Suspender<(), Target<M>>, f: impl FnOnce(M) -> M) {
    body.suspender.set(Some(suspender));
    let result = catch_unwind(AssertUnwindSafe(|| {
        let Ok(message) = body.take_mail() else {
            unreachable!("a greenlet starts with a message")
        };
        if trace::is_on() {
            trace::arrived(trace::EventKind::Switch, body.party());
        }
        f(message)
    }));
    body.put_mail(result.map_err(|payload| {
        let outcome = match payload.downcast_ref::<Unwinding>() {
            Some(Unwinding(id)) if *id == body.id => Outcome::Killed,
            _ => Outcome::Panicked(payload),
        };
        Box::new(Odd::Ended(outcome, body))
    }));
}

impl<M: 'static> Body<M> {
    #[inline(always)]
    pub(super) fn state(&self) -> State {
        self.state.get()
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.set(state);
    }

    /// Whether it can be resumed.
    #[inline(always)]
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state.get(), State::New | State::Suspended)
    }

    /// Gives it a message. It has no mail yet.
    #[inline(always)]
    pub(super) fn put_message(&self, message: M) {
        // Not `set`, which would look what there is to drop.
        mem::forget(self.message.replace(Some(message)));
    }

    pub(super) fn put_mail(&self, mail: Mail<M>) {
        match mail {
            Ok(message) => self.put_message(message),
            Err(odd) => self.odd.set(Some(odd)),
        }
    }

    #[inline(always)]
    pub(super) fn take_mail(&self) -> Mail<M> {
        match self.message.take() {
            Some(message) => Ok(message),
            None => Err(self.odd.take().expect("nobody runs without mail")),
        }
    }

    /// By what it suspends itself.
    #[inline(always)]
    pub(super) fn suspender(&self) -> Suspender<(), Target<M>> {
        self.suspender.get().expect("a greenlet that runs has a suspender")
    }

    #[inline(always)]
    pub(super) fn set_location(&self, location: &'static Location<'static>) {
        self.location.set(location);
    }

    pub(super) fn location(&self) -> &'static Location<'static> {
        self.location.get()
    }

    /// Runs it until it suspends itself or ends.
    ///
    /// # Safety
    /// It was waiting, and its state has been set to `Running`.
    #[inline(always)]
    pub(super) unsafe fn resume(&self) -> rt::Step<Target<M>, ()> {
        // SAFETY: the coroutine is used here and in `retire` and `leave` only, which are never called on
        // one that runs; the state keeps all others from resuming it meanwhile.
        let coroutine = unsafe { &mut *self.coroutine.get() };
        coroutine.as_mut().expect("a greenlet that waits has a coroutine").resume(())
    }

    /// Makes it dead and gives its stack back. It has ended, or has not started: its function is dropped
    /// then.
    pub(super) fn retire(&self) {
        self.state.set(State::Dead);
        self.suspender.set(None);
        // SAFETY: it does not run (see `resume`).
        let coroutine = unsafe { (*self.coroutine.get()).take() };
        drop(coroutine.map(Coroutine::into_stack));
    }

    /// Leaves it as it is, suspended for ever.
    #[cold]
    pub(super) fn leave(&self) {
        self.state.set(State::Dead);
        // SAFETY: it does not run (see `resume`).
        mem::forget(unsafe { (*self.coroutine.get()).take() });
        // Its stack, which is never used again, refers to the body: it must not be freed either.
        self.handles.set(self.handles.get() + 1);
        if !cfg!(panic = "abort") {
            let (name, id) = (self.name().unwrap_or("<unnamed>"), self.id);
            log::error!(
                "greenlet '{name}' (#{id}) switches while it is unwound; it is left as it is"
            );
        }
    }

    /// What is thrown into it to unwind it.
    pub(super) fn unwinding(&self) -> Payload {
        self.unwound.set(self.unwound.get() + 1);
        Box::new(Unwinding(self.id))
    }

    /// Unwinds it, from inside.
    #[cold]
    pub(super) fn unwind(&self) -> ! {
        // Not a panic: no hook runs and nothing is printed.
        resume_unwind(self.unwinding())
    }

    /// Counts anew how often it is told to unwind.
    pub(super) fn be_patient(&self) {
        self.unwound.set(0);
    }

    pub(super) fn is_out_of_patience(&self) -> bool {
        self.unwound.get() >= PATIENCE
    }

    pub(super) fn handle(&self) -> Greenlet<M> {
        self.handles.set(self.handles.get() + 1);
        Greenlet { body: Some(self.pointer()) }
    }

    fn pointer(&self) -> NonNull<Body<M>> {
        let owner = self.head.level.owner().cast::<Body<M>>().cast_mut();
        NonNull::new(owner).expect("a greenlet's level has an owner")
    }

    /// Whether it has ended and nobody refers to it.
    pub(super) fn is_unneeded(&self) -> bool {
        let referred_to = self.handles.get() + self.children.get() > 0;
        self.state.get() == State::Dead && !referred_to && !self.head.pending.get()
    }

    pub(super) fn is(&self, other: Target<M>) -> bool {
        other.is_some_and(|other| ptr::eq(self, other.as_ptr()))
    }

    /// Its parent, by address: not freed as long as this one is alive and has it for a parent.
    pub(super) fn parent_body(&self) -> Target<M> {
        let parent = self.parent.replace(Parent::Base);
        let body = match &parent {
            Parent::Base => None,
            Parent::Maker(body) => Some(*body),
            Parent::Chosen(greenlet) => greenlet.body,
        };
        mem::forget(self.parent.replace(parent));
        body
    }

    pub(super) fn parent(&self) -> Greenlet<M> {
        // SAFETY: alive: see `parent_body`.
        self.parent_body().map_or(Greenlet::base(), |body| unsafe { body.as_ref() }.handle())
    }

    pub(super) fn replace_parent(&self, parent: Parent<M>) -> Parent<M> {
        self.parent.replace(parent)
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// How it appears in a trace.
    pub(super) fn party(&self) -> Party {
        Party::new(self.id, self.name.clone(), Some(self.location.get()))
    }
}

//! Which greenlet or generator runs, and inside of which others.
//!
//! The hub knows which coroutine runs. Inside of a coroutine, or on the thread's own stack, greenlets and
//! generators run one inside the other, each on a stack of its own:
//!
//! ```text
//!   coroutine  <--outer--  greenlet  <--outer--  generator  <--outer--  generator, the innermost
//! ```
//!
//! Each of them is a [`Level`]; [`Caller::enter`] links it to whoever resumes it. Two things are
//! built on that:
//!
//! * **Safety.** Corosensei's suspend is sound only on the stack of the coroutine that it suspends, or on
//!   one that was resumed from there. A handle that suspends can get elsewhere (a coroutine of a
//!   scope may borrow it), so whoever suspends looks at the stack pointer: it must lie on the stack of the
//!   level, or on the stack of a level whose chain of `outer` leads there. A link is made only if the stack
//!   pointer has shown that it is true. So what is believed here may be out of date, but it never makes a
//!   suspension unsound.
//! * **Meaning.** "The current greenlet" is the innermost one, and where there is none, a new base.
//!
//! The innermost level is kept for the coroutine that has last used this module. When the hub has
//! switched to another one meanwhile, which shows at the next use, it is put aside.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ptr;

use super::coroutine::stack_pointer;
use super::hub;

/// A stack that a greenlet or a generator runs on.
#[derive(Debug)]
pub(crate) struct Level {
    /// Lowest address of the stack, and its length.
    low: usize,
    len: usize,
    /// The type of the greenlet's messages; that of generators is [`OfGenerators`].
    family: TypeId,
    /// The greenlet that it belongs to. Null for generators.
    owner: Cell<*const ()>,
    /// Who has resumed it, if that is known. Meaningful while it runs.
    outer: Cell<*const Level>,
    /// Whether the thread was panicking when it was resumed: then nobody can tell whether it is
    /// unwinding itself.
    entered_panicking: Cell<bool>,
    /// Whether it is suspended in the middle of unwinding. Nothing may be thrown into it then: to
    /// start to unwind in a destructor aborts the process.
    unwinding: Cell<bool>,
}

/// Marks the levels of generators.
#[derive(Debug)]
pub(crate) struct OfGenerators;

impl Level {
    /// A level for the stack with these bounds (lowest address and length).
    pub(crate) fn new((low, len): (usize, usize), family: TypeId) -> Level {
        Level {
            low,
            len,
            family,
            owner: Cell::new(ptr::null()),
            outer: Cell::new(ptr::null()),
            entered_panicking: Cell::new(false),
            unwinding: Cell::new(false),
        }
    }

    /// Whether the caller runs on this very stack.
    #[inline(always)]
    pub(crate) fn runs_here(&self) -> bool {
        stack_pointer().wrapping_sub(self.low) < self.len
    }

    #[inline(always)]
    pub(crate) fn family(&self) -> TypeId {
        self.family
    }

    #[inline(always)]
    pub(crate) fn owner(&self) -> *const () {
        self.owner.get()
    }

    pub(crate) fn set_owner(&self, owner: *const ()) {
        self.owner.set(owner);
    }

    /// Whether it is suspended in the middle of unwinding.
    pub(crate) fn is_suspended_unwinding(&self) -> bool {
        self.unwinding.get()
    }

    /// To be called just before it suspends itself, unless the thread is certainly not panicking.
    pub(crate) fn note_unwinding(&self) {
        self.unwinding.set(std::thread::panicking() && !self.entered_panicking.get());
    }

    /// To be called when it goes on after `note_unwinding`.
    pub(crate) fn note_calm(&self) {
        self.unwinding.set(false);
    }
}

struct Chain {
    /// The innermost level of the coroutine that has last used this module, or null.
    ///
    /// It has been entered and not been left, so it is alive: nobody frees what runs.
    innermost: Cell<*const Level>,
    /// Which coroutine that was, as `running` has it.
    context: Cell<usize>,
}

thread_local! {
    static CHAIN: Chain =
        const { Chain { innermost: Cell::new(ptr::null()), context: Cell::new(0) } };

    /// The innermost levels of the other coroutines that are parked inside of a greenlet or a generator.
    static PARKED: RefCell<BTreeMap<usize, *const Level>> = const { RefCell::new(BTreeMap::new()) };
}

/// Which coroutine of the hub runs: a number for each, and 0 for the thread's own stack. Makes no hub.
#[inline(always)]
fn running() -> usize {
    // SAFETY: null or this thread's live hub (see `hub::hub`).
    match unsafe { hub::existing().as_ref() } {
        Some(hub) if !hub.on_main() => ptr::from_ref(hub.current()).addr(),
        _ => 0,
    }
}

/// The innermost level, if the caller runs on its very stack. For the fast paths.
#[inline(always)]
pub(crate) fn running_here<'a>() -> Option<&'a Level> {
    let level = CHAIN.with(|chain| chain.innermost.get());
    // SAFETY: null or alive (see `Chain::innermost`). If the caller runs on its stack, it is alive for as
    // long as the caller is in the function that asks.
    unsafe { level.as_ref() }.filter(|level| level.runs_here())
}

/// Whoever resumes a greenlet or a generator: a place in the chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// The innermost level, as far as is known.
    innermost: *const Level,
    /// The same, if the stack pointer has confirmed it; else null.
    confirmed: *const Level,
}

impl Caller {
    /// Where the caller of this function runs.
    #[inline(always)]
    pub(crate) fn here() -> Caller {
        let level = CHAIN.with(|chain| chain.innermost.get());
        // SAFETY: null or alive (see `Chain::innermost`).
        match unsafe { level.as_ref() } {
            None if CHAIN.with(|chain| chain.context.get()) == running() => {}
            Some(known) if known.runs_here() => {}
            _ => return Caller::find(),
        }
        Caller { innermost: level, confirmed: level }
    }

    /// As `here`, where the hub may have switched since this module was last used.
    #[cold]
    #[inline(never)]
    fn find() -> Caller {
        let innermost = CHAIN.with(|chain| {
            let context = running();
            if chain.context.get() != context {
                put_aside(chain, context);
            }
            chain.innermost.get()
        });
        // SAFETY: null or alive (see `Chain::innermost`).
        let known = unsafe { innermost.as_ref() }.is_some_and(Level::runs_here);
        Caller { innermost, confirmed: if known { innermost } else { ptr::null() } }
    }

    /// To be called just before `level` is resumed by this caller.
    #[inline(always)]
    pub(crate) fn enter(self, level: &Level) {
        level.outer.set(self.confirmed);
        level.entered_panicking.set(std::thread::panicking());
        CHAIN.with(|chain| chain.innermost.set(level));
    }

    /// To be called as soon as the resumption of `level` has returned.
    #[inline(always)]
    pub(crate) fn leave(self, level: &Level) {
        CHAIN.with(|chain| {
            if chain.innermost.get() != ptr::from_ref(level) {
                recall(chain);
            }
            chain.innermost.set(self.innermost);
        });
    }

    /// To be called by whoever runs at this place, has suspended an outer level, and has been
    /// resumed with it.
    #[inline(always)]
    pub(crate) fn go_on(self) {
        CHAIN.with(|chain| chain.innermost.set(self.innermost));
    }

    /// The levels from the innermost outwards, as far as they are known. All are alive.
    pub(crate) fn levels(self) -> impl Iterator<Item = *const Level> {
        let known = |level: *const Level| (!level.is_null()).then_some(level);
        std::iter::successors(known(self.innermost), move |level| {
            // SAFETY: the innermost level is alive, and so is everyone who has resumed it and waits for it
            // to come back.
            known(unsafe { (**level).outer.get() })
        })
    }

    /// Whether the stack pointer has confirmed that the innermost known level runs here.
    pub(crate) fn is_confirmed(self) -> bool {
        ptr::eq(self.innermost, self.confirmed)
    }

    /// Whether this place is on the stack of `level`, or on one that was resumed from there.
    pub(crate) fn is_inside(self, level: &Level) -> bool {
        self.is_confirmed() && self.levels().any(|inner| ptr::eq(inner, level))
    }
}

/// A level has come back, but another one is believed to be the innermost: an inner one has suspended this
/// one, or the hub has switched meanwhile.
#[cold]
#[inline(never)]
fn recall(chain: &Chain) {
    let context = running();
    if chain.context.get() != context {
        put_aside(chain, context);
    }
}

/// Turns to another coroutine's innermost level.
fn put_aside(chain: &Chain, context: usize) {
    let theirs = (chain.context.get(), chain.innermost.get());
    // At the end of the thread the map may be gone. Then nothing is known, which is safe.
    let ours = PARKED.try_with(|parked| {
        let mut parked = parked.borrow_mut();
        if !theirs.1.is_null() {
            parked.insert(theirs.0, theirs.1);
        }
        parked.remove(&context)
    });
    chain.context.set(context);
    chain.innermost.set(ours.ok().flatten().unwrap_or(ptr::null()));
}

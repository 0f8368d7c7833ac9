//! What is behind a generator's handles: its coroutine and its end.

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::fmt::{self, DebugStruct};
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::thread;

use super::{Resume, Step};
use crate::error::Finished;
use crate::rt::{self, Caller, Coroutine, Level, OfGenerators, Stack, Suspender};

/// How often a generator that is being closed, catches its unwinding and yields again is unwound
/// once more.
const PATIENCE: u32 = 16;

/// What is to be done with a generator that has to end and cannot be unwound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leak {
    /// Leave it as it is, for ever. Sound if all that it can refer to lives for ever.
    Forget,
    /// Abort the process.
    Abort,
}

/// What the generator's handle and its stack both know.
#[derive(Debug)]
struct Shared {
    level: Level,
    /// Whether it is being closed: nobody waits for what it yields.
    closing: Cell<bool>,
    /// How often it has been told to unwind.
    unwound: Cell<u32>,
    id: u64,
    name: Option<String>,
}

impl Shared {
    /// The payload of this generator's own unwinding.
    #[cold]
    fn unwind(&self) -> ! {
        self.unwound.set(self.unwound.get() + 1);
        // Not a panic: no hook runs and nothing is printed.
        resume_unwind(Box::new(Unwinding(self.id)))
    }
}

/// The payload of the unwinding of the generator with this id.
struct Unwinding(u64);

/// Makes a panic the end of the process.
struct AbortWhenDropped;

impl Drop for AbortWhenDropped {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// A coroutine that takes `None` as the order to unwind.
type Body<In, Out, Ret> = Coroutine<Option<In>, Out, thread::Result<Ret>>;

pub(super) struct Engine<In, Out, Ret> {
    /// `None` once it has finished.
    coroutine: Option<Body<In, Out, Ret>>,
    shared: Rc<Shared>,
    returned: Option<Ret>,
    leak: Leak,
}

/// How a generator has come to its end.
enum End<Ret> {
    Returned(Ret),
    Unwound,
    Panicked(Box<dyn Any + Send>),
    /// It has not: it was left as it is.
    Left,
}

impl<In: 'static, Out: 'static, Ret: 'static> Engine<In, Out, Ret> {
    pub(super) fn owning(
        name: Option<String>,
        stack_size: Option<usize>,
        body: impl FnOnce(&Yielder<In, Out>, In) -> Ret + 'static,
    ) -> io::Result<Self> {
        // SAFETY: nothing in it borrows, so it may be forgotten.
        unsafe { Engine::new(name, stack_size, Leak::Forget, body) }
    }
}

impl<In, Out, Ret> Engine<In, Out, Ret> {
    /// # Safety
    /// If `body` or one of the types borrows: the engine must be dropped before that ends (not
    /// forgotten), and `leak` must be `Abort`.
    pub(super) unsafe fn new(
        name: Option<String>,
        stack_size: Option<usize>,
        leak: Leak,
        body: impl FnOnce(&Yielder<In, Out>, In) -> Ret,
    ) -> io::Result<Self> {
        let stack = Stack::new(stack_size.unwrap_or_else(rt::default_stack_size))?;
        let shared = Rc::new(Shared {
            level: Level::new(rt::bounds(&stack), TypeId::of::<OfGenerators>()),
            closing: Cell::new(false),
            unwound: Cell::new(0),
            id: rt::fresh_id(),
            name,
        });
        // SAFETY: the name lives as long as `shared`, which the coroutine on the stack holds, and this engine
        // until it has dropped the stack.
        unsafe { stack.set_label("generator", shared.id, shared.name.as_deref()) };
        let own = Rc::clone(&shared);
        // SAFETY: the caller's promise. If the drop of the engine does not end the coroutine, it aborts
        // the process or forgets a coroutine that does not borrow.
        let coroutine = unsafe {
            Coroutine::borrowing(stack, move |suspender, first: Option<In>| {
                let yielder = Yielder { suspender, shared: own };
                catch_unwind(AssertUnwindSafe(|| match first {
                    Some(first) => body(&yielder, first),
                    None => yielder.shared.unwind(),
                }))
            })
        };
        Ok(Engine { coroutine: Some(coroutine), shared, returned: None, leak })
    }

    // The resumption itself is inlined into the loops that consume a generator: to save and restore registers
    // around it would take as long as the two switches do.
    #[inline(always)]
    pub(super) fn resume(&mut self, input: In) -> Step<Out, Ret> {
        let Some(coroutine) = &mut self.coroutine else { resumed_too_late() };
        match run(&self.shared.level, coroutine, Some(input)) {
            rt::Step::Suspended(out) => Step::Yielded(out),
            rt::Step::Finished(result) => Step::Complete(self.finish(result)),
        }
    }

    #[inline(always)]
    pub(super) fn send(&mut self, input: In) -> Result<Out, Finished<In>> {
        let Some(coroutine) = &mut self.coroutine else {
            return Err(Finished { input: Some(input) });
        };
        match run(&self.shared.level, coroutine, Some(input)) {
            rt::Step::Suspended(out) => Ok(out),
            rt::Step::Finished(result) => {
                let value = self.finish(result);
                self.returned = Some(value);
                Err(Finished { input: None })
            }
        }
    }

    /// Gives the stack back, and goes on with the function's panic, if that is how it has ended.
    #[inline(never)]
    fn finish(&mut self, result: thread::Result<Ret>) -> Ret {
        drop(self.coroutine.take().map(Coroutine::into_stack));
        match result {
            Ok(value) => value,
            Err(payload) => resume_unwind(payload),
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.coroutine.is_none()
    }

    pub(super) fn take_return(&mut self) -> Option<Ret> {
        self.returned.take()
    }

    /// Ends it, and lets everybody know how.
    pub(super) fn close(&mut self) -> Option<Ret> {
        match self.end() {
            None => self.returned.take(),
            Some(End::Unwound) => None,
            Some(End::Returned(value)) => Some(value),
            Some(End::Panicked(payload)) => resume_unwind(payload),
            Some(End::Left) if cfg!(panic = "abort") => None,
            Some(End::Left) => panic!("a generator that is being closed has yielded"),
        }
    }

    /// Ends it. `None` if it has ended before, or never ran.
    fn end(&mut self) -> Option<End<Ret>> {
        let mut coroutine = self.coroutine.take()?;
        if !coroutine.started() {
            drop(coroutine.into_stack());
            return None;
        }
        if cfg!(panic = "abort") || self.shared.level.is_suspended_unwinding() {
            return Some(self.give_up(coroutine));
        }
        self.shared.closing.set(true);
        match run(&self.shared.level, &mut coroutine, None) {
            rt::Step::Suspended(out) => {
                let end = self.give_up(coroutine);
                drop(out);
                Some(end)
            }
            rt::Step::Finished(result) => {
                drop(coroutine.into_stack());
                Some(match result {
                    Ok(value) => End::Returned(value),
                    Err(payload) => match payload.downcast_ref::<Unwinding>() {
                        Some(Unwinding(id)) if *id == self.shared.id => End::Unwound,
                        _ => End::Panicked(payload),
                    },
                })
            }
        }
    }

    /// Leaves a coroutine as it is, in the middle of its work.
    #[cold]
    fn give_up(&self, coroutine: Body<In, Out, Ret>) -> End<Ret> {
        let (name, id) = (self.shared.name.as_deref().unwrap_or("<unnamed>"), self.shared.id);
        if self.leak == Leak::Abort {
            // Told by the panic hook; nothing may unwind from here, since what it borrows is about to go.
            let _abort = AbortWhenDropped;
            panic!(
                "generator '{name}' (#{id}) borrows and cannot be unwound at the end of its scope, aborting"
            );
        }
        // Its stack is never used again, so what other stacks may refer to stays.
        mem::forget(coroutine);
        if !cfg!(panic = "abort") {
            log::error!(
                "generator '{name}' (#{id}) yields while it is unwound; it is left as it is"
            );
        }
        End::Left
    }

    pub(super) fn describe(&self, mut out: DebugStruct<'_, '_>) -> fmt::Result {
        out.field("id", &self.shared.id)
            .field("name", &self.shared.name)
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

impl<In, Out, Ret> Drop for Engine<In, Out, Ret> {
    fn drop(&mut self) {
        if let Some(End::Panicked(_)) = self.end() {
            // The panic has had its message already. To go on with it from a destructor could abort.
            let (name, id) = (self.shared.name.as_deref().unwrap_or("<unnamed>"), self.shared.id);
            log::error!("generator '{name}' (#{id}) panicked while it was dropped");
        }
    }
}

/// Resumes a generator and keeps track of who runs.
#[inline(always)]
fn run<In, Out, Ret>(
    level: &Level,
    coroutine: &mut Body<In, Out, Ret>,
    input: Option<In>,
) -> rt::Step<Out, thread::Result<Ret>> {
    let caller = Caller::here();
    caller.enter(level);
    let step = coroutine.resume(input);
    caller.leave(level);
    step
}

#[cold]
#[inline(never)]
fn resumed_too_late() -> ! {
    panic!("a generator was resumed after its end")
}

/// What a generator's function yields with.
///
/// It may be passed down to other functions, and may be borrowed by a generator inside of the first one: what
/// is yielded there goes to whoever has resumed the first one, over the head of the inner one.
///
/// It cannot leave its generator:
/// ```compile_fail,E0521
/// use std::cell::Cell;
/// use greenling::generator::{Generator, Yielder};
///
/// thread_local! {
///     static LEAK: Cell<Option<&'static Yielder<(), u8>>> = const { Cell::new(None) };
/// }
/// Generator::new(|out, ()| LEAK.set(Some(out)));
/// ```
/// nor go to another thread:
/// ```compile_fail,E0277
/// use greenling::generator::{Generator, Yielder};
///
/// Generator::new(|out: &Yielder<(), u8>, ()| {
///     std::thread::scope(|scope| scope.spawn(|| out.yield_(1)).join().unwrap());
/// });
/// ```
pub struct Yielder<In, Out> {
    suspender: Suspender<Option<In>, Out>,
    shared: Rc<Shared>,
}

impl<In, Out> fmt::Debug for Yielder<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").field("id", &self.shared.id).finish_non_exhaustive()
    }
}

impl<In, Out> Yielder<In, Out> {
    /// Suspends the generator: whoever resumes it gets `out`. Returns what it is resumed with the next time.
    ///
    /// # Panics
    /// If it is called elsewhere than in the generator or in greenlets and generators inside of it; for
    /// instance in a coroutine that has borrowed the yielder. A stack that this crate does not know (of
    /// the `stacker` crate, say) is elsewhere, too.
    ///
    /// # Unwinds
    /// If the generator is dropped or closed before it is resumed again.
    // Inlined, so that the return from the switch is one that the processor has predicted: see
    // `Suspender::suspend`.
    #[inline(always)]
    pub fn yield_(&self, out: Out) -> In {
        let shared = &*self.shared;
        if !shared.level.runs_here() || thread::panicking() || shared.closing.get() {
            return self.yield_anyhow(out);
        }
        // SAFETY: we run on the stack of the generator, so it has not finished.
        match unsafe { self.suspender.suspend(out) } {
            Some(input) => input,
            None => shared.unwind(),
        }
    }

    /// Yields where something is out of the ordinary.
    #[cold]
    #[inline(never)]
    fn yield_anyhow(&self, out: Out) -> In {
        let shared = &*self.shared;
        let here = Caller::here();
        // The stack pointer alone would do for the generator's own stack.
        assert!(
            shared.level.runs_here() || here.is_inside(&shared.level),
            "a generator's yielder was used outside of the generator"
        );
        if shared.closing.get() && !thread::panicking() && shared.unwound.get() < PATIENCE {
            // It has caught its unwinding.
            shared.unwind();
        }
        shared.level.note_unwinding();
        // SAFETY: we run on the stack of the generator, or on one that was resumed from there. So it has
        // not finished.
        let input = unsafe { self.suspender.suspend(out) };
        shared.level.note_calm();
        here.go_on();
        match input {
            Some(input) => input,
            None => shared.unwind(),
        }
    }

    /// Yields all that another generator yields, passes it what this one is resumed with, and returns what
    /// it returns. It is first resumed with `first`.
    ///
    /// # Panics
    /// With whatever the other one panics with, and if it has finished already.
    ///
    /// # Examples
    /// ```
    /// use greenling::generator::Generator;
    ///
    /// let mut inner = Generator::new(|out, ()| {
    ///     out.yield_(1);
    ///     out.yield_(2);
    ///     "done"
    /// });
    /// let outer = Generator::new(move |out, ()| {
    ///     out.yield_(0);
    ///     assert_eq!(out.yield_from(&mut inner, ()), "done");
    ///     out.yield_(3);
    /// });
    /// assert_eq!(outer.collect::<Vec<_>>(), [0, 1, 2, 3]);
    /// ```
    pub fn yield_from<R>(&self, inner: &mut R, first: In) -> R::Ret
    where
        R: Resume<In, Out = Out> + ?Sized,
    {
        let mut input = first;
        loop {
            match inner.resume(input) {
                Step::Yielded(out) => input = self.yield_(out),
                Step::Complete(value) => return value,
            }
        }
    }
}

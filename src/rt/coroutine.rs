//! A suspendable computation on a stack of its own.
//!
//! This is the only file that names corosensei's `Coroutine` and `Yielder`. It narrows them to
//! what the hub, the greenlets and the generators need.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use corosensei::stack::Stack as _;
use corosensei::{CoroutineResult, Yielder};

use super::stack::Stack;

/// A computation that takes an `In` at each resumption, gives an `Out` at each suspension and a
/// `Ret` when it ends.
pub(crate) struct Coroutine<In, Out, Ret> {
    inner: corosensei::Coroutine<In, Out, Ret, Stack>,
}

/// What a resumption ended with.
pub(crate) enum Step<Out, Ret> {
    /// The coroutine has suspended itself.
    Suspended(Out),
    /// Its function has returned; it cannot be resumed again.
    Finished(Ret),
}

/// The handle by which a coroutine suspends itself.
///
/// It is a pointer into the coroutine's own stack, so it is good for as long as the coroutine
/// has not finished.
pub(crate) struct Suspender<In, Out>(NonNull<Yielder<In, Out>>);

impl<In, Out> Clone for Suspender<In, Out> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<In, Out> Copy for Suspender<In, Out> {}

impl<In: 'static, Out: 'static, Ret: 'static> Coroutine<In, Out, Ret> {
    /// A coroutine that will run `body` on `stack` when it is first resumed.
    ///
    /// `body` must not unwind: a panic that leaves it would go on in whoever resumed it.
    #[inline]
    pub(crate) fn new<F>(stack: Stack, body: F) -> Self
    where
        F: FnOnce(Suspender<In, Out>, In) -> Ret + 'static,
    {
        let inner = corosensei::Coroutine::with_stack(stack, move |yielder, input| {
            body(Suspender(NonNull::from(yielder)), input)
        });
        Coroutine { inner }
    }
}

/// A function that has not run yet, and whose destructors may panic.
///
/// corosensei drops such a function, on the stack of a coroutine that has never run, and would do it a
/// second time if that panicked.
struct NotRun<F>(ManuallyDrop<F>);

impl<F> NotRun<F> {
    fn into_inner(self) -> F {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, and its destructor is not run.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<F> Drop for NotRun<F> {
    fn drop(&mut self) {
        // SAFETY: nobody uses the field after this.
        let drop_it = || unsafe { ManuallyDrop::drop(&mut self.0) };
        if catch_unwind(AssertUnwindSafe(drop_it)).is_err() {
            log::error!(
                "the function of a greenlet or generator that never ran panicked in a drop"
            );
        }
    }
}

impl<In, Out, Ret> Coroutine<In, Out, Ret> {
    /// As [`new`](Self::new), for a function that may borrow, and whose destructors may panic.
    ///
    /// # Safety
    /// What `body` borrows, and what the three types borrow, must stay valid until the coroutine has
    /// finished or has been dropped before it ever ran; for ever, if neither happens.
    #[inline]
    pub(crate) unsafe fn borrowing<F>(stack: Stack, body: F) -> Self
    where
        F: FnOnce(Suspender<In, Out>, In) -> Ret,
    {
        let body = NotRun(ManuallyDrop::new(body));
        // SAFETY: the caller's promise.
        let inner = unsafe {
            corosensei::Coroutine::with_stack_unchecked(stack, move |yielder, input| {
                body.into_inner()(Suspender(NonNull::from(yielder)), input)
            })
        };
        Coroutine { inner }
    }

    /// Runs the coroutine until it suspends itself or finishes.
    ///
    /// # Panics
    /// If it has finished already.
    #[inline]
    pub(crate) fn resume(&mut self, input: In) -> Step<Out, Ret> {
        match self.inner.resume(input) {
            CoroutineResult::Yield(out) => Step::Suspended(out),
            CoroutineResult::Return(ret) => Step::Finished(ret),
        }
    }

    /// Whether it has been resumed at least once.
    pub(crate) fn started(&self) -> bool {
        self.inner.started()
    }

    /// Gives back the stack of a coroutine that has finished or never started. A closure that
    /// never ran is dropped here.
    ///
    /// # Panics
    /// If the coroutine is suspended in the middle of its work.
    #[inline]
    pub(crate) fn into_stack(self) -> Stack {
        let mut inner = self.inner;
        if !inner.done() {
            assert!(!inner.started(), "a suspended coroutine cannot give its stack back");
            // Only drops the closure: nothing has run yet, so nothing has to be unwound.
            inner.force_unwind();
        }
        inner.into_stack()
    }
}

impl<In, Out> Suspender<In, Out> {
    /// Suspends the coroutine that this belongs to, from any depth of its calls, even from a
    /// coroutine nested in it. Returns what it is resumed with.
    ///
    /// # Safety
    /// The coroutine must not have finished, and the caller must be running on its stack or on the
    /// stack of a coroutine that was (transitively) resumed from it.
    // At the depth of calls at which it resumes, a return lands where the processor's return stack
    // expects it. Every call in between costs a misprediction, so this path is inlined into the
    // functions that suspend.
    #[inline(always)]
    pub(crate) unsafe fn suspend(self, out: Out) -> In {
        // SAFETY: the yielder lives at the base of the coroutine's stack until the coroutine
        // finishes, which by contract it has not.
        unsafe { self.0.as_ref() }.suspend(out)
    }
}

/// The lowest address of a stack and its length.
pub(crate) fn bounds(stack: &Stack) -> (usize, usize) {
    (stack.limit().get(), stack.base().get() - stack.limit().get())
}

/// Where the caller's stack ends at the moment.
// Not the address of a local variable: sanitizers put those elsewhere.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let pointer;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: only reads a register.
    unsafe {
        std::arch::asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("mov {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    pointer
}

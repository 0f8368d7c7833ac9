//! Generators: functions that give values one at a time, on a stack of their own.
//!
//! A [`Generator`] runs when it is asked for its next value, up to where it yields that. It may yield at any
//! depth of its calls, from a recursion, a callback, or a generator inside of it. Generators need no hub.
//!
//! ```
//! use greenling::generator::{Generator, Yielder};
//!
//! struct Tree(Option<Box<(Tree, u32, Tree)>>);
//!
//! // An ordinary recursive function.
//! fn walk(tree: &Tree, out: &Yielder<(), u32>) {
//!     if let Some(node) = &tree.0 {
//!         walk(&node.0, out);
//!         out.yield_(node.1);
//!         walk(&node.2, out);
//!     }
//! }
//!
//! let leaf = |n| Tree(Some(Box::new((Tree(None), n, Tree(None)))));
//! let tree = Tree(Some(Box::new((leaf(1), 2, leaf(3)))));
//! let values = Generator::new(move |out, ()| walk(&tree, out));
//! assert_eq!(values.collect::<Vec<_>>(), [1, 2, 3]);
//! ```
//!
//! # Values both ways
//! Whoever resumes a generator passes a value in. The function gets the first as its argument, and the others
//! as what [`yield_`](Yielder::yield_) returns.
//!
//! ```
//! use greenling::generator::Generator;
//!
//! let mut average = Generator::new(|out, first: f64| {
//!     let (mut sum, mut count) = (first, 1.0);
//!     loop {
//!         sum += out.yield_(sum / count);
//!         count += 1.0;
//!     }
//! });
//! assert_eq!(average.send(4.0), Ok(4.0));
//! assert_eq!(average.send(8.0), Ok(6.0));
//! ```
//!
//! # Borrowed data
//! A [`Generator`] owns what it uses. [`scope`] makes one that may borrow.
//!
//! # The end
//! A panic in the function goes on in whoever has resumed the generator. A generator that is dropped, or
//! [closed](Generator::close), before it has finished unwinds: the destructors of what lives on its stack run,
//! without a panic message. Code in the generator that catches this unwinding should pass it on with
//! `resume_unwind`; if it yields instead, the unwinding begins again.
//!
//! One thing a destructor must not do in that moment is to yield: there is nobody any more who could go
//! on with it. Such a generator is left as it is. It leaks: its stack is never used again, what lives there is
//! not dropped, an error is logged, and `std::thread::panicking` stays true on the thread. (A
//! generator of a [`scope`] may hold borrows, and cannot be left: the process aborts.) The same happens to one
//! that yields in the middle of unwinding from a panic, and is dropped then.
//!
//! With `panic = "abort"` nothing can be unwound, so every generator that is dropped before its end is left
//! in this way (without the log message), and one of a [`scope`] has to be run to its end.
//!
//! # Waiting
//! A blocking call of this crate inside a generator (a sleep, a lock, a socket) parks the coroutine that runs the
//! generator, as in any other function. Other coroutines run meanwhile.
//!
//! # Threads
//! A generator stays on its thread, whatever it contains:
//! ```compile_fail,E0277
//! fn is_send<T: Send>(_: T) {}
//! is_send(greenling::generator::Generator::new(|_: &greenling::generator::Yielder<(), ()>, ()| ()));
//! ```
//! ```compile_fail,E0277
//! fn is_sync<T: Sync>(_: T) {}
//! is_sync(greenling::generator::Generator::new(|_: &greenling::generator::Yielder<(), ()>, ()| ()));
//! ```

mod engine;

use std::fmt;
use std::io;
use std::iter::FusedIterator;

use crate::error::Finished;
use engine::{Engine, Leak};

pub use engine::Yielder;

/// What a resumption of a generator gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step<Out, Ret> {
    /// It has yielded this, and can be resumed again.
    Yielded(Out),
    /// Its function has returned this.
    Complete(Ret),
}

/// Whatever can be resumed as a generator can, so that
/// [`yield_from`](Yielder::yield_from) can delegate to it.
pub trait Resume<In> {
    /// What it yields.
    type Out;
    /// What it returns at its end.
    type Ret;

    /// Runs it up to its next yield or its end.
    ///
    /// # Panics
    /// If it has finished, and with whatever it panics with.
    fn resume(&mut self, input: In) -> Step<Self::Out, Self::Ret>;
}

/// A function that runs on a stack of its own and yields values, one for each resumption.
///
/// It takes an `In` at each resumption and yields an `Out`; its function returns a `Ret` at the end. A generator
/// that takes `()` is an [`Iterator`].
///
/// See the [module](self) for what it can do, and for its end.
pub struct Generator<In, Out, Ret = ()> {
    engine: Engine<In, Out, Ret>,
}

impl<In: 'static, Out: 'static, Ret: 'static> Generator<In, Out, Ret> {
    /// A generator that will run `body` when it is first resumed, with what it is resumed with.
    ///
    /// # Panics
    /// If there is no memory for a stack; [`Builder::build`] returns the error.
    ///
    /// # Examples
    /// ```
    /// use greenling::generator::Generator;
    ///
    /// let squares = Generator::new(|out, ()| {
    ///     for n in 1_u32.. {
    ///         out.yield_(n * n);
    ///     }
    /// });
    /// assert_eq!(squares.take(4).sum::<u32>(), 30);
    /// ```
    pub fn new<F>(body: F) -> Self
    where
        F: FnOnce(&Yielder<In, Out>, In) -> Ret + 'static,
    {
        match Builder::new().build(body) {
            Ok(generator) => generator,
            Err(error) => panic!("failed to make a generator: {error}"),
        }
    }
}

/// What a generator can do, for the two kinds of handles.
macro_rules! methods {
    () => {
        /// Runs the generator up to its next yield or its end.
        ///
        /// # Panics
        /// If it has finished, and with whatever its function panics with. It has finished then.
        #[inline(always)]
        pub fn resume(&mut self, input: In) -> Step<Out, Ret> {
            self.engine.resume(input)
        }

        /// Runs the generator up to its next yield, and returns what it yields.
        ///
        /// # Errors
        /// If it finishes instead; [`take_return`](Self::take_return) has then what it returned. If it had
        /// finished before, the error gives the input back.
        ///
        /// # Panics
        /// With whatever its function panics with. It has finished then.
        #[inline(always)]
        pub fn send(&mut self, input: In) -> Result<Out, Finished<In>> {
            self.engine.send(input)
        }

        /// Whether its function has ended, be it by a panic.
        pub fn is_finished(&self) -> bool {
            self.engine.is_finished()
        }

        /// What the function has returned, if it was [`send`](Self::send) or the iterator that made it
        /// finish. The second time there is none.
        pub fn take_return(&mut self) -> Option<Ret> {
            self.engine.take_return()
        }
    };
}

impl<In, Out, Ret> Generator<In, Out, Ret> {
    methods!();

    /// Unwinds the generator now, if it has not finished, and returns what its function returned, if it did.
    ///
    /// # Panics
    /// With whatever the function panics with instead, and if it cannot be unwound (see the
    /// [module](self#the-end)). A drop only logs that.
    ///
    /// # Examples
    /// ```
    /// use greenling::generator::Generator;
    ///
    /// let mut endless = Generator::new(|out, ()| loop { out.yield_('a') });
    /// endless.next();
    /// assert_eq!(endless.close(), None);
    /// ```
    pub fn close(mut self) -> Option<Ret> {
        self.engine.close()
    }
}

impl<In, Out, Ret> Resume<In> for Generator<In, Out, Ret> {
    type Out = Out;
    type Ret = Ret;

    #[inline(always)]
    fn resume(&mut self, input: In) -> Step<Out, Ret> {
        self.engine.resume(input)
    }
}

/// The iterator ends where the generator does; [`take_return`](Generator::take_return) has what it
/// returned.
impl<Out, Ret> Iterator for Generator<(), Out, Ret> {
    type Item = Out;

    #[inline(always)]
    fn next(&mut self) -> Option<Out> {
        self.engine.send(()).ok()
    }
}

impl<Out, Ret> FusedIterator for Generator<(), Out, Ret> {}

impl<In, Out, Ret> fmt::Debug for Generator<In, Out, Ret> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine.describe(f.debug_struct("Generator"))
    }
}

/// A generator that may borrow, inside the [`scope`] that made it.
pub struct Scoped<'scope, In, Out, Ret = ()> {
    /// Behind a reference, so that it cannot be taken out of its scope, or be forgotten.
    engine: &'scope mut Engine<In, Out, Ret>,
}

impl<In, Out, Ret> Scoped<'_, In, Out, Ret> {
    methods!();
}

impl<In, Out, Ret> Resume<In> for Scoped<'_, In, Out, Ret> {
    type Out = Out;
    type Ret = Ret;

    #[inline(always)]
    fn resume(&mut self, input: In) -> Step<Out, Ret> {
        self.engine.resume(input)
    }
}

impl<Out, Ret> Iterator for Scoped<'_, (), Out, Ret> {
    type Item = Out;

    #[inline(always)]
    fn next(&mut self) -> Option<Out> {
        self.engine.send(()).ok()
    }
}

impl<Out, Ret> FusedIterator for Scoped<'_, (), Out, Ret> {}

impl<In, Out, Ret> fmt::Debug for Scoped<'_, In, Out, Ret> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine.describe(f.debug_struct("Scoped"))
    }
}

/// Makes a generator whose function may borrow, and calls `run` with it. When `run` returns or panics, the
/// generator is unwound if it has not finished.
///
/// # Panics
/// If there is no memory for a stack, with whatever `run` panics with, and with whatever the function panics
/// with.
///
/// # Aborts
/// If the generator cannot be unwound (see the [module](self#the-end)): what it borrows would end while its
/// stack still holds it.
///
/// # Examples
/// ```
/// use greenling::generator;
///
/// let words = vec!["one".to_owned(), "two".to_owned()];
/// let mut lengths = Vec::new();
/// generator::scope(
///     |out, ()| {
///         for word in &words {
///             out.yield_(word.as_str()); // no clone
///         }
///     },
///     |generator| lengths.extend(generator.map(str::len)),
/// );
/// assert_eq!(lengths, [3, 3]);
/// ```
///
/// What it borrows cannot end before it does:
/// ```compile_fail,E0505
/// use greenling::generator;
///
/// let word = "one".to_owned();
/// generator::scope(|out, ()| out.yield_(word.as_str()), |generator| {
///     drop(word);
///     generator.count()
/// });
/// ```
/// Nor can the generator leave its scope:
/// ```compile_fail,E0521
/// use greenling::generator;
///
/// let mut outside = None;
/// generator::scope(|out, ()| out.yield_(1), |generator| outside = Some(generator));
/// ```
pub fn scope<In, Out, Ret, T>(
    body: impl FnOnce(&Yielder<In, Out>, In) -> Ret,
    run: impl FnOnce(Scoped<'_, In, Out, Ret>) -> T,
) -> T {
    match Builder::new().scope(body, run) {
        Ok(value) => value,
        Err(error) => panic!("failed to make a generator: {error}"),
    }
}

/// Settings of a generator: its name and the size of its stack.
///
/// # Examples
/// ```
/// use greenling::generator::Builder;
///
/// let mut deep = Builder::new()
///     .name("deep".into())
///     .stack_size(8 * 1024 * 1024)
///     .build(|out, ()| out.yield_(1))?;
/// assert_eq!(deep.next(), Some(1));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
}

impl Builder {
    /// A builder with no name and the default stack size.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the generator, for the report of a stack overflow and for `Debug`.
    pub fn name(mut self, name: String) -> Builder {
        self.name = Some(name);
        self
    }

    /// Sets the size of the stack in bytes, rounded up to a power of two (at least 16 KiB).
    ///
    /// Only what the generator touches costs memory. The default is that of coroutines: 256 KiB unless
    /// [`hub::Config`](crate::hub::Config) says otherwise.
    pub fn stack_size(mut self, size: usize) -> Builder {
        self.stack_size = Some(size);
        self
    }

    /// Makes the generator.
    ///
    /// # Errors
    /// `OutOfMemory` when there is no address space or no map left for a stack, `InvalidInput` for a
    /// stack beyond 1 TiB.
    pub fn build<In, Out, Ret, F>(self, body: F) -> io::Result<Generator<In, Out, Ret>>
    where
        F: FnOnce(&Yielder<In, Out>, In) -> Ret + 'static,
        In: 'static,
        Out: 'static,
        Ret: 'static,
    {
        Ok(Generator { engine: Engine::owning(self.name, self.stack_size, body)? })
    }

    /// Makes a generator that may borrow: see [`scope`].
    ///
    /// # Errors
    /// As for [`build`](Self::build). `run` is not called then.
    pub fn scope<In, Out, Ret, T>(
        self,
        body: impl FnOnce(&Yielder<In, Out>, In) -> Ret,
        run: impl FnOnce(Scoped<'_, In, Out, Ret>) -> T,
    ) -> io::Result<T> {
        // SAFETY: the engine stays in this function, which drops it before it returns, whatever `run` does,
        // and `Leak::Abort` makes that drop end it for good.
        let mut engine = unsafe { Engine::new(self.name, self.stack_size, Leak::Abort, body)? };
        let value = run(Scoped { engine: &mut engine });
        engine.close();
        Ok(value)
    }
}

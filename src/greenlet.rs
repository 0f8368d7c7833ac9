//! Greenlets: coroutines that a program switches by hand.
//!
//! A [`Greenlet`] is a function on a stack of its own. It runs when somebody [switches](Greenlet::switch)
//! to it, until it switches to another one, and so on: nothing else decides who runs. A switch costs a few
//! nanoseconds. It needs no hub.
//!
//! ```
//! use greenling::greenlet::Greenlet;
//!
//! let meals = Greenlet::new(|first: &str| {
//!     println!("eat {first}");
//!     let second = Greenlet::base().switch("had breakfast").unwrap();
//!     println!("eat {second}");
//!     "had lunch"
//! });
//! assert_eq!(meals.switch("toast").unwrap(), "had breakfast");
//! assert_eq!(meals.switch("soup").unwrap(), "had lunch");
//! ```
//!
//! # Messages
//! All greenlets that switch to each other make a family: they have one type of messages, `M`. The first
//! message to a greenlet is the argument of its function. Every later one is what its pending `switch`
//! returns. What the function returns is a message to the greenlet's parent.
//!
//! # The base, and parents
//! Whoever runs outside of any greenlet of the family is its base: the thread's own stack, a coroutine of
//! the hub, a generator. There is one handle for it, [`Greenlet::base`], which means the base of whoever uses it.
//!
//! Every greenlet has a parent: the one that made it, unless [`set_parent`](Greenlet::set_parent) changes
//! that. The parent goes on when the greenlet's function returns, with the value as its message, or
//! panics, with the panic. If the parent has finished, its parent does, and so on up to the base; the same if
//! it runs elsewhere. A parent that was set is kept alive by its children. The one that made them is not: else
//! a greenlet that keeps handles of its children would never be dropped.
//!
//! # The end
//! [`kill`](Greenlet::kill) unwinds a greenlet: the destructors on its stack run, without a panic message. So
//! does the drop of its last handle. Code in a greenlet that catches this unwinding should pass it on with
//! `resume_unwind`. If it switches instead:
//!
//! * After a `kill` it may. The greenlet has survived.
//! * After a drop it may not, since nobody could ever switch back to it. It is told to unwind again. In a
//!   destructor, where that would abort the process, the switch returns an error. One that does not give in is
//!   left as it is: it leaks, and an error is logged.
//!
//! Greenlets whose last handles live on the stack of one that is being dropped are dropped right after it.
//!
//! A greenlet that switches away from a destructor in the middle of unwinding can go on with it only when somebody
//! switches back. Meanwhile `std::thread::panicking` is true on its thread, and if it is dropped it is left
//! as it is.
//!
//! With `panic = "abort"` nothing can be unwound. There a `kill` and a drop leave a suspended greenlet as it
//! is: its stack is never used again, its destructors do not run. [`throw`](Greenlet::throw) aborts.
//!
//! # Hub, coroutines, generators
//! A blocking call of this crate inside a greenlet parks the coroutine that runs it, as in any other
//! function. Meanwhile other coroutines of the thread run. They may switch to every greenlet that is suspended,
//! whoever has run it before, but not to one in which another coroutine waits: that one is
//! [`Busy`](SwitchError::Busy). A greenlet may switch from inside a generator, which stays on its stack as
//! any function call does.
//!
//! # Threads
//! A greenlet belongs to the thread that made it. Elsewhere it cannot even be named:
//! ```compile_fail,E0277
//! fn is_send<T: Send>(_: T) {}
//! is_send(greenling::greenlet::Greenlet::<()>::base());
//! ```
//! ```compile_fail,E0277
//! fn is_sync<T: Sync>(_: T) {}
//! is_sync(greenling::greenlet::Greenlet::<()>::base());
//! ```

mod body;
mod engine;
mod release;
mod trace;

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::panic::Location;
use std::ptr::NonNull;

use body::{Body, Parent};

pub use crate::error::{KillError, ParentError, SwitchError};
pub use trace::{Event, EventKind, Party, Tracer, set_tracer};

/// What a panic carries.
pub type Payload = Box<dyn Any + Send + 'static>;

/// A handle to a greenlet: to a function on a stack of its own, or to the [base](Greenlet::base).
///
/// Clones are handles to the same greenlet; so are they equal. See the [module](self) for the rest.
pub struct Greenlet<M: 'static> {
    /// `None` for the base.
    body: Option<NonNull<Body<M>>>,
}

/// What a greenlet is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It has not run yet.
    New,
    /// It has switched away, and waits for a message.
    Suspended,
    /// It runs, or waits for something that runs inside of it.
    Running,
    /// Its function has ended.
    Dead,
}

/// What a greenlet has ended with.
#[derive(Debug)]
pub enum Outcome<M> {
    /// Its function has returned.
    Done(M),
    /// It was killed.
    Killed,
    /// Its function has panicked with this.
    Panicked(Payload),
}

impl<M: 'static> Greenlet<M> {
    /// A greenlet that will run `f` when somebody first switches to it, with the message of that switch. Its
    /// parent is the greenlet that runs now.
    ///
    /// # Panics
    /// If there is no memory for a stack; [`Builder::build`] returns the error.
    ///
    /// # Examples
    /// ```
    /// use greenling::greenlet::Greenlet;
    ///
    /// let double = Greenlet::new(|n: i32| 2 * n);
    /// assert_eq!(double.switch(21).unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn new(f: impl FnOnce(M) -> M + 'static) -> Greenlet<M> {
        match Builder::new().build(f) {
            Ok(greenlet) => greenlet,
            Err(error) => panic!("failed to make a greenlet: {error}"),
        }
    }

    /// The base: whoever runs outside of any greenlet of this family. It means the base of the
    /// coroutine that uses the handle.
    #[inline]
    pub const fn base() -> Greenlet<M> {
        Greenlet { body: None }
    }

    /// Whether this is the base.
    pub fn is_base(&self) -> bool {
        self.body.is_none()
    }

    /// The greenlet of this family that runs now.
    ///
    /// # Examples
    /// ```
    /// use greenling::greenlet::Greenlet;
    ///
    /// assert!(Greenlet::<bool>::current().is_base());
    /// let other = Greenlet::new(|_| Greenlet::<bool>::current().is_base());
    /// assert!(!other.switch(true).unwrap());
    /// ```
    pub fn current() -> Greenlet<M> {
        engine::current().map_or(Greenlet::base(), |body| body.handle())
    }

    /// Gives `message` to this greenlet and lets it run. Returns the next message that somebody gives to the
    /// caller.
    ///
    /// A greenlet that switches to itself gets its message back at once.
    ///
    /// # Errors
    /// If it could not take the message, with the message in it: it is [dead](SwitchError::Dead), it
    /// [runs elsewhere](SwitchError::Busy), it is the base and so is [the caller](SwitchError::AtBase), or the
    /// caller [is being dropped](SwitchError::Dropped).
    /// [`Killed`](SwitchError::Killed) if it is the end of a killed child that lets the caller go on.
    ///
    /// # Unwinds
    /// With what somebody throws at the caller, with the panic of a child that has ended so, and when the caller is
    /// killed.
    ///
    /// # Panics
    /// If the caller is a greenlet and calls this on a stack that this crate does not know, such as one of
    /// the `stacker` crate.
    ///
    /// # Examples
    /// ```
    /// use greenling::greenlet::{Greenlet, SwitchError};
    ///
    /// let short = Greenlet::new(|n: i32| n + 1);
    /// assert_eq!(short.switch(1).unwrap(), 2);
    /// assert!(matches!(short.switch(5), Err(SwitchError::Dead(5))));
    /// ```
    // Inlined, so that the return from the switch is one that the processor has predicted: see
    // `rt::Suspender::suspend`.
    #[inline(always)]
    #[track_caller]
    pub fn switch(&self, message: M) -> Result<M, SwitchError<M>> {
        engine::switch(self.body, message)
    }

    /// Lets a panic with `payload` happen in this greenlet: its pending `switch` unwinds with it, without a
    /// message. Returns the next message that somebody gives to the caller.
    ///
    /// One that has not run yet never will: it is dead, and the panic goes to its parent. To throw at
    /// oneself panics.
    ///
    /// # Errors
    /// If it could not be thrown, with the payload in it; and as for [`switch`](Self::switch).
    ///
    /// # Unwinds
    /// As [`switch`](Self::switch) does. Unless something catches the payload, it is thrown further to the
    /// parent, which may well be the caller.
    ///
    /// # Examples
    /// ```
    /// use std::panic::catch_unwind;
    /// use greenling::greenlet::Greenlet;
    ///
    /// let careful = Greenlet::new(|n: i32| {
    ///     match catch_unwind(|| Greenlet::base().switch(n).unwrap()) {
    ///         Ok(n) => n,
    ///         Err(payload) => *payload.downcast::<i32>().unwrap(),
    ///     }
    /// });
    /// careful.switch(1).unwrap();
    /// assert_eq!(careful.throw(Box::new(7)).unwrap(), 7);
    /// ```
    #[track_caller]
    pub fn throw(&self, payload: Payload) -> Result<M, SwitchError<Payload>> {
        engine::throw(self.body, payload)
    }

    /// Ends this greenlet by unwinding it, and returns what it has ended with.
    ///
    /// One that has not run yet never will. To kill a dead one changes nothing. To kill oneself unwinds at once, and
    /// the parent goes on, with [`SwitchError::Killed`].
    ///
    /// # Errors
    /// [`Survived`](KillError::Survived) if it has caught the unwinding and goes on. Else if it could
    /// not be done: see [`KillError`].
    ///
    /// # Examples
    /// ```
    /// use greenling::greenlet::{Greenlet, Outcome, State};
    ///
    /// let endless = Greenlet::new(|()| loop {
    ///     Greenlet::base().switch(()).unwrap();
    /// });
    /// endless.switch(()).unwrap();
    /// assert!(matches!(endless.kill(), Ok(Outcome::Killed)));
    /// assert_eq!(endless.state(), State::Dead);
    /// ```
    #[track_caller]
    pub fn kill(&self) -> Result<Outcome<M>, KillError<M>> {
        engine::kill(self.body)
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        match self.body() {
            Some(body) => body.state(),
            None if Greenlet::<M>::current().is_base() => State::Running,
            None => State::Suspended,
        }
    }

    /// Whether it has finished.
    pub fn is_dead(&self) -> bool {
        self.state() == State::Dead
    }

    /// Where its result goes. `None` for the base.
    pub fn parent(&self) -> Option<Greenlet<M>> {
        self.body().map(Body::parent)
    }

    /// Changes where its result goes. It holds a handle of `parent` from now on.
    ///
    /// # Errors
    /// If it would then be its own ancestor, or if it is the base.
    pub fn set_parent(&self, parent: &Greenlet<M>) -> Result<(), ParentError> {
        let body = self.body().ok_or(ParentError::Base)?;
        let mut ancestor = parent.body;
        while let Some(above) = ancestor {
            if Some(above) == self.body {
                return Err(ParentError::Cycle);
            }
            // SAFETY: `parent` is alive, and nobody's parent is freed before him.
            ancestor = unsafe { above.as_ref() }.parent_body();
        }
        release::drop_parent(body.replace_parent(Parent::Chosen(parent.clone())));
        Ok(())
    }

    /// Its number, which no other greenlet of the process has. 0 is the base.
    pub fn id(&self) -> u64 {
        self.body().map_or(0, Body::id)
    }

    /// The name that [`Builder::name`] gave it.
    pub fn name(&self) -> Option<&str> {
        self.body()?.name()
    }

    /// Where it last switched away, or where it was made if it has not. `None` for the base.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        Some(self.body()?.location())
    }

    fn body(&self) -> Option<&Body<M>> {
        // SAFETY: alive as long as there is a handle.
        self.body.map(|body| unsafe { body.as_ref() })
    }
}

impl<M: 'static> Clone for Greenlet<M> {
    fn clone(&self) -> Greenlet<M> {
        self.body().map_or(Greenlet::base(), Body::handle)
    }
}

impl<M: 'static> Drop for Greenlet<M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(body) = self.body {
            // SAFETY: a handle that is not used again.
            unsafe { release::drop_handle(body) };
        }
    }
}

impl<M: 'static> PartialEq for Greenlet<M> {
    fn eq(&self, other: &Greenlet<M>) -> bool {
        self.body == other.body
    }
}

impl<M: 'static> Eq for Greenlet<M> {}

impl<M: 'static> Hash for Greenlet<M> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.body.hash(hasher);
    }
}

impl<M: 'static> fmt::Debug for Greenlet<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(body) = self.body() else { return f.write_str("Greenlet(base)") };
        f.debug_struct("Greenlet")
            .field("id", &body.id())
            .field("name", &body.name())
            .field("state", &body.state())
            .field("location", &format_args!("{}", body.location()))
            .finish_non_exhaustive()
    }
}

/// Settings of a greenlet: its name and the size of its stack.
///
/// # Examples
/// ```
/// use greenling::greenlet::{Builder, Greenlet};
///
/// let deep = Builder::new()
///     .name("deep".into())
///     .stack_size(8 * 1024 * 1024)
///     .build(|n: u32| n + 1)?;
/// assert_eq!(deep.name(), Some("deep"));
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

    /// Names the greenlet, for the report of a stack overflow, for tracers and for `Debug`.
    pub fn name(mut self, name: String) -> Builder {
        self.name = Some(name);
        self
    }

    /// Sets the size of the stack in bytes, rounded up to a power of two (at least 16 KiB).
    ///
    /// Only what the greenlet touches costs memory. The default is that of coroutines: 256 KiB unless
    /// [`hub::Config`](crate::hub::Config) says otherwise.
    pub fn stack_size(mut self, size: usize) -> Builder {
        self.stack_size = Some(size);
        self
    }

    /// Makes the greenlet.
    ///
    /// # Errors
    /// `OutOfMemory` when there is no address space or no map left for a stack, `InvalidInput` for a
    /// stack beyond 1 TiB.
    #[track_caller]
    pub fn build<M: 'static>(self, f: impl FnOnce(M) -> M + 'static) -> io::Result<Greenlet<M>> {
        body::make(self.name, self.stack_size, f, Location::caller())
    }
}

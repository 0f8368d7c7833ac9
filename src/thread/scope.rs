//! Coroutines that borrow, in the shape of `std::thread::scope`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::{Builder, JoinHandle, Result, Thread};
use crate::error::Killed;
use crate::rt::{self, Shield, TaskArc, Woken};

/// Runs `f`, which may spawn coroutines that borrow from the caller, and waits for all of them.
///
/// The shape and the semantics are `std::thread::scope`'s. In addition, if `f` panics, or the caller is
/// killed or runs out of time, then the coroutines of the scope are killed and waited for first: no borrow
/// outlives what it borrows from.
///
/// # Panics
/// If a coroutine of the scope panicked and was not joined.
///
/// # Examples
/// ```
/// let mut numbers = vec![1, 2, 3];
/// let mut sum = 0;
/// greenling::scope(|scope| {
///     scope.spawn(|| sum = numbers.iter().sum());
/// });
/// numbers.push(sum);
/// assert_eq!(numbers, [1, 2, 3, 6]);
/// ```
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope {
        children: RefCell::new(Vec::new()),
        panicked: Rc::new(Cell::new(false)),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let interrupted = match &result {
        Ok(_) => scope.wait_for_all().err(),
        Err(_) => None,
    };
    if result.is_err() || interrupted.is_some() {
        scope.kill_all();
    }
    match (result, interrupted) {
        (Err(payload), _) => resume_unwind(payload),
        (_, Some(woken)) => rt::unwind(woken),
        (Ok(_), None) if scope.panicked.get() => panic!("a scoped thread panicked"),
        (Ok(value), None) => value,
    }
}

/// A scope in which coroutines can be spawned that borrow. See [`scope`].
///
/// Unlike std's it is not `Sync`: all its coroutines are on one thread.
pub struct Scope<'scope, 'env: 'scope> {
    /// Those that may still run.
    children: RefCell<Vec<TaskArc>>,
    /// Whether one that was not joined has panicked.
    panicked: Rc<Cell<bool>>,
    // Invariant in both, as in std: neither may be shrunk or grown from inside.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// As std's. What is in its cells is whole between any two calls.
impl RefUnwindSafe for Scope<'_, '_> {}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Spawns a coroutine that may borrow from outside of the scope.
    ///
    /// # Panics
    /// If there is no memory for a stack; [`Builder::spawn_scoped`] returns the error.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        match Builder::new().spawn_scoped(self, f) {
            Ok(handle) => handle,
            Err(error) => panic!("failed to spawn a coroutine: {error}"),
        }
    }

    /// Waits until no coroutine of the scope is left, including those that they spawn meanwhile.
    #[track_caller]
    fn wait_for_all(&self) -> std::result::Result<(), Woken> {
        loop {
            let Some(child) = self.children.borrow().last().cloned() else { return Ok(()) };
            child.wait_exit(None)?;
            self.children.borrow_mut().retain(|other| !other.has_exited());
        }
    }

    /// Unwinds what is left, however long that takes.
    fn kill_all(&self) {
        let _shield = Shield::new();
        while !self.children.borrow().is_empty() {
            let children = self.children.borrow().clone();
            for child in &children {
                rt::kill(child);
            }
            for child in &children {
                // Shielded and without a deadline, so it ends only with the child. (A deadlock cannot be
                // reported by unwinding here: the borrows are still in use.)
                while child.wait_exit(None).is_err() {}
            }
            self.children.borrow_mut().retain(|child| !child.has_exited());
        }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("coroutines", &self.children.borrow().len())
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Spawns a coroutine of a scope, with this name and stack size.
    ///
    /// # Errors
    /// As for [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_scoped<'scope, 'env, F, T>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let (name, stack_size) = self.into_parts();
        let unjoined = Rc::new(Cell::new(None));
        let (panicked, state) = (scope.panicked.clone(), unjoined.clone());
        let body = move || {
            let result = catch_unwind(AssertUnwindSafe(f));
            if let Err(payload) = &result {
                if !payload.is::<Killed>() {
                    // Whoever joins takes the blame away again.
                    match state.get() {
                        Some(Handle::Dropped) => panicked.set(true),
                        _ => state.set(Some(Handle::OfPanicked)),
                    }
                }
            }
            result
        };
        // SAFETY: `scope` (the function) returns or unwinds only after all children have exited, and an exit
        // is announced after all of the coroutine's code has run, the drop of an unwanted result included.
        // The handle, which may hold a result that borrows, cannot outlive `'scope`; if it is forgotten, the
        // result is never dropped.
        let joiner = unsafe { rt::spawn_unchecked(name, stack_size, body) }?;
        let mut children = scope.children.borrow_mut();
        if children.len() == children.capacity() {
            // Amortized: a scope that spawns for ever keeps only those that run.
            children.retain(|child| !child.has_exited());
        }
        children.push(joiner.task.clone());
        drop(children);
        Ok(ScopedJoinHandle {
            handle: Some(JoinHandle::new(joiner)),
            unjoined,
            panicked: scope.panicked.clone(),
            scope: PhantomData,
        })
    }
}

/// What is known of a child that nobody has joined.
#[derive(Clone, Copy)]
enum Handle {
    /// The handle was dropped before the end.
    Dropped,
    /// The child panicked while its handle was there.
    OfPanicked,
}

/// Owns the permission to join a coroutine of a scope. Not `Send`, unlike std's: the coroutine's results
/// may borrow, and are dropped on its own thread.
pub struct ScopedJoinHandle<'scope, T> {
    /// Taken when it is joined.
    handle: Option<JoinHandle<Result<T>>>,
    unjoined: Rc<Cell<Option<Handle>>>,
    panicked: Rc<Cell<bool>>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    fn handle(&self) -> &JoinHandle<Result<T>> {
        self.handle.as_ref().expect("only join takes it")
    }

    /// The coroutine's [`Thread`].
    pub fn thread(&self) -> &Thread {
        self.handle().thread()
    }

    /// Waits for the coroutine to end and returns its result.
    ///
    /// # Errors
    /// The payload of its panic, or [`Killed`].
    #[track_caller]
    pub fn join(mut self) -> Result<T> {
        let handle = self.handle.take().expect("only join takes it");
        handle.join().unwrap_or_else(|payload: Box<dyn Any + Send>| Err(payload))
    }

    /// Whether the coroutine has ended.
    pub fn is_finished(&self) -> bool {
        self.handle().is_finished()
    }

    /// As [`JoinHandle::kill`].
    #[track_caller]
    pub fn kill(&self) {
        self.handle().kill();
    }
}

impl<T> Drop for ScopedJoinHandle<'_, T> {
    fn drop(&mut self) {
        if self.handle.is_none() {
            return; // joined
        }
        match self.unjoined.get() {
            Some(Handle::OfPanicked) => self.panicked.set(true),
            _ => self.unjoined.set(Some(Handle::Dropped)),
        }
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").finish_non_exhaustive()
    }
}

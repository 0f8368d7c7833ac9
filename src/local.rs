//! Values of which every coroutine has its own: [`local!`](crate::local!).
//!
//! What `thread_local!` is to threads. A value is created when its coroutine first uses it and dropped when
//! the coroutine ends, on the coroutine's own stack and before its end is announced: who has joined a
//! coroutine finds them gone. A main coroutine's values are dropped at the end of its thread.
//!
//! ```
//! use std::cell::Cell;
//!
//! greenling::local! {
//!     static DEPTH: Cell<u32> = Cell::new(1);
//! }
//!
//! DEPTH.set(10); // main's own
//! let child = greenling::spawn(|| {
//!     DEPTH.set(DEPTH.get() + 1);
//!     DEPTH.get()
//! });
//! assert_eq!(child.join().unwrap(), 2);
//! assert_eq!(DEPTH.get(), 10);
//! ```
//!
//! # Destructors
//! Values are dropped in the reverse order of their creation. A destructor may use values that are still
//! there, and may wait; a kill does not interrupt it. If one panics, that is logged and the others are
//! dropped all the same.

#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use crate::error::AccessError;
use crate::rt;

/// Declares values of which every coroutine has its own, in the form of `std::thread_local!`.
///
/// Each becomes a `static` of the type [`LocalKey`](crate::local::LocalKey).
///
/// # Examples
/// ```
/// use std::cell::RefCell;
///
/// greenling::local! {
///     /// What this coroutine has done.
///     pub static LOG: RefCell<Vec<String>> = RefCell::new(Vec::new());
/// }
///
/// LOG.with_borrow_mut(|log| log.push("began".into()));
/// assert_eq!(LOG.take(), ["began"]);
/// ```
#[macro_export]
macro_rules! local {
    () => {};
    ($(#[$attribute:meta])* $vis:vis static $name:ident: $T:ty = $init:expr; $($rest:tt)*) => {
        $crate::local!($(#[$attribute])* $vis static $name: $T = $init);
        $crate::local!($($rest)*);
    };
    ($(#[$attribute:meta])* $vis:vis static $name:ident: $T:ty = $init:expr) => {
        $(#[$attribute])*
        $vis static $name: $crate::local::LocalKey<$T> = {
            fn init() -> $T {
                $init
            }
            $crate::local::LocalKey::__new(init)
        };
    };
}

/// A key to a value of which every coroutine has its own. Made by [`local!`](crate::local!); has the
/// methods of [`std::thread::LocalKey`].
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
    /// Its number among all keys, from 1; 0 if it has never been used.
    number: AtomicUsize,
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn __new(init: fn() -> T) -> LocalKey<T> {
        LocalKey { init, number: AtomicUsize::new(0) }
    }

    fn number(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        match self.number.load(Ordering::Relaxed) {
            0 => {
                let new = NEXT.fetch_add(1, Ordering::Relaxed);
                // Another thread may have been quicker; then `new` is never used.
                match self.number.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => new,
                    Err(theirs) => theirs,
                }
            }
            number => number,
        }
    }

    fn value(&'static self, init: impl FnOnce() -> T) -> Result<Rc<T>, AccessError> {
        let number = self.number() - 1;
        let get = || match rt::with_locals(|locals| locals.get(number)) {
            Some(Ok(value)) => Ok(value),
            _ => Err(AccessError),
        };
        let value = match get()? {
            Some(value) => value,
            None => {
                let value: Rc<dyn Any> = Rc::new(init());
                // If `init` has used this very key, then the value from there stays.
                let refused = rt::with_locals(|locals| locals.insert(number, value));
                drop(refused);
                get()?.ok_or(AccessError)?
            }
        };
        Ok(value.downcast().expect("a number belongs to one key"))
    }

    /// Calls `f` with the coroutine's value, which is created now if this is its first use.
    ///
    /// `f` may wait: the value stays where it is, and other coroutines have their own.
    ///
    /// # Panics
    /// If the coroutine is ending and has dropped the value.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.try_with(f).expect("a coroutine-local value is used after it has been dropped")
    }

    /// As [`with`](Self::with).
    ///
    /// # Errors
    /// [`AccessError`] if the coroutine is ending and has dropped the value.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        self.value(self.init).map(|value| f(&value))
    }

    /// Sees to it that there is a value: makes it of `fresh` if there is none, or calls `f` with both.
    fn set_with<F>(&'static self, fresh: F, make: fn(F) -> T, replace: impl FnOnce(&T, F)) {
        let mut fresh = Some(fresh);
        let value = self
            .value(|| make(fresh.take().expect("`init` is called once")))
            .expect("a coroutine-local value is used after it has been dropped");
        if let Some(fresh) = fresh {
            replace(&value, fresh);
        }
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the coroutine's value, without making an initial one first.
    ///
    /// # Panics
    /// If the coroutine is ending and has dropped the value; the same for the methods below.
    pub fn set(&'static self, value: T) {
        self.set_with(value, Cell::new, |cell, value| cell.set(value));
    }

    /// A copy of the coroutine's value.
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// The coroutine's value; leaves the default in its place.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Sets the coroutine's value and returns the one before.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with a reference to the coroutine's value.
    ///
    /// # Panics
    /// If the value is mutably borrowed, or the coroutine is ending and has dropped it; similar for the
    /// methods below.
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with a mutable reference to the coroutine's value.
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the coroutine's value, without making an initial one first.
    pub fn set(&'static self, value: T) {
        self.set_with(value, RefCell::new, |cell, value| drop(cell.replace(value)));
    }

    /// The coroutine's value; leaves the default in its place.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets the coroutine's value and returns the one before.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

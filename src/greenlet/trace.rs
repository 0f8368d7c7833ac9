//! Tracing: a function of the program's that sees every switch of the thread.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::rc::Rc;

/// What sees every switch: see [`set_tracer`].
pub type Tracer = Box<dyn FnMut(&Event)>;

/// How somebody comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// With a message, or with a result.
    Switch,
    /// By unwinding: somebody throws, kills or drops it, or a child of it has panicked.
    Throw,
}

/// One of the two sides of a switch.
#[derive(Clone, Debug)]
pub struct Party {
    id: u64,
    name: Option<Rc<str>>,
    location: Option<&'static Location<'static>>,
}

impl Party {
    pub(super) fn new(
        id: u64,
        name: Option<Rc<str>>,
        location: Option<&'static Location<'static>>,
    ) -> Party {
        Party { id, name, location }
    }

    pub(super) fn base() -> Party {
        Party { id: 0, name: None, location: None }
    }

    /// The greenlet's number; 0 for the base.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The greenlet's name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where the greenlet last switched away.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.location
    }
}

/// A switch.
#[derive(Clone, Debug)]
pub struct Event {
    kind: EventKind,
    origin: Party,
    target: Party,
}

impl Event {
    /// How the target comes to run.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// Who ran before.
    pub fn origin(&self) -> &Party {
        &self.origin
    }

    /// Who runs now.
    pub fn target(&self) -> &Party {
        &self.target
    }
}

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static TRACER: RefCell<Option<Tracer>> = const { RefCell::new(None) };
    /// Who ran last.
    static ORIGIN: RefCell<Option<Party>> = const { RefCell::new(None) };
}

/// Has `tracer` called at each switch among the thread's greenlets, of all families, and returns the one that
/// was called before. `None` ends it.
///
/// It is called in the greenlet that goes on, before that sees its message. It is not called for its own
/// switches. If it panics, it is removed, and the panic goes on in that greenlet.
///
/// # Examples
/// ```
/// use std::cell::RefCell;
/// use std::rc::Rc;
/// use greenling::greenlet::{Builder, set_tracer};
///
/// let seen = Rc::new(RefCell::new(Vec::new()));
/// let record = Rc::clone(&seen);
/// set_tracer(Some(Box::new(move |event| {
///     let name = event.target().name().unwrap_or("base").to_owned();
///     record.borrow_mut().push(name);
/// })));
/// let greenlet = Builder::new().name("increment".into()).build(|n: u32| n + 1)?;
/// greenlet.switch(1).unwrap();
/// set_tracer(None);
/// assert_eq!(*seen.borrow(), ["increment", "base"]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_tracer(tracer: Option<Tracer>) -> Option<Tracer> {
    let on = tracer.is_some();
    // At the end of the thread it may be gone.
    let old = TRACER.try_with(|current| current.replace(tracer));
    ON.set(on && old.is_ok());
    old.ok().flatten()
}

/// Whether there is a tracer.
#[inline(always)]
pub(super) fn is_on() -> bool {
    ON.get()
}

/// Notes who has just stopped to run.
#[cold]
pub(super) fn left(who: Party) {
    let _ = ORIGIN.try_with(|origin| origin.replace(Some(who)));
}

/// Calls the tracer, in `who`, who goes on.
#[cold]
pub(super) fn arrived(kind: EventKind, who: Party) {
    // None if it was set in between.
    let Some(origin) = ORIGIN.try_with(|origin| origin.take()).ok().flatten() else { return };
    ON.set(false);
    let tracer = TRACER.try_with(|tracer| tracer.take()).ok().flatten();
    let Some(mut tracer) = tracer else { return };
    tracer(&Event { kind, origin, target: who });
    let _ = TRACER.try_with(|current| {
        let mut current = current.borrow_mut();
        // Unless it has set another one.
        if current.is_none() {
            *current = Some(tracer);
        }
        ON.set(current.is_some());
    });
}

//! Values that belong to one coroutine, by the number of their key: what `local!` stores.
//!
//! Pure data. When the values are dropped is in `spawn.rs`.

#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

#[derive(Default)]
pub(crate) struct Locals {
    slots: RefCell<Vec<Slot>>,
    /// The numbers of those that are alive, in the order of their creation.
    order: RefCell<Vec<usize>>,
    /// It is too late to create any.
    closed: Cell<bool>,
}

#[derive(Clone, Default)]
enum Slot {
    #[default]
    Empty,
    /// Shared with whoever uses it at the moment.
    Alive(Rc<dyn Any>),
    Dropped,
}

/// The value has been dropped, or it is too late to create it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Locals {
    /// The value with this number, if it has been created.
    pub(crate) fn get(&self, number: usize) -> Result<Option<Rc<dyn Any>>, Gone> {
        match self.slots.borrow().get(number) {
            Some(Slot::Alive(value)) => Ok(Some(value.clone())),
            Some(Slot::Dropped) => Err(Gone),
            _ if self.closed.get() => Err(Gone),
            _ => Ok(None),
        }
    }

    /// Adds a value, unless there is or was one. Gives it back then.
    pub(crate) fn insert(&self, number: usize, value: Rc<dyn Any>) -> Result<(), Rc<dyn Any>> {
        let mut slots = self.slots.borrow_mut();
        if slots.len() <= number {
            slots.resize(number + 1, Slot::Empty);
        }
        if self.closed.get() || !matches!(slots[number], Slot::Empty) {
            return Err(value);
        }
        slots[number] = Slot::Alive(value);
        self.order.borrow_mut().push(number);
        Ok(())
    }

    /// Takes out the value that was created last, for its destructor to run outside of here. It can still
    /// use the others, and create new ones. After the last, nothing more can be created.
    pub(super) fn take_last(&self) -> Option<Rc<dyn Any>> {
        let Some(number) = self.order.borrow_mut().pop() else {
            self.closed.set(true);
            self.slots.take();
            self.order.take();
            return None;
        };
        match std::mem::replace(&mut self.slots.borrow_mut()[number], Slot::Dropped) {
            Slot::Alive(value) => Some(value),
            _ => unreachable!("what is in order is alive"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gone, Locals};
    use std::rc::Rc;

    #[test]
    fn values_leave_in_the_reverse_order_of_creation_and_do_not_come_back() {
        let locals = Locals::default();
        assert!(locals.get(5).unwrap().is_none());
        for number in [5, 0, 3] {
            assert!(locals.insert(number, Rc::new(number)).is_ok());
        }
        assert!(locals.insert(3, Rc::new(7)).is_err(), "there is one");
        assert_eq!(*locals.get(3).unwrap().unwrap().downcast::<usize>().unwrap(), 3);

        assert_eq!(*locals.take_last().unwrap().downcast::<usize>().unwrap(), 3);
        assert_eq!(locals.get(3).unwrap_err(), Gone);
        assert!(locals.insert(3, Rc::new(7)).is_err(), "there was one");
        assert!(locals.insert(9, Rc::new(9usize)).is_ok(), "this one is new");
        let rest: Vec<usize> = std::iter::from_fn(|| locals.take_last())
            .map(|value| *value.downcast::<usize>().unwrap())
            .collect();
        assert_eq!(rest, [9, 0, 5]);

        assert_eq!(locals.get(1).unwrap_err(), Gone);
        assert!(locals.insert(1, Rc::new(1)).is_err(), "it is too late");
    }
}

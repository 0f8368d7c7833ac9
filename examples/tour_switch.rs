//! Two greenlets switch to each other by hand: 1, 3, 2, 4.
//!
//! Run with: cargo run --example tour_switch

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use greenling::greenlet::Greenlet;

fn main() {
    let said = Rc::new(RefCell::new(Vec::new()));
    let say = {
        let said = said.clone();
        move |number: u32| {
            println!("{number}");
            said.borrow_mut().push(number);
        }
    };

    // Each has to know the other, so the second is filled in later.
    let second = Rc::new(OnceCell::new());
    let first = {
        let (say, second) = (say.clone(), second.clone());
        Greenlet::new(move |()| {
            let second: &Greenlet<()> = second.get().expect("it is set below");
            say(1);
            second.switch(()).expect("it has not run yet");
            say(2);
            second.switch(()).expect("it waits for us");
            unreachable!("the second ends, and its end goes to its parent, the base");
        })
    };
    let back = first.clone();
    let other = Greenlet::new(move |()| {
        say(3);
        back.switch(()).expect("it waits for us");
        say(4);
    });
    second.set(other).expect("it is set once");

    first.switch(()).expect("it has not run yet");
    assert_eq!(*said.borrow(), [1, 3, 2, 4]);
}

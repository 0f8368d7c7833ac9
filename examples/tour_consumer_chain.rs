//! A chain of consumers: `cat | grep | number`, where each stage is sent its input and sends on what it lets
//! through.
//!
//! Run with: cargo run --example tour_consumer_chain

use std::cell::RefCell;
use std::rc::Rc;

use greenling::generator::Generator;

/// Something that takes lines. `None` says that there are no more.
type Stage = Generator<Option<String>, ()>;

/// Makes a stage from a function that gets an iterator over its input.
fn stage(work: impl FnOnce(&mut dyn Iterator<Item = String>) + 'static) -> Stage {
    Generator::new(move |out, first: Option<String>| {
        let mut next = Some(first);
        // A loop over the input: each turn but the first waits until the next line is sent.
        work(&mut std::iter::from_fn(move || next.take().unwrap_or_else(|| out.yield_(()))));
    })
}

fn grep(pattern: &'static str, mut target: Stage) -> Stage {
    stage(move |lines| {
        for line in lines.filter(|line| line.contains(pattern)) {
            let _ = target.send(Some(line));
        }
        let _ = target.send(None);
    })
}

fn number(mut target: Stage) -> Stage {
    stage(move |lines| {
        for (n, line) in (1..).zip(lines) {
            let _ = target.send(Some(format!("{n}: {line}")));
        }
        let _ = target.send(None);
    })
}

fn main() {
    let printed = Rc::new(RefCell::new(Vec::new()));
    let print = {
        let printed = printed.clone();
        stage(move |lines| {
            for line in lines {
                println!("{line}");
                printed.borrow_mut().push(line);
            }
        })
    };

    let mut pipe = grep("green", number(print));
    let text = "green tea\nblack tea\ngreenlets\ncoffee\nan evergreen";
    for line in text.lines() {
        pipe.send(Some(line.to_owned())).expect("the pipe is open");
    }
    assert!(pipe.send(None).is_err(), "all stages end");

    assert_eq!(*printed.borrow(), ["1: green tea", "2: greenlets", "3: an evergreen"]);
}

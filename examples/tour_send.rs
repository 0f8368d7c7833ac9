//! A producer hands what it makes to a consumer, which is a generator: by `send`, without a queue in between.
//!
//! Run with: cargo run --example tour_send

use greenling::generator::Generator;

fn main() {
    let mut lines = Vec::new();
    let mut say = |line: String| {
        println!("{line}");
        lines.push(line);
    };

    // It yields how many it has eaten, and is sent the next bun.
    let mut consumer = Generator::new(|out, first: String| {
        let mut bun = first;
        let mut eaten = Vec::new();
        while !bun.is_empty() {
            eaten.push(bun);
            bun = out.yield_(eaten.len());
        }
        eaten.join(", ")
    });

    for filling in ["leek", "cabbage", "bean"] {
        say(format!("made a {filling} bun"));
        let count = consumer.send(format!("{filling} bun")).expect("it is hungry");
        say(format!("  eaten so far: {count}"));
    }
    // The end: it returns instead of yielding.
    assert!(consumer.send(String::new()).is_err());
    let eaten = consumer.take_return().expect("it has ended just now");
    say(format!("all of them: {eaten}"));

    assert_eq!(
        lines,
        [
            "made a leek bun",
            "  eaten so far: 1",
            "made a cabbage bun",
            "  eaten so far: 2",
            "made a bean bun",
            "  eaten so far: 3",
            "all of them: leek bun, cabbage bun, bean bun",
        ]
    );
}

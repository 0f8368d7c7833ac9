//! The same-fringe problem: have two trees of different shapes the same leaves, in the same order?
//!
//! Run with: cargo run --example tour_same_fringe
//!
//! Each tree is walked by an ordinary recursive function, and both walks advance side by side. They stop at
//! the first difference, however large the trees are.

use std::cell::Cell;

use greenling::generator::{self, Yielder};

enum Tree {
    Leaf(u32),
    Fork(Box<Tree>, Box<Tree>),
}

use Tree::{Fork, Leaf};

impl Tree {
    fn walk(&self, out: &Yielder<(), u32>) {
        match self {
            Leaf(value) => out.yield_(*value),
            Fork(left, right) => {
                left.walk(out);
                right.walk(out);
            }
        }
    }
}

/// Whether the leaves are the same, and how many of both trees had to be looked at.
fn same_fringe(a: &Tree, b: &Tree) -> (bool, u32) {
    let visited = Cell::new(0);
    let count = |_: &u32| visited.set(visited.get() + 1);
    // The generators borrow the trees, hence the scopes.
    let same = generator::scope(
        |out, ()| a.walk(out),
        |a| generator::scope(|out, ()| b.walk(out), |b| a.inspect(count).eq(b.inspect(count))),
    );
    (same, visited.get())
}

/// Leans to the left: `((1 2) 3) 4`.
fn left(values: impl IntoIterator<Item = u32>) -> Tree {
    let leaves = values.into_iter().map(Leaf);
    leaves.reduce(|tree, leaf| Fork(Box::new(tree), Box::new(leaf))).expect("at least one")
}

/// As even as it can be: `(1 2) (3 4)`.
fn even(values: &[u32]) -> Tree {
    match values {
        [one] => Leaf(*one),
        _ => {
            let (left, right) = values.split_at(values.len() / 2);
            Fork(Box::new(even(left)), Box::new(even(right)))
        }
    }
}

fn main() {
    let values: Vec<u32> = (1..=200).collect();
    let mut changed = values.clone();
    changed[4] = 99;

    let mut results = Vec::new();
    for (what, other) in
        [("the same leaves", even(&values)), ("another fifth leaf", even(&changed))]
    {
        let (same, visited) = same_fringe(&left(values.iter().copied()), &other);
        println!("{what}: {same}, after {visited} leaves");
        results.push((same, visited));
    }
    assert_eq!(results, [(true, 400), (false, 10)]);
}

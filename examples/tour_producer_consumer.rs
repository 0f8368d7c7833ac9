//! One producer and two consumers at a queue with ten places: the producer waits while it is full, the
//! consumers while it is empty.
//!
//! Run with: cargo run --release --example tour_producer_consumer

use std::rc::Rc;
use std::time::Duration;

use greenling::queue::Queue;
use greenling::{sleep, spawn};

const LOAVES: u32 = 30;
const PLACES: usize = 10;

fn main() {
    let shelf = Rc::new(Queue::bounded(PLACES));

    let baker = spawn({
        let shelf = shelf.clone();
        move || {
            for loaf in 1..=LOAVES {
                shelf.put(loaf).expect("nobody but the baker closes it");
                println!("baked loaf {loaf}, {} on the shelf", shelf.len());
            }
            shelf.close(); // what is left can still be taken
        }
    });

    let eaters = ["Ada", "Bob"].map(|name| {
        let shelf = shelf.clone();
        spawn(move || {
            let mut eaten = Vec::new();
            for loaf in shelf.iter() {
                assert!(shelf.len() <= PLACES);
                println!("{name} eats loaf {loaf}");
                eaten.push(loaf);
                sleep(Duration::from_millis(2));
            }
            eaten
        })
    });

    let [ada, bob] = eaters.map(|eater| eater.join().unwrap());
    baker.join().unwrap();

    // Each has got its loaves in the order in which they were baked, and nobody went hungry.
    assert!(ada.is_sorted() && bob.is_sorted());
    assert!(!ada.is_empty() && !bob.is_empty());
    let mut all = [ada.clone(), bob.clone()].concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(1..=LOAVES));
    println!("{} loaves: {} for Ada, {} for Bob", LOAVES, ada.len(), bob.len());
}

//! A pool of three workers, results by callback, in the order in which they are ready, and in the order of
//! the jobs; and a job that fails.
//!
//! Run with: cargo run --release --example tour_pool

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use greenling::event::AsyncResult;
use greenling::pool::Pool;
use greenling::sleep;
use std::sync::Arc;

thread_local! {
    static AT_WORK: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// Fetches a page, or so: the longer its number, the longer it takes.
fn fetch(page: u64) -> u64 {
    AT_WORK.set(AT_WORK.get() + 1);
    MOST.set(MOST.get().max(AT_WORK.get()));
    sleep(Duration::from_millis(5 * (page % 4) + 1));
    AT_WORK.set(AT_WORK.get() - 1);
    page * 100
}

fn main() {
    let pool = Pool::new(3);

    // A callback for each job, called when its result is there.
    let called = Rc::new(RefCell::new(Vec::new()));
    for page in 0..6 {
        let result = Arc::new(AsyncResult::<u64, ()>::new());
        let called = called.clone();
        result.link(move |size| called.borrow_mut().push(*size.unwrap()));
        pool.spawn(move || result.set(fetch(page)).unwrap());
    }
    pool.join();
    greenling::yield_now(); // the last callback
    println!("by callback: {:?}", called.borrow());
    let mut sizes = called.take();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 100, 200, 300, 400, 500]);

    // All results at once, in the order of the jobs.
    let all: Vec<u64> = pool.map(0..6, fetch).into_iter().map(Result::unwrap).collect();
    assert_eq!(all, [0, 100, 200, 300, 400, 500]);

    // One by one, as they come.
    let first = pool.imap_unordered([3, 0, 2], fetch).next().unwrap();
    println!("job {} was the quickest", first.0);
    assert_eq!(first.0, 1);

    // A job that panics is an error in its place; the others go on.
    let results =
        pool.map(
            0..4,
            |page| if page == 2 { std::panic::resume_unwind(Box::new("gone")) } else { page },
        );
    let readable: Vec<_> = results.into_iter().map(Result::ok).collect();
    println!("{readable:?}");
    assert_eq!(readable, [Some(0), Some(1), None, Some(3)]);

    assert_eq!(MOST.get(), 3, "never more than three at a time, but three");
}

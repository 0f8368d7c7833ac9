//! What nobody joins does not keep the program alive: coroutines end with main, as threads do in Rust, and as daemon
//! threads do in Python.
//!
//! Run with: cargo run --release --example tour_daemon

use std::time::Duration;

use greenling::{sleep, spawn};

/// Says when it is dropped.
struct Guard(&'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        println!("{} has cleaned up", self.0);
    }
}

fn main() {
    // In Python: a daemon. Abandoned at the end of main, without a chance to clean up.
    spawn(|| {
        let _guard = Guard("the daemon");
        loop {
            sleep(Duration::from_millis(10));
        }
    });
    // In Python: not a daemon. Who wants it to be waited for joins it.
    let worker = spawn(|| {
        let _guard = Guard("the worker");
        sleep(Duration::from_millis(30));
    });
    worker.join().expect("it does not panic");
    // And what is to end cleanly is killed.
    let killed = spawn(|| {
        let _guard = Guard("the killed one");
        sleep(Duration::from_secs(1000));
    });
    sleep(Duration::from_millis(10));
    killed.kill();
    println!("main ends");
}

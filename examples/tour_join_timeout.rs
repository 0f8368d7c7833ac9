//! Waiting for somebody, but not for ever: join with a timeout, and what can be done when it is over.
//!
//! Run with: cargo run --release --example tour_join_timeout

use std::time::{Duration, Instant};

use greenling::{Killed, sleep, spawn, timeout};

const PATIENCE: Duration = Duration::from_millis(20);

fn main() {
    // Somebody who is in time.
    let quick = spawn(|| {
        sleep(PATIENCE / 4);
        "the result"
    });
    let result = quick.join_timeout(5 * PATIENCE).expect("in time").unwrap();
    println!("in time: {result}");

    // Somebody who is late: the handle comes back, and we can go on waiting.
    let start = Instant::now();
    let late = spawn(|| {
        sleep(3 * PATIENCE);
        "better late"
    });
    let late = late.join_timeout(PATIENCE).expect_err("not yet");
    assert!(start.elapsed() >= PATIENCE && !late.is_finished());
    println!("not after {PATIENCE:?}, but after all: {}", late.join().unwrap());
    assert!(start.elapsed() >= 3 * PATIENCE);

    // Somebody who will never come: we give up, and end it. Its destructors run.
    struct TurnOffTheLight;
    impl Drop for TurnOffTheLight {
        fn drop(&mut self) {
            println!("the light is off");
        }
    }
    let lost = spawn(|| {
        let _light = TurnOffTheLight;
        sleep(Duration::from_secs(3600));
    });
    let lost = lost.join_timeout(PATIENCE).expect_err("it sleeps for an hour");
    lost.kill();
    assert!(lost.is_finished());
    assert!(lost.join().unwrap_err().is::<Killed>());

    // The same for any piece of code: everything in it together may take so long.
    let both = timeout(PATIENCE, || {
        sleep(PATIENCE / 2);
        sleep(3600 * PATIENCE);
    });
    assert!(both.is_err());
    println!("{}", both.unwrap_err());
}

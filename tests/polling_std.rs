//! A loop that only looks lets others run: what threads may do, with the scheduler's help, coroutines may do as well. The same
//! loops with std's threads and with coroutines of one thread, where whoever is looked for could not run otherwise.

mod common;

use std::time::{Duration, Instant};

mod with_greenling {
    use greenling::{net, os, process, sync, thread};

    include!("polling_std/cases.rs");
}

mod with_std {
    use std::{net, os, process, sync, thread};

    include!("polling_std/cases.rs");
}

/// In a destructor while its coroutine unwinds nothing may switch, however often it looks.
#[test]
fn a_coroutine_that_unwinds_may_look_and_send_without_end() {
    use greenling::sync::mpsc::channel;

    struct Sends(greenling::sync::mpsc::Sender<u32>);
    impl Drop for Sends {
        fn drop(&mut self) {
            (0..1000).for_each(|n| self.0.send(n).unwrap());
        }
    }
    common::deadline(20, || {
        let (sender, receiver) = channel();
        let victim = greenling::spawn(move || {
            let _sends = Sends(sender);
            greenling::thread::park();
        });
        greenling::spawn(|| (0..100).for_each(|_| greenling::yield_now()));
        greenling::yield_now();
        victim.kill();
        assert_eq!(receiver.iter().count(), 1000);
    });
}

/// What a message is sent with in a loop of nothing else is no point where a kill or a time limit unwinds.
#[test]
fn a_loop_that_only_sends_is_not_interrupted() {
    common::deadline(20, || {
        let (sender, receiver) = greenling::sync::mpsc::channel();
        let late = greenling::timeout(Duration::from_millis(5), || {
            let since = Instant::now();
            while since.elapsed() < Duration::from_millis(50) {
                sender.send(()).unwrap();
            }
            "sent"
        });
        assert_eq!(late, Ok("sent"));
        assert!(receiver.try_recv().is_ok());
    });
}

/// (Not with std, which has file locks since Rust 1.89 only.)
#[test]
fn a_loop_over_a_file_lock_sees_it_released() {
    common::deadline(60, || {
        let path = std::env::temp_dir().join(format!("greenling-polling-{}", std::process::id()));
        let first = greenling::fs::File::create(&path).unwrap();
        let second = greenling::fs::File::open(&path).unwrap();
        first.lock().unwrap();
        let unlocks = greenling::spawn(move || {
            greenling::sleep(Duration::from_millis(5));
            first.unlock().unwrap();
        });
        while second.try_lock().is_err() {}
        unlocks.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    });
}

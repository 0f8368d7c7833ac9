//! The inbox and the doorbell: with threads, and (`--cfg loom`) in every order of their steps.

use super::*;

#[cfg(not(loom))]
mod threads {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn messages_come_out_in_the_order_in_which_they_went_in() {
        let inbox = Inbox::new();
        for n in 0..10 {
            inbox.push(n).unwrap();
        }
        let mut out = vec![100];
        inbox.take_all(&mut out);
        assert_eq!(out, [100, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_closed_inbox_gives_the_message_back() {
        let inbox = Inbox::new();
        inbox.push(Box::new(1)).unwrap();
        let mut out = Vec::new();
        inbox.close(&mut out);
        assert_eq!(out, [Box::new(1)]);
        assert_eq!(inbox.push(Box::new(2)), Err(Box::new(2)));
        assert!(inbox.is_empty());
        inbox.take_all(&mut out);
        inbox.close(&mut out);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn what_is_never_taken_is_dropped() {
        let probe = Arc::new(());
        let inbox = Inbox::new();
        inbox.push(probe.clone()).unwrap();
        inbox.push(probe.clone()).unwrap();
        drop(inbox);
        assert_eq!(Arc::strong_count(&probe), 1);
    }

    #[test]
    fn eight_threads_push_and_none_is_lost() {
        const EACH: usize = if cfg!(miri) { 50 } else { 20_000 };
        let inbox = Arc::new(Inbox::new());
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let inbox = inbox.clone();
                thread::spawn(move || {
                    for n in 0..EACH {
                        inbox.push((thread, n)).unwrap();
                    }
                })
            })
            .collect();
        let mut next = [0; 8];
        let mut batch = Vec::new();
        while next != [EACH; 8] {
            inbox.take_all(&mut batch);
            for (thread, n) in batch.drain(..) {
                assert_eq!(n, next[thread], "a thread's messages keep their order");
                next[thread] += 1;
            }
            thread::yield_now();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

#[cfg(loom)]
mod loom_models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// What the hub does before it sleeps, and what a sender does. `rung` stands for the eventfd.
    struct Hub {
        inbox: Inbox<u32>,
        bell: Doorbell,
        rung: AtomicU32,
    }

    impl Hub {
        fn send(&self, message: u32) {
            self.inbox.push(message).unwrap();
            if self.bell.ring() != Ring::Nothing {
                self.rung.fetch_add(1, Ordering::Release);
            }
        }
    }

    #[test]
    fn loom_no_wake_up_is_lost() {
        loom::model(|| {
            let hub = Arc::new(Hub {
                inbox: Inbox::new(),
                bell: Doorbell::new(),
                rung: AtomicU32::new(0),
            });
            let senders: Vec<_> = (0..2)
                .map(|n| {
                    let hub = hub.clone();
                    thread::spawn(move || hub.send(n))
                })
                .collect();
            let mut got = Vec::new();
            hub.inbox.take_all(&mut got);
            hub.bell.fall_asleep(true);
            let stays_awake = !hub.inbox.is_empty();
            for sender in senders {
                sender.join().unwrap();
            }
            // Both have sent. A hub that went to sleep over it must have been rung out of it.
            let rung = hub.rung.load(Ordering::Acquire);
            assert!(got.len() == 2 || stays_awake || rung == 1, "asleep for ever");
            assert!(rung <= 1, "one sleep needs one ring");
            hub.bell.wake_up();
            hub.inbox.take_all(&mut got);
            got.sort_unstable();
            assert_eq!(got, [0, 1]);
        });
    }

    #[test]
    fn loom_a_push_that_races_with_close_is_taken_or_refused() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            let sender = {
                let inbox = inbox.clone();
                thread::spawn(move || inbox.push(7u32).is_ok())
            };
            let mut got = Vec::new();
            inbox.close(&mut got);
            let accepted = sender.join().unwrap();
            assert_eq!(accepted, got == [7]);
        });
    }
}

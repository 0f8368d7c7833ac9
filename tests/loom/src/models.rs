//! Models of the queue of waiters itself, its lock, and events.

use std::sync::Arc;

use loom::cell::UnsafeCell;

use crate::event::Event;
use crate::rt::hub::{model, task};
use crate::rt::spin_lock::Lock;
use crate::rt::{Node, Reason, Selection, WaitQueue, Waited, Woken};

const REASON: Reason = Reason::Wait("something");

type Queue = WaitQueue<u32, u32>;

/// What was written before a grant, without any atomic; loom fails the model if a reader does not see it.
struct Written(UnsafeCell<u32>);

// SAFETY: that it is used as if it were is what loom checks.
unsafe impl Sync for Written {}
// SAFETY: as above.
unsafe impl Send for Written {}

impl Written {
    fn new() -> Arc<Written> {
        Arc::new(Written(UnsafeCell::new(0)))
    }

    fn add(&self, n: u32) {
        // SAFETY: as above.
        self.0.with_mut(|value| unsafe { *value += n });
    }

    fn get(&self) -> u32 {
        // SAFETY: as above.
        self.0.with(|value| unsafe { *value })
    }
}

#[test]
fn the_lock_lets_one_in_at_a_time() {
    model(false, || {
        let lock = Arc::new(Lock::new(Written(UnsafeCell::new(0))));
        let threads = [1, 2].map(|_| {
            let lock = lock.clone();
            loom::thread::spawn(move || lock.lock().add(1))
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(lock.lock().get(), 2);
    });
}

/// The message of a grant is in one place, whatever ends the wait.
fn a_grant_races_with(woken: Option<Woken>) {
    model(false, move || {
        let (queue, data) = (Arc::new(Queue::new(0)), Written::new());
        let waiter = task(1, 1);
        let waits = waiter.spawn({
            let (queue, data) = (queue.clone(), data.clone());
            move || match queue.wait(REASON, None, None, |_, _| None::<()>) {
                Ok(Waited::Granted(Some(message))) => {
                    assert_eq!(data.get(), message, "what was done before the grant is seen");
                    true
                }
                Ok(_) => unreachable!("grants have messages here"),
                Err((ended, None)) => {
                    assert_eq!(Some(ended), woken);
                    false
                }
                Err(_) => panic!("a message came with an interruption"),
            }
        });
        if woken.is_none() {
            data.add(7);
            // It may not have come yet.
            loop {
                let granted = queue.lock().grant(7);
                if let Ok(unparker) = granted {
                    unparker.unpark();
                    break;
                }
                loom::thread::yield_now();
            }
            assert!(waits.join().unwrap());
            return;
        }
        let interrupter = loom::thread::spawn(move || waiter.interrupt(woken.unwrap()));
        data.add(7);
        let granted = queue.lock().grant(7);
        let was_granted = granted.is_ok();
        if let Ok(unparker) = granted {
            unparker.unpark();
        }
        interrupter.join().unwrap();
        assert_eq!(waits.join().unwrap(), was_granted);
        assert_eq!(queue.lock().waiting(), 0);
    });
}

#[test]
fn a_grant_comes_with_its_message() {
    a_grant_races_with(None);
}

#[test]
fn a_grant_that_races_with_a_kill_is_a_fact_or_never_was() {
    a_grant_races_with(Some(Woken::Killed));
}

#[test]
fn two_grants_reach_two_waiters_although_a_third_gives_up() {
    model(false, || {
        let queue = Arc::new(Queue::new(0));
        let victim = task(1, 1);
        let waits = [victim, task(2, 2)].map(|waiter| {
            let queue = queue.clone();
            waiter.spawn(move || {
                // Takes a unit that is there, or waits for one.
                let attempt = |state: &mut crate::rt::Locked<'_, u32, u32>| {
                    let there = **state > 0;
                    **state -= u32::from(there);
                    there.then_some(())
                };
                queue.wait(REASON, None, None, |state, _| attempt(state)).is_ok()
            })
        });
        let interrupter = loom::thread::spawn(move || victim.interrupt(Woken::Killed));
        let mut locked = queue.lock();
        let granted = locked.grant(1);
        if granted.is_err() {
            *locked += 1;
        }
        drop(locked);
        if let Ok(unparker) = granted {
            unparker.unpark();
        }
        interrupter.join().unwrap();
        // There is one unit: if the victim does not get it, then the other one, who waits for it for ever.
        let [victim, other] = waits;
        if victim.join().unwrap() {
            let mut locked = queue.lock();
            let granted = locked.grant(1);
            if granted.is_err() {
                *locked += 1;
            }
            drop(locked);
            if let Ok(unparker) = granted {
                unparker.unpark();
            }
        }
        assert!(other.join().unwrap());
        assert_eq!(*queue.lock(), 0);
    });
}

/// One who waits in two queues gets something from one of them, and the other granter keeps its own.
fn a_selection(interrupted: bool) {
    model(false, move || {
        let queues = Arc::new([Queue::new(0), Queue::new(0)]);
        let data = [Written::new(), Written::new()];
        let waiter = task(1, 1);
        let selects = waiter.spawn({
            let (queues, data) = (queues.clone(), data.clone());
            move || {
                let nodes = [Node::new(None), Node::new(None)];
                let selection = Selection::new();
                let mut found = None;
                for n in [0, 1] {
                    // What a granter found nobody to give to.
                    let ready = |state: &mut crate::rt::Locked<'_, u32, u32>| **state > 0;
                    // SAFETY: both queues are left below.
                    let taken = unsafe {
                        selection.enlist(&queues[n], &nodes[n], n as u32, ready, |state| {
                            std::mem::take(&mut **state)
                        })
                    };
                    if taken.is_some() {
                        found = taken.map(|message| (n, message));
                        break;
                    }
                }
                let granted = if found.is_some() {
                    None
                } else {
                    match selection.park(REASON, None) {
                        Ok(index) => Some(index as usize),
                        Err(woken) => {
                            assert!(interrupted && woken == Woken::Killed);
                            None
                        }
                    }
                };
                for n in [0, 1] {
                    if let Some(message) = selection.leave(&queues[n], &nodes[n]) {
                        assert_eq!(granted, Some(n), "only the one that was granted has a message");
                        found = Some((n, message));
                    }
                }
                if let Some((n, message)) = found {
                    assert_eq!(data[n].get(), message);
                }
                found.map(|(_, message)| message)
            }
        });
        let killer =
            interrupted.then(|| loom::thread::spawn(move || waiter.interrupt(Woken::Killed)));
        let grant = |queues: &[Queue; 2], data: &Written, n: usize| {
            let message = n as u32 + 1;
            data.add(message);
            let mut locked = queues[n].lock();
            let granted = locked.grant(message);
            if granted.is_err() {
                *locked = message;
            }
            drop(locked);
            if let Ok(unparker) = granted {
                unparker.unpark();
            }
        };
        let other = {
            let (queues, data) = (queues.clone(), data[1].clone());
            loom::thread::spawn(move || grant(&queues, &data, 1))
        };
        if !interrupted {
            grant(&queues, &data[0], 0);
        }
        other.join().unwrap();
        if let Some(killer) = killer {
            killer.join().unwrap();
        }
        let got = selects.join().unwrap();
        let left: u32 = queues.iter().map(|queue| *queue.lock()).sum();
        assert!(interrupted || got.is_some());
        assert_eq!(left + got.unwrap_or(0), if interrupted { 2 } else { 3 }, "lost or doubled");
    });
}

#[test]
fn of_two_queues_one_grants() {
    a_selection(false);
}

#[test]
fn a_kill_of_one_who_waits_in_two_queues_loses_nothing() {
    a_selection(true);
}

#[test]
fn an_update_reaches_all_who_wait() {
    model(false, || {
        let (queue, data) = (Arc::new(Queue::new(0)), Written::new());
        let waits = [1, 2].map(|id| {
            let (queue, data) = (queue.clone(), data.clone());
            task(id, id).spawn(move || {
                queue.wait_until(REASON, None, |state| (*state > 0).then_some(())).unwrap();
                assert_eq!(data.get(), 5);
            })
        });
        data.add(5);
        queue.update_and_wake_all(|state| *state = 1);
        waits.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn an_event_lets_all_go_on_even_if_it_is_cleared_at_once() {
    model(false, || {
        let (event, data) = (Arc::new(Event::new()), Written::new());
        let waits = {
            let (event, data) = (event.clone(), data.clone());
            task(1, 1).spawn(move || {
                event.wait();
                assert_eq!(data.get(), 5);
            })
        };
        data.add(5);
        let setter = {
            let event = event.clone();
            loom::thread::spawn(move || event.set())
        };
        event.set();
        // Whether it has come before or comes after.
        setter.join().unwrap();
        waits.join().unwrap();
        event.clear();
        assert!(!event.is_set());
    });
}

#[test]
fn whoever_waits_when_an_event_is_set_goes_on_whatever_others_do() {
    model(false, || {
        let event = Arc::new(Event::new());
        let waits = {
            let event = event.clone();
            task(1, 1).spawn(move || event.wait())
        };
        let clearer = {
            let event = event.clone();
            loom::thread::spawn(move || event.clear())
        };
        // If nobody waits yet, and the other clears, then it takes a second time.
        event.set();
        clearer.join().unwrap();
        event.set();
        waits.join().unwrap();
    });
}

/// One that is certain to wait goes on, although the event is cleared before it looks.
#[test]
fn one_who_waits_when_an_event_is_set_goes_on_although_it_is_cleared() {
    model(false, || {
        let event = Arc::new(Event::new());
        let waits = {
            let event = event.clone();
            task(1, 1).spawn(move || event.wait())
        };
        while event.waiters().lock().waiting() == 0 {
            loom::thread::yield_now();
        }
        event.set();
        event.clear();
        waits.join().unwrap();
    });
}

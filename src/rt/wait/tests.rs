//! The queue of waiters: its links and its claims by themselves (under Miri, too), and with coroutines and
//! threads that really wait.

use super::*;
use crate::rt::task::{Message, Remote, Task, TaskArc};
use std::rc::Rc;

/// Somebody who can be woken. Its hub's inbox says whether it was.
struct Somebody {
    task: TaskArc,
    remote: *mut Remote,
}

impl Somebody {
    fn new() -> Somebody {
        let remote = Box::into_raw(Box::new(Remote::new(0, 1)));
        // SAFETY: from a box that is freed at the end of the test, with all that refers to it.
        Somebody { task: Task::new_main(1, None, (unsafe { &*remote }, 1)), remote }
    }

    fn waiter(&self) -> Waiter {
        Waiter::new(self.task.as_ref(), true)
    }

    /// How many wakes are in the inbox.
    fn wakes(&self) -> usize {
        let mut messages = Vec::new();
        // SAFETY: as in `new`.
        unsafe { &*self.remote }.inbox().take_all(&mut messages);
        let wakes = messages.iter().filter(|message| matches!(message, Message::Wake(_))).count();
        assert_eq!(wakes, messages.len());
        messages.iter().for_each(|message| {
            if let Message::Wake(task) = message {
                task.wake_received();
            }
        });
        wakes
    }
}

impl Drop for Somebody {
    fn drop(&mut self) {
        // SAFETY: from a box; the task, which refers to it, is gone with the test.
        drop(unsafe { Box::from_raw(self.remote) });
    }
}

type Queue = WaitQueue<u32, u32>;

/// Puts the nodes into the queue, each with its waiter.
fn enlist(queue: &Queue, nodes: &[Node<u32>], waiters: &[Waiter]) {
    let mut locked = queue.lock();
    for (node, waiter) in nodes.iter().zip(waiters) {
        // SAFETY: the tests keep both alive until the node is unlinked.
        unsafe { locked.inner.enlist(node, waiter, 0) };
    }
}

fn unlink(queue: &Queue, node: &Node<u32>) {
    let mut locked = queue.lock();
    if node.linked.get() {
        // SAFETY: just seen, and it is only ever in this queue.
        unsafe { locked.inner.unlink(node) };
    }
}

fn nodes(count: u32) -> Vec<Node<u32>> {
    (0..count).map(|n| Node::new(Some(100 + n))).collect()
}

#[test]
fn grants_go_to_the_first_in_line() {
    let somebody = Somebody::new();
    let queue = Queue::new(0);
    assert_eq!(queue.lock().grant(7).err(), Some(7), "nobody waits: the message comes back");
    let nodes = nodes(4);
    let waiters: Vec<_> = nodes.iter().map(|_| somebody.waiter()).collect();
    enlist(&queue, &nodes, &waiters);
    assert_eq!(queue.lock().waiting(), 4);
    for n in 0..4_u32 {
        let unparker = queue.lock().grant(n).unwrap_or_else(|_| panic!("somebody waits"));
        assert_eq!(somebody.wakes(), 0, "to grant is not to wake");
        unparker.unpark();
        assert_eq!(somebody.wakes(), 1);
        for (m, waiter) in (0..).zip(&waiters) {
            assert_eq!(waiter.grant(), (m <= n).then_some(0), "waiter {m} after grant {n}");
        }
    }
    assert!(queue.lock().grant(9).is_err());
    for (n, node) in (0..).zip(nodes) {
        assert!(!node.linked.get());
        assert_eq!(node.message.into_inner(), Some(n));
    }
}

#[test]
fn offers_are_taken_from_the_first_in_line() {
    let somebody = Somebody::new();
    let queue = Queue::new(0);
    assert!(queue.lock().take_offer().is_none());
    let nodes = nodes(3);
    let waiters: Vec<_> = nodes.iter().map(|_| somebody.waiter()).collect();
    enlist(&queue, &nodes, &waiters);
    for n in 0..3 {
        let (offer, _) = queue.lock().take_offer().expect("somebody offers");
        assert_eq!(offer, 100 + n);
    }
    assert!(queue.lock().take_offer().is_none());
    assert!(nodes.into_iter().all(|node| node.message.into_inner().is_none()));
}

#[test]
fn whoever_leaves_is_passed_over_wherever_it_stands() {
    let somebody = Somebody::new();
    for count in 1..5 {
        for leaves in 0..count {
            let queue = Queue::new(0);
            let nodes = nodes(count);
            let waiters: Vec<_> = nodes.iter().map(|_| somebody.waiter()).collect();
            enlist(&queue, &nodes, &waiters);
            unlink(&queue, &nodes[leaves as usize]);
            assert_eq!(queue.lock().waiting(), count as usize - 1);
            let mut granted = Vec::new();
            while queue.lock().grant(1).is_ok() {
                granted.push(());
            }
            assert_eq!(granted.len(), count as usize - 1);
            for (n, waiter) in (0..).zip(&waiters) {
                assert_eq!(waiter.grant().is_some(), n != leaves);
            }
            assert_eq!(
                nodes.into_iter().nth(leaves as usize).unwrap().message.into_inner(),
                Some(100 + leaves)
            );
        }
    }
}

#[test]
fn the_links_are_what_a_plain_list_would_be() {
    let somebody = Somebody::new();
    let mut rng = fastrand::Rng::with_seed(2);
    let queue = Queue::new(0);
    let count = 12;
    // Not to be moved, and not in boxes either, which say that nobody else has a pointer.
    type Place = Option<Rc<(Node<u32>, Waiter)>>;
    let mut places: Vec<Place> = (0..count).map(|_| None).collect();
    let mut model: Vec<usize> = Vec::new();
    for step in 0..if cfg!(miri) { 300 } else { 50_000 } {
        let place = rng.usize(..count);
        match rng.u32(0..4) {
            0 | 1 if places[place].is_none() => {
                let fixed = Rc::new((Node::new(None), somebody.waiter()));
                // SAFETY: it stays where it is, and is unlinked before it is dropped.
                unsafe { queue.lock().inner.enlist(&fixed.0, &fixed.1, 0) };
                places[place] = Some(fixed);
                model.push(place);
            }
            2 => {
                if let Some(fixed) = places[place].take() {
                    unlink(&queue, &fixed.0);
                    model.retain(|entry| *entry != place);
                }
            }
            3 => {
                let granted = queue.lock().grant(step).is_ok();
                assert_eq!(granted, !model.is_empty());
                if granted {
                    let fixed = places[model.remove(0)].take().unwrap();
                    assert_eq!(fixed.1.grant(), Some(0));
                    let (node, _) = Rc::into_inner(fixed).unwrap();
                    assert_eq!(node.message.into_inner(), Some(step));
                }
            }
            _ => {}
        }
        assert_eq!(queue.lock().waiting(), model.len());
    }
    for place in places.into_iter().flatten() {
        unlink(&queue, &place.0);
    }
}

#[test]
fn an_update_lets_everybody_look_again() {
    let somebody = Somebody::new();
    let queue = Queue::new(0);
    let nodes = nodes(3);
    let waiters: Vec<_> = nodes.iter().map(|_| somebody.waiter()).collect();
    enlist(&queue, &nodes, &waiters);
    assert_eq!(queue.update_and_wake_all(|state| std::mem::replace(state, 5)), 0);
    assert_eq!(*queue.lock(), 5);
    assert!(waiters.iter().all(|waiter| waiter.grant() == Some(0)));
    assert_eq!(somebody.wakes(), 1, "wakes of one coroutine are one message");
    assert_eq!(queue.lock().waiting(), 0);
    // Without any message: what was offered is still there.
    assert!(nodes.into_iter().all(|node| node.message.into_inner().is_some()));
}

/// A granter on another thread, and a waiter that goes, frame and all, as soon as it sees the grant.
#[test]
fn a_grant_is_the_last_that_a_granter_touches() {
    let somebody = Somebody::new();
    for round in 0..if cfg!(miri) { 10 } else { 2000 } {
        let queue = Queue::new(0);
        std::thread::scope(|scope| {
            let granter = scope.spawn(|| {
                for n in 0..2 {
                    loop {
                        let granted = queue.lock().grant(10 + n);
                        match granted {
                            Ok(unparker) => break unparker.unpark(),
                            Err(_) => std::thread::yield_now(),
                        }
                    }
                }
            });
            for _ in 0..2 {
                let node = Box::new(Node::new(None));
                let waiter = Box::new(somebody.waiter());
                // SAFETY: both live until the grant has unlinked the node.
                unsafe { queue.lock().inner.enlist(&node, &waiter, 0) };
                let mut spins = 0;
                while waiter.grant().is_none_or(|granted| granted & CLAIM != 0) {
                    spins += 1;
                    if spins % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
                drop(waiter);
                assert!(node.message.into_inner().is_some(), "round {round}");
            }
            granter.join().unwrap();
        });
    }
}

/// The waiter gives up while the granter comes: either it is granted, message and all, or the message goes to
/// the next, or back. Never both, never neither.
#[test]
fn a_grant_that_races_with_giving_up_is_a_fact_or_never_was() {
    let somebody = Somebody::new();
    let (mut granted, mut gave_up) = (0, 0);
    for _ in 0..if cfg!(miri) { 20 } else { 3000 } {
        let queue = Queue::new(0);
        std::thread::scope(|scope| {
            let node = Node::new(None);
            let waiter = somebody.waiter();
            // SAFETY: both live to the end of the scope, and are unlinked there.
            unsafe { queue.lock().inner.enlist(&node, &waiter, 0) };
            let granter = scope.spawn(|| queue.lock().grant(7).map(drop));
            std::hint::spin_loop();
            unlink(&queue, &node);
            // As `wait` does: the claim may be made but not yet fulfilled.
            let got = loop {
                match waiter.grant() {
                    Some(index) if index & CLAIM != 0 => std::hint::spin_loop(),
                    other => break other.is_some(),
                }
            };
            let back = granter.join().unwrap();
            // SAFETY: unlinked, and the granter has ended.
            let message = unsafe { (*node.message.get()).take() };
            if got {
                granted += 1;
                assert_eq!((message, back), (Some(7), Ok(())));
            } else {
                gave_up += 1;
                assert_eq!((message, back), (None, Err(7)));
            }
        });
    }
    assert_eq!(granted + gave_up, if cfg!(miri) { 20 } else { 3000 });
}

#[test]
fn of_several_queues_only_one_grants() {
    let somebody = Somebody::new();
    let rounds = if cfg!(miri) { 15 } else { 2000 };
    for round in 0..rounds {
        let queues = [Queue::new(0), Queue::new(0), Queue::new(0)];
        let selection = Selection { waiter: somebody.waiter() };
        let nodes = nodes(3);
        for ((index, queue), node) in (0..).zip(&queues).zip(&nodes) {
            // SAFETY: both live until the node has left, below.
            let ready = unsafe { selection.enlist(queue, node, index, |_| false, |_| ()) };
            assert!(ready.is_none());
        }
        let refused: Vec<_> = std::thread::scope(|scope| {
            let granters: Vec<_> = (0..)
                .zip(&queues)
                .map(|(n, queue)| scope.spawn(move || queue.lock().grant(n).map(|_| n)))
                .collect();
            granters.into_iter().map(|granter| granter.join().unwrap()).collect()
        });
        let winners: Vec<_> = refused.iter().flatten().copied().collect();
        assert_eq!(winners.len(), 1, "round {round}: {refused:?}");
        assert_eq!(selection.granted(), Some(winners[0]));
        for ((n, queue), node) in (0..).zip(&queues).zip(&nodes) {
            let message = selection.leave(queue, node);
            let expected = if n == winners[0] { n } else { 100 + n };
            assert_eq!(message, Some(expected), "the message, or the offer that nobody took");
            assert_eq!(queue.lock().waiting(), 0);
        }
    }
}

#[test]
fn a_selection_that_is_claimed_is_passed_over() {
    let somebody = Somebody::new();
    let (first, second) = (Queue::new(0), Queue::new(0));
    let selection = Selection { waiter: somebody.waiter() };
    let selected = nodes(2);
    let behind = Node::new(None);
    let waiter = somebody.waiter();
    // SAFETY: all live until they are unlinked, below.
    unsafe {
        assert!(selection.enlist(&first, &selected[0], 0, |_| false, |_| ()).is_none());
        assert!(selection.enlist(&second, &selected[1], 1, |_| false, |_| ()).is_none());
        second.lock().inner.enlist(&behind, &waiter, 0);
    }
    assert!(first.lock().grant(1).is_ok());
    // In the second queue the next in line is served instead, and nothing is lost.
    assert!(second.lock().grant(2).is_ok());
    assert_eq!(waiter.grant(), Some(0));
    assert_eq!(behind.message.into_inner(), Some(2));
    assert!(second.lock().grant(3).is_err());
    assert_eq!(selection.leave(&first, &selected[0]), Some(1));
    assert_eq!(selection.leave(&second, &selected[1]), Some(101));
}

#[test]
fn a_selection_that_finds_something_ready_takes_it_and_nothing_else() {
    let somebody = Somebody::new();
    let (first, second) = (Queue::new(0), Queue::new(8));
    let selection = Selection { waiter: somebody.waiter() };
    let nodes = nodes(2);
    // SAFETY: all live until they have left, below.
    let taken = unsafe {
        assert!(selection.enlist(&first, &nodes[0], 0, |_| false, |_| ()).is_none());
        selection.enlist(
            &second,
            &nodes[1],
            1,
            |state| **state == 8,
            |state| std::mem::take(&mut **state),
        )
    };
    assert_eq!((taken, *second.lock()), (Some(8), 0));
    assert!(first.lock().grant(1).is_err(), "it wants no more");
    assert_eq!(selection.granted(), None);
    assert_eq!(selection.leave(&first, &nodes[0]), Some(100));
    assert_eq!(selection.leave(&second, &nodes[1]), Some(101));

    // Somebody was quicker in the first queue: what is ready in the second stays there.
    let (first, second) = (Queue::new(0), Queue::new(8));
    let selection = Selection { waiter: somebody.waiter() };
    // SAFETY: as above.
    let taken = unsafe {
        assert!(selection.enlist(&first, &nodes[0], 0, |_| false, |_| ()).is_none());
        assert!(first.lock().grant(1).is_ok());
        selection.enlist(
            &second,
            &nodes[1],
            1,
            |state| **state == 8,
            |state| std::mem::take(&mut **state),
        )
    };
    assert_eq!((taken, *second.lock()), (None, 8));
    assert_eq!(selection.granted(), Some(0));
    assert_eq!(selection.leave(&first, &nodes[0]), Some(1));
    let _ = selection.leave(&second, &nodes[1]);
}

/// With coroutines and threads that park.
#[cfg(not(miri))]
mod with_hubs {
    use super::*;
    use crate::rt::{Deadline, sys};
    use crate::thread::{self, JoinHandle};
    use crate::{spawn, yield_now};
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::time::Duration;

    /// A queue of permits, handed over one by one.
    type Permits = WaitQueue<u32, ()>;

    fn acquire(queue: &Permits, deadline: Option<u64>) -> Result<(), Woken> {
        let take = |free: &mut Locked<'_, u32, ()>, _: &mut Option<()>| {
            **free = free.checked_sub(1)?;
            Some(())
        };
        queue.wait(Reason::Park, deadline, None, take).map(drop).map_err(|(woken, _)| woken)
    }

    /// The free permits, and how many wait.
    fn at_rest(queue: &Permits) -> (u32, usize) {
        let locked = queue.lock();
        (*locked, locked.waiting())
    }

    fn release(queue: &Permits) {
        let mut locked = queue.lock();
        match locked.grant(()) {
            Ok(unparker) => {
                drop(locked);
                unparker.unpark();
            }
            Err(()) => *locked += 1,
        }
    }

    #[test]
    fn permits_are_handed_over_in_the_order_of_arrival() {
        let queue = Rc::new(Permits::new(0));
        let order: Rc<RefCell<Vec<u32>>> = Rc::default();
        let children: Vec<JoinHandle<()>> = (0..10)
            .map(|n| {
                let (queue, order) = (queue.clone(), order.clone());
                spawn(move || {
                    acquire(&queue, None).unwrap();
                    order.borrow_mut().push(n);
                })
            })
            .collect();
        yield_now();
        (0..10).for_each(|_| release(&queue));
        // A newcomer finds nothing, though the others have not run yet.
        assert_eq!(acquire(&queue, Some(sys::now())), Err(Woken::TimedOut));
        children.into_iter().for_each(|child| child.join().unwrap());
        assert!(order.take().into_iter().eq(0..10));
        assert_eq!(*queue.lock(), 0);
    }

    #[test]
    fn a_deadline_ends_a_wait_and_leaves_no_trace() {
        let queue = Permits::new(0);
        for micros in [0, 1, 500] {
            let deadline = Deadline::after(Duration::from_micros(micros)).unwrap().0;
            assert_eq!(acquire(&queue, Some(deadline)), Err(Woken::TimedOut));
            assert!(sys::now() >= deadline);
            assert_eq!(queue.lock().waiting(), 0);
        }
        release(&queue);
        assert_eq!(acquire(&queue, Some(0)), Ok(()), "what is there counts, however late");
    }

    #[test]
    fn a_kill_ends_a_wait_and_leaves_no_trace() {
        let queue = Rc::new(Permits::new(0));
        let own = queue.clone();
        let child = spawn(move || acquire(&own, None));
        yield_now();
        assert_eq!(queue.lock().waiting(), 1);
        child.kill();
        assert_eq!(child.join().unwrap(), Err(Woken::Killed));
        assert_eq!(queue.lock().waiting(), 0);
    }

    #[test]
    fn one_that_is_granted_and_killed_at_once_has_been_granted() {
        let queue = Rc::new(Permits::new(0));
        for kill_first in [true, false] {
            let own = queue.clone();
            let child = spawn(move || acquire(&own, None));
            yield_now();
            if kill_first {
                child.kill_timeout(Duration::ZERO);
                release(&queue);
            } else {
                release(&queue);
                child.kill_timeout(Duration::ZERO);
            }
            assert_eq!(child.join().unwrap(), Ok(()), "the permit is not lost");
            assert_eq!(at_rest(&queue), (0, 0));
        }
    }

    #[test]
    fn a_stray_wake_does_not_end_a_wait() {
        let queue = Rc::new(Permits::new(0));
        let own = queue.clone();
        let child = spawn(move || acquire(&own, None));
        for _ in 0..5 {
            yield_now();
            child.thread().unpark();
        }
        yield_now();
        assert!(!child.is_finished());
        release(&queue);
        assert_eq!(child.join().unwrap(), Ok(()));
    }

    #[test]
    fn wait_until_looks_again_after_every_change() {
        let queue: Rc<WaitQueue<u32>> = Rc::new(WaitQueue::new(0));
        let children: Vec<_> = (1..=5)
            .map(|n| {
                let queue = queue.clone();
                spawn(move || {
                    let at_least = |value: &mut u32| (*value >= n).then_some(*value);
                    queue.wait_until(Reason::Park, None, at_least)
                })
            })
            .collect();
        yield_now();
        for n in 1..=5 {
            assert!(!children[n - 1].is_finished());
            queue.update_and_wake_all(|value| *value += 1);
            yield_now();
            yield_now();
            assert!(children[n - 1].is_finished());
        }
        for (n, child) in (1..).zip(children) {
            assert_eq!(child.join().unwrap(), Ok(n));
        }
    }

    /// Permits go round between threads with hubs, coroutines on them, deadlines and kills; in the end all are
    /// there again.
    #[test]
    fn no_permit_is_lost_among_threads() {
        const PERMITS: u32 = 3;
        let queue = Arc::new(Permits::new(PERMITS));
        let rounds = if cfg!(debug_assertions) { 300 } else { 2000 };
        let threads: Vec<_> = (0..4)
            .map(|seed| {
                let queue = queue.clone();
                std::thread::spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed);
                    let mut got = 0;
                    for _ in 0..rounds {
                        let children: Vec<_> = (0..4)
                            .map(|_| {
                                let queue = queue.clone();
                                let limit = rng.bool().then(|| sys::now() + rng.u64(0..60_000));
                                let holds = rng.u32(0..3);
                                let child = spawn(move || {
                                    let granted = acquire(&queue, limit).is_ok();
                                    if granted {
                                        (0..holds).for_each(|_| std::hint::spin_loop());
                                        release(&queue);
                                    }
                                    granted
                                });
                                if rng.u32(0..4) == 0 {
                                    yield_now();
                                    child.kill();
                                }
                                child
                            })
                            .collect();
                        for child in children {
                            got += u32::from(child.join().unwrap_or(false));
                        }
                    }
                    got
                })
            })
            .collect();
        let got: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(got > 0);
        assert_eq!(at_rest(&queue), (PERMITS, 0));
        thread::sleep(Duration::ZERO);
    }
}

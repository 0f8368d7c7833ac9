//! Models of queues and channels.

use std::sync::Arc;

use super::common::Core;
use super::store::Fifo;
use crate::error::TryGetError;
use crate::rt::hub::{TaskRef, model, task};
use crate::rt::{Reason, Woken};

const REASON: Reason = Reason::Wait("something");

type Queue = Core<u32, Fifo<u32>>;

fn queue(capacity: usize) -> Arc<Queue> {
    Arc::new(Core::new(Fifo::new(), capacity))
}

fn get(queue: &Arc<Queue>, task: TaskRef) -> loom::thread::JoinHandle<Option<u32>> {
    let queue = queue.clone();
    task.spawn_mortal(move || queue.get(REASON, None).unwrap())
}

fn put(queue: &Arc<Queue>, task: TaskRef, item: u32) -> loom::thread::JoinHandle<Option<()>> {
    let queue = queue.clone();
    task.spawn_mortal(move || queue.put(item, REASON, None).unwrap())
}

fn left(queue: &Queue) -> Vec<u32> {
    std::iter::from_fn(|| queue.try_get().ok()).collect()
}

/// Two putters and two getters, with room for so many items.
fn two_and_two(capacity: usize) {
    model(false, move || {
        let queue = queue(capacity);
        let puts = [1, 2].map(|n| put(&queue, task(u64::from(n), u64::from(n)), n));
        let gets = [get(&queue, task(3, 3))];
        let mut got = vec![task(4, 4).run(|| queue.get(REASON, None).unwrap())];
        got.extend(gets.into_iter().filter_map(|thread| thread.join().unwrap()));
        puts.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        assert_eq!(queue.try_get(), Err(TryGetError::Empty));
    });
}

#[test]
fn a_meeting() {
    two_and_two(0);
}

#[test]
fn room_for_one() {
    two_and_two(1);
}

#[test]
fn an_item_that_races_with_a_kill_of_its_getter() {
    model(false, || {
        let queue = queue(usize::MAX);
        let victim = task(1, 1);
        let dying = get(&queue, victim);
        let putting = put(&queue, task(2, 2), 7);
        victim.interrupt(Woken::Killed);
        putting.join().unwrap().unwrap();
        let mut all = left_after(&queue, dying);
        all.sort_unstable();
        assert_eq!(all, [7], "lost or doubled");
    });
}

fn left_after(queue: &Queue, getter: loom::thread::JoinHandle<Option<u32>>) -> Vec<u32> {
    let got = getter.join().unwrap();
    left(queue).into_iter().chain(got).collect()
}

#[test]
fn an_item_that_races_with_a_kill_of_its_putter() {
    model(false, || {
        let queue = queue(0);
        let victim = task(1, 1);
        let dying = put(&queue, victim, 7);
        let getting = {
            let queue = queue.clone();
            task(2, 2).spawn(move || queue.try_get().ok())
        };
        victim.interrupt(Woken::Killed);
        let (put, got) = (dying.join().unwrap(), getting.join().unwrap());
        assert_eq!(put.is_some(), got == Some(7), "it is with one of them");
    });
}

#[test]
fn closing_races_with_one_who_waits() {
    model(false, || {
        let queue = queue(usize::MAX);
        let getting = {
            let queue = queue.clone();
            task(1, 1).spawn(move || queue.get(REASON, None).ok())
        };
        let putting = {
            let queue = queue.clone();
            loom::thread::spawn(move || queue.try_put(7).is_ok())
        };
        queue.close();
        let (put, got) = (putting.join().unwrap(), getting.join().unwrap());
        let left = left(&queue);
        assert_eq!(usize::from(put), usize::from(got.is_some()) + left.len());
    });
}

//! The kernel's small parts by themselves, under Miri, too; and what spans several of them.

use super::*;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use lock::Lock;
use run_queue::RunQueue;
use task::{Message, Remote, Task};

fn count(full: usize, miri: usize) -> usize {
    if cfg!(miri) { miri } else { full }
}

/// The remote half of a hub that does not exist. Freed at the end of the test.
struct FakeHub(*mut Remote);

impl FakeHub {
    fn new() -> FakeHub {
        FakeHub(Box::into_raw(Box::new(Remote::new(0, 1))))
    }

    fn remote(&self) -> &'static Remote {
        // SAFETY: from a box that is freed at the end of the test, with all that refers to it.
        unsafe { &*self.0 }
    }

    fn task(&self, id: u64) -> TaskArc {
        Task::new_main(id, Some(format!("task {id}").into()), (self.remote(), 1))
    }

    fn received(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        self.remote().inbox().take_all(&mut messages);
        messages
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        drop(self.received());
        // SAFETY: from a box; whatever refers to it is gone with the test.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

// ---- the lock -------------------------------------------------------------------------------------

#[test]
fn the_lock_lets_in_one_at_a_time() {
    let each = count(50_000, 50);
    let lock = Lock::new(0_usize);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..each {
                    let mut value = lock.lock();
                    let before = *value;
                    *value = before + 1;
                }
            });
        }
    });
    assert_eq!(*lock.lock(), 4 * each);
}

#[test]
fn a_lock_whose_guard_was_forgotten_can_be_released() {
    let lock = Lock::new(1);
    std::mem::forget(lock.lock());
    // SAFETY: locked by this thread, and the guard is gone.
    unsafe { lock.force_unlock() };
    *lock.lock() += 1;
    assert_eq!(*lock.lock(), 2);
}

#[test]
fn the_lock_is_released_by_a_panic() {
    let lock = Lock::new(1);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut value = lock.lock();
        *value = 2;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panic.is_err());
    assert_eq!(*lock.lock(), 2);
}

// ---- tasks and their owners -----------------------------------------------------------------------

#[test]
fn a_task_lives_as_long_as_it_has_an_owner() {
    let hub = FakeHub::new();
    let task = hub.task(5);
    let clone = task.clone();
    let reference = task.into_ref();
    assert_eq!(clone.name(), Some("task 5"));
    // SAFETY: `into_ref` has given up one reference.
    let back = unsafe { reference.into_arc() };
    drop(clone);
    assert_eq!(back.id(), 5);
    // SAFETY: `back` keeps the task alive.
    let another = unsafe { back.as_ref().to_arc() };
    drop(back);
    assert_eq!(another.name(), Some("task 5"));
}

#[test]
fn the_last_of_many_owners_on_many_threads_frees_a_task() {
    let hub = FakeHub::new();
    for _ in 0..count(200, 5) {
        let task = hub.task(1);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let own = task.clone();
                scope.spawn(move || {
                    let again = own.clone();
                    drop(own);
                    assert_eq!(again.id(), 1);
                });
            }
            drop(task);
        });
    }
}

#[test]
fn the_token_is_there_at_most_once() {
    let hub = FakeHub::new();
    let task = hub.task(1);
    assert!(!task.take_token());
    task.set_token();
    task.set_token();
    assert!(task.take_token());
    assert!(!task.take_token());
}

#[test]
fn wakes_are_sent_once_until_they_are_received() {
    let hub = FakeHub::new();
    let (first, second) = (hub.task(1), hub.task(2));
    for _ in 0..3 {
        Unparker::new(first.clone()).unpark();
        Unparker::new(second.clone()).unpark();
        Unparker::new(first.clone()).unpark();
        let ids: Vec<_> = hub
            .received()
            .into_iter()
            .map(|message| match message {
                Message::Wake(task) => {
                    task.wake_received();
                    task.id()
                }
                _ => unreachable!("only wakes were sent"),
            })
            .collect();
        assert_eq!(ids, [1, 2]);
    }
}

/// What was written before a wake is seen by whoever receives a wake that it was coalesced into.
#[test]
fn a_coalesced_wake_carries_what_was_written_before_it() {
    let hub = FakeHub::new();
    let task = hub.task(1);
    let data: Vec<_> = (0..3).map(|_| AtomicUsize::new(0)).collect();
    let each = count(20_000, 30);
    std::thread::scope(|scope| {
        for data in &data {
            let task = task.clone();
            scope.spawn(move || {
                for n in 1..=each {
                    data.store(n, Ordering::Relaxed);
                    Unparker::new(task.clone()).unpark();
                }
            });
        }
        // A hub that looks only when it has got a message must see all in the end.
        let mut seen = [0; 3];
        while seen != [each; 3] {
            for message in hub.received() {
                let Message::Wake(task) = message else { unreachable!() };
                task.wake_received();
                for (seen, data) in seen.iter_mut().zip(&data) {
                    let now = data.load(Ordering::Relaxed);
                    assert!(now >= *seen);
                    *seen = now;
                }
            }
            std::thread::yield_now();
        }
    });
}

#[test]
fn an_ended_hub_refuses_messages_until_the_next_takes_over() {
    let hub = FakeHub::new();
    let task = hub.task(1);
    let mut left = Vec::new();
    hub.remote().inbox().close(&mut left);
    assert!(hub.remote().send(Message::Wake(task.clone())).is_err());
    hub.remote().retire();
    assert_eq!(hub.remote().hub_id(), 0);
    Unparker::new(task.clone()).unpark(); // nobody to wake
    task.wake_received();
    hub.remote().reuse(2);
    assert_eq!(hub.remote().hub_id(), 2);
    assert!(!task.belongs_to(2) && task.belongs_to(1));
    assert!(hub.remote().send(Message::Wake(task)).is_ok());
    assert_eq!(hub.received().len(), 1);
}

#[test]
fn the_end_is_announced_to_those_who_watch() {
    let hub = FakeHub::new();
    let tasks: Vec<_> = (0..4).map(|id| hub.task(id)).collect();
    let ended: Arc<Completions> = Arc::new(Completions::new(Default::default()));
    for (number, task) in tasks.iter().enumerate().take(3) {
        task.watch(&ended, number);
        assert!(!task.has_exited());
    }
    for number in [2, 0] {
        let mut delivered = false;
        // SAFETY: there is no hub, so this thread is as good as its.
        let joiner = unsafe { tasks[number].announce_exit(|| delivered = true) };
        assert!(joiner.0.is_none() && delivered && tasks[number].has_exited());
    }
    // One that has ended already is there at once.
    // SAFETY: as above.
    unsafe { tasks[3].announce_exit(|| ()) };
    tasks[3].watch(&ended, 3);
    assert_eq!(*ended.lock(), [2, 0, 3]);
}

// ---- the run queue --------------------------------------------------------------------------------

#[test]
fn the_run_queue_is_first_in_first_out() {
    let hub = FakeHub::new();
    let tasks: Vec<_> = (0..5).map(|id| hub.task(id)).collect();
    let queue = RunQueue::new(tasks[0].as_ref());
    assert!(queue.is_empty() && queue.pop().is_none());
    for round in 1..=tasks.len() {
        tasks[..round].iter().for_each(|task| queue.push(task.as_ref()));
        assert_eq!(queue.len(), round);
        for task in &tasks[..round] {
            assert_eq!(queue.pop(), Some(task.as_ref()));
        }
        assert!(queue.is_empty());
    }
    tasks.iter().for_each(|task| queue.push(task.as_ref()));
    queue.clear();
    assert!(queue.is_empty() && queue.pop().is_none());
    queue.push(tasks[3].as_ref());
    assert_eq!(queue.pop(), Some(tasks[3].as_ref()));
}

#[test]
fn the_run_queue_is_what_a_plain_queue_would_be() {
    let hub = FakeHub::new();
    let tasks: Vec<_> = (0..20).map(|id| hub.task(id)).collect();
    let queue = RunQueue::new(tasks[0].as_ref());
    let mut model = std::collections::VecDeque::new();
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..count(50_000, 300) {
        let number = rng.usize(..tasks.len());
        if rng.bool() && !model.contains(&number) {
            queue.push(tasks[number].as_ref());
            model.push_back(number);
        } else {
            let expected = model.pop_front().map(|number: usize| tasks[number].as_ref());
            assert_eq!(queue.pop(), expected);
        }
        assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
    }
}

/// The one that was last in the queue may have finished, and be gone, when the next one comes.
#[test]
fn the_run_queue_does_not_look_at_those_who_are_gone() {
    let hub = FakeHub::new();
    let (first, second) = (hub.task(1), hub.task(2));
    let queue = RunQueue::new(second.as_ref());
    queue.push(first.as_ref());
    assert_eq!(queue.pop(), Some(first.as_ref()));
    drop(first);
    queue.push(second.as_ref());
    assert_eq!(queue.pop(), Some(second.as_ref()));
}

// ---- time -----------------------------------------------------------------------------------------

#[test]
#[cfg_attr(miri, ignore = "reads the clock")]
fn deadlines_are_in_the_future_or_never() {
    let now = sys::now();
    let soon = Deadline::after(Duration::from_millis(5)).unwrap();
    assert!(soon.0 >= now + 5_000_000 && soon.0 < now + 5_000_000_000);
    assert!(Deadline::after(Duration::MAX).is_none());
    assert!(Deadline::after(Duration::from_nanos(u64::MAX)).is_none());
    let past = Deadline::at(Instant::now()).unwrap();
    std::thread::sleep(Duration::from_millis(1));
    assert!(sys::now() >= past.0);
    let at = Instant::now() + Duration::from_secs(3600);
    let at = Deadline::at(at).unwrap();
    assert!(at.0.abs_diff(sys::now() + 3_600_000_000_000) < 1_000_000_000);
}

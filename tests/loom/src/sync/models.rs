//! Models of the locks: the word beside the queue of waiters.

use std::sync::Arc;

use loom::cell::UnsafeCell;

use super::barrier::Barrier;
use super::once::Once;
use super::raw_mutex::RawMutex;
use super::raw_rwlock::RawRwLock;
use super::semaphore::Semaphore;
use crate::rt::Woken;
use crate::rt::hub::{TaskRef, model, task};

/// What a lock guards. Loom fails the model if two get at it at once, or one does not see what the other did.
struct Guarded<L> {
    lock: L,
    data: UnsafeCell<u32>,
}

// SAFETY: that it is used as if it were is what loom checks.
unsafe impl<L> Sync for Guarded<L> {}
// SAFETY: as above.
unsafe impl<L> Send for Guarded<L> {}

impl<L> Guarded<L> {
    fn new(lock: L) -> Arc<Guarded<L>> {
        Arc::new(Guarded { lock, data: UnsafeCell::new(0) })
    }

    fn add_one(&self) {
        // SAFETY: as above.
        self.data.with_mut(|data| unsafe { *data += 1 });
    }

    fn get(&self) -> u32 {
        // SAFETY: as above.
        self.data.with(|data| unsafe { *data })
    }
}

/// On one hub, or each on its own.
fn tasks<const N: usize>(one_hub: bool) -> [TaskRef; N] {
    std::array::from_fn(|n| task(n as u64 + 1, if one_hub { 1 } else { n as u64 + 1 }))
}

// ---- mutex --------------------------------------------------------------------------------------

fn increments<const N: usize>(one_hub: bool, hurry: bool) {
    model(hurry, move || {
        let mutex = Guarded::new(RawMutex::new());
        let threads = tasks::<N>(one_hub).map(|task| {
            let mutex = mutex.clone();
            task.spawn(move || {
                let held = mutex.lock.lock("a mutex");
                mutex.add_one();
                mutex.lock.unlock(held);
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        task(9, 9).run(|| {
            let held = mutex.lock.try_lock().expect("nobody holds it");
            assert_eq!(mutex.get(), N as u32);
            mutex.lock.unlock(held);
        });
    });
}

#[test]
fn a_mutex_among_hubs() {
    increments::<2>(false, false);
}

#[test]
fn a_mutex_on_one_hub_is_handed_over() {
    increments::<2>(true, false);
}

#[test]
fn a_mutex_among_hubs_without_patience() {
    increments::<2>(false, true);
}

#[test]
fn a_mutex_among_three() {
    increments::<3>(false, false);
}

#[test]
fn a_mutex_handed_over_among_three() {
    increments::<3>(true, false);
}

/// One who is killed in its wait takes nothing from the one behind it.
fn a_kill(one_hub: bool) {
    model(false, move || {
        let mutex = Guarded::new(RawMutex::new());
        let [holder, victim, other] = tasks(one_hub);
        let enter = |task: TaskRef| {
            let mutex = mutex.clone();
            task.spawn_mortal(move || {
                let held = mutex.lock.lock("a mutex");
                mutex.add_one();
                mutex.lock.unlock(held);
            })
        };
        let (dying, waiting) = (enter(victim), enter(other));
        holder.run(|| {
            let held = mutex.lock.lock("a mutex");
            mutex.add_one();
            victim.interrupt(Woken::Killed);
            mutex.lock.unlock(held);
        });
        let won = 1 + u32::from(dying.join().unwrap().is_some());
        waiting.join().unwrap().expect("nobody has killed it");
        task(9, 9).run(|| {
            mutex.lock.try_lock().expect("nobody holds it");
            assert_eq!(mutex.get(), won + 1);
        });
    });
}

#[test]
fn a_kill_in_a_mutex_among_hubs() {
    a_kill(false);
}

#[test]
fn a_kill_in_a_mutex_on_one_hub() {
    a_kill(true);
}

// ---- rwlock -------------------------------------------------------------------------------------

fn readers_and_a_writer(one_hub: bool, hurry: bool) {
    model(hurry, move || {
        let lock = Guarded::new(RawRwLock::new());
        let [one, two, writer] = tasks(one_hub);
        let readers = [one, two].map(|task| {
            let lock = lock.clone();
            task.spawn(move || {
                lock.lock.read();
                assert!(lock.get() <= 1);
                lock.lock.unlock_read();
            })
        });
        writer.run(|| {
            let held = lock.lock.write();
            lock.add_one();
            lock.lock.unlock_write(held);
        });
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        task(9, 9).run(|| {
            lock.lock.try_write().expect("nobody holds it");
            assert_eq!(lock.get(), 1);
        });
    });
}

#[test]
fn a_rwlock_among_hubs() {
    readers_and_a_writer(false, false);
}

#[test]
fn a_rwlock_on_one_hub() {
    readers_and_a_writer(true, false);
}

#[test]
fn a_rwlock_without_patience() {
    readers_and_a_writer(false, true);
}

fn two_writers(one_hub: bool) {
    model(false, move || {
        let lock = Guarded::new(RawRwLock::new());
        let [one, two, reader] = tasks(one_hub);
        let writers = [one, two].map(|task| {
            let lock = lock.clone();
            task.spawn(move || {
                let held = lock.lock.write();
                lock.add_one();
                lock.lock.unlock_write(held);
            })
        });
        reader.run(|| {
            lock.lock.read();
            assert!(lock.get() <= 2);
            lock.lock.unlock_read();
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        task(9, 9).run(|| {
            lock.lock.try_write().expect("nobody holds it");
            assert_eq!(lock.get(), 2);
        });
    });
}

#[test]
fn two_writers_and_a_reader_among_hubs() {
    two_writers(false);
}

#[test]
fn two_writers_and_a_reader_on_one_hub() {
    two_writers(true);
}

/// A writer that dies in its wait lets the reader behind it in, and one that writes may go on reading.
fn a_writer_is_killed(one_hub: bool) {
    model(false, move || {
        let lock = Guarded::new(RawRwLock::new());
        let [holder, victim, reader] = tasks(one_hub);
        let dying = {
            let lock = lock.clone();
            victim.spawn_mortal(move || {
                let held = lock.lock.write();
                lock.add_one();
                lock.lock.unlock_write(held);
            })
        };
        let reading = {
            let lock = lock.clone();
            reader.spawn(move || {
                lock.lock.read();
                let seen = lock.get();
                lock.lock.unlock_read();
                seen
            })
        };
        holder.run(|| {
            let _held = lock.lock.write();
            lock.add_one();
            victim.interrupt(Woken::Killed);
            lock.lock.downgrade();
            assert!(lock.get() > 0);
            lock.lock.unlock_read();
        });
        let won = 1 + u32::from(dying.join().unwrap().is_some());
        assert!(reading.join().unwrap() <= won);
        task(9, 9).run(|| {
            lock.lock.try_write().expect("nobody holds it");
            assert_eq!(lock.get(), won);
        });
    });
}

#[test]
fn a_writer_is_killed_among_hubs() {
    a_writer_is_killed(false);
}

#[test]
fn a_writer_is_killed_on_one_hub() {
    a_writer_is_killed(true);
}

/// One who holds the lock to read does not let go: the reader behind the dying writer has to be let in by that.
#[test]
fn a_writer_that_is_killed_lets_the_reader_behind_it_in() {
    model(false, || {
        let lock = Guarded::new(RawRwLock::new());
        let [holder, victim, reader] = tasks(false);
        holder.run(|| lock.lock.read());
        let dying = {
            let lock = lock.clone();
            victim.spawn_mortal(move || lock.lock.write())
        };
        let reading = {
            let lock = lock.clone();
            reader.spawn(move || {
                lock.lock.read();
                lock.lock.unlock_read();
            })
        };
        victim.interrupt(Woken::Killed);
        assert!(dying.join().unwrap().is_none());
        reading.join().unwrap();
        holder.run(|| lock.lock.unlock_read());
        task(9, 9).run(|| lock.lock.try_write().expect("nobody holds it"));
    });
}

// ---- semaphore, once, barrier ---------------------------------------------------------------------

#[test]
fn permits_come_back_and_are_handed_on() {
    model(false, || {
        let semaphore = Arc::new(Semaphore::bounded(2));
        let guarded = Guarded::new(());
        let threads = tasks::<2>(false).map(|task| {
            let (semaphore, guarded) = (semaphore.clone(), guarded.clone());
            task.spawn(move || {
                let permit = semaphore.acquire_many(2);
                guarded.add_one();
                drop(permit);
            })
        });
        task(3, 3).run(|| drop(semaphore.acquire()));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(semaphore.available_permits(), 2);
        assert!(semaphore.try_acquire_many(2).is_some(), "nobody is left in the queue");
        assert_eq!(guarded.get(), 2);
    });
}

#[test]
fn a_large_request_that_is_killed_lets_the_small_one_in() {
    model(false, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let [large, small, other] = tasks(false);
        let dying = {
            let semaphore = semaphore.clone();
            large.spawn_mortal(move || drop(semaphore.acquire_many(2)))
        };
        let waiting = {
            let semaphore = semaphore.clone();
            small.spawn(move || drop(semaphore.acquire()))
        };
        other.run(|| large.interrupt(Woken::Killed));
        waiting.join().unwrap();
        assert!(dying.join().unwrap().is_none(), "there were never two");
        assert!(semaphore.try_acquire().is_some());
    });
}

/// Whoever gets permits that several have given back sees what each of them did before.
#[test]
fn permits_of_several_are_handed_to_one() {
    model(false, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let data = [Guarded::new(()), Guarded::new(())];
        let waiting = {
            let (semaphore, data) = (semaphore.clone(), data.clone());
            task(1, 1).spawn(move || {
                semaphore.acquire_many(2).forget();
                assert_eq!((data[0].get(), data[1].get()), (1, 1));
            })
        };
        let [one, other] = data;
        let giver = {
            let semaphore = semaphore.clone();
            loom::thread::spawn(move || {
                one.add_one();
                semaphore.add_permits(1).unwrap();
            })
        };
        other.add_one();
        semaphore.add_permits(1).unwrap();
        giver.join().unwrap();
        waiting.join().unwrap();
    });
}

#[test]
fn a_permit_that_races_with_a_kill_is_not_lost() {
    model(false, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let victim = task(1, 1);
        let dying = {
            let semaphore = semaphore.clone();
            victim.spawn_mortal(move || semaphore.acquire().forget())
        };
        let giver = {
            let semaphore = semaphore.clone();
            loom::thread::spawn(move || semaphore.add_permits(1).unwrap())
        };
        victim.interrupt(Woken::Killed);
        giver.join().unwrap();
        let left = usize::from(dying.join().unwrap().is_none());
        assert_eq!(semaphore.available_permits(), left);
        assert_eq!(semaphore.try_acquire().is_some(), left == 1);
    });
}

#[test]
fn it_is_done_once_and_all_see_it() {
    model(false, || {
        let once = Guarded::new(Once::new());
        let call = |once: &Guarded<Once>| {
            once.lock.call_once(|| once.add_one());
            assert_eq!(once.get(), 1);
        };
        let threads = tasks::<2>(false).map(|task| {
            let once = once.clone();
            task.spawn(move || call(&once))
        });
        task(3, 3).run(|| {
            if once.lock.is_completed() {
                assert_eq!(once.get(), 1);
            }
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_barrier_lets_all_go_on_and_one_lead() {
    model(false, || {
        let barrier = Arc::new(Barrier::new(2));
        let threads = tasks::<2>(false).map(|task| {
            let barrier = barrier.clone();
            task.spawn(move || barrier.wait().is_leader())
        });
        let leaders = threads.map(|thread| thread.join().unwrap());
        assert_ne!(leaders[0], leaders[1]);
    });
}

#[test]
fn one_who_is_killed_at_a_barrier_has_not_come() {
    model(false, || {
        let barrier = Arc::new(Barrier::new(2));
        let [victim, one, two] = tasks(false);
        let wait = |task: TaskRef| {
            let barrier = barrier.clone();
            task.spawn_mortal(move || barrier.wait().is_leader())
        };
        let (dying, first) = (wait(victim), wait(one));
        victim.interrupt(Woken::Killed);
        if let Some(led) = dying.join().unwrap() {
            assert_eq!(first.join().unwrap(), Some(!led), "both have met");
            return;
        }
        let second = wait(two);
        let leaders = [first, second].map(|thread| thread.join().unwrap().unwrap());
        assert_ne!(leaders[0], leaders[1]);
    });
}

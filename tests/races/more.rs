//! More that is waited for: what is read and written, chosen from several, woken one by one, or runs in pools.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use greenling::event::AsyncResult;
use greenling::os::unix::net::UnixStream;
use greenling::pool::{Group, Pool};
use greenling::queue::{JoinableQueue, Queue};
use greenling::select::Select;
use greenling::sync::{RwLock, RwLockWriteGuard};
use greenling::thread::{self, Thread};
use greenling::{JoinHandle, block_on, spawn, yield_now};

use super::{BATCH, Setting, Turn, leak, race};

/// Every other one reads.
pub(super) fn a_rwlock(setting: Setting) {
    struct Held(Option<RwLockWriteGuard<'static, usize>>);
    // SAFETY: made on one thread, and then used only on the one that it is moved to, where it is filled.
    unsafe impl Send for Held {}
    impl Held {
        fn turn(&mut self, lock: &'static RwLock<usize>, turn: Turn) {
            match turn {
                Turn::Prepare => self.0 = Some(lock.write().unwrap()),
                Turn::Wake(0) => self.0 = None,
                Turn::Wake(number) if number % 2 == 0 => drop(lock.read().unwrap()),
                Turn::Wake(_) => drop(lock.write().unwrap()),
            }
        }
    }
    let (lock, read) = (leak(RwLock::new(0)), leak(AtomicUsize::new(0)));
    let (mut held, next) = (Held(None), Cell::new(0));
    let wait = move || {
        if next.replace(next.get() + 1) % 2 == 0 {
            *lock.write().unwrap() += 1;
        } else {
            let _guard = lock.read().unwrap();
            read.fetch_add(1, Ordering::Relaxed);
        }
    };
    race(
        setting,
        wait,
        move |turn| held.turn(lock, turn),
        |won| {
            let mut written = lock.try_write().expect("free, and not poisoned");
            assert_eq!(std::mem::take(&mut *written) + read.swap(0, Ordering::Relaxed), won);
        },
    );
}

/// From two queues at once.
pub(super) fn a_select(setting: Setting) {
    let queues = leak([Queue::new(), Queue::new()]);
    let got = Rc::new(RefCell::new(Vec::new()));
    let items = got.clone();
    let wait = move || {
        let item = Select::new().on(&queues[0], Result::unwrap).on(&queues[1], Result::unwrap);
        let item = item.wait();
        items.borrow_mut().push(item);
    };
    let turn = |turn| {
        if let Turn::Wake(number) = turn {
            queues[number % 2].put(number).unwrap();
        }
    };
    race(setting, wait, turn, |won| {
        let mut all = got.take();
        assert_eq!(all.len(), won);
        all.extend(queues.iter().flat_map(Queue::drain));
        all.sort_unstable();
        assert!(all.into_iter().eq(0..BATCH), "an item is lost or doubled");
    });
}

/// One that is there once for all who wait.
pub(super) fn a_result(setting: Setting) {
    type Shared = Arc<AsyncResult<usize, ()>>;
    let current: &'static Mutex<Shared> = leak(Mutex::default());
    let get = || current.lock().unwrap().clone();
    let wait = move || assert_eq!(get().get(), Ok(&7));
    let turn = move |turn| match turn {
        Turn::Prepare => *current.lock().unwrap() = Shared::default(),
        Turn::Wake(0) => get().set(7).unwrap(),
        Turn::Wake(_) => assert_eq!(get().set(8), Err(8)),
    };
    race(setting, wait, turn, |_| ());
}

/// By unpark, of each.
pub(super) fn a_park(setting: Setting) {
    let parked = leak(Queue::<(Thread, Arc<AtomicBool>)>::new());
    let wait = || {
        let token = Arc::new(AtomicBool::new(false));
        parked.put((thread::current(), token.clone())).unwrap();
        while !token.load(Ordering::Acquire) {
            thread::park();
        }
    };
    let turn = |turn| {
        if let (Turn::Wake(_), Ok((waiter, token))) = (turn, parked.try_get()) {
            token.store(true, Ordering::Release);
            waiter.unpark();
        }
    };
    race(setting, wait, turn, |_| {
        assert!(parked.is_empty());
    });
}

/// By its waker.
pub(super) fn a_future(setting: Setting) {
    type Shared = Arc<Mutex<(bool, Option<Waker>)>>;
    let pending = leak(Queue::<Shared>::new());
    let wait = || {
        let shared = Shared::default();
        pending.put(shared.clone()).unwrap();
        block_on(poll_fn(|context| {
            let mut shared = shared.lock().unwrap();
            if shared.0 {
                return Poll::Ready(());
            }
            shared.1 = Some(context.waker().clone());
            Poll::Pending
        }));
    };
    let turn = |turn| {
        if let (Turn::Wake(_), Ok(shared)) = (turn, pending.try_get()) {
            let waker = {
                let mut shared = shared.lock().unwrap();
                shared.0 = true;
                shared.1.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    };
    race(setting, wait, turn, |_| {
        assert!(pending.is_empty());
    });
}

/// Bytes of a socket.
pub(super) fn a_read(setting: Setting) {
    let (ours, theirs) = leak(UnixStream::pair().unwrap());
    let wait = || {
        let mut reader: &UnixStream = ours;
        assert_eq!(reader.read(&mut [0]).unwrap(), 1);
    };
    let turn = |turn| {
        let mut writer: &UnixStream = theirs;
        if turn != Turn::Prepare {
            writer.write_all(&[1]).unwrap();
        }
    };
    race(setting, wait, turn, |won| {
        let mut reader: &UnixStream = ours;
        let (mut bytes, mut left) = ([0; BATCH], 0);
        ours.set_nonblocking(true).unwrap();
        let end = loop {
            match reader.read(&mut bytes) {
                Ok(count) => left += count,
                Err(error) => break error,
            }
        };
        assert_eq!(end.kind(), ErrorKind::WouldBlock);
        ours.set_nonblocking(false).unwrap();
        assert_eq!(left + won, BATCH, "a byte is lost or doubled");
    });
}

/// A coroutine that lives until it is told to end.
struct Member(Option<JoinHandle<()>>);

impl Member {
    fn turn(&mut self, turn: Turn, start: impl FnOnce() -> JoinHandle<()>) {
        match turn {
            Turn::Prepare => {
                self.0 = Some(start());
                yield_now();
            }
            Turn::Wake(0) => {
                let member = self.0.take().unwrap();
                member.thread().unpark();
                member.join().unwrap();
            }
            Turn::Wake(_) => yield_now(), // its hub may have more to do
        }
    }
}

/// The only one of a pool.
pub(super) fn a_slot(setting: Setting) {
    let pool = leak(Pool::new(1));
    let mut member = Member(None);
    let wait = || pool.spawn(|| ()).join().unwrap();
    let turn = move |turn| member.turn(turn, || pool.spawn(thread::park));
    race(setting, wait, turn, |_| {
        pool.join();
        assert_eq!((pool.free_slots(), pool.len()), (1, 0));
    });
}

/// The end of a group.
pub(super) fn a_group(setting: Setting) {
    let group = leak(Group::new());
    let mut member = Member(None);
    let turn = move |turn| member.turn(turn, || group.spawn(thread::park));
    race(setting, || group.join(), turn, |_| assert!(group.is_empty()));
}

/// The end of all tasks.
pub(super) fn a_join_of_a_queue(setting: Setting) {
    let queue = leak(JoinableQueue::new());
    let turn = |turn| match turn {
        Turn::Prepare => queue.put(()).unwrap(),
        Turn::Wake(0) => {
            queue.get().unwrap();
            queue.task_done();
        }
        Turn::Wake(_) => {}
    };
    race(setting, || queue.join(), turn, |_| assert_eq!(queue.unfinished_tasks(), 0));
}

/// A kill, waited for by several.
pub(super) fn an_end(setting: Setting) {
    let current: &'static Mutex<Option<Arc<JoinHandle<()>>>> = leak(Mutex::default());
    let get = || current.lock().unwrap().clone().unwrap();
    let turn = move |turn| match turn {
        Turn::Prepare => {
            // Not to be ended by a kill, but by what comes after it.
            let stubborn = || greenling::time::shield(thread::park);
            *current.lock().unwrap() = Some(Arc::new(spawn(stubborn)));
            yield_now();
        }
        Turn::Wake(0) => {
            get().thread().unpark();
            yield_now();
        }
        Turn::Wake(_) => yield_now(),
    };
    race(setting, move || get().kill(), turn, |_| assert!(current.lock().unwrap().is_some()));
}

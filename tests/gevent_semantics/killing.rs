//! The kill matrix: every state that a coroutine can be in × every way to kill it.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greenling::event::{AsyncResult, Event};
use greenling::net::TcpListener;
use greenling::os::unix::net::UnixStream;
use greenling::pool::{Group, Pool};
use greenling::queue::{JoinableQueue, Queue};
use greenling::select::Select;
use greenling::sync::{
    Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, ReentrantMutex, RwLock, Semaphore, mpsc,
};
use greenling::thread;
use greenling::{JoinHandle, sleep, spawn, spawn_later, yield_now};

use crate::common::deadline;
use crate::{Ended, LONG, SHORT, fail, outcome};

/// How to kill.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// And wait for the end.
    Wait,
    /// And go on (gevent's `block=False`).
    NoWait,
    /// And wait for a while.
    Timeout,
    Twice,
    FromAnotherCoroutine,
    FromAnotherThread,
}

const WAYS: [How; 6] = [
    How::Wait,
    How::NoWait,
    How::Timeout,
    How::Twice,
    How::FromAnotherCoroutine,
    How::FromAnotherThread,
];

/// Kills, and returns what the victim has come to.
fn kill<T: Send + 'static>(victim: JoinHandle<T>, how: How) -> Ended<T> {
    match how {
        How::Wait => {
            victim.kill();
            assert!(victim.is_finished());
            outcome(victim.join())
        }
        How::NoWait => {
            victim.kill_timeout(Duration::ZERO);
            outcome(victim.join())
        }
        How::Timeout => {
            assert!(victim.kill_timeout(LONG));
            outcome(victim.join())
        }
        How::Twice => {
            victim.kill_timeout(Duration::ZERO);
            victim.kill();
            victim.kill();
            outcome(victim.join())
        }
        How::FromAnotherCoroutine => {
            let killer = spawn(move || {
                victim.kill();
                outcome(victim.join())
            });
            killer.join().unwrap()
        }
        How::FromAnotherThread => {
            let killer = std::thread::spawn(move || {
                victim.kill();
                outcome(victim.join())
            });
            while !killer.is_finished() {
                sleep(Duration::from_micros(100)); // the victim needs us to run it
            }
            killer.join().unwrap()
        }
    }
}

/// Something that waits for longer than any test takes.
type Wait = Rc<dyn Fn()>;

/// One for each thing that can be waited for.
pub(crate) fn waits() -> Vec<(&'static str, Wait)> {
    fn waiting<R: 'static>(
        name: &'static str,
        f: impl Fn() -> R + 'static,
    ) -> (&'static str, Wait) {
        (name, Rc::new(move || drop(f())))
    }
    let full = Rc::new(Queue::bounded(1));
    full.put(0).unwrap();
    let pool = Rc::new(Pool::new(1));
    pool.spawn(|| thread::park());
    let tasks = Rc::new(JoinableQueue::new());
    tasks.put(0).unwrap();
    let mut all = vec![
        waiting("sleep", || sleep(LONG)),
        waiting("park", thread::park),
        waiting("event", || Event::new().wait()),
        waiting("event with a timeout", || Event::new().wait_timeout(LONG)),
        waiting("result", || AsyncResult::<(), ()>::new().get().is_ok()),
        waiting("get", || Queue::<u8>::new().get()),
        waiting("get with a timeout", || Queue::<u8>::new().get_timeout(LONG)),
        waiting("peek", || Queue::<u8>::new().peek()),
        waiting("put", move || full.put(1)),
        waiting("put without room", || Queue::bounded(0).put(1)),
        waiting("join of a queue", move || tasks.join()),
        waiting("join", || spawn(thread::park).join()),
        waiting("join of all", || greenling::join_all([spawn(thread::park)])),
        waiting("join of the first", || greenling::join_any([spawn(thread::park)])),
        waiting("kill of one that will not end", || {
            let stubborn = spawn(|| greenling::time::shield(thread::park));
            yield_now();
            stubborn.kill();
        }),
        waiting("a slot of a pool", move || pool.spawn(|| ())),
        waiting("join of a pool", || {
            let pool = Pool::new(1);
            pool.spawn(thread::park);
            pool.join();
        }),
        waiting("select", || {
            Select::new().on(&Event::new(), |()| ()).on(&Queue::<u8>::new(), |_| ()).wait();
        }),
        waiting("a future", || greenling::block_on(std::future::pending::<()>())),
        waiting("inside a time limit", || greenling::timeout(LONG, thread::park)),
        waiting("inside a scope", || greenling::scope(|_| thread::park())),
        waiting("the end of a scope", || {
            greenling::scope(|scope| {
                scope.spawn(thread::park);
            });
        }),
        waiting("map", || Pool::new(1).map(0..3, |_| thread::park())),
        waiting("imap", || Pool::new(1).imap(0..3, |_| thread::park()).next()),
        waiting("imap_unordered", || Pool::new(1).imap_unordered(0..3, |_| thread::park()).next()),
        waiting("join of a group", || {
            let group = Group::new();
            group.spawn(thread::park);
            group.join_timeout(LONG)
        }),
        waiting("each in turn", || thread::join_each([spawn(thread::park)]).next()),
        waiting("join with a timeout", || spawn(thread::park).join_timeout(LONG).is_ok()),
        waiting("input", || {
            let (one, _other) = UnixStream::pair().unwrap();
            (&one).read(&mut [0]).unwrap()
        }),
        waiting("room to write", || {
            let (one, _other) = UnixStream::pair().unwrap();
            (&one).write_all(&[0; 1 << 22]).unwrap();
        }),
        waiting("a connection", || TcpListener::bind("127.0.0.1:0").unwrap().accept().is_ok()),
        waiting("a job of the thread pool", || {
            greenling::threadpool::unblock(|| std::thread::sleep(Duration::from_millis(100)));
        }),
    ];
    all.extend(waits_of_sync());
    all
}

/// The same for `sync`. Main has the locks, and never lets go.
fn waits_of_sync() -> Vec<(&'static str, Wait)> {
    fn waiting<T: 'static, R: 'static>(
        name: &'static str,
        thing: T,
        hold: fn(&'static T),
        wait: fn(&'static T) -> R,
    ) -> (&'static str, Wait) {
        let thing: &'static T = Box::leak(Box::new(thing));
        hold(thing);
        (name, Rc::new(move || drop(wait(thing))))
    }
    fn held_by_another(f: impl FnOnce() + 'static) {
        spawn(f);
        yield_now();
    }
    vec![
        waiting("a mutex", Mutex::new(()), |it| forget(it.lock()), |it| drop(it.lock())),
        waiting(
            "a reentrant mutex",
            ReentrantMutex::new(()),
            |it| forget(it.lock()),
            |it| drop(it.lock()),
        ),
        waiting(
            "a rwlock, to read",
            RwLock::new(()),
            |it| forget(it.write()),
            |it| drop(it.read()),
        ),
        waiting(
            "a rwlock, to write",
            RwLock::new(()),
            |it| forget(it.read()),
            |it| drop(it.write()),
        ),
        waiting(
            "a condvar",
            (Mutex::new(()), Condvar::new()),
            |_| (),
            // A kill poisons the mutex only if it is held meanwhile.
            |it| drop(it.1.wait(it.0.lock().unwrap())),
        ),
        waiting(
            "a condvar, with a timeout",
            (Mutex::new(()), Condvar::new()),
            |_| (),
            |it| drop(it.1.wait_timeout(it.0.lock().unwrap(), LONG)),
        ),
        waiting("a barrier", Barrier::new(2), |_| (), |it| _ = it.wait()),
        waiting(
            "a once",
            Once::new(),
            |it| held_by_another(|| it.call_once(thread::park)),
            |it| it.call_once(|| ()),
        ),
        waiting(
            "a oncelock",
            OnceLock::<()>::new(),
            |it| held_by_another(|| *it.get_or_init(thread::park)),
            |it| *it.get_or_init(|| ()),
        ),
        waiting(
            "a lazylock",
            LazyLock::<()>::new(thread::park),
            |it| held_by_another(|| **it),
            |it| **it,
        ),
        waiting("a permit", Semaphore::new(0), |_| (), |it| drop(it.acquire())),
        waiting("many permits", Semaphore::new(2), |_| (), |it| drop(it.acquire_many(3))),
        waiting(
            "a permit, with a timeout",
            Semaphore::new(0),
            |_| (),
            |it| {
                drop(it.acquire_timeout(LONG));
            },
        ),
        waiting("a message", mpsc::channel::<()>(), |_| (), |it| it.1.recv()),
        waiting(
            "a message, with a timeout",
            mpsc::channel::<()>(),
            |_| (),
            |it| it.1.recv_timeout(LONG),
        ),
        waiting(
            "room in a channel",
            mpsc::sync_channel(1),
            |it| it.0.send(0).unwrap(),
            |it| it.0.send(1),
        ),
        waiting("a receiver", mpsc::sync_channel(0), |_| (), |it| it.0.send(1)),
    ]
}

#[test]
fn whatever_it_waits_for() {
    deadline(60, || {
        for how in WAYS {
            for (name, wait) in waits() {
                let victim = spawn(move || wait());
                yield_now();
                yield_now();
                assert!(!victim.is_finished(), "it waits for: {name}");
                assert_eq!(kill(victim, how), Ended::Killed, "{how:?} while it waits for: {name}");
            }
        }
    });
}

#[test]
fn before_it_has_begun() {
    deadline(20, || {
        for how in WAYS {
            let ran = Arc::new(AtomicBool::new(false));
            let flag = ran.clone();
            let run = move || flag.store(true, Ordering::SeqCst);
            let victim = spawn(run.clone());
            // Others kill it only after it has had its turn.
            if !matches!(how, How::FromAnotherCoroutine | How::FromAnotherThread) {
                assert_eq!(kill(victim, how), Ended::Killed, "{how:?}");
                assert!(!ran.load(Ordering::SeqCst), "{how:?}");
            } else {
                victim.join().unwrap();
                assert!(ran.swap(false, Ordering::SeqCst));
            }
            // Started for later, and cancelled by the kill.
            assert_eq!(kill(spawn_later(LONG, run), how), Ended::Killed, "{how:?}");
            assert!(!ran.load(Ordering::SeqCst));
        }
    });
}

#[test]
fn after_its_end_nothing_changes() {
    deadline(20, || {
        for how in WAYS {
            let done = spawn(|| 5);
            let broken = spawn(|| -> u8 { fail("broken") });
            let killed = spawn(|| -> u8 { fail("it never runs") });
            killed.kill();
            yield_now();
            assert_eq!(kill(done, how), Ended::Returned(5), "{how:?}");
            assert_eq!(kill(broken, how), Ended::Panicked("broken"), "{how:?}");
            assert_eq!(kill(killed, how), Ended::Killed, "{how:?}");
        }
    });
}

#[test]
fn one_that_has_been_woken_but_has_not_run_yet() {
    deadline(20, || {
        // By an event: it has got what it waited for and goes on to its next wait.
        let event = Rc::new(Event::new());
        let passed = Rc::new(Cell::new(false));
        let victim = spawn({
            let (event, passed) = (event.clone(), passed.clone());
            move || {
                event.wait();
                passed.set(true);
                sleep(LONG);
                unreachable!();
            }
        });
        yield_now();
        event.set();
        victim.kill();
        assert!(passed.get());
        assert_eq!(outcome(victim.join()), Ended::Killed);
    });
}

/// A kill waits for the end of a shield, and takes effect at the first wait after it.
#[test]
fn in_a_shield() {
    deadline(20, || {
        for how in WAYS {
            let (inside, after) =
                (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let victim = spawn({
                let (inside, after) = (inside.clone(), after.clone());
                move || {
                    greenling::time::shield(|| {
                        sleep(SHORT);
                        sleep(SHORT);
                        inside.store(true, Ordering::SeqCst);
                    });
                    sleep(LONG);
                    after.store(true, Ordering::SeqCst);
                }
            });
            yield_now();
            assert_eq!(kill(victim, how), Ended::Killed, "{how:?}");
            assert!(inside.load(Ordering::SeqCst), "{how:?}: what is shielded is done to its end");
            assert!(!after.load(Ordering::SeqCst), "{how:?}");
        }
    });
}

/// It is sticky: whoever catches it meets it again at the next wait; without one, its value counts.
#[test]
fn one_that_swallows_it() {
    deadline(20, || {
        let swallow = || {
            let caught = catch_unwind(AssertUnwindSafe(|| sleep(LONG))).unwrap_err();
            assert!(caught.is::<greenling::Killed>());
        };
        for how in WAYS {
            let again = spawn(move || {
                swallow();
                swallow();
                sleep(LONG);
                unreachable!();
            });
            let value = spawn(move || {
                swallow();
                5
            });
            let other = spawn(move || -> u8 {
                swallow();
                fail("something else")
            });
            yield_now();
            assert_eq!(kill(again, how), Ended::<()>::Killed, "{how:?}");
            assert_eq!(kill(value, how), Ended::Returned(5), "{how:?}");
            assert_eq!(kill(other, how), Ended::Panicked("something else"), "{how:?}");
        }
    });
}

#[test]
fn oneself() {
    deadline(20, || {
        // gevent kills at once. The handle is not there for the coroutine itself, unless it is given to it.
        let slot: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let after = Rc::new(Cell::new(false));
        let ended = Rc::new(Event::new());
        let suicide = spawn({
            let (slot, after, ended) = (slot.clone(), after.clone(), ended.clone());
            move || {
                struct Set(Rc<Event>);
                impl Drop for Set {
                    fn drop(&mut self) {
                        self.0.set();
                    }
                }
                let _set = Set(ended);
                let own = slot.borrow_mut().take().unwrap();
                own.kill();
                after.set(true);
            }
        });
        *slot.borrow_mut() = Some(suicide);
        ended.wait();
        yield_now();
        assert!(!after.get(), "nothing runs after it");
    });
}

#[test]
fn the_one_who_waits_for_the_end_may_be_killed_too() {
    deadline(20, || {
        let stubborn = Rc::new(spawn(|| {
            greenling::time::shield(|| sleep(3 * SHORT));
            7
        }));
        yield_now();
        let killer = spawn({
            let stubborn = stubborn.clone();
            move || stubborn.kill()
        });
        yield_now();
        killer.kill();
        assert_eq!(outcome(killer.join()), Ended::Killed);
        // The shield kept the victim; without a wait after it, it comes to its value.
        assert!(!stubborn.is_finished());
        while !stubborn.is_finished() {
            sleep(SHORT);
        }
        assert_eq!(outcome(Rc::into_inner(stubborn).unwrap().join()), Ended::Returned(7));
    });
}

#[test]
fn one_that_takes_its_time() {
    deadline(20, || {
        struct Slow;
        impl Drop for Slow {
            fn drop(&mut self) {
                greenling::time::shield(|| Event::new().wait_timeout(3 * SHORT));
            }
        }
        let victim = spawn(|| {
            let _slow = Slow;
            sleep(LONG);
        });
        yield_now();
        let began = Instant::now();
        assert!(!victim.kill_timeout(SHORT), "it has not ended in time");
        assert!(victim.kill_timeout(LONG));
        assert!(began.elapsed() >= 3 * SHORT);
    });
}

#[test]
fn many_at_once() {
    deadline(20, || {
        // gevent's killall.
        let order = Rc::new(RefCell::new(Vec::new()));
        struct Note(usize, Rc<RefCell<Vec<usize>>>);
        impl Drop for Note {
            fn drop(&mut self) {
                self.1.borrow_mut().push(self.0);
            }
        }
        let victims: Vec<_> = (0..100)
            .map(|number| {
                let note = Note(number, order.clone());
                spawn(move || {
                    let _note = note;
                    sleep(LONG);
                })
            })
            .collect();
        yield_now();
        let group = greenling::pool::Group::new();
        victims.iter().for_each(|victim| group.add(victim));
        group.kill();
        assert!(victims.iter().all(JoinHandle::is_finished));
        let mut order = order.take();
        order.sort_unstable();
        assert!(order.into_iter().eq(0..100));
    });
}

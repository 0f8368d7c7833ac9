//! Signals wake whoever waits for them. Each test in a process of its own, since signals are the process's.

#[path = "common/child.rs"]
mod child;

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use greenling::signal::{self, Signal, Signals};
use greenling::{join_all, sleep, spawn, timeout};

use child::{On, run, run_each};

fn raise(signal: Signal) {
    // To the process, as others send it: any thread may get it.
    // SAFETY: no pointers are passed.
    assert_eq!(unsafe { libc::kill(libc::getpid(), signal.as_raw()) }, 0);
}

fn action_of(signal: Signal) -> libc::sighandler_t {
    // SAFETY: all fields may be zero; the kernel fills it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(signal.as_raw(), std::ptr::null(), &mut action), 0);
        action.sa_sigaction
    }
}

static CALLS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_calls(_: libc::c_int) {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn count_calls_with_details(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel's siginfo is valid during the call.
    assert!(unsafe { (*info).si_signo } == signal && !context.is_null());
    CALLS.fetch_add(1, Ordering::Relaxed);
}

fn set_handler(signal: Signal, handler: usize, flags: libc::c_int) {
    // SAFETY: all fields may be zero; the handlers of this file do what handlers may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal.as_raw(), &action, std::ptr::null_mut()), 0);
    }
}

#[test]
fn a_signal_wakes_a_coroutine_while_others_run() {
    run(On::MainThread, 20, || {
        let signals = signal::ctrl_c().unwrap();
        let waiter = spawn(move || signals.wait());
        sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished());
        raise(Signal::INT);
        assert_eq!(waiter.join().unwrap(), Signal::INT);
    })
    .succeeded();
}

#[test]
fn main_waits_with_nobody_else_there() {
    // No deadlock: the signal comes from outside. It is sent by a shell, so that no thread of ours helps.
    run(On::MainThread, 30, || {
        let signals = Signals::new(&[Signal::USR1]).unwrap();
        let script = format!("sleep 1.2; kill -USR1 {}", std::process::id());
        let mut shell = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
        assert_eq!(signals.wait(), Signal::USR1);
        shell.wait().unwrap();
    })
    .succeeded();
}

#[test]
fn every_listener_gets_every_signal() {
    run(On::OtherThread, 30, || {
        let listeners: Vec<_> =
            (0..5).map(|_| Signals::new(&[Signal::USR1, Signal::USR2]).unwrap()).collect();
        let only_second = Signals::new(&[Signal::USR2]).unwrap();
        let waiters: Vec<_> = listeners
            .into_iter()
            .map(|signals| spawn(move || (signals.wait(), signals.wait(), signals.try_wait())))
            .collect();
        sleep(Duration::from_millis(5));
        raise(Signal::USR1);
        raise(Signal::USR2);
        for got in join_all(waiters) {
            let (first, second, more) = got.unwrap();
            let mut both = [first, second];
            both.sort();
            assert_eq!((both, more), ([Signal::USR1, Signal::USR2], None));
        }
        assert_eq!((only_second.wait(), only_second.try_wait()), (Signal::USR2, None));
    })
    .succeeded();
}

#[test]
fn what_comes_while_nobody_waits_is_counted() {
    run(On::OtherThread, 30, || {
        let signals = Signals::new(&[Signal::USR1]).unwrap();
        for _ in 0..10 {
            // SAFETY: no pointers are passed. To this thread, so that each is handled before the next is raised.
            assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        }
        assert_eq!(signals.forever().take(10).count(), 10);
        assert_eq!(signals.try_wait(), None);
        assert_eq!(signals.wait_timeout(Duration::from_millis(5)), None);
    })
    .succeeded();
}

#[test]
fn several_coroutines_share_one_listener() {
    run(On::OtherThread, 30, || {
        let signals = Rc::new(Signals::new(&[Signal::USR1]).unwrap());
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let signals = signals.clone();
                spawn(move || signals.wait())
            })
            .collect();
        sleep(Duration::from_millis(5));
        for _ in 0..3 {
            // SAFETY: no pointers are passed.
            assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        }
        assert!(join_all(waiters).into_iter().all(|got| got.unwrap() == Signal::USR1));
    })
    .succeeded();
}

#[test]
fn threads_listen_and_listeners_move() {
    run(On::OtherThread, 30, || {
        let moved = Signals::new(&[Signal::USR1]).unwrap();
        assert!(timeout(Duration::from_millis(5), || moved.wait()).is_err());
        let ready = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                ready.wait();
                assert_eq!(moved.wait(), Signal::USR1);
            });
            scope.spawn(|| {
                let own = Signals::new(&[Signal::USR1]).unwrap();
                ready.wait();
                assert_eq!(own.wait(), Signal::USR1);
            });
            ready.wait();
            raise(Signal::USR1);
        });
    })
    .succeeded();
}

#[test]
fn the_default_action_comes_back_with_the_last_listeners_end() {
    let ended = run(On::OtherThread, 20, || {
        let first = Signals::new(&[Signal::TERM]).unwrap();
        let second = signal::termination().unwrap();
        drop(first);
        raise(Signal::TERM);
        assert_eq!(second.wait(), Signal::TERM);
        drop(second);
        assert_eq!(action_of(Signal::TERM), libc::SIG_DFL);
        raise(Signal::TERM);
        unreachable!("it ends the process");
    });
    ended.died_of(libc::SIGTERM);
}

#[test]
fn an_earlier_handler_is_called_too_and_comes_back() {
    let kinds: [(usize, libc::c_int); 2] = [
        (count_calls as *const () as usize, 0),
        (count_calls_with_details as *const () as usize, libc::SA_SIGINFO),
    ];
    let ended = run_each(On::OtherThread, 20, &kinds, |&(handler, flags)| {
        set_handler(Signal::USR1, handler, flags);
        for round in 1..4 {
            let signals = Signals::new(&[Signal::USR1]).unwrap();
            assert_ne!(action_of(Signal::USR1), handler);
            raise(Signal::USR1);
            assert_eq!(signals.wait(), Signal::USR1);
            assert_eq!(CALLS.load(Ordering::Relaxed), round);
        }
        assert_eq!(action_of(Signal::USR1), handler);
    });
    ended.iter().for_each(|ended| ended.succeeded());
}

#[test]
fn a_handler_that_came_later_stays() {
    run(On::OtherThread, 20, || {
        let signals = Signals::new(&[Signal::USR1]).unwrap();
        let handler = count_calls as *const () as usize;
        set_handler(Signal::USR1, handler, 0);
        drop(signals);
        assert_eq!(action_of(Signal::USR1), handler);
        // And a new listener comes over it.
        let signals = Signals::new(&[Signal::USR1]).unwrap();
        raise(Signal::USR1);
        assert_eq!((signals.wait(), CALLS.load(Ordering::Relaxed)), (Signal::USR1, 1));
    })
    .succeeded();
}

/// What the handler of `chains_back` has found.
static FOUND: AtomicU64 = AtomicU64::new(0);

extern "C" fn chains_back(signal: libc::c_int) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let found = FOUND.load(Ordering::Relaxed) as usize;
    // SAFETY: it is our handler, which does not look at the other arguments but to hand them on.
    let found = unsafe {
        std::mem::transmute::<usize, extern "C" fn(libc::c_int, *mut u8, *mut u8)>(found)
    };
    found(signal, std::ptr::null_mut(), std::ptr::null_mut());
}

#[test]
fn handlers_that_call_each_other_do_not_do_so_for_ever() {
    run(On::OtherThread, 20, || {
        let signals = Signals::new(&[Signal::USR1]).unwrap();
        FOUND.store(action_of(Signal::USR1) as u64, Ordering::Relaxed);
        set_handler(Signal::USR1, chains_back as *const () as usize, 0);
        drop(signals);
        let signals = Signals::new(&[Signal::USR1]).unwrap(); // over the one that calls ours
        raise(Signal::USR1);
        assert_eq!((signals.wait(), signals.try_wait()), (Signal::USR1, None));
        assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    })
    .succeeded();
}

#[test]
fn what_cannot_be_waited_for_is_refused() {
    run(On::OtherThread, 20, || {
        use Signal as S;
        for signal in [S::KILL, S::STOP, S::SEGV, S::BUS, S::ILL, S::FPE, S::SYS] {
            let before = action_of(Signal::USR1);
            let error = Signals::new(&[Signal::USR1, signal]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&signal.to_string()), "{error}");
            assert_eq!(action_of(Signal::USR1), before);
        }
        assert_eq!(Signal::from_raw(0), None);
        assert_eq!(Signal::from_raw(32), None);
        assert_eq!(Signal::from_raw(65), None);
        let last = Signal::real_time(0).unwrap();
        assert_eq!(last.to_string(), "SIGRTMIN+0");
        let signals = Signals::new(&[last]).unwrap();
        raise(last);
        assert_eq!(signals.wait(), last);
    })
    .succeeded();
}

#[test]
fn a_wait_can_be_killed_and_loses_nothing() {
    run(On::OtherThread, 20, || {
        let signals = Rc::new(Signals::new(&[Signal::USR1]).unwrap());
        let waiter = spawn({
            let signals = signals.clone();
            move || signals.wait()
        });
        sleep(Duration::from_millis(5));
        waiter.kill();
        assert!(timeout(Duration::from_millis(5), || signals.wait()).is_err());
        raise(Signal::USR1);
        assert_eq!(signals.wait(), Signal::USR1);
    })
    .succeeded();
}

#[test]
fn on_calls_a_function_in_a_coroutine() {
    run(On::OtherThread, 20, || {
        let calls = Rc::new(Cell::new(0));
        let handler = signal::on(Signal::USR1, {
            let calls = calls.clone();
            move || {
                sleep(Duration::from_millis(1)); // as any coroutine may
                calls.set(calls.get() + 1);
            }
        })
        .unwrap();
        for round in 1..4 {
            raise(Signal::USR1);
            while calls.get() < round {
                sleep(Duration::from_millis(1));
            }
        }
        handler.kill();
        assert_eq!(action_of(Signal::USR1), libc::SIG_DFL);
    })
    .succeeded();
}

#[test]
fn parent_and_child_of_a_fork_get_their_own() {
    run(On::MainThread, 30, || {
        let signals = Signals::new(&[Signal::USR1, Signal::USR2]).unwrap();
        raise(Signal::USR2); // the parent's, though the child gets a copy of the counters
        // SAFETY: the process has one thread.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let got = signals.try_wait().is_none() && signals.wait() == Signal::USR1;
            let own = Signals::new(&[Signal::HUP]).unwrap();
            raise(Signal::HUP);
            let own = own.wait() == Signal::HUP;
            // SAFETY: no pointers are passed.
            unsafe { libc::_exit(if got && own { 0 } else { 1 }) };
        }
        assert_eq!(signals.wait(), Signal::USR2);
        sleep(Duration::from_millis(200)); // the child has had time to begin its wait
        // SAFETY: no pointers are passed; the child has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGUSR1) }, 0);
        let mut status = 0;
        // SAFETY: the kernel writes the status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0, "the child's signals");
        assert_eq!(signals.wait_timeout(Duration::from_millis(20)), None);
        raise(Signal::USR1);
        assert_eq!(signals.wait(), Signal::USR1);
    })
    .succeeded();
}

#[test]
fn listeners_come_and_go_under_fire() {
    run(On::OtherThread, 60, || {
        let kept = Signals::new(&[Signal::USR1]).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: no pointers are passed. To this thread: none is merged with another.
                    assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
                    sent += 1;
                    std::thread::yield_now();
                }
                sent
            });
            let listeners: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..300 {
                            let signals = Signals::new(&[Signal::USR1]).unwrap();
                            assert_eq!(signals.wait(), Signal::USR1);
                        }
                    })
                })
                .collect();
            listeners.into_iter().for_each(|listener| listener.join().unwrap());
            stop.store(true, Ordering::Relaxed);
            sender.join().unwrap()
        });
        let mut got = 0;
        while kept.try_wait().is_some() {
            got += 1;
        }
        assert_eq!(got, sent);
    })
    .succeeded();
}

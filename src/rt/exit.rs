//! What the runtime has to do when a thread ends.
//!
//! A thread-local with a destructor does it. Other thread-locals' destructors may run after that
//! and use the runtime again; what they bring to life is taken down by a POSIX thread-specific key,
//! whose destructors come after all of Rust's.

use std::cell::Cell;
use std::ptr;
use std::sync::OnceLock;

/// What to take down, in this order.
#[derive(Clone, Copy)]
pub(super) enum Phase {
    /// Coroutines are unwound.
    Hub,
    /// Their stacks are given back.
    Stacks,
}

/// By phase.
type Hooks = [Option<fn()>; 2];

thread_local! {
    static HOOKS: Cell<Hooks> = const { Cell::new([None; 2]) };
    static GUARD: Guard = const { Guard };
}

struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        run_hooks();
    }
}

/// Runs `hook` when this thread ends. One hook for each phase; a second registration is ignored.
pub(super) fn at_thread_exit(phase: Phase, hook: fn()) {
    let mut hooks = HOOKS.get();
    hooks[phase as usize] = Some(hook);
    HOOKS.set(hooks);
    if GUARD.try_with(|_| ()).is_err() {
        arm_key();
    }
}

fn run_hooks() {
    for phase in [Phase::Hub, Phase::Stacks] {
        let mut hooks = HOOKS.get();
        let hook = hooks[phase as usize].take();
        HOOKS.set(hooks);
        if let Some(hook) = hook {
            hook();
        }
    }
}

/// Asks POSIX to run the hooks once more, after Rust's thread-locals have ended.
fn arm_key() {
    static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();
    extern "C" fn run(_: *mut libc::c_void) {
        run_hooks();
    }
    let key = KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: `key` is valid for the write and `run` lives for ever.
        let made = unsafe { libc::pthread_key_create(&mut key, Some(run)) };
        (made == 0).then_some(key)
    });
    if let Some(key) = *key {
        // Without a key (the process has used up all of them) what was made is leaked.
        // SAFETY: the key exists; any non-null value makes its destructor run.
        unsafe { libc::pthread_setspecific(key, ptr::dangling::<u8>().cast()) };
    }
}

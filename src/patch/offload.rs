//! What can only block, and has no descriptor to wait for, blocks a thread of the common pool.

use std::ffi::c_int;

use crate::rt::real::{errno, set_errno};
use crate::rt::{Shield, Woken};
use crate::threadpool;

/// Has `f` called on a thread of the pool, and gives what it returned and `errno` after it. The wait may be
/// interrupted; `f` goes on alone then.
///
/// # Errors
/// `errno`: `ECANCELED` for a kill or a time limit.
#[track_caller]
pub(super) fn call<T, F>(f: F) -> Result<(T, c_int), c_int>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let job = threadpool::common_job(move || {
        set_errno(0);
        let value = f();
        (value, errno())
    });
    // Without a thread to be had there is no better answer than "try again".
    let Ok(job) = job else { return Err(libc::EAGAIN) };
    match job.wait(None) {
        Ok(Ok(result)) => Ok(result),
        // It cannot panic: this is the child of a fork, where its thread is not.
        Ok(Err(_)) => Err(libc::ECANCELED),
        Err((_, Woken::Deadlocked)) => Err(libc::EDEADLK),
        Err(_) => Err(libc::ECANCELED),
    }
}

/// As [`call`], for a function that uses memory of the caller's: kills and time limits wait until it has
/// returned. If there is no thread to be had, it blocks the caller's.
///
/// # Safety
/// `f` must be fit to be called on another thread while the caller waits.
#[track_caller]
pub(super) unsafe fn call_borrowing<T: Send + 'static>(f: impl Fn() -> T) -> T {
    struct Borrowed<F>(*const F);
    // SAFETY: the caller's promise.
    unsafe impl<F> Send for Borrowed<F> {}
    impl<F: Fn() -> T, T> Borrowed<F> {
        fn call(self) -> T {
            // SAFETY: the function outlives the wait, which nothing ends early.
            unsafe { (*self.0)() }
        }
    }
    let saved = errno();
    let _shield = Shield::new();
    let borrowed = Borrowed(&raw const f);
    // SAFETY: only the lifetime changes, and what it stands for is waited for below.
    let job: Box<dyn FnOnce() -> T + Send> = unsafe {
        std::mem::transmute::<
            Box<dyn FnOnce() -> T + Send + '_>,
            Box<dyn FnOnce() -> T + Send + 'static>,
        >(Box::new(move || borrowed.call()))
    };
    match call(job) {
        Ok((value, error)) => {
            set_errno(if error == 0 { saved } else { error });
            value
        }
        // It has not been called.
        Err(_) => f(),
    }
}

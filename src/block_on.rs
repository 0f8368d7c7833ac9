//! The bridge to `async`: a coroutine can wait for a future, and a future for a coroutine.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::rt::{self, Deadline, Joiner, Reason, Unparker};
use crate::thread::{self, JoinHandle};

/// Runs a future to its end in the calling coroutine.
///
/// The coroutine parks while the future is pending, and the others run. The future's waker may be called
/// from any thread. If the future wakes itself, the others run before it is polled again. A kill or a time limit drops the future as it unwinds the coroutine.
///
/// A future that relies on the services of an async runtime (its timers, its sockets) still needs that
/// runtime, on a thread of its own: spawn it there and wait for its handle here.
///
/// # Examples
/// ```
/// let double = async |n: u32| n * 2;
/// assert_eq!(greenling::block_on(double(21)), 42);
///
/// // A coroutine's handle is a future, too.
/// let worker = greenling::spawn(|| 1);
/// let sum = greenling::block_on(async { worker.await.unwrap() + double(2).await });
/// assert_eq!(sum, 5);
/// ```
#[track_caller]
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    let alarm = Arc::new(Alarm { rung: AtomicBool::new(false), unparker: rt::unparker() });
    let waker = Waker::from(alarm.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => alarm.wait(),
        }
    }
}

/// Wakes the coroutine of a [`block_on`].
struct Alarm {
    /// It is time to poll. Set before the unpark, taken before the poll: a wake that comes between two
    /// polls is either seen before the park or ends it.
    rung: AtomicBool,
    unparker: Unparker,
}

impl Alarm {
    #[track_caller]
    fn wait(&self) {
        if self.rung.swap(false, Ordering::Acquire) {
            // Most likely by the future itself, which thereby gives way to others in the manner of async
            // code, and maybe will for ever: so this is a wait, which can be ended.
            rt::park(Reason::Wait("a future"), Deadline::after(Duration::ZERO));
            return;
        }
        // Acquire: what was done before the wake.
        while !self.rung.swap(false, Ordering::Acquire) {
            rt::park(Reason::Wait("a future"), None);
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // If it was set already, then whoever set it unparks, and the poll is yet to come.
        if !self.rung.swap(true, Ordering::Release) {
            self.unparker.clone().unpark();
        }
    }
}

/// The future of a coroutine's end: what awaiting a [`JoinHandle`] makes of it.
///
/// It can be awaited on any thread, by any executor, if the result is [`Send`]. Dropping it detaches the
/// coroutine.
#[must_use = "a future does nothing unless it is awaited"]
pub struct JoinFuture<T> {
    /// `None` once it has been ready.
    joiner: Option<Joiner<T>>,
}

impl<T> Future for JoinFuture<T> {
    type Output = thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let task = &self.joiner.as_ref().expect("a future is not polled after its end").task;
        if !task.has_exited() && task.set_waker(context.waker()) {
            return Poll::Pending;
        }
        let joiner = self.joiner.take().expect("just seen");
        Poll::Ready(joiner.take())
    }
}

impl<T> Unpin for JoinFuture<T> {}

impl<T> IntoFuture for JoinHandle<T> {
    type Output = thread::Result<T>;
    type IntoFuture = JoinFuture<T>;

    fn into_future(self) -> JoinFuture<T> {
        JoinFuture { joiner: Some(self.into_joiner()) }
    }
}

impl<T> fmt::Debug for JoinFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinFuture").finish_non_exhaustive()
    }
}

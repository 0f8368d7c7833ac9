//! What may cross threads, and what may not. That this compiles is the proof.

use std::cell::Cell;
use std::error::Error;
use std::fmt::Debug;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use greenling::block_on::JoinFuture;
use greenling::event::{AsyncResult, Event};
use greenling::local::{AccessError, LocalKey};
use greenling::pool::{Group, Imap, ImapUnordered, Pool, PoolFull};
use greenling::queue::{
    GetError, GetTimeoutError, JoinableQueue, LifoQueue, PriorityQueue, PutError, PutTimeoutError,
    Queue, TryGetError, TryPutError,
};
use greenling::select::Select;

/// Fails to compile unless the type has all the traits.
macro_rules! is {
    ($type:ty: $($bound:tt)+) => {{
        fn check<T: $($bound)+>() {}
        check::<$type>();
    }};
}

/// Fails to compile if the type has the trait: two implementations would fit then.
macro_rules! is_not {
    ($type:ty: $bound:path) => {{
        trait Ambiguous<Which> {
            fn check() {}
        }
        struct Other;
        impl<T> Ambiguous<()> for T {}
        impl<T: $bound> Ambiguous<Other> for T {}
        <$type as Ambiguous<_>>::check();
    }};
}

#[test]
fn queues_are_for_all_threads_if_their_items_are() {
    is!(Queue<String>: Send + Sync + Debug + Default + UnwindSafe + RefUnwindSafe);
    is!(LifoQueue<u8>: Send + Sync + Debug + Default + UnwindSafe + RefUnwindSafe);
    is!(PriorityQueue<u8>: Send + Sync + Debug + Default + UnwindSafe + RefUnwindSafe);
    is!(JoinableQueue<u8>: Send + Sync + Debug + Default + UnwindSafe + RefUnwindSafe);
    // They move in and out, one owner at a time.
    is!(Queue<Cell<u8>>: Send + Sync);
    is_not!(Queue<Rc<u8>>: Send);
    is_not!(Queue<Rc<u8>>: Sync);
    is_not!(PriorityQueue<Rc<u8>>: Sync);
}

#[test]
fn events_and_results_are_for_all_threads() {
    is!(Event: Send + Sync + Debug + Default + UnwindSafe + RefUnwindSafe);
    is!(AsyncResult<u8, String>: Send + Sync + Debug + Default + UnwindSafe + RefUnwindSafe);
    // Many may have a reference to the value at once.
    is!(AsyncResult<Cell<u8>, ()>: Send);
    is_not!(AsyncResult<Cell<u8>, ()>: Sync);
    is_not!(AsyncResult<Rc<u8>, ()>: Send);
    is_not!(AsyncResult<(), Rc<u8>>: Send);
}

#[test]
fn groups_and_pools_are_for_all_threads_and_what_they_do_is_not() {
    is!(Group: Send + Sync + Clone + Debug + Default + UnwindSafe + RefUnwindSafe);
    is!(Pool: Send + Sync + Clone + Debug + UnwindSafe + RefUnwindSafe);
    is!(Imap<u8>: Iterator + Debug);
    is!(ImapUnordered<u8>: Iterator + Debug);
    is_not!(Imap<u8>: Send);
    is_not!(ImapUnordered<u8>: Send);
    is!(Imap<u8>: FusedIterator);
    is!(ImapUnordered<u8>: FusedIterator);
}

#[test]
fn keys_are_for_all_threads_whatever_the_values() {
    is!(LocalKey<Cell<Rc<u8>>>: Send + Sync + Debug + UnwindSafe + RefUnwindSafe);
}

#[test]
fn a_wait_in_progress_stays_with_its_coroutine() {
    is_not!(Select<'static, u8>: Send);
    is!(Select<'static, u8>: Debug + Default);
}

#[test]
fn the_future_of_a_coroutine_crosses_threads_if_its_result_may() {
    is!(JoinFuture<u8>: Future<Output = std::thread::Result<u8>> + Send + Sync + Unpin + Debug);
    is_not!(JoinFuture<Rc<u8>>: Send);
}

#[test]
fn errors_are_errors_whatever_comes_back_in_them() {
    struct Opaque;
    is!(PutError<Opaque>: Error);
    is!(TryPutError<Opaque>: Error);
    is!(PutTimeoutError<Opaque>: Error);
    is!(PoolFull<fn()>: Error);
    is!(GetError: Error + Copy + Eq + Send + Sync);
    is!(TryGetError: Error + Copy + Eq + Send + Sync);
    is!(GetTimeoutError: Error + Copy + Eq + Send + Sync);
    is!(AccessError: Error + Copy + Eq + Send + Sync);
}

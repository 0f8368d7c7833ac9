//! The locks and their guards have the auto traits of std's, for data of every kind.
//!
//! Each line is checked by the compiler; that the tests compile is the proof.

use std::cell::Cell;
use std::fmt::{Debug, Display};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use greenling::sync::{
    Barrier, BarrierWaitResult, Condvar, LazyLock, Once, OnceState, OwnedSemaphorePermit,
    ReentrantMutex, ReentrantMutexGuard, Semaphore, SemaphorePermit, WaitTimeoutResult,
};

/// Whether a type has a trait: chooses the inherent method if the bound holds, and the trait's if not.
macro_rules! has {
    ($type:ty, $bound:path) => {{
        #[allow(dead_code, reason = "for the types that have the trait")]
        trait Otherwise {
            fn answer(&self) -> bool {
                false
            }
        }
        struct Ask<T: ?Sized>(std::marker::PhantomData<T>);
        impl<T: ?Sized> Otherwise for &Ask<T> {}
        #[allow(dead_code)]
        impl<T: ?Sized + $bound> Ask<T> {
            fn answer(&self) -> bool {
                true
            }
        }
        #[allow(clippy::needless_borrow)]
        (&Ask::<$type>(std::marker::PhantomData)).answer()
    }};
}

macro_rules! traits_of {
    ($type:ty) => {
        [
            has!($type, Send),
            has!($type, Sync),
            has!($type, Unpin),
            has!($type, UnwindSafe),
            has!($type, RefUnwindSafe),
            has!($type, Debug),
            has!($type, Display),
            has!($type, Clone),
        ]
    };
}

/// `Send` but not `Sync`, nor `RefUnwindSafe`.
type SendOnly = Cell<u8>;
/// `Sync` but not `Send`.
type SyncOnly = std::sync::MutexGuard<'static, u8>;
type Neither = Rc<Cell<u8>>;
/// Not `UnwindSafe`.
type Mutable = &'static mut u8;

macro_rules! aliases {
    ($module:ident, $sync:path) => {
        mod $module {
            use $sync as sync;
            pub(super) type Mutex<T> = sync::Mutex<T>;
            pub(super) type RwLock<T> = sync::RwLock<T>;
            pub(super) type OnceLock<T> = sync::OnceLock<T>;
            pub(super) type LazyLock<T> = sync::LazyLock<T>;
            pub(super) type MutexGuard<T> = sync::MutexGuard<'static, T>;
            pub(super) type ReadGuard<T> = sync::RwLockReadGuard<'static, T>;
            pub(super) type WriteGuard<T> = sync::RwLockWriteGuard<'static, T>;
        }
    };
}

aliases!(stds, std::sync);
aliases!(ours, greenling::sync);

/// The same questions about std's type and ours.
macro_rules! same {
    ($($name:ident)*) => { $(
        same!(@one $name: u8, SendOnly, SyncOnly, Neither, Mutable, Option<Mutable>);
    )* };
    (@one $name:ident: $($data:ty),*) => { $(
        assert_eq!(
            traits_of!(ours::$name<$data>),
            traits_of!(stds::$name<$data>),
            "{}<{}>", stringify!($name), stringify!($data),
        );
    )* };
}

#[test]
fn with_data() {
    same!(Mutex RwLock OnceLock LazyLock MutexGuard ReadGuard WriteGuard);
}

#[test]
fn lazy_locks_by_their_functions() {
    macro_rules! same {
        ($($function:ty),*) => { $(
            assert_eq!(
                traits_of!(LazyLock<u8, $function>),
                traits_of!(std::sync::LazyLock<u8, $function>),
            );
        )* };
    }
    same!(SendOnly, SyncOnly, Neither, Mutable);
}

#[test]
fn without_data() {
    assert_eq!(traits_of!(Condvar), traits_of!(std::sync::Condvar));
    assert_eq!(traits_of!(Barrier), traits_of!(std::sync::Barrier));
    assert_eq!(traits_of!(BarrierWaitResult), traits_of!(std::sync::BarrierWaitResult));
    assert_eq!(traits_of!(WaitTimeoutResult), traits_of!(std::sync::WaitTimeoutResult));
    assert_eq!(traits_of!(Once), traits_of!(std::sync::Once));
    assert!(has!(OnceState, Debug));
}

#[test]
fn our_own() {
    for (ours, [send, sync]) in [
        (traits_of!(Semaphore), [true, true]),
        (traits_of!(SemaphorePermit<'static>), [true, true]),
        (traits_of!(OwnedSemaphorePermit), [true, true]),
        (traits_of!(ReentrantMutex<SendOnly>), [true, true]),
        (traits_of!(ReentrantMutex<SyncOnly>), [false, false]),
        (traits_of!(ReentrantMutexGuard<'static, SendOnly>), [false, false]),
        (traits_of!(ReentrantMutexGuard<'static, u8>), [false, true]),
    ] {
        assert_eq!(ours[..2], [send, sync]);
        assert!(ours[5], "Debug");
    }
    assert!(
        has!(ReentrantMutex<u8>, RefUnwindSafe) && !has!(ReentrantMutex<SendOnly>, RefUnwindSafe)
    );
}

#[test]
fn the_questions_tell_the_difference() {
    assert_eq!(traits_of!(SendOnly)[..5], [true, false, true, true, false]);
    assert_eq!(traits_of!(SyncOnly)[..2], [false, true]);
    assert_eq!(traits_of!(Neither)[..2], [false, false]);
    assert!(!has!(Mutable, UnwindSafe));
}

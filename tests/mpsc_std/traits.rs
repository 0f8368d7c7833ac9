//! What the types can do, whatever the messages are, and what they look like.

use std::cell::Cell;
use std::error::Error;
use std::fmt::Debug;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use super::mpsc::{
    IntoIter, Iter, Receiver, RecvError, RecvTimeoutError, SendError, Sender, SyncSender, TryIter,
    TryRecvError, TrySendError, channel, sync_channel,
};

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

/// `Send` but not `Sync`, and not `RefUnwindSafe`.
type SendOnly = Cell<u8>;
/// Neither.
type Neither = Rc<Cell<u8>>;
/// No `Debug`, no `Clone`.
struct Bare;

#[test]
fn senders_are_shared_and_receivers_are_not() {
    is!(Sender<SendOnly>: Send + Sync + Clone + Unpin + 'static);
    is!(SyncSender<SendOnly>: Send + Sync + Clone + Unpin + 'static);
    is!(Receiver<SendOnly>: Send + Unpin + 'static);
    is_not!(Receiver<u8>: Sync);
    is_not!(Receiver<u8>: Clone);
    is_not!(Sender<Neither>: Send);
    is_not!(Sender<Neither>: Sync);
    is_not!(SyncSender<Neither>: Send);
    is_not!(SyncSender<Neither>: Sync);
    is_not!(Receiver<Neither>: Send);
    is!(IntoIter<SendOnly>: Send);
    is_not!(IntoIter<u8>: Sync);
    is_not!(Iter<'static, u8>: Send);
    is_not!(TryIter<'static, u8>: Send);
}

#[test]
fn all_go_through_catch_unwind() {
    is!(Sender<Neither>: UnwindSafe + RefUnwindSafe);
    is!(SyncSender<Neither>: UnwindSafe + RefUnwindSafe);
    is!(Receiver<Neither>: UnwindSafe + RefUnwindSafe);
    is!(IntoIter<Neither>: UnwindSafe + RefUnwindSafe);
    is!(Iter<'static, Neither>: UnwindSafe + RefUnwindSafe);
}

#[test]
fn messages_need_not_be_anything() {
    is!(Sender<Bare>: Debug + Clone);
    is!(SyncSender<Bare>: Debug + Clone);
    is!(Receiver<Bare>: Debug);
    let text = String::from("borrowed");
    let (sender, receiver) = channel::<&str>();
    sender.send(&text).unwrap();
    assert_eq!(receiver.recv(), Ok("borrowed"));
}

#[test]
fn the_ends_look_like_stds() {
    let (sender, receiver) = channel::<u8>();
    let (sync_sender, _receiver) = sync_channel::<u8>(0);
    assert_eq!(format!("{sender:?} {sync_sender:?}"), "Sender { .. } SyncSender { .. }");
    assert_eq!(format!("{receiver:?}"), "Receiver { .. }");
    assert_eq!(format!("{:?}", receiver.iter()), "Iter { rx: Receiver { .. } }");
    assert_eq!(format!("{:?}", receiver.try_iter()), "TryIter { rx: Receiver { .. } }");
    assert_eq!(format!("{:?}", receiver.into_iter()), "IntoIter { rx: Receiver { .. } }");
}

#[test]
fn the_errors_are_stds_own() {
    fn same<T>(_: T, _: T) {}
    same(SendError(1), std::sync::mpsc::SendError(1));
    same(RecvError, std::sync::mpsc::RecvError);
    same(TryRecvError::Empty, std::sync::mpsc::TryRecvError::Disconnected);
    same(RecvTimeoutError::Timeout, std::sync::mpsc::RecvTimeoutError::Disconnected);
    same(TrySendError::Full(1), std::sync::mpsc::TrySendError::Disconnected(1));
    is!(SendError<u8>: Error + Send + Sync);
    let (sender, receiver) = channel();
    drop(receiver);
    let asks = || -> Result<(), Box<dyn Error + Send + Sync>> { Ok(sender.send(1)?) };
    assert_eq!(asks().unwrap_err().to_string(), "sending on a closed channel");
}

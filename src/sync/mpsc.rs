//! `std::sync::mpsc`, cooperative: channels with one receiver and any number of senders.
//!
//! All names, signatures and errors are std's, and the error types *are* std's. A coroutine that waits
//! for a message, or for room, lets the others run. The two ends may be in coroutines of one thread, in
//! coroutines of different threads, and in plain threads, in any mixture. Between coroutines of one thread,
//! messages need not be [`Send`].
//!
//! ```
//! use greenling::sync::mpsc;
//!
//! let (sender, receiver) = mpsc::channel();
//! for n in 1..=3 {
//!     let sender = sender.clone();
//!     greenling::spawn(move || sender.send(n * n).unwrap());
//! }
//! drop(sender); // the coroutines have clones
//! assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 4, 9]); // until the last sender is gone
//! ```
//!
//! # Beyond std
//! * A message is handed directly to a receiver that waits, and room directly to the sender that has waited
//!   longest: who comes later cannot get in between.
//! * A kill or a time limit that ends a wait takes no message out of the channel and puts none into it. If
//!   the message was handed over in the same moment, the wait has ended well: the kill then comes at the
//!   next one.
//! * [`Select`](crate::select::Select) waits for the first of several receivers (and other things).
//! * An unbounded channel that has been drained gives the memory of a large backlog back.
//!
//! For several receivers, peeking, other orders, or closing from either side, see [`queue`](crate::queue).

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use crate::error::{GetTimeoutError, PutTimeoutError, TryGetError, TryPutError};
use crate::queue::{Core, Fifo};
use crate::rt::{self, Deadline, Reason};

const FOR_MESSAGE: Reason = Reason::Wait("a message from a channel");
const FOR_ROOM: Reason = Reason::Wait("room in a channel");

/// Room for so many messages is kept when there are none.
const KEEP: usize = 1024;

/// Makes a channel without a bound: [`send`](Sender::send) never waits.
///
/// As [`std::sync::mpsc::channel`].
///
/// # Examples
/// ```
/// use greenling::sync::mpsc::channel;
///
/// let (sender, receiver) = channel();
/// let worker = greenling::spawn(move || receiver.recv().unwrap() + 1);
/// sender.send(41).unwrap();
/// assert_eq!(worker.join().unwrap(), 42);
/// ```
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let channel = Channel::new(usize::MAX);
    (Sender { channel: channel.clone() }, Receiver::new(channel))
}

/// Makes a channel with room for `bound` messages: [`send`](SyncSender::send) waits while it is full. With
/// a bound of 0 the two sides meet: `send` ends when the message has been received.
///
/// As [`std::sync::mpsc::sync_channel`].
///
/// # Examples
/// ```
/// use greenling::sync::mpsc::{TrySendError, sync_channel};
///
/// let (sender, receiver) = sync_channel(1);
/// sender.send("first").unwrap();
/// assert_eq!(sender.try_send("second"), Err(TrySendError::Full("second")));
/// let waiting = greenling::spawn(move || sender.send("third"));
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), ["first", "third"]);
/// waiting.join().unwrap().unwrap();
/// ```
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let channel = Channel::new(bound);
    (SyncSender { channel: channel.clone() }, Receiver::new(channel))
}

/// What the two ends share. The end of either side closes the queue: senders then get their messages back,
/// and the receiver gets what is left and then an error.
struct Channel<T> {
    queue: Core<T, Fifo<T>>,
    /// How many senders there are. Each owns the channel as well, so that this cannot overflow.
    senders: AtomicUsize,
}

impl<T> Channel<T> {
    fn new(bound: usize) -> Arc<Self> {
        Arc::new(Channel { queue: Core::new(Fifo::new(), bound), senders: AtomicUsize::new(1) })
    }

    fn add_sender(self: &Arc<Self>) -> Arc<Self> {
        let this = self.clone();
        // Only a sender adds one, so the count is not on its way to 0.
        this.senders.fetch_add(1, Ordering::Relaxed);
        this
    }

    fn remove_sender(&self) {
        // The queue's lock orders what senders have done before the end that the receiver sees.
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.queue.close();
        }
    }
}

/// The sending end of a [`channel`].
///
/// As [`std::sync::mpsc::Sender`]: it can be cloned, and be sent to and shared with other threads.
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

impl<T> Sender<T> {
    /// Sends a message. Never waits. (A coroutine that does nothing but send lets the others run once in a while,
    /// as one thread of several would.)
    ///
    /// That it succeeds does not mean that the message will be received: the receiver may be dropped
    /// before.
    ///
    /// # Errors
    /// The message, if the receiver has been dropped.
    ///
    /// # Examples
    /// ```
    /// use greenling::sync::mpsc::{SendError, channel};
    ///
    /// let (sender, receiver) = channel();
    /// sender.send(1).unwrap();
    /// drop(receiver);
    /// assert_eq!(sender.send(2), Err(SendError(2)));
    /// ```
    #[inline]
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        let sent = self.channel.queue.try_put(t).map_err(|error| SendError(error.into_inner()));
        rt::charge_look();
        sent
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { channel: self.channel.add_sender() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.remove_sender();
    }
}

/// The sending end of a [`sync_channel`].
///
/// As [`std::sync::mpsc::SyncSender`]: it can be cloned, and be sent to and shared with other threads.
pub struct SyncSender<T> {
    channel: Arc<Channel<T>>,
}

impl<T> SyncSender<T> {
    /// Sends a message; waits while there is no room for it. With a bound of 0 it waits until the message
    /// is received.
    ///
    /// A kill or a time limit that ends the wait drops the message, unsent.
    ///
    /// # Errors
    /// The message, if the receiver has been dropped, also while this waits.
    #[inline]
    #[track_caller]
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        match self.channel.queue.put(t, FOR_ROOM, None) {
            Ok(()) => Ok(()),
            Err(PutTimeoutError::Closed(t) | PutTimeoutError::Timeout(t)) => Err(SendError(t)),
        }
    }

    /// Sends a message if that needs no wait: there is room, or the receiver waits.
    ///
    /// # Errors
    /// The message, if there is no room or the receiver has been dropped.
    #[inline]
    pub fn try_send(&self, t: T) -> Result<(), TrySendError<T>> {
        self.channel.queue.try_put(t).map_err(|error| match error {
            TryPutError::Full(t) => {
                rt::charge_look();
                TrySendError::Full(t)
            }
            TryPutError::Closed(t) => TrySendError::Disconnected(t),
        })
    }
}

impl<T> Clone for SyncSender<T> {
    fn clone(&self) -> Self {
        SyncSender { channel: self.channel.add_sender() }
    }
}

impl<T> Drop for SyncSender<T> {
    fn drop(&mut self) {
        self.channel.remove_sender();
    }
}

/// The receiving end of a channel.
///
/// As [`std::sync::mpsc::Receiver`]: it can be sent to another thread, but not be shared. Dropping it
/// drops the messages that have not been received, and gives senders that wait their messages back.
///
/// (Coroutines of one thread may share it, in an `Rc`. Then each message goes to one of them, in the order
/// in which they came.)
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
    /// Messages of a channel without a bound that have been taken all at once, and are older than what is in
    /// the channel. Nobody waits for a message while there are any. (The cell also keeps the receiver from
    /// being `Sync`, as in std.)
    taken: RefCell<Fifo<T>>,
}

impl<T> Receiver<T> {
    fn new(channel: Arc<Channel<T>>) -> Self {
        Receiver { channel, taken: RefCell::new(Fifo::new()) }
    }

    /// Takes the next message; waits for one while there is none.
    ///
    /// # Errors
    /// If there is none and all senders have been dropped, also while this waits.
    ///
    /// # Examples
    /// ```
    /// use greenling::sync::mpsc::{RecvError, channel};
    ///
    /// let (sender, receiver) = channel();
    /// greenling::spawn(move || sender.send("the only one"));
    /// assert_eq!(receiver.recv(), Ok("the only one"));
    /// assert_eq!(receiver.recv(), Err(RecvError));
    /// ```
    // Inlined down to the switch: see the last section of `rt/README.md`.
    #[inline(always)]
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.get(None).map_err(|_| RecvError)
    }

    /// Takes the next message, if there is one. Never waits.
    ///
    /// # Errors
    /// If there is none, for now ([`Empty`](TryRecvError::Empty)) or for ever
    /// ([`Disconnected`](TryRecvError::Disconnected)).
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        if let Some(t) = self.next_taken() {
            return Ok(t);
        }
        let queue = &self.channel.queue;
        let taken = queue
            .try_get_by(|locked, wake| queue.take_all(locked, wake, &mut self.taken.borrow_mut()));
        taken.map_err(|error| match error {
            TryGetError::Empty => {
                rt::charge_look();
                TryRecvError::Empty
            }
            TryGetError::Closed => TryRecvError::Disconnected,
        })
    }

    /// As [`recv`](Self::recv), but waits for at most `timeout`. One that is too long for the clock is for
    /// ever.
    ///
    /// # Errors
    /// If no message came in time, or all senders have been dropped.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use greenling::sync::mpsc::{RecvTimeoutError, channel};
    ///
    /// let (sender, receiver) = channel::<u8>();
    /// let soon = Duration::from_millis(1);
    /// assert_eq!(receiver.recv_timeout(soon), Err(RecvTimeoutError::Timeout));
    /// drop(sender);
    /// assert_eq!(receiver.recv_timeout(soon), Err(RecvTimeoutError::Disconnected));
    /// ```
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.get(Deadline::after(timeout)).map_err(|error| match error {
            GetTimeoutError::Timeout => RecvTimeoutError::Timeout,
            GetTimeoutError::Closed => RecvTimeoutError::Disconnected,
        })
    }

    /// Takes messages, waiting for each, until all senders have been dropped and nothing is left.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { rx: self }
    }

    /// Takes messages until there is none at the moment. Never waits.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = greenling::sync::mpsc::channel();
    /// (1..=3).for_each(|n| sender.send(n).unwrap());
    /// assert_eq!(receiver.try_iter().sum::<i32>(), 6);
    /// assert_eq!(receiver.try_iter().next(), None);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { rx: self }
    }

    #[inline(always)]
    #[track_caller]
    fn get(&self, deadline: Option<Deadline>) -> Result<T, GetTimeoutError> {
        if let Some(t) = self.next_taken() {
            rt::charge();
            return Ok(t);
        }
        let queue = &self.channel.queue;
        queue.get_by(FOR_MESSAGE, deadline, |locked, wake| {
            queue.take_all(locked, wake, &mut self.taken.borrow_mut())
        })
    }

    #[inline(always)]
    fn next_taken(&self) -> Option<T> {
        let mut taken = self.taken.borrow_mut();
        let next = taken.pop_front();
        if next.is_none() && taken.capacity() > KEEP {
            *taken = Fifo::new();
        }
        next
    }

    /// For `select`. Not to be taken from while [`try_recv`](Self::try_recv) gives something.
    pub(crate) fn queue(&self) -> &Core<T, Fifo<T>> {
        &self.channel.queue
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // In this order, and after the end: destructors may do anything, even send into this channel.
        let later = self.channel.queue.close_and_clear();
        drop(self.taken.take());
        drop(later);
    }
}

/// Takes messages until all senders have been dropped. What [`Receiver::iter`] returns.
#[derive(Debug)]
pub struct Iter<'a, T: 'a> {
    rx: &'a Receiver<T>,
}

/// Takes messages until there is none. What [`Receiver::try_iter`] returns.
#[derive(Debug)]
pub struct TryIter<'a, T: 'a> {
    rx: &'a Receiver<T>,
}

/// Takes messages until all senders have been dropped, and owns the receiver. What
/// `Receiver::into_iter` returns.
#[derive(Debug)]
pub struct IntoIter<T> {
    rx: Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    #[inline(always)]
    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.rx.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.rx.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[inline(always)]
    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.rx.recv().ok()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { rx: self }
    }
}

/// What the ends have in common; as in std, whatever the messages are.
macro_rules! end {
    ($End:ident) => {
        impl<T> UnwindSafe for $End<T> {}
        impl<T> RefUnwindSafe for $End<T> {}

        impl<T> fmt::Debug for $End<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($End)).finish_non_exhaustive()
            }
        }
    };
}

end!(Sender);
end!(SyncSender);
end!(Receiver);

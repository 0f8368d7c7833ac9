//! What may cross threads, and what may not: a coroutine never leaves its thread, but handles to it do.
//!
//! Each line is checked by the compiler; that the tests compile is the proof.

use std::cell::Cell;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::fs::File;
use std::hash::Hash;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use greenling::error::{Elapsed, Killed, StillRunning};
use greenling::hub::{Config, Handle, Stats};
use greenling::io::Adapter;
use greenling::net::{TcpListener, TcpStream, UdpSocket};
use greenling::os::unix::net as unix;
use greenling::process;
use greenling::thread::{Builder, JoinHandle, Thread, ThreadId};
use greenling::threadpool::{Job, ThreadPool};

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

/// `Send` but not `Sync`.
type SendOnly = Cell<u8>;
/// Neither.
type Neither = Rc<u8>;

#[test]
fn a_join_handle_crosses_threads_if_its_result_may() {
    is!(JoinHandle<u8>: Send + Sync + Unpin + Debug);
    is!(JoinHandle<String>: Send + Sync);
    is!(JoinHandle<Box<dyn FnOnce() + Send>>: Send + Sync);
    // The result moves, and a shared handle gives no access to it.
    is!(JoinHandle<SendOnly>: Send + Sync);
    is_not!(JoinHandle<Neither>: Send);
    is_not!(JoinHandle<Neither>: Sync);
    is_not!(JoinHandle<*const u8>: Send);
    is_not!(JoinHandle<std::sync::MutexGuard<'static, u8>>: Send);
    is_not!(JoinHandle<u8>: Clone);
}

#[test]
fn what_std_lets_through_catch_unwind_goes_through_it() {
    is!(std::thread::Builder: UnwindSafe + RefUnwindSafe);
    is!(Builder: UnwindSafe + RefUnwindSafe);
    is!(std::net::TcpStream: UnwindSafe + RefUnwindSafe);
    is!(TcpStream: UnwindSafe + RefUnwindSafe);
    is!(TcpListener: UnwindSafe + RefUnwindSafe);
    is!(Handle: UnwindSafe + RefUnwindSafe);
}

#[test]
fn whoever_knows_a_coroutine_may_be_anywhere() {
    is!(Thread: Send + Sync + Clone + Unpin + Debug);
    is!(ThreadId: Send + Sync + Copy + Eq + Hash + Debug);
    is!(Handle: Send + Sync + Clone + Unpin + Debug);
    is!(Builder: Send + Sync + Debug);
}

#[test]
fn settings_counters_and_errors_are_plain_values() {
    is!(Config: Send + Sync + Clone + Debug + Default);
    is!(Stats: Send + Sync + Copy + Eq + Debug + Default);
    is!(Killed: Send + Sync + Copy + Eq + Error + Debug + Display + 'static);
    is!(StillRunning: Send + Sync + Copy + Eq + Error + Debug + Display + 'static);
    is!(Elapsed: Send + Sync + Copy + Eq + Error + Debug + Display + 'static);
}

#[test]
fn an_adapter_is_what_it_wraps() {
    is!(Adapter<File>: Send + Sync + Unpin + Debug);
    is!(Adapter<std::net::TcpStream>: Send + Sync);
    is!(Adapter<&'static std::fs::File>: Send + Sync);
    is_not!(Adapter<Rc<File>>: Send);
    is_not!(Adapter<Rc<File>>: Sync);
    is_not!(Adapter<File>: Clone);
}

#[test]
fn sockets_are_what_they_are_in_std() {
    is!(TcpStream: Send + Sync + Unpin + Debug);
    is!(TcpListener: Send + Sync + Unpin + Debug);
    is!(UdpSocket: Send + Sync + Unpin + Debug + UnwindSafe + RefUnwindSafe);
    is!(unix::UnixStream: Send + Sync + Unpin + Debug + UnwindSafe + RefUnwindSafe);
    is!(unix::UnixListener: Send + Sync + Unpin + Debug + UnwindSafe + RefUnwindSafe);
    is!(unix::UnixDatagram: Send + Sync + Unpin + Debug + UnwindSafe + RefUnwindSafe);
    is_not!(UdpSocket: Clone);
    is_not!(TcpStream: Clone);
    is_not!(TcpListener: Clone);
}

#[test]
fn pools_of_threads_and_their_jobs_may_be_anywhere() {
    is!(ThreadPool: Send + Sync + Clone + Unpin + Debug + UnwindSafe + RefUnwindSafe);
    is!(Job<SendOnly>: Send + Sync + Unpin + Debug + UnwindSafe + RefUnwindSafe);
    is_not!(Job<Neither>: Send);
    is_not!(Job<u8>: Clone);
}

#[test]
fn the_macros_tell_the_difference() {
    is!(SendOnly: Send);
    is_not!(SendOnly: Sync);
    is_not!(Neither: Send);
    is_not!(Neither: Sync);
}

#[test]
fn what_std_lets_cross_crosses() {
    // As std's: each of these has the same of `Send`, `Sync`, `Unpin` and the unwind traits there.
    macro_rules! both {
        ($path:ident :: $type:ident: $($bound:tt)+) => {
            is!(std::$path::$type: $($bound)+);
            is!(greenling::$path::$type: $($bound)+);
        };
    }
    type Child = process::Child;
    both!(process::Command: Send + Sync + Unpin + Debug);
    both!(process::Child: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    both!(process::ChildStdin: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    both!(process::ChildStdout: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    both!(process::ChildStderr: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    both!(io::Stdin: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    both!(io::Stdout: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    both!(io::Stderr: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    both!(fs::File: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    both!(fs::OpenOptions: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug + Clone);
    both!(fs::ReadDir: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    both!(fs::DirEntry: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    both!(fs::DirBuilder: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    is!(greenling::io::PipeReader: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    is!(greenling::io::PipeWriter: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug);
    is_not!(Child: Clone);
    // Guards stay on their thread.
    is!(greenling::io::StdinLock<'static>: Sync + Unpin + Debug);
    is!(greenling::io::StdoutLock<'static>: Sync + Unpin + Debug);
    is_not!(greenling::io::StdinLock<'static>: Send);
    is_not!(greenling::io::StdoutLock<'static>: Send);
    is_not!(greenling::io::StderrLock<'static>: Send);
    is!(greenling::signal::Signals: Send + Sync + Unpin + UnwindSafe + Debug);
    is!(greenling::signal::Signal: Send + Sync + Copy + Ord + Hash + Display + Debug);
}

//! Unix signals as something to wait for.
//!
//! ```no_run
//! greenling::spawn(|| { /* serve */ });
//! greenling::signal::ctrl_c()?.wait(); // the server runs meanwhile
//! println!("good bye");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Nothing of the program runs inside a signal handler: that only takes a note and wakes whoever waits, on whichever
//! thread and hub. There may be any number of [`Signals`], each of which gets every signal that it is for.
//!
//! # What else handles a signal
//! A handler that was there before is called all the same. The default action of a signal (mostly: to end the process)
//! is suspended for as long as there is a [`Signals`] for it, and comes back with the last one's end. So keep it for as
//! long as the signal should not end the process, rather than waiting anew each time.
//!
//! # With other things
//! To wait for a signal or something else, have a coroutine wait for it and set an
//! [`Event`](crate::event::Event) or kill what is to end.
//!
//! # Fork
//! The child of a fork gets its own signals only. A program that is executed begins without handlers.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::thread::{self, JoinHandle};

mod listener;
mod registry;

pub use listener::{Forever, Signals};

/// The number of a signal.
///
/// # Examples
/// ```
/// use greenling::signal::Signal;
///
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::from_raw(libc::SIGHUP), Some(Signal::HUP));
/// assert_eq!(Signal::from_raw(1000), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

/// Defines the signals that have names.
macro_rules! signals {
    ($($name:ident = $number:ident, $text:literal;)*) => {
        impl Signal {
            $(
                #[doc = $text]
                pub const $name: Signal = Signal(libc::$number);
            )*

            /// Its name: `SIGINT`. `None` for those without one, the real-time signals.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Signal::$name => Some(stringify!($number)),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    HUP = SIGHUP, "The terminal is gone; for daemons: read the configuration again.";
    INT = SIGINT, "Ctrl-C.";
    QUIT = SIGQUIT, "Ctrl-\\.";
    ILL = SIGILL, "A fault of the program. Cannot be waited for.";
    TRAP = SIGTRAP, "A breakpoint.";
    ABRT = SIGABRT, "abort(3). Ends the process, even if it is waited for.";
    BUS = SIGBUS, "A fault of the program. Cannot be waited for.";
    FPE = SIGFPE, "A fault of the program. Cannot be waited for.";
    KILL = SIGKILL, "Ends the process. Cannot be waited for.";
    USR1 = SIGUSR1, "The program's own.";
    SEGV = SIGSEGV, "A fault of the program. Cannot be waited for.";
    USR2 = SIGUSR2, "The program's own.";
    PIPE = SIGPIPE, "A write to a pipe that nobody reads. Ignored in Rust programs.";
    ALRM = SIGALRM, "alarm(2), setitimer(2).";
    TERM = SIGTERM, "A request to end.";
    CHLD = SIGCHLD, "A child has ended or stopped.";
    CONT = SIGCONT, "The process goes on after a stop.";
    STOP = SIGSTOP, "Stops the process. Cannot be waited for.";
    TSTP = SIGTSTP, "Ctrl-Z.";
    TTIN = SIGTTIN, "A background process reads from the terminal.";
    TTOU = SIGTTOU, "A background process writes to the terminal.";
    URG = SIGURG, "Urgent data on a socket.";
    XCPU = SIGXCPU, "The limit of processor time is reached.";
    XFSZ = SIGXFSZ, "The limit of a file's size is reached.";
    VTALRM = SIGVTALRM, "setitimer(2).";
    PROF = SIGPROF, "setitimer(2).";
    WINCH = SIGWINCH, "The terminal's size has changed.";
    IO = SIGIO, "A descriptor is ready (fcntl(2)).";
    PWR = SIGPWR, "The power is failing.";
    SYS = SIGSYS, "A system call that is not allowed. Cannot be waited for.";
}

impl Signal {
    /// The signal with a number; `None` if there is none, or if the C library keeps it to itself.
    pub fn from_raw(number: i32) -> Option<Signal> {
        let named = (1..32).contains(&number) && number != libc::SIGSTKFLT;
        let real_time = (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number);
        (named || real_time).then_some(Signal(number))
    }

    /// Its number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// The real-time signal `SIGRTMIN + n`; `None` past the last.
    pub fn real_time(n: u8) -> Option<Signal> {
        Signal::from_raw(libc::SIGRTMIN() + i32::from(n)).filter(|signal| signal.name().is_none())
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "SIGRTMIN+{}", self.0 - libc::SIGRTMIN()),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Listens for Ctrl-C (`SIGINT`). See [`Signals`].
///
/// # Errors
/// As for [`Signals::new`].
///
/// # Examples
/// ```no_run
/// use greenling::signal;
///
/// let ctrl_c = signal::ctrl_c()?;
/// ctrl_c.wait();
/// println!("once more to end at once");
/// drop(ctrl_c); // the default action is back
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn ctrl_c() -> io::Result<Signals> {
    Signals::new(&[Signal::INT])
}

/// Listens for what asks a server to end: `SIGINT` and `SIGTERM`.
///
/// # Errors
/// As for [`Signals::new`].
pub fn termination() -> io::Result<Signals> {
    Signals::new(&[Signal::INT, Signal::TERM])
}

/// Waits for one of the signals, once. What comes before or after the call has its default action; to get every
/// signal, keep a [`Signals`].
///
/// # Errors
/// As for [`Signals::new`].
#[track_caller]
pub fn wait(signals: &[Signal]) -> io::Result<Signal> {
    Ok(Signals::new(signals)?.wait())
}

/// As [`wait`], for at most `timeout`; `None` if no signal has come by then.
///
/// # Errors
/// As for [`Signals::new`].
#[track_caller]
pub fn wait_timeout(signals: &[Signal], timeout: Duration) -> io::Result<Option<Signal>> {
    Ok(Signals::new(signals)?.wait_timeout(timeout))
}

/// Calls `handler` in a coroutine of this thread whenever the signal comes, one call after the other. Kill the
/// coroutine to end that. (gevent's `signal_handler`.)
///
/// # Errors
/// As for [`Signals::new`]; `OutOfMemory` if there is no stack to be had.
///
/// # Examples
/// ```
/// use std::rc::Rc;
/// use greenling::event::Event;
/// use greenling::signal::{self, Signal};
///
/// let called = Rc::new(Event::new());
/// let handler = signal::on(Signal::USR1, {
///     let called = called.clone();
///     move || called.set()
/// })?;
/// unsafe { libc::raise(libc::SIGUSR1) };
/// called.wait();
/// handler.kill();
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn on(signal: Signal, mut handler: impl FnMut() + 'static) -> io::Result<JoinHandle<()>> {
    let signals = Signals::new(&[signal])?;
    thread::Builder::new().name(format!("handler of {signal}")).spawn(move || {
        for _ in signals.forever() {
            handler();
        }
    })
}

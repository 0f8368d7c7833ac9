//! Makes unmodified blocking code cooperative (feature `patch`).
//!
//! See `docs/patching.md`.

mod close;
mod file;
mod offload;
mod policy;
mod poll;
mod socket;
mod sources;
mod time;

use std::ffi::c_int;

use crate::rt::hooked;
use crate::rt::real::set_errno;
use policy::Family;

/// Every function that is redefined, with our address. The table is also what makes a linker keep them.
static SYMBOLS: &[(&str, Family, Address)] = &[
    ("recv", policy::SOCKETS, Address(socket::recv as *const ())),
    ("recvfrom", policy::SOCKETS, Address(socket::recvfrom as *const ())),
    ("recvmsg", policy::SOCKETS, Address(socket::recvmsg as *const ())),
    ("recvmmsg", policy::SOCKETS, Address(socket::recvmmsg as *const ())),
    ("send", policy::SOCKETS, Address(socket::send as *const ())),
    ("sendto", policy::SOCKETS, Address(socket::sendto as *const ())),
    ("sendmsg", policy::SOCKETS, Address(socket::sendmsg as *const ())),
    ("sendmmsg", policy::SOCKETS, Address(socket::sendmmsg as *const ())),
    ("sendfile", policy::SOCKETS, Address(socket::sendfile as *const ())),
    ("sendfile64", policy::SOCKETS, Address(socket::sendfile64 as *const ())),
    ("connect", policy::SOCKETS, Address(socket::connect as *const ())),
    ("accept", policy::SOCKETS, Address(socket::accept as *const ())),
    ("accept4", policy::SOCKETS, Address(socket::accept4 as *const ())),
    ("read", policy::FDS, Address(file::read as *const ())),
    ("readv", policy::FDS, Address(file::readv as *const ())),
    ("write", policy::FDS, Address(file::write as *const ())),
    ("writev", policy::FDS, Address(file::writev as *const ())),
    ("close", policy::FDS, Address(close::close as *const ())),
    ("dup2", policy::FDS, Address(close::dup2 as *const ())),
    ("dup3", policy::FDS, Address(close::dup3 as *const ())),
    ("close_range", policy::FDS, Address(close::close_range as *const ())),
    ("poll", policy::POLL, Address(poll::poll as *const ())),
    ("ppoll", policy::POLL, Address(poll::ppoll as *const ())),
    ("select", policy::POLL, Address(poll::select as *const ())),
    ("pselect", policy::POLL, Address(poll::pselect as *const ())),
    ("epoll_wait", policy::POLL, Address(poll::epoll_wait as *const ())),
    ("epoll_pwait", policy::POLL, Address(poll::epoll_pwait as *const ())),
    ("epoll_pwait2", policy::POLL, Address(poll::epoll_pwait2 as *const ())),
    ("nanosleep", policy::TIME, Address(time::nanosleep as *const ())),
    ("clock_nanosleep", policy::TIME, Address(time::clock_nanosleep as *const ())),
    ("usleep", policy::TIME, Address(time::usleep as *const ())),
    ("sleep", policy::TIME, Address(time::sleep as *const ())),
];

/// A function's address, of whatever signature.
struct Address(*const ());

// SAFETY: an address is plain data.
unsafe impl Sync for Address {}

/// Reports a failure as the C library does.
#[cold]
fn fail(error: c_int) -> isize {
    set_errno(error);
    -1
}

/// Ends an operation that has succeeded: a coroutine whose operations always do lets others run once in a
/// while. `errno` is as it was.
#[inline]
fn settled<T>(errno: c_int, value: T) -> T {
    hooked::charge();
    set_errno(errno);
    value
}

/// Makes every blocking function cooperative that can be.
pub fn all() {
    Builder::new().apply();
}

/// Chooses what [`all`] would turn on altogether.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it applies"]
pub struct Builder {
    families: u32,
}

impl Builder {
    /// Everything but standard input, output and error.
    pub fn new() -> Builder {
        Builder { families: 127 }
    }

    /// Makes it so, from now on, for the whole process.
    pub fn apply(self) {
        std::hint::black_box(SYMBOLS);
        sources::set_process();
        policy::activate(self.families);
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

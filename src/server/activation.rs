//! Sockets that systemd, or whoever else starts the program, has opened for it: sd_listen_fds(3).
//!
//! The program that starts ours leaves open sockets from descriptor 3 on, says in `LISTEN_FDS` how many, and in
//! `LISTEN_PID` for whom. A server that takes them needs no right to bind its port, and loses no client
//! while it is restarted.
//!
//! ```no_run
//! use greenling::net::TcpListener;
//! use greenling::server::{StreamServer, activation};
//!
//! let listener = match activation::take()?.pop() {
//!     Some(passed) => TcpListener::from(passed.fd),
//!     None => TcpListener::bind("127.0.0.1:7000")?,
//! };
//! StreamServer::new(listener, |_stream, _peer| Ok(())).serve_forever()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Try it with `systemd-socket-activate --listen 7000 PROGRAM`.

use std::env;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::rt::syscall;

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// More than these are a mistake.
const MOST: RawFd = 65_536;

/// A socket that was passed in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Passed {
    /// From `LISTEN_FDNAMES`, which systemd sets to the unit's name or its `FileDescriptorName=`; `unknown` if
    /// there is none.
    pub name: String,
    /// The socket. `TcpListener::from`, and the like, makes a listener of it.
    pub fd: OwnedFd,
}

/// Takes the sockets that were passed to this process, in their order. There are none if nobody has started
/// the process in this way, and none at the second call: who asks first owns them.
///
/// They are closed in programs that this process starts, from now on.
///
/// # Errors
/// `InvalidData` if the variables make no sense; what fcntl(2) says if a descriptor is not open.
pub fn take() -> io::Result<Vec<Passed>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let for_us = env::var("LISTEN_PID").is_ok_and(|pid| pid == process::id().to_string());
    let Some(count) = env::var_os("LISTEN_FDS").filter(|_| for_us) else {
        return Ok(Vec::new());
    };
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let fds = descriptors(count.to_str().unwrap_or("not a number"))?;
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let names = names.split(':').map(Some).chain(std::iter::repeat(None));
    let named = |(fd, name): (RawFd, Option<&str>)| {
        let name = name.filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
        Ok(Passed { name, fd: own(fd)? })
    };
    fds.zip(names).map(named).collect()
}

fn descriptors(count: &str) -> io::Result<std::ops::Range<RawFd>> {
    match count.parse::<RawFd>() {
        Ok(count) if (0..=MOST).contains(&count) => Ok(FIRST..FIRST + count),
        _ => {
            let message = format!("LISTEN_FDS is {count:?}, not a number of descriptors");
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
    }
}

/// # Errors
/// What fcntl(2) says: `EBADF` if it is not open.
fn own(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; it fails for what is not a descriptor.
    syscall!(fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC))?;
    // SAFETY: it is open. By the protocol it belongs to this process and to nobody in it, until somebody
    // calls `take`; and only one call gets here.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_number_of_descriptors() {
        assert_eq!(descriptors("0").unwrap(), 3..3);
        assert_eq!(descriptors("2").unwrap(), 3..5);
        for wrong in ["", "-1", "two", "99999999999", "70000"] {
            assert_eq!(descriptors(wrong).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn what_is_not_open_is_not_owned() {
        assert_eq!(own(1_000_000).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}

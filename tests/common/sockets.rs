//! What the tests of sockets do for which std has no method.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

/// Sets an option of the socket layer for which std has no method.
pub(crate) fn set_option<T>(socket: &impl AsFd, option: i32, value: &T) {
    set_option_at(libc::SOL_SOCKET, socket, option, value);
}

pub(crate) fn set_option_at<T>(level: i32, socket: &impl AsFd, option: i32, value: &T) {
    let len = size_of::<T>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: `value` is `len` bytes long and lives through the call.
    let result = unsafe { libc::setsockopt(fd, level, option, value, len) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

#[allow(dead_code, reason = "not every test program needs it")]
pub(crate) fn is_nonblocking(socket: &impl AsFd) -> bool {
    // SAFETY: no pointers are passed.
    let flags = unsafe { libc::fcntl(socket.as_fd().as_raw_fd(), libc::F_GETFL) };
    flags & libc::O_NONBLOCK != 0
}

#[allow(dead_code)]
pub(crate) fn descriptor_flags(socket: &impl AsFd) -> i32 {
    // SAFETY: no pointers are passed.
    unsafe { libc::fcntl(socket.as_fd().as_raw_fd(), libc::F_GETFD) }
}

/// Makes a socket end its connection with a reset, instead of the end of the stream, when it is closed.
#[allow(dead_code, reason = "not every test program needs it")]
pub(crate) fn reset_at_close(socket: &impl AsFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option(socket, libc::SO_LINGER, &linger);
}

/// A listener whose queue is full, so that connecting to it takes long.
#[allow(dead_code, reason = "not every test program needs it")]
pub(crate) struct Full {
    pub(crate) addr: SocketAddr,
    listener: TcpListener,
    queued: Vec<TcpStream>,
}

#[allow(dead_code, reason = "not every test program needs it")]
impl Full {
    pub(crate) fn new() -> Full {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // SAFETY: no pointers are passed. It replaces the backlog with the shortest.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let addr = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) =
            TcpStream::connect_timeout(&addr, std::time::Duration::from_millis(200))
        {
            queued.push(stream);
        }
        Full { addr, listener, queued }
    }

    /// Empties the queue, for those who have been waiting.
    #[allow(dead_code, reason = "not every test makes room again")]
    pub(crate) fn accept_all(self) -> TcpListener {
        for _ in &self.queued {
            self.listener.accept().unwrap();
        }
        self.listener
    }
}

//! How one learns of a child's end.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::sync::Arc;

use crate::event::Event;
use crate::io::Adapter;
use crate::rt;

/// Something to wait for until a child has ended. It does not take the child's status.
pub(super) enum Watch {
    /// Readable when the process has ended.
    Pidfd(Adapter<OwnedFd>),
    /// A thread waits and tells. Without a descriptor to spare, or on a kernel without pidfds.
    Thread(Arc<Event>),
}

impl Watch {
    /// # Errors
    /// If there is neither a descriptor nor a thread to be had.
    pub(super) fn new(pid: u32) -> io::Result<Watch> {
        match rt::pidfd_open(pid) {
            Ok(fd) => Ok(Watch::Pidfd(Adapter::from_nonblocking(fd))),
            Err(_) => Watch::by_thread(pid),
        }
    }

    fn by_thread(pid: u32) -> io::Result<Watch> {
        let ended = Arc::new(Event::new());
        let tell = ended.clone();
        // Of its own, and not one of the pool: it may wait for very long, and it is hardly ever needed.
        std::thread::Builder::new().name("child's end".into()).stack_size(64 * 1024).spawn(
            move || {
                rt::wait_for_exit(pid);
                tell.set();
            },
        )?;
        Ok(Watch::Thread(ended))
    }

    /// Waits for the child's end and takes its status.
    #[track_caller]
    pub(super) fn wait(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        if let Watch::Pidfd(fd) = self {
            let ended = fd.read_with(|_| match child.try_wait()? {
                Some(status) => Ok(status),
                None => Err(io::ErrorKind::WouldBlock.into()),
            });
            match ended {
                // The hub has no descriptors left for its epoll instance, or the kernel has no memory for more.
                Err(error) if is_shortage(&error) => *self = Watch::by_thread(child.id())?,
                ended => return ended,
            }
        }
        if let Watch::Thread(ended) = self {
            ended.wait();
        }
        // Without waiting, since it has ended; or with, if somebody has stopped our thread from finding out.
        child.wait()
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOSPC))
}

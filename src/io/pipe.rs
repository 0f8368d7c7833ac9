//! Pipes, and what has the shape of one end of a pipe.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::rt::syscall;

/// Defines a type that is one end of a pipe. It reads or writes, and it converts to a descriptor.
macro_rules! pipe_end {
    ($(#[$doc:meta])* $name:ident, $direction:ident) => {
        $(#[$doc])*
        pub struct $name($crate::io::Plain<std::os::fd::OwnedFd>);

        $crate::io::pipe::pipe_end!(@$direction $name);

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name)).field(self.0.get_ref()).finish()
            }
        }

        impl std::os::fd::AsFd for $name {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(self.0.get_ref())
            }
        }

        impl std::os::fd::AsRawFd for $name {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(self.0.get_ref())
            }
        }

        impl std::os::fd::IntoRawFd for $name {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::IntoRawFd::into_raw_fd(self.0.into_inner())
            }
        }

        impl From<std::os::fd::OwnedFd> for $name {
            fn from(fd: std::os::fd::OwnedFd) -> $name {
                $name($crate::io::Plain::new(fd))
            }
        }

        /// Gives the descriptor away in the mode in which it came: blocking, unless somebody has changed it.
        impl From<$name> for std::os::fd::OwnedFd {
            fn from(end: $name) -> std::os::fd::OwnedFd {
                end.0.into_inner()
            }
        }

        /// For the standard streams of a child, which gets a plain blocking descriptor.
        impl From<$name> for std::process::Stdio {
            fn from(end: $name) -> std::process::Stdio {
                end.0.into_inner().into()
            }
        }
    };
    (@read $name:ident) => {
        impl std::io::Read for &$name {
            #[track_caller]
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.0.read(&mut [std::io::IoSliceMut::new(buf)])
            }

            #[track_caller]
            fn read_vectored(
                &mut self,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                self.0.read(bufs)
            }
        }

        impl std::io::Read for $name {
            #[track_caller]
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                (&*self).read(buf)
            }

            #[track_caller]
            fn read_vectored(
                &mut self,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                (&*self).read_vectored(bufs)
            }
        }
    };
    (@write $name:ident) => {
        impl std::io::Write for &$name {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                self.0.write(&[std::io::IoSlice::new(buf)])
            }

            #[track_caller]
            fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                self.0.write(bufs)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        impl std::io::Write for $name {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                (&*self).write(buf)
            }

            #[track_caller]
            fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                (&*self).write_vectored(bufs)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}
pub(crate) use pipe_end;

pipe_end! {
    /// The end of a [`pipe`] from which one reads: `std::io::PipeReader`, but waiting lets other coroutines run.
    ///
    /// A read returns what there is, and 0 when everything has been read and all writers are closed.
    PipeReader, read
}

pipe_end! {
    /// The end of a [`pipe`] to which one writes: `std::io::PipeWriter`, but waiting lets other coroutines run.
    ///
    /// A write returns when all of its data is in the pipe. Up to 4096 bytes go in at once or not at all, with
    /// nothing of another writer's in between. Without readers it fails with `BrokenPipe`.
    PipeWriter, write
}

/// Makes a pipe: what is written to the one end is read from the other. (`std::io::pipe`, which came with
/// Rust 1.87.)
///
/// Both ends are closed in programs that are executed, unless they are handed over as
/// [`Stdio`](crate::process::Stdio). Their descriptors are in blocking mode, always.
///
/// # Errors
/// What pipe2(2) says: `EMFILE` when there are too many descriptors.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
///
/// let (mut reader, mut writer) = greenling::io::pipe()?;
/// let consumer = greenling::spawn(move || {
///     let mut text = String::new();
///     reader.read_to_string(&mut text).map(|_| text) // waits, others run
/// });
/// writer.write_all(b"through the pipe")?;
/// drop(writer);
/// assert_eq!(consumer.join().unwrap()?, "through the pipe");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors.
    syscall!(pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
    // SAFETY: the kernel has just given them to us; nobody else owns them.
    let [reader, writer] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((reader.into(), writer.into()))
}

impl PipeReader {
    /// Another handle of the same end. What one reads the other does not get.
    ///
    /// # Errors
    /// What fcntl(2) says: `EMFILE` when there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<PipeReader> {
        self.0.get_ref().try_clone().map(PipeReader::from)
    }
}

impl PipeWriter {
    /// Another handle of the same end. The reader comes to the end when all of them are closed.
    ///
    /// # Errors
    /// What fcntl(2) says: `EMFILE` when there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<PipeWriter> {
        self.0.get_ref().try_clone().map(PipeWriter::from)
    }
}

/// Builds what std has on pipes beyond what its ends of children's pipes have.
macro_rules! from_raw {
    ($($name:ident)*) => {$(
        impl FromRawFd for $name {
            unsafe fn from_raw_fd(fd: std::os::fd::RawFd) -> $name {
                // SAFETY: the caller gives up an open descriptor that nobody else owns.
                unsafe { OwnedFd::from_raw_fd(fd) }.into()
            }
        }
    )*};
}

from_raw! { PipeReader PipeWriter }

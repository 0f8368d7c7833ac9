//! [`File`] and [`OpenOptions`].

use std::fmt;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::{FileTimes, Metadata, Permissions, blocking};
use crate::io::{Adapter, nowait};
use crate::rt::{Reason, WaitQueue};
use crate::time::shield;

/// The most that is read or written by one operation of a thread of the pool, which needs memory for it.
const MOST: usize = 1 << 20;

/// An open file: `std::fs::File`, but waiting for the disk lets other coroutines run.
///
/// What is not on a disk (a FIFO, a terminal, a device) is waited for without a thread.
///
/// It has std's [`FileExt`] for reading and writing at a position, and [`is_terminal`](Self::is_terminal) as a method of
/// its own.
///
/// # Examples
/// ```
/// use std::io::Read;
/// use greenling::fs::File;
///
/// let mut text = String::new();
/// File::open("/etc/passwd")?.read_to_string(&mut text)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct File {
    adapter: Adapter<Shared>,
    /// Whether it is waited for by epoll. Found out when it has to wait for the first time.
    waits: OnceLock<bool>,
}

/// A file that threads of the pool may be working on.
#[derive(Clone)]
struct Shared {
    file: Arc<fs::File>,
    /// How many of them are.
    at_work: Arc<WaitQueue<usize>>,
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// One operation that a thread of the pool does, or is about to do.
struct Work {
    shared: Option<Shared>,
}

impl Work {
    fn new(shared: &Shared) -> Work {
        shared.at_work.update_and_wake_all(|count| *count += 1);
        Work { shared: Some(shared.clone()) }
    }

    fn file(&self) -> &fs::File {
        &self.shared.as_ref().expect("it is there until the end").file
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Some(Shared { file, at_work }) = self.shared.take() else { return };
        // First: whoever sees that nobody is at work may have the file for itself.
        drop(file);
        at_work.update_and_wake_all(|count| *count -= 1);
    }
}

impl File {
    fn from_std(file: fs::File) -> File {
        let shared = Shared { file: Arc::new(file), at_work: Arc::new(WaitQueue::new(0)) };
        File { adapter: Adapter::from_nonblocking(shared), waits: OnceLock::new() }
    }

    fn shared(&self) -> &Shared {
        self.adapter.get_ref()
    }

    fn into_std(self) -> fs::File {
        let shared = self.adapter.into_inner().expect("its mode was not changed");
        let Shared { file, at_work } = shared;
        let file = match Arc::try_unwrap(file) {
            Ok(file) => return file,
            Err(file) => file,
        };
        // An operation that nobody waits for any more is under way.
        if let Ok(clone) = file.try_clone() {
            return clone;
        }
        // No descriptor to be had: it has to be this one.
        let _ = shield(|| {
            let idle = |count: &mut usize| (*count == 0).then_some(());
            at_work.wait_until(Reason::Wait("a file's last operation"), None, idle)
        });
        match Arc::try_unwrap(file) {
            Ok(file) => file,
            Err(_) => unreachable!("nobody is at work, and nobody else can begin"),
        }
    }

    /// Does it on a thread of the pool.
    #[track_caller]
    fn work<T: Send + 'static>(
        &self,
        f: impl FnOnce(&fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let work = Work::new(self.shared());
        blocking(move || f(work.file()))
    }

    /// Whether epoll can wait for it: it is neither a regular file nor a directory nor a disk.
    fn waits(&self) -> io::Result<bool> {
        if let Some(&waits) = self.waits.get() {
            return Ok(waits);
        }
        let kind = nowait::kind(self.as_fd())?;
        let waits = !matches!(kind, libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK);
        Ok(*self.waits.get_or_init(|| waits))
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// What open(2) says: `NotFound`, `PermissionDenied`, …
    #[track_caller]
    pub fn open<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().read(true).open(path)
    }

    /// Opens a file for writing; makes it, or empties it.
    ///
    /// # Errors
    /// What open(2) says.
    #[track_caller]
    pub fn create<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    /// Makes a new file, for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one, and what else open(2) says.
    #[track_caller]
    pub fn create_new<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// The same as [`OpenOptions::new`].
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Returns when all data and what is known of the file are on the disk.
    ///
    /// # Errors
    /// What fsync(2) says.
    #[track_caller]
    pub fn sync_all(&self) -> io::Result<()> {
        self.work(fs::File::sync_all)
    }

    /// Returns when all data are on the disk.
    ///
    /// # Errors
    /// What fdatasync(2) says.
    #[track_caller]
    pub fn sync_data(&self) -> io::Result<()> {
        self.work(fs::File::sync_data)
    }

    /// Sets the file's length: cuts it, or fills it up with zeros. The position stays.
    ///
    /// # Errors
    /// What ftruncate(2) says.
    #[track_caller]
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.work(move |file| file.set_len(size))
    }

    /// What is known of the file.
    ///
    /// # Errors
    /// What fstat(2) says.
    #[track_caller]
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.work(fs::File::metadata)
    }

    /// Another handle of the same file, with the same position.
    ///
    /// # Errors
    /// What fcntl(2) says: `EMFILE` when there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<File> {
        self.shared().file.try_clone().map(File::from_std)
    }

    /// Changes the permissions.
    ///
    /// # Errors
    /// What fchmod(2) says.
    #[track_caller]
    pub fn set_permissions(&self, perm: Permissions) -> io::Result<()> {
        self.work(move |file| file.set_permissions(perm))
    }

    /// Changes the times of the last access and the last change.
    ///
    /// # Errors
    /// What futimens(2) says.
    #[track_caller]
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        self.work(move |file| file.set_times(times))
    }

    /// Changes the time of the last change.
    ///
    /// # Errors
    /// What futimens(2) says.
    #[track_caller]
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.set_times(FileTimes::new().set_modified(time))
    }

    /// Whether it is a terminal: [`IsTerminal`](io::IsTerminal), which only std may implement.
    pub fn is_terminal(&self) -> bool {
        io::IsTerminal::is_terminal(&self.as_fd())
    }

    #[track_caller]
    fn read_in_pool(&self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len().min(MOST);
        let bytes = self.work(move |mut file| {
            let mut bytes = vec![0; most];
            retry(|| file.read(&mut bytes)).map(|count| {
                bytes.truncate(count);
                bytes
            })
        })?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

/// Tries again after `EINTR`: which signal it was is nobody's business on a thread of the pool.
fn retry<T>(mut op: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match op() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A file without its own `read_to_end`: for what has no end that could be known before.
struct ByRead<'a>(&'a File);

impl Read for ByRead<'_> {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Read for &File {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.waits()? {
            let bufs = &mut [IoSliceMut::new(buf)];
            return self.adapter.read_with(|file| nowait::read(file.as_fd(), bufs));
        }
        let cached = self
            .adapter
            .attempt(|file| nowait::read_cached(file.as_fd(), &mut [IoSliceMut::new(buf)]));
        match cached {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.read_in_pool(buf),
            result => result,
        }
    }

    #[track_caller]
    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        if self.waits()? {
            return ByRead(self).read_to_end(buf);
        }
        let (mut bytes, result) = self.work(|mut file| {
            let mut bytes = Vec::new();
            let result = file.read_to_end(&mut bytes);
            Ok((bytes, result))
        })?;
        if buf.is_empty() {
            *buf = bytes;
        } else {
            buf.append(&mut bytes);
        }
        result
    }

    #[track_caller]
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        if self.waits()? {
            return ByRead(self).read_to_string(buf);
        }
        let text = self.work(|mut file| {
            let mut text = String::new();
            file.read_to_string(&mut text).map(|_| text)
        })?;
        buf.push_str(&text);
        Ok(text.len())
    }
}

impl Write for &File {
    #[track_caller]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.waits()? {
            return nowait::write_all_of(&[IoSlice::new(buf)], |bufs| {
                self.adapter.write_with(|file| nowait::write(file.as_fd(), bufs))
            });
        }
        let bytes = buf[..buf.len().min(MOST)].to_vec();
        self.work(move |mut file| retry(|| file.write(&bytes)))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        // It does not wait for the disk.
        (&*self.shared().file).seek(pos)
    }
}

impl Read for File {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    #[track_caller]
    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buf)
    }

    #[track_caller]
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(buf)
    }
}

impl Write for File {
    #[track_caller]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        (&*self).seek(pos)
    }
}

impl FileExt for File {
    #[track_caller]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let most = buf.len().min(MOST);
        let bytes = self.work(move |file| {
            let mut bytes = vec![0; most];
            let count = retry(|| file.read_at(&mut bytes, offset))?;
            bytes.truncate(count);
            Ok(bytes)
        })?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    #[track_caller]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let bytes = buf[..buf.len().min(MOST)].to_vec();
        self.work(move |file| retry(|| file.write_at(&bytes, offset)))
    }
}

// As std's. The count beside the file is whole whenever it can be seen.
impl UnwindSafe for File {}
impl RefUnwindSafe for File {}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared().file.fmt(f)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared().as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.shared().file.as_raw_fd()
    }
}

impl IntoRawFd for File {
    fn into_raw_fd(self) -> RawFd {
        self.into_std().into_raw_fd()
    }
}

impl From<fs::File> for File {
    fn from(file: fs::File) -> File {
        File::from_std(file)
    }
}

/// Gives the file away. If an operation is still under way that nobody waits for any more, it is another descriptor of
/// the same file.
impl From<File> for fs::File {
    fn from(file: File) -> fs::File {
        file.into_std()
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> File {
        File::from_std(fd.into())
    }
}

impl From<File> for OwnedFd {
    fn from(file: File) -> OwnedFd {
        file.into_std().into()
    }
}

/// For the standard streams of a child.
impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        file.into_std().into()
    }
}

/// How a file is to be opened: `std::fs::OpenOptions`. It has std's [`OpenOptionsExt`].
///
/// # Examples
/// ```
/// use greenling::fs::OpenOptions;
///
/// let log = OpenOptions::new().append(true).create(true).open("/dev/null")?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions(fs::OpenOptions);

/// Builds the setters.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $value:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(&mut self, $value: bool) -> &mut OpenOptions {
            self.0.$name($value);
            self
        }
    )*};
}

impl OpenOptions {
    /// No options are set.
    #[allow(clippy::new_without_default, reason = "std's has no Default either")]
    #[must_use]
    pub fn new() -> OpenOptions {
        OpenOptions(fs::OpenOptions::new())
    }

    setters! {
        /// For reading.
        read: read;
        /// For writing.
        write: write;
        /// For writing at the end, wherever that is at that moment.
        append: append;
        /// Empties the file.
        truncate: truncate;
        /// Makes the file if there is none.
        create: create;
        /// Makes the file; it must not be there.
        create_new: create_new;
    }

    /// Opens the file.
    ///
    /// # Errors
    /// What open(2) says; `InvalidInput` for options that do not go together.
    #[track_caller]
    pub fn open<P: AsRef<Path>>(&self, path: P) -> io::Result<File> {
        let (options, path) = (self.0.clone(), path.as_ref().to_owned());
        blocking(move || options.open(path)).map(File::from_std)
    }
}

impl OpenOptionsExt for OpenOptions {
    fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        self.0.mode(mode);
        self
    }

    fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.0.custom_flags(flags);
        self
    }
}

/// Nothing but the conversion that std has, too.
mod raw {
    #![allow(unsafe_code)]
    use super::{File, FromRawFd, OwnedFd, RawFd};

    impl FromRawFd for File {
        unsafe fn from_raw_fd(fd: RawFd) -> File {
            // SAFETY: the caller gives up an open descriptor that nobody else owns.
            unsafe { OwnedFd::from_raw_fd(fd) }.into()
        }
    }
}

//! Directories.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, DirEntryExt};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{FileType, Metadata, blocking};

/// How many entries are fetched at once.
const BATCH: usize = 128;

/// The entries of a directory, in no order, without `.` and `..`.
///
/// # Errors
/// What opendir(3) says; what readdir(3) says comes as an item.
///
/// # Examples
/// ```
/// for entry in greenling::fs::read_dir("/")? {
///     let entry = entry?;
///     let _ = (entry.file_name(), entry.file_type()?.is_dir());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn read_dir<P: AsRef<Path>>(path: P) -> io::Result<ReadDir> {
    let path = path.as_ref().to_owned();
    let entries = blocking(move || fs::read_dir(path))?;
    let source = Source { entries, fetched: VecDeque::new() };
    Ok(ReadDir { source: Arc::new(Mutex::new(source)), here: VecDeque::new() })
}

/// An iterator over the entries of a directory. See [`read_dir`].
pub struct ReadDir {
    /// Locked by a thread of the pool while it fetches some.
    source: Arc<Mutex<Source>>,
    here: VecDeque<io::Result<DirEntry>>,
}

struct Source {
    entries: fs::ReadDir,
    /// What nobody has taken yet: they stay here if whoever asked for them has been interrupted.
    fetched: VecDeque<io::Result<DirEntry>>,
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    #[track_caller]
    fn next(&mut self) -> Option<io::Result<DirEntry>> {
        if let Some(entry) = self.here.pop_front() {
            return Some(entry);
        }
        let source = self.source.clone();
        let fetch = move || {
            let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
            if source.fetched.is_empty() {
                let some = source.entries.by_ref().take(BATCH);
                let some: VecDeque<_> =
                    some.map(|entry| entry.map(|entry| DirEntry(Arc::new(entry)))).collect();
                source.fetched = some;
            }
            Ok(())
        };
        if let Err(error) = blocking(fetch) {
            return Some(Err(error));
        }
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        self.here = std::mem::take(&mut source.fetched);
        drop(source);
        self.here.pop_front()
    }
}

// As std's. An entry is taken out whole or not at all.
impl UnwindSafe for ReadDir {}
impl RefUnwindSafe for ReadDir {}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir").finish_non_exhaustive()
    }
}

/// An entry of a directory: `std::fs::DirEntry`. It has std's [`DirEntryExt`].
pub struct DirEntry(Arc<fs::DirEntry>);

impl DirEntry {
    /// The directory's path, as given to [`read_dir`], and the entry's name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path()
    }

    /// What is known of it; does not follow a symbolic link.
    ///
    /// # Errors
    /// What stat(2) says.
    #[track_caller]
    pub fn metadata(&self) -> io::Result<Metadata> {
        let entry = self.0.clone();
        blocking(move || entry.metadata())
    }

    /// What it is. Most file systems have told that already.
    ///
    /// # Errors
    /// What stat(2) says.
    #[track_caller]
    pub fn file_type(&self) -> io::Result<FileType> {
        self.0.file_type()
    }

    /// The entry's name.
    #[must_use]
    pub fn file_name(&self) -> OsString {
        self.0.file_name()
    }
}

impl DirEntryExt for DirEntry {
    fn ino(&self) -> u64 {
        self.0.ino()
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a directory is to be made: `std::fs::DirBuilder`. It has std's [`DirBuilderExt`].
#[derive(Debug)]
pub struct DirBuilder {
    recursive: bool,
    mode: Option<u32>,
}

impl DirBuilder {
    /// The directory itself only, with the mode 0777, less the umask.
    #[allow(clippy::new_without_default, reason = "std's has no Default either")]
    #[must_use]
    pub fn new() -> DirBuilder {
        DirBuilder { recursive: false, mode: None }
    }

    /// Whether parents are made as well. A directory that exists already is no error then.
    pub fn recursive(&mut self, recursive: bool) -> &mut DirBuilder {
        self.recursive = recursive;
        self
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// What mkdir(2) says.
    #[track_caller]
    pub fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(self.recursive);
        if let Some(mode) = self.mode {
            builder.mode(mode);
        }
        let path = path.as_ref().to_owned();
        blocking(move || builder.create(path))
    }
}

impl DirBuilderExt for DirBuilder {
    fn mode(&mut self, mode: u32) -> &mut DirBuilder {
        self.mode = Some(mode);
        self
    }
}

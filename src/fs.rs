//! Files and directories: `std::fs`, through the common pool of threads.
//!
//! The kernel cannot tell when a file on a disk would be ready; so what may have to wait for a disk is done by a thread of
//! the pool of [`threadpool`](crate::threadpool), while other coroutines run. A read that the page cache can answer is
//! done in place.
//!
//! ```
//! use std::io::{Read, Write};
//! use greenling::fs::{self, File};
//!
//! # let dir = std::env::temp_dir().join(format!("greenling-doc-fs-{}", std::process::id()));
//! # let _ = std::fs::remove_dir_all(&dir);
//! fs::create_dir_all(&dir)?;
//! let path = dir.join("greeting.txt");
//! File::create(&path)?.write_all(b"hello")?;
//! assert_eq!(fs::read_to_string(&path)?, "hello");
//! fs::remove_dir_all(&dir)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Kill and time limits
//! An operation that is interrupted goes on in its thread, on data of its own: a write may still happen, a read
//! may still move the position.
//!
//! # Limits
//! Methods of std's `Path` (`exists`, `metadata`, …) block the thread, for a moment; use the functions of this module.

use std::io;
use std::path::{Path, PathBuf};

use crate::threadpool::try_unblock;

mod dir;
mod file;
mod lock;

pub use dir::{DirBuilder, DirEntry, ReadDir, read_dir};
pub use file::{File, OpenOptions};
pub use lock::TryLockError;
pub use std::fs::{FileTimes, FileType, Metadata, Permissions};

/// Does it on a thread of the pool.
#[track_caller]
fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    try_unblock(f)?
}

/// Builds functions that are those of std on another thread.
macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident($($path:ident: $P:ident),+ $(; $arg:ident: $T:ty)?) -> $R:ty;)*) => {$(
        $(#[$doc])*
        #[track_caller]
        pub fn $name<$($P: AsRef<Path>),+>($($path: $P),+ $(, $arg: $T)?) -> io::Result<$R> {
            $(let $path = $path.as_ref().to_owned();)+
            blocking(move || std::fs::$name($($path),+ $(, $arg)?))
        }
    )*};
}

functions! {
    /// The contents of a file.
    ///
    /// # Errors
    /// What open(2) and read(2) say; the same for the other functions, with their system calls.
    read(path: P) -> Vec<u8>;

    /// The contents of a file, as text.
    ///
    /// # Errors
    /// As for [`read`]; `InvalidData` if they are not UTF-8.
    read_to_string(path: P) -> String;

    /// Removes a file.
    ///
    /// # Errors
    /// What unlink(2) says.
    remove_file(path: P) -> ();

    /// What is known of a file or directory; follows symbolic links.
    ///
    /// # Errors
    /// What stat(2) says.
    metadata(path: P) -> Metadata;

    /// What is known of a file, a directory or a symbolic link.
    ///
    /// # Errors
    /// What lstat(2) says.
    symlink_metadata(path: P) -> Metadata;

    /// Gives a file or directory another name; replaces what has that name already.
    ///
    /// # Errors
    /// What rename(2) says: `CrossesDevices` for another file system.
    rename(from: P, to: Q) -> ();

    /// Copies a file's contents and permissions; returns the number of bytes.
    ///
    /// # Errors
    /// What open(2), read(2), write(2) and fchmod(2) say; `InvalidInput` if it is no regular file. `Interrupted`, as std's,
    /// if a signal came without `SA_RESTART`.
    copy(from: P, to: Q) -> u64;

    /// Makes another name for a file.
    ///
    /// # Errors
    /// What link(2) says.
    hard_link(original: P, link: Q) -> ();

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// What readlink(2) says: `InvalidInput` if it is no symbolic link.
    read_link(path: P) -> PathBuf;

    /// The absolute path, without symbolic links.
    ///
    /// # Errors
    /// What realpath(3) says: `NotFound` if it does not exist.
    canonicalize(path: P) -> PathBuf;

    /// Makes a directory.
    ///
    /// # Errors
    /// What mkdir(2) says.
    create_dir(path: P) -> ();

    /// Makes a directory, and its parents if need be. One that exists already is no error.
    ///
    /// # Errors
    /// As for [`create_dir`].
    create_dir_all(path: P) -> ();

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What rmdir(2) says: `DirectoryNotEmpty`.
    remove_dir(path: P) -> ();

    /// Removes a directory and all that is in it. Does not follow symbolic links.
    ///
    /// # Errors
    /// What the system calls on one of the entries say.
    remove_dir_all(path: P) -> ();

    /// Changes the permissions of a file or directory.
    ///
    /// # Errors
    /// What chmod(2) says.
    set_permissions(path: P; perm: Permissions) -> ();

    /// Whether the path leads to something; follows symbolic links.
    ///
    /// # Errors
    /// If that cannot be found out, for lack of permissions for example.
    exists(path: P) -> bool;
}

/// The older form of [`hard_link`], with a name that misleads.
///
/// # Errors
/// As for [`hard_link`].
#[deprecated(since = "0.1.0", note = "replaced by `hard_link`, or by `os::unix::fs::symlink`")]
#[track_caller]
pub fn soft_link<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    hard_link(original, link)
}

/// Writes a file with these contents, and replaces the one that is there.
///
/// # Errors
/// What open(2) and write(2) say.
#[track_caller]
pub fn write<P: AsRef<Path>, C: AsRef<[u8]>>(path: P, contents: C) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    let contents = contents.as_ref().to_vec();
    blocking(move || std::fs::write(path, contents))
}

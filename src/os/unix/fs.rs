//! What Unix has beyond [`fs`](crate::fs): `std::os::unix::fs`.
//!
//! The traits are std's own: this crate's [`File`](crate::fs::File), [`OpenOptions`](crate::fs::OpenOptions),
//! [`DirBuilder`](crate::fs::DirBuilder) and [`DirEntry`](crate::fs::DirEntry) implement them.

#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

use crate::threadpool::try_unblock;

pub use std::os::unix::fs::*;

/// Makes a symbolic link at `link` that leads to `original`.
///
/// # Errors
/// What symlink(2) says.
#[track_caller]
pub fn symlink<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    let (original, link) = (original.as_ref().to_owned(), link.as_ref().to_owned());
    try_unblock(move || std::os::unix::fs::symlink(original, link))?
}

//! What Unix systems have: `std::os::unix`.

pub mod fs;
pub mod net;
pub mod process;

pub use std::os::unix::{ffi, io};

/// What std's prelude for Unix has, but for `JoinHandleExt`: the traits that extend types, and descriptors.
pub mod prelude {
    pub use super::ffi::{OsStrExt, OsStringExt};
    pub use super::fs::{
        DirEntryExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
    };
    pub use super::io::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
    pub use super::process::{CommandExt, ExitStatusExt};
}

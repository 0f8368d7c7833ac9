//! The files below the root, and the only place that touches the disk.
//!
//! `cap_std` opens everything relative to the root's descriptor (openat2 with `RESOLVE_BENEATH`), so
//! that no symbolic link leads out of it either.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use greenling::thread::JoinHandle;
use rustix::fs::sendfile;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::cached::is_cached;
use crate::path::{UPLOAD_PREFIX, VirtualPath};

/// Runs what may wait for the disk, or compute for long, on another thread.
pub(crate) fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    greenling::threadpool::unblock(work)
}

/// A directory and what is below it.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    root: Arc<Dir>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// A device, a pipe or a socket. It can be seen and removed, but not transferred.
    Other,
}

/// What a listing says of a file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    pub(crate) mode: u32,
    pub(crate) links: u64,
    /// Device and inode.
    pub(crate) unique: (u64, u64),
}

impl Entry {
    fn new(name: &[u8], metadata: &Metadata) -> Entry {
        let kind = match metadata {
            metadata if metadata.is_file() => Kind::File,
            metadata if metadata.is_dir() => Kind::Directory,
            _ => Kind::Other,
        };
        Entry {
            name: name.to_vec(),
            kind,
            size: metadata.len(),
            modified: metadata.modified().map_or(SystemTime::UNIX_EPOCH, |time| time.into_std()),
            mode: metadata.mode() & 0o7777,
            links: metadata.nlink(),
            unique: (metadata.dev(), metadata.ino()),
        }
    }
}

impl Disk {
    pub(crate) fn open(root: &Path) -> io::Result<Disk> {
        Ok(Disk { root: Arc::new(Dir::open_ambient_dir(root, ambient_authority())?) })
    }

    fn run<T: Send + 'static>(
        &self,
        path: &VirtualPath,
        work: impl FnOnce(&Arc<Dir>, PathBuf) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (root, path) = (Arc::clone(&self.root), path.relative());
        blocking(move || work(&root, path))
    }

    /// Follows links.
    pub(crate) fn entry(&self, path: &VirtualPath) -> io::Result<Entry> {
        let name = path.name().unwrap_or(b"/").to_vec();
        self.run(path, move |root, path| Ok(Entry::new(&name, &root.metadata(path)?)))
    }

    /// What is in a directory, by name. A link is shown as what it leads to; one that leads nowhere, or
    /// out of the root, is left out.
    pub(crate) fn list(&self, path: &VirtualPath) -> io::Result<Vec<Entry>> {
        self.run(path, |root, path| {
            let dir = root.open_dir(path)?;
            let mut entries = Vec::new();
            for entry in dir.entries()? {
                let name = entry?.file_name();
                let metadata = dir.metadata(&name);
                let name = name.into_vec();
                if name.starts_with(UPLOAD_PREFIX) {
                    continue;
                }
                // One that has gone in the meantime is no error of the listing either.
                entries.extend(metadata.map(|metadata| Entry::new(&name, &metadata)));
            }
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        })
    }

    /// Says whether it is a directory that can be listed.
    pub(crate) fn check_directory(&self, path: &VirtualPath) -> io::Result<()> {
        self.run(path, |root, path| root.open_dir(path).map(drop))
    }

    pub(crate) fn open_file(&self, path: &VirtualPath, offset: u64) -> io::Result<Download> {
        self.run(path, move |root, path| {
            let mut options = OpenOptions::new();
            // Opening a pipe that nobody writes to would wait for a writer.
            options.read(true).custom_flags(libc::O_NONBLOCK);
            let file = root.open_with(path, &options)?.into_std();
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other(NOT_A_FILE));
            }
            Ok(Download { file: Arc::new(file), offset, size: metadata.len() })
        })
    }

    /// Begins an upload that replaces `path` when it is committed.
    pub(crate) fn upload(&self, path: &VirtualPath) -> io::Result<Upload> {
        let name = [UPLOAD_PREFIX, format!("{:016x}", fastrand::u64(..)).as_bytes()].concat();
        let name = path.parent().relative().join(OsString::from_vec(name));
        let begun = self.run(path, move |root, target| {
            match root.metadata(&target) {
                Ok(metadata) if !metadata.is_file() => return Err(io::Error::other(NOT_A_FILE)),
                _ => {}
            }
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            let file = root.open_with(&name, &options)?.into_std();
            let temporary = Temporary { root: Arc::clone(root), name, target, committed: false };
            Ok((file, temporary))
        });
        begun.map(|(file, temporary)| Upload::new(file, 0, Some(temporary)))
    }

    /// Begins an upload that changes `path` in place, from `offset` on, or from its end. Nothing of
    /// what has arrived is taken back when it breaks off: it is what the next attempt goes on from.
    pub(crate) fn modify(&self, path: &VirtualPath, offset: Option<u64>) -> io::Result<Upload> {
        let begun = self.run(path, move |root, path| {
            let mut options = OpenOptions::new();
            options.write(true).create(offset.is_none()).custom_flags(libc::O_NONBLOCK);
            let file = root.open_with(path, &options)?.into_std();
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other(NOT_A_FILE));
            }
            match offset {
                Some(offset) if offset > metadata.len() => {
                    Err(io::Error::other("The file is shorter than the restart position"))
                }
                Some(offset) => {
                    file.set_len(offset)?;
                    Ok((file, offset))
                }
                None => {
                    let offset = metadata.len();
                    Ok((file, offset))
                }
            }
        });
        begun.map(|(file, offset)| Upload::new(file, offset, None))
    }

    pub(crate) fn remove_file(&self, path: &VirtualPath) -> io::Result<()> {
        self.run(path, |root, path| {
            // A link to a directory is a file to be removed; the directory is not.
            if root.symlink_metadata(&path)?.is_dir() {
                return Err(io::Error::other("Is a directory; use RMD"));
            }
            root.remove_file(path)
        })
    }

    pub(crate) fn remove_directory(&self, path: &VirtualPath) -> io::Result<()> {
        self.run(path, |root, path| root.remove_dir(path))
    }

    pub(crate) fn make_directory(&self, path: &VirtualPath) -> io::Result<()> {
        self.run(path, |root, path| root.create_dir(path))
    }

    /// Whether there is something to be renamed.
    pub(crate) fn check_exists(&self, path: &VirtualPath) -> io::Result<()> {
        self.run(path, |root, path| root.symlink_metadata(path).map(drop))
    }

    pub(crate) fn rename(&self, from: &VirtualPath, to: &VirtualPath) -> io::Result<()> {
        let to = to.relative();
        self.run(from, move |root, from| root.rename(from, root, to))
    }
}

const NOT_A_FILE: &str = "Not a plain file";

/// A file that is being read.
#[derive(Debug)]
pub(crate) struct Download {
    file: Arc<File>,
    offset: u64,
    pub(crate) size: u64,
}

impl Download {
    /// Fills `buffer` as far as one read goes; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        // What is in the page cache comes at once, without a detour to another thread.
        let slice = &mut [IoSliceMut::new(buffer)];
        let n = match preadv2(&self.file, slice, self.offset, ReadWriteFlags::NOWAIT) {
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {
                let (file, offset) = (Arc::clone(&self.file), self.offset);
                let mut moved = std::mem::take(buffer);
                let n;
                (n, *buffer) = blocking(move || (file.read_at(&mut moved, offset), moved));
                n?
            }
            Err(error) => return Err(error.into()),
        };
        self.offset += n as u64;
        Ok(n)
    }

    /// Sends the next `most` bytes straight from the page cache, as far as the socket takes them, which must be
    /// non-blocking. `None` if they are not there, or at the end; [`read`](Self::read) knows what to do then.
    pub(crate) fn send(&mut self, socket: impl AsFd, most: usize) -> Option<io::Result<usize>> {
        let left = self.size.saturating_sub(self.offset);
        let length = left.min(most as u64);
        if is_cached(&self.file, self.offset, length) != Some(true) {
            return None;
        }
        // It moves the offset on.
        match sendfile(socket, &self.file, Some(&mut self.offset), length as usize) {
            Ok(0) => None,
            Ok(n) => Some(Ok(n)),
            Err(Errno::INVAL | Errno::NOSYS) => None,
            Err(error) => Some(Err(error.into())),
        }
    }
}

/// A file that is being written. One piece is on its way to the disk while the next one comes.
#[derive(Debug)]
pub(crate) struct Upload {
    file: Arc<File>,
    offset: u64,
    temporary: Option<Temporary>,
    /// What is on its way, and its buffer.
    writing: Option<JoinHandle<(io::Result<()>, Vec<u8>)>>,
}

impl Upload {
    fn new(file: File, offset: u64, temporary: Option<Temporary>) -> Upload {
        Upload { file: Arc::new(file), offset, temporary, writing: None }
    }

    /// Whether a piece is still on its way, so that another one would have to wait.
    pub(crate) fn is_busy(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| !writing.is_finished())
    }

    /// Begins to write the first `n` bytes of `buffer`, and leaves another buffer there, of any length. An
    /// error may be that of the piece before.
    pub(crate) fn write(&mut self, buffer: &mut Vec<u8>, n: usize) -> io::Result<()> {
        let spare = self.flush()?;
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        let full = std::mem::replace(buffer, spare);
        let write = move || blocking(move || (file.write_all_at(&full[..n], offset), full));
        self.writing = Some(greenling::thread::Builder::new().spawn(write)?);
        self.offset += n as u64;
        Ok(())
    }

    /// Waits until all is written; gives the buffer of that.
    pub(crate) fn flush(&mut self) -> io::Result<Vec<u8>> {
        let Some(writing) = self.writing.take() else { return Ok(Vec::new()) };
        let broken = |_| io::Error::other("the write has panicked");
        let (result, buffer) = writing.join().map_err(broken)?;
        result.map(|()| buffer)
    }

    /// Makes what was written the file that the client named.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        self.flush()?;
        match self.temporary.take() {
            Some(temporary) => blocking(move || temporary.commit()),
            None => Ok(()),
        }
    }
}

/// Removes an upload that is never committed.
#[derive(Debug)]
struct Temporary {
    root: Arc<Dir>,
    name: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl Temporary {
    fn commit(mut self) -> io::Result<()> {
        self.root.rename(&self.name, &self.root, &self.target)?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.committed {
            let _ = self.root.remove_file(&self.name);
        }
    }
}

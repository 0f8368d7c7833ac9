//! The commands about files that need no data connection.

use std::io;
use std::time::SystemTime;

use crate::disk::{Entry, Kind};
use crate::listing;
use crate::path::VirtualPath;
use crate::session::Session;

impl Session {
    /// The path that an argument means, or the reply that it means none.
    pub(crate) fn path(&self, argument: &[u8]) -> io::Result<Option<VirtualPath>> {
        match self.directory.join(argument) {
            Ok(path) => Ok(Some(path)),
            Err(_) => self.reply(553, "That name is not allowed.").map(|()| None),
        }
    }

    /// Replies for an operation that has failed.
    pub(crate) fn refuse(&self, error: &io::Error) -> io::Result<()> {
        let code = if is_full(error) { 452 } else { 550 };
        self.reply(code, describe(error))
    }

    fn done(&self, result: io::Result<()>, text: &str) -> io::Result<()> {
        match result {
            Ok(()) => self.reply(250, text),
            Err(error) => self.refuse(&error),
        }
    }

    fn entry(&self, argument: &[u8]) -> io::Result<Option<(VirtualPath, Entry)>> {
        let Some(path) = self.path(argument)? else { return Ok(None) };
        match self.server.disk.entry(&path) {
            Ok(entry) => Ok(Some((path, entry))),
            Err(error) => self.refuse(&error).map(|()| None),
        }
    }

    pub(crate) fn print_directory(&self) -> io::Result<()> {
        let quoted = self.directory.quoted();
        self.reply(257, [&quoted[..], b" is the current directory."].concat())
    }

    pub(crate) fn change_directory(&mut self, argument: &[u8]) -> io::Result<()> {
        let Some(path) = self.path(argument)? else { return Ok(()) };
        let result = self.server.disk.check_directory(&path);
        if result.is_ok() {
            self.directory = path;
        }
        self.done(result, "Directory changed.")
    }

    pub(crate) fn make_directory(&self, argument: &[u8]) -> io::Result<()> {
        let Some(path) = self.path(argument)? else { return Ok(()) };
        match self.server.disk.make_directory(&path) {
            Ok(()) => self.reply(257, [&path.quoted()[..], b" created."].concat()),
            Err(error) => self.refuse(&error),
        }
    }

    pub(crate) fn remove_directory(&self, argument: &[u8]) -> io::Result<()> {
        let Some(path) = self.path(argument)? else { return Ok(()) };
        self.done(self.server.disk.remove_directory(&path), "Directory removed.")
    }

    pub(crate) fn delete(&self, argument: &[u8]) -> io::Result<()> {
        let Some(path) = self.path(argument)? else { return Ok(()) };
        self.done(self.server.disk.remove_file(&path), "File deleted.")
    }

    pub(crate) fn rename_from(&mut self, argument: &[u8]) -> io::Result<()> {
        let Some(path) = self.path(argument)? else { return Ok(()) };
        match self.server.disk.check_exists(&path) {
            Ok(()) => {
                self.rename_from = Some(path);
                self.reply(350, "And its new name?")
            }
            Err(error) => self.refuse(&error),
        }
    }

    pub(crate) fn rename_to(&self, from: Option<VirtualPath>, argument: &[u8]) -> io::Result<()> {
        let Some(from) = from else { return self.reply(503, "RNFR first.") };
        let Some(to) = self.path(argument)? else { return Ok(()) };
        self.done(self.server.disk.rename(&from, &to), "Renamed.")
    }

    pub(crate) fn size(&self, argument: &[u8]) -> io::Result<()> {
        if self.ascii {
            // The whole file would have to be read to count its lines.
            return self.reply(550, "SIZE is for TYPE I only.");
        }
        let Some((_, entry)) = self.entry(argument)? else { return Ok(()) };
        match entry.kind {
            Kind::File => self.reply(213, entry.size.to_string()),
            _ => self.reply(550, "Not a plain file."),
        }
    }

    pub(crate) fn modified(&self, argument: &[u8]) -> io::Result<()> {
        let Some((_, entry)) = self.entry(argument)? else { return Ok(()) };
        match entry.kind {
            Kind::File => self.reply(213, listing::time_val(entry.modified)),
            _ => self.reply(550, "Not a plain file."),
        }
    }

    pub(crate) fn machine_entry(&self, argument: &[u8]) -> io::Result<()> {
        let Some((path, entry)) = self.entry(argument)? else { return Ok(()) };
        let mut line = Vec::new();
        self.facts.line(&entry, listing::type_of(&entry), self.writable(), &mut line);
        line.extend_from_slice(&path.to_bytes());
        self.control.reply_lines(250, "Listing:", [line], "End.")
    }

    /// `STAT path`: a listing without a data connection.
    pub(crate) fn status_of(&self, argument: &[u8]) -> io::Result<()> {
        let Some((path, entry)) = self.entry(argument)? else { return Ok(()) };
        let entries = match entry.kind {
            Kind::Directory => self.server.disk.list(&path),
            _ => Ok(vec![entry]),
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.refuse(&error),
        };
        let now = SystemTime::now();
        let lines = entries.iter().map(|entry| {
            let mut line = Vec::new();
            listing::long(entry, now, &mut line);
            line.truncate(line.len() - b"\r\n".len());
            line
        });
        self.control.reply_lines(213, "Status:", lines, "End.")
    }
}

/// Disk, quota or the greatest size of a file is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG))
}

/// What a client is told of an error. It tells nothing of the world outside the root.
pub(crate) fn describe(error: &io::Error) -> String {
    match (error.kind(), error.raw_os_error()) {
        _ if is_full(error) => "No space left.".into(),
        (io::ErrorKind::NotFound, _) => "No such file or directory.".into(),
        (io::ErrorKind::PermissionDenied, _) => "Permission denied.".into(),
        (io::ErrorKind::AlreadyExists, _) => "It exists already.".into(),
        (io::ErrorKind::NotADirectory, _) => "Not a directory.".into(),
        (io::ErrorKind::IsADirectory, _) => "Is a directory.".into(),
        (io::ErrorKind::DirectoryNotEmpty, _) => "The directory is not empty.".into(),
        (io::ErrorKind::Other, None) => format!("{error}."),
        (kind, _) => format!("{kind}."),
    }
}

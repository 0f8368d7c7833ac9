//! What `LIST`, `NLST`, `MLSD` and `MLST` say of files.

use std::io::Write;
use std::time::SystemTime;

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use crate::disk::{Entry, Kind};

const RECENT: &[BorrowedFormatItem<'_>] =
    format_description!("[month repr:short] [day padding:space] [hour]:[minute]");
const OLD: &[BorrowedFormatItem<'_>] =
    format_description!("[month repr:short] [day padding:space]  [year]");
/// RFC 3659's `time-val`, always in UTC.
const TIME_VAL: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day][hour][minute][second]");

/// How `ls -l` shows it, which is what clients have learnt to read. Times are in UTC.
pub(crate) fn long(entry: &Entry, now: SystemTime, out: &mut Vec<u8>) {
    let kind = match entry.kind {
        Kind::Directory => 'd',
        Kind::File => '-',
        Kind::Other => 's',
    };
    let mut mode = [b'-'; 9];
    for (bit, letter) in b"rwxrwxrwx".iter().enumerate() {
        if entry.mode & (0o400 >> bit) != 0 {
            mode[bit] = *letter;
        }
    }
    let mode = String::from_utf8_lossy(&mode);
    let modified = utc(entry.modified);
    let age = utc(now) - modified;
    let recent = (Duration::days(-1)..Duration::days(180)).contains(&age);
    let modified = modified.format(if recent { RECENT } else { OLD }).unwrap_or_default();
    let (links, size) = (entry.links, entry.size);
    let _ = write!(out, "{kind}{mode} {links:>3} ftp      ftp      {size:>12} {modified} ");
    name(entry, out);
}

/// The name alone.
pub(crate) fn short(entry: &Entry, out: &mut Vec<u8>) {
    name(entry, out);
}

/// A name with a line break would be two lines.
fn name(entry: &Entry, out: &mut Vec<u8>) {
    let printable = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b'?' } else { *byte };
    out.extend(entry.name.iter().map(printable));
    out.extend_from_slice(b"\r\n");
}

/// The facts of RFC 3659 that a client wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts([bool; FACTS.len()]);

const FACTS: [&str; 6] = ["type", "size", "modify", "perm", "unique", "UNIX.mode"];

impl Facts {
    pub(crate) const ALL: Facts = Facts([true; FACTS.len()]);

    /// Those of a `;`-separated list that exist.
    pub(crate) fn parse(list: &str) -> Facts {
        let wanted: Vec<_> = list.split(';').map(str::trim).collect();
        Facts(FACTS.map(|fact| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(fact))))
    }

    /// As `OPTS MLST` confirms them.
    pub(crate) fn names(self) -> String {
        FACTS.iter().zip(self.0).filter(|(_, on)| *on).map(|(fact, _)| format!("{fact};")).collect()
    }

    /// As `FEAT` offers them: with a star at each that is on.
    pub(crate) fn feature(self) -> String {
        let star = |on| if on { "*" } else { "" };
        FACTS.iter().zip(self.0).map(|(fact, on)| format!("{fact}{};", star(on))).collect()
    }

    /// One line of `MLSD`, without its end.
    pub(crate) fn line(self, entry: &Entry, type_: &str, writable: bool, out: &mut Vec<u8>) {
        let (device, inode) = entry.unique;
        for fact in FACTS.iter().zip(self.0).filter(|(_, on)| *on).map(|(fact, _)| *fact) {
            let _ = match fact {
                "type" => write!(out, "type={type_};"),
                "size" if entry.kind == Kind::File => write!(out, "size={};", entry.size),
                "modify" => write!(out, "modify={};", time_val(entry.modified)),
                "perm" => write!(out, "perm={};", permissions(entry.kind, writable)),
                "unique" => write!(out, "unique={device:x}g{inode:x};"),
                "UNIX.mode" => write!(out, "UNIX.mode={:04o};", entry.mode),
                _ => Ok(()),
            };
        }
        out.push(b' ');
    }
}

/// The `type` of an entry within a listing.
pub(crate) fn type_of(entry: &Entry) -> &'static str {
    match entry.kind {
        Kind::File => "file",
        Kind::Directory => "dir",
        Kind::Other => "OS.unix=special",
    }
}

/// A whole line of `MLSD`.
pub(crate) fn machine(facts: Facts, entry: &Entry, type_: &str, writable: bool, out: &mut Vec<u8>) {
    facts.line(entry, type_, writable, out);
    name(entry, out);
}

fn permissions(kind: Kind, writable: bool) -> &'static str {
    match (kind, writable) {
        (Kind::Directory, true) => "cdeflmp",
        (Kind::Directory, false) => "el",
        (Kind::File, true) => "adfrw",
        (Kind::File, false) => "r",
        (Kind::Other, true) => "df",
        (Kind::Other, false) => "",
    }
}

/// A point in time as `MDTM` says it.
pub(crate) fn time_val(time: SystemTime) -> String {
    utc(time).format(TIME_VAL).unwrap_or_default()
}

/// Files may claim to be of years that no format has room for; those become 1970.
fn utc(time: SystemTime) -> OffsetDateTime {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).ok(),
        Err(before) => i64::try_from(before.duration().as_secs()).ok().map(|seconds| -seconds),
    };
    let time = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.filter(|time| (0..=9999).contains(&time.year())).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind, name: &[u8]) -> Entry {
        Entry {
            name: name.to_vec(),
            kind,
            size: 1234,
            modified: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000),
            mode: 0o644,
            links: 1,
            unique: (0x10, 0xff),
        }
    }

    #[test]
    fn long_lines_are_those_of_ls() {
        let entry = entry(Kind::File, b"a b");
        let at = |days: u64| entry.modified + std::time::Duration::from_secs(days * 86_400);
        let line = |now| {
            let mut out = Vec::new();
            long(&entry, now, &mut out);
            String::from_utf8(out).unwrap()
        };
        let start = "-rw-r--r--   1 ftp      ftp              1234 Nov 14 ";
        assert_eq!(line(at(1)), format!("{start}22:13 a b\r\n"));
        assert_eq!(line(at(400)), format!("{start} 2023 a b\r\n"));
    }

    #[test]
    fn facts_are_chosen_and_named() {
        let facts = Facts::parse("Size;TYPE;nonsense;");
        assert_eq!(facts.names(), "type;size;");
        assert_eq!(facts.feature(), "type*;size*;modify;perm;unique;UNIX.mode;");
        let mut out = Vec::new();
        machine(facts, &entry(Kind::File, b"x\ny"), "file", true, &mut out);
        assert_eq!(out, b"type=file;size=1234; x?y\r\n");
    }

    #[test]
    fn all_facts_in_their_formats() {
        let mut out = Vec::new();
        machine(Facts::ALL, &entry(Kind::Directory, b"d"), "dir", false, &mut out);
        let line = "type=dir;modify=20231114221320;perm=el;unique=10gff;UNIX.mode=0644; d\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), line);
    }
}

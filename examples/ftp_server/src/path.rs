//! Paths as clients see them: below a root that they cannot name a way out of.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Names that begin like this are uploads under way. Clients neither see nor reach them.
pub(crate) const UPLOAD_PREFIX: &[u8] = b".ftp-upload.";

/// An absolute path below the server's root, already free of `.` and `..`.
///
/// Names are bytes, since a file system holds names that are not UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VirtualPath(Vec<Vec<u8>>);

/// The path holds a byte that no file name may, or a name that is the server's own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadPath;

impl VirtualPath {
    /// The path that `argument` means to a client whose working directory is this one.
    ///
    /// `..` is taken away with the name before it, as text, and does nothing at the root: so a
    /// path cannot lead above the root, whatever links the directories hold.
    pub(crate) fn join(&self, argument: &[u8]) -> Result<VirtualPath, BadPath> {
        // A line break in a name would end the line of a listing or reply that names it.
        if argument.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
            return Err(BadPath);
        }
        let mut names = if argument.starts_with(b"/") { Vec::new() } else { self.0.clone() };
        for name in argument.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name if name.starts_with(UPLOAD_PREFIX) => return Err(BadPath),
                name => names.push(name.to_vec()),
            }
        }
        Ok(VirtualPath(names))
    }

    /// The directory above; the root's is the root.
    pub(crate) fn parent(&self) -> VirtualPath {
        let above = self.0.len().saturating_sub(1);
        VirtualPath(self.0[..above].to_vec())
    }

    /// The last name; the root has none.
    pub(crate) fn name(&self) -> Option<&[u8]> {
        self.0.last().map(Vec::as_slice)
    }

    /// For the operating system, relative to the root.
    pub(crate) fn relative(&self) -> PathBuf {
        match self.0.is_empty() {
            true => PathBuf::from("."),
            false => self.0.iter().map(|name| OsStr::from_bytes(name)).collect(),
        }
    }

    /// As the client writes it.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self.0.is_empty() {
            true => b"/".to_vec(),
            false => self.0.iter().flat_map(|name| [b"/", name.as_slice()].concat()).collect(),
        }
    }

    /// As a reply quotes it (RFC 959, appendix II): quotes within it are doubled.
    pub(crate) fn quoted(&self) -> Vec<u8> {
        let mut quoted = vec![b'"'];
        for byte in self.to_bytes() {
            quoted.push(byte);
            if byte == b'"' {
                quoted.push(byte);
            }
        }
        quoted.push(b'"');
        quoted
    }
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;
    use crate::fuzz;

    fn join(from: &str, argument: &str) -> String {
        let from = VirtualPath::default().join(from.as_bytes()).unwrap();
        String::from_utf8(from.join(argument.as_bytes()).unwrap().to_bytes()).unwrap()
    }

    #[test]
    fn paths_are_relative_to_the_working_directory_or_absolute() {
        assert_eq!(join("/a/b", "c"), "/a/b/c");
        assert_eq!(join("/a/b", "/c"), "/c");
        assert_eq!(join("/a/b", "./c//d/"), "/a/b/c/d");
        assert_eq!(join("/a/b", ""), "/a/b");
    }

    #[test]
    fn nothing_leads_above_the_root() {
        assert_eq!(join("/a", "../../../etc/passwd"), "/etc/passwd");
        assert_eq!(join("/", "/../.././x/../.."), "/");
        assert_eq!(join("/a/b", "..//../.."), "/");
        let relative = VirtualPath::default().join(b"/../../etc/passwd").unwrap().relative();
        assert_eq!(relative, PathBuf::from("etc/passwd"));
        assert_eq!(VirtualPath::default().relative(), PathBuf::from("."));
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let root = VirtualPath::default();
        for bad in [&b"a\0b"[..], b"a\rb", b"a\nb", b"x/.ftp-upload.1"] {
            assert_eq!(root.join(bad), Err(BadPath));
        }
        assert!(root.join(b"Gr\xfc\xdfe").is_ok(), "names need not be UTF-8");
    }

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(VirtualPath::default().join(b"a\"b").unwrap().quoted(), b"\"/a\"\"b\"");
    }

    #[test]
    fn no_walk_leads_out_of_the_root_and_each_path_is_printed_back() {
        let pieces =
            ["/", "/", ".", "..", "a", "-", "\"", "\\", "\0", "\r", "\u{fc}", ".ftp-upload."];
        let step = proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..8);
        let walks = proptest::collection::vec(step.prop_map(|step| step.concat()), 0..6);
        fuzz::check(10_000, walks, |walk| {
            let mut at = VirtualPath::default();
            for step in &walk {
                at = at.join(step.as_bytes()).unwrap_or(at);
                let relative = at.relative();
                let depth = relative.components().count();
                let is_inside = |part| matches!(part, Component::Normal(_));
                prop_assert!(relative.components().all(is_inside) || at.0.is_empty());
                prop_assert_eq!(depth, at.0.len().max(1));
                prop_assert_eq!(VirtualPath::default().join(&at.to_bytes()), Ok(at.clone()));
                prop_assert_eq!(at.parent(), at.join(b"..").unwrap());
                // The quotes of a reply can be told from those of the name.
                let quoted = String::from_utf8(at.quoted()).unwrap();
                let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                let unquoted = inner.unwrap().replace("\"\"", "\"");
                prop_assert_eq!(unquoted.into_bytes(), at.to_bytes());
            }
            Ok(())
        });
    }
}

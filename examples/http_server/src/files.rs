//! The directory that is served, and nothing outside of it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::respond::Refusal;
use crate::sys;

/// What need not be encoded in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path below the root, decoded and without empty segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    segments: Vec<Vec<u8>>,
    /// It ended with a slash, and so means a directory.
    pub(crate) is_directory: bool,
}

impl Place {
    /// Understands the path of a request.
    ///
    /// `..` is refused and not resolved: clients resolve it themselves before they ask. Names that begin with
    /// a dot are hidden, but for `.well-known` (RFC 8615).
    pub(crate) fn of(path: &str) -> Result<Place, Refusal> {
        let (mut segments, mut is_directory) = (Vec::new(), false);
        let encoded = path.strip_prefix('/').ok_or(Refusal::bad("the path is not absolute"))?;
        for segment in encoded.split('/') {
            if !is_well_encoded(segment) {
                return Err(Refusal::bad("a percent sign is not followed by two digits"));
            }
            let segment: Vec<u8> = percent_decode_str(segment).collect();
            is_directory = matches!(&segment[..], b"" | b".");
            match &segment[..] {
                _ if is_directory => {}
                b".." => return Err(Refusal::bad("the path leads upward")),
                name if name.contains(&0) => return Err(Refusal::bad("the path contains a zero")),
                name if name.contains(&b'/') => {
                    return Err(Refusal::bad("the path contains an encoded slash"));
                }
                _ => segments.push(segment),
            }
        }
        Ok(Place { segments, is_directory })
    }

    pub(crate) fn is_hidden(&self) -> bool {
        self.segments.iter().any(|segment| is_hidden(segment))
    }

    pub(crate) fn is_root(&self) -> bool {
        self.segments.is_empty()
    }

    pub(crate) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.segments.last().map_or(b"", Vec::as_slice))
    }

    /// As the target of a link or a redirection: begins with one slash, so that it never names another host.
    pub(crate) fn encoded(&self, is_directory: bool) -> String {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            path.push_str(&encode(segment));
        }
        if is_directory || path.is_empty() {
            path.push('/');
        }
        path
    }

    pub(crate) fn child(&self, name: &str) -> Place {
        let mut child = Place { segments: self.segments.clone(), is_directory: false };
        child.segments.push(name.as_bytes().to_vec());
        child
    }
}

fn is_well_encoded(segment: &str) -> bool {
    let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = segment.as_bytes();
    (0..bytes.len())
        .all(|at| bytes[at] != b'%' || digit(bytes.get(at + 1)) && digit(bytes.get(at + 2)))
}

pub(crate) fn encode(segment: &[u8]) -> String {
    percent_encode(segment, SEGMENT).to_string()
}

pub(crate) fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b".") && name != b".well-known"
}

/// The root, open.
#[derive(Debug)]
pub(crate) struct Root {
    dir: OwnedFd,
    /// The kernel has openat2(2).
    in_one_step: bool,
}

/// Something below the root.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) file: File,
    pub(crate) about: Metadata,
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Root> {
        let dir = File::open(path)?;
        if !dir.metadata()?.is_dir() {
            let message = format!("{} is not a directory", path.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
        }
        let in_one_step = sys::open_beneath(dir.as_fd(), c".").is_ok();
        Ok(Root { dir: dir.into(), in_one_step })
    }

    /// Opens a file or a directory.
    ///
    /// # Errors
    /// `NotFound` if there is none, or if it is outside, or of another kind.
    pub(crate) fn find(&self, place: &Place) -> io::Result<Found> {
        let file = if self.in_one_step { self.find_at_once(place) } else { self.walk(place) };
        let file = file.map_err(|error| match error.raw_os_error() {
            // A link that leads outside, or in a circle; a directory that is none; a name too long.
            Some(
                libc::EXDEV
                | libc::ELOOP
                | libc::ENOTDIR
                | libc::ENAMETOOLONG
                | libc::ENXIO
                | libc::ENODEV,
            ) => io::ErrorKind::NotFound.into(),
            _ => error,
        })?;
        let about = file.metadata()?;
        match about.is_file() || about.is_dir() {
            true => Ok(Found { file, about }),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn find_at_once(&self, place: &Place) -> io::Result<File> {
        let path = match place.is_root() {
            true => b".".to_vec(),
            false => place.segments.join(&b'/'),
        };
        sys::open_beneath(self.dir.as_fd(), &CString::new(path)?)
    }

    /// One step after the other, through no symlink at all.
    fn walk(&self, place: &Place) -> io::Result<File> {
        let mut at = self.dir.try_clone()?;
        for segment in &place.segments {
            at = sys::open_one(at.as_fd(), &CString::new(segment.as_slice())?)?;
        }
        Ok(at.into())
    }
}

/// What a directory contains and may be seen, sorted, with whether it is a directory.
pub(crate) fn entries(directory: &File) -> io::Result<Vec<(OsString, bool)>> {
    // The directory itself and no other that may have got its name.
    let itself = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let mut entries = Vec::new();
    for entry in fs::read_dir(itself)? {
        let entry = entry?;
        if !is_hidden(entry.file_name().as_bytes()) {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            entries.push((entry.file_name(), is_directory));
        }
    }
    // Directories first.
    entries.sort_by(|(a, a_is_dir), (b, b_is_dir)| b_is_dir.cmp(a_is_dir).then_with(|| a.cmp(b)));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::Component;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::fuzz;

    #[test]
    fn paths_are_decoded_once_and_never_lead_upward() {
        let segments = |path| Place::of(path).map(|place| place.segments);
        assert_eq!(segments("/a%20b//./c").unwrap(), [b"a b".to_vec(), b"c".to_vec()]);
        assert_eq!(segments("/%2541").unwrap(), [b"%41".to_vec()], "once");
        for path in [
            "/..",
            "/a/../b",
            "/%2e%2e/x",
            "/.%2E",
            "/a%2f..",
            "/%2f",
            "/%00",
            "/%",
            "/%4",
            "/%gg",
            "",
        ] {
            assert!(segments(path).is_err(), "{path}");
        }
        assert!(Place::of("/a/").unwrap().is_directory);
        assert!(Place::of("/a/%2e").unwrap().is_directory);
        assert!(!Place::of("/a").unwrap().is_directory);
        assert!(Place::of("/.git/config").unwrap().is_hidden());
        assert!(!Place::of("/.well-known/x").unwrap().is_hidden());
    }

    #[test]
    fn no_path_leads_out_of_the_root_and_each_is_printed_back() {
        let accepted = Cell::new(0);
        let pieces =
            ["/", "/", ".", "..", "%2e", "%2E", "%2f", "%5c", "%00", "%", "%25", "a", "\\"];
        let paths = vec(select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat());
        fuzz::check(20_000, paths, |path| {
            let Ok(place) = Place::of(&path) else { return Ok(()) };
            accepted.set(accepted.get() + 1);
            let joined = place.segments.join(&b'/');
            let mut components = Path::new(OsStr::from_bytes(&joined)).components();
            prop_assert!(components.all(|part| matches!(part, Component::Normal(_))));
            prop_assert_eq!(
                Path::new(OsStr::from_bytes(&joined)).components().count(),
                place.segments.len()
            );
            prop_assert!(!joined.contains(&0));
            let printed = place.encoded(place.is_directory);
            prop_assert!(printed.starts_with('/') && !printed.starts_with("//"));
            prop_assert_eq!(Place::of(&printed), Ok(place));
            Ok(())
        });
        assert!(accepted.get() > 500, "{}", accepted.get());
    }

    #[test]
    fn a_redirection_never_names_another_host() {
        assert_eq!(Place::of("//evil.example/").unwrap().encoded(true), "/evil.example/");
        assert_eq!(Place::of("/").unwrap().encoded(true), "/");
        assert_eq!(Place::of("/a%0d%0ab").unwrap().encoded(true), "/a%0D%0Ab/");
    }

    #[test]
    fn nothing_outside_of_the_root_is_found() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let inside = |name: &str| dir.path().join(name);
        fs::create_dir(inside("sub")).unwrap();
        fs::write(inside("sub/file"), "here").unwrap();
        symlink(outside.path().join("secret"), inside("link")).unwrap();
        symlink("../../../../../../etc/passwd", inside("sub/up")).unwrap();
        symlink(outside.path(), inside("directory")).unwrap();
        symlink("/proc/self/root", inside("magic")).unwrap();
        symlink("file", inside("sub/fine")).unwrap();
        symlink("circle", inside("circle")).unwrap();
        let fifo = CString::new(inside("fifo").as_os_str().as_bytes()).unwrap();
        // SAFETY: the path ends with a null byte.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);

        let mut root = Root::open(dir.path()).unwrap();
        for in_one_step in [root.in_one_step, false] {
            root.in_one_step = in_one_step;
            let find = |path| root.find(&Place::of(path).unwrap());
            for path in [
                "/link",
                "/sub/up",
                "/directory/secret",
                "/magic/etc/passwd",
                "/circle",
                "/fifo",
                "/sub/file/x",
                "/none",
            ] {
                let error = find(path).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::NotFound, "{path}: {error}");
            }
            let mut text = String::new();
            find("/sub/file").unwrap().file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "here");
            assert!(find("/").unwrap().about.is_dir());
            // Without openat2 no symlink is followed at all.
            assert_eq!(find("/sub/fine").is_ok(), in_one_step);
        }
    }
}

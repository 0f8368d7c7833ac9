//! A file system without room: what std's files and ours say, and what has been written stays.

use std::ffi::CString;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::Path;
use std::ptr;

use crate::Dir;
use crate::child::{On, run};

/// What the file system has room for.
const ROOM: usize = 64 << 10;
const MUCH: usize = 100_000;

/// Mounts a small file system for the calling thread, and for those that it starts from now on.
fn mount_small(at: &Path) -> io::Result<()> {
    let at = CString::new(at.to_str().unwrap()).unwrap();
    let check = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let (private, none) = (libc::MS_REC | libc::MS_PRIVATE, ptr::null());
    let (kind, size) = (c"tmpfs".as_ptr(), c"size=64k".as_ptr().cast());
    // SAFETY: strings with their ends, and null where nothing is meant.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(none, c"/".as_ptr(), none, private, ptr::null()))?;
        check(libc::mount(kind, at.as_ptr(), kind, 0, size))
    }
}

/// What each way of writing too much comes to: its error, and how long the file is then.
macro_rules! outcomes {
    ($library:ident, $dir:expr) => {{
        use $library::fs::{self, File};
        let (path, data) = ($dir.file("f"), vec![7; MUCH]);
        let mut outcomes = Vec::new();
        let mut note = |what: &'static str, error: Option<io::Error>| {
            let kept = std::fs::read(&path).unwrap();
            assert!(kept.iter().all(|byte| *byte == 7), "{what}");
            outcomes.push((what, error.map(|error| error.kind()), kept.len()));
            std::fs::remove_file(&path).unwrap();
        };
        note("fs::write", fs::write(&path, &data).err());
        note("write_all", File::create(&path).unwrap().write_all(&data).err());
        let mut file = File::create(&path).unwrap();
        note("copy", io::copy(&mut io::repeat(7).take(MUCH as u64), &mut file).err());
        drop(file);
        let mut buffered = BufWriter::with_capacity(MUCH, File::create(&path).unwrap());
        buffered.write_all(&data[1..]).unwrap();
        let error = buffered.flush().err();
        let left = buffered.buffer().len();
        let (file, _) = buffered.into_parts();
        drop(file);
        note("flush", error);
        File::create(&path).unwrap().write_all(&data[..ROOM]).unwrap(); // there is room again
        note("all the room", None);
        (outcomes, left)
    }};
}

#[test]
fn a_full_file_system_is_an_error_and_what_was_written_stays() {
    let ended = run(On::OtherThread, 60, || {
        let dir = Dir::new();
        if let Err(error) = mount_small(&dir.0) {
            println!("skipped: no file system can be mounted here ({error})");
            return;
        }
        let std = outcomes!(std, dir);
        assert_eq!(outcomes!(greenling, dir), std);
        for (what, error, kept) in &std.0 {
            let expected = (*what != "all the room").then_some(ErrorKind::StorageFull);
            assert_eq!((*error, *kept), (expected, ROOM), "{what}");
        }
        // SAFETY: a string with its end.
        unsafe { libc::umount(CString::new(dir.0.to_str().unwrap()).unwrap().as_ptr()) };
    });
    ended.succeeded();
    if let Some(line) = ended.stdout.lines().find(|line| line.starts_with("skipped")) {
        println!("{line}");
    }
}

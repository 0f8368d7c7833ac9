//! The tests that std's files and the crate's have to pass alike.

use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, SystemTime};

use super::fs::{self, DirBuilder, File, OpenOptions};
use super::unix::{
    self, DirBuilderExt, DirEntryExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt,
};
use crate::Dir;
use crate::common::deadline;

#[test]
fn whole_files() {
    deadline(20, || {
        let dir = Dir::new();
        let path = dir.file("f");
        fs::write(&path, "text").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"text");
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        fs::write(&path, b"\xff\xfe").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap_err().kind(), ErrorKind::InvalidData);
        let large = vec![7; 5_000_000];
        fs::write(&path, &large).unwrap();
        assert!(fs::read(&path).unwrap() == large);
        assert_eq!(fs::read(dir.file("none")).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(fs::exists(&path).unwrap() && !fs::exists(dir.file("none")).unwrap());
    });
}

#[test]
fn read_write_and_seek() {
    deadline(20, || {
        let dir = Dir::new();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.file("f"));
        let file = file.as_mut().unwrap();
        file.write_all(b"0123456789").unwrap();
        assert_eq!(file.stream_position().unwrap(), 10);
        assert_eq!(file.read(&mut [0; 4]).unwrap(), 0);
        file.seek(SeekFrom::Start(2)).unwrap();
        let mut four = [0; 4];
        file.read_exact(&mut four).unwrap();
        assert_eq!(&four, b"2345");
        assert_eq!(file.seek(SeekFrom::End(-1)).unwrap(), 9);
        let mut rest = String::from("rest: ");
        assert_eq!(file.read_to_string(&mut rest).unwrap(), 1);
        assert_eq!(rest, "rest: 9");
        file.seek(SeekFrom::Current(-3)).unwrap();
        let mut rest = b"<".to_vec();
        assert_eq!((&*file).read_to_end(&mut rest).unwrap(), 3);
        assert_eq!(rest, b"<789");
        file.rewind().unwrap();
        (&*file).write_all(b"ab").unwrap();
        file.flush().unwrap();
        assert_eq!(file.read(&mut four).unwrap(), 4);
        assert_eq!(&four, b"2345");
        assert_eq!(file.seek(SeekFrom::Current(-100)).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn positioned_reads_and_writes_leave_the_position_alone() {
    deadline(20, || {
        let dir = Dir::new();
        let mut file = File::create_new(dir.file("f")).unwrap();
        file.write_all_at(b"hello", 3).unwrap();
        assert_eq!(file.stream_position().unwrap(), 0);
        let mut buf = [1; 8];
        file.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"\0\0\0hello");
        assert_eq!(file.read_at(&mut buf, 6).unwrap(), 2);
        assert_eq!(file.read_at(&mut buf, 100).unwrap(), 0);
        let error = file.read_exact_at(&mut buf, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn options() {
    deadline(20, || {
        let dir = Dir::new();
        let path = dir.file("f");
        assert_eq!(File::open(&path).unwrap_err().kind(), ErrorKind::NotFound);
        File::create(&path).unwrap().write_all(b"one").unwrap();
        assert_eq!(File::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let mut end = File::options().append(true).open(&path).unwrap();
        end.write_all(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"onetwo");
        assert_eq!(OpenOptions::new().open(&path).unwrap_err().kind(), ErrorKind::InvalidInput);
        let mut reader = File::open(&path).unwrap();
        assert!(reader.write(b"x").is_err());
        let secret = dir.file("secret");
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&secret)
            .unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        let link = dir.file("link");
        unix::symlink(&secret, &link).unwrap();
        let error = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&link);
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ELOOP));
    });
}

#[test]
fn what_is_known_of_a_file_and_can_be_changed() {
    deadline(20, || {
        let dir = Dir::new();
        let path = dir.file("f");
        let file = File::create(&path).unwrap();
        file.set_len(1000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1000);
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        let mut permissions = file.metadata().unwrap().permissions();
        permissions.set_mode(0o640);
        file.set_permissions(permissions.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        assert!(fs::metadata(&path).unwrap().permissions().readonly());
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        file.set_modified(then).unwrap();
        assert_eq!(file.metadata().unwrap().modified().unwrap(), then);
    });
}

#[test]
fn clones_share_the_position() {
    deadline(20, || {
        let dir = Dir::new();
        fs::write(dir.file("f"), "abcdef").unwrap();
        let mut file = File::open(dir.file("f")).unwrap();
        let mut clone = file.try_clone().unwrap();
        let mut two = [0; 2];
        file.read_exact(&mut two).unwrap();
        clone.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"cd");
        let number = file.as_raw_fd();
        let fd = OwnedFd::from(file);
        assert_eq!(fd.as_raw_fd(), number);
        File::from(fd).read_exact(&mut two).unwrap();
        assert_eq!(&two, b"ef");
    });
}

#[test]
fn names() {
    deadline(20, || {
        let dir = Dir::new();
        let (a, b, c) = (dir.file("a"), dir.file("b"), dir.file("c"));
        fs::write(&a, "contents").unwrap();
        fs::rename(&a, &b).unwrap();
        assert!(!fs::exists(&a).unwrap());
        assert_eq!(fs::copy(&b, &a).unwrap(), 8);
        fs::hard_link(&a, &c).unwrap();
        assert_eq!(fs::metadata(&c).unwrap().nlink(), 2);
        fs::remove_file(&c).unwrap();
        unix::symlink("a", &c).unwrap();
        assert_eq!(fs::read_link(&c).unwrap().to_str(), Some("a"));
        assert!(fs::symlink_metadata(&c).unwrap().file_type().is_symlink());
        assert!(fs::metadata(&c).unwrap().is_file());
        assert_eq!(fs::canonicalize(&c).unwrap(), fs::canonicalize(&a).unwrap());
        assert_eq!(fs::canonicalize(dir.file("x")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs::remove_file(dir.file("x")).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn directories() {
    deadline(20, || {
        let dir = Dir::new();
        let deep = dir.file("x/y/z");
        assert_eq!(fs::create_dir(&deep).unwrap_err().kind(), ErrorKind::NotFound);
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(fs::create_dir(&deep).unwrap_err().kind(), ErrorKind::AlreadyExists);
        DirBuilder::new().recursive(true).mode(0o700).create(dir.file("p/q")).unwrap();
        assert_eq!(fs::metadata(dir.file("p/q")).unwrap().mode() & 0o777, 0o700);
        for n in 0..300 {
            fs::write(deep.join(n.to_string()), "").unwrap();
        }
        let mut names: Vec<usize> = fs::read_dir(&deep)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert!(entry.file_type().unwrap().is_file());
                assert_eq!(entry.metadata().unwrap().ino(), entry.ino());
                assert_eq!(entry.path(), deep.join(entry.file_name()));
                entry.file_name().to_str().unwrap().parse().unwrap()
            })
            .collect();
        names.sort_unstable();
        assert!(names.into_iter().eq(0..300));
        assert_eq!(fs::remove_dir(&deep).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        fs::remove_dir_all(dir.file("x")).unwrap();
        fs::remove_dir(dir.file("p/q")).unwrap();
        assert_eq!(fs::read_dir(dir.file("x")).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn buffers_work_on_it() {
    deadline(20, || {
        let dir = Dir::new();
        let path = dir.file("f");
        let mut writer = BufWriter::new(File::create(&path).unwrap());
        for n in 0..10_000 {
            writeln!(writer, "line {n}").unwrap();
        }
        writer.into_inner().unwrap().sync_all().unwrap();
        let lines = BufReader::new(File::open(&path).unwrap()).lines();
        for (n, line) in lines.enumerate() {
            assert_eq!(line.unwrap(), format!("line {n}"));
        }
        let mut copy = Vec::new();
        std::io::copy(&mut File::open(&path).unwrap(), &mut copy).unwrap();
        assert_eq!(copy, fs::read(&path).unwrap());
    });
}

#[test]
fn a_full_disk_is_an_error() {
    deadline(20, || {
        let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(full.write(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
        let mut full = BufWriter::new(full);
        full.write_all(b"x").unwrap();
        assert_eq!(full.flush().unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(fs::write("/dev/full", "x").unwrap_err().kind(), ErrorKind::StorageFull);
    });
}

#[test]
fn special_files() {
    deadline(20, || {
        let mut zero = File::open("/dev/zero").unwrap();
        let mut buf = [1; 10];
        zero.read_exact(&mut buf).unwrap();
        assert_eq!(buf, [0; 10]);
        let mut null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        assert_eq!(null.write(&[0; 1 << 20]).unwrap(), 1 << 20);
        assert_eq!(null.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert!(fs::read_to_string("/proc/self/status").unwrap().contains("Pid:"));
        let error = File::open("/").unwrap().read(&mut buf).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
    });
}

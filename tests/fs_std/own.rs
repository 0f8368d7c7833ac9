//! What goes beyond std: others run meanwhile, and nothing breaks when an operation is interrupted.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use greenling::fs::{self, File, OpenOptions};
use greenling::{join_all, sleep, spawn, timeout};

use crate::Dir;
use crate::child::{On, run};
use crate::common::deadline;

const SHORT: Duration = Duration::from_millis(30);

fn make_fifo(path: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: it is a string with its end.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn a_fifo_is_waited_for_without_a_thread() {
    deadline(30, || {
        let dir = Dir::new();
        let path = dir.file("fifo");
        make_fifo(&path);
        let reader = spawn({
            let path = path.clone();
            move || File::open(path).unwrap() // waits until there is a writer
        });
        let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
        let mut reader = reader.join().unwrap();
        assert!(timeout(SHORT, || reader.read(&mut [0; 10])).is_err());
        let copy = spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text.len())
        });
        writer.write_all(&[b'x'; 300_000]).unwrap();
        drop(writer);
        assert_eq!(copy.join().unwrap().unwrap(), 300_000);
    });
}

#[test]
fn an_open_that_is_interrupted_harms_nobody() {
    deadline(30, || {
        let dir = Dir::new();
        let path = dir.file("fifo");
        make_fifo(&path);
        assert!(timeout(SHORT, || File::open(&path)).is_err());
        // The thread still waits in open(2): another one opens the other end, and that is that.
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        drop(writer);
        assert_eq!(fs::read("/etc/passwd").unwrap(), std::fs::read("/etc/passwd").unwrap());
    });
}

#[test]
fn a_file_can_be_given_away_in_the_middle_of_an_operation() {
    deadline(60, || {
        let dir = Dir::new();
        let path = dir.file("f");
        fs::write(&path, vec![1; 1 << 20]).unwrap();
        for _ in 0..100 {
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let waited = timeout(Duration::ZERO, || file.sync_all());
            let fd = OwnedFd::from(file);
            assert_eq!(File::from(fd).metadata().unwrap().len(), 1 << 20);
            drop(waited);
        }
    });
}

#[test]
fn interrupted_reads_and_writes_touch_nothing_of_the_callers() {
    deadline(60, || {
        let dir = Dir::new();
        let path = dir.file("f");
        let mut file = File::create_new(&path).unwrap();
        for round in 1..=200 {
            let mut data = vec![round as u8; 300_000];
            let _ = timeout(Duration::from_micros(round % 50 * 10), || file.write_all(&data));
            data.fill(0); // if a thread were still at it, it would write zeros
        }
        assert!(fs::read(&path).unwrap().into_iter().all(|byte| byte != 0));
    });
}

#[test]
fn a_directory_is_read_on_after_an_interruption() {
    deadline(60, || {
        let dir = Dir::new();
        for n in 0..1000 {
            std::fs::write(dir.file(&n.to_string()), "").unwrap();
        }
        let mut entries = fs::read_dir(&dir.0).unwrap();
        let mut seen = std::collections::HashSet::new();
        loop {
            match timeout(Duration::ZERO, || entries.next()) {
                Ok(None) => break,
                Ok(Some(entry)) => assert!(seen.insert(entry.unwrap().file_name())),
                Err(_) => sleep(Duration::from_millis(1)),
            }
            if seen.len() > 900 {
                break;
            }
            // And without a limit, so that it gets on.
            if let Some(entry) = entries.next() {
                assert!(seen.insert(entry.unwrap().file_name()));
            }
        }
        seen.extend(entries.map(|entry| entry.unwrap().file_name()));
        assert_eq!(seen.len(), 1000);
    });
}

#[test]
fn many_at_once() {
    deadline(120, || {
        let dir = Dir::new();
        let jobs: Vec<_> = (0..600)
            .map(|n: u32| {
                let path = dir.file(&n.to_string());
                spawn(move || {
                    let data = vec![n as u8; 10_000];
                    fs::write(&path, &data).unwrap();
                    assert_eq!(fs::read(&path).unwrap(), data);
                    fs::remove_file(&path).unwrap();
                })
            })
            .collect();
        assert!(join_all(jobs).into_iter().all(|result| result.is_ok()));
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0);
    });
}

#[test]
fn a_limit_of_a_files_size_is_an_error() {
    run(On::OtherThread, 30, || {
        let dir = Dir::new();
        let limit = libc::rlimit { rlim_cur: 10_000, rlim_max: 10_000 };
        // SAFETY: an ignored signal, so that it is an error instead; a valid rlimit.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        }
        let mut file = File::create(dir.file("f")).unwrap();
        let error = file.write_all(&[0; 20_000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert_eq!(file.metadata().unwrap().len(), 10_000); // what there was room for
    })
    .succeeded();
}

#[test]
fn without_threads_it_is_an_error() {
    run(On::OtherThread, 30, || {
        // No address space for a thread's stack.
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a valid rlimit. Memory that is mapped already stays.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        let error = fs::metadata("/").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::OutOfMemory), "{error}");
    })
    .succeeded();
}

//! Standard streams let others run while one waits, and leave the descriptors' mode alone.
//!
//! Each test starts its own program again, for itself, with the streams that it is about.

mod common;

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use common::deadline;
use greenling::io;
use greenling::{sleep, spawn, timeout};

const MARK: &str = "GREENLING_STDIO_CHILD";

/// In the child: runs the body and ends the process. In the parent: the command that starts the child.
fn child(body: impl FnOnce()) -> Command {
    if std::env::var_os(MARK).is_some() {
        let body = std::panic::AssertUnwindSafe(body);
        let ok = std::panic::catch_unwind(body).is_ok();
        std::process::exit(if ok { 0 } else { 1 });
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = std::thread::current().name().unwrap().to_owned();
    command.args([&name, "--exact", "--nocapture"]).env(MARK, "1");
    command
}

/// Waits for the end of the child, which has to be a good one.
fn finish(child: Child) -> (String, String) {
    deadline(30, move || {
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
        (stdout, stderr)
    })
}

fn assert_blocking(fd: i32) {
    // SAFETY: no pointers are passed.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFL) } & libc::O_NONBLOCK, 0);
}

/// Counts turns of a coroutine that should get them.
fn ticker() -> Rc<Cell<u32>> {
    let turns = Rc::new(Cell::new(0));
    let own = turns.clone();
    spawn(move || {
        loop {
            sleep(Duration::from_millis(1));
            own.set(own.get() + 1);
        }
    });
    turns
}

#[test]
fn input_from_a_pipe() {
    let mut command = child(|| {
        let turns = ticker();
        assert!(!io::stdin().is_terminal());
        assert!(timeout(Duration::from_millis(20), || io::stdin().read(&mut [0])).is_err());
        writeln!(io::stderr(), "go").unwrap();
        let mut line = String::new();
        assert_eq!(io::stdin().read_line(&mut line).unwrap(), 6);
        assert_eq!(line, "first\n");
        assert!(turns.get() > 5, "{}", turns.get());
        // One lock for all, and one buffer.
        let mut locked = io::stdin().lock();
        let other = spawn(|| {
            let mut rest = String::new();
            io::stdin().read_to_string(&mut rest).map(|_| rest)
        });
        sleep(Duration::from_millis(5));
        locked.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(locked.fill_buf().unwrap().first(), Some(&b'o'));
        locked.consume(1);
        drop(locked);
        assert_eq!(other.join().unwrap().unwrap(), "nd\nthird\n");
        assert_eq!(io::stdin().lines().count(), 0);
        assert_blocking(0);
    });
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut errors = child.stderr.take().unwrap();
    errors.read_exact(&mut [0; 3]).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    input.write_all(b"first\nsecond\nthird\n").unwrap();
    drop(input);
    child.stderr = Some(errors);
    finish(child);
}

#[test]
fn input_from_a_file_and_none_at_all() {
    let path = std::env::temp_dir().join(format!("greenling-stdin-{}", std::process::id()));
    let command = child(|| {
        let lines: Vec<_> = io::stdin().lines().map(Result::unwrap).collect();
        assert!(lines.iter().map(String::as_str).eq(["a", "b"]));
        // SAFETY: nobody else uses it here.
        unsafe { libc::close(0) };
        assert_eq!(io::stdin().read(&mut [0]).unwrap(), 0);
        // Another one in its place.
        let pipe = std::process::Command::new("echo").arg("c").stdout(Stdio::piped()).spawn();
        let pipe = pipe.unwrap().stdout.take().unwrap();
        // SAFETY: as above.
        unsafe { libc::dup2(pipe.as_raw_fd(), 0) };
        assert_eq!(io::read_to_string(io::stdin()).unwrap(), "c\n");
    });
    let mut command = command;
    std::fs::write(&path, "a\nb\n").unwrap();
    command.stdin(File::open(&path).unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().unwrap());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_full_output_holds_one_coroutine_only() {
    let mut command = child(|| {
        let turns = ticker();
        let mut out = io::stdout();
        for _ in 0..100 {
            out.write_all(&[b'x'; 2999]).unwrap();
            out.write_all(b"\n").unwrap();
        }
        assert!(turns.get() > 20, "{}", turns.get());
        assert_blocking(1);
    });
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300)); // by now it is full
    let (stdout, _) = finish(child);
    assert_eq!(stdout.lines().filter(|line| line.len() == 2999).count(), 100);
}

#[test]
fn output_is_locked_by_coroutine_and_flushed_at_the_end() {
    let mut command = child(|| {
        let writers: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .map(|name| {
                spawn(move || {
                    let mut out = io::stdout().lock();
                    for n in 0..3 {
                        sleep(Duration::from_millis(2));
                        writeln!(out, "<{name}{n}>").unwrap();
                        writeln!(io::stdout(), "<{name}again>").unwrap(); // it has the lock already
                    }
                })
            })
            .collect();
        greenling::join_all(writers);
        let killed = spawn(|| {
            let _lock = io::stdout().lock();
            sleep(Duration::from_secs(100));
        });
        sleep(Duration::from_millis(2));
        let waits = spawn(|| io::stdout().write_all(b"<after the kill>\n"));
        sleep(Duration::from_millis(2));
        killed.kill();
        waits.join().unwrap().unwrap();
        write!(io::stdout(), "<no end of line>").unwrap();
    });
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (stdout, _) = finish(command.spawn().unwrap());
    let words: Vec<_> =
        stdout.split('<').skip(1).map(|word| word.split('>').next().unwrap()).collect();
    let expected: Vec<_> = ["a", "b", "c"]
        .iter()
        .flat_map(|name| (0..3).flat_map(move |n| [format!("{name}{n}"), format!("{name}again")]))
        .chain(["after the kill".to_owned(), "no end of line".to_owned()])
        .collect();
    assert_eq!(words, expected);
}

#[test]
fn a_closed_output_swallows_and_a_broken_one_says_so() {
    let mut command = child(|| {
        let (reader, writer) = common::pipe().unwrap();
        drop(reader);
        // SAFETY: no pointers are passed. libtest has the old standard output no more.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            libc::dup2(writer.as_raw_fd(), 1);
        }
        let error = io::stdout().write_all(b"nobody reads\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        // SAFETY: nobody else uses it here.
        unsafe { libc::close(1) };
        io::stdout().write_all(b"nowhere\n").unwrap();
        io::stdout().flush().unwrap();
    });
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().unwrap());
}

/// A terminal: the end for whoever types, and the one for the program.
fn terminal() -> (File, OwnedFd) {
    let (mut master, mut slave) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: the C library writes two descriptors.
    let result = unsafe {
        libc::openpty(&mut master, &mut slave, null, std::ptr::null_mut(), std::ptr::null_mut())
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: they are ours.
    unsafe {
        libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(slave, libc::F_SETFD, libc::FD_CLOEXEC);
        (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    }
}

#[test]
fn a_terminal() {
    let mut command = child(|| {
        let turns = ticker();
        assert!(io::stdin().is_terminal() && io::stdout().is_terminal());
        writeln!(io::stdout(), "your name?").unwrap();
        let mut line = String::new();
        io::stdin().read_line(&mut line).unwrap();
        assert!(turns.get() > 20, "{}", turns.get());
        for _ in 0..200 {
            writeln!(io::stdout(), "{}", line.trim().repeat(50)).unwrap();
        }
        assert_blocking(0);
        assert_blocking(1);
    });
    let (mut master, slave) = terminal();
    command.stdin(slave.try_clone().unwrap()).stdout(slave).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command); // it has the terminal
    let seen = std::thread::spawn({
        let mut master = master.try_clone().unwrap();
        move || {
            let mut seen = Vec::new();
            let _ = master.read_to_end(&mut seen); // ends with EIO
            String::from_utf8_lossy(&seen).into_owned()
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    master.write_all(b"ann\n").unwrap();
    finish(child);
    let seen = deadline(20, move || seen.join().unwrap());
    assert!(seen.contains("your name?"), "{seen}");
    assert_eq!(seen.lines().filter(|line| line.trim() == "ann".repeat(50)).count(), 200);
}

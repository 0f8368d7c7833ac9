//! The tests that std's processes and the crate's have to pass alike.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::fs::File;
use super::process::{Child, ChildStdout, Command, Stdio};
use super::{CommandExt, ExitStatusExt, thread};
use crate::common::deadline;

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    command
}

fn piped(script: &str) -> Child {
    let mut command = sh(script);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn output_captures_both_streams_and_the_status() {
    deadline(20, || {
        let output = sh("echo out; echo err >&2; exit 7").output().unwrap();
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(output.stderr, b"err\n");
        assert_eq!(output.status.code(), Some(7));
        assert!(!output.status.success());
    });
}

#[test]
fn status_says_how_it_ended() {
    deadline(20, || {
        assert!(sh("exit 0").status().unwrap().success());
        assert_eq!(sh("exit 3").status().unwrap().code(), Some(3));
        let status = sh("kill -TERM $$").status().unwrap();
        assert_eq!((status.code(), status.signal()), (None, Some(libc::SIGTERM)));
    });
}

#[test]
fn output_has_an_empty_input_unless_it_is_given() {
    deadline(20, || {
        assert_eq!(sh("cat; echo end").output().unwrap().stdout, b"end\n");
        // Piped and never written to: closed before it is waited for.
        let output = sh("cat; echo end").stdin(Stdio::piped()).output().unwrap();
        assert_eq!(output.stdout, b"end\n");
    });
}

#[test]
fn a_stream_that_was_set_is_not_captured() {
    deadline(20, || {
        let output = sh("echo out; echo err >&2").stdout(Stdio::null()).output().unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b""[..], &b"err\n"[..]));
    });
}

#[test]
fn a_command_can_be_used_again_in_every_way() {
    deadline(20, || {
        let mut command = sh("exit 0");
        assert!(command.output().unwrap().status.success());
        let mut child = command.spawn().unwrap();
        // Not what output() had set up.
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        assert!(child.wait().unwrap().success());
        assert!(command.status().unwrap().success());
        assert_eq!(sh("echo again").output().unwrap().stdout, b"again\n");
    });
}

#[test]
fn a_pipe_goes_both_ways() {
    deadline(20, || {
        let mut child = piped("while read line; do echo \"<$line>\"; done");
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        for word in ["one", "two", "three"] {
            writeln!(input, "{word}").unwrap();
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert_eq!(line, format!("<{word}>\n"));
        }
        drop(input);
        assert_eq!(output.read_line(&mut String::new()).unwrap(), 0);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn both_pipes_are_read_at_once() {
    deadline(60, || {
        // More than fits into either, first one and then the other, and then the first again.
        let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; head -c 9 /dev/zero";
        let output = piped(script).wait_with_output().unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_009, 300_000));
        let output = sh(script).output().unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_009, 300_000));
    });
}

#[test]
fn wait_closes_the_input_and_can_be_repeated() {
    deadline(20, || {
        let mut child = sh("cat; exit 5").stdin(Stdio::piped()).spawn().unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(child.stdin.is_some());
        let status = child.wait().unwrap();
        assert!(child.stdin.is_none());
        assert_eq!(status.code(), Some(5));
        assert_eq!(child.wait().unwrap(), status);
        assert_eq!(child.try_wait().unwrap(), Some(status));
    });
}

#[test]
fn kill_ends_it() {
    deadline(20, || {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert!(child.id() > 0);
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        child.kill().unwrap(); // it has ended, and its id may be somebody else's
    });
}

#[test]
fn what_cannot_be_started_is_an_error() {
    deadline(20, || {
        let error = Command::new("/no/such/program").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = Command::new("no-such-program-at-all").output().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = Command::new("/etc/passwd").status().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = Command::new("true").current_dir("/no/such/dir").status().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = Command::new("nul\0inside").status().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn environment_and_directory() {
    deadline(20, || {
        let mut command = sh("echo \"$A $B ${HOME-none}\"; pwd");
        command.env("A", "1").envs([("B", "2")]).env_remove("HOME").current_dir("/");
        assert_eq!(command.output().unwrap().stdout, b"1 2 none\n/\n");
        let mut command = Command::new("/usr/bin/env");
        command.env("GONE", "x").env_clear().env("ONLY", "this");
        assert_eq!(command.output().unwrap().stdout, b"ONLY=this\n");
    });
}

#[test]
fn a_command_tells_what_it_is() {
    let mut command = Command::new("program");
    command.args(["a", "b c"]).env("K", "v").env_remove("R").current_dir("/tmp");
    assert_eq!(command.get_program(), "program");
    assert_eq!(command.get_args().collect::<Vec<_>>(), ["a", "b c"]);
    assert_eq!(command.get_args().len(), 2);
    let envs: Vec<_> = command.get_envs().collect();
    assert_eq!(envs, [(OsStr::new("K"), Some(OsStr::new("v"))), (OsStr::new("R"), None)]);
    assert_eq!(command.get_current_dir(), Some(Path::new("/tmp")));
    let text = format!("{command:?}");
    assert!(text.contains("\"program\" \"a\" \"b c\""), "{text}");
}

#[test]
fn one_childs_output_is_anothers_input() {
    deadline(20, || {
        let mut first = sh("echo hello").stdout(Stdio::piped()).spawn().unwrap();
        let from: ChildStdout = first.stdout.take().unwrap();
        let second = Command::new("tr").args(["a-z", "A-Z"]).stdin(from).output().unwrap();
        assert_eq!(second.stdout, b"HELLO\n");
        assert!(first.wait().unwrap().success());
    });
}

#[test]
fn a_file_is_a_childs_input_and_output() {
    deadline(20, || {
        let path = std::env::temp_dir().join(format!(
            "greenling-{}-{}",
            std::process::id(),
            module_path!().replace("::", "-")
        ));
        std::fs::write(&path, "from a file").unwrap();
        let output = Command::new("cat").stdin(File::open(&path).unwrap()).output().unwrap();
        assert_eq!(output.stdout, b"from a file");
        let file = File::create(&path).unwrap();
        assert!(sh("echo into a file").stdout(file).status().unwrap().success());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "into a file\n");
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn descriptors_go_in_and_out() {
    deadline(20, || {
        let mut child = sh("echo through").stdout(Stdio::piped()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        assert!(out.as_raw_fd() > 2);
        let fd: OwnedFd = out.into();
        let mut out = ChildStdout::from(fd);
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through\n");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn nobodys_pipe_is_ever_in_nonblocking_mode() {
    deadline(20, || {
        let mut child = piped("sleep 0.05; grep flags /proc/self/fdinfo/[012]");
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        let flags: Vec<_> =
            text.lines().map(|line| line.split('\t').next_back().unwrap()).collect();
        assert_eq!(flags.len(), 3, "{text}");
        for flag in flags {
            let flag = i32::from_str_radix(flag.trim(), 8).unwrap();
            assert_eq!(flag & libc::O_NONBLOCK, 0);
        }
        let child = piped("true");
        for fd in [child.stdin.as_ref().unwrap().as_fd(), child.stdout.as_ref().unwrap().as_fd()] {
            // SAFETY: no pointers are passed.
            assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) } & libc::O_NONBLOCK, 0);
        }
        child.wait_with_output().unwrap();
    });
}

#[test]
fn a_write_to_a_child_that_has_gone_is_a_broken_pipe() {
    deadline(20, || {
        let mut child = sh("exec <&-; exit 0").stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        assert!(status.success());
        let error = input.write_all(&[0; 100_000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_write_ends_when_all_of_it_is_in_the_pipe() {
    deadline(20, || {
        let mut child =
            sh("sleep 0.1; wc -c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Three times what fits.
        assert_eq!(child.stdin.as_mut().unwrap().write(&[b'x'; 200_000]).unwrap(), 200_000);
        assert_eq!(child.wait_with_output().unwrap().stdout.trim_ascii(), b"200000");
    });
}

#[test]
fn extensions() {
    deadline(20, || {
        let output = sh("echo $0").arg0("sh").output().unwrap();
        assert_eq!(output.stdout, b"sh\n");
        let mut child = sh("exec sleep 1000").process_group(0).spawn().unwrap();
        let id = child.id() as i32;
        // SAFETY: no pointers are passed.
        assert_eq!(unsafe { libc::getpgid(id) }, id);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut command = sh("echo $(ulimit -c)");
        // SAFETY: setrlimit is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                assert_eq!(libc::setrlimit(libc::RLIMIT_CORE, &none), 0);
                Ok(())
            });
        }
        assert_eq!(command.output().unwrap().stdout, b"0\n");
        let mut command = sh("exit 0");
        // SAFETY: it does nothing but make an error.
        unsafe { command.pre_exec(|| Err(std::io::Error::from_raw_os_error(libc::EPERM))) };
        assert_eq!(command.spawn().unwrap_err().raw_os_error(), Some(libc::EPERM));
    });
}

#[test]
fn several_are_waited_for_at_once() {
    deadline(60, || {
        let waiters: Vec<_> = (0..20)
            .map(|n| {
                thread::spawn(move || {
                    sh(&format!("sleep 0.05; exit {n}")).status().unwrap().code().unwrap()
                })
            })
            .collect();
        let codes: Vec<_> = waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
        assert_eq!(codes, (0..20).collect::<Vec<_>>());
    });
}

//! Sockets that were opened by whoever started the program.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use greenling::server::{StreamServer, activation};

const MARK: &str = "GREENLING_TEST_ACTIVATED";

#[test]
fn a_listener_is_passed_by_descriptor() {
    if std::env::var_os(MARK).is_some() {
        return serve_one();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut command = Command::new("sh");
    // The process that is to have them is known only when it is there.
    command.args(["-c", r#"LISTEN_PID=$$ exec "$@""#, "sh"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["activation::a_listener_is_passed_by_descriptor", "--exact", "--nocapture"]);
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "web").env(MARK, "1");
    let fd = listener.as_raw_fd();
    // SAFETY: only async-signal-safe calls, without pointers.
    unsafe {
        command.pre_exec(move || {
            match if fd == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(fd, 3) } {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
    let mut child = command.spawn().unwrap();
    let mut client = TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "served by the child");
    assert!(child.wait().unwrap().success());
}

fn serve_one() {
    let mut passed = activation::take().unwrap();
    assert_eq!(passed.len(), 1);
    assert!(activation::take().unwrap().is_empty(), "who asks first owns them");
    let passed = passed.pop().unwrap();
    assert_eq!((passed.name.as_str(), passed.fd.as_raw_fd()), ("web", 3));
    // SAFETY: no pointers are passed.
    assert_eq!(unsafe { libc::fcntl(3, libc::F_GETFD) }, libc::FD_CLOEXEC);
    let listener = greenling::net::TcpListener::from(passed.fd);
    let (done, is_done) = std::sync::mpsc::channel();
    let server = StreamServer::new(listener, move |mut stream, _| {
        done.send(()).unwrap();
        stream.write_all(b"served by the child")
    });
    server.start().unwrap();
    while is_done.try_recv().is_err() {
        greenling::sleep(Duration::from_millis(1));
    }
    assert_eq!(server.stop(Duration::from_secs(30)), 0);
}

#[test]
fn nothing_is_taken_that_is_meant_for_somebody_else() {
    // libtest's own process was not started so.
    if std::env::var_os(MARK).is_none() {
        assert!(activation::take().unwrap().is_empty());
    }
}

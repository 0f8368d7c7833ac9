//! The client, with this server and with one that fails.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use support::{Server, noise};

/// Runs the client with these commands, in a directory.
fn client(address: &str, dir: &Path, commands: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ftp_client"))
        .args(["--addr", address, "--timeout", "20"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A client that has given up does not read them all.
    let _ = child.stdin.take().unwrap().write_all(commands.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn files_go_up_and_come_down_unchanged() {
    let server = Server::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let data = noise(3_000_000);
    fs::write(dir.path().join("up"), &data).unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    let commands =
        "put up\nput empty\nlist\nget up down\nget empty nothing\nquit\nget never reached\n";
    let output = client(&server.address.to_string(), dir.path(), commands);
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("put up: 3000000 bytes") && said.contains("got up: 3000000"), "{said}");
    assert!(said.lines().any(|line| line.ends_with(" up") && line.contains(" 3000000 ")), "{said}");
    assert!(fs::read(dir.path().join("down")).unwrap() == data, "the file is another");
    assert_eq!(fs::read(dir.path().join("nothing")).unwrap(), b"");
    assert!(!complained.contains("never"), "{complained}");
}

#[test]
fn what_fails_is_said_and_leaves_nothing_and_the_rest_goes_on() {
    let server = Server::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("down"), "precious").unwrap();
    fs::write(dir.path().join("up"), "up").unwrap();
    let commands = "get missing down\nput missing\nnonsense\ncd nowhere\nput up\nlist\n";
    let output = client(&server.address.to_string(), dir.path(), commands);
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}\n{complained}");
    assert_eq!(complained.lines().count(), 4, "{complained}");
    assert!(said.contains("put up: 2 bytes"), "{said}");
    assert_eq!(fs::read_to_string(dir.path().join("down")).unwrap(), "precious");
    assert!(!dir.path().join("down.part").exists());
}

#[test]
fn half_a_file_is_no_file_and_a_server_that_knows_only_pasv_will_do() {
    let control = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = control.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (stream, _) = control.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let say = |line: &str| writeln!(&stream, "{line}\r").unwrap();
        let mut data = None;
        // A greeting of several lines, with one that looks like its last.
        say("220-welcome\r\n220is not the end\r\n 220 neither\r\n220 ready");
        while let Some(Ok(line)) = lines.next() {
            match line.split(' ').next().unwrap() {
                "USER" => say("331 password?"),
                "PASS" | "TYPE" => say("200 fine"),
                "EPSV" => say("500 what?"),
                "PASV" => {
                    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                    let [high, low] = listener.local_addr().unwrap().port().to_be_bytes();
                    // An address that is not ours: the client must not go there.
                    say(&format!("227 Entering Passive Mode (192,0,2,1,{high},{low})"));
                    data = Some(listener);
                }
                "RETR" => {
                    let (mut transfer, _) = data.take().unwrap().accept().unwrap();
                    say("150 here it comes");
                    transfer.write_all(b"half of it").unwrap();
                    drop(transfer);
                    say("426 the disk is broken");
                }
                _ => {
                    say("221 bye");
                    break;
                }
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let output = client(&address, dir.path(), "get file\n");
    let complained = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complained}");
    assert!(complained.contains("426 the disk is broken"), "{complained}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "something is left");
    server.join().unwrap();
}

//! `udp_records`.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use super::example::{DEADLINE, Example};
use super::{have, run, succeed};

const PYTHON: &str = r#"
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(30)
s.connect(("127.0.0.1", int(sys.argv[1])))
for record in [(1, b"oven", 21.5), (-2147483648, b"sixteen bytes!!!", -0.25), (0, b"", float("inf"))]:
    s.send(struct.pack("!i16sf", *record))
    number, name, measurement = struct.unpack("!i16sf", s.recv(100))
    assert (number, name.rstrip(b"\0"), measurement) == record, (number, name, measurement)
print("all is well")
"#;

/// Python's receiver of one record, which says where it listens and what it got.
const RECEIVER: &str = r#"
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(30); s.bind(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
s.recvfrom(100)  # the first is lost
data, peer = s.recvfrom(100)
print(struct.unpack("!i16sf", data), flush=True)
s.sendto(b"something else", peer); s.sendto(data + b"x", peer); s.sendto(data, peer)
"#;

#[test]
fn it_understands_python_and_itself_and_refuses_other_sizes() {
    let (mut server, address) = Example::serve("udp_records", &[]);
    let mut records = 0;
    if have("python3") {
        let port = address.port().to_string();
        let said = succeed(Command::new("python3").args(["-c", PYTHON, &port]), b"");
        assert!(said.contains("all is well"), "{said}");
        server.line_with(r#"1 "oven" 21.5"#);
        server.line_with(r#"-2147483648 "sixteen bytes!!!" -0.25"#);
        server.line_with(r#"0 "" inf"#);
        records += 3;
    }
    let to = address.to_string();
    let said = Example::start("udp_records", &["--to", &to, "-7", "Kühlschrank", "-1.5"]).succeed();
    assert_eq!(said, r#"acknowledged: -7 "Kühlschrank" -1.5"#);
    server.line_with(r#"-7 "Kühlschrank" -1.5"#);

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    for (bytes, why) in [
        (&[][..], "it has 0 bytes and not 24"),
        (&[0; 23], "it has 23 bytes and not 24"),
        (&[0; 25], "it has 25 bytes and not 24"),
        (&[0; 20_000], "it has 20000 bytes and not 24"),
        (&[255; 24], "its name is no text"),
        (b"\0\0\0\x01a\0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "its name is no text"),
    ] {
        socket.send(bytes).unwrap();
        server.line_with(why);
    }
    // Nothing of that was answered; a record is.
    let record = b"\0\0\0\x01name\0\0\0\0\0\0\0\0\0\0\0\0\x41\x20\0\0";
    socket.send(record).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut answer = [0; 100];
    assert_eq!(socket.recv(&mut answer).unwrap(), 24);
    assert_eq!(&answer[..24], record);
    server.line_with(r#"1 "name" 10"#);
    let mut refused = 6;
    if have("socat") {
        run(Command::new("socat").args(["-u", "-", &format!("UDP:{address}")]), b"hello\n");
        server.line_with("it has 6 bytes and not 24");
        refused += 1;
    }
    if have("nc") {
        let port = address.port().to_string();
        run(Command::new("nc").args(["-u", "-q", "0", "-w", "1", "127.0.0.1", &port]), record);
        server.line_with(r#"1 "name" 10"#);
        records += 1;
    }
    server.signal(libc::SIGTERM);
    let output = server.succeed();
    assert!(output.contains(&format!("{} records, {refused} refused", records + 2)), "{output}");
}

#[test]
fn a_record_is_sent_again_until_it_is_acknowledged() {
    if !have("python3") {
        return;
    }
    let mut python = Command::new("python3");
    python.args(["-u", "-c", RECEIVER]).stdout(std::process::Stdio::piped());
    let mut receiver = python.spawn().unwrap();
    let mut stdout = std::io::BufReader::new(receiver.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let to = format!("127.0.0.1:{}", line.trim());
    let said = Example::start("udp_records", &["--to", &to, "5", "x", "0.5"]).succeed();
    assert!(said.contains("acknowledged"), "{said}");
    let mut got = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut got).unwrap();
    assert_eq!(got.trim(), format!("(5, b'x{}', 0.5)", r"\x00".repeat(15)));
    assert!(receiver.wait().unwrap().success());
}

#[test]
fn a_sender_gives_up_and_keeps_to_the_layout() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let start = std::time::Instant::now();
    let arguments = ["--to", &nobody, "--timeout", "1", "5", "x", "0.5"];
    let (status, output) = Example::start("udp_records", &arguments).finish();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("the receiver does not answer"), "{output}");
    assert!(start.elapsed() >= Duration::from_secs(1));

    let arguments = ["--to", &nobody, "5", "seventeen bytes!!", "0.5"];
    let (status, output) = Example::start("udp_records", &arguments).finish();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("more than 16 bytes"), "{output}");
}

//! What each command does, said over a plain socket.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{Client, Server, connect, noise};

#[test]
fn nothing_but_help_before_login() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for command in ["PWD", "LIST", "RETR x", "STOR x", "PASV", "DELE x", "CWD /"] {
        client.ask(command, 530);
    }
    client.ask("SYST", 215);
    client.ask("NOOP", 200);
    client.ask("HELP", 214);
    assert!(client.ask("FEAT", 211).contains("\r\n REST STREAM\r\n"));
    client.ask("PASS x", 503);
    client.ask("USER", 501);
    client.ask("user root", 331);
    client.ask("PASS x", 530);
    client.ask("USER anonymous", 331);
    client.ask("PASS", 230);
    client.ask("NONSENSE", 502);
    client.ask("", 502);
    client.ask("QUIT", 221);
    client.expect_end();
}

#[test]
fn three_wrong_passwords_end_the_session() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for _ in 0..3 {
        client.ask("USER root", 331);
        client.ask("PASS guess", 530);
    }
    client.expect(421);
    client.expect_end();
}

#[test]
fn users_of_a_password_file_may_do_what_it_says() {
    let hash = |password: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ftp_server"))
            .arg("--hash")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!("ann:{}\nbob:{}:ro\n", hash("a b"), hash("bb"));
    std::fs::write(file.path(), text).unwrap();
    let server = Server::start(&["--passwords", file.path().to_str().unwrap(), "--anonymous"]);
    let login = |name: &str, password: &str, code| {
        let mut client = server.connect();
        client.ask(&format!("USER {name}"), 331);
        client.ask(&format!("PASS {password}"), code);
        client
    };
    login("ann", "a b", 230).put("STOR mine", b"1");
    login("ann", "bb", 530).ask("PWD", 530);
    login("nobody", "a b", 530);
    for (name, password) in [("bob", "bb"), ("anonymous", "")] {
        let mut reader = login(name, password, 230);
        assert_eq!(reader.get("RETR mine"), b"1");
        for command in ["STOR x", "APPE mine", "DELE mine", "MKD d", "RMD d", "RNFR mine"] {
            reader.ask(command, 550);
        }
    }
    assert_eq!(server.names(), ["mine"]);
}

#[test]
fn directories_are_made_entered_renamed_and_removed() {
    let server = Server::start(&[]);
    let mut client = server.login();
    assert!(client.ask("PWD", 257).starts_with("257 \"/\" "));
    assert!(client.ask("MKD a \"b\" c", 257).starts_with("257 \"/a \"\"b\"\" c\" "));
    client.ask("MKD a \"b\" c", 550);
    client.ask("CWD a \"b\" c", 250);
    client.ask("MKD d", 257);
    client.ask("CWD d", 250);
    client.ask("CDUP", 250);
    assert!(client.ask("PWD", 257).contains("\"/a \"\"b\"\" c\""));
    client.ask("RNTO e", 503);
    client.ask("RNFR d", 350);
    client.ask("NOOP", 200);
    client.ask("RNTO e", 503);
    client.ask("RNFR d", 350);
    client.ask("RNTO /e", 250);
    client.ask("RMD /a \"b\" c", 250);
    client.ask("CWD /nowhere", 550);
    client.ask("CWD", 501);
    client.ask("DELE /e", 550);
    client.ask("RMD /e", 250);
    client.ask("RMD /", 550);
    assert!(server.names().is_empty());
}

#[test]
fn files_are_stored_appended_resumed_and_described() {
    let server = Server::start(&[]);
    let mut client = server.login();
    let bytes = noise(300_000);
    client.put("STOR f", &bytes);
    assert_eq!(client.get("RETR f"), bytes);
    assert!(client.ask("SIZE f", 213).starts_with("213 300000\r\n"));
    let time = client.ask("MDTM f", 213);
    assert!(time.len() == "213 20260101000000\r\n".len() && time.starts_with("213 20"), "{time}");

    client.ask("REST 299990", 350);
    assert_eq!(client.get("RETR f"), bytes[299_990..]);
    client.ask("REST 300001", 350);
    client.ask("RETR f", 554);
    client.ask("REST x", 501);
    client.ask("REST +1", 501);
    client.put("APPE f", b"tail");
    client.ask("REST 299999", 350);
    client.put("STOR f", b"end");
    assert_eq!(server.read("f"), [&bytes[..299_999], b"end"].concat());
    client.put("STOR f", b"short");
    assert_eq!(server.read("f"), b"short", "an upload replaces the file");

    assert!(client.ask("MLST f", 250).contains("\r\n type=file;size=5;modify=20"));
    assert!(client.ask("STAT f", 213).contains(" 5 "));
    client.ask("OPTS MLST size;type", 200);
    assert!(client.ask("MLST f", 250).contains("\r\n type=file;size=5; /f\r\n"));
    client.ask("DELE f", 250);
    client.ask("SIZE f", 550);
}

#[test]
fn listings_name_what_is_there() {
    let server = Server::start(&[]);
    std::fs::create_dir(server.path("dir")).unwrap();
    for name in ["a.txt", "b.txt", "dir/c.txt", "Grüße 世界", ".hidden"] {
        server.write(name, "123");
    }
    let mut client = server.login();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let all = ".hidden\r\nGrüße 世界\r\na.txt\r\nb.txt\r\ndir\r\n";
    assert_eq!(text(client.get("NLST")), all);
    assert_eq!(text(client.get("NLST *.txt")), "a.txt\r\nb.txt\r\n");
    assert_eq!(text(client.get("NLST dir")), "dir/c.txt\r\n");
    assert_eq!(text(client.get("NLST dir/*")), "dir/c.txt\r\n");
    assert_eq!(text(client.get("NLST dir/c.txt")), "dir/c.txt\r\n");
    assert_eq!(text(client.get("NLST /dir")), "/dir/c.txt\r\n");
    assert_eq!(text(client.get("NLST dir/")), "dir/c.txt\r\n");
    let long = text(client.get("LIST -la"));
    assert_eq!(long.lines().count(), 5, "{long}");
    assert!(long.lines().all(|line| line.starts_with("-rw") || line.ends_with(" dir")), "{long}");
    assert_eq!(text(client.get("LIST a.txt")).lines().count(), 1);
    client.ask("LIST nowhere", 550);
    let machine = text(client.get("MLSD"));
    assert_eq!(machine.lines().count(), 6, "{machine}");
    assert!(machine.starts_with("type=cdir;modify="), "{machine}");
    client.ask("MLSD a.txt", 501);
}

#[test]
fn a_listing_of_thousands_is_complete() {
    let server = Server::start(&[]);
    for n in 0..3000 {
        server.write(&format!("a-file-with-a-fairly-long-name-{n:04}"), "");
    }
    let listing = server.login().get("LIST");
    assert_eq!(listing.iter().filter(|&&byte| byte == b'\n').count(), 3000);
}

#[test]
fn text_is_sent_with_the_line_ends_of_the_network() {
    let server = Server::start(&[]);
    server.write("unix", "a\nb\n");
    let mut client = server.login();
    client.ask("TYPE A", 200);
    assert_eq!(client.get("RETR unix"), b"a\r\nb\r\n");
    client.put("STOR dos", b"a\r\nb\r\n\r");
    assert_eq!(server.read("dos"), b"a\nb\n\r");
    client.ask("SIZE unix", 550);
    client.ask("REST 1", 350);
    client.ask("RETR unix", 554);
    for (command, code) in [("TYPE E", 504), ("TYPE L 8", 200), ("MODE S", 200), ("MODE B", 504)] {
        client.ask(command, code);
    }
    client.ask("STRU F", 200);
    client.ask("STRU R", 504);
}

#[test]
fn nobody_leaves_the_root() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let server = Server::start(&[]);
    std::fs::create_dir(server.path("sub")).unwrap();
    server.write("sub/inside", "inside");
    symlink(outside.path(), server.path("out")).unwrap();
    symlink(outside.path().join("secret"), server.path("secret")).unwrap();
    symlink("../../../../../../../etc", server.path("sub/up")).unwrap();
    symlink("sub", server.path("in")).unwrap();
    symlink("/sub/inside", server.path("absolute")).unwrap();
    let absolute = outside.path().join("secret").to_str().unwrap().to_owned();
    let mut client = server.login();
    for path in ["out/secret", "secret", "sub/up/passwd", "../../../../../etc/passwd", &absolute] {
        for verb in ["RETR", "SIZE", "MDTM", "MLST", "STAT"] {
            client.ask(&format!("{verb} {path}"), 550);
        }
    }
    for command in ["CWD out", "CWD sub/up", "LIST out", "MLSD out", "MKD out/x", "DELE out/secret"]
    {
        client.ask(command, 550);
    }
    for command in ["STOR out/new", "APPE out/secret", "APPE secret", "RMD out"] {
        client.ask(command, 550);
    }
    client.ask("RNFR sub/inside", 350);
    client.ask("RNTO out/moved", 550);
    client.ask("CWD ../../..", 250);
    assert!(client.ask("PWD", 257).contains("\"/\""));
    // A link that leads outside is not shown, and an upload of its name replaces it.
    let listed = String::from_utf8(client.get("NLST")).unwrap();
    assert_eq!(listed, "in\r\nsub\r\n");
    client.put("STOR secret", b"mine");
    assert_eq!(client.get("RETR in/inside"), b"inside");
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(outside.path().read_dir().unwrap().count(), 1);
}

#[test]
fn what_is_no_file_is_not_transferred() {
    let server = Server::start(&[]);
    std::fs::create_dir(server.path("dir")).unwrap();
    let made = Command::new("mkfifo").arg(server.path("fifo")).status().unwrap();
    assert!(made.success());
    let mut client = server.login();
    for path in ["dir", "fifo", "/"] {
        for verb in ["RETR", "STOR", "APPE", "SIZE"] {
            client.ask(&format!("{verb} {path}"), 550);
        }
    }
}

#[test]
fn an_upload_appears_when_it_is_complete() {
    let server = Server::start(&[]);
    server.write("f", "old");
    let (mut uploader, mut reader) = (server.login(), server.login());
    let mut data = uploader.begin("STOR f");
    data.write_all(b"new").unwrap();
    uploader.send("STAT\r\n");
    uploader.expect(211);
    assert_eq!(reader.get("RETR f"), b"old");
    assert_eq!(server.names().len(), 2, "{:?}", server.names());
    assert_eq!(reader.get("NLST"), b"f\r\n", "the upload under way is not seen");
    let hidden = server.names().into_iter().find(|name| name != "f").unwrap();
    reader.ask(&format!("DELE {hidden}"), 553);
    drop(data);
    uploader.expect(226);
    assert_eq!(reader.get("RETR f"), b"new");
    assert_eq!(server.names(), ["f"]);
}

#[test]
fn a_transfer_is_aborted_and_the_session_goes_on() {
    let server = Server::start(&[]);
    server.write("big", vec![0; 50_000_000]);
    let mut client = server.login();
    client.ask("ABOR", 226);

    let data = client.begin("RETR big");
    client.send("ABOR\r\n");
    client.expect(426);
    client.expect(226);
    drop(data);

    // As a Telnet client does it, with the urgent mark on the last byte.
    let data = client.begin("STOR new");
    client.send(b"\xff\xf4\xff");
    let sent = rustix::net::send(&client.stream, b"\xf2", rustix::net::SendFlags::OOB).unwrap();
    assert_eq!(sent, 1);
    client.send("ABOR\r\n");
    client.expect(426);
    client.expect(226);
    drop(data);

    // As Python's ftplib does it: all of it urgent.
    let data = client.begin("RETR big");
    rustix::net::send(&client.stream, b"ABOR\r\n", rustix::net::SendFlags::OOB).unwrap();
    client.expect(426);
    client.expect(226);
    drop(data);

    // While the server waits for the data connection.
    client.passive();
    client.ask("RETR big", 150);
    client.ask("ABOR", 426);
    client.expect(226);
    client.ask("NOOP", 200);
    assert_eq!(server.names(), ["big"]);
}

#[test]
fn commands_that_come_early_are_done_afterwards() {
    let server = Server::start(&[]);
    server.write("f", noise(1_000_000));
    let mut client = server.login();
    let address = client.passive();
    client.send("RETR f\r\nNOOP\r\nPWD\r\nQUIT\r\n");
    let mut bytes = Vec::new();
    connect(address).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, noise(1_000_000));
    for code in [150, 226, 200, 257, 221] {
        client.expect(code);
    }
    client.expect_end();
}

#[test]
fn lines_that_are_too_long_are_refused() {
    let server = Server::start(&[]);
    let mut client = server.login();
    client.send([&vec![b'x'; 1_000_000][..], b"\r\n"].concat());
    client.expect(500);
    client.ask(&format!("CWD {}", "y".repeat(4000)), 550);
    client.ask(&format!("CWD {}", "z/".repeat(2000)), 550);
    client.ask("NOOP", 200);
    client.send("CWD a\0b\r\n");
    client.expect(553);
}

#[test]
fn data_connections_are_for_the_client_only() {
    let server = Server::start(&["--data-timeout", "2"]);
    server.write("f", "mine");
    let mut client = server.login();
    let address = client.passive();
    // Somebody else is quicker; on Linux all of 127/8 is this host.
    let thief = std::net::SocketAddr::from(([127, 0, 0, 2], 0));
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&socket, &thief).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    let mut thief = TcpStream::from(socket);
    let mut data = connect(address);
    client.ask("RETR f", 150);
    let mut text = String::new();
    data.read_to_string(&mut text).unwrap();
    assert_eq!(text, "mine");
    client.expect(226);
    let mut stolen = Vec::new();
    let _ = thief.read_to_end(&mut stolen);
    assert!(stolen.is_empty());

    client.ask("RETR f", 425);
    client.passive();
    client.ask("RETR f", 150);
    client.expect(425);
}

#[test]
fn active_transfers_are_off_and_then_only_to_the_client() {
    let closed = Server::start(&[]);
    let mut client = closed.login();
    client.ask("PORT 127,0,0,1,19,137", 502);
    client.ask("EPRT |1|127.0.0.1|5001|", 502);

    let server = Server::start(&["--active"]);
    server.write("f", "active");
    let mut client = server.login();
    assert!(client.ask("FEAT", 211).contains("\r\n EPRT\r\n"));
    client.ask("PORT 127,0,0,2,19,137", 504);
    client.ask("PORT 127,0,0,1,0,22", 504);
    client.ask("PORT 127,0,0,1", 501);
    client.ask("EPRT |3|x|5001|", 522);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for command in [
        format!("PORT 127,0,0,1,{},{}", port >> 8, port & 255),
        format!("EPRT |1|127.0.0.1|{port}|"),
    ] {
        client.ask(&command, 200);
        client.ask("RETR f", 150);
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "active");
        client.expect(226);
    }
    client.ask("EPSV ALL", 200);
    client.ask("PORT 127,0,0,1,19,137", 503);
    client.ask("PASV", 503);
    assert_eq!(client.get("RETR f"), b"active");
    client.ask("EPSV 2", 522);
    client.ask("EPSV 1", 229);
}

#[test]
fn passive_ports_are_those_of_the_range_and_the_address_is_the_public_one() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let range = format!("{port}-{port}");
    let options = ["--passive-ports", &range, "--public-address", "192.0.2.7"];
    let server = Server::start(&options);
    let (mut one, mut two) = (server.login(), server.login());
    let reply = one.ask("PASV", 227);
    assert!(reply.contains(&format!("(192,0,2,7,{},{})", port >> 8, port & 255)), "{reply}");
    two.ask("PASV", 425);
    one.ask("ABOR", 226);
    two.ask("PASV", 227);
}

#[test]
fn the_idle_are_dismissed_and_the_slow_are_not_waited_for() {
    let server = Server::start(&["--idle-timeout", "1", "--data-timeout", "1"]);
    server.write("big", vec![0; 50_000_000]);
    let start = Instant::now();
    // A byte now and then is no command.
    let mut dripping = server.login();
    let mut drip = dripping.stream.try_clone().unwrap();
    thread::spawn(move || {
        while drip.write_all(b"N").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    dripping.expect(421);
    assert!(start.elapsed() >= Duration::from_millis(900));

    let mut unread = server.login();
    let data = unread.begin("RETR big");
    unread.expect(426);
    drop(data);
    let mut silent = server.login();
    let data = silent.begin("STOR new");
    silent.expect(426);
    drop(data);
    silent.expect(421);
    assert_eq!(server.names(), ["big"]);
}

#[test]
fn a_half_closed_client_is_served_to_its_quit() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.address);
    client.send("USER ftp\r\nPASS x\r\nSYST\r\nQUIT\r\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    for code in [220, 331, 230, 215, 221] {
        client.expect(code);
    }
    client.expect_end();
}

//! lettre sends mail, suppaftp fetches and sends files.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::time::Duration;

use greenling_patched::{ftp_server, overlapping, smtp_sink};
use lettre::{Message, SmtpTransport, Transport};
use suppaftp::FtpStream;

const DELAY: Duration = Duration::from_millis(200);

#[test]
fn lettre_overlaps() {
    let (addr, received) = smtp_sink(DELAY);
    overlapping("lettre: letters of 200 ms", 100, DELAY * 100, move |n| {
        let letter = Message::builder()
            .from("coroutine@example.org".parse().unwrap())
            .to("sink@example.org".parse().unwrap())
            .subject(format!("letter {n}"))
            .body("hello\r\n.\r\nand goodbye".to_owned())
            .unwrap();
        let transport =
            SmtpTransport::builder_dangerous(addr.ip().to_string()).port(addr.port()).build();
        transport.send(&letter).unwrap().is_positive()
    });
    // By threads and by coroutines.
    let letters: Vec<String> = received.try_iter().collect();
    assert_eq!(letters.len(), 200);
    let subject = |letter: &String| {
        assert!(letter.ends_with("hello\r\n..\r\nand goodbye\r\n.\r\n"), "{letter}");
        letter.lines().find(|line| line.starts_with("Subject: ")).unwrap().to_owned()
    };
    assert_eq!(letters.iter().map(subject).collect::<BTreeSet<_>>().len(), 100);
}

#[test]
fn suppaftp_overlaps() {
    let addr = ftp_server(DELAY);
    overlapping("suppaftp: two transfers of 200 ms", 50, DELAY * 100, move |n| {
        let mut session = FtpStream::connect(addr).unwrap();
        session.login("anonymous", "x").unwrap();
        let name = format!("file-{n}");
        let content = session.retr_as_buffer(&name).unwrap().into_inner();
        assert_eq!(content, name.repeat(1000).into_bytes());
        let sent = session.put_file(&name, &mut Cursor::new(content)).unwrap();
        session.quit().unwrap();
        sent
    });
}

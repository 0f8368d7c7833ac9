//! `chat_server` and `chat_client`.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use super::example::{DEADLINE, Example};
use super::{have, run};

/// A datagram of the kind that the server knows.
pub(super) fn packet(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    [&b"gc1"[..], &[kind], &fields.concat()].concat()
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// A server whose standard input is the test's.
fn server(options: &[&str]) -> (Example, String) {
    let mut server =
        Example::start_typing("chat_server", &[&["--addr", "127.0.0.1:0"], options].concat());
    let line = server.line_with("listening on ");
    let address = line.split_once("listening on ").unwrap().1.to_owned();
    (server, address)
}

fn client(address: &str, name: &str) -> Example {
    let mut client = Example::start_typing("chat_client", &["--addr", address, name]);
    client.line_with("you are in the room");
    client
}

/// A socket that speaks for itself.
fn bare(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn answer(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2000];
    let length = socket.recv(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

/// Logs in by hand, up to the token, which has not been used yet.
fn token(socket: &UdpSocket, nonce: u64, name: &str) -> Vec<u8> {
    socket.send(&packet(1, &[&nonce.to_be_bytes(), &text(name)])).unwrap();
    let welcome = answer(socket);
    assert_eq!(&welcome[..12], packet(6, &[&nonce.to_be_bytes()]), "{welcome:?}");
    welcome[12..].to_vec()
}

/// The next datagram of a kind.
fn answer_of(socket: &UdpSocket, kind: u8) -> Vec<u8> {
    loop {
        let packet = answer(socket);
        if packet[3] == kind {
            return packet;
        }
    }
}

#[test]
fn members_join_talk_hear_the_administrator_and_leave() {
    let (mut server, address) = server(&[]);
    let mut anna = client(&address, "anna");
    let mut bert = client(&address, "bert");
    anna.line_with("* bert has joined");
    anna.type_line("hello, Grüße!");
    bert.line_with("<anna> hello, Grüße!");
    anna.line_with("<anna> hello, Grüße!");
    server.type_line("the room closes soon");
    for member in [&mut anna, &mut bert] {
        member.line_with("[announcement] the room closes soon");
    }
    bert.type_line("/who");
    bert.line_with("* in the room: anna, bert");
    // A hundred lines come in order, each once.
    for n in 0..100 {
        anna.type_line(&format!("line {n}."));
    }
    for n in 0..100 {
        assert_eq!(bert.line_with("<anna>"), format!("<anna> line {n}."));
    }
    // What is too long for a packet comes in pieces.
    anna.type_line(&"ü".repeat(400));
    assert_eq!(bert.line_with("<anna>").matches('ü').count(), 250);
    assert_eq!(bert.line_with("<anna>").matches('ü').count(), 150);

    anna.type_line("/leave");
    anna.succeed();
    bert.line_with("* anna has left");
    bert.end_input();
    bert.succeed();

    server.end_input(); // which is not the end of the room
    let carl = client(&address, "carl");
    server.signal(libc::SIGTERM);
    let output = server.succeed();
    assert!(output.contains("closed with 1 members"), "{output}");
    let (status, output) = carl.finish();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("the room is closed"), "{output}");
}

#[test]
fn names_are_unique_and_rooms_may_be_full() {
    let (_server, address) = server(&["--max-members", "2"]);
    let anna = client(&address, "anna");
    let refuse = |name: &str, why: &str| {
        let (status, output) = Example::start("chat_client", &["--addr", &address, name]).finish();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(output.contains(why), "{output}");
    };
    refuse("anna", "the name is taken");
    refuse("ANNA", "the name is taken");
    refuse("an na", "a name has at most");
    refuse("", "a name has at most");
    let _bert = client(&address, "bert");
    refuse("carl", "the room is full");

    // Whoever leaves, even by a signal, makes place and leaves the name.
    anna.signal(libc::SIGINT);
    anna.succeed();
    let _anna = client(&address, "anna");
}

#[test]
fn nobody_speaks_for_another() {
    let (_server, address) = server(&[]);
    let mut anna = client(&address, "anna");
    let (honest, forger) = (bare(&address), bare(&address));
    let token = token(&honest, 1, "bert");
    let number = 1_u32.to_be_bytes();
    // Before the token has come back, nobody is in the room, and nothing can be said.
    honest.send(&packet(3, &[&token, &number, &text("too early")])).unwrap();
    honest.send(&packet(2, &[&token])).unwrap();
    answer_of(&honest, 8);
    anna.line_with("* bert has joined");
    // A token that is guessed, and one that was seen, but comes from another address.
    forger.send(&packet(3, &[&[7; 16], &number, &text("guessed")])).unwrap();
    assert_eq!(answer(&forger), packet(12, &[&[7; 16], &text("")]));
    forger.send(&packet(3, &[&token, &number, &text("seen")])).unwrap();
    forger.send(&packet(5, &[&token])).unwrap();
    // What only the server says, said by somebody else, to the server.
    let event = packet(9, &[&token, &9_u64.to_be_bytes(), &[3], &text(""), &text("forged")]);
    forger.send(&event).unwrap();
    honest.send(&packet(3, &[&token, &number, &text("honest")])).unwrap();
    // Repetitions are acknowledged, and not said again.
    honest.send(&packet(3, &[&token, &number, &text("honest")])).unwrap();
    honest.send(&packet(3, &[&token, &2_u32.to_be_bytes(), &text("the end")])).unwrap();
    assert_eq!(anna.line_with("<"), "<bert> honest");
    assert_eq!(anna.line_with("<"), "<bert> the end");
    for number in [1_u32, 1, 2] {
        assert_eq!(answer_of(&honest, 10), packet(10, &[&token, &number.to_be_bytes()]));
    }
    anna.type_line("/leave");
    let output = anna.succeed();
    for never in ["too early", "guessed", "seen", "forged"] {
        assert!(!output.contains(never), "{output}");
    }
}

#[test]
fn a_login_that_is_lost_is_sent_again() {
    // The server comes late: the port is known, but nobody is there.
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut anna = Example::start_typing("chat_client", &["--addr", &address, "anna"]);
    std::thread::sleep(Duration::from_millis(700));
    let mut server = Example::start_typing("chat_server", &["--addr", &address]);
    server.line_with("listening on ");
    anna.line_with("you are in the room, with: anna");

    // The same login again gets the same token; the room is entered once.
    let socket = bare(&address);
    let first = token(&socket, 5, "bert");
    assert_eq!(token(&socket, 5, "bert"), first);
    assert_ne!(token(&bare(&address), 5, "bert"), first);

    // Nobody ever.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = nobody.local_addr().unwrap().to_string();
    let arguments = ["--addr", &nobody, "--timeout", "1", "anna"];
    let (status, output) = Example::start("chat_client", &arguments).finish();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("the server does not answer"), "{output}");
}

#[test]
fn what_was_missed_is_sent_again_to_whoever_asks() {
    let (mut server, address) = server(&[]);
    let socket = bare(&address);
    let token = token(&socket, 1, "bert");
    socket.send(&packet(2, &[&token])).unwrap();
    answer_of(&socket, 8);
    for n in 0..5 {
        server.type_line(&format!("announcement {n}"));
    }
    for _ in 0..5 {
        answer_of(&socket, 9);
    }
    // Event 1 is the joining; as though all but that were lost.
    socket.send(&packet(4, &[&token, &1_u64.to_be_bytes()])).unwrap();
    let ends = [1_u64.to_be_bytes(), 6_u64.to_be_bytes()].concat();
    assert_eq!(answer(&socket), packet(11, &[&token, &ends]));
    for n in 0..5 {
        let told = format!("announcement {n}");
        let fields = [&token[..], &(n + 2_u64).to_be_bytes(), &[3], &text(""), &text(&told)];
        assert_eq!(answer(&socket), packet(9, &fields));
    }
}

#[test]
fn a_client_takes_events_in_order_from_a_server_that_loses_and_repeats() {
    // The test is the server.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let mut client = Example::start_typing("chat_client", &["--addr", &address, "anna"]);
    let mut buffer = [0; 2000];
    // The first login is lost.
    socket.recv_from(&mut buffer).unwrap();
    let (_, peer) = socket.recv_from(&mut buffer).unwrap();
    let token = [9; 16];
    // An answer to another question, and then the right one.
    socket.send_to(&packet(6, &[&[0; 8], &[1; 16]]), peer).unwrap();
    socket.send_to(&packet(6, &[&buffer[4..12], &token]), peer).unwrap();
    socket.recv_from(&mut buffer).unwrap();
    socket.send_to(&packet(8, &[&token, &10_u64.to_be_bytes(), &text("anna")]), peer).unwrap();
    client.line_with("you are in the room, with: anna");
    let said = |token: &[u8], number: u64, line: &str| {
        let fields = [token, &number.to_be_bytes(), &[2], &text("bert"), &text(line)];
        socket.send_to(&packet(9, &fields), peer).unwrap();
    };
    said(&[8; 16], 11, "forged");
    said(&token, 12, "second");
    said(&token, 10, "old");
    said(&token, 13, "cut \x1b[2J");
    socket.send_to(b"gc1 nonsense", peer).unwrap();
    // It asks for what is missing.
    loop {
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        if buffer[..length] == packet(4, &[&token, &10_u64.to_be_bytes()]) {
            break;
        }
    }
    said(&token, 11, "first");
    said(&token, 12, "second");
    assert_eq!(client.line_with("<"), "<bert> first");
    assert_eq!(client.line_with("<"), "<bert> second");
    // What cannot be had any more is counted.
    let ends = [20_u64.to_be_bytes(), 20_u64.to_be_bytes()].concat();
    socket.send_to(&packet(11, &[&token, &ends]), peer).unwrap();
    client.line_with("7 events were lost");
    said(&token, 20, "after it");
    assert_eq!(client.line_with("<"), "<bert> after it");
    // A server that is gone is noticed when one leaves: it is told several times, and then not waited for.
    client.end_input();
    client.succeed();
}

#[test]
fn silent_members_expire_and_those_who_live_do_not() {
    let (_server, address) = server(&["--expire", "2"]);
    let mut anna = client(&address, "anna");
    let socket = bare(&address);
    let token = token(&socket, 1, "silent");
    socket.send(&packet(2, &[&token])).unwrap();
    anna.line_with("* silent has joined");
    anna.line_with("* silent has left: silent for too long");
    anna.type_line("still here");
    anna.line_with("<anna> still here");
    answer_of(&socket, 12);
    // A client that is killed can say nothing either.
    let bert = client(&address, "bert");
    bert.signal(libc::SIGKILL);
    anna.line_with("* bert has left: silent for too long");
}

/// A datagram that is none of ours, though it may look like one.
pub(super) fn nonsense(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(..1500)];
    random.fill(&mut bytes);
    if random.bool() && bytes.len() >= 4 {
        bytes[..3].copy_from_slice(b"gc1");
        bytes[3] %= 14;
    }
    bytes
}

#[test]
fn nonsense_is_ignored() {
    let (server, address) = server(&[]);
    let mut anna = client(&address, "anna");
    let socket = bare(&address);
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..20_000 {
        socket.send(&nonsense(&mut random)).unwrap();
        if round % 64 == 0 {
            std::thread::sleep(Duration::from_millis(1)); // lest the kernel drop them all
        }
    }
    if have("socat") {
        let target = format!("UDP:{address}");
        run(Command::new("socat").args(["-u", "-", &target]), b"hello?\n");
    }
    anna.type_line("all is well");
    anna.line_with("<anna> all is well");
    server.signal(libc::SIGTERM);
    let output = server.succeed();
    assert!(!output.contains("panicked"), "{output}");
    assert!(output.contains("closed with 1 members"), "{output}");
}

#[test]
fn a_member_that_floods_is_slowed_down() {
    let (_server, address) = server(&[]);
    let socket = bare(&address);
    let token = token(&socket, 1, "flood");
    socket.send(&packet(2, &[&token])).unwrap();
    answer_of(&socket, 8);
    for number in 1..=60_u32 {
        socket.send(&packet(3, &[&token, &number.to_be_bytes(), &text("flood")])).unwrap();
    }
    // It is told of its own words, and that they were taken: up to a limit.
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut taken = 0;
    let mut buffer = [0; 2000];
    while let Ok(length) = socket.recv(&mut buffer) {
        taken += u32::from(buffer[..length][3] == 10);
    }
    assert!((20..60).contains(&taken), "{taken} were taken");
}

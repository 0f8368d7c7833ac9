//! A member of the chat room of `chat_server`.
//!
//! Run with: cargo run --release --example chat_client -- anna
//!
//! Every line that is typed is said to the room; `/who` lists who is in it, `/leave` or the end of the input
//! leaves. What happens in the room is shown while one types. (Ctrl-R shows again what was typed so far.)

#[path = "support/chat_packet.rs"]
mod chat_packet;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, BufRead, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use chat_packet::{Event, MAX_PACKET, Packet, Token, What};
use clap::Parser;
use greenling::event::Event as Flag;
use greenling::io::Adapter;
use greenling::{signal, sleep, spawn};

/// After which a datagram that was not answered is sent again.
const AGAIN: Duration = Duration::from_millis(300);
/// How often the server gets a sign of life, and is asked for what was missed.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How often one says that one leaves, if the server does not confirm it.
const GOODBYES: u32 = 5;
/// How many events are kept that came before one that is missing.
const MAX_EARLY: usize = 256;

/// A member of a chat room.
#[derive(Parser)]
struct Options {
    /// What to be called there: letters, digits, - and _
    name: String,
    /// Where the room is
    #[arg(long, default_value = "127.0.0.1:7012", value_name = "HOST:PORT")]
    addr: String,
    /// Seconds after which a server that does not answer is given up
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat_client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    if !chat_packet::is_name(&options.name) {
        let rule = "a name has at most 24 letters, digits, - and _";
        return Err(io::Error::new(ErrorKind::InvalidInput, rule));
    }
    let patience = Duration::from_secs(options.timeout);
    let signals = signal::termination()?;
    let wire = Wire::connect(&options.addr)?;
    let (token, have, names) = wire.log_in(&options.name, patience)?;
    let member = Rc::new(Member {
        wire,
        token,
        have: Cell::new(have),
        early: RefCell::default(),
        said: Cell::new(0),
        confirmed: Flag::new(),
        last_heard: Cell::new(Instant::now()),
        leaving: Cell::new(false),
        end: Cell::new(None),
        over: Flag::new(),
    });
    show(&format!("* you are in the room, with: {names}"));

    let receiving = Rc::clone(&member);
    spawn(move || receiving.receive_all());
    let living = Rc::clone(&member);
    spawn(move || living.keep_alive(patience));
    let typing = Rc::clone(&member);
    spawn(move || typing.read_stdin());
    let ending = Rc::clone(&member);
    spawn(move || {
        signals.wait();
        ending.leave();
    });
    member.over.wait();
    member.end.take().unwrap_or(Ok(()))
}

/// A line of what happens, over whatever is being typed.
fn show(line: &str) {
    let mut stdout = greenling::io::stdout().lock();
    let clear = if stdout.is_terminal() { "\r\x1b[K" } else { "" };
    // If nobody reads it any more, then that is their choice.
    let _ = writeln!(stdout, "{clear}{line}");
}

/// The way to the server and back.
struct Wire {
    socket: Adapter<UdpSocket>,
}

impl Wire {
    fn connect(server: &str) -> io::Result<Wire> {
        let Some(server) = server.to_socket_addrs()?.next() else {
            return Err(io::Error::new(ErrorKind::NotFound, "the host has no address"));
        };
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        // From here on, datagrams of others do not get in.
        socket.connect(server)?;
        Ok(Wire { socket: Adapter::new(socket)? })
    }

    /// What cannot be sent is as good as lost on its way.
    fn send(&self, packet: &Packet) {
        let bytes = packet.to_bytes();
        let _ = self.socket.write_with(|socket| socket.send(&bytes));
    }

    /// The next packet that makes sense; `None` when `deadline` passes.
    fn receive(&self, deadline: Instant) -> io::Result<Option<Packet>> {
        let mut buffer = [0; MAX_PACKET + 1];
        loop {
            match self.socket.read_with_deadline(deadline, |socket| socket.recv(&mut buffer)) {
                Ok(length) => {
                    if let Some(packet) = Packet::from_bytes(&buffer[..length]) {
                        return Ok(Some(packet));
                    }
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
                // Nobody is there at the moment: that is how earlier datagrams come back.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// Sends `question` again and again until `answer` takes something for its answer.
    fn ask<T>(
        &self,
        question: &Packet,
        patience: Duration,
        mut answer: impl FnMut(Packet) -> Option<io::Result<T>>,
    ) -> io::Result<T> {
        let give_up = Instant::now() + patience;
        while Instant::now() < give_up {
            self.send(question);
            let again = (Instant::now() + AGAIN).min(give_up);
            while let Some(packet) = self.receive(again)? {
                if let Some(answer) = answer(packet) {
                    return answer;
                }
            }
        }
        Err(io::Error::new(ErrorKind::TimedOut, "the server does not answer"))
    }

    /// Gets a token, and enters the room by it. Returns the number of the last event, and who is there.
    fn log_in(&self, name: &str, patience: Duration) -> io::Result<(Token, u64, String)> {
        let nonce = fastrand::u64(..);
        let join = Packet::Join { nonce, name: name.to_owned() };
        let token = self.ask(&join, patience, |packet| match packet {
            Packet::Welcome { nonce: same, token } if same == nonce => Some(Ok(token)),
            Packet::Refused { nonce: same, reason } if same == nonce => {
                Some(Err(io::Error::other(reason)))
            }
            _ => None,
        })?;
        self.ask(&Packet::Who { token }, patience, |packet| match packet {
            Packet::Room { token: same, last, names } if same == token => {
                Some(Ok((token, last, names)))
            }
            Packet::Bye { token: same, reason } if same == token => {
                Some(Err(io::Error::other(reason)))
            }
            _ => None,
        })
    }
}

struct Member {
    wire: Wire,
    token: Token,
    /// The number of the last event that was shown.
    have: Cell<u64>,
    /// Events that came before one that is missing.
    early: RefCell<BTreeMap<u64, Event>>,
    /// The number of the last thing that the server has confirmed.
    said: Cell<u32>,
    confirmed: Flag,
    last_heard: Cell<Instant>,
    leaving: Cell<bool>,
    end: Cell<Option<io::Result<()>>>,
    over: Flag,
}

impl Member {
    fn finish(&self, result: io::Result<()>) {
        if !self.over.is_set() {
            self.end.set(Some(result));
            self.over.set();
        }
    }

    fn receive_all(&self) {
        let far_away = Duration::from_secs(3600);
        loop {
            match self.wire.receive(Instant::now() + far_away) {
                Ok(Some(packet)) => self.handle(packet),
                Ok(None) => {}
                Err(error) => return self.finish(Err(error)),
            }
        }
    }

    fn handle(&self, packet: Packet) {
        let (Packet::Room { token, .. }
        | Packet::Event { token, .. }
        | Packet::Said { token, .. }
        | Packet::Pong { token, .. }
        | Packet::Bye { token, .. }) = &packet
        else {
            return;
        };
        if *token != self.token {
            return; // not from our server
        }
        self.last_heard.set(Instant::now());
        match packet {
            Packet::Event { event, .. } => self.happened(event),
            Packet::Said { number, .. } => {
                self.said.set(number.max(self.said.get()));
                self.confirmed.set();
            }
            Packet::Pong { oldest, .. } if oldest > self.have.get() + 1 => {
                show(&format!("* {} events were lost", oldest - self.have.get() - 1));
                self.have.set(oldest - 1);
                self.show_those_in_order();
            }
            Packet::Room { names, .. } => show(&format!("* in the room: {names}")),
            Packet::Bye { .. } if self.leaving.get() => self.finish(Ok(())),
            Packet::Bye { reason, .. } if reason.is_empty() => {
                self.finish(Err(io::Error::other("the server does not know us any more")));
            }
            Packet::Bye { reason, .. } => self.finish(Err(io::Error::other(reason))),
            _ => {}
        }
    }

    fn happened(&self, event: Event) {
        let next = self.have.get() + 1;
        if event.number < next {
            return; // a repetition
        }
        let early = event.number > next;
        let known = {
            let mut waiting = self.early.borrow_mut();
            if waiting.len() >= MAX_EARLY && early {
                return; // it will be asked for
            }
            waiting.insert(event.number, event).is_some()
        };
        if early && !known {
            self.ping();
        }
        self.show_those_in_order();
    }

    fn show_those_in_order(&self) {
        loop {
            let next = self.have.get() + 1;
            self.early.borrow_mut().retain(|&number, _| number >= next);
            let Some(event) = self.early.borrow_mut().remove(&next) else { return };
            self.have.set(next);
            let Event { what, name, text, .. } = event;
            show(&match what {
                What::Joined => format!("* {name} has joined"),
                What::Left if text.is_empty() => format!("* {name} has left"),
                What::Left => format!("* {name} has left: {text}"),
                What::Said => format!("<{name}> {text}"),
                What::Announced => format!("[announcement] {text}"),
            });
        }
    }

    fn ping(&self) {
        self.wire.send(&Packet::Ping { token: self.token, have: self.have.get() });
    }

    fn keep_alive(&self, patience: Duration) {
        while self.last_heard.get().elapsed() < patience + KEEP_ALIVE {
            self.ping();
            sleep(KEEP_ALIVE);
        }
        self.finish(Err(io::Error::new(ErrorKind::TimedOut, "the server does not answer")));
    }

    /// What is typed, line by line.
    fn read_stdin(&self) {
        let mut stdin = greenling::io::stdin().lock();
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            match stdin.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return self.finish(Err(error)),
            }
            match String::from_utf8_lossy(&line).trim() {
                "/leave" => break,
                "/who" => self.wire.send(&Packet::Who { token: self.token }),
                line => {
                    for text in chat_packet::texts(line) {
                        number += 1;
                        self.say(number, text);
                    }
                }
            }
        }
        self.leave();
    }

    /// Says it until the server has got it.
    fn say(&self, number: u32, text: String) {
        let packet = Packet::Say { token: self.token, number, text };
        while self.said.get() < number {
            self.confirmed.clear();
            self.wire.send(&packet);
            self.confirmed.wait_timeout(AGAIN);
        }
    }

    fn leave(&self) {
        self.leaving.set(true);
        for _ in 0..GOODBYES {
            self.wire.send(&Packet::Leave { token: self.token });
            if self.over.wait_timeout(AGAIN) {
                return;
            }
        }
        // It will notice by itself.
        self.finish(Ok(()));
    }
}

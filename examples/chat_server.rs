//! A chat room over UDP.
//!
//! Run with: cargo run --release --example chat_server
//!
//! Then, in other terminals: `cargo run --release --example chat_client -- anna`. What is typed into the
//! server's own terminal is an announcement to everybody.
//!
//! Names are unique. Nobody can speak for another, for every datagram carries a token that only the member
//! and the server know. Members that are silent for `--expire` seconds are taken for gone; clients send a
//! sign of life by themselves. Datagrams that make no sense are ignored. SIGINT and SIGTERM close the room.

#[path = "support/chat_packet.rs"]
mod chat_packet;
#[path = "support/chat_room.rs"]
mod chat_room;
#[path = "support/stderr_log.rs"]
mod stderr_log;
#[path = "support/stop.rs"]
mod stop;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use chat_packet::{MAX_PACKET, Packet, Token};
use chat_room::{Outgoing, Room};
use clap::Parser;
use greenling::io::Adapter;
use greenling::server::DatagramServer;
use greenling::{sleep, spawn};

/// A chat room.
#[derive(Parser)]
struct Options {
    /// Where to receive; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:7012", value_name = "HOST:PORT")]
    addr: String,
    /// How many may be in the room
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    max_members: u16,
    /// Seconds after which a member that is silent is taken for gone
    #[arg(long, default_value_t = 15, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    expire: u64,
}

fn main() -> ExitCode {
    stderr_log::install();
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let socket = UdpSocket::bind(&options.addr)?;
    let expire = Duration::from_secs(options.expire);
    let hall = Rc::new(Hall {
        room: RefCell::new(Room::new(options.max_members.into(), expire)),
        socket: Adapter::new(socket.try_clone()?)?,
        random: File::open("/dev/urandom")?,
        ignored: Cell::new(0),
    });
    let receiving = Rc::clone(&hall);
    let receive = move |_: &_, datagram: Vec<u8>, from| {
        receiving.receive(&datagram, from);
        Ok(())
    };
    // One more byte than the longest, so that a longer one is not taken for one when it is cut.
    let server = DatagramServer::new(Adapter::new(socket)?, receive).max_datagram(MAX_PACKET + 1);
    stop::stop_on_signal(server.handle(), Duration::ZERO)?;
    println!("listening on {}", server.local_addr()?);
    io::stdout().flush()?;

    let expiring = Rc::clone(&hall);
    spawn(move || {
        loop {
            sleep((expire / 4).min(Duration::from_secs(1)));
            expiring.change(|room| room.expire(Instant::now()));
        }
    });
    let announcing = Rc::clone(&hall);
    spawn(move || announcing.announce_stdin());

    server.serve_forever()?;
    let members = hall.room.borrow().len();
    hall.change(Room::close);
    let (events, ignored) = (hall.room.borrow().last(), hall.ignored.get());
    println!("closed with {members} members, {events} events, {ignored} datagrams ignored");
    Ok(())
}

/// The room, and the way out of it.
struct Hall {
    room: RefCell<Room>,
    socket: Adapter<UdpSocket>,
    random: File,
    ignored: Cell<u64>,
}

impl Hall {
    fn receive(&self, datagram: &[u8], from: SocketAddr) {
        let Some(packet) = Packet::from_bytes(datagram) else {
            return self.ignored.set(self.ignored.get() + 1);
        };
        let token = || self.new_token().ok();
        self.change(|room| room.receive(packet, from, Instant::now(), token));
    }

    /// From the kernel: `fastrand` can be guessed.
    fn new_token(&self) -> io::Result<Token> {
        let mut bytes = [0; size_of::<Token>()];
        (&self.random).read_exact(&mut bytes)?;
        Ok(Token::from_be_bytes(bytes))
    }

    /// Changes the room, and sends what that leads to once the room is free again, for sending may wait.
    fn change(&self, change: impl FnOnce(&mut Room) -> Outgoing) {
        let outgoing = change(&mut self.room.borrow_mut());
        for (to, packet) in outgoing {
            let bytes = packet.to_bytes();
            // What cannot be sent is lost, as datagrams may be; whoever misses it asks again.
            let _ = self.socket.write_with(|socket| socket.send_to(&bytes, to));
        }
    }

    /// Every line of standard input is for all. Its end is not the end of the room.
    fn announce_stdin(&self) {
        let mut stdin = greenling::io::stdin().lock();
        let mut line = Vec::new();
        loop {
            line.clear();
            match stdin.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => return eprintln!("chat_server: standard input: {error}"),
            }
            let text = String::from_utf8_lossy(&line);
            for part in chat_packet::texts(&text) {
                self.change(|room| room.announce(&part));
            }
        }
    }
}

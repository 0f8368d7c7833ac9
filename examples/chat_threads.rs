//! A chat over TCP, a thread for each connection: everybody sees what the others say. What is typed at the server is
//! announced to all; the end of its input (Ctrl-D) ends it. Try it: nc 127.0.0.1 7008
//!
//! The original, on threads, of what `chat` is on coroutines; see docs/std-surface.md.
//!
//! Run with: cargo run --release --example chat_threads -- 127.0.0.1:7008

use std::collections::HashMap;
use std::env;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// More would be a flood.
const MAX_MEMBERS: usize = 10_000;
/// The longest line that anybody may send, in bytes.
const MAX_LINE: u64 = 1024;
/// How many lines may wait for a member that does not read them. One more, and it is shown out.
const BACKLOG: usize = 256;
/// How long a line may take to be written, and a newcomer to say its name.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everybody who is here, by name.
#[derive(Default)]
struct Room {
    members: Mutex<HashMap<String, SyncSender<Arc<str>>>>,
}

impl Room {
    /// Lets somebody in, and tells the others. `None` if the name is taken, or the room is full.
    fn enter(&self, name: &str) -> Option<Receiver<Arc<str>>> {
        let mut members = self.members.lock().unwrap();
        if members.len() >= MAX_MEMBERS || members.contains_key(name) {
            return None;
        }
        let (sender, receiver) = sync_channel(BACKLOG);
        members.insert(name.to_owned(), sender);
        drop(members);
        self.say(&format!("* {name} is here"));
        Some(receiver)
    }

    fn leave(&self, name: &str) {
        // One who was shown out has been removed, and others have been told, already.
        if self.members.lock().unwrap().remove(name).is_some() {
            self.say(&format!("* {name} has left"));
        }
    }

    /// Tells everybody. Waits for nobody: who does not read is shown out.
    fn say(&self, line: &str) {
        let line: Arc<str> = format!("{line}\n").into();
        let mut slow = Vec::new();
        self.members.lock().unwrap().retain(|name, member| {
            let keeps_up = member.try_send(line.clone()).is_ok();
            if !keeps_up {
                slow.push(name.clone());
            }
            keeps_up
        });
        for name in slow {
            self.say(&format!("* {name} did not keep up"));
        }
    }
}

/// The next line without its end; `None` at the end of the stream.
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let length = reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if length as u64 == MAX_LINE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
    }
    // Control characters would play tricks on the others' terminals.
    let text = String::from_utf8_lossy(&line).replace(char::is_control, "");
    Ok((length > 0).then_some(text))
}

/// Asks for a name until there is a free one.
fn introduce(
    room: &Room,
    reader: &mut impl BufRead,
    mut stream: &TcpStream,
) -> io::Result<Option<(String, Receiver<Arc<str>>)>> {
    loop {
        stream.write_all(b"your name?\n")?;
        let Some(name) = next_line(reader)? else { return Ok(None) };
        if name.is_empty() || name.contains(char::is_whitespace) {
            continue;
        }
        if let Some(lines) = room.enter(&name) {
            return Ok(Some((name, lines)));
        }
        stream.write_all(b"that name is taken\n")?;
    }
}

/// One connection, from the first word to the last.
fn converse(room: &Room, stream: TcpStream) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some((name, lines)) = introduce(room, &mut reader, &stream)? else { return Ok(()) };
    // Writes what the others say, until the member has left or has been shown out.
    let writer = thread::spawn(move || {
        let mut stream = stream;
        for line in lines {
            if stream.write_all(line.as_bytes()).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    });
    let result = listen(room, &name, &mut reader);
    room.leave(&name);
    writer.join().expect("a writer does not panic");
    result
}

fn listen(room: &Room, name: &str, reader: &mut BufReader<TcpStream>) -> io::Result<()> {
    reader.get_ref().set_read_timeout(None)?;
    while let Some(line) = next_line(reader)? {
        if line == "/quit" {
            break;
        }
        room.say(&format!("{name}: {line}"));
    }
    Ok(())
}

fn accept(listener: &TcpListener, room: &Arc<Room>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, most likely. It will get better when somebody leaves.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        let room = room.clone();
        thread::spawn(move || {
            // An error is the member's going away, of which the others have been told.
            let _ = converse(&room, stream);
        });
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7008".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let room = Arc::new(Room::default());
    let guests = room.clone();
    thread::spawn(move || accept(&listener, &guests));
    for line in io::stdin().lines() {
        room.say(&format!("** {}", line?));
    }
    Ok(())
}

//! Small servers of mail and of files, on threads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{io, thread};

use crate::serve_on_threads;

/// A mail server that takes `delay` for each letter and hands over what it gets.
pub fn smtp_sink(delay: Duration) -> (SocketAddr, Receiver<String>) {
    let (letters, received) = channel();
    let letters: &'static Sender<String> = Box::leak(Box::new(letters));
    let addr = serve_on_threads(move |stream| {
        let _ = take_letters(&stream, delay, letters);
    });
    (addr, received)
}

fn take_letters(stream: &TcpStream, delay: Duration, letters: &Sender<String>) -> io::Result<()> {
    let (mut input, mut output) = (BufReader::new(stream), stream);
    output.write_all(b"220 sink\r\n")?;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let command = line.trim_end().to_ascii_uppercase();
        if command == "DATA" {
            output.write_all(b"354 go on\r\n")?;
            let mut letter = String::new();
            while !letter.ends_with("\r\n.\r\n") {
                if input.read_line(&mut letter)? == 0 {
                    return Ok(());
                }
            }
            thread::sleep(delay);
            let _ = letters.send(letter);
            output.write_all(b"250 taken\r\n")?;
        } else if command == "QUIT" {
            return output.write_all(b"221 bye\r\n");
        } else {
            output.write_all(b"250 sink\r\n")?;
        }
    }
}

/// A file server that takes `delay` for each transfer: what is fetched is its name a thousand times, and what is
/// sent must be so, too.
pub fn ftp_server(delay: Duration) -> SocketAddr {
    serve_on_threads(move |stream| {
        let _ = serve_files(&stream, delay);
    })
}

fn serve_files(stream: &TcpStream, delay: Duration) -> io::Result<()> {
    let (mut input, mut output) = (BufReader::new(stream), stream);
    let mut data = TcpListener::bind("127.0.0.1:0")?;
    output.write_all(b"220 files\r\n")?;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (command, argument) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let answer = match command {
            "USER" => "331 and the password?".to_owned(),
            "PASS" => "230 welcome".to_owned(),
            "PASV" => {
                data = TcpListener::bind("127.0.0.1:0")?;
                let port = data.local_addr()?.port();
                format!("227 here (127,0,0,1,{},{})", port >> 8, port & 255)
            }
            "RETR" | "STOR" => {
                output.write_all(b"150 coming\r\n")?;
                let (mut transfer, _) = data.accept()?;
                thread::sleep(delay);
                let content = argument.repeat(1000);
                if command == "RETR" {
                    transfer.write_all(content.as_bytes())?;
                    "226 there it is".to_owned()
                } else {
                    let mut text = String::new();
                    transfer.read_to_string(&mut text)?;
                    if text == content { "226 taken" } else { "550 not that" }.to_owned()
                }
            }
            "QUIT" => return output.write_all(b"221 bye\r\n"),
            _ => "200 as you like".to_owned(),
        };
        output.write_all(answer.as_bytes())?;
        output.write_all(b"\r\n")?;
    }
}

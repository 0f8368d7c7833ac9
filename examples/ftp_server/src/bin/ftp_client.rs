//! An FTP client: `list`, `get`, `put`, `cd` and `quit`.
//!
//! Run with: cargo run --release -p ftp_server --bin ftp_client -- --addr 127.0.0.1:2121
//!
//! It reads one command a line, from a terminal or from a file. Transfers are binary, over connections that the
//! client opens (EPSV, or PASV where a server does not know that). A download appears under its name when it is
//! complete. The exit status says whether every command has succeeded.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use greenling::net::TcpStream;

/// The longest reply that is read, and the longest command.
const MAX_REPLY: usize = 64 * 1024;

/// An FTP client.
#[derive(Parser)]
struct Options {
    /// The server
    #[arg(long, default_value = "127.0.0.1:2121", value_name = "HOST:PORT")]
    addr: String,
    /// Whom to log in as
    #[arg(long, default_value = "anonymous")]
    user: String,
    /// A file with the password in its first line
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// Seconds after which a server that says nothing is given up
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ftp_client: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every command has succeeded.
fn run(options: &Options) -> io::Result<bool> {
    let password = match &options.password_file {
        Some(path) => fs::read_to_string(path)?.lines().next().unwrap_or_default().to_owned(),
        None => "greenling@".to_owned(),
    };
    let mut client = Client::connect(&options.addr, Duration::from_secs(options.timeout))?;
    client.log_in(&options.user, &password)?;
    println!("connected to {}", client.server);
    let mut stdin = greenling::io::stdin().lock();
    let prompt = stdin.is_terminal();
    let mut all_well = true;
    let mut line = String::new();
    loop {
        if prompt {
            print!("> ");
            io::stdout().flush()?;
        }
        line.clear();
        if stdin.read_line(&mut line)? == 0 {
            break;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let done = match words[..] {
            [] => continue,
            ["quit"] => break,
            ["list"] => client.list(""),
            ["list", path] => client.list(path),
            ["cd", path] => client.command(&format!("CWD {path}"), 2).map(|_| path.to_owned()),
            ["get", name] => client.get(name, name.rsplit('/').next().unwrap_or(name)),
            ["get", name, to] => client.get(name, to),
            ["put", from] => client.put(from, from.rsplit('/').next().unwrap_or(from)),
            ["put", from, name] => client.put(from, name),
            _ => Err(io::Error::new(
                ErrorKind::InvalidInput,
                "list [PATH], cd PATH, get NAME [FILE], put FILE [NAME], quit",
            )),
        };
        match done {
            Ok(said) => println!("{}", said.trim_end()),
            Err(error) => {
                all_well = false;
                eprintln!("ftp_client: {error}");
                // Where the connection is in doubt, nothing that follows can be trusted.
                if client.broken {
                    return Ok(false);
                }
            }
        }
    }
    client.command("QUIT", 2)?;
    Ok(all_well)
}

struct Client {
    server: SocketAddr,
    control: BufReader<TcpStream>,
    timeout: Duration,
    /// Whether a reply was missed, so that the next one may belong to an older command.
    broken: bool,
}

impl Client {
    fn connect(server: &str, timeout: Duration) -> io::Result<Client> {
        let control = TcpStream::connect(server)?;
        limit(&control, timeout)?;
        let server = control.peer_addr()?;
        let control = BufReader::new(control);
        let mut client = Client { server, control, timeout, broken: false };
        client.expect(2)?;
        Ok(client)
    }

    fn log_in(&mut self, user: &str, password: &str) -> io::Result<()> {
        let (code, _) = self.ask(&format!("USER {user}"))?;
        match code {
            331 => drop(self.command(&format!("PASS {password}"), 2)?),
            230 => {}
            _ => return Err(io::Error::other(format!("the server refuses {user} with {code}"))),
        }
        self.command("TYPE I", 2).map(drop)
    }

    // ---- the control connection ---------------------------------------------------------------

    /// Sends a command; gives the code of the reply, and its text.
    fn ask(&mut self, command: &str) -> io::Result<(u16, String)> {
        if command.contains(['\r', '\n', '\0']) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a name has one line"));
        }
        self.broken = true;
        self.control.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    /// As [`ask`](Self::ask), for a reply of one kind: 1 for a beginning, 2 for success, 3 for half of it.
    fn command(&mut self, command: &str, kind: u16) -> io::Result<String> {
        let reply = self.ask(command)?;
        fits(reply, kind)
    }

    fn expect(&mut self, kind: u16) -> io::Result<String> {
        self.broken = true;
        let reply = self.reply()?;
        fits(reply, kind)
    }

    /// A reply of one line, or of several, of which the last begins as the first (RFC 959, 4.2).
    fn reply(&mut self) -> io::Result<(u16, String)> {
        let nonsense = || io::Error::new(ErrorKind::InvalidData, "this is no FTP server");
        let mut text = self.reply_line()?;
        let code = text.get(..3).and_then(|code| code.parse().ok()).ok_or_else(nonsense)?;
        if text.as_bytes().get(3) == Some(&b'-') {
            let last = format!("{code:03} ");
            loop {
                let line = self.reply_line()?;
                text.push_str(&line);
                if text.len() > MAX_REPLY {
                    return Err(nonsense());
                }
                if line.starts_with(&last) {
                    break;
                }
            }
        }
        self.broken = false;
        Ok((code, text))
    }

    fn reply_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.control.by_ref().take(MAX_REPLY as u64).read_until(b'\n', &mut line)?;
        match line.last() {
            Some(b'\n') => Ok(String::from_utf8_lossy(&line).into_owned()),
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    // ---- transfers ----------------------------------------------------------------------------

    /// A connection for one transfer. It always goes to the server itself, whatever address that names.
    fn data_connection(&mut self) -> io::Result<TcpStream> {
        let (code, text) = self.ask("EPSV")?;
        let port = match code {
            229 => epsv_port(&text),
            _ => pasv_port(&self.command("PASV", 2)?),
        };
        let port = port.ok_or_else(|| io::Error::other("the server names no port"))?;
        let server = SocketAddr::new(self.server.ip(), port);
        let data = TcpStream::connect_timeout(&server, self.timeout)?;
        limit(&data, self.timeout)?;
        Ok(data)
    }

    fn list(&mut self, path: &str) -> io::Result<String> {
        let mut data = self.data_connection()?;
        self.command(format!("LIST {path}").trim_end(), 1)?;
        let mut listing = Vec::new();
        let read = data.read_to_end(&mut listing);
        drop(data);
        self.expect(2)?;
        read?;
        // What a file is called is for others to say; it is not to speak to the terminal.
        let shown = String::from_utf8_lossy(&listing).replace('\r', "");
        Ok(shown.replace(|c: char| c.is_control() && c != '\n', "?"))
    }

    fn get(&mut self, name: &str, to: &str) -> io::Result<String> {
        let part = format!("{to}.part");
        let mut file = File::create(&part)?;
        let got = self.receive(name, &mut file).and_then(|count| {
            fs::rename(&part, to)?;
            Ok(count)
        });
        match got {
            Ok(count) => Ok(format!("got {name}: {count} bytes")),
            Err(error) => {
                let _ = fs::remove_file(Path::new(&part));
                Err(error)
            }
        }
    }

    fn receive(&mut self, name: &str, file: &mut File) -> io::Result<u64> {
        let mut data = self.data_connection()?;
        self.command(&format!("RETR {name}"), 1)?;
        let copied = io::copy(&mut data, file);
        drop(data);
        // The end of the data may be that of the server's strength: only its word makes it the end of the file.
        self.expect(2)?;
        copied
    }

    fn put(&mut self, from: &str, name: &str) -> io::Result<String> {
        let mut file = File::open(from)?;
        let mut data = self.data_connection()?;
        self.command(&format!("STOR {name}"), 1)?;
        let copied = io::copy(&mut file, &mut data);
        drop(data);
        self.expect(2)?;
        Ok(format!("put {name}: {} bytes", copied?))
    }
}

fn limit(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))
}

fn fits((code, text): (u16, String), kind: u16) -> io::Result<String> {
    match code / 100 == kind {
        true => Ok(text),
        false => Err(io::Error::other(text.trim_end().to_owned())),
    }
}

/// From `229 Entering Extended Passive Mode (|||6446|)` (RFC 2428).
fn epsv_port(text: &str) -> Option<u16> {
    text.split_once("(|||")?.1.split_once("|)")?.0.parse().ok()
}

/// From `227 Entering Passive Mode (127,0,0,1,25,46)`.
fn pasv_port(text: &str) -> Option<u16> {
    let numbers = text.split_once('(')?.1.split_once(')')?.0;
    let numbers: Option<Vec<u8>> =
        numbers.split(',').map(|number| number.trim().parse().ok()).collect();
    match numbers?[..] {
        [a, b, c, d, high, low] if !Ipv4Addr::new(a, b, c, d).is_multicast() => {
            Some(u16::from_be_bytes([high, low]))
        }
        _ => None,
    }
}

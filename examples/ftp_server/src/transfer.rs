//! The commands that use a data connection.

use std::io::{self, Read, Write};
use std::mem;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Instant, SystemTime};

use greenling::io::wait_writable;
use greenling::net::TcpStream;

use crate::ascii::{FromWire, ToWire};
use crate::control::is_timeout;
use crate::data::{self, Agreed};
use crate::disk::{Download, Entry, Kind, Upload};
use crate::files::{describe, is_full};
use crate::listing;
use crate::path::VirtualPath;
use crate::session::Session;
use crate::watch::{Transfer, Watch};

/// How much goes from disk to network at once.
const CHUNK: usize = 256 * 1024;

/// How much goes from network to disk at most at once.
const PIECE: usize = 1024 * 1024;

/// Why a transfer has failed.
enum Failure {
    /// There is no data connection.
    Connect(io::Error),
    /// The data connection broke.
    Data(io::Error),
    Disk(io::Error),
}

/// What `LIST` or `NLST` is about.
struct Listed {
    path: VirtualPath,
    entries: Vec<Entry>,
    /// These are the entries of `path`, which is a directory.
    is_directory: bool,
}

impl Session {
    pub(crate) fn passive(&mut self) -> io::Result<()> {
        if self.only_epsv {
            return self.reply(503, "EPSV ALL was promised.");
        }
        let IpAddr::V4(local) = self.control.local.ip().to_canonical() else {
            return self.reply(425, "PASV is for IPv4; use EPSV.");
        };
        let [a, b, c, d] = self.server.options.public_address.unwrap_or(local).octets();
        match self.listen()? {
            Some(port) => {
                let [high, low] = port.to_be_bytes();
                let address = format!("{a},{b},{c},{d},{high},{low}");
                self.reply(227, format!("Entering passive mode ({address})."))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn extended_passive(&mut self, argument: &[u8]) -> io::Result<()> {
        let own = if self.control.peer_ip().is_ipv4() { "1" } else { "2" };
        match &argument.to_ascii_uppercase()[..] {
            b"ALL" => {
                self.only_epsv = true;
                return self.reply(200, "EPSV only from now on.");
            }
            argument if argument.is_empty() || argument == own.as_bytes() => {}
            _ => return self.reply(522, format!("Network protocol not supported, use ({own}).")),
        }
        match self.listen()? {
            Some(port) => self.reply(229, format!("Entering extended passive mode (|||{port}|).")),
            None => Ok(()),
        }
    }

    fn listen(&mut self) -> io::Result<Option<u16>> {
        // First, so that its port is free again.
        self.agreed = Agreed::Nothing;
        match Agreed::listen(&self.control, self.server.options.passive_ports.as_ref()) {
            Ok((agreed, port)) => {
                self.agreed = agreed;
                Ok(Some(port))
            }
            Err(error) => {
                self.server.log(
                    &self.control,
                    self.user_name(),
                    &format!("cannot listen: {error}"),
                );
                self.reply(425, "No port is free at the moment.").map(|()| None)
            }
        }
    }

    pub(crate) fn port(&mut self, argument: &[u8]) -> io::Result<()> {
        match data::parse_port(argument) {
            Some(address) => self.active(address),
            None => self.reply(501, "PORT takes six numbers: h1,h2,h3,h4,p1,p2."),
        }
    }

    pub(crate) fn extended_port(&mut self, argument: &[u8]) -> io::Result<()> {
        match data::parse_eprt(argument) {
            Some(Ok(address)) => self.active(address),
            Some(Err(_)) => self.reply(522, "Network protocol not supported, use (1,2)."),
            None => self.reply(501, "EPRT takes |protocol|address|port|."),
        }
    }

    /// Connects nowhere but to the client itself, and to no service that it may run: otherwise anybody
    /// could make this server talk to anybody (RFC 2577).
    fn active(&mut self, address: SocketAddr) -> io::Result<()> {
        if !self.server.options.active {
            return self.reply(502, "Only passive transfers here; use PASV or EPSV.");
        }
        if self.only_epsv {
            return self.reply(503, "EPSV ALL was promised.");
        }
        if address.ip().to_canonical() != self.control.peer_ip() || address.port() < 1024 {
            return self.reply(504, "Only your own address, and no port below 1024.");
        }
        self.agreed = Agreed::Active(address);
        self.reply(200, "I will connect there.")
    }

    pub(crate) fn restart(&mut self, argument: &[u8]) -> io::Result<()> {
        match std::str::from_utf8(argument).ok().and_then(|text| data::number(text.trim())) {
            Some(offset) => {
                self.restart = offset;
                self.reply(350, format!("Will start at {offset}."))
            }
            None => self.reply(501, "REST takes a number of bytes."),
        }
    }

    pub(crate) fn retrieve(&mut self, argument: &[u8]) -> io::Result<()> {
        let Some(offset) = self.take_restart()? else { return Ok(()) };
        let Some(path) = self.path(argument)? else { return Ok(()) };
        let mut file = match self.server.disk.open_file(&path, offset) {
            Ok(file) => file,
            Err(error) => return self.refuse(&error),
        };
        if offset > file.size {
            return self.reply(554, "The restart position is beyond the end of the file.");
        }
        let (ascii, left) = (self.ascii, file.size - offset);
        let opening = format!("Sending the file ({left} bytes).");
        self.transfer("RETR", &path, &opening, |stream, transfer| {
            if ascii {
                send_text(&mut file, stream, transfer)
            } else {
                send(&mut file, stream, transfer)
            }
        })
    }

    pub(crate) fn store(&mut self, argument: &[u8]) -> io::Result<()> {
        let Some(offset) = self.take_restart()? else { return Ok(()) };
        let Some(path) = self.path(argument)? else { return Ok(()) };
        let upload = match offset {
            0 => self.server.disk.upload(&path),
            offset => self.server.disk.modify(&path, Some(offset)),
        };
        self.receive("STOR", &path, upload)
    }

    pub(crate) fn append(&mut self, argument: &[u8]) -> io::Result<()> {
        self.restart = 0;
        let Some(path) = self.path(argument)? else { return Ok(()) };
        let upload = self.server.disk.modify(&path, None);
        self.receive("APPE", &path, upload)
    }

    fn receive(
        &mut self,
        verb: &str,
        path: &VirtualPath,
        upload: io::Result<Upload>,
    ) -> io::Result<()> {
        let upload = match upload {
            Ok(upload) => upload,
            Err(error) => return self.refuse(&error),
        };
        let ascii = self.ascii;
        self.transfer(verb, path, "Ready for the file.", |stream, transfer| {
            receive(upload, ascii, stream, transfer)
        })
    }

    /// The position that REST has set; `None` if there cannot be one, which has been said then.
    fn take_restart(&mut self) -> io::Result<Option<u64>> {
        match mem::take(&mut self.restart) {
            // The position would be counted in what goes over the wire.
            1.. if self.ascii => self.reply(554, "REST is for TYPE I only.").map(|()| None),
            offset => Ok(Some(offset)),
        }
    }

    pub(crate) fn list(&mut self, argument: &[u8]) -> io::Result<()> {
        // Many clients pass options for `ls`.
        let argument = without_options(argument);
        let Some(Listed { path, entries, .. }) = self.entries(argument)? else { return Ok(()) };
        let mut text = Vec::new();
        let now = SystemTime::now();
        entries.iter().for_each(|entry| listing::long(entry, now, &mut text));
        self.send_listing("LIST", &path, &text)
    }

    pub(crate) fn name_list(&mut self, argument: &[u8]) -> io::Result<()> {
        let argument = without_options(argument);
        let Some(Listed { path, mut entries, is_directory }) = self.entries(argument)? else {
            return Ok(());
        };
        // The names must be ones that the client can use in the next command.
        let prefix = match argument.iter().rposition(|&byte| byte == b'/') {
            _ if is_directory && argument.is_empty() => Vec::new(),
            _ if is_directory && !argument.ends_with(b"/") => [argument, b"/"].concat(),
            Some(slash) => argument[..=slash].to_vec(),
            None => Vec::new(),
        };
        let mut text = Vec::new();
        for entry in &mut entries {
            entry.name.splice(..0, prefix.iter().copied());
            listing::short(entry, &mut text);
        }
        self.send_listing("NLST", &path, &text)
    }

    pub(crate) fn machine_list(&mut self, argument: &[u8]) -> io::Result<()> {
        let Some(path) = self.path(argument)? else { return Ok(()) };
        let disk = &self.server.disk;
        let entries = disk.entry(&path).and_then(|itself| Ok((itself, disk.list(&path)?)));
        let (itself, entries) = match entries {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return self.reply(501, "MLSD lists directories; use MLST.");
            }
            Err(error) => return self.refuse(&error),
        };
        let (mut text, writable) = (Vec::new(), self.writable());
        let itself = Entry { name: b".".to_vec(), ..itself };
        listing::machine(self.facts, &itself, "cdir", writable, &mut text);
        for entry in &entries {
            listing::machine(self.facts, entry, listing::type_of(entry), writable, &mut text);
        }
        self.send_listing("MLSD", &path, &text)
    }

    /// What `LIST` and `NLST` list: a directory, a file, or what matches a pattern.
    fn entries(&self, argument: &[u8]) -> io::Result<Option<Listed>> {
        let Some(path) = self.path(argument)? else { return Ok(None) };
        let disk = &self.server.disk;
        let entry = disk.entry(&path);
        let is_directory = entry.as_ref().is_ok_and(|entry| entry.kind == Kind::Directory);
        let entries = match entry {
            Ok(entry) if entry.kind == Kind::Directory => disk.list(&path),
            Ok(entry) => Ok(vec![entry]),
            Err(error) => match pattern(&path) {
                Some(pattern) => disk.list(&path.parent()).map(|mut entries| {
                    entries.retain(|e| pattern.matches(&String::from_utf8_lossy(&e.name)));
                    entries
                }),
                None => Err(error),
            },
        };
        match entries {
            Ok(entries) => Ok(Some(Listed { path, entries, is_directory })),
            Err(error) => self.refuse(&error).map(|()| None),
        }
    }

    fn send_listing(&mut self, verb: &str, path: &VirtualPath, text: &[u8]) -> io::Result<()> {
        self.transfer(verb, path, "Here comes the listing.", |mut stream, transfer| {
            stream.write_all(text).map_err(Failure::Data)?;
            transfer.count(text.len());
            stream.shutdown(Shutdown::Write).map_err(Failure::Data)
        })
    }

    /// Opens the data connection, has `body` use it, and says what came of it. Meanwhile the control
    /// connection is watched for ABOR.
    fn transfer(
        &mut self,
        verb: &str,
        path: &VirtualPath,
        opening: &str,
        body: impl FnOnce(&TcpStream, &Transfer) -> Result<(), Failure>,
    ) -> io::Result<()> {
        let agreed = mem::take(&mut self.agreed);
        if matches!(agreed, Agreed::Nothing) {
            return self.reply(425, "PASV or EPSV first.");
        }
        // Before the connection is there, because clients may wait for this before they connect.
        self.reply(150, opening)?;
        let start = Instant::now();
        let watch = Watch::start(&self.control)?;
        let limit = self.server.options.data_timeout();
        let (transfer, peer) = (watch.transfer(), self.control.peer_ip());
        let result = data::open(agreed, peer, limit, &transfer.breaking)
            .map_err(Failure::Connect)
            .and_then(|stream| body(&stream, transfer));
        transfer.breaking.forget();
        let bytes = transfer.bytes();
        let seen = watch.stop();
        self.ahead.extend(seen.lines);
        let outcome = if result.is_ok() { "done" } else { "failed" };
        let (name, seconds) = (path.to_bytes(), start.elapsed().as_secs_f64());
        let name = String::from_utf8_lossy(&name);
        let event = format!("{verb} {name:?} {outcome}, {bytes} bytes, {seconds:.3} s");
        self.server.log(&self.control, self.user_name(), &event);
        if seen.client_gone {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.reply_to_transfer(result, bytes, seen.aborted)?;
        match seen.aborted {
            true => self.reply(226, "Aborted."),
            false => Ok(()),
        }
    }

    fn reply_to_transfer(
        &self,
        result: Result<(), Failure>,
        bytes: u64,
        aborted: bool,
    ) -> io::Result<()> {
        match result {
            Ok(()) => self.reply(226, format!("Done: {bytes} bytes.")),
            Err(_) if aborted => self.reply(426, "The transfer was aborted."),
            Err(Failure::Connect(error)) if is_timeout(&error) => {
                self.reply(425, "You have not connected in time.")
            }
            Err(Failure::Connect(_)) => self.reply(425, "There is no data connection."),
            Err(Failure::Data(error)) if is_timeout(&error) => {
                self.reply(426, "The data connection was silent for too long.")
            }
            Err(Failure::Data(_)) => self.reply(426, "The data connection broke."),
            Err(Failure::Disk(error)) if is_full(&error) => self.reply(452, describe(&error)),
            Err(Failure::Disk(error)) => self.reply(451, describe(&error)),
        }
    }
}

fn send(file: &mut Download, mut stream: &TcpStream, transfer: &Transfer) -> Result<(), Failure> {
    let mut buffer = Vec::new();
    loop {
        send_cached(file, stream, transfer).map_err(Failure::Data)?;
        buffer.resize(CHUNK, 0);
        let n = file.read(&mut buffer).map_err(Failure::Disk)?;
        if n == 0 {
            return stream.shutdown(Shutdown::Write).map_err(Failure::Data);
        }
        stream.write_all(&buffer[..n]).map_err(Failure::Data)?;
        transfer.count(n);
    }
}

/// Sends for as long as nobody has to wait for the disk. The kernel copies once then, and not twice.
fn send_cached(file: &mut Download, stream: &TcpStream, transfer: &Transfer) -> io::Result<()> {
    // sendfile(2) has no flag to ask for that.
    stream.set_nonblocking(true)?;
    let limit = stream.write_timeout()?;
    while let Some(sent) = file.send(stream, CHUNK) {
        match sent {
            Ok(n) => transfer.count(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !wait_writable(stream, limit)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    stream.set_nonblocking(false)
}

fn send_text(
    file: &mut Download,
    mut stream: &TcpStream,
    transfer: &Transfer,
) -> Result<(), Failure> {
    let (mut buffer, mut text, mut convert) = (vec![0; CHUNK], Vec::new(), ToWire::default());
    loop {
        let n = file.read(&mut buffer).map_err(Failure::Disk)?;
        if n == 0 {
            return stream.shutdown(Shutdown::Write).map_err(Failure::Data);
        }
        convert.convert(&buffer[..n], &mut text);
        stream.write_all(&text).map_err(Failure::Data)?;
        transfer.count(text.len());
    }
}

/// Writes what the client sends until it closes the connection, which is all that says that the file
/// is complete.
fn receive(
    mut upload: Upload,
    ascii: bool,
    stream: &TcpStream,
    transfer: &Transfer,
) -> Result<(), Failure> {
    let (mut buffer, mut convert) = (Vec::new(), FromWire::default());
    let ended = loop {
        // It is another one after each piece.
        buffer.resize(PIECE, 0);
        let (filled, ended) = fill(&mut buffer, stream, transfer, || upload.is_busy());
        if ascii {
            let mut text = convert.convert(&buffer[..filled]);
            if matches!(ended, Some(Ok(()))) {
                text.extend(convert.finish());
            }
            let length = text.len();
            upload.write(&mut text, length).map_err(Failure::Disk)?;
        } else if filled > 0 {
            upload.write(&mut buffer, filled).map_err(Failure::Disk)?;
        }
        if let Some(ended) = ended {
            break ended;
        }
    };
    // Before the connection's error is told: what has come is kept (APPE), and a disk that is full is the
    // better reason.
    upload.flush().map_err(Failure::Disk)?;
    ended.map_err(Failure::Data)?;
    // A client that was killed closes its connections too; what it has sent is not a file.
    if transfer.is_broken() {
        return Err(Failure::Data(io::ErrorKind::ConnectionAborted.into()));
    }
    upload.commit().map_err(Failure::Disk)
}

/// Reads at least once, and then on for as long as the disk is busy and there is room: the faster the client, the
/// larger the pieces. Says how much has come, and how the stream has ended, if it has.
fn fill(
    buffer: &mut [u8],
    mut stream: &TcpStream,
    transfer: &Transfer,
    is_busy: impl Fn() -> bool,
) -> (usize, Option<io::Result<()>>) {
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return (filled, Some(Ok(()))),
            Ok(n) => {
                transfer.count(n);
                filled += n;
            }
            Err(error) => return (filled, Some(Err(error))),
        }
        if filled == buffer.len() || !is_busy() {
            return (filled, None);
        }
    }
}

fn without_options(argument: &[u8]) -> &[u8] {
    let mut rest = argument.trim_ascii_start();
    while rest.starts_with(b"-") {
        let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        rest = rest[end..].trim_ascii_start();
    }
    // A path may begin with a space, unless options come first.
    if rest.len() == argument.trim_ascii_start().len() { argument } else { rest }
}

fn is_pattern(argument: &[u8]) -> bool {
    argument.iter().any(|byte| b"*?[".contains(byte))
}

/// The last name of a path, if it is a pattern.
fn pattern(path: &VirtualPath) -> Option<glob::Pattern> {
    let name = path.name().filter(|name| is_pattern(name))?;
    glob::Pattern::new(&String::from_utf8_lossy(name)).ok()
}

//! A client's session: its state, and what each command does to it.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::control::{Control, Input};
use crate::data::Agreed;
use crate::line::Line;
use crate::listing::Facts;
use crate::path::VirtualPath;
use crate::serve::Server;
use crate::users::User;

/// How long a stranger may take to log in.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// After a wrong password, so that trying many takes long.
const LOGIN_PENALTY: Duration = Duration::from_secs(1);
const LOGIN_ATTEMPTS: u32 = 3;

const COMMANDS: &str = "ABOR ACCT ALLO APPE CDUP CWD DELE EPRT EPSV FEAT HELP LIST MDTM MKD MLSD \
                        MLST MODE NLST NOOP OPTS PASS PASV PORT PWD QUIT REST RETR RMD RNFR RNTO \
                        SIZE STAT STOR STRU SYST TYPE USER";

pub(crate) struct Session {
    pub(crate) server: Rc<Server>,
    pub(crate) control: Rc<Control>,
    login: Login,
    failed_logins: u32,
    pub(crate) directory: VirtualPath,
    /// `TYPE A`, which is what a session begins with.
    pub(crate) ascii: bool,
    /// Where the next transfer begins.
    pub(crate) restart: u64,
    pub(crate) rename_from: Option<VirtualPath>,
    pub(crate) agreed: Agreed,
    /// `EPSV ALL`: the client will ask for no other way any more.
    pub(crate) only_epsv: bool,
    pub(crate) facts: Facts,
    /// Commands that came while a transfer ran.
    pub(crate) ahead: VecDeque<Line>,
}

enum Login {
    Nobody,
    /// After USER.
    Named(String),
    Done(User),
}

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    End,
}

impl Session {
    pub(crate) fn new(server: Rc<Server>, control: Rc<Control>) -> Session {
        Session {
            server,
            control,
            login: Login::Nobody,
            failed_logins: 0,
            directory: VirtualPath::default(),
            ascii: true,
            restart: 0,
            rename_from: None,
            agreed: Agreed::Nothing,
            only_epsv: false,
            facts: Facts::ALL,
            ahead: VecDeque::new(),
        }
    }

    /// Serves the client until it leaves, falls silent, or the server ends.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        self.reply(220, "greenling FTP server ready.")?;
        loop {
            let line = match self.next_line() {
                Input::Line(line) => line,
                Input::End => return Ok(()),
                Input::TimedOut => return self.reply(421, "Silent for too long; goodbye."),
                Input::HungUp => return self.reply(421, "The server is shutting down; goodbye."),
            };
            let flow = match line {
                Line::Command(line) => self.command(&line)?,
                Line::TooLong => {
                    self.reply(500, "Line too long.")?;
                    Flow::Continue
                }
            };
            if flow == Flow::End {
                return Ok(());
            }
        }
    }

    fn next_line(&mut self) -> Input {
        if let Some(line) = self.ahead.pop_front() {
            return Input::Line(line);
        }
        let idle = self.server.options.idle_timeout();
        self.control.read_line(Some(match self.login {
            Login::Done(_) => idle,
            _ => idle.min(LOGIN_TIMEOUT),
        }))
    }

    pub(crate) fn reply(&self, code: u16, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.control.reply(code, text)
    }

    /// The name for the log.
    pub(crate) fn user_name(&self) -> &str {
        match &self.login {
            Login::Done(user) => &user.name,
            _ => "-",
        }
    }

    pub(crate) fn writable(&self) -> bool {
        matches!(&self.login, Login::Done(user) if user.writable)
    }

    fn command(&mut self, line: &[u8]) -> io::Result<Flow> {
        let (verb, argument) = match line.iter().position(|&byte| byte == b' ') {
            Some(space) => (&line[..space], &line[space + 1..]),
            None => (line, &line[line.len()..]),
        };
        // No command is longer; what is longer is not worth a copy.
        let verb = verb[..verb.len().min(8)].to_ascii_uppercase();
        let rename_from = self.rename_from.take();
        match &verb[..] {
            b"QUIT" => {
                self.reply(221, "Goodbye.")?;
                return Ok(Flow::End);
            }
            b"USER" => self.user(argument)?,
            b"PASS" => return self.pass(argument),
            b"NOOP" => self.reply(200, "Nothing done.")?,
            b"SYST" => self.reply(215, "UNIX Type: L8")?,
            b"HELP" => self.help()?,
            b"FEAT" => self.feat()?,
            b"OPTS" => self.opts(argument)?,
            _ if !KNOWN.contains(&&verb[..]) => self.reply(502, "No such command here.")?,
            _ if !matches!(self.login, Login::Done(_)) => {
                self.reply(530, "Please log in with USER and PASS.")?;
            }
            verb if WRITES.contains(&verb) && !self.writable() => {
                self.reply(550, "You may only read here.")?;
            }
            // The argument may be missing where RFC 959 has it in brackets, and nowhere else.
            verb if argument.is_empty() && NEEDS_ARGUMENT.contains(&verb) => {
                self.reply(501, "An argument is missing.")?;
            }
            b"RNTO" => self.rename_to(rename_from, argument)?,
            verb => self.work(verb, argument)?,
        }
        Ok(Flow::Continue)
    }

    /// The commands of somebody who is logged in.
    fn work(&mut self, verb: &[u8], argument: &[u8]) -> io::Result<()> {
        match verb {
            b"ACCT" | b"ALLO" => self.reply(202, "Not needed here."),
            b"TYPE" => self.type_(argument),
            b"MODE" => self.only(argument, b"S", "MODE is stream."),
            b"STRU" => self.only(argument, b"F", "STRU is file."),
            b"PWD" | b"XPWD" => self.print_directory(),
            b"CWD" | b"XCWD" => self.change_directory(argument),
            b"CDUP" | b"XCUP" => self.change_directory(b".."),
            b"MKD" | b"XMKD" => self.make_directory(argument),
            b"RMD" | b"XRMD" => self.remove_directory(argument),
            b"DELE" => self.delete(argument),
            b"RNFR" => self.rename_from(argument),
            b"SIZE" => self.size(argument),
            b"MDTM" => self.modified(argument),
            b"MLST" => self.machine_entry(argument),
            b"STAT" if argument.is_empty() => self.status(),
            b"STAT" => self.status_of(argument),
            b"PASV" => self.passive(),
            b"EPSV" => self.extended_passive(argument),
            b"PORT" => self.port(argument),
            b"EPRT" => self.extended_port(argument),
            b"REST" => self.restart(argument),
            b"RETR" => self.retrieve(argument),
            b"STOR" => self.store(argument),
            b"APPE" => self.append(argument),
            b"LIST" => self.list(argument),
            b"NLST" => self.name_list(argument),
            b"MLSD" => self.machine_list(argument),
            b"ABOR" => {
                self.agreed = Agreed::Nothing;
                self.reply(226, "There is nothing to abort.")
            }
            _ => self.reply(502, "No such command here."),
        }
    }

    fn user(&mut self, argument: &[u8]) -> io::Result<()> {
        if argument.is_empty() {
            return self.reply(501, "USER needs a name.");
        }
        let name = String::from_utf8_lossy(argument).into_owned();
        let text = match self.server.users.is_anonymous(&name) {
            true => "Any password will do.",
            false => "Password required.",
        };
        self.login = Login::Named(name);
        self.reply(331, text)
    }

    fn pass(&mut self, password: &[u8]) -> io::Result<Flow> {
        let Login::Named(name) = &self.login else {
            self.reply(503, "USER first.")?;
            return Ok(Flow::Continue);
        };
        match self.server.users.login(name, password) {
            Some(user) => {
                self.server.log(&self.control, &user.name, "logged in");
                self.login = Login::Done(user);
                self.directory = VirtualPath::default();
                self.reply(230, "Logged in.")?;
            }
            None => {
                self.server.log(&self.control, "-", "failed to log in");
                self.login = Login::Nobody;
                self.failed_logins += 1;
                greenling::sleep(LOGIN_PENALTY);
                self.reply(530, "Login incorrect.")?;
                if self.failed_logins >= LOGIN_ATTEMPTS {
                    self.reply(421, "Too many attempts; goodbye.")?;
                    return Ok(Flow::End);
                }
            }
        }
        Ok(Flow::Continue)
    }

    fn help(&self) -> io::Result<()> {
        let words: Vec<_> = COMMANDS.split_whitespace().collect();
        let lines = words.chunks(10).map(|words| words.join(" "));
        self.control.reply_lines(214, "These commands are known:", lines, "End.")
    }

    fn feat(&self) -> io::Result<()> {
        let mut features = vec!["EPSV".to_owned()];
        if self.server.options.active {
            features.insert(0, "EPRT".to_owned());
        }
        features.push("MDTM".to_owned());
        features.push(format!("MLST {}", self.facts.feature()));
        features.extend(["REST STREAM", "SIZE", "TVFS", "UTF8"].map(str::to_owned));
        self.control.reply_lines(211, "Features:", features, "End.")
    }

    fn opts(&mut self, argument: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(argument).into_owned();
        let (what, value) = text.split_once(' ').unwrap_or((&text, ""));
        match what.to_ascii_uppercase().as_str() {
            // Names are bytes here; nothing is converted either way.
            "UTF8" | "UTF-8" => self.reply(200, "Names are sent as they are on disk."),
            "MLST" => {
                self.facts = Facts::parse(value);
                self.reply(200, format!("MLST OPTS {}", self.facts.names()).trim_end())
            }
            _ => self.reply(501, "No such option."),
        }
    }

    fn type_(&mut self, argument: &[u8]) -> io::Result<()> {
        self.ascii = match &argument.to_ascii_uppercase()[..] {
            b"A" | b"A N" => true,
            b"I" | b"L 8" | b"L8" => false,
            _ => return self.reply(504, "Only TYPE A and TYPE I are known."),
        };
        self.reply(200, if self.ascii { "TYPE is ASCII." } else { "TYPE is binary." })
    }

    /// For MODE and STRU, whose other values nobody has used in decades.
    fn only(&self, argument: &[u8], value: &[u8], text: &str) -> io::Result<()> {
        match argument.eq_ignore_ascii_case(value) {
            true => self.reply(200, text),
            false => self.reply(504, "Not supported."),
        }
    }

    fn status(&self) -> io::Result<()> {
        let lines = [
            format!("Connected from {}", self.control.peer.ip().to_canonical()),
            format!("Logged in as {}", self.user_name()),
            format!(
                "TYPE: {}; STRU: file; MODE: stream",
                if self.ascii { "ASCII" } else { "binary" }
            ),
            "No transfer in progress".to_owned(),
        ];
        self.control.reply_lines(211, "greenling FTP server:", lines, "End.")
    }
}

/// What `work` knows, and RNTO.
const KNOWN: &[&[u8]] = &[
    b"ABOR", b"ACCT", b"ALLO", b"APPE", b"CDUP", b"CWD", b"DELE", b"EPRT", b"EPSV", b"LIST",
    b"MDTM", b"MKD", b"MLSD", b"MLST", b"MODE", b"NLST", b"PASV", b"PORT", b"PWD", b"REST",
    b"RETR", b"RMD", b"RNFR", b"RNTO", b"SIZE", b"STAT", b"STOR", b"STRU", b"TYPE", b"XCUP",
    b"XCWD", b"XMKD", b"XPWD", b"XRMD",
];
const WRITES: &[&[u8]] =
    &[b"APPE", b"DELE", b"MKD", b"XMKD", b"RMD", b"XRMD", b"RNFR", b"RNTO", b"STOR"];
const NEEDS_ARGUMENT: &[&[u8]] = &[
    b"APPE", b"CWD", b"DELE", b"EPRT", b"MDTM", b"MKD", b"MODE", b"PORT", b"REST", b"RETR", b"RMD",
    b"RNFR", b"RNTO", b"SIZE", b"STOR", b"STRU", b"TYPE", b"XCWD", b"XMKD", b"XRMD",
];

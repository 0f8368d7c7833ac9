//! Programs on threads that were ported by their imports alone: nothing else differs, the documentation shows it, and
//! both do what they say they do.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PROGRAMS: [&str; 3] = ["chat", "port_scanner", "pipeline"];

/// How long any one thing may take on a busy machine, without optimization.
const DEADLINE: Duration = Duration::from_secs(60);

fn in_the_repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The lines of an example behind its description.
fn source(example: &str) -> Vec<String> {
    let path = in_the_repository(&format!("examples/{example}.rs"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.starts_with("//!")).map(str::to_owned).collect()
}

/// What has changed between the original and its port, as `diff -u` would say it.
fn diff(program: &str) -> String {
    let (before, after) = (source(&format!("{program}_threads")), source(program));
    assert_eq!(before.len(), after.len(), "{program}");
    let mut removed = String::new();
    let mut added = String::new();
    for (before, after) in before.iter().zip(&after).filter(|(before, after)| before != after) {
        assert!(before.starts_with("use std::"), "{program}: {before}");
        assert_eq!(&before.replacen("std::", "greenling::", 1), after, "{program}");
        writeln!(removed, "-{before}").unwrap();
        writeln!(added, "+{after}").unwrap();
    }
    format!(
        "```diff\n--- examples/{program}_threads.rs\n+++ examples/{program}.rs\n{removed}{added}```\n"
    )
}

#[test]
fn nothing_but_imports_differs_as_the_documentation_shows() {
    let text = std::fs::read_to_string(in_the_repository("docs/std-surface.md")).unwrap();
    for program in PROGRAMS {
        let diff = diff(program);
        assert!(text.contains(&diff), "docs/std-surface.md should have:\n{diff}");
    }
}

/// A process that does not outlive its test.
struct Program(Child);

impl Program {
    fn start(example: &str, arguments: &[&str]) -> Program {
        let test = std::env::current_exe().unwrap();
        let target = test.parent().and_then(|deps| deps.parent()).unwrap();
        let path = target.join("examples").join(example);
        assert!(path.exists(), "`cargo build --examples` builds what this test runs");
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        Program(command.spawn().unwrap())
    }

    fn input(&mut self) -> ChildStdin {
        self.0.stdin.take().unwrap()
    }

    /// Waits for the end, which is to be a good one, and returns what the program has printed since.
    fn end(mut self) -> Vec<String> {
        drop(self.0.stdin.take());
        let mut output = self.0.stdout.take();
        let printed = thread::spawn(move || {
            let mut text = String::new();
            if let Some(output) = &mut output {
                output.read_to_string(&mut text).unwrap();
            }
            text
        });
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < DEADLINE, "it hangs");
            thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}");
        printed.join().unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Both versions of a program.
fn versions(program: &str) -> [String; 2] {
    [format!("{program}_threads"), program.to_owned()]
}

// ---- the chat ---------------------------------------------------------------------------------

struct Member(BufReader<TcpStream>);

impl Member {
    fn connect(address: &str) -> Member {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Member(BufReader::new(stream))
    }

    fn enter(address: &str, name: &str) -> Member {
        let mut member = Member::connect(address);
        member.hears("your name?");
        member.says(name);
        member.hears(&format!("* {name} is here"));
        member
    }

    fn says(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    #[track_caller]
    fn hears(&mut self, expected: &str) {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end_matches('\n'), expected);
    }

    #[track_caller]
    fn leaves_when_shown_out(mut self) {
        let mut rest = Vec::new();
        // A reset will do as well: there may be something that the server has not read.
        let _ = self.0.read_to_end(&mut rest);
    }
}

#[test]
fn a_chat() {
    for version in versions("chat") {
        let mut server = Program::start(&version, &["127.0.0.1:0"]);
        let mut output = BufReader::new(server.0.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap();
        let mut keyboard = server.input();

        let mut anna = Member::enter(address, "anna");
        // A name is a word that nobody has.
        let mut ben = Member::connect(address);
        ben.hears("your name?");
        ben.says("two words");
        ben.hears("your name?");
        ben.says("anna");
        ben.hears("that name is taken");
        ben.hears("your name?");
        ben.says("ben");
        ben.hears("* ben is here");
        anna.hears("* ben is here");
        anna.says("hello\x1b[31m");
        for member in [&mut anna, &mut ben] {
            member.hears("anna: hello[31m");
        }
        keyboard.write_all(b"tea is ready\n").unwrap();
        for member in [&mut anna, &mut ben] {
            member.hears("** tea is ready");
        }

        // Leaving: by a word, by closing the connection, or by talking too long.
        ben.says("/quit");
        anna.hears("* ben has left");
        ben.leaves_when_shown_out();
        drop(Member::enter(address, "carl"));
        anna.hears("* carl is here");
        anna.hears("* carl has left");
        let mut dora = Member::enter(address, "dora");
        anna.hears("* dora is here");
        dora.says(&"x".repeat(2000));
        anna.hears("* dora has left");
        dora.leaves_when_shown_out();

        // One who does not read holds nobody up, and is shown out in the end.
        let deaf = Member::enter(address, "deaf");
        anna.hears("* deaf is here");
        let long = "y".repeat(1000);
        let began = Instant::now();
        let mut line = String::new();
        loop {
            assert!(began.elapsed() < DEADLINE);
            anna.says(&long);
            line.clear();
            anna.0.read_line(&mut line).unwrap();
            if line.contains("did not keep up") {
                break;
            }
        }
        assert_eq!(line, "* deaf did not keep up\n");
        drop(deaf);

        drop(keyboard);
        server.end();
    }
}

#[test]
fn a_chat_of_many() {
    const MANY: usize = 100;
    for version in versions("chat") {
        let mut server = Program::start(&version, &["127.0.0.1:0"]);
        let mut output = BufReader::new(server.0.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap();
        let mut members: Vec<_> =
            (0..MANY).map(|number| Member::enter(address, &format!("member{number}"))).collect();
        for (number, member) in members.iter_mut().enumerate() {
            for later in number + 1..MANY {
                member.hears(&format!("* member{later} is here"));
            }
        }
        for number in 0..MANY {
            members[number].says("hello, all");
            for member in &mut members {
                member.hears(&format!("member{number}: hello, all"));
            }
        }
        server.end();
    }
}

// ---- the port scanner -------------------------------------------------------------------------

#[test]
fn a_port_scanner() {
    // One port that the system chooses, and some near it.
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = first.local_addr().unwrap().port();
    let range = port.saturating_sub(100)..=port.saturating_add(100);
    let others: Vec<_> = (range.clone().step_by(30))
        .filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .collect();
    let ours: Vec<u16> = others
        .iter()
        .chain([&first])
        .map(|listener| listener.local_addr().unwrap().port())
        .collect();
    for version in versions("port_scanner") {
        for workers in ["1", "50"] {
            let (low, high) = (range.start().to_string(), range.end().to_string());
            let lines = Program::start(&version, &[&low, &high, workers]).end();
            let open: Vec<u16> = lines
                .iter()
                .map(|line| line.strip_suffix(" is open").unwrap().parse().unwrap())
                .collect();
            assert!(open.is_sorted() && open.iter().all(|port| range.contains(port)));
            assert!(ours.iter().all(|port| open.contains(port)), "{ours:?}, but {open:?}");
            assert!(open.len() < range.len(), "not every port is open");
        }
    }
}

// ---- the pipeline -----------------------------------------------------------------------------

#[test]
fn a_pipeline() {
    let mut text = String::new();
    for n in 0..2000 {
        writeln!(text, "Often the cat, OFTEN the dog; word{} and \"never\".", n % 50).unwrap();
    }
    for version in versions("pipeline") {
        let mut program = Program::start(&version, &[]);
        let mut input = program.input();
        let text = text.clone();
        let feeder = thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
        let lines = program.end();
        feeder.join().unwrap();
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[..3], ["4000 often", "2000 never", "40 word0"]);
        assert_eq!(lines[9], "40 word15");
        // No input at all.
        assert_eq!(Program::start(&version, &[]).end(), [""; 0]);
    }
}

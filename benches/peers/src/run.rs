//! A run: all sections, and what is written of them.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use greenling_echo_bench::chart::{self, Line};
use greenling_echo_bench::load::Protocol;
use greenling_echo_bench::measure::{self, Placement, Plan, Report, Subject};
use greenling_echo_bench::report::{self, version};
use greenling_echo_bench::server::Kind as BuiltIn;
use greenling_echo_bench::stats::median;
use tempfile::TempDir;

use crate::foreign::Foreign;
use crate::micro::{self, Op};
use crate::server::Kind;
use crate::{Options, Section};

type Done = Result<(), Box<dyn Error>>;

/// The directory of greenling itself.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

struct Run<'o> {
    options: &'o Options,
    placement: Placement,
    foreign: Foreign,
    most: usize,
    docs: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Done {
    measure::give_up_after(Duration::from_secs(options.limit));
    let placement = Placement::choose()?;
    measure::check_that_errors_are_seen(placement, options.blind)?;
    let untold = env::args().count() == 1;
    let docs = options.docs.clone().or(untold.then(|| Path::new(ROOT).join("docs")));
    if let Some(docs) = &docs {
        fs::create_dir_all(docs.join("charts"))?;
    }
    let most = measure::most_connections()?;
    let run = Run { options, placement, foreign: Foreign::find()?, most, docs };
    for section in &options.only {
        match section {
            Section::Echo => run.echo()?,
            Section::Http => run.http()?,
            Section::Micro => run.micro()?,
        }
    }
    Ok(())
}

impl Run<'_> {
    /// The figure, or a smaller one where it only has to be shown that it works.
    fn scale<T>(&self, figure: T, quick: T) -> T {
        if self.options.quick { quick } else { figure }
    }

    fn echo(&self) -> Done {
        let mut subjects = vec![
            Subject::built_in(BuiltIn::Raw, self.options.corrupt)?,
            Subject::built_in(BuiltIn::Greenling, false)?,
        ];
        subjects.extend(Kind::ECHO.map(built_in));
        subjects.push(Subject::built_in(BuiltIn::Threads, false)?);
        subjects.extend(self.foreign.echo());
        let connections = self.scale(vec![50, 1000, 8000], vec![20, 200]);
        let reports = self.serve(Protocol::Echo, &subjects, &connections)?;
        self.publish("peers_echo", "per echo", &reports)
    }

    fn http(&self) -> Done {
        let mut subjects = greenlings_http()?;
        subjects.extend(Kind::HTTP.map(built_in));
        let nginx = Nginx::find()?;
        if nginx.is_none() {
            eprintln!("skipped: nginx, for it is not installed");
        }
        subjects.extend(nginx.as_ref().map(Nginx::subject));
        subjects.extend(self.foreign.http());
        let connections = self.scale(vec![64, 1000], vec![20]);
        let reports = self.serve(Protocol::Http, &subjects, &connections)?;
        self.publish("peers_http", "per HTTP answer", &reports)
    }

    fn serve(
        &self,
        protocol: Protocol,
        subjects: &[Subject],
        connections: &[usize],
    ) -> io::Result<Vec<Report>> {
        let mut reports = Vec::new();
        for &wanted in connections {
            let connections = wanted.min(self.most);
            eprint!("{}, {connections} connections ", protocol.name());
            let plan = Plan {
                protocol,
                connections,
                modes: vec![("all", connections)],
                rounds: self.options.rounds.unwrap_or(self.scale(7, 2)),
                slice: self.scale(200, 50),
                strace: reports.is_empty() && !self.options.quick,
                blind: self.options.blind,
                // One that falls at a limit is no reason to learn nothing of the others.
                may_fall: true,
            };
            let compared = measure::compare(subjects, &plan, self.placement)?;
            reports.extend(compared.into_iter().flatten());
            eprintln!();
        }
        Ok(reports)
    }

    fn publish(&self, name: &str, what: &str, reports: &[Report]) -> Done {
        let table = report::table_of(reports);
        println!("{}", table.for_terminal());
        let Some(docs) = &self.docs else { return Ok(()) };
        let csv = File::create(docs.join(format!("{name}.csv")))?;
        report::write_csv(&mut BufWriter::new(csv), reports)?;
        let (title, file) = (
            format!("Server CPU {what}, as a multiple of the raw epoll loop's"),
            format!("charts/{name}.svg"),
        );
        chart::lines(&docs.join(&file), &title, "ratio", &lines(reports))?;
        let text = format!("{}\n\n{}\n![{title}]({file})", self.setting(), table.for_document());
        self.write(docs, name, &text)
    }

    fn micro(&self) -> Done {
        let ops = if self.options.ops.is_empty() { &Op::ALL[..] } else { &self.options.ops };
        let rounds = self.options.rounds.unwrap_or(self.scale(11, 2));
        let results = micro::measure_all(ops, &self.foreign, self.placement, rounds)?;
        let table = micro::table_of(&results);
        println!("{}", table.for_terminal());
        let Some(docs) = &self.docs else { return Ok(()) };
        micro::csv(&docs.join("peers_micro.csv"), &results)?;
        let pictures = micro::chart_all(&docs.join("charts"), &results)?;
        let text = format!("{}\n\n{}\n{pictures}", self.setting(), table.for_document());
        self.write(docs, "peers_micro", &text)
    }

    /// A directory without the document has the charts and the figures alone.
    fn write(&self, docs: &Path, name: &str, text: &str) -> Done {
        let document = docs.join("performance.md");
        if document.exists() {
            report::replace_in_document(&document, name, text)?;
        }
        Ok(())
    }

    /// The machine, and the versions of all who take part.
    fn setting(&self) -> String {
        let mut versions = crates();
        versions.extend(self.foreign.versions.iter().cloned());
        versions.extend(version("nginx", &["-v"]).map(|line| line.replace("nginx version: ", "")));
        format!("{}\n\n{}", report::machine(), versions.join(", "))
    }
}

fn built_in(kind: Kind) -> Subject {
    let program = env::current_exe().unwrap_or_default();
    let command = vec![program.into(), "peer".into(), OsString::from(kind.name())];
    Subject { name: kind.name().to_owned(), command, addr: None }
}

/// The raw loop's and greenling's, which `benches/http` has. It is built for that.
fn greenlings_http() -> Result<Vec<Subject>, Box<dyn Error>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "-p", "greenling-http-bench"]);
    command.arg("--manifest-path").arg(Path::new(ROOT).join("Cargo.toml"));
    let target = Path::new(ROOT).join("target");
    command.arg("--target-dir").arg(&target);
    if !command.status()?.success() {
        return Err("greenling-http-bench does not build".into());
    }
    let program = target.join("release/http").into_os_string();
    let subject = |name: &str| Subject {
        name: name.to_owned(),
        command: vec![program.clone(), "serve".into(), name.into()],
        addr: None,
    };
    Ok(vec![subject("raw"), subject("greenling")])
}

/// nginx's configuration, and where it will listen.
struct Nginx {
    dir: TempDir,
    addr: std::net::SocketAddr,
}

impl Nginx {
    fn find() -> io::Result<Option<Nginx>> {
        if version("nginx", &["-v"]).is_none() {
            return Ok(None);
        }
        let dir = tempfile::tempdir()?;
        // It cannot choose a port itself; this one was free a moment ago.
        let addr = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let path = dir.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {path}/{name}; "))
            .concat();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {path}/pid; error_log stderr crit;\n\
             worker_rlimit_nofile 20000; events {{ worker_connections 16384; }}\n\
             http {{ access_log off; keepalive_requests 1000000000; tcp_nodelay on; {temporary}\n\
             server {{ listen {addr} backlog=4096; location / {{ default_type text/plain; return 200 \"Hello, World!\"; }} }} }}\n"
        );
        fs::write(dir.path().join("nginx.conf"), config)?;
        Ok(Some(Nginx { dir, addr }))
    }

    fn subject(&self) -> Subject {
        let (path, file) = (self.dir.path(), self.dir.path().join("nginx.conf"));
        let words =
            ["nginx".into(), "-c".into(), file.into(), "-p".into(), path.as_os_str().into()];
        Subject { name: "nginx".to_owned(), command: words.into(), addr: Some(self.addr) }
    }
}

/// One line for each server, over the numbers of connections.
fn lines(reports: &[Report]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for report in reports {
        let point = (report.connections as f64, median(report.ratios.clone()));
        match lines.iter_mut().find(|(name, _)| *name == report.name) {
            Some((_, points)) => points.push(point),
            None => lines.push((report.name.clone(), vec![point])),
        }
    }
    lines
}

/// The versions of the crates that are compared, as they were locked when this was built.
fn crates() -> Vec<String> {
    const WANTED: [&str; 7] =
        ["corosensei", "generator", "hyper", "may", "may_minihttp", "parking_lot", "tokio"];
    let lock = include_str!("../Cargo.lock");
    let package = |text: &str| {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_matches(['"', ' ', '=']).to_owned())
        };
        let (name, version) = (field("name")?, field("version")?);
        WANTED.contains(&name.as_str()).then(|| format!("{name} {version}"))
    };
    lock.split("[[package]]").filter_map(package).collect()
}

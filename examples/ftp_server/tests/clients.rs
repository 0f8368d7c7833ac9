//! Clients that people use: curl, lftp and Python's ftplib. Each test is passed over where its client
//! is not installed.

#[path = "../../../tests/common/readme.rs"]
mod readme;
mod support;

use std::fs;
use std::path::Path;

use support::{Server, have, noise, run, succeed};

const PARALLEL: &str = r#"
import ftplib, hashlib, io, os, sys, threading
port, clients = int(sys.argv[1]), int(sys.argv[2])
failures = []
def client(n):
    try:
        data = os.urandom(200_000 + n)
        with ftplib.FTP(timeout=60) as ftp:
            ftp.connect("127.0.0.1", port); ftp.login()
            ftp.storbinary(f"STOR file-{n}", io.BytesIO(data))
            assert ftp.size(f"file-{n}") == len(data)
            got = io.BytesIO()
            ftp.retrbinary(f"RETR file-{n}", got.write)
            assert hashlib.sha256(got.getvalue()).digest() == hashlib.sha256(data).digest()
            # From the middle, as after a broken connection.
            rest = io.BytesIO()
            ftp.retrbinary(f"RETR file-{n}", rest.write, rest=100_000)
            assert rest.getvalue() == data[100_000:]
            ftp.storbinary(f"STOR part-{n}", io.BytesIO(data[:150_000]))
            ftp.storbinary(f"STOR part-{n}", io.BytesIO(data[150_000:]), rest=150_000)
            got = io.BytesIO()
            ftp.retrbinary(f"RETR part-{n}", got.write)
            assert got.getvalue() == data
            assert f"file-{n}" in ftp.nlst() and f"part-{n}" in dict(ftp.mlsd())
    except Exception as error:
        failures.append(f"{n}: {error!r}")
threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("\n".join(failures) or "all is well")
"#;

const CROWD: &str = r#"
import ftplib, sys
port = int(sys.argv[1])
inside, turned_away = [], 0
for n in range(200):
    ftp = ftplib.FTP(timeout=60)
    try:
        ftp.connect("127.0.0.1", port); ftp.login(); inside.append(ftp)
    except ftplib.error_temp as error:
        assert str(error).startswith("421"), error
        turned_away += 1
print(len(inside), turned_away)
for ftp in inside: ftp.voidcmd("NOOP")
inside.pop().quit()
again = ftplib.FTP(timeout=60); again.connect("127.0.0.1", port); print(again.login())
for ftp in inside: ftp.quit()
"#;

const ABORT: &str = r#"
import ftplib, sys
ftp = ftplib.FTP(timeout=60); ftp.connect("127.0.0.1", int(sys.argv[1])); ftp.login(); ftp.voidcmd("TYPE I")
data = ftp.transfercmd("RETR big")
data.recv(1000)
print(ftp.abort()); print(ftp.getmultiline()); data.close()
print(ftp.pwd()); print(ftp.quit())
"#;

fn python(server: &Server, script: &str, arguments: &[&str]) -> String {
    let port = server.port();
    let arguments = [&["-c", script, &port][..], arguments].concat();
    succeed("python3", &arguments, &server.path(""))
}

#[test]
fn ftplib_transfers_in_parallel_and_resumes() {
    if !have("python3") {
        return;
    }
    let server = Server::start(&[]);
    assert_eq!(python(&server, PARALLEL, &["40"]), "all is well\n");
    assert_eq!(server.names().len(), 80);
    server.check();
}

#[test]
fn two_hundred_clients_come_and_a_hundred_are_let_in() {
    if !have("python3") {
        return;
    }
    let server = Server::start(&["--max-clients", "100"]);
    assert_eq!(python(&server, CROWD, &[]), "100 100\n230 Logged in.\n");
}

#[test]
fn ftplib_aborts() {
    if !have("python3") {
        return;
    }
    let server = Server::start(&[]);
    server.write("big", vec![0; 50_000_000]);
    let output = python(&server, ABORT, &[]);
    let lines: Vec<_> = output.lines().map(|line| line.get(..3).unwrap_or(line)).collect();
    assert_eq!(lines, ["426", "226", "/", "221"], "{output}");
}

#[test]
fn curl_gets_puts_resumes_and_lists() {
    if !have("curl") {
        return;
    }
    let server = Server::start(&["--active"]);
    let here = tempfile::tempdir().unwrap();
    let bytes = noise(2_000_000);
    fs::write(here.path().join("up"), &bytes).unwrap();
    let curl = |arguments: &[&str]| {
        succeed("curl", &[&["-sS", "--max-time", "60"], arguments].concat(), here.path())
    };
    curl(&["--ftp-create-dirs", "-T", "up", &server.url("new/dir/f")]);
    assert_eq!(server.read("new/dir/f"), bytes);
    let url = server.url("new/dir/f");
    for mode in [&[][..], &["--disable-epsv"], &["-P", "-"], &["-P", "-", "--disable-eprt"]] {
        curl(&[mode, &["-o", "down", &url]].concat());
        assert_eq!(fs::read(here.path().join("down")).unwrap(), bytes, "{mode:?}");
    }
    fs::write(here.path().join("part"), &bytes[..1_500_000]).unwrap();
    curl(&["-C", "-", "-o", "part", &url]);
    assert_eq!(fs::read(here.path().join("part")).unwrap(), bytes);
    server.write("resumed", &bytes[..700_000]);
    curl(&["-C", "-", "-T", "up", &server.url("resumed")]);
    assert_eq!(server.read("resumed"), bytes);
    assert_eq!(curl(&["-l", &server.url("new/")]), "dir\n");
    assert!(curl(&["-I", &url]).contains("Content-Length: 2000000"));
    curl(&["-Q", "-DELE f", &server.url("new/dir/")]);
    let missing = run("curl", &["-sS", &url], here.path());
    assert_eq!(missing.status.code(), Some(78), "{missing:?}");
    server.check();
}

#[test]
fn lftp_mirrors_both_ways() {
    if !have("lftp") {
        return;
    }
    let server = Server::start(&[]);
    let here = tempfile::tempdir().unwrap();
    let tree = here.path().join("tree");
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    for n in 0..30 {
        let name = format!("{}file {n} ü", ["", "deep/", "deep/er/"][n % 3]);
        fs::write(tree.join(name), noise(n * 10_000)).unwrap();
    }
    let lftp = |commands: &str| {
        let settings = "set net:max-retries 1; set net:timeout 30; set cmd:fail-exit yes";
        let script = format!("{settings}; open {}; {commands}; bye", server.url(""));
        succeed("lftp", &["-c", &script], here.path())
    };
    lftp("mirror -R --parallel=5 tree up");
    lftp("mirror --parallel=5 up back");
    succeed("diff", &["-r", "tree", "back"], here.path());
    assert!(lftp("cls -1 up/deep").contains("er/\n"));
    lftp("pget -n 4 -c \"up/deep/er/file 29 ü\" -o pieces");
    assert_eq!(fs::read(here.path().join("pieces")).unwrap(), noise(290_000));
    lftp("mv \"up/file 0 ü\" up/renamed; rm up/renamed; rm -r up");
    assert!(server.names().is_empty());
    server.check();
}

#[test]
fn the_readme_says_of_the_options_what_the_programs_say() {
    let programs = [
        ("ftp_server", env!("CARGO_BIN_EXE_ftp_server")),
        ("ftp_client", env!("CARGO_BIN_EXE_ftp_client")),
    ];
    for (name, path) in programs {
        readme::check_options(name, &succeed(path, &["--help"], Path::new(".")));
    }
}

//! Database servers for the tests of what talks to them.

#![forbid(unsafe_code)]

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

/// A real database server with a folder of its own, which ends with this.
#[derive(Debug)]
pub struct Database {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Database {
    /// PostgreSQL, with a superuser `postgres` who needs no password. `None`, with a word about it, where it is
    /// not installed.
    pub fn postgres() -> Option<Database> {
        let (Some(initdb), Some(server)) = (find("initdb"), find("postgres")) else {
            println!("skipped: PostgreSQL is not installed");
            return None;
        };
        let folder = folder("postgres");
        // It does not run as root.
        let user = if id("-u")? == 0 { account("postgres") } else { (id("-u")?, id("-g")?) };
        std::os::unix::fs::chown(&folder, Some(user.0), Some(user.1)).ok()?;
        let quietly = |program: &Path| {
            let mut command = Command::new(program);
            command.uid(user.0).gid(user.1).current_dir(&folder);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let made = quietly(&initdb)
            .args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "-D", "."])
            .status();
        assert!(made.is_ok_and(|status| status.success()), "initdb fails");
        let port = free_port();
        let child = quietly(&server)
            .args(["-D", ".", "-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args([
                "-c",
                "unix_socket_directories=",
                "-c",
                "max_connections=300",
                "-c",
                "fsync=off",
            ])
            .spawn()
            .ok()?;
        Some(Database { child, folder, port }.ready())
    }

    /// MariaDB, with a user `root` who needs no password and a database `test`.
    pub fn mariadb() -> Option<Database> {
        let (Some(install), Some(server)) = (find("mariadb-install-db"), find("mariadbd")) else {
            println!("skipped: MariaDB is not installed");
            return None;
        };
        let folder = folder("mariadb");
        let data = format!("--datadir={}", folder.display());
        let user = format!(
            "--user={}",
            if id("-u")? == 0 { "root".to_owned() } else { env::var("USER").ok()? }
        );
        let made = Command::new(install)
            .args(["--no-defaults", &data, &user, "--auth-root-authentication-method=normal"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "mariadb-install-db fails");
        let port = free_port();
        let child = Command::new(server)
            .args(["--no-defaults", &data, &user, &format!("--port={port}")])
            .args(["--bind-address=127.0.0.1", "--max-connections=300", "--skip-name-resolve"])
            .arg(format!("--socket={}", folder.join("socket").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Database { child, folder, port }.ready())
    }

    fn ready(self) -> Database {
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "the server does not begin to listen");
            thread::sleep(Duration::from_millis(20));
        }
        self
    }

    /// On the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Politely, so that PostgreSQL ends its own children.
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        for _ in 0..100 {
            if let Ok(Some(_)) = self.child.try_wait() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    listener.local_addr().expect("it is bound").port()
}

fn folder(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("greenling-{name}-{}-{count}", process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

/// A program on the way, or where Debian hides PostgreSQL's.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.exists())
}

fn id(arg: &str) -> Option<u32> {
    id_of(&[arg])
}

fn id_of(args: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(args).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Number of a user and of their group; our own where there is none of that name.
fn account(name: &str) -> (u32, u32) {
    let of = |what| id_of(&[what, name]).or_else(|| id(what)).unwrap_or(0);
    (of("-u"), of("-g"))
}

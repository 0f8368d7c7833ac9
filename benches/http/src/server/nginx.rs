//! nginx as it comes, in one process, with nothing to do but to return a text.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::hello::BODY;
use crate::run::{Killed, command_on};

/// nginx, and the directory with its configuration.
pub(crate) struct Nginx {
    pub(crate) process: Killed,
    pub(crate) addr: SocketAddr,
    _dir: TempDir,
}

impl Nginx {
    pub(crate) fn start(cpu: Option<usize>) -> io::Result<Nginx> {
        let dir = tempfile::tempdir()?;
        // It cannot choose a port itself; this one was free a moment ago.
        let addr = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let path = dir.path().display();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {path}/pid; error_log stderr crit;\n\
             worker_rlimit_nofile 20000; events {{ worker_connections 16384; }}\n\
             http {{\n  access_log off; keepalive_requests 1000000000; tcp_nodelay on;\n  \
             client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; \
             fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n  \
             server {{ listen {addr} backlog=4096; location / {{ default_type text/plain; return 200 \"{BODY}\"; }} }}\n}}\n"
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = command_on(Command::new("nginx"), cpu);
        command.arg("-c").arg(&file).arg("-p").arg(dir.path()).stdin(Stdio::null());
        let process = Killed(command.stdout(Stdio::null()).spawn()?);
        let start = Instant::now();
        while TcpStream::connect(addr).is_err() {
            if start.elapsed() > Duration::from_secs(5) {
                return Err(io::Error::other("nginx does not listen"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Nginx { process, addr, _dir: dir })
    }
}

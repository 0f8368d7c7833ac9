//! A real site of thousands of pages that nobody here wrote, served by nginx: the crawler finds what wget finds.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Folder, pages, run, succeeded};

/// Debian's packages with documentation, the best first: libstdc++-12-doc, postgresql-doc-15.
const SITES: [&str; 2] =
    ["/usr/share/doc/gcc-12-base/libstdc++", "/usr/share/doc/postgresql-doc-15/html"];

struct Nginx(Child, u16);

impl Nginx {
    fn serve(root: &Path, folder: &Path) -> Option<Nginx> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.join("nginx.conf");
        let (at, root) = (folder.display(), root.display());
        let text = format!(
            "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/errors;\n\
             events {{ worker_connections 1000; }}\n\
             http {{ access_log off; types {{ text/html html; text/css css; image/png png; }}\n\
               client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;\n\
               uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;\n\
               server {{ listen 127.0.0.1:{port}; root {root}; gzip on; gzip_types text/html; }} }}\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&config).arg("-e").arg(folder.join("errors"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "nginx does not begin to listen");
            thread::sleep(Duration::from_millis(10));
        }
        Some(Nginx(child, port))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Politely, so that its worker ends with it.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Pages by file: a folder means its index.
fn file_of(path: &str) -> String {
    let path = path.split('?').next().unwrap_or(path).trim_start_matches('/');
    if path.is_empty() || path.ends_with('/') {
        format!("{path}index.html")
    } else {
        path.to_owned()
    }
}

fn files_in(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "html") {
                found.insert(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found
}

#[test]
fn what_is_found_equals_what_wget_finds() {
    let Some(root) = SITES.iter().map(Path::new).find(|root| root.join("index.html").exists())
    else {
        println!("skipped: none of the documentation packages is installed");
        return;
    };
    let folder = Folder::new("real");
    let Some(nginx) = Nginx::serve(root, &folder.0) else {
        println!("skipped: there is no nginx");
        return;
    };
    let url = format!("http://127.0.0.1:{}/index.html", nginx.1);
    let args = [&*url, "--output", "out.jsonl", "--max-depth", "200", "--per-host", "64"];
    let text = succeeded(&run(&folder, &args));
    println!("{text}");
    let ours: BTreeSet<String> = pages(&folder.0.join("out.jsonl"))
        .into_iter()
        .filter(|(_, page)| page["status"] == 200 && page["media_type"] == "text/html")
        .map(|(path, _)| file_of(&path))
        .collect();
    assert!(ours.len() > 1000, "{} pages", ours.len());
    let on_disk = files_in(root);
    assert!(ours.is_subset(&on_disk));

    let copy = folder.0.join("copy");
    let mut wget = Command::new("wget");
    wget.args([
        "--recursive",
        "--level=inf",
        "--no-host-directories",
        "--accept=html",
        "--quiet",
        "-e",
        "robots=off",
    ]);
    let Ok(status) = wget.arg("--directory-prefix").arg(&copy).arg(&url).status() else {
        println!("skipped the comparison: there is no wget");
        return;
    };
    // 8: some links are broken, as they are for us.
    assert!(matches!(status.code(), Some(0 | 8)), "{status}");
    let theirs = files_in(&copy);
    let only_ours: Vec<_> = ours.difference(&theirs).take(5).collect();
    let only_theirs: Vec<_> = theirs.difference(&ours).take(5).collect();
    assert!(
        only_ours.is_empty() && only_theirs.is_empty(),
        "{} and {} pages; only ours: {only_ours:?}, only wget's: {only_theirs:?}",
        ours.len(),
        theirs.len()
    );
}

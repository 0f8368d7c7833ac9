//! Clients that no one here wrote: they get what is there, byte for byte.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{LONG, Server, certificate, large_file, tool};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_downloads_resumes_and_revalidates() {
    let server = Server::start(&[]);
    let large = large_file(4 << 20);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.bin");
    let (file, url) = (path.to_str().unwrap(), server.url("/large.bin"));
    let base = ["--silent", "--show-error", "--fail", "--max-time", "60"];
    let curl = |more: &[&str]| tool("curl", &[&base, more].concat());
    let Some(_) = curl(&["-o", file, &url]) else { return };
    assert!(fs::read(&path).unwrap() == large);
    fs::write(&path, &large[..1_000_000]).unwrap();
    curl(&["-C", "-", "-o", file, &url]);
    assert!(fs::read(&path).unwrap() == large, "resumed");
    let digits = server.url("/digits");
    // One connection for several files.
    let both = curl(&["-w", "%{num_connects}\n", &digits, &digits]).unwrap();
    assert_eq!(text(&both), "01234567891\n01234567890\n");
    assert_eq!(text(&curl(&["-r", "2-4", &digits]).unwrap()), "234");
    let tag = dir.path().join("tag");
    let tag = tag.to_str().unwrap();
    curl(&["--etag-save", tag, "-o", "/dev/null", &digits]);
    let again = curl(&["--etag-compare", tag, "-w", "%{http_code}", &digits]).unwrap();
    assert_eq!(text(&again), "304");
    assert_eq!(text(&curl(&["-0", &digits]).unwrap()), "0123456789");
    assert!(text(&curl(&["-I", &digits]).unwrap()).contains("Content-Length: 10"));
    assert!(text(&curl(&["-L", &server.url("/page")]).unwrap()).contains("<p>index"));
    let up = ["-sS", "-w", "%{http_code}", "-o", "/dev/null", "--path-as-is"];
    let up = tool("curl", &[&up[..], &[&*server.url("/a/../digits")]].concat()).unwrap();
    assert_eq!(text(&up), "400");
    server.stop();
}

#[test]
fn wget_mirrors_what_is_listed() {
    let server = Server::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().to_str().unwrap();
    let url = server.url("/");
    let options = ["-q", "-r", "-np", "-nH", "--timeout=30", "--tries=1", "-P", into];
    let Some(_) = tool("wget", &[&options[..], &[url.as_str()]].concat()) else { return };
    for name in
        ["digits", "hello.txt", "large.bin", "list/a & b.html", "list/sub/x", "page/index.html"]
    {
        let (got, there) = (dir.path().join(name), server.root.path().join(name));
        assert!(fs::read(got).unwrap() == fs::read(there).unwrap(), "{name}");
    }
    // Only what is newer.
    let newer = ["-N", "-nv", "-P", into, &server.url("/digits")];
    let output = tool("wget", &newer).unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("->"), "{output:?}");
    server.stop();
}

#[test]
fn wrk_gets_nothing_but_good_answers() {
    let server = Server::start(&[]);
    for (connections, path) in [("16", "/hello.txt"), ("64", "/list/"), ("8", "/large.bin")] {
        let url = server.url(path);
        let Some(output) = tool("wrk", &["-t1", "-c", connections, "-d1s", &url]) else { return };
        let report = text(&output);
        assert!(report.contains("requests in"), "{report}");
        assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{report}");
    }
    server.stop();
}

#[test]
fn ab_completes_all_of_its_requests() {
    let server = Server::start(&[]);
    let url = server.url("/hello.txt");
    for keep_alive in [&["-k"][..], &[]] {
        let options = ["-q", "-n", "2000", "-c", "50", &url];
        let Some(output) = tool("ab", &[keep_alive, &options].concat()) else { return };
        let report = text(&output);
        let line = |start| report.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        assert!(line("Complete requests:").ends_with(" 2000"), "{report}");
        assert!(line("Failed requests:").ends_with(" 0"), "{report}");
        assert!(!report.contains("Non-2xx"), "{report}");
        if !keep_alive.is_empty() {
            assert!(line("Keep-Alive requests:").ends_with(" 2000"), "{report}");
        }
    }
    server.stop();
}

#[test]
fn pythons_client_agrees() {
    let server = Server::start(&[]);
    let script = r#"
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
for n in range(50):
    c.request("GET", "/digits", headers={"Range": "bytes=%d-" % (n % 10)})
    r = c.getresponse()
    assert r.status == 206 and r.read() == b"0123456789"[n % 10:]
c.request("GET", "/list/")
r = c.getresponse()
assert r.getheader("Transfer-Encoding") == "chunked" and b"a &amp; b.html" in r.read()
c.request("HEAD", "/large.bin")
r = c.getresponse()
assert r.getheader("Content-Length") == str(4 << 20) and r.read() == b""
c.request("POST", "/", body=b"x" * 100)
r = c.getresponse()
assert r.status == 405 and r.getheader("Allow") == "GET, HEAD, OPTIONS", r.status
r.read()
c.request("GET", "/page/")  # connects anew
assert b"index" in c.getresponse().read()
"#;
    tool("python3", &["-c", script, &server.addr.port().to_string()]);
    server.stop();
}

#[test]
fn openssl_and_curl_speak_tls() {
    let dir = tempfile::tempdir().unwrap();
    let Some((cert, key)) = certificate(dir.path()) else { return };
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let server = Server::start(&["--tls-cert", cert, "--tls-key", key]);
    let addr = server.addr.to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let command = format!(
            "printf 'GET /digits HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' | \
             openssl s_client -connect {addr} {version} -CAfile '{cert}' -verify_return_error \
             -servername localhost -alpn http/1.1 -ign_eof 2>&1"
        );
        let session = text(&tool("sh", &["-c", &command]).unwrap());
        assert!(session.contains("HTTP/1.1 200 OK") && session.contains("0123456789"), "{session}");
        assert!(session.contains("ALPN protocol: http/1.1"), "{session}");
        // Said goodbye, rather than cut off.
        assert!(!session.contains("unexpected eof"), "{session}");
    }
    let port = server.addr.port();
    let url = |path: &str| format!("https://localhost:{port}{path}");
    let resolve = format!("localhost:{port}:127.0.0.1");
    let base = ["-sS", "--fail", "--max-time", "60", "--cacert", cert, "--resolve", &resolve];
    let path = dir.path().join("large.bin");
    let got =
        tool("curl", &[&base, &["-o", path.to_str().unwrap(), &*url("/large.bin")][..]].concat());
    if got.is_some() {
        assert!(fs::read(&path).unwrap() == large_file(4 << 20));
        let range =
            tool("curl", &[&base, &["-r", "1-2,5-6", &*url("/digits")][..]].concat()).unwrap();
        assert!(text(&range).contains("bytes 5-6/10"));
        // A hole is not in the page cache.
        fs::File::create(server.root.path().join("hole")).unwrap().set_len(3_000_000).unwrap();
        tool("curl", &[&base, &["-o", path.to_str().unwrap(), &*url("/hole")][..]].concat());
        assert!(fs::read(&path).unwrap() == vec![0; 3_000_000]);
    }
    // Who does not speak TLS is let go, and who says nothing costs nobody else anything.
    let mut silent = server.connect();
    let mut plain = server.connect();
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut plain.stream, &mut rest);
    assert!(!rest.starts_with(b"HTTP"));
    silent.send("");
    server.stop();
}

/// A picture of one colour, in a file that is large for it: such are sent in another way than small ones.
fn png_image(color: [u8; 3]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 60, 45);
    encoder.set_color(png::ColorType::Rgb);
    encoder.add_text_chunk("Comment".into(), "x".repeat(100_000)).unwrap();
    encoder.write_header().unwrap().write_image_data(&color.repeat(60 * 45)).unwrap();
    bytes
}

fn svg_image([red, green, blue]: [u8; 3]) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='60' height='45'>\
         <rect width='60' height='45' fill='rgb({red},{green},{blue})'/></svg>"
    )
}

/// A screenshot.
struct Picture {
    bytes: Vec<u8>,
    info: png::OutputInfo,
}

impl Picture {
    fn read(path: &Path) -> Picture {
        let file = std::io::BufReader::new(fs::File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!(info.bit_depth, png::BitDepth::Eight);
        Picture { bytes, info }
    }

    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let start = y * self.info.line_size + x * self.info.color_type.samples();
        self.bytes[start..][..3].try_into().unwrap()
    }
}

#[test]
fn chromium_shows_a_page_with_images() {
    let root = common::site();
    let write = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).unwrap();
    let color = |n: u8| [n * 20, 255 - n * 20, if n % 2 == 0 { 200 } else { 30 }];
    let place = |n: u8| (20 + usize::from(n % 4) * 150, 80 + usize::from(n / 4) * 100);
    let (images, mut tags) = (12, String::new());
    let name = |n: u8| format!("image-{n}.{}", if n % 3 == 0 { "svg" } else { "png" });
    for n in 0..images {
        let bytes = match n % 3 {
            0 => svg_image(color(n)).into_bytes(),
            _ => png_image(color(n)),
        };
        write(&name(n), &bytes);
        let (left, top) = place(n);
        tags += &format!("<img src='{}' style='left:{left}px;top:{top}px'>\n", name(n));
    }
    let page = format!(
        "<!DOCTYPE html><meta charset='utf-8'><link rel='stylesheet' href='style.css'>\
         <h1>greenling serves Chromium</h1>{tags}"
    );
    write("images.html", page.as_bytes());
    write("style.css", b"body { background: rgb(1,2,3); color: white } img { position: absolute }");
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let server = Server::with_root(root, &["--access-log", log.to_str().unwrap()]);
    // The picture can be kept, to be looked at.
    let kept = std::env::var_os("HTTP_SERVER_SCREENSHOT");
    let picture =
        kept.map_or_else(|| dir.path().join("picture.png"), |path| Path::new(&path).into());
    let options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--force-device-scale-factor=1",
        "--window-size=640,480",
        "--timeout=20000",
    ];
    let profile = format!("--user-data-dir={}", dir.path().join("profile").display());
    let screenshot = format!("--screenshot={}", picture.display());
    let url = server.url("/images.html");
    let more = [profile.as_str(), &screenshot, &url];
    let Some(_) = tool("chromium", &[&options[..], &more].concat()) else { return };
    let picture = Picture::read(&picture);
    let alike = |is: [u8; 3], ought: [u8; 3]| is.iter().zip(ought).all(|(a, b)| a.abs_diff(b) < 8);
    for n in 0..images {
        let (left, top) = place(n);
        let (is, ought) = (picture.at(left + 30, top + 22), color(n));
        assert!(alike(is, ought), "image {n} is shown as {is:?}, not {ought:?}");
    }
    assert!(alike(picture.at(630, 300), [1, 2, 3]), "the style sheet was used");
    server.stop();
    let log = fs::read_to_string(log).unwrap();
    for n in 0..images {
        assert!(log.contains(&format!("\"GET /{} HTTP/1.1\" 200", name(n))), "{log}");
    }
    assert!(log.contains("\"GET /style.css HTTP/1.1\" 200"), "{log}");
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn systemd_passes_its_socket_in() {
    let root = common::site();
    let port = free_port().to_string();
    let addr = format!("127.0.0.1:{port}");
    let program = env!("CARGO_BIN_EXE_http_server");
    let mut command = Command::new("systemd-socket-activate");
    // What is said about --addr does not count: the port that was passed in does.
    command.args(["--listen", &addr, program, "--addr", "127.0.0.1:1", "--root"]).arg(root.path());
    let mut server = match command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
        Ok(server) => server,
        Err(error) => return eprintln!("skipped: systemd-socket-activate: {error}"),
    };
    let start = Instant::now();
    // It starts the server when somebody comes; what is sent before the server is there is not lost.
    let mut stream = loop {
        match TcpStream::connect(&addr) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < LONG, "{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"GET /digits HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0123456789"), "{answer}");
    // It has become the server.
    // SAFETY: no pointers; the process is our child and was not waited for.
    assert_eq!(unsafe { libc::kill(server.id() as i32, libc::SIGTERM) }, 0);
    let mut said = String::new();
    server.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(server.wait().unwrap().success());
    assert_eq!(said.trim(), format!("listening on {addr}"));
}

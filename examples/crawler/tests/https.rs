//! Pages over TLS, by rustls inside the unmodified client.

#![cfg(feature = "https")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{Folder, html, pages, run, succeeded, tree_page};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const PAGES: usize = 60;

/// Serves a tree of pages by the name of localhost. Returns the port and the certificate.
fn serve() -> (u16, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            thread::spawn(move || answer_all(StreamOwned::new(connection, stream)));
        }
    });
    (port, own.cert.pem())
}

fn answer_all(stream: StreamOwned<ServerConnection, std::net::TcpStream>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if stream.read_line(&mut request).ok()? == 0 {
            return None;
        }
        let target = request.split(' ').nth(1)?.to_owned();
        let mut line = String::new();
        while stream.read_line(&mut line).ok()? > 2 {
            line.clear();
        }
        thread::sleep(Duration::from_millis(20));
        let page = if target == "/robots.txt" { html("") } else { tree_page(&target, PAGES, 3) };
        stream.get_mut().write_all(&page).ok()?;
    }
}

#[test]
fn a_site_over_tls_is_crawled_if_its_certificate_is_trusted() {
    let (port, certificate) = serve();
    let folder = Folder::new("https");
    let ca = folder.0.join("ca.pem");
    std::fs::write(&ca, certificate).unwrap();
    let ca = ca.display().to_string();
    let url = format!("https://localhost:{port}/");
    succeeded(&run(
        &folder,
        &[&url, "--ca-file", &ca, "--output", "a.jsonl", "--concurrency", "8"],
    ));
    let found = pages(&folder.0.join("a.jsonl"));
    assert_eq!(found.len(), PAGES);
    assert!(found.values().all(|page| page["status"] == 200));

    // With --https a plain address means the same.
    let plain = format!("http://localhost:{port}/");
    succeeded(&run(&folder, &[&plain, "--https", "--ca-file", &ca, "--output", "b.jsonl"]));
    assert_eq!(pages(&folder.0.join("b.jsonl")).len(), PAGES);

    // A certificate that nobody vouches for is refused.
    let text =
        succeeded(&run(&folder, &[&url, "--no-robots", "--output", "c.jsonl", "--retries", "0"]));
    let page = &pages(&folder.0.join("c.jsonl"))["/"];
    assert_eq!(page["error"], "tls", "{text} {page}");
}

#[test]
fn a_file_without_certificates_is_refused() {
    let folder = Folder::new("https-none");
    std::fs::write(folder.0.join("empty.pem"), "nothing").unwrap();
    let output = run(&folder, &["https://localhost:1/", "--ca-file", "empty.pem"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no certificate"));
}

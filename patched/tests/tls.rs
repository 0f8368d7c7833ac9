//! rustls over std's TcpStream, at both ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use greenling::{patch, spawn};
use greenling_patched::{deadline, overlapping};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls::{StreamOwned, crypto::ring};

const DELAY: Duration = Duration::from_millis(200);

fn configurations() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// Sends back a line after a while.
fn serve(stream: TcpStream, config: Arc<ServerConfig>) {
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut data = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut data).unwrap();
    thread::sleep(DELAY);
    stream.write_all(&data).unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
}

fn fetch(addr: SocketAddr, config: Arc<ClientConfig>, data: &[u8]) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(config, name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(addr).unwrap());
    stream.write_all(&(data.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(data).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Longer than what the sockets hold, so that writing waits, too.
fn text(n: usize) -> Vec<u8> {
    (0..300_000).map(|at| (at * 7 + n) as u8).collect()
}

#[test]
fn clients_overlap() {
    let (server, client) = configurations();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = server.clone();
            thread::spawn(move || serve(stream, server));
        }
    });
    let what = "rustls client: 300 kB and back, after 200 ms";
    overlapping(what, 50, DELAY * 50, move |n| fetch(addr, client.clone(), &text(n)) == text(n));
}

/// Both ends of each connection on one thread.
#[test]
fn servers_and_clients_share_a_thread() {
    deadline(60, || {
        patch::all();
        let (server, client) = configurations();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let acceptor = spawn(move || {
            let serving = listener.incoming().take(30).map(|stream| {
                let server = server.clone();
                spawn(move || serve(stream.unwrap(), server))
            });
            for one in serving.collect::<Vec<_>>() {
                one.join().unwrap();
            }
        });
        let clients = (0..30).map(|n| {
            let client = client.clone();
            spawn(move || assert!(fetch(addr, client, &text(n)) == text(n)))
        });
        for one in clients.collect::<Vec<_>>() {
            one.join().unwrap();
        }
        acceptor.join().unwrap();
    });
}

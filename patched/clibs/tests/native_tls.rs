//! native-tls, which is OpenSSL here, over std's TcpStream, at both ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use greenling::{patch, spawn};
use greenling_patched::{deadline, overlapping};
use native_tls::{Certificate, Identity, TlsAcceptor, TlsConnector};

const DELAY: Duration = Duration::from_millis(200);

fn ends() -> (Arc<TlsAcceptor>, Arc<TlsConnector>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.pem();
    let key = made.signing_key.serialize_pem();
    let identity = Identity::from_pkcs8(certificate.as_bytes(), key.as_bytes()).unwrap();
    let root = Certificate::from_pem(certificate.as_bytes()).unwrap();
    let connector = TlsConnector::builder().add_root_certificate(root).build().unwrap();
    (Arc::new(TlsAcceptor::new(identity).unwrap()), Arc::new(connector))
}

/// Sends back what it gets, after a while.
fn serve(stream: TcpStream, acceptor: &TlsAcceptor) {
    let mut stream = acceptor.accept(stream).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut data = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut data).unwrap();
    thread::sleep(DELAY);
    stream.write_all(&data).unwrap();
    stream.shutdown().unwrap();
}

fn fetch(addr: SocketAddr, connector: &TlsConnector, data: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(addr).unwrap();
    let mut stream = connector.connect("localhost", stream).unwrap();
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
    let (acceptor, connector) = ends();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let acceptor = acceptor.clone();
            thread::spawn(move || serve(stream, &acceptor));
        }
    });
    let what = "OpenSSL client (native-tls): 300 kB and back, after 200 ms";
    overlapping(what, 50, DELAY * 50, move |n| fetch(addr, &connector, &text(n)) == text(n));
}

#[test]
fn servers_and_clients_share_a_thread() {
    deadline(60, || {
        patch::all();
        let (acceptor, connector) = ends();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let accepting = spawn(move || {
            let serving = listener.incoming().take(30).map(|stream| {
                let acceptor = acceptor.clone();
                spawn(move || serve(stream.unwrap(), &acceptor))
            });
            serving.collect::<Vec<_>>().into_iter().for_each(|one| one.join().unwrap());
        });
        let clients = (0..30).map(|n| {
            let connector = connector.clone();
            spawn(move || assert!(fetch(addr, &connector, &text(n)) == text(n)))
        });
        clients.collect::<Vec<_>>().into_iter().for_each(|one| one.join().unwrap());
        accepting.join().unwrap();
    });
}

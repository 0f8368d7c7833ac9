//! HTTP by hyper and by may_minihttp.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;

use greenling_echo_bench::load::HELLO;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use may_minihttp::{HttpServer, HttpService};
use tokio::net::TcpListener;

pub(super) fn with_hyper() -> io::Result<()> {
    super::with_tokio::runtime(0)?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        super::announce(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let mut server = http1::Builder::new();
            // Without a limit for the head: such a timer is set for each request, and the others have none.
            server.header_read_timeout(None);
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(hello)));
        }
    })
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(HELLO)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain"));
    Ok(response)
}

#[derive(Clone)]
struct Hello;

impl HttpService for Hello {
    fn call(
        &mut self,
        _: may_minihttp::Request,
        response: &mut may_minihttp::Response,
    ) -> io::Result<()> {
        response.header("Content-Type: text/plain");
        response.body("Hello, World!");
        Ok(())
    }
}

pub(super) fn with_may_minihttp() -> io::Result<()> {
    may::config().set_workers(1);
    // It does not say which port it got; this one was free a moment ago.
    let addr = StdListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let server = HttpServer(Hello).start(addr)?;
    super::announce(addr)?;
    server.join().map_err(|_| io::Error::other("it panicked"))
}

//! One page, by an ordinary blocking HTTP client.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};
use url::Url;

use crate::options::Options;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) media_type: Option<String>,
    pub(crate) charset: Option<String>,
    pub(crate) location: Option<String>,
    /// What `Retry-After` asks for.
    pub(crate) retry_after: Option<Duration>,
    /// Empty if the media type is not wanted.
    pub(crate) body: Vec<u8>,
    /// Whether the body was too large to be read to its end.
    pub(crate) too_large: bool,
}

/// What went wrong, in one word and at length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: &'static str,
    pub(crate) detail: String,
}

impl Failure {
    /// Whether it may go better next time.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.kind, "timeout" | "connect" | "connection lost")
    }
}

/// The client, for all pages.
#[derive(Debug)]
pub(crate) struct Fetcher {
    agent: Agent,
    types: Vec<String>,
    max_size: u64,
}

impl Fetcher {
    pub(crate) fn new(options: &Options) -> Result<Fetcher, String> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are links like any other: they stay on our hosts, and nothing is fetched twice.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(&options.user_agent)
            .accept(format!("{},*/*;q=0.1", options.types.join(",")))
            .timeout_connect(Some(options.connect_timeout.min(options.timeout)))
            .timeout_per_read(Some(options.read_timeout))
            .timeout_per_write(Some(options.read_timeout))
            .timeout_global(Some(options.timeout))
            // The client's own sizes are 128 KiB each, for every connection.
            .input_buffer_size(16 << 10)
            .output_buffer_size(4 << 10)
            .max_idle_connections(options.concurrency)
            .max_idle_connections_per_host(options.per_host)
            .proxy(None);
        let config = with_roots(config, options)?.build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), Names::default());
        Ok(Fetcher { agent, types: options.types.clone(), max_size: options.max_size })
    }

    /// Fetches a page; its body only if it is of a wanted type.
    pub(crate) fn page(&self, url: &Url) -> Result<Answer, Failure> {
        self.get(url, self.max_size, |media_type| {
            let media_type = media_type.unwrap_or("text/html");
            self.types.iter().any(|wanted| media_type.starts_with(wanted.trim()))
        })
    }

    /// Fetches what is for us and not for readers: at most `limit` bytes of any type.
    pub(crate) fn file(&self, url: &Url, limit: u64) -> Result<Answer, Failure> {
        let mut url = url.clone();
        for _ in 0..=5 {
            let answer = self.get(&url, limit, |_| true)?;
            match answer.location.as_deref().map(|target| url.join(target)) {
                Some(Ok(target)) if (300..400).contains(&answer.status) => url = target,
                _ => return Ok(answer),
            }
        }
        Err(Failure { kind: "redirects", detail: "too many redirects".to_owned() })
    }

    fn get(
        &self,
        url: &Url,
        limit: u64,
        wanted: impl FnOnce(Option<&str>) -> bool,
    ) -> Result<Answer, Failure> {
        let mut response = self.agent.get(url.as_str()).call().map_err(|error| failure(&error))?;
        let header = |name| {
            let value = response.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
        };
        let content_type = header("content-type").unwrap_or_default();
        let mut parts = content_type.split(';').map(str::trim);
        let media_type = parts.next().filter(|name| !name.is_empty()).map(str::to_ascii_lowercase);
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.eq_ignore_ascii_case("charset").then(|| value.trim_matches('"').to_owned())
        });
        let mut answer = Answer {
            status: response.status().as_u16(),
            charset,
            location: header("location"),
            retry_after: header("retry-after")
                .and_then(|s| s.parse().ok().map(Duration::from_secs)),
            body: Vec::new(),
            too_large: false,
            media_type,
        };
        if wanted(answer.media_type.as_deref()) {
            // The client's own limit would be an error; and this one counts what is unpacked.
            let mut body =
                response.body_mut().with_config().limit(u64::MAX).reader().take(limit + 1);
            body.read_to_end(&mut answer.body).map_err(|error| io_failure(&error))?;
            if answer.body.len() as u64 > limit {
                answer.body.truncate(limit as usize);
                answer.too_large = true;
            }
        }
        Ok(answer)
    }
}

#[cfg(feature = "https")]
fn with_roots(
    config: ureq::config::ConfigBuilder<ureq::typestate::AgentScope>,
    options: &Options,
) -> Result<ureq::config::ConfigBuilder<ureq::typestate::AgentScope>, String> {
    use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
    let Some(path) = &options.ca_file else { return Ok(config) };
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let pem = std::fs::read(path).map_err(|error| said(&error))?;
    let items: Result<Vec<_>, _> = parse_pem(&pem).collect();
    let roots: Vec<Certificate<'static>> = items
        .map_err(|error| said(&error))?
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if roots.is_empty() {
        return Err(said(&"there is no certificate in it"));
    }
    let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build();
    Ok(config.tls_config(tls))
}

#[cfg(not(feature = "https"))]
fn with_roots(
    config: ureq::config::ConfigBuilder<ureq::typestate::AgentScope>,
    options: &Options,
) -> Result<ureq::config::ConfigBuilder<ureq::typestate::AgentScope>, String> {
    match &options.ca_file {
        None => Ok(config),
        Some(_) => Err("this crawler was built without the feature `https`".to_owned()),
    }
}

fn failure(error: &Error) -> Failure {
    let kind = match error {
        Error::Io(error) => return io_failure(error),
        Error::Timeout(_) => "timeout",
        Error::HostNotFound => "no such host",
        Error::ConnectionFailed => "connect",
        Error::Tls(_) => "tls",
        #[cfg(feature = "https")]
        Error::Pem(_) | Error::Rustls(_) => "tls",
        Error::Protocol(_) | Error::Http(_) | Error::LargeResponseHeader(..) => "malformed answer",
        Error::Decompress(_, inner) if is_lost(inner) => "connection lost",
        Error::Decompress(..) => "malformed answer",
        Error::BadUri(_) => "bad address",
        _ => "other",
    };
    Failure { kind, detail: error.to_string() }
}

fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)
}

fn io_failure(error: &io::Error) -> Failure {
    // The client wraps its own errors where only io::Error can pass.
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return failure(inner);
    }
    #[cfg(feature = "https")]
    if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        return Failure { kind: "tls", detail: error.to_string() };
    }
    let kind = match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "timeout",
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => "connect",
        _ if is_lost(error) => "connection lost",
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => "malformed answer",
        _ if error.to_string().contains("lookup") => "no such host",
        _ => "other",
    };
    Failure { kind, detail: error.to_string() }
}

/// Looks up each host once, and remembers what came of it.
#[derive(Debug, Default)]
struct Names {
    known: Mutex<HashMap<String, Arc<OnceLock<Looked>>>>,
}

/// Good or bad news about a host, and when.
#[derive(Debug)]
struct Looked {
    up: Result<Vec<SocketAddr>, String>,
    at: Instant,
}

/// After this time a host that was not found gets another chance.
const FORGIVEN: Duration = Duration::from_secs(60);

impl Names {
    fn look_up(&self, host: &str) -> Result<Vec<SocketAddr>, String> {
        let entry = {
            let mut known = self.known.lock().unwrap();
            let entry = known.entry(host.to_owned()).or_default();
            if entry
                .get()
                .is_some_and(|looked| looked.up.is_err() && looked.at.elapsed() > FORGIVEN)
            {
                *entry = Arc::default();
            }
            entry.clone()
        };
        // Whoever wants the same host meanwhile waits for the first.
        let looked = entry.get_or_init(|| {
            let up =
                host.to_socket_addrs().map(Iterator::collect).map_err(|error| error.to_string());
            Looked { up, at: Instant::now() }
        });
        looked.up.clone()
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or_else(|| Error::BadUri(uri.to_string()))?;
        let port =
            uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let found = self
            .look_up(&format!("{host}:{port}"))
            .map_err(|error| Error::Io(io::Error::other(error)))?;
        let mut addresses = self.empty();
        for address in config.ip_family().keep_wanted(found.into_iter()).take(16) {
            addresses.push(address);
        }
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

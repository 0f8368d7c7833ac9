//! [`ToSocketAddrs`], and the look-up of host names beside the hub.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::iter::Cloned;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::{Arc, LazyLock};
use std::{option, slice, vec};

use crate::rt::{self, PerProcess, Reason, WaitQueue};
use crate::threadpool::{Builder, ThreadPool};

/// How many names are looked up at a time. The others wait for their turn.
const MAX_LOOKUPS: usize = 64;

/// What stands for socket addresses: `std::net::ToSocketAddrs`, but while a name is looked up, other
/// coroutines run.
///
/// It is implemented for all that std implements its own for, with the same results and errors. Literal
/// addresses are never looked up. A name is looked up as std does it (getaddrinfo(3)), on a thread of a pool
/// of its own with up to 64 threads; whoever asks for a name that is being looked up gets the answer of that
/// look-up. Nothing is remembered: that is the system's resolver's business.
///
/// A kill or a time limit ends the wait. The look-up itself cannot be ended; it goes on alone.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenling::net::ToSocketAddrs;
///
/// let addrs = greenling::timeout(Duration::from_secs(10), || "localhost:80".to_socket_addrs());
/// assert!(addrs??.all(|addr| addr.ip().is_loopback()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ToSocketAddrs {
    /// What iterates over the addresses.
    type Iter: Iterator<Item = SocketAddr>;

    /// The addresses, in the order in which they are to be tried.
    ///
    /// # Errors
    /// `InvalidInput` for a text that is no `host:port`; what getaddrinfo(3) says; what pthread_create(3)
    /// says, if there is no thread for the look-up.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;
}

/// For what is an address already.
macro_rules! as_std {
    ($($type:ty),*) => {$(
        impl ToSocketAddrs for $type {
            type Iter = option::IntoIter<SocketAddr>;

            fn to_socket_addrs(&self) -> io::Result<option::IntoIter<SocketAddr>> {
                net::ToSocketAddrs::to_socket_addrs(self)
            }
        }
    )*};
}

as_std!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl ToSocketAddrs for (&str, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    #[track_caller]
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        LOOKUPS.of_host(self.0, self.1).map(Vec::into_iter)
    }
}

impl ToSocketAddrs for (String, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    #[track_caller]
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        (&*self.0, self.1).to_socket_addrs()
    }
}

impl ToSocketAddrs for str {
    type Iter = vec::IntoIter<SocketAddr>;

    #[track_caller]
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        LOOKUPS.of_text(self).map(Vec::into_iter)
    }
}

impl ToSocketAddrs for String {
    type Iter = vec::IntoIter<SocketAddr>;

    #[track_caller]
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        (**self).to_socket_addrs()
    }
}

impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = Cloned<slice::Iter<'a, SocketAddr>>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().cloned())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;

    #[track_caller]
    fn to_socket_addrs(&self) -> io::Result<T::Iter> {
        (**self).to_socket_addrs()
    }
}

/// Tries one address after the other, until `f` succeeds.
///
/// # Errors
/// The last one of `f`; `InvalidInput` without any address; what the resolution says.
#[track_caller]
pub(super) fn each_addr<T>(
    addr: impl ToSocketAddrs,
    mut f: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for addr in addr.to_socket_addrs()? {
        match f(addr) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    let none = "could not resolve to any addresses";
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, none)))
}

/// How names are looked up outside of tests. The port is to be filled in.
fn by_std(host: &str) -> io::Result<Vec<SocketAddr>> {
    net::ToSocketAddrs::to_socket_addrs(&(host, 0)).map(Iterator::collect)
}

static LOOKUPS: LazyLock<Arc<Lookups>> = LazyLock::new(|| Lookups::new(by_std, MAX_LOOKUPS));

type Answer = Result<Vec<SocketAddr>, Failure>;
/// The answer, once it is there.
type Lookup = WaitQueue<Option<Answer>>;

/// The look-ups that are under way, by name.
struct Lookups {
    by: fn(&str) -> io::Result<Vec<SocketAddr>>,
    pool: ThreadPool,
    running: PerProcess<WaitQueue<BTreeMap<String, Arc<Lookup>>>>,
}

impl Lookups {
    fn new(by: fn(&str) -> io::Result<Vec<SocketAddr>>, threads: usize) -> Arc<Lookups> {
        let pool = Builder::new().max_threads(threads).thread_name("greenling-names").build();
        Arc::new(Lookups { by, pool, running: PerProcess::new() })
    }

    fn running(&self) -> &WaitQueue<BTreeMap<String, Arc<Lookup>>> {
        self.running.get(|| WaitQueue::new(BTreeMap::new()))
    }

    #[track_caller]
    fn of_text(self: &Arc<Self>, text: &str) -> io::Result<Vec<SocketAddr>> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(vec![addr]);
        }
        let parts = text.rsplit_once(':');
        match parts.and_then(|(host, port)| Some((host, port.parse().ok()?))) {
            Some((host, port)) => self.of_host(host, port),
            // An error for sure, which std finds without asking anybody.
            None => net::ToSocketAddrs::to_socket_addrs(text).map(Iterator::collect),
        }
    }

    #[track_caller]
    fn of_host(self: &Arc<Self>, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let mut addrs = self.look_up(host)?;
        for addr in &mut addrs {
            addr.set_port(port);
        }
        Ok(addrs)
    }

    #[track_caller]
    fn look_up(self: &Arc<Self>, host: &str) -> io::Result<Vec<SocketAddr>> {
        if rt::had_better_block() {
            return (self.by)(host);
        }
        let lookup = match self.enter(host) {
            (lookup, None) => lookup,
            (lookup, Some(running)) => {
                let by = self.by;
                // When it does not start, dropping the function ends the look-up for the others.
                self.pool.try_spawn(move || running.finish(by))?;
                lookup
            }
        };
        let reason = Reason::Wait("the look-up of a host name");
        match lookup.wait_until(reason, None, |answer| answer.clone()) {
            Ok(answer) => answer.map_err(Failure::into_error),
            Err(interrupted) => rt::unwind(interrupted),
        }
    }

    /// The look-up of a name, and what is to be done about it if it is new.
    fn enter(self: &Arc<Self>, host: &str) -> (Arc<Lookup>, Option<Running>) {
        let new = Arc::new(WaitQueue::new(None));
        let name = host.to_owned();
        let mut running = self.running().lock();
        if let Some(lookup) = running.get(host) {
            return (lookup.clone(), None);
        }
        running.insert(name, new.clone());
        drop(running);
        let running = Running { of: self.clone(), host: host.to_owned(), lookup: new.clone() };
        (new, Some(running))
    }
}

/// A look-up that others may be waiting for. It ends when this is dropped, at the latest.
struct Running {
    of: Arc<Lookups>,
    host: String,
    lookup: Arc<Lookup>,
}

impl Running {
    fn finish(self, by: fn(&str) -> io::Result<Vec<SocketAddr>>) {
        let answer = by(&self.host).map_err(Failure::from);
        self.answer(answer);
    }

    fn answer(&self, answer: Answer) {
        let old = self.of.running().lock().remove(&self.host);
        drop(old);
        self.lookup.update_and_wake_all(|place| *place = Some(answer));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.lookup.lock().is_none() {
            let text =
                "failed to lookup address information: it could not be carried out".to_owned();
            self.answer(Err(Failure::Other(io::ErrorKind::Other, text)));
        }
    }
}

/// An error that several callers get.
#[derive(Clone, Debug)]
enum Failure {
    Code(i32),
    /// Of std's own, whose kind may be one that has no name.
    Other(io::ErrorKind, String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.raw_os_error() {
            Some(code) => Failure::Code(code),
            None => Failure::Other(error.kind(), error.to_string()),
        }
    }
}

impl Failure {
    fn into_error(self) -> io::Error {
        match self {
            Failure::Code(code) => io::Error::from_raw_os_error(code),
            Failure::Other(kind, text) => io::Error::new(kind, text),
        }
    }
}

#[cfg(test)]
mod tests;

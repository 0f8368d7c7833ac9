//! Data connections: how they are agreed on, opened, and broken off.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::str::{self, FromStr};
use std::time::Duration;

use greenling::net::{TcpListener, TcpStream};

use crate::control::Control;

/// What the client has last asked for; good for one transfer.
#[derive(Debug, Default)]
pub(crate) enum Agreed {
    #[default]
    Nothing,
    /// PASV or EPSV: the client connects to this listener.
    Passive(TcpListener),
    /// PORT or EPRT: the client listens there.
    Active(SocketAddr),
}

impl Agreed {
    /// Opens a listener for the client, on the address that it has already reached.
    pub(crate) fn listen(
        control: &Control,
        ports: Option<&RangeInclusive<u16>>,
    ) -> io::Result<(Agreed, u16)> {
        let ip = control.local.ip();
        let listener = match ports {
            None => TcpListener::bind((ip, 0))?,
            Some(ports) => listen_in(ip, ports)?,
        };
        let port = listener.local_addr()?.port();
        Ok((Agreed::Passive(listener), port))
    }
}

/// Tries the ports of a range from a random one on, so that the next one cannot be foretold.
fn listen_in(ip: IpAddr, ports: &RangeInclusive<u16>) -> io::Result<TcpListener> {
    let count = ports.end() - ports.start() + 1;
    let first = fastrand::u16(0..count);
    let mut last_error = io::ErrorKind::AddrInUse.into();
    for n in 0..count {
        // In u32, since the sum may be beyond u16 before it is reduced.
        let port = ports.start() + ((u32::from(first) + u32::from(n)) % u32::from(count)) as u16;
        match TcpListener::bind((ip, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// A way to break off a transfer from another coroutine, whatever it waits for.
#[derive(Debug, Default)]
pub(crate) struct Break {
    broken: Cell<bool>,
    waiting: RefCell<Waiting>,
}

/// What the transfer waits on.
#[derive(Debug, Default)]
enum Waiting {
    #[default]
    Nothing,
    Listener(Rc<TcpListener>),
    Stream(Rc<TcpStream>),
}

impl Break {
    pub(crate) fn break_off(&self) {
        self.broken.set(true);
        match &*self.waiting.borrow() {
            Waiting::Nothing => {}
            Waiting::Listener(listener) => listener.close(),
            Waiting::Stream(stream) => stream.close(),
        }
    }

    /// The transfer has ended, and its connection is to be closed now.
    pub(crate) fn forget(&self) {
        *self.waiting.borrow_mut() = Waiting::Nothing;
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    fn wait_on(&self, waiting: Waiting) -> io::Result<()> {
        *self.waiting.borrow_mut() = waiting;
        match self.broken.get() {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }
}

/// Opens the data connection that was agreed on.
pub(crate) fn open(
    agreed: Agreed,
    peer: IpAddr,
    limit: Duration,
    breaking: &Break,
) -> io::Result<Rc<TcpStream>> {
    let stream = match agreed {
        Agreed::Nothing => return Err(io::ErrorKind::NotConnected.into()),
        Agreed::Active(address) => TcpStream::connect_timeout(&address, limit)?,
        Agreed::Passive(listener) => {
            let listener = Rc::new(listener);
            breaking.wait_on(Waiting::Listener(Rc::clone(&listener)))?;
            greenling::timeout(limit, || accept_from(&listener, peer))
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?
        }
    };
    let stream = Rc::new(stream);
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    breaking.wait_on(Waiting::Stream(Rc::clone(&stream)))?;
    Ok(stream)
}

/// A connection from anybody but the client would be stealing the client's data, or feeding it false
/// ones.
fn accept_from(listener: &TcpListener, peer: IpAddr) -> io::Result<TcpStream> {
    loop {
        let (stream, address) = listener.accept()?;
        if address.ip().to_canonical() == peer {
            return Ok(stream);
        }
    }
}

/// `h1,h2,h3,h4,p1,p2` as in PORT.
pub(crate) fn parse_port(argument: &[u8]) -> Option<SocketAddr> {
    let numbers = str::from_utf8(argument).ok()?.split(',');
    let numbers: Vec<u8> = numbers.map(number).collect::<Option<_>>()?;
    let [a, b, c, d, high, low] = numbers[..] else { return None };
    Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
}

/// `|1|132.235.1.2|6275|` or `|2|::1|6275|`, with any delimiter, as in EPRT. The inner error says that
/// it is another protocol's address.
pub(crate) fn parse_eprt(argument: &[u8]) -> Option<Result<SocketAddr, UnknownProtocol>> {
    let argument = str::from_utf8(argument).ok()?;
    let delimiter = argument.chars().next().filter(|c| c.is_ascii_graphic())?;
    let fields: Vec<_> = argument.split(delimiter).collect();
    let ["", protocol, address, port, ""] = fields[..] else { return None };
    let port: u16 = number(port)?;
    match number::<u32>(protocol)? {
        1 => Some(Ok((address.parse::<Ipv4Addr>().ok()?, port).into())),
        2 => Some(Ok((address.parse::<Ipv6Addr>().ok()?, port).into())),
        _ => Some(Err(UnknownProtocol)),
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownProtocol;

/// Digits only: what is parsed as a number may have a sign.
pub(crate) fn number<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz;

    #[test]
    fn ports_are_six_bytes() {
        let address = "127.0.0.1:5001".parse().unwrap();
        assert_eq!(parse_port(b"127,0,0,1,19,137"), Some(address));
        for bad in [
            &b""[..],
            b"1,2,3,4,5",
            b"1,2,3,4,5,6,7",
            b"1,2,3,4,5,256",
            b"1,2,3,4,5,+6",
            b"1,2,3,4,5,\xff",
        ] {
            assert_eq!(parse_port(bad), None);
        }
    }

    #[test]
    fn extended_ports_have_a_protocol() {
        let v4 = "132.235.1.2:6275".parse().unwrap();
        let v6 = "[::1]:6275".parse().unwrap();
        assert_eq!(parse_eprt(b"|1|132.235.1.2|6275|"), Some(Ok(v4)));
        assert_eq!(parse_eprt(b"!2!::1!6275!"), Some(Ok(v6)));
        assert_eq!(parse_eprt(b"|3|x|6275|"), Some(Err(UnknownProtocol)));
        for bad in [
            &b""[..],
            b"|",
            b"|1|::1|6275|",
            b"|2|::1|6275",
            b"|1|1.2.3.4|65536|",
            b"|1|1.2.3.4|+9|",
        ] {
            assert_eq!(parse_eprt(bad), None);
        }
    }

    #[test]
    fn a_range_of_ports_is_used_to_its_last() {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let free = TcpListener::bind((ip, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        assert!(listen_in(ip, &(port..=port)).is_err(), "taken");
        drop(free);
        assert_eq!(listen_in(ip, &(port..=port)).unwrap().local_addr().unwrap().port(), port);
    }

    #[test]
    fn addresses_are_understood_as_they_are_printed_and_not_otherwise() {
        let print_port = |address: SocketAddr| match address {
            SocketAddr::V4(address) => {
                let [high, low] = address.port().to_be_bytes();
                format!("{},{high},{low}", address.ip().to_string().replace('.', ","))
            }
            SocketAddr::V6(_) => String::new(),
        };
        let print_eprt = |address: SocketAddr, delimiter: char| {
            let protocol = if address.is_ipv4() { 1 } else { 2 };
            format!("|{protocol}|{}|{}|", address.ip(), address.port())
                .replace('|', &delimiter.to_string())
        };
        let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
        let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
        let address = (prop_oneof![v4, v6], any::<u16>());
        let inputs = (address, fuzz::mutations(3), fuzz::soup(b"0123456789,.:|+- a", 25));
        fuzz::check(10_000, inputs, |(address, mutations, soup)| {
            let address = SocketAddr::from(address);
            let (port, eprt) = (print_port(address), print_eprt(address, '|'));
            prop_assert_eq!(parse_port(port.as_bytes()), address.is_ipv4().then_some(address));
            prop_assert_eq!(parse_eprt(eprt.as_bytes()), Some(Ok(address)));
            let near = |text: String| fuzz::mutate(text.into_bytes(), &mutations);
            for text in [near(port), near(eprt), soup.0] {
                // Numbers may have zeros before them.
                if let Some(address) = parse_port(&text) {
                    prop_assert!(text.iter().all(|byte| b"0123456789,".contains(byte)));
                    prop_assert_eq!(parse_port(print_port(address).as_bytes()), Some(address));
                }
                if let Some(Ok(address)) = parse_eprt(&text) {
                    let printed = print_eprt(address, char::from(text[0]));
                    // One of these may be within an address.
                    if !text[0].is_ascii_alphanumeric() && !b".:".contains(&text[0]) {
                        prop_assert_eq!(parse_eprt(printed.as_bytes()), Some(Ok(address)));
                    }
                    let sign = |byte: &u8| b"+- ".contains(byte) && *byte != text[0];
                    prop_assert!(!text.iter().any(sign));
                }
            }
            Ok(())
        });
    }
}

//! Addresses in the form in which the kernel takes and gives them.

use std::ffi::OsStr;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;

/// A socket's name: room for the address of any family, and how much of it is in use.
#[repr(C)]
pub(super) struct Name {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

/// Where the path begins in a `sockaddr_un`.
const PATH_AT: usize = mem::offset_of!(libc::sockaddr_un, sun_path);

impl Name {
    /// As long as possible, for the kernel to write to.
    pub(super) fn room() -> Name {
        // SAFETY: all zeros is valid for plain data.
        let storage = unsafe { mem::zeroed() };
        Name { storage, len: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    /// Of a socket that has none.
    pub(super) fn none() -> Name {
        Name { len: 0, ..Name::room() }
    }

    /// What a system call takes that reads a name: pointer and length.
    pub(super) fn as_arguments(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.len)
    }

    /// What a system call takes that writes a name: pointer, and pointer to the length.
    pub(super) fn as_mut_arguments(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.storage).cast(), &raw mut self.len)
    }

    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub(super) fn family(&self) -> i32 {
        i32::from(self.storage.ss_family)
    }

    pub(super) fn inet(addr: &SocketAddr) -> Name {
        let mut name = Name::room();
        let storage = &raw mut name.storage;
        match addr {
            SocketAddr::V4(addr) => {
                // SAFETY: the storage is large and aligned enough for every family, all zeros is valid for
                // this one, and nothing else refers to it.
                let inet = unsafe { &mut *storage.cast::<libc::sockaddr_in>() };
                inet.sin_family = libc::AF_INET as libc::sa_family_t;
                inet.sin_port = addr.port().to_be();
                inet.sin_addr.s_addr = u32::from_ne_bytes(addr.ip().octets());
                name.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(addr) => {
                // SAFETY: as above.
                let inet = unsafe { &mut *storage.cast::<libc::sockaddr_in6>() };
                inet.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                inet.sin6_port = addr.port().to_be();
                inet.sin6_addr.s6_addr = addr.ip().octets();
                inet.sin6_flowinfo = addr.flowinfo();
                inet.sin6_scope_id = addr.scope_id();
                name.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        name
    }

    /// # Errors
    /// `InvalidInput`, as std has it, for a name of another family.
    pub(super) fn to_inet(&self) -> io::Result<SocketAddr> {
        let storage = &raw const self.storage;
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the storage is large and aligned enough for every family, and this is the one
                // that the kernel has named.
                let inet = unsafe { &*storage.cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(inet.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddr::new(IpAddr::V4(ip), u16::from_be(inet.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let inet = unsafe { &*storage.cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(inet.sin6_addr.s6_addr);
                let port = u16::from_be(inet.sin6_port);
                let addr = SocketAddrV6::new(ip, port, inet.sin6_flowinfo, inet.sin6_scope_id);
                Ok(SocketAddr::V6(addr))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "invalid argument")),
        }
    }

    pub(super) fn unix(addr: &UnixAddr) -> Name {
        let mut name = Name::room();
        // SAFETY: as in `inet`.
        let unix = unsafe { &mut *(&raw mut name.storage).cast::<libc::sockaddr_un>() };
        unix.sun_family = libc::AF_UNIX as libc::sa_family_t;
        // An abstract name begins with a zero, a path ends with one. std's addresses fit.
        let (bytes, before, after) = match (addr.as_pathname(), addr.as_abstract_name()) {
            (Some(path), _) => (path.as_os_str().as_bytes(), 0, 1),
            (None, Some(abstract_name)) => (abstract_name, 1, 0),
            (None, None) => (&[][..], 0, 0),
        };
        for (to, from) in unix.sun_path[before..].iter_mut().zip(bytes) {
            *to = *from as libc::c_char;
        }
        name.len = (PATH_AT + before + bytes.len() + after) as libc::socklen_t;
        name
    }

    /// # Errors
    /// `InvalidInput`, as std has it, for a name of another family.
    pub(super) fn to_unix(&self) -> io::Result<UnixAddr> {
        // The kernel gives no family either for a socket without a name.
        if self.len > 0 && i32::from(self.storage.ss_family) != libc::AF_UNIX {
            let wrong = "file descriptor did not correspond to a Unix socket";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
        }
        // SAFETY: the storage is large and aligned enough for every family; plain data.
        let unix = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_un>() };
        let len = (self.len as usize).saturating_sub(PATH_AT).min(unix.sun_path.len());
        let bytes: Vec<u8> = unix.sun_path[..len].iter().map(|byte| *byte as u8).collect();
        match bytes.split_first() {
            Some((0, abstract_name)) => UnixAddr::from_abstract_name(abstract_name),
            // Which is how std spells a socket without a name.
            None => UnixAddr::from_pathname(""),
            Some(_) => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(len);
                // std has no address of a path that leaves no room for its zero.
                let end = end.min(unix.sun_path.len() - 1);
                UnixAddr::from_pathname(OsStr::from_bytes(&bytes[..end]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internet_addresses_survive() {
        for text in ["127.0.0.1:80", "255.1.2.3:65535", "[::1]:443", "[fe80::1%7]:9"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(Name::inet(&addr).to_inet().unwrap(), addr);
        }
        let full = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 2, 3).into();
        assert_eq!(Name::inet(&full).to_inet().unwrap(), full);
        let unix = UnixAddr::from_pathname("/tmp/x").unwrap();
        assert_eq!(Name::unix(&unix).to_inet().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn unix_addresses_survive() {
        let longest = "x".repeat(107);
        for path in ["/tmp/socket", "relative", &longest] {
            let addr = UnixAddr::from_pathname(path).unwrap();
            let back = Name::unix(&addr).to_unix().unwrap();
            assert_eq!(back.as_pathname(), addr.as_pathname());
        }
        for abstract_name in [&b"name"[..], b"with\0zero\0", &[255; 107], b""] {
            let addr = UnixAddr::from_abstract_name(abstract_name).unwrap();
            let back = Name::unix(&addr).to_unix().unwrap();
            assert_eq!(back.as_abstract_name(), Some(abstract_name));
        }
        let unnamed = UnixAddr::from_pathname("").unwrap();
        assert!(Name::unix(&unnamed).to_unix().unwrap().is_unnamed());
        assert!(Name::none().to_unix().unwrap().is_unnamed());
        let inet = Name::inet(&"1.2.3.4:5".parse().unwrap());
        assert_eq!(inet.to_unix().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

//! Runs a program and writes down what came out.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use super::calls;
use super::program::{Kind, LIMIT, Meanwhile, Program, Step, Way};
use crate::common::pipe;

/// Who acts for the other end while a step waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peers {
    Threads,
    Coroutines,
}

/// What a step has come to: a number, bytes, and whether a limit took its time.
pub(crate) type Entry = (i64, Vec<u8>, Vec<i64>, bool);
pub(crate) type Log = Vec<Entry>;

/// How long the peer lets the program wait.
const DELAY: Duration = Duration::from_millis(2);

struct World {
    kind: Kind,
    peers: Peers,
    /// To read from and to write to; the same but for pipes.
    own: [RawFd; 2],
    peer: [RawFd; 2],
    file: File,
    /// What goes out next.
    next: u8,
}

fn pair(kind: i32) -> [OwnedFd; 2] {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors, which are ours then.
    unsafe {
        let made = libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr());
        assert_eq!(made, 0);
        fds.map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

impl World {
    fn new(kind: Kind, peers: Peers) -> World {
        use std::os::fd::IntoRawFd;
        let both = |fds: [OwnedFd; 2]| fds.map(|fd| [fd.into_raw_fd(); 2]);
        let [own, peer] = match kind {
            Kind::UnixStream => both(pair(libc::SOCK_STREAM)),
            Kind::UnixDatagram => both(pair(libc::SOCK_DGRAM)),
            Kind::SeqPacket => both(pair(libc::SOCK_SEQPACKET)),
            Kind::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let own = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let peer = listener.accept().unwrap().0;
                [&own, &peer].iter().for_each(|end| end.set_nodelay(true).unwrap());
                both([own.into(), peer.into()])
            }
            Kind::Pipes => {
                let ((a, b), (c, d)) = (pipe().unwrap(), pipe().unwrap());
                let [a, b, c, d] = [a, b, c, d].map(IntoRawFd::into_raw_fd);
                [[a, d], [c, b]]
            }
        };
        World { kind, peers, own, peer, file: File::open("/proc/self/exe").unwrap(), next: 0 }
    }

    /// Does `step` while the other end does `act`, a little later.
    fn beside<T>(
        &self,
        act: impl FnOnce() -> Vec<u8> + Send + 'static,
        step: impl FnOnce() -> T,
    ) -> (T, Vec<u8>) {
        match self.peers {
            Peers::Threads => {
                let peer = thread::spawn(act);
                (step(), peer.join().unwrap())
            }
            Peers::Coroutines => {
                let peer = greenling::spawn(act);
                (step(), peer.join().unwrap())
            }
        }
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        let first = self.next;
        self.next = self.next.wrapping_add(len as u8);
        (0..len).map(|at| first.wrapping_add(at as u8)).collect()
    }

    /// Something from the peer, which has arrived when this returns.
    fn peer_sends(&mut self, len: usize) -> i64 {
        let data = self.data(len);
        let before = calls::unread(self.own[0]);
        let sent = calls::send(Way::Plain, self.peer[1], &data, 0);
        // TCP takes its time. What was shut down takes nothing.
        let end = Instant::now() + Duration::from_secs(1);
        while self.kind == Kind::Tcp
            && calls::unread(self.own[0]) < before + sent
            && Instant::now() < end
        {
            thread::sleep(Duration::from_micros(50));
        }
        sent
    }

    fn peer_shuts(&mut self) -> i64 {
        let end = self.peer[1];
        if self.kind == Kind::Pipes {
            self.peer[1] = -1;
        }
        let result = shut(self.kind, end);
        if self.kind == Kind::Tcp {
            let mut poll = libc::pollfd { fd: self.own[0], events: libc::POLLRDHUP, revents: 0 };
            // SAFETY: one entry.
            unsafe { libc::poll(&mut poll, 1, 1000) };
        }
        result
    }

    /// Does `step` while the peer does something or nothing.
    fn meanwhile<T>(&mut self, what: &Meanwhile, step: impl FnOnce(&World) -> T) -> T {
        let (kind, end) = (self.kind, self.peer[1]);
        match what {
            Meanwhile::Nothing => step(self),
            Meanwhile::Shuts => {
                if kind == Kind::Pipes {
                    self.peer[1] = -1;
                }
                let act = move || {
                    thread::sleep(DELAY);
                    shut(kind, end);
                    Vec::new()
                };
                self.beside(act, || step(self)).0
            }
            Meanwhile::Sends(parts) => {
                let parts: Vec<_> = parts.iter().map(|len| self.data(*len)).collect();
                let act = move || {
                    for part in parts {
                        thread::sleep(DELAY);
                        calls::send(Way::Plain, end, &part, 0);
                    }
                    Vec::new()
                };
                self.beside(act, || step(self)).0
            }
        }
    }

    fn step(&mut self, step: &Step) -> Entry {
        let start = Instant::now();
        // The kernel counts the limits of sockets in its own ticks, and may be a tick early.
        let exact = matches!(self.peers, Peers::Coroutines);
        let took = |limited: bool| {
            limited && (!exact || start.elapsed() >= Duration::from_millis(LIMIT.into()))
        };
        let number = |number| (number, Vec::new(), Vec::new(), false);
        match step {
            &Step::Send { way, len, flags } => {
                let data = self.data(len);
                let sent = calls::send(way, self.own[1], &data, flags);
                (sent, drain(self.kind, self.peer[0], sent.max(0) as usize), Vec::new(), false)
            }
            &Step::SendMuch { way, len } => {
                let (kind, end, data) = (self.kind, self.peer[0], self.data(len));
                // What is refused sends nothing, so that the peer must not wait for it.
                let probe = calls::send(way, self.own[1], &data[..1], libc::MSG_NOSIGNAL);
                if probe < 0 {
                    return number(probe);
                }
                let act = move || {
                    thread::sleep(DELAY);
                    drain(kind, end, len)
                };
                let out = self.own[1];
                let rest = &data[1..];
                let (sent, read) =
                    self.beside(act, || calls::send(way, out, rest, libc::MSG_NOSIGNAL));
                (sent, read, Vec::new(), false)
            }
            Step::Receive { way, len, flags, limited, peer } => {
                let (count, data) =
                    self.meanwhile(peer, |world| calls::receive(*way, world.own[0], *len, *flags));
                (count, data, Vec::new(), took(*limited))
            }
            Step::Poll { how, write, millis, decoys, limited, peer } => {
                let mut fds = vec![(self.own[usize::from(*write)], *write)];
                if *decoys {
                    fds.extend([(-1, false), fds[0], (self.file.as_raw_fd(), false)]);
                }
                let (count, ready) = self.meanwhile(peer, |_| calls::poll(*how, &fds, *millis));
                (count, Vec::new(), ready, took(*limited))
            }
            &Step::NonBlocking { on, ioctl } => {
                number(calls::set_nonblocking(self.own[0], on, ioctl))
            }
            &Step::Limit(millis) => number(calls::set_receive_limit(self.own[0], millis)),
            &Step::Dup(how) => {
                let [old, out] = self.own;
                let fresh = calls::dup(how, old);
                self.own = [fresh, if out == old { fresh } else { out }];
                // SAFETY: ours, and not used any more.
                number(calls::outcome(unsafe { libc::close(old) }))
            }
            &Step::Shutdown(how) => {
                // SAFETY: no pointers.
                number(calls::outcome(unsafe { libc::shutdown(self.own[0], how) }))
            }
            &Step::PeerSends(len) => number(self.peer_sends(len)),
            Step::PeerShuts => number(self.peer_shuts()),
            Step::Unread => number(calls::unread(self.own[0])),
            &Step::Wrong(which) => number(calls::wrong(which, self.own[0], self.file.as_raw_fd())),
            &Step::Nap(millis) => {
                let time = Duration::from_millis(millis.into());
                thread::sleep(time);
                (0, Vec::new(), Vec::new(), start.elapsed() >= time)
            }
            &Step::Accept { comes, unix } => {
                let (result, data) = self.accept(comes, unix);
                (result, data, Vec::new(), took(!comes))
            }
        }
    }

    fn accept(&self, comes: bool, unix: bool) -> (i64, Vec<u8>) {
        let accept = |fd: RawFd| {
            calls::set_receive_limit(fd, if comes { 0 } else { LIMIT });
            // SAFETY: null says that the address is not wanted.
            let fd = unsafe {
                libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC)
            };
            if fd < 0 {
                return (calls::outcome(fd), Vec::new());
            }
            // SAFETY: it has just been given to us.
            let mut stream = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
            let mut data = Vec::new();
            stream.read_to_end(&mut data).unwrap();
            (0, data)
        };
        if unix {
            let addr = SocketAddr::from_abstract_name(format!(
                "greenling-differential-{}-{}",
                std::process::id(),
                self.own[0]
            ));
            let addr = addr.unwrap();
            let listener = UnixListener::bind_addr(&addr).unwrap();
            let come = move || UnixStream::connect_addr(&addr).unwrap().write_all(b"unix").unwrap();
            return self.visited(comes, come, || accept(listener.as_raw_fd()));
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let come = move || TcpStream::connect(addr).unwrap().write_all(b"tcp").unwrap();
        self.visited(comes, come, || accept(listener.as_raw_fd()))
    }

    fn visited<T>(
        &self,
        comes: bool,
        come: impl FnOnce() + Send + 'static,
        step: impl FnOnce() -> T,
    ) -> T {
        if !comes {
            return step();
        }
        let act = move || {
            thread::sleep(DELAY);
            come();
            Vec::new()
        };
        self.beside(act, step).0
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mut fds = [self.own, self.peer].concat();
        fds.sort_unstable();
        fds.dedup();
        for fd in fds.into_iter().filter(|fd| *fd >= 0) {
            // SAFETY: ours, and not used any more.
            unsafe { libc::close(fd) };
        }
    }
}

fn shut(kind: Kind, end: RawFd) -> i64 {
    // SAFETY: no pointers; the end is not used for writing any more.
    calls::outcome(unsafe {
        if kind == Kind::Pipes { libc::close(end) } else { libc::shutdown(end, libc::SHUT_WR) }
    })
}

/// Reads `len` bytes, or one message of that length.
fn drain(kind: Kind, fd: RawFd, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let (count, data) = calls::receive(Way::Plain, fd, len - all.len(), 0);
        all.extend(data);
        if count <= 0 || !kind.is_stream() {
            break;
        }
    }
    all
}

pub(crate) fn run(program: &Program, peers: Peers) -> Log {
    let mut world = World::new(program.kind, peers);
    program.steps.iter().map(|step| world.step(step)).collect()
}

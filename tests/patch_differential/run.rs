//! Runs a program and writes down what came out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::program::{Comer, FAR, Kind, LIMIT, Meanwhile, Program, Step, Way};
use super::{calls, messages, objects};
use crate::common::pipe;

/// Who acts for the other end while a step waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peers {
    Threads,
    Coroutines,
}

/// How long a step took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// As long as it needs, with whatever the machine does besides.
    Fine,
    /// A time limit ended it, when it was over.
    TheLimit,
    /// Longer than anything is to take.
    TooLong,
}

/// What a step has come to: a number, bytes, more numbers, and its time.
pub(crate) type Entry = (i64, Vec<u8>, Vec<i64>, Took);
pub(crate) type Log = Vec<Entry>;

/// How long the peer lets the program wait.
pub(crate) const DELAY: Duration = Duration::from_millis(2);
/// Waits that are ended by somebody have limits that are longer than this. The machine may be slow.
const TOO_LONG: Duration = Duration::from_millis(FAR as u64 * 3 / 4);

pub(crate) struct World {
    pub(crate) kind: Kind,
    pub(crate) peers: Peers,
    /// To read from and to write to; the same but for pipes.
    pub(crate) own: [RawFd; 2],
    pub(crate) peer: [RawFd; 2],
    pub(crate) file: File,
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
            Kind::Udp => {
                let [own, peer] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
                objects::only_from(&own, peer.local_addr().unwrap());
                objects::only_from(&peer, own.local_addr().unwrap());
                both([own.into(), peer.into()])
            }
            Kind::Terminal => both(objects::terminal()),
            Kind::Pipes => {
                let ((a, b), (c, d)) = (pipe().unwrap(), pipe().unwrap());
                let [a, b, c, d] = [a, b, c, d].map(IntoRawFd::into_raw_fd);
                [[a, d], [c, b]]
            }
        };
        World { kind, peers, own, peer, file: File::open("/proc/self/exe").unwrap(), next: 0 }
    }

    /// Does `step` while the other end does `act`, a little later.
    pub(crate) fn beside<T, U: Send + 'static>(
        &self,
        act: impl FnOnce() -> U + Send + 'static,
        step: impl FnOnce() -> T,
    ) -> (T, U) {
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

    pub(crate) fn data(&mut self, len: usize) -> Vec<u8> {
        let first = self.next;
        self.next = self.next.wrapping_add(len as u8);
        (0..len).map(|at| first.wrapping_add(at as u8)).collect()
    }

    /// Something from the peer, which has arrived when this returns.
    fn peer_sends(&mut self, len: usize) -> i64 {
        let data = self.data(len);
        // These take their time. (What was shut down takes nothing.)
        let arrived = match self.kind {
            Kind::Tcp | Kind::Terminal => calls::unread,
            Kind::Udp => calls::memory,
            _ => |_| i64::MAX,
        };
        let before = arrived(self.own[0]);
        let sent = calls::send(Way::Plain, self.peer[1], &data, 0);
        let least = if self.kind == Kind::Udp { 1 } else { sent };
        let end = Instant::now() + Duration::from_secs(1);
        while arrived(self.own[0]) < before.saturating_add(least) && Instant::now() < end {
            if before == i64::MAX {
                break;
            }
            thread::sleep(Duration::from_micros(50));
        }
        sent
    }

    fn peer_shuts(&mut self) -> i64 {
        let end = self.peer[1];
        self.note_shut();
        let result = shut(self.kind, end);
        if self.kind == Kind::Tcp {
            let mut poll = libc::pollfd { fd: self.own[0], events: libc::POLLRDHUP, revents: 0 };
            // SAFETY: one entry.
            unsafe { libc::poll(&mut poll, 1, 1000) };
        }
        result
    }

    fn note_shut(&mut self) {
        match self.kind {
            Kind::Pipes => self.peer[1] = -1,
            Kind::Terminal => self.peer = [-1; 2],
            _ => {}
        }
    }

    /// Does `step` while the peer does something or nothing.
    pub(crate) fn meanwhile<T>(&mut self, what: &Meanwhile, step: impl FnOnce(&World) -> T) -> T {
        let (kind, end) = (self.kind, self.peer[1]);
        match what {
            Meanwhile::Nothing => step(self),
            Meanwhile::Shuts => {
                self.note_shut();
                let act = move || {
                    thread::sleep(DELAY);
                    shut(kind, end);
                };
                self.beside(act, || step(self)).0
            }
            &Meanwhile::ShutsOurs(how) => {
                let own = self.own[0];
                let act = move || {
                    thread::sleep(DELAY);
                    // SAFETY: no pointers.
                    unsafe { libc::shutdown(own, how) };
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
                };
                self.beside(act, || step(self)).0
            }
        }
    }

    fn step(&mut self, step: &Step) -> Entry {
        let start = Instant::now();
        let (number, bytes, more, limited) = self.outcome(step);
        let took = start.elapsed();
        if took > Duration::from_secs(2) {
            println!("slow, by {:?}: {:?} {step:?} took {took:?}", self.peers, self.kind);
        }
        // The kernel counts the limits of sockets in its own ticks, and may be a tick early.
        let exact = matches!(self.peers, Peers::Coroutines);
        let class = match limited {
            _ if took >= TOO_LONG => Took::TooLong,
            true if !exact || took >= Duration::from_millis(LIMIT.into()) => Took::TheLimit,
            _ => Took::Fine,
        };
        (number, bytes, more, class)
    }

    /// Does a step. What it came to, and whether it was to be ended by a time limit.
    fn outcome(&mut self, step: &Step) -> (i64, Vec<u8>, Vec<i64>, bool) {
        let number = |number| (number, Vec::new(), Vec::new(), false);
        match step {
            &Step::Send { way, len, flags } => {
                let data = self.data(len);
                let sent = calls::send(way, self.own[1], &data, flags);
                (sent, drain(self.kind, self.peer[0], sent), Vec::new(), false)
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
                    drain(kind, end, len as i64)
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
                // Whose terminal goes away in the middle of a read gets EIO, and later 0: it depends on when.
                let gone = self.kind == Kind::Terminal && count == -i64::from(libc::EIO);
                (if gone { 0 } else { count }, data, Vec::new(), *limited)
            }
            Step::Poll { how, write, millis, decoys, limited, peer } => {
                let mut fds = vec![(self.own[usize::from(*write)], *write)];
                if *decoys {
                    fds.extend([(-1, false), fds[0], (self.file.as_raw_fd(), false)]);
                }
                let (count, ready) = self.meanwhile(peer, |_| calls::poll(*how, &fds, *millis));
                (count, Vec::new(), ready, *limited)
            }
            &Step::NonBlocking { on, ioctl } => {
                number(calls::set_nonblocking(self.own[0], on, ioctl))
            }
            &Step::Limit(millis) => number(calls::set_limit(self.own[0], false, millis)),
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
                let (start, time) = (Instant::now(), Duration::from_millis(millis.into()));
                thread::sleep(time);
                number((start.elapsed() >= time).into())
            }
            &Step::Accept { comer, unix } => {
                let (result, data) = self.accept(comer, unix);
                (result, data, Vec::new(), comer == Comer::Nobody)
            }
            Step::ReceiveMany { count, len, flags, time, limited, peer } => {
                let (got, data, lens) = self.meanwhile(peer, |world| {
                    messages::receive_many(world.own[0], *count, *len, *flags, *time)
                });
                (got, data, lens, *limited)
            }
            Step::SendMany { lens, flags } => messages::send_many(self, lens, *flags),
            &Step::SendFile { offset, len } => messages::send_file(self, offset, len),
            &Step::Fill { len, poll } => messages::fill(self, len, poll),
            Step::Pass(passing) => messages::pass(self, passing),
            Step::Object(object) => objects::run(self, object),
        }
    }

    fn accept(&self, comer: Comer, unix: bool) -> (i64, Vec<u8>) {
        let accept = |fd: RawFd| {
            calls::set_limit(fd, false, if comer == Comer::Nobody { LIMIT } else { 0 });
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
            let addr = self.name("listener");
            let listener = UnixListener::bind_addr(&addr).unwrap();
            let come = move || UnixStream::connect_addr(&addr).unwrap().write_all(b"unix").unwrap();
            return self.visited(comer, listener.as_raw_fd(), come, accept);
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let come = move || TcpStream::connect(addr).unwrap().write_all(b"tcp").unwrap();
        self.visited(comer, listener.as_raw_fd(), come, accept)
    }

    /// An address that nobody else has at the same time.
    pub(crate) fn name(&self, what: &str) -> SocketAddr {
        let (process, own) = (std::process::id(), self.own[0]);
        SocketAddr::from_abstract_name(format!("greenling-differential-{process}-{what}-{own}"))
            .unwrap()
    }

    fn visited<T>(
        &self,
        comer: Comer,
        listener: RawFd,
        come: impl FnOnce() + Send + 'static,
        step: impl FnOnce(RawFd) -> T,
    ) -> T {
        if comer == Comer::Nobody {
            return step(listener);
        }
        let act = move || {
            thread::sleep(DELAY);
            if comer == Comer::Somebody {
                return come();
            }
            // SAFETY: no pointers.
            unsafe { libc::shutdown(listener, libc::SHUT_RD) };
        };
        self.beside(act, || step(listener)).0
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
        if kind.is_socket() { libc::shutdown(end, libc::SHUT_WR) } else { libc::close(end) }
    })
}

/// Reads what has been sent: so many bytes, or one message of that length.
pub(crate) fn drain(kind: Kind, fd: RawFd, sent: i64) -> Vec<u8> {
    let Ok(len) = usize::try_from(sent) else { return Vec::new() };
    if !kind.is_stream() {
        return calls::receive(Way::Plain, fd, len + 1, 0).1;
    }
    let mut all = Vec::new();
    while all.len() < len {
        let (count, data) = calls::receive(Way::Plain, fd, len - all.len(), 0);
        all.extend(data);
        if count <= 0 {
            break;
        }
    }
    all
}

/// Programs that are running, by seed, and at which step they are: what a hang's report says.
pub(crate) static RUNNING: Mutex<BTreeMap<u64, usize>> = Mutex::new(BTreeMap::new());

pub(crate) fn run(seed: u64, program: &Program, peers: Peers) -> Log {
    let mut world = World::new(program.kind, peers);
    let steps = program.steps.iter().enumerate();
    let log = steps.map(|(index, step)| {
        RUNNING.lock().unwrap().insert(seed, index);
        world.step(step)
    });
    let log = log.collect();
    RUNNING.lock().unwrap().remove(&seed);
    log
}

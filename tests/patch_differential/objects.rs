//! Descriptors of other kinds: terminals, events, timers, directories that change, files, named datagrams.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use super::calls::{self, outcome};
use super::program::{Object, Way};
use super::run::{DELAY, World};

type Outcome = (i64, Vec<u8>, Vec<i64>, bool);

/// A pseudo-terminal that leaves bytes as they are: the program's end, and the other.
pub(crate) fn terminal() -> [OwnedFd; 2] {
    let (mut near, mut far) = (0, 0);
    // SAFETY: two places for descriptors, which are ours then; the settings are read before they are written.
    unsafe {
        let made = libc::openpty(&mut near, &mut far, ptr::null_mut(), ptr::null(), ptr::null());
        assert_eq!(made, 0);
        let mut settings: libc::termios = mem::zeroed();
        libc::tcgetattr(far, &mut settings);
        libc::cfmakeraw(&mut settings);
        libc::tcsetattr(far, libc::TCSANOW, &settings);
        [far, near].map(|fd| {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            OwnedFd::from_raw_fd(fd)
        })
    }
}

pub(crate) fn memory_file() -> File {
    // SAFETY: a C string; the descriptor is ours.
    unsafe {
        let fd = libc::memfd_create(c"greenling".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0);
        File::from_raw_fd(fd)
    }
}

pub(crate) fn run(world: &mut World, object: &Object) -> Outcome {
    match *object {
        Object::Event { reads, semaphore, nonblocking } => {
            event(world, reads, semaphore, nonblocking)
        }
        Object::Timer { millis, periodic } => timer(millis, periodic),
        Object::Inotify => inotify(world),
        Object::File { offset, len, vectored } => file(offset, len, vectored),
        Object::From { unix, message } => from(world, unix, message),
    }
}

fn owned(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0);
    // SAFETY: just made, by the caller.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Reads a number, or says the error.
fn number(fd: &OwnedFd) -> i64 {
    let (count, data) = calls::receive(Way::Plain, fd.as_raw_fd(), 8, 0);
    data.try_into().map_or(count, |bytes| u64::from_ne_bytes(bytes) as i64)
}

/// Somebody adds `reads` once; then it is full, and a write waits for a read.
fn event(world: &World, reads: u8, semaphore: bool, nonblocking: bool) -> Outcome {
    let mut flags = libc::EFD_CLOEXEC;
    flags |= if semaphore { libc::EFD_SEMAPHORE } else { 0 };
    flags |= if nonblocking { libc::EFD_NONBLOCK } else { 0 };
    // SAFETY: no pointers.
    let event = owned(unsafe { libc::eventfd(0, flags) });
    let fd = event.as_raw_fd();
    let add = move |value: u64| calls::send(Way::Plain, fd, &value.to_ne_bytes(), 0);
    let mut seen = Vec::new();
    if nonblocking {
        seen.extend([number(&event), add(reads.into())]);
    } else {
        let late = move || {
            thread::sleep(DELAY);
            add(reads.into())
        };
        let (first, added) = world.beside(late, || number(&event));
        seen.extend([first, added]);
    }
    // As many as are left without a wait.
    for _ in 0..if semaphore { reads - u8::from(!nonblocking) } else { 0 } {
        seen.push(number(&event));
    }
    if !nonblocking {
        seen.push(add(u64::MAX - 1));
        let late = move || {
            thread::sleep(DELAY);
            calls::receive(Way::Plain, fd, 8, 0).0
        };
        // A semaphore has room for one after that.
        let (added, taken) = world.beside(late, || add(1));
        seen.extend([added, taken]);
    } else {
        seen.push(add(u64::MAX)); // no value for it
    }
    (0, Vec::new(), seen, false)
}

fn timer(millis: u8, periodic: bool) -> Outcome {
    // SAFETY: no pointers.
    let timer = owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) });
    let time = libc::timespec { tv_sec: 0, tv_nsec: i64::from(millis) * 1_000_000 };
    // SAFETY: plain data.
    let none = unsafe { mem::zeroed() };
    let start = Instant::now();
    let interval = if periodic { time } else { none };
    let setting = libc::itimerspec { it_interval: interval, it_value: time };
    // SAFETY: the setting is valid.
    let set = unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &setting, ptr::null_mut()) };
    let mut seen = vec![outcome(set)];
    for round in 1..=if periodic { 3 } else { 1 } {
        let expired = number(&timer);
        // More than once, if the machine was slow.
        let in_time = start.elapsed() >= Duration::from_millis(u64::from(millis) * round);
        seen.push(i64::from(expired > 0 && in_time));
    }
    (0, Vec::new(), seen, false)
}

fn inotify(world: &World) -> Outcome {
    let dir = std::env::temp_dir().join(format!(
        "greenling-inotify-{}-{:?}-{}",
        std::process::id(),
        world.peers,
        world.own[0]
    ));
    std::fs::create_dir_all(&dir).unwrap();
    // SAFETY: no pointers.
    let watch = owned(unsafe { libc::inotify_init1(libc::IN_CLOEXEC) });
    let path = std::ffi::CString::new(dir.to_str().unwrap()).unwrap();
    // SAFETY: a C string.
    let added =
        unsafe { libc::inotify_add_watch(watch.as_raw_fd(), path.as_ptr(), libc::IN_CREATE) };
    let file = dir.join("new");
    let create = move || {
        thread::sleep(DELAY);
        drop(File::create(file).unwrap());
    };
    let (read, ()) = world.beside(create, || calls::receive(Way::Plain, watch.as_raw_fd(), 256, 0));
    std::fs::remove_dir_all(&dir).unwrap();
    (read.0, read.1, vec![added.into()], false)
}

fn file(offset: u16, len: u16, vectored: bool) -> Outcome {
    let mut file = memory_file();
    file.write_all(&[5; 4000]).unwrap();
    let (fd, way) = (file.as_raw_fd(), if vectored { Way::Vectored } else { Way::Plain });
    // SAFETY: no pointers.
    let seek = |to: i64, from| outcome(unsafe { libc::lseek(fd, to, from) });
    seek(offset.into(), libc::SEEK_SET);
    let written = calls::send(way, fd, &vec![6; len.into()], 0);
    let at = seek(0, libc::SEEK_CUR);
    seek(3990, libc::SEEK_SET);
    let (read, data) = calls::receive(way, fd, len.into(), 0);
    let devices = ["/dev/null", "/dev/zero"].map(|path| {
        let device = File::options().read(true).write(true).open(path).unwrap();
        let read = calls::receive(way, device.as_raw_fd(), len.into(), 0).0;
        [read, calls::send(way, device.as_raw_fd(), &data, 0)]
    });
    // A directory, and something that is open for writing only.
    let root = File::open("/").unwrap();
    let write_only = File::options().write(true).open("/dev/null").unwrap();
    let mut seen = devices.concat();
    for wrong in [root.as_raw_fd(), write_only.as_raw_fd()] {
        seen.push(calls::receive(way, wrong, 8, 0).0);
    }
    seen.extend([written, at]);
    (read, data, seen, false)
}

/// Lets the socket hear of nobody else. Ports of the loopback are used again at once, and another program may
/// still send to whoever had this one; what has come before the connection is thrown away.
pub(crate) fn only_from(socket: &UdpSocket, peer: std::net::SocketAddr) {
    socket.connect(peer).unwrap();
    socket.set_nonblocking(true).unwrap();
    // Errors come that way, too: a datagram that nobody took.
    let is_more = |result: io::Result<usize>| match result {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    };
    while is_more(socket.recv(&mut [0])) {}
    socket.set_nonblocking(false).unwrap();
}

/// A datagram to somebody who wants to know where it comes from: the sender's address comes with it.
fn from(world: &World, unix: bool, message: bool) -> Outcome {
    let mut addr = [0_u8; 128];
    let mut seen = Vec::new();
    let mut data = vec![0; 64];
    let mut receive = |fd: RawFd| {
        let mut len = addr.len() as libc::socklen_t;
        let mut iov = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
        // SAFETY: the buffers have their lengths.
        unsafe {
            let count = if message {
                let mut header: libc::msghdr = mem::zeroed();
                (header.msg_iov, header.msg_iovlen) = (&mut iov, 1);
                (header.msg_name, header.msg_namelen) = (addr.as_mut_ptr().cast(), len);
                let count = libc::recvmsg(fd, &mut header, 0);
                len = header.msg_namelen;
                count
            } else {
                let (place, size) = (data.as_mut_ptr().cast(), data.len());
                libc::recvfrom(fd, place, size, 0, addr.as_mut_ptr().cast(), &mut len)
            };
            seen.extend([outcome(count as i64), len.into()]);
            addr[..len as usize].to_vec()
        }
    };
    // Whether it is the sender's, since addresses differ from run to run.
    if unix {
        let (near, far) = (world.name("near"), world.name("far"));
        let socket = UnixDatagram::bind_addr(&near).unwrap();
        let peer = UnixDatagram::bind_addr(&far).unwrap();
        let send = move || {
            thread::sleep(DELAY);
            peer.send_to_addr(b"datagram", &near).unwrap();
        };
        let (addr, ()) = world.beside(send, || receive(socket.as_raw_fd()));
        let length = addr.len() - world.own[0].to_string().len();
        seen.pop(); // it depends on a number's length
        return (length as i64, data, seen, false);
    }
    let (socket, peer) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (near, far) = (socket.local_addr().unwrap(), peer.local_addr().unwrap());
    only_from(&socket, far);
    let send = move || {
        thread::sleep(DELAY);
        peer.send_to(b"datagram", near).unwrap();
    };
    let (addr, ()) = world.beside(send, || receive(socket.as_raw_fd()));
    let is_right = addr[2..4] == far.port().to_be_bytes() && addr[4..8] == [127, 0, 0, 1];
    (is_right.into(), data, seen, false)
}

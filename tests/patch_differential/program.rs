//! Programs whose results do not depend on when who runs.
//!
//! A step waits only for what the same step brings about, or for a time limit with nothing to race it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    UnixStream,
    UnixDatagram,
    SeqPacket,
    Pipes,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] =
        [Kind::Tcp, Kind::UnixStream, Kind::UnixDatagram, Kind::SeqPacket, Kind::Pipes];

    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Kind::Tcp | Kind::UnixStream | Kind::Pipes)
    }
}

/// By which function bytes go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Plain,
    Vectored,
    Flags,
    Address,
    Message,
}

#[derive(Clone, Copy, Debug)]
#[allow(clippy::enum_variant_names, reason = "they are the functions' names")]
pub(crate) enum Poll {
    Poll,
    Ppoll,
    Select,
    Pselect,
    Epoll,
}

#[derive(Clone, Copy, Debug)]
#[allow(clippy::enum_variant_names, reason = "they are the functions' names")]
pub(crate) enum Dup {
    Dup,
    Dup2,
    Dup3,
    Fcntl,
}

/// What the peer does while a step waits.
#[derive(Clone, Debug)]
pub(crate) enum Meanwhile {
    Nothing,
    Sends(Vec<usize>),
    Shuts,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The peer reads it all afterwards.
    Send {
        way: Way,
        len: usize,
        flags: i32,
    },
    /// More than what fits; the peer reads meanwhile.
    SendMuch {
        way: Way,
        len: usize,
    },
    /// `limited`: nothing comes, and a limit ends it.
    Receive {
        way: Way,
        len: usize,
        flags: i32,
        limited: bool,
        peer: Meanwhile,
    },
    /// `limited`: nothing comes, and the time ends it.
    Poll {
        how: Poll,
        write: bool,
        millis: i32,
        decoys: bool,
        limited: bool,
        peer: Meanwhile,
    },
    NonBlocking {
        on: bool,
        ioctl: bool,
    },
    /// `SO_RCVTIMEO`, in milliseconds.
    Limit(u32),
    Dup(Dup),
    Shutdown(i32),
    PeerSends(usize),
    PeerShuts,
    /// `FIONREAD`.
    Unread,
    Wrong(u8),
    Nap(u8),
    /// A listener, to which somebody connects meanwhile or nobody within its limit.
    Accept {
        comes: bool,
        unix: bool,
    },
}

pub(crate) struct Program {
    pub(crate) kind: Kind,
    pub(crate) steps: Vec<Step>,
}

/// How long limits are.
pub(crate) const LIMIT: u32 = 4;

/// What the program's own end has to expect.
struct Model {
    random: fastrand::Rng,
    kind: Kind,
    /// Lengths of what has come and was not read. One for a stream.
    unread: Vec<usize>,
    ended: bool,
    nonblocking: bool,
    limited: bool,
}

impl Program {
    pub(crate) fn generate(seed: u64) -> Program {
        let mut random = fastrand::Rng::with_seed(seed);
        let kind = Kind::ALL[random.usize(..Kind::ALL.len())];
        let steps = random.usize(4..20);
        let mut model = Model {
            random,
            kind,
            unread: Vec::new(),
            ended: false,
            nonblocking: false,
            limited: false,
        };
        Program { kind, steps: (0..steps).map(|_| model.step()).collect() }
    }
}

impl Model {
    fn step(&mut self) -> Step {
        match self.random.u32(..100) {
            0..30 => self.receive(),
            30..45 => self.poll(),
            45..57 => self.send(),
            57..60 if self.kind.is_stream() && !self.nonblocking => {
                Step::SendMuch { way: self.way(), len: self.random.usize(200_000..700_000) }
            }
            // A queue of datagrams is full at ten.
            57..68 if !self.ended && self.unread.len() < 8 => {
                let len = self.length();
                self.arrives(len);
                Step::PeerSends(len)
            }
            68..75 => {
                self.nonblocking = self.random.bool();
                Step::NonBlocking { on: self.nonblocking, ioctl: self.random.bool() }
            }
            75..80 => {
                let on = self.random.bool();
                // A pipe has none: the call fails.
                self.limited = on && self.kind != Kind::Pipes;
                Step::Limit(if on { LIMIT } else { 0 })
            }
            80..85 => {
                let all = [Dup::Dup, Dup::Dup2, Dup::Dup3, Dup::Fcntl];
                Step::Dup(all[self.random.usize(..4)])
            }
            85..87 if self.kind != Kind::UnixDatagram && self.kind != Kind::Pipes => {
                let how = [libc::SHUT_RD, libc::SHUT_WR, libc::SHUT_RDWR][self.random.usize(..3)];
                self.ended |= how != libc::SHUT_WR;
                Step::Shutdown(how)
            }
            87..89 if self.kind != Kind::UnixDatagram && !self.ended => {
                self.ended = true;
                Step::PeerShuts
            }
            89..92 => Step::Unread,
            92..95 => Step::Nap(self.random.u8(..3)),
            95..97 => Step::Accept { comes: self.random.bool(), unix: self.random.bool() },
            _ => Step::Wrong(self.random.u8(..8)),
        }
    }

    fn way(&mut self) -> Way {
        let all = [Way::Plain, Way::Vectored, Way::Flags, Way::Address, Way::Message];
        // Pipes have only the first two, and refuse the others.
        let of = if self.kind == Kind::Pipes && self.random.u8(..10) > 0 { 2 } else { 5 };
        all[self.random.usize(..of)]
    }

    fn length(&mut self) -> usize {
        let longest = if self.random.bool() { 10 } else { 3000 };
        self.random.usize(1..longest)
    }

    fn arrives(&mut self, len: usize) {
        match self.unread.first_mut() {
            Some(first) if self.kind.is_stream() => *first += len,
            _ => self.unread.push(len),
        }
    }

    fn send(&mut self) -> Step {
        let way = self.way();
        let flags =
            [0, libc::MSG_DONTWAIT, libc::MSG_NOSIGNAL, libc::MSG_MORE][self.random.usize(..4)];
        // More than a message may have, sometimes. (The end of a MSG_MORE would have to be waited for.)
        let much = !self.kind.is_stream() && self.random.u8(..10) == 0;
        let len = if much { 1_000_000 } else { self.length() };
        Step::Send { way, len, flags: flags & !libc::MSG_MORE }
    }

    /// Somebody brings something meanwhile, at least so many bytes if the peer does not end.
    fn meanwhile(&mut self, least: usize) -> Meanwhile {
        if self.kind != Kind::UnixDatagram && self.random.u8(..6) == 0 {
            self.ended = true;
            return Meanwhile::Shuts;
        }
        let mut parts = vec![self.length()];
        while self.kind.is_stream() && parts.iter().sum::<usize>() < least {
            parts.push(self.length());
        }
        parts.iter().for_each(|len| self.arrives(*len));
        Meanwhile::Sends(parts)
    }

    fn receive(&mut self) -> Step {
        let way = self.way();
        let takes_flags = !matches!(way, Way::Plain | Way::Vectored);
        let len = self.length();
        let kinds = [0, 0, libc::MSG_PEEK, libc::MSG_DONTWAIT, libc::MSG_WAITALL, libc::MSG_TRUNC];
        let mut flags = if takes_flags { kinds[self.random.usize(..kinds.len())] } else { 0 };
        // On TCP it throws the bytes away, and the buffer is left as it was.
        if self.kind.is_stream() {
            flags &= !libc::MSG_TRUNC;
        }
        let refused = self.kind == Kind::Pipes && takes_flags;
        let at_once = refused || self.nonblocking || flags & libc::MSG_DONTWAIT != 0;
        let there = self.unread.first().copied().unwrap_or(0);
        let waits_for_all = flags & libc::MSG_WAITALL != 0 && self.kind.is_stream();
        let enough = if waits_for_all { there >= len } else { there > 0 };
        let (mut limited, mut peer) = (false, Meanwhile::Nothing);
        if !at_once && !enough && !self.ended {
            if self.limited {
                limited = true;
            } else {
                // The second part of a stream may come late: only who waits for all may have two.
                peer = self.meanwhile(if waits_for_all { len - there } else { 0 });
            }
        }
        if !refused && flags & libc::MSG_PEEK == 0 {
            self.taken(len);
        }
        Step::Receive { way, len, flags, limited, peer }
    }

    fn taken(&mut self, len: usize) {
        let Some(first) = self.unread.first_mut() else { return };
        if self.kind.is_stream() && *first > len {
            *first -= len;
        } else {
            self.unread.remove(0);
        }
    }

    fn poll(&mut self) -> Step {
        let all = [Poll::Poll, Poll::Ppoll, Poll::Select, Poll::Pselect, Poll::Epoll];
        let how = all[self.random.usize(..all.len())];
        // Writing is always possible, so that this asks for no wait.
        let write = self.random.u8(..4) == 0;
        let decoys = self.random.bool();
        // epoll refuses the decoys.
        let ready = write
            || (decoys && !matches!(how, Poll::Epoll))
            || self.ended
            || !self.unread.is_empty();
        let (mut limited, mut peer) = (false, Meanwhile::Nothing);
        let mut millis = [0, LIMIT as i32, 10_000, -1][self.random.usize(..4)];
        if !ready && millis == LIMIT as i32 {
            limited = true;
        } else if !ready && millis != 0 {
            peer = self.meanwhile(0);
        } else if millis == -1 {
            millis = 10_000;
        }
        Step::Poll { how, write, millis, decoys, limited, peer }
    }
}

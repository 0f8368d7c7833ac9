//! Programs whose results do not depend on when who runs.
//!
//! A step waits only for what the same step brings about, or for a time limit with nothing to race it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    UnixStream,
    UnixDatagram,
    SeqPacket,
    Udp,
    Pipes,
    Terminal,
}

impl Kind {
    pub(crate) const ALL: [Kind; 7] = [
        Kind::Tcp,
        Kind::UnixStream,
        Kind::UnixDatagram,
        Kind::SeqPacket,
        Kind::Udp,
        Kind::Pipes,
        Kind::Terminal,
    ];

    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Kind::Tcp | Kind::UnixStream | Kind::Pipes | Kind::Terminal)
    }

    pub(crate) fn is_socket(self) -> bool {
        !matches!(self, Kind::Pipes | Kind::Terminal)
    }

    pub(crate) fn is_unix(self) -> bool {
        matches!(self, Kind::UnixStream | Kind::UnixDatagram | Kind::SeqPacket)
    }

    /// Whether one end tells the other that it has ended.
    pub(crate) fn has_end(self) -> bool {
        !matches!(self, Kind::UnixDatagram | Kind::Udp)
    }

    /// Whether shutdown(2) is for it.
    pub(crate) fn shuts(self) -> bool {
        self.has_end() && self.is_socket()
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
    EpollPwait,
    EpollPwait2,
    EpollEdge,
    EpollOnce,
}

impl Poll {
    pub(crate) const ALL: [Poll; 9] = [
        Poll::Poll,
        Poll::Ppoll,
        Poll::Select,
        Poll::Pselect,
        Poll::Epoll,
        Poll::EpollPwait,
        Poll::EpollPwait2,
        Poll::EpollEdge,
        Poll::EpollOnce,
    ];

    pub(crate) fn is_epoll(self) -> bool {
        !matches!(self, Poll::Poll | Poll::Ppoll | Poll::Select | Poll::Pselect)
    }
}

#[derive(Clone, Copy, Debug)]
#[allow(clippy::enum_variant_names, reason = "they are the functions' names")]
pub(crate) enum Dup {
    Dup,
    Dup2,
    Dup3,
    Fcntl,
}

/// What somebody else does while a step waits.
#[derive(Clone, Debug)]
pub(crate) enum Meanwhile {
    Nothing,
    Sends(Vec<usize>),
    Shuts,
    /// Shuts down the very end that is waited for.
    ShutsOurs(i32),
}

/// Who comes to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comer {
    Somebody,
    /// Within the listener's time limit.
    Nobody,
    /// It is shut down instead.
    Shut,
}

/// Descriptors that travel with a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passing {
    pub(crate) len: usize,
    pub(crate) descriptors: usize,
    /// For how many the receiver has room.
    pub(crate) room: usize,
    pub(crate) flags: i32,
    /// By recvmmsg or sendmmsg.
    pub(crate) batch: bool,
    /// We send them; else the peer does, later.
    pub(crate) ours: bool,
}

/// Descriptors of other kinds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Object {
    /// How often it is read, and whether it counts down by ones.
    Event {
        reads: u8,
        semaphore: bool,
        nonblocking: bool,
    },
    Timer {
        millis: u8,
        periodic: bool,
    },
    /// Changes in a directory.
    Inotify,
    /// A regular file, by offset, length and vectored or not.
    File {
        offset: u16,
        len: u16,
        vectored: bool,
    },
    /// A datagram whose sender is told.
    From {
        unix: bool,
        message: bool,
    },
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
        comer: Comer,
        unix: bool,
    },
    /// recvmmsg: `there` messages have come, and as many more as it waits for come meanwhile.
    ReceiveMany {
        count: usize,
        len: usize,
        flags: i32,
        /// Its own time limit, in milliseconds.
        time: Option<u32>,
        limited: bool,
        peer: Meanwhile,
    },
    SendMany {
        lens: Vec<usize>,
        flags: i32,
    },
    SendFile {
        offset: Option<usize>,
        len: usize,
    },
    /// Sends until there is no more room, within `SO_SNDTIMEO`, or without waiting and then by poll.
    Fill {
        len: usize,
        poll: Option<Poll>,
    },
    Pass(Passing),
    Object(Object),
}

pub(crate) struct Program {
    pub(crate) kind: Kind,
    pub(crate) steps: Vec<Step>,
}

/// How long limits are.
pub(crate) const LIMIT: u32 = 4;
/// Limits of waits that something else ends, in milliseconds.
pub(crate) const FAR: u32 = 60_000;

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
                let most = if self.kind == Kind::Terminal { 30_000 } else { 700_000 };
                Step::SendMuch { way: self.way(), len: self.random.usize(most / 3..most) }
            }
            // A queue of datagrams is full at ten, and a terminal holds 4096 bytes.
            57..65 if !self.ended && self.unread.len() < 8 && self.unread_len() < 40_000 => {
                let len = self.message_length();
                self.arrives(len);
                Step::PeerSends(len)
            }
            65..70 => {
                self.nonblocking = self.random.bool();
                Step::NonBlocking { on: self.nonblocking, ioctl: self.random.bool() }
            }
            70..74 => {
                let on = self.random.bool();
                // A pipe has none: the call fails.
                self.limited = on && self.kind.is_socket();
                Step::Limit(if on { LIMIT } else { 0 })
            }
            74..78 => {
                let all = [Dup::Dup, Dup::Dup2, Dup::Dup3, Dup::Fcntl];
                Step::Dup(all[self.random.usize(..4)])
            }
            78..80 if self.kind.shuts() => {
                let how = [libc::SHUT_RD, libc::SHUT_WR, libc::SHUT_RDWR][self.random.usize(..3)];
                self.ended |= how != libc::SHUT_WR;
                Step::Shutdown(how)
            }
            80..82 if self.kind.has_end() && !self.ended => {
                self.ended = true;
                Step::PeerShuts
            }
            82..84 => Step::Unread,
            84..86 => Step::Nap(self.random.u8(..3)),
            86..88 => {
                let comers = [Comer::Somebody, Comer::Nobody, Comer::Shut];
                Step::Accept { comer: comers[self.random.usize(..3)], unix: self.random.bool() }
            }
            88..91 => Step::Object(self.object()),
            91..93 => self.pass(),
            93..95 => self.fill(),
            95..96 => self.send_file(),
            96..97 => self.send_many(),
            97..98 => self.receive_many(),
            _ => Step::Wrong(self.random.u8(..super::calls::WRONG)),
        }
    }

    fn way(&mut self) -> Way {
        let all = [Way::Plain, Way::Vectored, Way::Flags, Way::Address, Way::Message];
        // Pipes and terminals have only the first two, and refuse the others.
        let of = if !self.kind.is_socket() && self.random.u8(..10) > 0 { 2 } else { 5 };
        all[self.random.usize(..of)]
    }

    fn length(&mut self) -> usize {
        let longest = match self.kind {
            Kind::Terminal => 100,
            _ if self.random.bool() => 10,
            _ => 3000,
        };
        self.random.usize(1..longest)
    }

    /// Of what is sent: a message may be empty.
    fn message_length(&mut self) -> usize {
        if !self.kind.is_stream() && self.random.u8(..10) == 0 { 0 } else { self.length() }
    }

    fn unread_len(&self) -> usize {
        // What a terminal holds is little.
        self.unread.iter().sum::<usize>() * if self.kind == Kind::Terminal { 20 } else { 1 }
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
        let len = if much { 1_000_000 } else { self.message_length() };
        // writev of nothing does not send an empty message.
        let least = usize::from(matches!(way, Way::Vectored));
        Step::Send { way, len: len.max(least), flags: flags & !libc::MSG_MORE }
    }

    /// Somebody brings something meanwhile, at least so many bytes if the peer does not end.
    fn meanwhile(&mut self, least: usize) -> Meanwhile {
        if self.kind.has_end() && self.random.u8(..6) == 0 {
            self.ended = true;
            let ours = self.kind.shuts() && self.random.bool();
            let how = if self.random.bool() { libc::SHUT_RD } else { libc::SHUT_RDWR };
            return if ours { Meanwhile::ShutsOurs(how) } else { Meanwhile::Shuts };
        }
        let mut parts = vec![self.message_length()];
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
        let kinds = [
            0,
            0,
            libc::MSG_PEEK,
            libc::MSG_DONTWAIT,
            libc::MSG_WAITALL,
            libc::MSG_TRUNC,
            libc::MSG_PEEK | libc::MSG_TRUNC,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
            libc::MSG_WAITALL | libc::MSG_DONTWAIT,
        ];
        let mut flags = if takes_flags { kinds[self.random.usize(..kinds.len())] } else { 0 };
        // On TCP it throws the bytes away, and the buffer is left as it was.
        if self.kind.is_stream() {
            flags &= !libc::MSG_TRUNC;
        }
        let refused = !self.kind.is_socket() && takes_flags;
        let at_once = refused || self.nonblocking || flags & libc::MSG_DONTWAIT != 0;
        let there = self.unread.first().copied().unwrap_or(0);
        let waits_for_all = flags & libc::MSG_WAITALL != 0 && self.kind.is_stream();
        // An empty message is one, too.
        let enough = if waits_for_all { there >= len } else { !self.unread.is_empty() };
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
        let how = Poll::ALL[self.random.usize(..Poll::ALL.len())];
        // Writing is always possible, so that this asks for no wait.
        let write = self.random.u8(..4) == 0;
        let decoys = self.random.bool();
        // epoll refuses the decoys.
        let ready = write || (decoys && !how.is_epoll()) || self.ended || !self.unread.is_empty();
        let (mut limited, mut peer) = (false, Meanwhile::Nothing);
        let mut millis = [0, LIMIT as i32, FAR as i32, -1][self.random.usize(..4)];
        if !ready && millis == LIMIT as i32 {
            limited = true;
        } else if !ready && millis != 0 {
            peer = self.meanwhile(0);
        } else if millis == -1 {
            millis = FAR as i32;
        }
        Step::Poll { how, write, millis, decoys, limited, peer }
    }

    fn receive_many(&mut self) -> Step {
        let (count, len) = (self.random.usize(1..5), self.length());
        let one = self.random.bool();
        let dont_wait = self.random.u8(..4) == 0;
        let mut flags = if one { libc::MSG_WAITFORONE } else { 0 };
        flags |= if dont_wait { libc::MSG_DONTWAIT } else { 0 };
        let time = [None, None, Some(FAR)][self.random.usize(..3)];
        // What a stream has comes in pieces of any size.
        if self.kind.is_stream() && self.kind.is_socket() {
            return Step::SendMany { lens: vec![len; count], flags: 0 };
        }
        let there = self.unread.len();
        let at_once = !self.kind.is_socket() || self.nonblocking || dont_wait || self.ended;
        let wants = if one { 1 } else { count };
        let (mut limited, mut peer) = (false, Meanwhile::Nothing);
        if !at_once && there < wants {
            if self.limited {
                limited = true;
            } else {
                let parts: Vec<_> = (there..wants).map(|_| self.message_length()).collect();
                parts.iter().for_each(|len| self.arrives(*len));
                peer = Meanwhile::Sends(parts);
            }
        }
        if self.kind.is_socket() {
            self.unread.drain(..count.min(self.unread.len()));
        }
        Step::ReceiveMany { count, len, flags, time, limited, peer }
    }

    fn send_many(&mut self) -> Step {
        let lens = (0..self.random.usize(1..5)).map(|_| self.message_length()).collect();
        Step::SendMany {
            lens,
            flags: [0, libc::MSG_DONTWAIT, libc::MSG_NOSIGNAL][self.random.usize(..3)],
        }
    }

    fn send_file(&mut self) -> Step {
        // Of what pieces messages would be is the kernel's affair; and to what does not block it is the kernel's own
        // call both ways, which does not do the same each time on a busy machine.
        if !self.kind.is_stream() || self.nonblocking {
            return self.send_many();
        }
        let offset = self.random.bool().then(|| self.random.usize(..2000));
        // To a pipe goes what it has room for, and the kernel knows how much that is.
        let much = self.kind.is_socket() && self.random.bool();
        let len = if much { self.random.usize(300_000..900_000) } else { self.length() };
        Step::SendFile { offset, len }
    }

    fn fill(&mut self) -> Step {
        // UDP has no end, and a terminal's room is another one every time.
        if matches!(self.kind, Kind::Udp | Kind::Terminal) || self.nonblocking {
            return self.send();
        }
        let poll = match self.kind {
            // Without waiting a pipe's end would have to be made non-blocking.
            Kind::Pipes => return Step::Object(self.object()),
            _ if self.random.bool() => None,
            _ => Some(Poll::ALL[self.random.usize(..Poll::ALL.len())]),
        };
        // TCP joins small pieces, so that it takes many.
        let least = if self.kind == Kind::Tcp { 4000 } else { 1 };
        let len = [1, 100, 4000, 60_000][self.random.usize(..4)];
        Step::Fill { len: self.length().max(len).max(least), poll }
    }

    fn pass(&mut self) -> Step {
        let waits = self.nonblocking || self.limited || self.ended || !self.unread.is_empty();
        if !self.kind.is_unix() {
            return self.receive();
        }
        let ours = waits || self.random.bool();
        let kinds = [0, libc::MSG_CMSG_CLOEXEC, libc::MSG_WAITALL, libc::MSG_PEEK];
        let mut flags = kinds[self.random.usize(..4)];
        let len = self.length();
        if ours {
            flags = 0;
        } else if flags == libc::MSG_PEEK {
            self.arrives(len);
        }
        Step::Pass(Passing {
            len,
            descriptors: self.random.usize(1..4),
            room: self.random.usize(0..5),
            flags,
            batch: self.random.bool(),
            ours,
        })
    }

    fn object(&mut self) -> Object {
        match self.random.u8(..5) {
            0 => Object::Event {
                reads: self.random.u8(1..4),
                semaphore: self.random.bool(),
                nonblocking: self.random.bool(),
            },
            1 => Object::Timer { millis: self.random.u8(1..6), periodic: self.random.bool() },
            2 => Object::Inotify,
            3 => Object::File {
                offset: self.random.u16(..6000),
                len: self.random.u16(1..4000),
                vectored: self.random.bool(),
            },
            _ => Object::From { unix: self.random.bool(), message: self.random.bool() },
        }
    }
}

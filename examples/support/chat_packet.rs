//! The datagrams of the chat room.
//!
//! Each has a kind, and fields of fixed order, integers with the most significant byte first, texts after
//! their length. A datagram that is not exactly one of them is none.
//!
//! A member is whoever knows the token that the server has sent to its address; every datagram in either
//! direction carries it, so that nobody else can speak for a member or for the server. What matters is sent
//! again until it is answered; what happens in the room is numbered, so that a member notices what it has
//! missed and asks for it.

/// Says that it is one of ours, and which version of them.
const MAGIC: [u8; 3] = *b"gc1";
/// No datagram is longer, so that none is split on its way.
pub(crate) const MAX_PACKET: usize = 1200;
/// The longest text in bytes that a member may say.
pub(crate) const MAX_TEXT: usize = 500;
const MAX_NAME: usize = 24;

pub(crate) type Token = u128;

/// What happened in the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Joined,
    /// With a reason as text.
    Left,
    Said,
    /// By the administrator, who has no name.
    Announced,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) what: What,
    pub(crate) name: String,
    pub(crate) text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    // From clients.
    /// Asks for a token. The answer has the same nonce.
    Join {
        nonce: u64,
        name: String,
    },
    /// Enters the room, or asks who is in it.
    Who {
        token: Token,
    },
    /// The `number`th thing that this member says.
    Say {
        token: Token,
        number: u32,
        text: String,
    },
    /// Is still there, and has seen all events up to `have`.
    Ping {
        token: Token,
        have: u64,
    },
    Leave {
        token: Token,
    },
    // From the server.
    Welcome {
        nonce: u64,
        token: Token,
    },
    Refused {
        nonce: u64,
        reason: String,
    },
    /// Who is in the room, after all events up to `last`.
    Room {
        token: Token,
        last: u64,
        names: String,
    },
    Event {
        token: Token,
        event: Event,
    },
    /// Has got what the member said.
    Said {
        token: Token,
        number: u32,
    },
    /// The first and the last event that can still be had.
    Pong {
        token: Token,
        oldest: u64,
        last: u64,
    },
    /// Is no member any more.
    Bye {
        token: Token,
        reason: String,
    },
}

/// Whether it may be a member's name: nothing that could be taken for anything else on a screen.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    (1..=MAX_NAME).contains(&name.chars().count()) && name.chars().all(fits)
}

/// A line in pieces that fit into packets, without what would move a terminal's cursor.
pub(crate) fn texts(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in line.trim().chars().filter(|c| !c.is_control()) {
        if parts.last().is_none_or(|part| part.len() + c.len_utf8() > MAX_TEXT) {
            parts.push(String::new());
        }
        parts.last_mut().expect("it was just made").push(c);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

struct Writer(Vec<u8>);

impl Writer {
    fn begin(kind: u8) -> Writer {
        Writer([&MAGIC[..], &[kind]].concat())
    }

    fn number<const N: usize>(mut self, bytes: [u8; N]) -> Writer {
        self.0.extend(bytes);
        self
    }

    fn text(mut self, text: &str) -> Writer {
        let length = u16::try_from(text.len()).expect("whoever made it has kept to the limits");
        self.0.extend(length.to_be_bytes());
        self.0.extend(text.as_bytes());
        self
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    /// A text that a terminal may be given.
    fn text(&mut self) -> Option<String> {
        let length = usize::from(u16::from_be_bytes(self.number()?));
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let text = std::str::from_utf8(bytes).ok()?;
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    }

    fn token(&mut self) -> Option<Token> {
        self.number().map(u128::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.number().map(u64::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.number().map(u32::from_be_bytes)
    }
}

impl Packet {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let token = |kind: u8, token: &Token| Writer::begin(kind).number(token.to_be_bytes());
        match self {
            Packet::Join { nonce, name } => Writer::begin(1).number(nonce.to_be_bytes()).text(name),
            Packet::Who { token: id } => token(2, id),
            Packet::Say { token: id, number, text } => {
                token(3, id).number(number.to_be_bytes()).text(text)
            }
            Packet::Ping { token: id, have } => token(4, id).number(have.to_be_bytes()),
            Packet::Leave { token: id } => token(5, id),
            Packet::Welcome { nonce, token: id } => {
                Writer::begin(6).number(nonce.to_be_bytes()).number(id.to_be_bytes())
            }
            Packet::Refused { nonce, reason } => {
                Writer::begin(7).number(nonce.to_be_bytes()).text(reason)
            }
            Packet::Room { token: id, last, names } => {
                token(8, id).number(last.to_be_bytes()).text(names)
            }
            Packet::Event { token: id, event } => token(9, id)
                .number(event.number.to_be_bytes())
                .number([event.what as u8])
                .text(&event.name)
                .text(&event.text),
            Packet::Said { token: id, number } => token(10, id).number(number.to_be_bytes()),
            Packet::Pong { token: id, oldest, last } => {
                token(11, id).number(oldest.to_be_bytes()).number(last.to_be_bytes())
            }
            Packet::Bye { token: id, reason } => token(12, id).text(reason),
        }
        .0
    }

    /// `None` for what is no packet.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Packet> {
        let (kind, rest) = bytes.strip_prefix(&MAGIC)?.split_first()?;
        let mut fields = Reader(rest);
        let fields = &mut fields;
        let packet = match kind {
            1 => Packet::Join { nonce: fields.u64()?, name: fields.text()? },
            2 => Packet::Who { token: fields.token()? },
            3 => {
                let (token, number, text) = (fields.token()?, fields.u32()?, fields.text()?);
                (text.len() <= MAX_TEXT).then_some(Packet::Say { token, number, text })?
            }
            4 => Packet::Ping { token: fields.token()?, have: fields.u64()? },
            5 => Packet::Leave { token: fields.token()? },
            6 => Packet::Welcome { nonce: fields.u64()?, token: fields.token()? },
            7 => Packet::Refused { nonce: fields.u64()?, reason: fields.text()? },
            8 => {
                Packet::Room { token: fields.token()?, last: fields.u64()?, names: fields.text()? }
            }
            9 => Packet::Event { token: fields.token()?, event: Event::read(fields)? },
            10 => Packet::Said { token: fields.token()?, number: fields.u32()? },
            11 => {
                Packet::Pong { token: fields.token()?, oldest: fields.u64()?, last: fields.u64()? }
            }
            12 => Packet::Bye { token: fields.token()?, reason: fields.text()? },
            _ => return None,
        };
        fields.0.is_empty().then_some(packet)
    }
}

impl Event {
    fn read(fields: &mut Reader<'_>) -> Option<Event> {
        let number = fields.u64()?;
        let what = match fields.number()? {
            [0] => What::Joined,
            [1] => What::Left,
            [2] => What::Said,
            [3] => What::Announced,
            _ => return None,
        };
        Some(Event { number, what, name: fields.text()?, text: fields.text()? })
    }
}

//! The chat room itself: who is in it, and what is to be sent to whom. It does no I/O.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::chat_packet::{Event, MAX_PACKET, Packet, Token, What, is_name};

/// How many events can be sent again.
const HISTORY: usize = 1024;
/// How many of them are sent at once to a member that has missed some.
const AT_ONCE: usize = 32;
/// How many addresses may have a token that has not come back yet. Beyond that the oldest has to ask again.
const MAX_PENDING: usize = 1000;
/// How many things a member may say in a second. What is too much is not acknowledged, and comes again.
const PER_SECOND: u32 = 20;
/// What the names of a long list may take, so that the packet stays below its limit.
const MAX_NAMES: usize = MAX_PACKET - 100;

/// Datagrams that are to be sent.
pub(crate) type Outgoing = Vec<(SocketAddr, Packet)>;

struct Member {
    name: String,
    address: SocketAddr,
    nonce: u64,
    /// Whether the token has come back, which proves that the address is the sender's.
    inside: bool,
    last_heard: Instant,
    /// The number of the last thing that it said.
    said: u32,
    /// How much it has said since `counted_from`.
    count: u32,
    counted_from: Instant,
}

pub(crate) struct Room {
    max_members: usize,
    expire: Duration,
    members: HashMap<Token, Member>,
    events: VecDeque<Event>,
    /// The number of the last event.
    last: u64,
}

impl Room {
    pub(crate) fn new(max_members: usize, expire: Duration) -> Room {
        let (members, events) = (HashMap::new(), VecDeque::new());
        Room { max_members, expire, members, events, last: 0 }
    }

    /// How many are in the room.
    pub(crate) fn len(&self) -> usize {
        self.members.values().filter(|member| member.inside).count()
    }

    /// The number of the last event, which is how many there were.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// What a datagram from `from` leads to. `new_token` makes one that nobody can guess.
    pub(crate) fn receive(
        &mut self,
        packet: Packet,
        from: SocketAddr,
        now: Instant,
        new_token: impl FnOnce() -> Option<Token>,
    ) -> Outgoing {
        let token = match packet {
            Packet::Join { nonce, name } => return self.join(nonce, name, from, now, new_token),
            Packet::Who { token }
            | Packet::Say { token, .. }
            | Packet::Ping { token, .. }
            | Packet::Leave { token } => token,
            // What only a server says.
            _ => return Vec::new(),
        };
        let Some(member) = self.members.get_mut(&token) else {
            // It has expired, or it is the answer to a Leave that was lost. Hardly longer than the question, so that it is no use to
            // whoever wants a third party flooded.
            return vec![(from, Packet::Bye { token, reason: String::new() })];
        };
        if member.address != from {
            return Vec::new();
        }
        member.last_heard = now;
        match packet {
            Packet::Who { .. } => self.who(token),
            Packet::Say { number, text, .. } => self.say(token, number, text, now),
            Packet::Ping { have, .. } => self.ping(token, have),
            _ => self.remove(token, "", "you have left"),
        }
    }

    fn join(
        &mut self,
        nonce: u64,
        name: String,
        from: SocketAddr,
        now: Instant,
        new_token: impl FnOnce() -> Option<Token>,
    ) -> Outgoing {
        let refused = |reason: &str| vec![(from, Packet::Refused { nonce, reason: reason.into() })];
        // The same request again: its answer was lost, or is late.
        let again = self.members.iter().find(|(_, member)| {
            member.address == from && member.nonce == nonce && member.name == name
        });
        if let Some((&token, _)) = again {
            return vec![(from, Packet::Welcome { nonce, token })];
        }
        if !is_name(&name) {
            return refused("no fit name");
        }
        if self.is_taken(&name) {
            return refused("the name is taken");
        }
        if self.len() >= self.max_members {
            return refused("the room is full");
        }
        let Some(token) = new_token() else { return refused("no token") };
        self.make_way();
        let member = Member {
            name,
            address: from,
            nonce,
            inside: false,
            last_heard: now,
            said: 0,
            count: 0,
            counted_from: now,
        };
        self.members.insert(token, member);
        vec![(from, Packet::Welcome { nonce, token })]
    }

    fn is_taken(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.members.values().any(|member| member.inside && member.name.to_lowercase() == name)
    }

    /// Forgets the oldest of those who have not come in, if there are too many.
    fn make_way(&mut self) {
        if self.members.len() - self.len() < MAX_PENDING {
            return;
        }
        let pending = self.members.iter().filter(|(_, member)| !member.inside);
        if let Some((&token, _)) = pending.min_by_key(|(_, member)| member.last_heard) {
            self.members.remove(&token);
        }
    }

    /// Enters the room for the first time; says who is in it.
    fn who(&mut self, token: Token) -> Outgoing {
        let (name, address, inside) = {
            let member = &self.members[&token];
            (member.name.clone(), member.address, member.inside)
        };
        let mut out = Vec::new();
        if !inside {
            // Others may have come in meanwhile.
            let reason = match () {
                () if self.is_taken(&name) => Some("the name is taken"),
                () if self.len() >= self.max_members => Some("the room is full"),
                () => None,
            };
            if let Some(reason) = reason {
                self.members.remove(&token);
                return vec![(address, Packet::Bye { token, reason: reason.into() })];
            }
            out = self.happen(What::Joined, &name, "");
            self.members.get_mut(&token).expect("it was there").inside = true;
        }
        out.push((address, Packet::Room { token, last: self.last, names: self.names() }));
        out
    }

    /// All names in order, as many as fit.
    fn names(&self) -> String {
        let inside = self.members.values().filter(|member| member.inside);
        let mut names: Vec<&str> = inside.map(|member| member.name.as_str()).collect();
        names.sort_unstable();
        let mut text = String::new();
        for (index, name) in names.iter().enumerate() {
            if text.len() + name.len() > MAX_NAMES {
                text.push_str(&format!(" and {} more", names.len() - index));
                break;
            }
            text.push_str(if index == 0 { "" } else { ", " });
            text.push_str(name);
        }
        text
    }

    fn say(&mut self, token: Token, number: u32, text: String, now: Instant) -> Outgoing {
        let Some(member) = self.members.get_mut(&token).filter(|member| member.inside) else {
            return Vec::new();
        };
        let said = (member.address, Packet::Said { token, number });
        if number <= member.said {
            return vec![said]; // a repetition
        }
        if now.duration_since(member.counted_from) >= Duration::from_secs(1) {
            (member.count, member.counted_from) = (0, now);
        }
        if number != member.said + 1 || member.count >= PER_SECOND {
            return Vec::new();
        }
        member.said = number;
        member.count += 1;
        let name = member.name.clone();
        let mut out = self.happen(What::Said, &name, &text);
        out.push(said);
        out
    }

    fn ping(&self, token: Token, have: u64) -> Outgoing {
        let Some(member) = self.members.get(&token).filter(|member| member.inside) else {
            return Vec::new();
        };
        let oldest = self.events.front().map_or(self.last, |event| event.number);
        let pong = Packet::Pong { token, oldest, last: self.last };
        let missed = self.events.iter().filter(|event| event.number > have).take(AT_ONCE);
        let missed = missed.map(|event| Packet::Event { token, event: event.clone() });
        std::iter::once(pong).chain(missed).map(|packet| (member.address, packet)).collect()
    }

    /// Something the administrator has to say.
    pub(crate) fn announce(&mut self, text: &str) -> Outgoing {
        self.happen(What::Announced, "", text)
    }

    /// Removes those who have been silent for too long.
    pub(crate) fn expire(&mut self, now: Instant) -> Outgoing {
        let limit = self.expire;
        let silent = |member: &Member| now.duration_since(member.last_heard) >= limit;
        self.members.retain(|_, member| member.inside || !silent(member));
        let late: Vec<Token> =
            self.members.iter().filter(|(_, member)| silent(member)).map(|(&id, _)| id).collect();
        let gone = late.into_iter();
        gone.flat_map(|token| self.remove(token, "silent for too long", "you were silent"))
            .collect()
    }

    /// Tells everybody that the room is closed.
    pub(crate) fn close(&mut self) -> Outgoing {
        let bye = |(token, member): (Token, Member)| {
            let reason = "the room is closed".to_owned();
            member.inside.then_some((member.address, Packet::Bye { token, reason }))
        };
        self.members.drain().filter_map(bye).collect()
    }

    fn remove(&mut self, token: Token, public: &str, own: &str) -> Outgoing {
        let Some(member) = self.members.remove(&token) else { return Vec::new() };
        let mut out = vec![(member.address, Packet::Bye { token, reason: own.into() })];
        if member.inside {
            out.extend(self.happen(What::Left, &member.name, public));
        }
        out
    }

    /// Notes an event, and tells everybody in the room.
    fn happen(&mut self, what: What, name: &str, text: &str) -> Outgoing {
        self.last += 1;
        let event = Event { number: self.last, what, name: name.into(), text: text.into() };
        if self.events.len() == HISTORY {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        let inside = self.members.iter().filter(|(_, member)| member.inside);
        let tell = |(&token, member): (&Token, &Member)| {
            (member.address, Packet::Event { token, event: event.clone() })
        };
        inside.map(tell).collect()
    }
}

//! Malformed input for parsers and servers: drawn by proptest, which makes what fails as small as it can.
//!
//! Every failure tells the seed that it came from; `FUZZ_SEED=n` draws the same input again.

#![allow(dead_code, reason = "not every test program needs all of it")]

use std::fmt;
use std::ops::Deref;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

/// How long proptest may look for something smaller that fails, too.
const SHRINK_MILLISECONDS: u32 = 10_000;

/// Bytes that are read as text where they are one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The seed of the environment, or one that nobody has seen before.
pub(crate) fn seed() -> u64 {
    match std::env::var("FUZZ_SEED") {
        Ok(seed) => seed.parse().expect("a seed is a number"),
        Err(_) => fastrand::u64(..u64::MAX - 1000),
    }
}

/// Runs `test` with so many inputs.
#[track_caller]
pub(crate) fn check<S: Strategy>(
    cases: u32,
    inputs: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    check_from(seed(), 0, cases, inputs, test);
}

/// As [`check`], for one of several threads that have a seed in common.
#[track_caller]
pub(crate) fn check_from<S: Strategy>(
    seed: u64,
    thread: u64,
    cases: u32,
    inputs: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed + thread),
        failure_persistence: None,
        max_shrink_time: SHRINK_MILLISECONDS,
        ..Config::default()
    };
    if let Err(error) = TestRunner::new(config).run(&inputs, test) {
        panic!("with FUZZ_SEED={seed} (thread {thread}): {error}");
    }
}

/// What may happen to a message on its way from who wrote it well.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    /// What is behind is missing.
    Cut(Index),
    /// What is before is missing.
    Behead(Index),
    Remove(Index, Index),
    /// A part is there twice.
    Double(Index, Index),
    /// Two neighbouring parts change places.
    Swap(Index, Index, Index),
    Overwrite(Index, u8),
    Insert(Index, Vec<u8>),
    /// One line ends without its carriage return.
    BareLf(Index),
    /// All lines do.
    BareLfs,
    /// All there is, without end.
    Flood(Index, u8, usize),
}

/// The bytes that parsers stumble over.
fn odd_bytes() -> impl Strategy<Value = Vec<u8>> {
    const ODD: &[&[u8]] = &[
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\r\n",
        b"\n\r",
        b"\r\n\r\n",
        b"\0",
        b"\t",
        b" ",
        b"\x0b",
        b"\x1b",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xff\xf4\xff\xf2",
        b"\xc0\xaf",
        b"\xef\xbf\xbd",
        b"\xed\xa0\x80",
        b":",
        b": ",
        b" :",
        b",",
        b";",
        b"%",
        b"%00",
        b"%2e%2e/",
        b"../",
        b"/",
        b"\"",
        b"-1",
        b"+1",
        b"0",
        b"18446744073709551616",
    ];
    prop_oneof![
        3 => select(ODD).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..5),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        2 => at().prop_map(Mutation::Cut),
        1 => at().prop_map(Mutation::Behead),
        2 => (at(), at()).prop_map(|(a, b)| Mutation::Remove(a, b)),
        2 => (at(), at()).prop_map(|(a, b)| Mutation::Double(a, b)),
        2 => (at(), at(), at()).prop_map(|(a, b, c)| Mutation::Swap(a, b, c)),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Overwrite(at, byte)),
        6 => (at(), odd_bytes()).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        2 => at().prop_map(Mutation::BareLf),
        1 => Just(Mutation::BareLfs),
        1 => (at(), any::<u8>(), 0..20_000_usize).prop_map(|(at, byte, n)| Mutation::Flood(at, byte, n)),
    ]
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        // A place between two bytes, or before or behind all.
        let place = |index: &Index| index.index(bytes.len() + 1);
        match self {
            Mutation::Cut(at) => bytes.truncate(place(at)),
            Mutation::Behead(at) => drop(bytes.drain(..place(at))),
            Mutation::Remove(a, b) => {
                let (a, b) = (place(a), place(b));
                bytes.drain(a.min(b)..a.max(b));
            }
            Mutation::Double(a, b) => {
                let (a, b) = (place(a), place(b));
                let part = bytes[a.min(b)..a.max(b)].to_vec();
                bytes.splice(a.max(b)..a.max(b), part);
            }
            Mutation::Swap(a, b, c) => {
                let mut places = [place(a), place(b), place(c)];
                places.sort_unstable();
                let [a, b, c] = places;
                bytes[a..c].rotate_left(b - a);
            }
            Mutation::Overwrite(at, byte) => {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            Mutation::Insert(at, part) => {
                let at = place(at);
                bytes.splice(at..at, part.iter().copied());
            }
            Mutation::BareLf(at) => {
                let ends: Vec<_> =
                    (1..bytes.len()).filter(|&at| &bytes[at - 1..=at] == b"\r\n").collect();
                if !ends.is_empty() {
                    bytes.remove(ends[at.index(ends.len())] - 1);
                }
            }
            Mutation::BareLfs => bytes.retain(|&byte| byte != b'\r'),
            Mutation::Flood(at, byte, length) => {
                let at = place(at);
                bytes.splice(at..at, std::iter::repeat_n(*byte, *length));
            }
        }
    }
}

/// What may happen to a message: so many things at most, and often none.
pub(crate) fn mutations(most: usize) -> impl Strategy<Value = Vec<Mutation>> {
    prop_oneof![1 => vec(mutation(), 0..=1), 1 => vec(mutation(), 0..=most)]
}

pub(crate) fn mutate(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
    bytes
}

/// What is left of messages that were valid, or nearly so.
pub(crate) fn mutated(
    messages: impl Strategy<Value = Vec<u8>>,
    most: usize,
) -> impl Strategy<Value = Bytes> {
    let both = (messages, mutations(most));
    both.prop_map(|(bytes, mutations)| Bytes(mutate(bytes, &mutations)))
}

/// Bytes without any sense.
pub(crate) fn noise(most: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..most).prop_map(Bytes)
}

/// Some of `bytes`, which look more like something than noise does.
pub(crate) fn soup(bytes: &'static [u8], most: usize) -> impl Strategy<Value = Bytes> {
    vec(select(bytes), 0..most).prop_map(Bytes)
}

/// The pieces that something arrives in, by where it is cut.
pub(crate) fn pieces<'b>(bytes: &'b [u8], cuts: &[Index]) -> Vec<&'b [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Where something may be cut into pieces.
pub(crate) fn cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..6)
}

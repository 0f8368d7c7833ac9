//! Sessions of nonsense, most of it near enough to sense to get past the first check.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::fuzz::{Bytes, mutate, mutations, noise};

/// Those come first that agree on a transfer, which costs the time in which nobody connects.
const VERBS: &[&str] = &[
    "EPSV", "PASV", "USER", "PASS", "CWD", "CDUP", "PORT", "EPRT", "TYPE", "MODE", "STRU", "RETR",
    "STOR", "APPE", "REST", "RNFR", "RNTO", "ABOR", "DELE", "RMD", "MKD", "PWD", "LIST", "NLST",
    "MLSD", "MLST", "STAT", "HELP", "SIZE", "MDTM", "OPTS", "FEAT", "ALLO", "NOOP", "SYST",
];

const ARGUMENTS: &[&str] = &[
    "",
    " ",
    "/",
    "..",
    "../../..",
    "-la",
    "*",
    "[",
    "[a-",
    "**/**",
    "127,0,0,1,255,255",
    "127,0,0,1,+1,-1",
    "|||",
    "|1|127.0.0.1|9|",
    "|2|::1|99999|",
    "ALL",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "MLST ;;;",
    "UTF8",
    "A",
    "I",
    "L 8",
    "anonymous",
    "a\"b",
    "%s%n",
    ".ftp-upload.0",
    "Gr\u{fc}\u{df}e",
];

fn command() -> impl Strategy<Value = Vec<u8>> {
    let verb = prop_oneof![1 => select(VERBS), 80 => select(&VERBS[2..])];
    let well = (verb, select(ARGUMENTS)).prop_map(|(verb, argument)| format!("{verb} {argument}"));
    let changes = prop_oneof![4 => Just(Vec::new()), 1 => mutations(3)];
    (well, changes).prop_map(|(command, changes)| mutate(command.into_bytes(), &changes))
}

/// A line with its end.
fn line() -> impl Strategy<Value = Bytes> {
    let text = prop_oneof![
        8 => command(),
        1 => noise(200).prop_map(|noise| noise.0),
        1 => (any::<u8>(), 0..6000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    let end = select(&["\r\n", "\n"][..]);
    (text, end).prop_map(|(text, end)| Bytes([&text, end.as_bytes()].concat()))
}

/// What is sent in a session of so many lines at most, and whether a reset is its end.
pub(crate) fn sessions(lines: usize) -> impl Strategy<Value = (Vec<Bytes>, bool)> {
    (vec(line(), 0..=lines), any::<bool>())
}

//! std's blocking surface, item by item: the same signatures and the same traits under the same paths.
//!
//! `std_surface/functions.rs` and `types.rs` are included twice, once where `root` is std and once where it is greenling:
//! that they compile proves the signatures; the traits of the types are compared when the test runs. The lists are
//! printed into `docs/std-surface.md`, which a test compares.

#![allow(deprecated, reason = "std has it")]
#![allow(
    clippy::type_complexity,
    clippy::incompatible_msrv,
    reason = "signatures as std has them, of newer ones too"
)]

#[path = "std_surface/completeness.rs"]
mod completeness;
#[path = "std_surface/others.rs"]
mod others;

use std::fmt::Write as _;

/// A function, and since which Rust it has been stable if not since before 1.85.
struct Function {
    path: String,
    since: Option<&'static str>,
}

macro_rules! functions {
    ($($(#[$since:tt])? fn $path:expr => $type:ty;)*) => {
        pub(crate) fn functions() -> Vec<Function> {
            $({
                // The coercion to a function pointer is the proof.
                $(#[rustversion::since($since)])?
                fn _proof() {
                    let _: $type = $path;
                }
            })*
            vec![$(Function {
                path: super::tidy(stringify!($path)),
                since: { let since: &[&'static str] = &[$(stringify!($since))?]; since.first().copied() },
            }),*]
        }
    };
}

/// Whether a type has a trait: the inherent constant comes before the trait's if its bounds are met.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        #[allow(dead_code)]
        trait No { const HAS: bool = false; }
        impl<T: ?Sized> No for T {}
        struct Question<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        impl<T: ?Sized + $($bound)+> Question<T> { const HAS: bool = true; }
        <Question<$type>>::HAS
    }};
}

macro_rules! traits {
    ($type:ty: $([$($bound:tt)+])*) => {
        vec![$((short(stringify!($($bound)+)), has!($type: $($bound)+))),*]
    };
}

macro_rules! types {
    ($($(#[$since:tt])? $type:ty;)*) => {
        pub(crate) fn types() -> Vec<(String, Vec<(String, bool)>)> {
            let mut types = Vec::new();
            $({
                $(#[rustversion::before($since)]
                fn traits() -> Vec<(String, bool)> {
                    Vec::new()
                })?
                $(#[rustversion::since($since)])?
                fn traits() -> Vec<(String, bool)> {
                    traits!($type:
                [Send] [Sync] [Unpin] [std::panic::UnwindSafe] [std::panic::RefUnwindSafe]
                [Clone] [Copy] [Default] [PartialEq] [Eq] [PartialOrd] [Ord] [std::hash::Hash]
                [std::fmt::Debug] [std::fmt::Display] [std::error::Error]
                [std::io::Read] [std::io::Write] [std::io::Seek] [std::io::BufRead] [std::io::IsTerminal]
                [Iterator] [DoubleEndedIterator] [ExactSizeIterator] [std::iter::FusedIterator] [IntoIterator]
                [std::ops::Deref] [std::ops::DerefMut]
                [std::os::fd::AsFd] [std::os::fd::AsRawFd] [std::os::fd::FromRawFd] [std::os::fd::IntoRawFd]
                [From<std::os::fd::OwnedFd>] [Into<std::os::fd::OwnedFd>] [Into<std::process::Stdio>]
                [From<std::io::Error>]
                [From<root::process::ChildStdin>] [From<root::process::ChildStdout>] [From<root::process::ChildStderr>]
                [From<root::fs::File>] [From<Shared>] [PartialEq<u8>]
                [std::os::unix::fs::FileExt] [std::os::unix::fs::OpenOptionsExt] [std::os::unix::fs::DirBuilderExt]
                [std::os::unix::fs::DirEntryExt]
                    )
                }
                types.push((super::tidy(stringify!($type)), traits()));
            })*
            types
        }
    };
}

#[allow(dead_code, reason = "used by functions that are only compiled")]
type Text = &'static str;

/// May go anywhere.
type Shared = u8;
/// `Send`, but not `Sync`.
type Moved = std::cell::Cell<u8>;
/// Neither.
type Local = std::rc::Rc<u8>;
/// Not unwind safe.
type Fragile = &'static mut u8;

macro_rules! both {
    ($($module:ident: $crate_name:ident;)*) => {$(
        mod $module {
            use std::ffi::{OsStr, OsString};
            use std::net::SocketAddr;
            use std::num::NonZeroUsize;
            use std::path::{Path, PathBuf};
            use std::time::{Duration, SystemTime};

            use $crate_name as root;
            #[allow(unused_imports, reason = "some only for what newer Rust has")]
            use root::os::{linux, unix};
            use root::{fs, io, net, process, sync, thread};

            use super::{Fragile, Function, Local, Moved, Shared, Text, short};

            include!("std_surface/functions.rs");
            include!("std_surface/types.rs");
        }
    )*};
}

both! {
    stds: std;
    ours: greenling;
}

/// A path without the compiler's blanks.
fn tidy(path: &str) -> String {
    let path = path.split_whitespace().collect::<Vec<_>>().join(" ");
    path.replace("unix::", "os::unix::")
        .replace("linux::", "os::linux::")
        .replace("'static ", "")
        .replace("<'static, ", "<")
        .replace("<'static>", "")
}

/// A trait without its module.
fn short(bound: &str) -> String {
    let bound = bound.replace(' ', "");
    match bound.find('<') {
        Some(_) => bound,
        None => bound.rsplit("::").next().unwrap_or_default().to_owned(),
    }
}

/// Where a type's traits differ from std's, and why: type, trait, whether we have it.
const DIFFERENCES: &[(&str, &str, bool, &str)] = &[
    ("thread::Builder", "Default", true, MORE),
    ("thread::JoinHandle<Shared>", "UnwindSafe", true, MORE),
    ("thread::JoinHandle<Shared>", "RefUnwindSafe", true, MORE),
    ("thread::JoinHandle<Moved>", "UnwindSafe", true, MORE),
    ("thread::Scope", "Send", false, ONE_THREAD),
    ("thread::Scope", "Sync", false, ONE_THREAD),
    ("thread::ScopedJoinHandle<Shared>", "Send", false, ONE_THREAD),
    ("thread::ScopedJoinHandle<Shared>", "Sync", false, ONE_THREAD),
    ("sync::OnceState", "Sync", true, MORE),
    ("sync::OnceState", "RefUnwindSafe", true, MORE),
    ("io::Stdin", "IsTerminal", false, SEALED),
    ("io::StdinLock", "IsTerminal", false, SEALED),
    ("io::Stdout", "IsTerminal", false, SEALED),
    ("io::StdoutLock", "Sync", true, MORE),
    ("io::StdoutLock", "IsTerminal", false, SEALED),
    ("io::Stderr", "IsTerminal", false, SEALED),
    ("io::StderrLock", "Sync", true, MORE),
    ("io::StderrLock", "IsTerminal", false, SEALED),
    ("fs::File", "IsTerminal", false, SEALED),
    ("sync::Arc<fs::File>", "Read", false, ORPHAN),
    ("sync::Arc<fs::File>", "Write", false, ORPHAN),
    ("sync::Arc<fs::File>", "Seek", false, ORPHAN),
];

const MORE: &str = "more than std has";
const ONE_THREAD: &str = "all coroutines of a scope are on one thread";
const SEALED: &str = "sealed in std; `is_terminal` is a method of its own";
const ORPHAN: &str = "only std can implement it; `&File` has it";

#[test]
fn every_type_has_the_traits_that_stds_has() {
    let mut wrong = String::new();
    let mut expected: Vec<_> = DIFFERENCES.iter().collect();
    for ((name, ours), (_, stds)) in ours::types().into_iter().zip(stds::types()) {
        for ((bound, has), (_, has_in_std)) in ours.into_iter().zip(stds) {
            if has == has_in_std {
                continue;
            }
            match expected.iter().position(|(n, b, h, _)| (*n, *b, *h) == (&name, &bound, has)) {
                Some(known) => drop(expected.remove(known)),
                None => writeln!(wrong, "    (\"{name}\", \"{bound}\", {has}, \"\"),").unwrap(),
            }
        }
    }
    assert!(wrong.is_empty(), "not as in std:\n{wrong}");
    assert!(expected.is_empty(), "these do not differ: {expected:?}");
}

/// The module that an item of std is in.
fn module(path: &str) -> &'static str {
    // An implementation is where its trait is.
    let path = path.split_once(" as ").map_or(path, |(_, of)| of);
    let path = path.trim_start_matches(['<', '&']);
    [
        "os::linux::fs",
        "os::linux::net",
        "os::unix::ffi",
        "os::unix::net",
        "os::unix::io",
        "os::unix::prelude",
        "os::unix::process",
        "os::unix::fs",
        "os::fd",
        "sync::mpsc",
        "sync::atomic",
        "thread",
        "sync",
        "net",
        "process",
        "io",
        "fs",
        "time",
    ]
    .into_iter()
    .find(|module| path.starts_with(module))
    .unwrap_or_else(|| panic!("{path} is in no module that is known"))
}

fn table() -> String {
    let mut rows: Vec<(&str, String, String)> = Vec::new();
    for (name, _) in ours::types() {
        let notes: Vec<_> = DIFFERENCES
            .iter()
            .filter(|(other, ..)| *other == name)
            .map(|(_, bound, has, why)| {
                format!("{} `{bound}`: {why}", if *has { "also" } else { "not" })
            })
            .collect();
        let note = if notes.is_empty() { String::new() } else { format!("; {}", notes.join("; ")) };
        rows.push((module(&name), name, format!("same traits{note}")));
    }
    for Function { path, since } in ours::functions() {
        let since = since.map_or(String::new(), |since| format!("; in std since {since}"));
        rows.push((module(&path), path, format!("same signature{since}")));
    }
    for path in others::types().into_iter().chain(others::traits()).chain(others::functions()) {
        rows.push((module(&path), path, "re-exported".to_owned()));
    }
    for (path, why) in others::OWN_TRAITS {
        rows.push((module(path), (*path).to_owned(), format!("same methods; {why}")));
    }
    // Instances of one type are one row, unless they differ.
    for (_, path, _) in &mut rows {
        for argument in ["Shared", "Moved", "Local", "Fragile"] {
            *path = path.replace(&format!("<{argument}>"), "<T>");
        }
        *path = path.replace("::<u8>", "").replace("::<[u8]>", "").replace("<u8>", "");
        if let Some((kind, method)) = path.strip_prefix('<').and_then(|rest| rest.split_once(">::"))
        {
            if let Some((_, of)) = kind.split_once(" as ") {
                *path = format!("{of}::{method}");
            }
        }
    }
    for row in &mut rows {
        row.0 = module(&row.1);
    }
    rows.sort();
    rows.dedup();
    let mut text = String::new();
    let mut last = "";
    for (module, path, status) in rows {
        if module != last {
            write!(text, "\n### std::{module}\n\n| item | |\n|---|---|\n").unwrap();
            last = module;
        }
        writeln!(text, "| `{path}` | {status} |").unwrap();
    }
    for (title, list) in [("Not here", others::ABSENT), ("To come", others::LATER)] {
        if !list.is_empty() {
            write!(text, "\n### {title}\n\n| item | why |\n|---|---|\n").unwrap();
        }
        for (item, why) in list {
            writeln!(text, "| `{item}` | {why} |").unwrap();
        }
    }
    text
}

const BEGIN: &str = "<!-- From here on printed by tests/std_surface.rs: UPDATE_DOCS=1 cargo test --test std_surface -->\n";

#[test]
fn the_documentation_lists_what_is_checked() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/std-surface.md");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (head, old) = text.split_once(BEGIN).unwrap_or((&text, ""));
    let new = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{BEGIN}{new}")).unwrap();
        return;
    }
    assert!(
        old == new,
        "docs/std-surface.md is out of date: UPDATE_DOCS=1 cargo test --test std_surface"
    );
}

#[test]
fn every_function_has_the_signature_that_stds_has() {
    // It has been proven already, by compiling; this is that both have been compiled from one list.
    let paths = |functions: Vec<Function>| {
        functions.into_iter().map(|function| function.path).collect::<Vec<_>>()
    };
    let ours = paths(ours::functions());
    assert!(ours.len() > 200);
    assert_eq!(ours, paths(stds::functions()));
}

#[test]
fn the_question_is_answered_rightly() {
    assert!(has!(Shared: Send) && has!(Moved: Send) && !has!(Local: Send));
    assert!(!has!(Moved: Sync) && !has!(Fragile: std::panic::UnwindSafe));
    assert!(has!(&'static [u8]: std::io::Read) && !has!([u8]: std::io::Read));
}

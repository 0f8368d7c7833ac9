//! Whether the list is complete: compared with std's documentation, where the toolchain has brought it along.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{others, table};

/// The Rust up to which the list goes. What is newer in a newer documentation is passed over.
const UNTIL: u32 = 95;

/// The modules that are to be complete.
const MODULES: &[&str] = &[
    "fs",
    "io",
    "io::prelude",
    "net",
    "os::fd",
    "os::linux",
    "os::linux::fs",
    "os::linux::net",
    "os::unix",
    "os::unix::ffi",
    "os::unix::fs",
    "os::unix::io",
    "os::unix::net",
    "os::unix::prelude",
    "os::unix::process",
    "os::unix::thread",
    "process",
    "sync",
    "sync::atomic",
    "sync::mpsc",
    "thread",
    "time",
];

fn documentation() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    let std = Path::new(sysroot.trim()).join("share/doc/rust/html/std");
    std.join("index.html").exists().then_some(std)
}

/// What is between the two.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    Some(rest.split_once(end)?.0)
}

/// Whether it says that it is stable, and no newer than the list.
fn counts(text: &str) -> bool {
    let since = between(text, "Stable since Rust version 1.", ".");
    since.and_then(|minor| minor.parse::<u32>().ok()).is_none_or(|minor| minor <= UNTIL)
}

/// The stable methods on a page, without those of other traits and of what it dereferences to.
fn methods(page: &str) -> BTreeSet<String> {
    let ends = [r#"id="trait-implementations""#, r#"id="deref-methods"#];
    let end = ends.iter().filter_map(|end| page.find(end)).min().unwrap_or(page.len());
    let page = &page[..end];
    let mut found = BTreeSet::new();
    for kind in ["method.", "tymethod."] {
        for part in page.split(&format!("<section id=\"{kind}")).skip(1) {
            let name: String =
                part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let (section, after) = part.split_once("</section>").unwrap_or((part, ""));
            let info = after.trim_start_matches("</summary>");
            if !info.starts_with(r#"<span class="item-info"><div class="stab unstable"#)
                && counts(section)
            {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn nothing_of_std_is_missing_in_the_list() {
    let Some(std) = documentation() else {
        println!("skipped: std's documentation is not installed (rustup component add rust-docs)");
        return;
    };
    let table = table();
    let listed: BTreeSet<String> = table
        .lines()
        .filter_map(|line| between(line, "| `", "`"))
        .map(|path| path.trim_start_matches('&').split('<').next().unwrap_or_default())
        .map(|path| path.trim_end_matches("::").to_owned())
        .collect();
    let absent = |path: &str| {
        let names = others::ABSENT.iter().flat_map(|(item, _)| item.split([' ', ',']));
        names.into_iter().any(|name| name == path)
    };
    let reexported = |path: &str| {
        table.lines().any(|line| {
            line.starts_with(&format!("| `{path}` | re-exported"))
                || line.starts_with(&format!("| `{path}<")) && line.contains("| re-exported")
        })
    };
    let (mut seen, mut missing) = (0, BTreeSet::new());
    for module in MODULES {
        let dir = std.join(module.replace("::", "/"));
        let index = std::fs::read_to_string(dir.join("index.html")).unwrap();
        // Each item is a term of a list of definitions.
        for term in index.split("<dt").skip(1).filter_map(|rest| rest.split_once("</dt>")) {
            let term = term.0;
            let (Some(href), Some(title)) =
                (between(term, "href=\"", "\""), between(term, "title=\"", "\""))
            else {
                continue;
            };
            if term.contains("::*;") {
                continue; // another module's items, which are looked at there
            }
            let unstable = term.contains("stab unstable") && term.contains("Experimental");
            let name = title.rsplit("::").next().unwrap_or_default();
            let page = std::fs::read_to_string(dir.join(href)).unwrap_or_default();
            if unstable || page.is_empty() || !counts(&page) {
                continue;
            }
            seen += 1;
            let path = format!("{module}::{name}");
            let kind = title.split(' ').next().unwrap_or_default();
            // What is re-exported has its methods checked where it comes from.
            let is_reexport = module.ends_with("::prelude");
            if !listed.contains(&path) && !absent(&path) && !MODULES.contains(&path.as_str()) {
                missing.insert(path);
                continue;
            }
            if is_reexport
                || !matches!(kind, "struct" | "trait" | "enum")
                || reexported(&path)
                || absent(&path)
            {
                continue;
            }
            for method in methods(&page) {
                seen += 1;
                let method = format!("{path}::{method}");
                if !listed.contains(&method) && !absent(&method) {
                    missing.insert(method);
                }
            }
        }
    }
    assert!(seen > 450, "the documentation is not understood: {seen} items found");
    assert!(missing.is_empty(), "of {seen} items these are not in the list: {missing:#?}");
}

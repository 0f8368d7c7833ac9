//! The layer table of `docs/architecture.md` is true: imports point downward only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The edges that point upward, and which the table's text owns up to.
const UPWARD: [(&str, &str); 1] = [("rt/task", "rt/wait")];

/// What the table puts beside the layers.
const SIDE: [&str; 2] = ["greenlet", "generator"];

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where a module stands: the higher the later, and within a layer whatever the arrows say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    layer: u32,
    /// Place in a chain `a ← b ← c` of its layer, where `b` may use `a`.
    in_chain: Option<usize>,
}

impl Place {
    fn may_use(self, other: Place) -> bool {
        if self.layer != other.layer {
            return self.layer > other.layer;
        }
        match (self.in_chain, other.in_chain) {
            (Some(own), Some(other)) => own >= other,
            _ => true,
        }
    }
}

type Table = BTreeMap<String, Place>;

/// One line of a table: the modules, without decoration.
fn parse_line(layer: u32, line: &str, table: &mut Table) {
    let chained = line.contains('←');
    for (position, part) in line.split('←').enumerate() {
        let mut prefix = "";
        let text: String = part
            .chars()
            .map(|c| if c.is_alphanumeric() || "_/:{}".contains(c) { c } else { ' ' })
            .collect();
        for word in text.replace('{', " { ").replace('}', " } ").split_whitespace() {
            match word {
                "rt/" => prefix = "rt/",
                "{" => {}
                "}" => prefix = "",
                name => {
                    // `os::unix::net` is the module `os`.
                    let name = name.split("::").next().unwrap();
                    // Only a link of the chain has a place in it, and that is what touches an arrow.
                    let in_chain = chained
                        .then_some(position)
                        .filter(|&position| position > 0 || part.trim_end().ends_with(name));
                    table.insert(format!("{prefix}{name}"), Place { layer, in_chain });
                }
            }
        }
    }
}

/// The lines `L0 …` to `L6 …` of a text.
fn parse(text: &str, prefix: &str) -> Table {
    let mut table = Table::new();
    for line in text.lines() {
        let line = line.trim_start_matches("//!").trim_start();
        let Some(rest) = line.strip_prefix('L') else { continue };
        let Some((layer, modules)) = rest.split_once(' ') else { continue };
        let Ok(layer) = layer.parse() else { continue };
        if layer == 3 {
            continue; // the waist
        }
        let mut found = Table::new();
        parse_line(layer, modules, &mut found);
        table.extend(found.into_iter().map(|(name, place)| (format!("{prefix}{name}"), place)));
    }
    assert!(table.len() > 5, "no table found");
    table
}

/// A source file of the library, without its tests, comments and strings.
struct Source {
    /// As in the table: `rt/hub`, `net`, …
    module: String,
    path: PathBuf,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut left = vec![root.clone()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.ends_with(".rs") || name == "tests.rs" {
            continue;
        }
        let inside = path.strip_prefix(&root).unwrap().with_extension("");
        let mut parts = inside.iter().map(|part| part.to_str().unwrap());
        let first = parts.next().unwrap();
        let module = match (first, parts.next()) {
            ("rt", Some(file)) => format!("rt/{file}"),
            _ => first.to_owned(),
        };
        let code = without_comments(&fs::read_to_string(&path).unwrap());
        found.push(Source { module, path: inside, code });
    }
    assert!(found.len() > 20);
    found
}

fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The first segments of all paths that begin with `root::`, also in groups: `root::{a, b::c}`.
fn paths_from(code: &str, root: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let start = format!("{root}::");
    for (at, _) in code.match_indices(&start) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + start.len()..];
        let mut add = |text: &str| {
            let name: String =
                text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                found.insert(name);
            }
        };
        let Some(group) = rest.strip_prefix('{') else {
            add(rest);
            continue;
        };
        // Split at the commas of the outermost group.
        let mut depth = 0;
        let mut item = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => add(&std::mem::take(&mut item)),
                _ => {}
            }
            if depth > 0 || c != ',' {
                item.push(c);
            }
        }
        add(&item);
    }
    found
}

fn architecture() -> Table {
    parse(&read("docs/architecture.md"), "")
}

#[test]
fn every_file_has_a_place_in_the_table() {
    let table = architecture();
    let outside = ["lib", "error", "rt/mod", "rt"];
    let missing: BTreeSet<_> = sources()
        .into_iter()
        .map(|source| source.module)
        .filter(|module| !table.contains_key(module))
        .filter(|module| !outside.contains(&&**module) && !SIDE.contains(&&**module))
        .collect();
    assert!(missing.is_empty(), "not in the table of docs/architecture.md: {missing:?}");
}

#[test]
fn the_kernels_own_table_says_the_same() {
    let own = parse(&read("src/rt/mod.rs"), "rt/");
    let mut house = architecture();
    house.retain(|name, _| name.starts_with("rt/"));
    assert_eq!(own, house);
    let files: BTreeSet<_> = sources()
        .into_iter()
        .map(|source| source.module)
        .filter(|module| module.starts_with("rt/") && module != "rt/mod")
        .collect();
    assert_eq!(files, own.into_keys().collect::<BTreeSet<_>>());
}

#[test]
fn imports_of_the_kernel_point_downward() {
    let table = architecture();
    let mut wrong = Vec::new();
    let mut upward = BTreeSet::new();
    for source in sources() {
        let Some(&place) = table.get(&source.module) else { continue };
        if !source.module.starts_with("rt/") {
            continue;
        }
        for used in paths_from(&source.code, "super") {
            let used = format!("rt/{used}");
            match table.get(&used) {
                Some(&other) if !place.may_use(other) => {
                    upward.insert((source.module.clone(), used));
                }
                _ => {}
            }
        }
        for used in paths_from(&source.code, "crate") {
            if used != "error" && used != "rt" {
                wrong.push(format!("{} uses crate::{used}", source.module));
            }
        }
    }
    assert!(wrong.is_empty(), "the kernel looks upward: {wrong:#?}");
    let known = UPWARD.map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(upward, BTreeSet::from(known), "edges that point upward, and those that may");
}

#[test]
fn imports_above_the_kernel_point_downward() {
    let table = architecture();
    let mut wrong = Vec::new();
    for source in sources() {
        if source.module.starts_with("rt") || source.module == "lib" {
            continue;
        }
        for used in paths_from(&source.code, "crate") {
            let allowed = match (table.get(&source.module), table.get(&used)) {
                _ if used == "rt" || used == "error" || used == source.module => true,
                // Macros and re-exports of the crate root are lib.rs's.
                (Some(place), Some(other)) => place.may_use(*other),
                // Beside the layers: the waist only.
                (None, _) => false,
                (Some(_), None) => !SIDE.contains(&&*used),
            };
            if !allowed {
                wrong.push(format!("{} uses crate::{used}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_error_types_use_nothing() {
    let error = sources().into_iter().find(|source| source.module == "error").unwrap();
    assert!(paths_from(&error.code, "crate").is_empty());
}

#[test]
fn what_is_pure_data_knows_nothing_of_coroutines() {
    let allowed = BTreeMap::from([
        ("rt/timers", vec![]),
        ("rt/remote", vec![]),
        ("rt/lock", vec![]),
        ("rt/sys", vec!["native"]),
        ("rt/reactor", vec!["sys"]),
    ]);
    for source in sources() {
        let Some(allowed) = allowed.get(&*source.module) else { continue };
        let used = paths_from(&source.code, "super");
        let extra: Vec<_> = used.iter().filter(|used| !allowed.contains(&&***used)).collect();
        assert!(extra.is_empty(), "{} uses {extra:?}", source.module);
    }
}

#[test]
fn one_file_switches_stacks() {
    let named: BTreeSet<_> = sources()
        .into_iter()
        .filter(|source| source.code.contains("corosensei"))
        .map(|source| source.module)
        .collect();
    // stack.rs implements corosensei's trait for stacks.
    assert_eq!(named, BTreeSet::from(["rt/coroutine".to_owned(), "rt/stack".to_owned()]));
    let stack = sources().into_iter().find(|source| source.module == "rt/stack").unwrap();
    assert!(!stack.code.contains("Yielder") && !stack.code.contains("corosensei::Coroutine"));
}

#[test]
fn a_module_that_needs_no_unsafe_forbids_it() {
    let lax: Vec<_> = sources()
        .into_iter()
        .filter(|source| {
            // A module that contains others would forbid it for them, too.
            let is_parent = source.code.lines().any(|line| {
                let line = line.trim_start_matches("pub").trim_start();
                line.starts_with("mod ") && line.ends_with(';') && line != "mod tests;"
            });
            let code = source.code.replace("forbid(unsafe_code)", "");
            let has_unsafe = code.contains("unsafe ") || code.contains("unsafe{");
            let forbids = source.code.contains("forbid(unsafe_code)");
            !is_parent && !has_unsafe && !forbids
        })
        .map(|source| source.path)
        .collect();
    assert!(lax.is_empty(), "these need no unsafe and do not say so: {lax:#?}");
}

#[test]
fn paths_are_found_in_groups_and_expressions() {
    let code = "use super::hub::{self, Hub};\nuse super::{exit, overflow::x, lock::{a, b}};\n\
                super::spawn::adopt(); mysuper::no::more(); crate::error::Killed";
    let found: Vec<_> = paths_from(code, "super").into_iter().collect();
    assert_eq!(found, ["exit", "hub", "lock", "overflow", "spawn"]);
    assert_eq!(paths_from(code, "crate"), BTreeSet::from(["error".to_owned()]));
}

#[test]
fn the_table_is_read_as_it_is_meant() {
    let table = parse(
        "L5   net   os::unix::net\n\
         L4   time   queue ← sync ← (thread, pool)   event\n\
         L1   rt/{hub  task}   x\nL0   rt/{sys} rest more",
        "",
    );
    let layer = |name: &str| table[name].layer;
    assert_eq!((layer("os"), layer("time"), layer("rt/task"), layer("x")), (5, 4, 1, 1));
    assert_eq!((layer("rt/sys"), layer("rest")), (0, 0));
    assert!(table["thread"].may_use(table["sync"]) && table["sync"].may_use(table["queue"]));
    assert!(!table["queue"].may_use(table["sync"]) && !table["sync"].may_use(table["pool"]));
    assert!(table["time"].may_use(table["thread"]) && table["thread"].may_use(table["time"]));
    assert!(!table["time"].may_use(table["net"]));
}

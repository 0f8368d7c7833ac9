//! Takes the sources of the crate as they are, but for what loom has its own of: atomics and pauses. Its atomics
//! cannot be made by a `const fn`, and each turn of a spin is one more order to try, so there is one turn.

use std::env;
use std::fs;
use std::path::Path;

const FILES: [&str; 11] = [
    "rt/lock.rs",
    "rt/wait.rs",
    "sync/raw_mutex.rs",
    "sync/raw_rwlock.rs",
    "sync/semaphore.rs",
    "sync/once.rs",
    "sync/barrier.rs",
    "queue/common.rs",
    "queue/store.rs",
    "event.rs",
    "rt/task/lock_word.rs",
];

/// What is replaced, by what.
const CHANGES: [(&str, &str); 10] = [
    ("use std::sync::atomic", "use loom::sync::atomic"),
    ("std::hint::spin_loop", "loom::hint::spin_loop"),
    ("std::thread::yield_now", "loom::thread::yield_now"),
    ("const fn", "fn"),
    ("SPINS: u32 = 64", "SPINS: u32 = 1"),
    ("SPINS: u32 = 100", "SPINS: u32 = 1"),
    // Loom puts a store that nothing orders against an exchange before or after it as it likes, also between the
    // exchange and the value that this has replaced, which no machine does.
    ("word.store(CONTENDED | left,", "word.swap(CONTENDED | left,"),
    // Loom looks for what an access may have come before only as far as the last one to the same atomic, and a load of
    // its own by the thread that stores next would hide the loads of others. As an exchange, it does not.
    ("granted.load(Ordering::Relaxed) != 0", "granted.fetch_or(0, Ordering::Relaxed) != 0"),
    ("granted.store(index,", "granted.swap(index,"),
    ("pub const ONCE_INIT: Once = Once::new();", ""),
];

fn main() {
    let out = env::var("OUT_DIR").expect("cargo says where to write");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    let mut unused: Vec<_> = CHANGES.iter().map(|(from, _)| *from).collect();
    for file in FILES {
        let path = source.join(file);
        println!("cargo::rerun-if-changed={}", path.display());
        let mut text = fs::read_to_string(&path).expect("the crate's source is there");
        for (from, to) in CHANGES {
            if text.contains(from) {
                unused.retain(|change| *change != from);
            }
            text = text.replace(from, to);
        }
        assert!(
            !text.contains("std::sync::atomic"),
            "{file}: std's atomics in a place unknown here"
        );
        fs::write(Path::new(&out).join(file.replace('/', "_")), body(&text)).expect("written");
    }
    assert!(unused.is_empty(), "not found in the sources any more: {unused:?}");
}

/// What may be included: without what belongs to the head of a file, and without its tests.
fn body(text: &str) -> String {
    let tests = ["#[cfg(test)]", "#[cfg(all(test,"];
    let end = tests.iter().filter_map(|tests| text.find(tests)).min();
    let text = &text[..end.unwrap_or(text.len())];
    let is_head = |line: &&str| line.starts_with("//!") || line.starts_with("#![");
    text.lines().filter(|line| !is_head(line)).map(|line| format!("{line}\n")).collect()
}
